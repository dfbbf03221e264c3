//! `report` and `timeline`: what has happened, as a page, as tables, and on a terminal.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use ganeti_hookd::engine::change::{Change, EventState, RunStart};
use ganeti_hookd::ganeti::about::{About, Reason, Trail};
use ganeti_hookd::ganeti::event::{Event, PostStatus};
use ganeti_hookd::ganeti::job::Timestamp;
use ganeti_hookd::ganeti::object::ObjectKind;
use serde_json::{Value, json};

use crate::fixture::{Written, about, event, run};
use crate::terminal::on_terminal;

/// The history without the event whose time is the test's own.
const KNOWN: [&str; 2] = ["--until", "2026-11-28 12:00"];

fn report(written: &Written, words: &[&str]) -> String {
    let said = written.cli(&[&["report"], &KNOWN[..], words].concat());
    assert!(said.code == Some(0) && said.err.is_empty(), "{words:?}: {said:?}");
    said.out
}

#[test]
fn what_has_ended_is_counted() {
    let written = Written::new();
    insta::assert_snapshot!(report(&written, &["--by", "op-code"]), @r"
    OpCode              Opcodes OK Failed Died Locks p50  p95 Ran p50  p95 Hooks Failed Failing hooks
    OP_INSTANCE_MIGRATE       1  0      1    0      40ms 40ms    8.7s 8.7s     1      0 -
    OP_INSTANCE_STARTUP       1  1      0    0         -    -       -    -     2      1 20-check (1)
    OP_NODE_MIGRATE           1  0      0    1         -    -       -    -     0      0 -
    OP_TEST_DELAY             0  0      0    0         -    -       -    -     0      0 -
    ");
    insta::assert_snapshot!(report(&written, &["--by", "object"]), @r"
    Object                     Opcodes OK Failed Died Locks p50  p95 Ran p50  p95 Hooks Failed Failing hooks
    instance/web1.example.com        1  0      1    0      40ms 40ms    8.7s 8.7s     1      0 -
    instance/web10.example.com       1  1      0    0         -    -       -    -     2      1 20-check (1)
    node/web1.example.com            1  0      0    1         -    -       -    -     0      0 -
    -                                0  0      0    0         -    -       -    -     0      0 -
    ");
    insta::assert_snapshot!(report(&written, &["--by", "reason", "--no-headers", "--separator", "|"]), @r"
    -|2|1|0|1|-|-|-|-|2|1|20-check (1)
    kernel update|1|0|1|0|40ms|40ms|8.7s|8.7s|1|0|-
    ");
    insta::assert_snapshot!(report(&written, &["--by", "day", "--format", "csv"]), @r"
    day,opcodes,succeeded,failed,disappeared,lock_wait_p50,lock_wait_p95,execution_p50,execution_p95,runs,runs_failed,failing_hooks
    2026-11-28,3,1,1,1,0.040,0.040,8.710,8.710,3,1,20-check (1)
    ");
    let lines = report(&written, &["--by", "op-code", "--format", "json", "--job", "41"]);
    let counted: Value = serde_json::from_str(&lines).unwrap();
    let expected = json!({
        "op_code": "OP_INSTANCE_MIGRATE", "opcodes": 1, "succeeded": 0, "failed": 1, "disappeared": 0,
        "lock_wait_p50": 0.04, "lock_wait_p95": 0.04, "execution_p50": 8.71, "execution_p95": 8.71, "runs": 1,
        "runs_failed": 0, "failing_hooks": "",
    });
    assert_eq!(counted, expected);
}

#[test]
fn each_event_is_a_row() {
    let written = Written::new();
    let text = report(&written, &["--by", "event", "--format", "csv", "--utc"]);
    let mut lines = csv::Reader::from_reader(text.as_bytes());
    let names = lines.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = lines.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 5);
    let table = report(&written, &["--by", "event"]);
    assert!(table.starts_with("ID "), "{table}");
    let of_table = table.lines().next().unwrap_or_default().split_whitespace();
    assert!(of_table.clone().all(|title| title.starts_with(char::is_uppercase)), "{table}");
    assert_eq!(of_table.count(), names.len());
    let of_41: Vec<(&str, &str)> = names.iter().zip(&rows[0]).collect();
    for pair in [
        ("id", "11111111-2222-3333-4444-555555555555/1795859990000000/41.0.post"),
        ("object", "web1.example.com"),
        ("received", "2026-11-28T09:59:50.000000Z"),
        ("ended", "2026-11-28T10:00:00.000000Z"),
        ("lock_wait", "0.040"),
        ("held", "0.500"),
        ("reason", "kernel update"),
        ("parent", "40.1"),
        ("error", "Node 'x\\n' is offline"),
        ("runs", "1"),
    ] {
        assert!(of_41.contains(&pair), "{pair:?} in {of_41:?}");
    }
    let json = report(&written, &["--by", "event", "--format", "json"]);
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&first["error"], &first["late"]), (&json!("Node 'x\n' is offline"), &json!(false)));
}

/// An opcode about this, for this reason, that failed with this.
fn hostile(seq: i64, text: &str) -> Vec<Change> {
    let key = format!("{}.0.post", 60 + seq);
    let event = about(event(&key, "OP_TAGS_SET", Some(PostStatus::Failed), seq), ObjectKind::Instance, text);
    let reason = Trail(vec![Reason("gnt:user".to_owned(), text.to_owned(), 0.0)]);
    let about = About { reason, error: Some(text.to_owned()), ..(*event.about).clone() };
    let event = Event { about: about.into(), ..event };
    [vec![Change::Event(seq, event, EventState::Done)], run(seq, seq, "10-a", Some(0))].concat()
}

#[test]
fn no_cell_of_csv_is_a_formula() {
    let mut written = Written::empty();
    let texts =
        ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "\t=1", "a,\"b\"\n=1", "'=1", "plain", "\u{202e}=1", "1=1"];
    (1..).zip(texts).for_each(|(seq, text)| written.commit(&hostile(seq, text)));
    let text = report(&written, &["--by", "event", "--format", "csv"]);
    let mut lines = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = lines.records().map(Result::unwrap).collect();
    let reasons: Vec<&str> = rows.iter().map(|row| &row[17]).collect();
    let expected = [
        "'=1+1",
        "'+1",
        "'-1",
        "'@SUM(A1)",
        "'＝1",
        "\\t=1",
        "a,\"b\"\\n=1",
        "'=1",
        "plain",
        "\\u{202e}=1",
        "1=1",
    ];
    assert_eq!(reasons, expected);
    assert!(!rows.iter().flatten().any(|cell| cell.starts_with(['=', '+', '-', '@'])), "{text}");
    let json = report(&written, &["--by", "reason", "--format", "json"]);
    for text in texts {
        assert!(
            json.lines().any(|line| serde_json::from_str::<Value>(line).unwrap()["reason"] == text),
            "{json}"
        );
    }
    let shown = report(&written, &["--by", "reason"]);
    assert!(shown.contains("\n=1+1 ") && !shown.contains('\t') && shown.lines().count() == 12, "{shown}");
}

#[test]
fn a_page_cannot_be_broken_out_of() {
    let mut written = Written::empty();
    for (seq, text) in
        (1..).zip(["</script><script>alert(1)</script>", "<!--<script>", "\u{2028}&lt;", "]]>"])
    {
        written.commit(&hostile(seq, text));
    }
    let path = written.tree.path("page.html");
    let name = path.to_str().unwrap();
    assert_eq!(report(&written, &["--out", name]), "");
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    // Its own two: what it does, and the events.
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
    let (_, events) = page.split_once("id=\"events\">\n").unwrap();
    let (events, rest) = events.split_once("</script>").unwrap();
    assert_eq!(rest.trim(), "</body>\n</html>");
    assert!(!events.contains(['<', '>', '&']), "{events}");
    let told: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told[0]["object"]["name"], "</script><script>alert(1)</script>");
    assert_eq!(told[0]["runs"][0]["output"], "said by 10-a\n");
    assert!(page.contains("cluster.example.com") && page.contains("until 2026-11-28 12:00:00"));
    // Filters are foreign text, too.
    report(&written, &["--reason", "</p><script>x", "--out", name]);
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.contains("only reason &#60;/p&#62;&#60;script&#62;x"), "{}", &page[..3000]);
}

#[test]
fn a_file_is_whole_or_as_it_was() {
    let written = Written::new();
    let dir = written.tree.path("out");
    fs::create_dir(&dir).unwrap();
    let path = dir.join("table.csv");
    fs::write(&path, "old").unwrap();
    let name = path.to_str().unwrap();
    report(&written, &["--by", "day", "--format", "csv", "--out", name]);
    assert!(fs::read_to_string(&path).unwrap().starts_with("day,opcodes,"));
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    let link = dir.join("link");
    symlink(&path, &link).unwrap();
    for refused in [dir.to_str().unwrap(), link.to_str().unwrap(), "/dev/null"] {
        let said = written.cli(&["report", "--by", "day", "--out", refused]);
        assert!(said.code == Some(1) && said.err.contains("no regular file"), "{said:?}");
    }
    let said = written.cli(&["report", "--out", "/nonexistent/x.html"]);
    assert!(said.code == Some(1) && said.err.contains("cannot write in /nonexistent"), "{said:?}");
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing else is left: {left:?}");
    let said = written.cli(&["report"]);
    assert!(said.code == Some(2) && said.err.contains("--out <FILE>"), "{said:?}");
}

#[test]
fn a_job_is_drawn_in_ascii_where_nothing_else_survives() {
    let written = Written::new();
    let said = written.cli(&["timeline", "41"]);
    insta::assert_snapshot!(said.out, @r"
    job 41  2026-11-28 10:59:50  (kernel update)
      0 INSTANCE_MIGRATE         ......++=====================================! failed
        instance/web1.example.com
        queued 1.2s, locks 40ms, held 0.5s, executed 8.2s
        Node 'x\n' is offline
        post 10-mail                                                          - 0  0ms
                                 |0         |2.5s       |5.0s      |7.5s      |10s

    . queued  : waits for locks  + held  = executes  ! failed  X process died  > under way, or later
    - hook
    ");
    assert!(said.out.is_ascii() && said.err.is_empty());
    for (locale, is_ascii) in [("C", true), ("POSIX", true), ("C.UTF-8", false), ("de_DE.utf8", false)] {
        let drawn = on_terminal(&written, 80, &[("LC_ALL", locale)], &["timeline", "41"]);
        assert_eq!(drawn.is_ascii(), is_ascii, "{locale}: {drawn}");
        assert!(drawn.lines().all(|line| line.chars().count() <= 95), "{drawn}");
    }
    let drawn = on_terminal(&written, 80, &[("LC_ALL", "C.UTF-8"), ("NO_COLOR", "1")], &["timeline", "41"]);
    insta::assert_snapshot!(drawn, @r"
    job 41  2026-11-28 10:59:50  (kernel update)
      0 INSTANCE_MIGRATE         ···▒▒████████████████████✗ failed
        instance/web1.example.com
        queued 1.2s, locks 40ms, held 0.5s, executed 8.2s
        Node 'x\n' is offline
        post 10-mail                                      ▬ 0  0ms
                                 ╵0           ╵5.0s       ╵10s

    · queued  ░ waits for locks  ▒ held  █ executes  ✗ failed  † process died
    ► under way, or later  ▬ hook
    ");
}

#[test]
fn a_timeline_is_of_a_job_an_object_or_of_the_last() {
    let written = Written::new();
    let jobs = |words: &[&str]| -> Vec<String> {
        let said = written.cli(&[&["timeline"], &KNOWN[..], words].concat());
        let names = said.out.lines().filter_map(|line| line.strip_prefix("job ")?.split(' ').next());
        names.map(str::to_owned).collect()
    };
    assert_eq!(jobs(&[]), ["41", "42", "43", "44"]);
    assert_eq!(jobs(&["--last", "2"]), ["43", "44"]);
    assert_eq!(jobs(&["web1"]), ["41", "43"]);
    assert_eq!(jobs(&["node/web1"]), ["43"]);
    assert_eq!(jobs(&["web1", "--status", "failed"]), ["41"]);
    let said = written.cli(&["timeline", "--last", "1"]);
    assert!(said.err.contains("the last 1; --last shows more"), "{said:?}");
    let said = written.cli(&["timeline", "4711"]);
    assert!(said.code == Some(1) && said.err.contains("has no such job"), "{said:?}");
    let said = written.cli(&["timeline", "41", "--job", "42"]);
    assert!(said.code == Some(2) && said.err.contains("cannot be used with"), "{said:?}");
    let dead = written.cli(&["timeline", "43"]);
    assert!(dead.out.contains("X  disappeared") || dead.out.contains("X disappeared"), "{}", dead.out);
}

#[test]
fn a_run_that_was_cut_short_is_not_drawn_as_under_way() {
    let mut written = Written::empty();
    let start = |id, attempt, before: i64| match run(id, 1, "10-mail", None).remove(0) {
        Change::RunStart(start) => {
            let started = Timestamp::from_micros(start.started.as_micros() - before * 1_000_000);
            Change::RunStart(RunStart { attempt, started, ..start })
        }
        other => other,
    };
    let event = event("71.0.post", "OP_TEST_DELAY", Some(PostStatus::Succeeded), 0);
    written.commit(&[Change::Event(1, event, EventState::Pending), start(1, 1, 6), start(2, 2, 3)]);
    let drawn = written.cli(&["timeline", "71"]).out;
    let runs: Vec<&str> = drawn.lines().filter(|line| line.contains("10-mail")).collect();
    insta::assert_snapshot!(runs.join("\n"), @r"
    post 10-mail                               -                            interrupted
    post 10-mail                                             -------------- running
    ");
}

#[test]
fn a_request_to_another_node_is_a_run_where_it_failed() {
    let mut written = Written::empty();
    for (seq, code) in [(1, 0), (2, 1)] {
        let event = event(&format!("{}.0.post", 70 + seq), "OP_TEST_DELAY", None, seq);
        let script = run(seq * 2, seq, "10-mail", Some(0));
        let request = run(seq * 2 + 1, seq, "global-post.d", Some(code));
        written.commit(&[vec![Change::Event(seq, event, EventState::Done)], script, request].concat());
    }
    let counted = |words: &[&str]| report(&written, &[words, &["--format", "json"]].concat());
    let counts = |text: String| -> Vec<[u64; 2]> {
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| ["runs", "runs_failed"].map(|name| row[name].as_u64().unwrap())).collect()
    };
    assert_eq!(counts(counted(&["--by", "event"])), [[1, 0], [2, 1]]);
    assert_eq!(counts(counted(&["--by", "op-code"])), [[3, 1]]);
    for (job, is_drawn) in [("71", false), ("72", true)] {
        let drawn = written.cli(&["timeline", job]).out;
        assert_eq!(drawn.contains("global-post.d"), is_drawn, "{drawn}");
        let shown = written.cli(&["events", "--job", job, "-o", "runs"]).out;
        assert_eq!(shown.contains("global-post.d"), is_drawn, "{shown}");
    }
}

#[test]
fn a_job_that_is_years_old_is_drawn() {
    let mut written = Written::empty();
    for (seq, seconds) in [(1, 86_400), (2, 1_799_999_999), (3, 347_098_175)] {
        let event = event(&format!("{}.0.post", 70 + seq), "OP_TEST_DELAY", None, seq);
        let received = Timestamp::from_micros(event.time.as_micros() - seconds * 1_000_000);
        written.commit(&[Change::Event(seq, Event { received, ..event }, EventState::Done)]);
    }
    let drawn = written.cli(&["timeline"]);
    assert_eq!((drawn.code, drawn.err.as_str()), (Some(0), ""), "{}", drawn.out);
    for id in 71..=73 {
        assert!(drawn.out.contains(&format!("job {id}  ")), "{}", drawn.out);
    }
    assert!(drawn.out.contains("|10years11months29days23h59m59s\n"), "its end is told: {}", drawn.out);
}
