//! Running hooks: in which order, side by side, within limits, and what is recorded.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Job, Tree, wait_for};

/// Waits until the test opens the gate.
const GATE: &str = "until [ -e DIR/gate ]; do sleep 0.02; done";

fn open_gate(tree: &Tree) {
    fs::write(tree.path("gate"), "").unwrap();
}

/// The only run of an event.
fn run(tree: &Tree, event: &str) -> Value {
    let runs = tree.event(event)["runs"].clone();
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
    runs[0].clone()
}

#[test]
fn scripts_run_in_byte_order_and_events_of_a_job_one_after_the_other() {
    let tree = Tree::new();
    for phase in ["pre", "post"] {
        for name in ["a_z", "20-b", "Z", "10-a", "3-c"] {
            tree.log_hook(phase, name, "");
        }
        tree.log_hook(phase, "no.script", "");
        tree.log_hook(phase, "off", "");
        fs::set_permissions(tree.path(&format!("hooks/global-{phase}.d/off")), Permissions::from_mode(0o644))
            .unwrap();
    }
    let daemon = tree.start();
    tree.run_through(&mut Job::new(1, &["OP_TEST_DELAY", "OP_TAGS_SET", "OP_TEST_DELAY"]));
    daemon.wait_done(&["1.2.post"]);
    let mut expected = Vec::new();
    for event in ["1.0.pre", "1.0.post", "1.1.pre", "1.1.post", "1.2.pre", "1.2.post"] {
        for script in ["10-a", "20-b", "3-c", "Z", "a_z"] {
            expected.push(format!("{script} {event}"));
        }
    }
    let log = tree.hook_log();
    let ran: Vec<String> =
        log.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(ran, expected);
}

#[test]
fn a_hook_that_hangs_delays_only_its_own_job() {
    let tree = Tree::new();
    tree.set("hooks.timeout", "\"300ms\"");
    // Deaf to SIGTERM, and so is what it starts.
    let hang = "if [ $GANETI_JOB_ID = 1 ]; then trap '' TERM; sleep 600; fi";
    tree.log_hook("pre", "10-hang", hang);
    tree.log_hook("post", "10-log", "");
    let daemon = tree.start();
    tree.run_through(&mut Job::delay(1));
    daemon.wait_hooks(1);
    for id in 2..=5 {
        tree.run_through(&mut Job::delay(id));
    }
    daemon.wait_done(&["2.0.post", "3.0.post", "4.0.post", "5.0.post"]);
    assert_eq!(tree.event("1.0.pre")["state"], "pending");
    daemon.wait_done(&["1.0.post"]);
    let run = run(&tree, "1.0.pre");
    assert_eq!((&run["signal"], &run["code"]), (&json!(9), &json!(null)));
    assert_eq!(run["error"], "ran longer than hooks.timeout (300ms) and was ended");
    let log = tree.hook_log();
    assert_eq!(log.last().unwrap().split(' ').nth(1), Some("1.0.post"), "{log:#?}");
}

#[test]
fn no_more_scripts_run_than_there_are_workers() {
    let tree = Tree::new();
    tree.set("hooks.workers", "2");
    tree.log_hook("post", "10-log", GATE);
    let daemon = tree.start();
    for id in 1..=6 {
        tree.put(&Job::ended(id));
    }
    daemon.wait_hooks(2);
    let status = daemon.wait_status("all noticed", |status| status["counters"]["events"] == 12);
    assert_eq!(status["running"].as_array().unwrap().len(), 2);
    open_gate(&tree);
    daemon.wait_hooks(12);
    let mut running: i32 = 0;
    for line in tree.hook_log() {
        running += if line.starts_with("end ") { -1 } else { 1 };
        assert!((0..=2).contains(&running));
    }
}

#[test]
fn output_is_kept_up_to_a_limit() {
    let tree = Tree::new();
    tree.set("hooks.output-limit", "1000");
    tree.hook("post", "10-talks", "echo begin; head -c 300000 /dev/zero | tr '\\0' x; printf '\\377' >&2");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let run = run(&tree, "1.0.post");
    let output = run["output"].as_str().unwrap();
    assert!(output.starts_with("begin\nxxx") && output.len() == 1000, "{output}");
    assert_eq!((&run["dropped"], &run["code"]), (&json!(6 + 300_000 + 1 - 1000), &json!(0)));
}

#[test]
fn what_a_hook_leaves_behind_does_not_hold_its_run_open() {
    let tree = Tree::new();
    tree.hook("post", "10-leaves", "sleep 600 & echo begun");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let run = run(&tree, "1.0.post");
    assert_eq!((&run["code"], &run["output"], &run["error"]), (&json!(0), &json!("begun\n"), &json!(null)));
}

#[test]
fn how_scripts_end_is_recorded_and_stops_nothing() {
    let tree = Tree::new();
    tree.hook("post", "10-fails", "echo no >&2; exit 3");
    tree.hook("post", "20-killed", "kill -9 $$");
    tree.file_hook("post", "30-no-program", "#!/no/such/program\n");
    tree.file_hook("post", "40-no-script", "\u{1}\u{2}");
    tree.hook("post", "50-works", "exit 0");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let runs = tree.event("1.0.post")["runs"].as_array().unwrap().clone();
    let ends: Vec<_> = runs.iter().map(|run| (run["code"].as_i64(), run["signal"].as_i64())).collect();
    assert_eq!(ends, [(Some(3), None), (None, Some(9)), (None, None), (None, None), (Some(0), None)]);
    assert_eq!(runs[0]["output"], "no\n");
    let error = |run: usize| runs[run]["error"].as_str().unwrap();
    assert!(error(2).contains("the interpreter in its first line does not exist"), "{}", error(2));
    assert!(error(3).contains("a script begins with a line such as #!/bin/sh"), "{}", error(3));
    let status = daemon.status();
    let failures: Vec<&str> =
        status["last_failures"].as_array().unwrap().iter().map(|f| f["script"].as_str().unwrap()).collect();
    assert_eq!(failures, ["10-fails", "20-killed", "30-no-program", "40-no-script"]);
}

#[test]
fn a_script_that_others_may_write_is_refused_and_the_rest_runs() {
    let tree = Tree::with_log();
    tree.log_hook("post", "05-open", "");
    fs::set_permissions(tree.path("hooks/global-post.d/05-open"), Permissions::from_mode(0o757)).unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let runs = tree.event("1.0.post")["runs"].clone();
    assert_eq!((&runs[0]["script"], &runs[1]["script"]), (&json!("05-open"), &json!("10-log")));
    assert!(runs[0]["error"].as_str().unwrap().starts_with("refused: "), "{runs}");
    assert_eq!(tree.hook_log().len(), 2, "pre and post of 10-log");
}

#[test]
fn a_directory_that_others_may_write_is_refused_until_it_is_made_good() {
    let tree = Tree::with_log();
    let dir = tree.path("hooks/global-post.d");
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let refused = run(&tree, "1.0.post");
    assert_eq!(refused["script"], "global-post.d");
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains(&format!("chmod go-w {}", dir.display())), "{error}");
    assert_eq!(daemon.logged("1.0.post: hook global-post.d refused"), 1);
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    let log = tree.hook_log();
    assert!(log.len() == 3 && log[2].starts_with("10-log 2.0.post succeeded"), "{log:#?}");
}

#[test]
fn skipped_opcodes_run_no_scripts_and_stay_in_the_history() {
    let tree = Tree::with_log();
    tree.set("hooks.skip-opcodes", "[\"OP_TEST_*\"]");
    let daemon = tree.start();
    tree.run_through(&mut Job::new(1, &["OP_TEST_DELAY", "OP_TAGS_SET"]));
    daemon.wait_done(&["1.1.post"]);
    assert_eq!(tree.told().len(), 4);
    assert_eq!(tree.event("1.0.post")["runs"], json!([]));
    let log = tree.hook_log();
    assert!(log.len() == 2 && log[0].starts_with("10-log 1.1.pre"), "{log:#?}");
}

#[test]
fn pre_hooks_can_be_off() {
    let tree = Tree::with_log();
    tree.set("hooks.pre", "\"off\"");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told().len(), 2);
    let log = tree.hook_log();
    assert!(log.len() == 1 && log[0].starts_with("10-log 1.0.post"), "{log:#?}");
}

#[test]
fn no_hook_waits_while_a_process_is_made_ahead() {
    let tree = Tree::new();
    tree.log_hook("post", "10-log", "");
    let daemon = tree.start();
    // Longer than the test waits for anything.
    tree.faults("pause hook.make-ready 600000\n");
    tree.put(&Job::ended(1));
    let is_there = || fs::read_to_string(tree.path("faults.paused")).is_ok().then_some(());
    wait_for(is_there, || format!("a pause\n{}", tree.log()));
    tree.put(&Job::ended(2));
    daemon.wait_hooks(2);
}

/// The processes that threads of this process have started, each with its name.
fn children(pid: rustix::process::Pid) -> Vec<String> {
    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            names.push(name.trim().to_owned());
        }
    }
    names.sort_unstable();
    names
}

#[test]
fn one_process_waits_to_become_a_script_whatever_has_run() {
    let tree = Tree::new();
    for name in ["10-a", "20-b", "30-c"] {
        tree.log_hook("post", name, "");
    }
    tree.set("hooks.workers", "2");
    let daemon = tree.start();
    let mut last = 0;
    for count in [1, 2, 40, 1] {
        for id in last + 1..=last + count {
            tree.put(&Job::ended(id));
        }
        last += count;
        daemon.wait_hooks(usize::try_from(3 * last).unwrap());
        daemon.wait_done(&[&format!("{last}.0.post")]);
        let is_there =
            || (children(daemon.pid()).iter().filter(|name| *name == "hook").count() == 1).then_some(());
        wait_for(is_there, || format!("one waits; there is {:?}", children(daemon.pid())));
    }
}

#[test]
fn a_link_is_executed_as_the_file_it_leads_to_however_it_begins() {
    let tree = Tree::new();
    tree.hook_in(
        "scripts",
        "script",
        "echo $0 $GANETI_HOOKD_EVENT >>LOG; tr '\\0' ' ' </proc/$$/cmdline >>LOG; echo >>LOG",
    );
    for name in ["10-first", "20-second"] {
        let link = tree.path("hooks/global-post.d").join(name);
        std::os::unix::fs::symlink("../scripts/script", link).unwrap();
    }
    let daemon = tree.start();
    // By a thread of its own, then by a process that was made ahead.
    for id in 1..=3 {
        tree.put(&Job::ended(id));
        daemon.wait_done(&[&format!("{id}.0.post")]);
    }
    let file = tree.path("hooks/scripts/script").canonicalize().unwrap();
    let expected: Vec<String> = (1..=3)
        .flat_map(|id| {
            let said = [format!("{} {id}.0.post", file.display()), format!("/bin/sh {} ", file.display())];
            [said.clone(), said].concat()
        })
        .collect();
    assert_eq!(tree.hook_log(), expected);
}
