//! What else may happen while a job is held.

use rustix::process::Signal;
use serde_json::json;

use super::{armed, counters, held, master, open_gate, wait_begun, waiting};
use crate::harness::{Job, OTHER_NODE, Tree};

/// Another writer of the journal, which keeps everybody else from writing.
pub struct JournalLock(rusqlite::Connection);

impl JournalLock {
    pub fn new(tree: &Tree) -> Self {
        let db = rusqlite::Connection::open(tree.path("state/journal.db")).unwrap();
        db.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(db)
    }

    pub fn release(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

#[test]
fn a_job_that_is_killed_while_held_has_disappeared_after_its_pre_hooks() {
    let tree = master();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    process.kill();
    daemon.wait("the death", |events| events.len() == 2);
    assert_eq!(daemon.status()["held"], json!([]));
    assert_eq!(tree.hook_log().len(), 1, "the pre hook is let end");
    open_gate(&tree, 1);
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post disappeared"], "{}", tree.log());
    assert_eq!(tree.hook_log()[1..], ["end 10-log 1.0.pre", "10-log 1.0.post disappeared late=no attempt=1"]);
}

#[test]
fn sigterm_reaches_a_held_job_when_it_goes_on() {
    let tree = master();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    process.signal(Signal::TERM);
    daemon.fence();
    assert_eq!(process.state(), 'T');
    open_gate(&tree, 1);
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post disappeared"]);
}

#[test]
fn a_daemon_that_is_told_to_end_lets_jobs_go_on_first() {
    let tree = master();
    let daemon = tree.start();
    let (_, first) = held(&tree, &daemon, 1);
    let (_, second) = held(&tree, &daemon, 2);
    daemon.signal(Signal::TERM);
    first.wait_going();
    second.wait_going();
    // It waits for the hooks that still run; nothing is held any more meanwhile.
    daemon.wait_log("stopping", 1);
    let (mut third, process) = waiting(&tree, 3);
    tree.put(third.runs(0));
    for id in 1..=2 {
        open_gate(&tree, id);
    }
    let (status, _) = daemon.stop();
    assert!(status.success());
    assert!(!process.has_been_stopped());
    let ended = tree.hook_log().iter().filter(|line| line.starts_with("end")).count();
    assert_eq!(ended, 2, "{:#?}", tree.hook_log());
}

#[test]
fn a_new_configuration_changes_nothing_for_a_held_job() {
    let tree = master();
    let daemon = tree.start();
    let (_, first) = held(&tree, &daemon, 1);
    tree.set("hooks.pre", "\"notify\"");
    daemon.signal(Signal::HUP);
    daemon.wait_log("configuration read again", 1);
    assert_eq!(first.state(), 'T');
    let (mut job, second) = waiting(&tree, 2);
    tree.put(job.runs(0));
    wait_begun(&tree, "10-log 2.0.pre - late=no");
    assert!(!second.has_been_stopped());
    open_gate(&tree, 1);
    first.wait_going();
    assert!(tree.hook_log().contains(&"10-log 1.0.pre - late=no attempt=1".to_owned()));

    tree.set("hooks.pre", "\"hold\"");
    daemon.signal(Signal::HUP);
    daemon.wait_log("configuration read again", 2);
    let (_, third) = held(&tree, &daemon, 3);
    open_gate(&tree, 3);
    third.wait_going();
}

#[test]
fn hold_can_be_turned_on_while_the_daemon_runs() {
    let tree = master();
    tree.set("hooks.pre", "\"off\"");
    let daemon = tree.start();
    // It waits for its locks before and after; what it is held by comes in between.
    let (mut job, process) = waiting(&tree, 1);
    daemon.fence();
    tree.set("hooks.pre", "\"hold\"");
    daemon.signal(Signal::HUP);
    daemon.wait_log("configuration read again", 1);
    daemon.wait_armed(&process);
    tree.put(job.runs(0));
    process.wait_stopped();
    open_gate(&tree, 1);
    process.wait_going();
}

#[test]
fn a_node_that_is_not_master_any_more_holds_nothing() {
    let tree = master();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    tree.put_data("ssconf_master_node", OTHER_NODE);
    process.wait_going();
    let (mut job, process) = waiting(&tree, 2);
    tree.put(job.runs(0));
    daemon.wait("it is noticed", |events| events.iter().any(|event| event["event"] == "2.0.pre"));
    assert!(!process.has_been_stopped());
    open_gate(&tree, 1);
}

#[test]
fn while_the_journal_cannot_be_written_nothing_is_held() {
    let tree = master();
    let daemon = tree.start();
    let lock = JournalLock::new(&tree);
    let (mut job, process) = waiting(&tree, 1);
    daemon.wait_log("no hook starts until the journal can be written", 1);
    tree.put(job.runs(0));
    lock.release();
    daemon.wait_log("job 1 is not held: the journal could not be written when its opcode began", 1);
    assert!(!process.has_been_stopped());
    open_gate(&tree, 1);
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=yes attempt=1");
    assert_eq!(counters(&daemon), [0, 0, 1, 0].map(|n| json!(n)));
    let (_, process) = held(&tree, &daemon, 2);
    open_gate(&tree, 2);
    process.wait_going();
}

#[test]
fn a_job_whose_hold_cannot_be_written_goes_on_and_its_pre_hooks_say_that_they_are_late() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    let lock = JournalLock::new(&tree);
    tree.put(job.runs(0));
    daemon.wait_log("no hook starts until the journal can be written", 1);
    process.wait_going();
    assert_eq!(daemon.status()["counters"]["holds"], 1, "it was held before");
    lock.release();
    open_gate(&tree, 1);
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=yes attempt=1");
    assert_eq!(tree.event("1.0.pre")["late"], true);
    assert_eq!(tree.event("1.0.pre")["runs"].as_array().map(Vec::len), Some(1), "begun once");
}

#[test]
fn a_held_job_goes_on_when_the_journal_cannot_be_written_any_more() {
    let tree = master();
    tree.log_hook("pre", "20-after", "");
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    let lock = JournalLock::new(&tree);
    tree.put(&Job::delay(2));
    process.wait_going();
    lock.release();
    open_gate(&tree, 1);
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(tree.hook_log()[2], "20-after 1.0.pre - late=yes attempt=1");
}
