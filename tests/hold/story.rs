//! What holding is for, and when there is nothing to hold.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{
    armed, assert_never_stopped, counters, held, master, open_gate, wait_begun, waiting, waiting_with,
};
use crate::harness::{Job, Tree, wait_for};

#[test]
fn a_job_stands_still_until_its_pre_hooks_have_ended() {
    let tree = master();
    tree.log_hook("pre", "20-after", "");
    let daemon = tree.start();
    let (mut job, process) = held(&tree, &daemon, 1);
    let status = daemon.status();
    let shown = &status["held"][0];
    assert_eq!(
        (&shown["event"], &shown["pid"], &shown["hook"], &shown["late"]),
        (&json!("1.0.pre"), &json!(process.pid()), &json!("10-log"), &json!(false))
    );
    let said = tree.cli(&["status"]);
    let line = said.out.lines().find(|line| line.starts_with("held")).unwrap();
    assert!(line.contains(&format!("1.0.pre (process {}) for ", process.pid())), "{line}");
    assert!(line.ends_with("waits for 10-log"), "{line}");
    open_gate(&tree, 1);
    process.wait_going();
    assert_eq!(tree.hook_log().len(), 3, "{:#?}", tree.hook_log());
    assert!(tree.hook_log().iter().all(|line| !line.contains("late=yes")));
    assert_eq!(daemon.status()["held"], json!([]));
    tree.put(job.succeeds(0));
    process.exit();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(counters(&daemon), [1, 0, 0, 0].map(|n| json!(n)));
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post succeeded"]);
}

#[test]
fn jobs_are_held_side_by_side() {
    let tree = master();
    let daemon = tree.start();
    let (_, first) = held(&tree, &daemon, 1);
    let (_, second) = held(&tree, &daemon, 2);
    assert_eq!(daemon.status()["held"].as_array().unwrap().len(), 2);
    open_gate(&tree, 2);
    second.wait_going();
    assert_eq!(first.state(), 'T');
    open_gate(&tree, 1);
    first.wait_going();
    assert_eq!(counters(&daemon)[0], json!(2));
}

#[test]
fn a_job_is_held_at_each_opcode_until_earlier_events_are_over_too() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    let gate = "until [ -e DIR/gate-$GANETI_HOOKD_EVENT ]; do sleep 0.01; done";
    tree.log_hook("pre", "10-log", gate);
    tree.log_hook("post", "10-log", gate);
    let open = |event: &str| fs::write(tree.path(&format!("gate-{event}")), "").unwrap();
    let daemon = tree.start();
    let (mut job, process) =
        waiting_with(&tree, Job::new(1, &["OP_TEST_DELAY", "OP_TAGS_SET", "OP_TEST_DELAY"]));
    for op in 0..3 {
        daemon.wait_armed(&process);
        tree.put(job.runs(op));
        process.wait_stopped();
        if op > 0 {
            // The post hooks of the opcode before it run while it stands still.
            wait_begun(&tree, &format!("10-log 1.{}.post", op - 1));
            let event = format!("1.{op}.pre");
            daemon.wait_status("it is held", |status| status["held"][0]["event"] == event);
            open(&format!("1.{}.post", op - 1));
        }
        wait_begun(&tree, &format!("10-log 1.{op}.pre"));
        assert_eq!(process.state(), 'T');
        open(&format!("1.{op}.pre"));
        process.wait_going();
        tree.put(job.succeeds(op));
    }
    open("1.2.post");
    daemon.wait_done(&["1.2.post"]);
    assert_eq!(counters(&daemon), [3, 0, 0, 0].map(|n| json!(n)));
    let log: Vec<String> = tree.hook_log().iter().filter(|line| !line.starts_with("end")).cloned().collect();
    let events: Vec<&str> = log.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(events, ["1.0.pre", "1.0.post", "1.1.pre", "1.1.post", "1.2.pre", "1.2.post"]);
}

#[test]
fn a_pre_hook_that_fails_stops_nothing() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    tree.hook("pre", "10-fails", "exit 3");
    tree.file_hook("pre", "20-cannot", "#!/no/such/program\n");
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    process.wait_going();
    assert!(process.has_been_stopped());
    process.exit();
    assert_eq!(counters(&daemon), [1, 0, 0, 0].map(|n| json!(n)));
    assert_eq!(daemon.status()["counters"]["runs_failed"], json!(2));
}

/// Runs a job through where there is nothing to hold it for.
fn is_never_stopped(tree: &Tree) {
    let daemon = tree.start();
    let (mut job, process) = waiting(tree, 1);
    for _ in 0..5 {
        tree.put(job.runs(0));
        daemon.fence();
    }
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.pre", "1.0.post"]);
    assert_never_stopped(&daemon, &process);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post succeeded"]);
}

#[test]
fn without_a_pre_hook_no_job_is_stopped() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    tree.log_hook("post", "10-log", "");
    tree.log_hook("pre", "not.a.hook.name", "");
    is_never_stopped(&tree);
}

#[test]
fn for_a_hook_that_must_not_run_no_job_is_stopped() {
    let tree = master();
    let hook = tree.path("hooks/global-pre.d/10-log");
    fs::set_permissions(hook, Permissions::from_mode(0o757)).unwrap();
    is_never_stopped(&tree);
}

#[test]
fn before_skipped_opcodes_no_job_is_stopped() {
    let tree = master();
    tree.set("hooks.skip-opcodes", "[\"OP_TEST_*\"]");
    is_never_stopped(&tree);
}

#[test]
fn notify_runs_pre_hooks_and_stops_nothing() {
    let tree = master();
    tree.set("hooks.pre", "\"notify\"");
    open_gate(&tree, 1);
    is_never_stopped(&tree);
    assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=no attempt=1");
}

#[test]
fn off_runs_no_pre_hooks_and_stops_nothing() {
    let tree = master();
    tree.set("hooks.pre", "\"off\"");
    is_never_stopped(&tree);
    assert_eq!(tree.hook_log(), ["10-log 1.0.post succeeded late=no attempt=1"]);
}

#[test]
fn a_hook_that_is_installed_later_is_held_for() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    let daemon = tree.start();
    let (mut job, process) = waiting(&tree, 1);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    assert_never_stopped(&daemon, &process);
    tree.log_hook("pre", "10-log", super::GATE);
    let (_, process) = held(&tree, &daemon, 2);
    open_gate(&tree, 2);
    process.wait_going();
}

#[test]
fn hold_is_the_default() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    let text = fs::read_to_string(tree.config()).unwrap().replace("hooks.pre = \"hold\"\n", "");
    fs::write(tree.config(), text).unwrap();
    tree.log_hook("pre", "10-log", super::GATE);
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    open_gate(&tree, 1);
    process.wait_going();
}

#[test]
fn an_opcode_that_has_ended_when_it_is_seen_is_late_and_counted() {
    let tree = master();
    open_gate(&tree, 1);
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
    process.wait_going();
    assert_eq!(counters(&daemon), [0, 0, 1, 0].map(|n| json!(n)));
    assert_eq!(tree.told(), ["1.0.pre late", "1.0.post succeeded"]);
    assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=yes attempt=1");
}

#[test]
fn hooks_do_not_inherit_the_watchers_priority() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    tree.hook("pre", "10-log", "echo pre $(nice) >>LOG");
    tree.hook("post", "10-log", "echo post $(nice) >>LOG");
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put(job.succeeds(0));
    process.exit();
    daemon.wait_done(&["1.0.post"]);
    let given = rustix::process::getpriority_process(None).unwrap();
    assert_eq!(tree.hook_log(), [format!("pre {given}"), format!("post {given}")]);
}

#[test]
fn holding_leaves_the_timers_of_threads_and_hooks_as_they_were() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    for phase in ["pre", "post"] {
        tree.hook(phase, "10-log", "cat /proc/self/timerslack_ns >>LOG");
    }
    let daemon = tree.start();
    let given = fs::read_to_string("/proc/self/timerslack_ns").unwrap();
    for id in 1..=3 {
        let (mut job, process) = armed(&tree, &daemon, id);
        tree.put(job.runs(0));
        daemon.wait_done(&[&format!("{id}.0.pre")]);
        process.wait_going();
        tree.put(job.succeeds(0));
        process.exit();
        daemon.wait_done(&[&format!("{id}.0.post")]);
    }
    assert_eq!(counters(&daemon)[0], json!(3));
    assert_eq!(tree.hook_log(), [given.trim(); 6]);
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid().as_raw_nonzero())).unwrap().flatten() {
        let slack = || fs::read_to_string(format!("/proc/{}/timerslack_ns", task.file_name().display()));
        // One may be in the middle of it.
        let is_as_given = || (slack().unwrap() == given).then_some(());
        wait_for(is_as_given, || format!("{task:?} has {slack:?}", slack = slack()));
    }
}
