//! Tables on a terminal, which script(1) makes.

use std::process::Command;

use crate::fixture::Written;
use crate::harness::PROGRAM;

/// What the program prints on a terminal of this width.
pub fn on_terminal(written: &Written, width: usize, variables: &[(&str, &str)], args: &[&str]) -> String {
    let program = written.program();
    let words = program.get_args().map(|word| word.to_str().unwrap()).chain(args.iter().copied());
    let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    // How far a slow replay has come is said on standard error.
    let line = format!("stty cols {width} rows 24 -onlcr; {PROGRAM} {} 2>/dev/null", words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("NO_COLOR");
    let output = script.envs(variables.iter().copied()).stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// The history without the event whose time is the test's own.
const HISTORY: [&str; 3] = ["events", "--until", "2026-11-28 12:00"];

/// The control characters of the colours, as people see them.
fn visible(text: &str) -> String {
    text.replace('\u{1b}', "^[")
}

#[test]
fn a_table_fits_its_terminal_and_has_colours() {
    let written = Written::new();
    insta::assert_snapshot!(visible(&on_terminal(&written, 80, &[], &HISTORY)), @r"
    Time           Event     OpCode           Object       Status         Runs
    11-28 11:00:00 41.0.post INSTANCE_MIGRATE web1         ^[[31mfailed^[[0m         1 ok
    11-28 11:02:00 42.0.pre  INSTANCE_STARTUP web10        -
    11-28 11:02:05 42.0.post INSTANCE_STARTUP web10        ^[[33msucceeded late^[[0m ^[[31m20-check=1^[[0m
    11-28 11:05:00 43.0.post NODE_MIGRATE     web1         ^[[1;31mdisappeared^[[0m
    11-28 11:05:01 44.1.pre  TEST_DELAY       -            ^[[33mpending^[[0m
    ");
    insta::assert_snapshot!(visible(&on_terminal(&written, 120, &[], &HISTORY)), @r"
    Time                Event     OpCode              Object                     Status         Runs
    2026-11-28 11:00:00 41.0.post OP_INSTANCE_MIGRATE instance/web1.example.com  ^[[31mfailed^[[0m         10-mail=0
    2026-11-28 11:02:00 42.0.pre  OP_INSTANCE_STARTUP instance/web10.example.com -
    2026-11-28 11:02:05 42.0.post OP_INSTANCE_STARTUP instance/web10.example.com ^[[33msucceeded late^[[0m ^[[31m10-mail=0,20-check=1^[[0m
    2026-11-28 11:05:00 43.0.post OP_NODE_MIGRATE     node/web1.example.com      ^[[1;31mdisappeared^[[0m
    2026-11-28 11:05:01 44.1.pre  OP_TEST_DELAY       -                          ^[[33mpending^[[0m
    ");
}

#[test]
fn a_table_has_no_colours_where_they_are_not_wanted() {
    let written = Written::new();
    let table = on_terminal(&written, 80, &[("NO_COLOR", "1")], &HISTORY);
    insta::assert_snapshot!(visible(&table), @r"
    Time           Event     OpCode           Object       Status         Runs
    11-28 11:00:00 41.0.post INSTANCE_MIGRATE web1         failed         1 ok
    11-28 11:02:00 42.0.pre  INSTANCE_STARTUP web10        -
    11-28 11:02:05 42.0.post INSTANCE_STARTUP web10        succeeded late 20-check=1
    11-28 11:05:00 43.0.post NODE_MIGRATE     web1         disappeared
    11-28 11:05:01 44.1.pre  TEST_DELAY       -            pending
    ");
    assert_eq!(on_terminal(&written, 80, &[("TERM", "dumb")], &HISTORY), table);
    let separated = on_terminal(&written, 80, &[], &[&HISTORY[..], &["--separator", ":"]].concat());
    assert!(!separated.contains('\u{1b}') && separated.contains(":OP_INSTANCE_MIGRATE:"), "{separated}");
}

#[test]
fn in_a_pipe_a_table_is_whole() {
    let written = Written::new();
    let said = written.cli(&HISTORY);
    insta::assert_snapshot!(said.out, @r"
    Seq Time                Event     OpCode              Object                     Status      Late State   Runs
      1 2026-11-28 11:00:00 41.0.post OP_INSTANCE_MIGRATE instance/web1.example.com  failed      no   done    10-mail=0
      2 2026-11-28 11:02:00 42.0.pre  OP_INSTANCE_STARTUP instance/web10.example.com -           no   done
      3 2026-11-28 11:02:05 42.0.post OP_INSTANCE_STARTUP instance/web10.example.com succeeded   yes  done    10-mail=0,20-check=1
      4 2026-11-28 11:05:00 43.0.post OP_NODE_MIGRATE     node/web1.example.com      disappeared no   done
      5 2026-11-28 11:05:01 44.1.pre  OP_TEST_DELAY       -                          -           no   pending
    ");
}

#[test]
fn what_was_asked_for_by_name_is_whole() {
    let written = Written::new();
    let ids =
        on_terminal(&written, 20, &[], &["events", "--job", "41", "-o", "op_code,object", "--no-headers"]);
    assert_eq!(ids, "OP_INSTANCE_MIGRATE instance/web1.example.com\n");
}

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/archive");

#[test]
fn replay_prints_a_table_and_its_sum_on_a_terminal() {
    let written = Written::empty();
    insta::assert_snapshot!(visible(&on_terminal(&written, 80, &[], &["replay", RECORDING])), @r"
    Time                Event      OpCode        Object Status    Runs
    2026-11-22 18:16:16 643.0.post OP_TEST_DELAY -      ^[[31mfailed^[[0m
    2026-11-22 18:16:18 644.0.post OP_TEST_DELAY -      ^[[31mfailed^[[0m
    2026-11-22 18:16:19 645.0.post OP_TEST_DELAY -      ^[[31mfailed^[[0m
    2026-11-22 18:16:19 646.0.post OP_TEST_DELAY -      ^[[31mfailed^[[0m
    2026-11-22 18:16:21 647.0.pre  OP_TEST_DELAY -      -
    2026-11-22 18:16:24 647.0.post OP_TEST_DELAY -      succeeded

    6 events: 1 succeeded, ^[[31m4 failed^[[0m, 0 disappeared
    ");
    let live = on_terminal(&written, 80, &[], &["replay", "--speed", "100000", RECORDING]);
    assert!(live.starts_with("Time           Event      OpCode ") && live.contains("\n6 events: "), "{live}");
    let bare = on_terminal(&written, 80, &[], &["replay", "--no-headers", "-o", "event", RECORDING]);
    assert_eq!(bare, "643.0.post\n644.0.post\n645.0.post\n646.0.post\n647.0.pre\n647.0.post\n");
}

#[test]
fn replay_shows_what_became_of_the_hooks() {
    let written = Written::empty();
    written.tree.hook("post", "20-check", "[ $GANETI_POST_STATUS = succeeded ]");
    let hooks = format!("--hooks={}", written.tree.path("hooks").display());
    let table = on_terminal(&written, 80, &[("NO_COLOR", "1")], &["replay", &hooks, RECORDING]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1].ends_with(" failed    20-check=1"), "{table}");
    assert!(lines[6].ends_with(" succeeded 20-check=0"), "{table}");
    assert_eq!(
        table.lines().last(),
        Some("6 events: 1 succeeded, 4 failed, 0 disappeared; 5 hooks run, 4 failed")
    );
}

#[test]
fn replay_prints_json_where_no_people_are() {
    let written = Written::empty();
    let is_json =
        |text: &str| text.lines().count() == 6 && text.lines().all(|line| line.starts_with("{\"seq\":"));
    let piped = written.cli(&["replay", RECORDING]);
    assert!(is_json(&piped.out), "{piped:?}");
    for option in ["--json", "--env"] {
        let text = on_terminal(&written, 80, &[], &["replay", option, RECORDING]);
        assert!(is_json(&text) && (option == "--json" || text.contains("\"env\":{")), "{option}: {text}");
    }
    let asked = written.cli(&["replay", "--separator", ":", "-o", "job,status", RECORDING]);
    assert_eq!(asked.out.lines().nth(1), Some("643:failed"), "{asked:?}");
    let both = written.cli(&["replay", "--env", "-o", "job", RECORDING]);
    assert!(both.code == Some(2) && both.err.contains("'--env' cannot be used with '--output"), "{both:?}");
}
