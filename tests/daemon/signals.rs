//! Signals, systemd, and a journal that cannot be written.

use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::harness::{Daemon, Job, OTHER_NODE, Tree};

/// What the design allows for an end.
const STOP_LIMIT: Duration = Duration::from_secs(15);

#[test]
fn sigterm_ends_a_daemon_that_has_nothing_to_do_at_once() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert!(tree.path("hookd/hookd.sock").exists());
    let (status, duration) = daemon.stop();
    assert!(status.success() && duration < Duration::from_secs(2), "{status} after {duration:?}");
    assert!(!tree.path("hookd/hookd.sock").exists());
}

#[test]
fn sigterm_ends_the_daemon_in_time_though_a_hook_does_not_listen() {
    let tree = Tree::new();
    let deaf = "[ $GANETI_HOOKD_ATTEMPT -gt 1 ] || { trap '' TERM; sleep 600; }";
    tree.log_hook("post", "10-deaf", deaf);
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_hooks(1);
    let (status, duration) = daemon.stop();
    assert!(status.success() && duration < STOP_LIMIT, "{status} after {duration:?}");
    assert!(!tree.path("hookd/hookd.sock").exists());
    assert_eq!(tree.event("1.0.post")["runs"][0]["ended"], false);
    let daemon = tree.start();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(
        tree.hook_log(),
        [
            "10-deaf 1.0.post succeeded late=no attempt=1",
            "10-deaf 1.0.post succeeded late=yes attempt=2",
            "end 10-deaf 1.0.post",
        ]
    );
}

#[test]
fn sighup_reads_the_configuration_again() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    tree.set("hooks.skip-opcodes", "[\"OP_TEST_DELAY\"]");
    daemon.forget_messages();
    daemon.signal(Signal::HUP);
    daemon.wait_message("RELOADING=1");
    daemon.wait_message("MONOTONIC_USEC=");
    daemon.wait_message("READY=1");
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.hook_log(), [""; 0]);

    // A bad one changes nothing and is named wherever an operator looks.
    tree.set("hooks.skip-opcodes", "[]");
    tree.set("hooks.workers", "\"many\"");
    daemon.signal(Signal::HUP);
    daemon.wait_log("the configuration stays as it was", 1);
    daemon.wait_log("hooks.workers: must be a whole number from 1 to 256, not \"many\"", 1);
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    assert_eq!(tree.hook_log(), [""; 0]);
    tree.set("hooks.workers", "3");
    let status = tree.cli(&["status"]);
    assert_eq!(status.code, Some(1), "{status:?}");
    assert!(status.out.contains("PROBLEM") && status.out.contains("hooks.workers"), "{}", status.out);
    daemon.signal(Signal::HUP);
    daemon.wait_log("configuration read again", 2);
    tree.put(&Job::ended(3));
    daemon.wait_done(&["3.0.post"]);
    assert_eq!(tree.hook_log().len(), 2);
    assert_eq!(daemon.status()["problems"], serde_json::json!([]));
}

#[test]
fn sighup_may_change_this_nodes_name() {
    let tree = Tree::new();
    let daemon = tree.start();
    tree.set("master.name", &format!("{OTHER_NODE:?}"));
    daemon.signal(Signal::HUP);
    daemon.wait_log(&format!("{OTHER_NODE} is standby now"), 1);
    assert_eq!(daemon.status()["node"], OTHER_NODE);
}

#[test]
fn systemd_is_told_what_goes_on() {
    let tree = Tree::new();
    let daemon = Daemon::start(&tree, &[("WATCHDOG_USEC", "200000")]);
    daemon.wait_message("STATUS=master; the master is node1.example.com");
    for _ in 0..3 {
        daemon.forget_messages();
        daemon.wait_message("WATCHDOG=1");
    }
    daemon.signal(Signal::TERM);
    daemon.wait_message("STOPPING=1");
}

#[test]
fn under_systemd_the_log_has_priorities() {
    let tree = Tree::new();
    let daemon = Daemon::start(&tree, &[("JOURNAL_STREAM", "8:1")]);
    tree.put_bytes(1, b"nothing");
    daemon.wait_log("<3>", 1);
    assert_eq!(daemon.logged("<6>ready: master"), 1, "{}", daemon.log());
}

/// Keeps everybody else from writing the journal.
fn lock_journal(tree: &Tree) -> Connection {
    let other = Connection::open(tree.path("state/journal.db")).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[test]
fn no_hook_starts_until_the_journal_can_be_written() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let lock = lock_journal(&tree);
    tree.run_through(&mut Job::delay(1));
    daemon.wait_log("no hook starts until the journal can be written", 1);
    assert_eq!(tree.hook_log(), [""; 0]);
    drop(lock);
    daemon.wait_done(&["1.0.post"]);
    assert_eq!((tree.hook_log().len(), tree.told().len()), (2, 2));
    assert_eq!(daemon.status()["problems"], serde_json::json!([]));
}

#[test]
fn what_else_is_tried_again_does_not_keep_the_journal_from_it() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let lock = lock_journal(&tree);
    tree.run_through(&mut Job::delay(1));
    daemon.wait_log("no hook starts until the journal can be written", 1);
    // From now on something fails every second.
    std::fs::rename(tree.path("data"), tree.path("elsewhere")).unwrap();
    daemon.wait_log("is paths.queue-dir or paths.data-dir right?", 1);
    drop(lock);
    daemon.wait_log("the journal can be written again", 1);
    std::fs::rename(tree.path("elsewhere"), tree.path("data")).unwrap();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.hook_log().len(), 2);
}

#[test]
fn sigterm_ends_the_daemon_in_time_though_the_journal_cannot_be_written() {
    let tree = Tree::new();
    tree.log_hook("pre", "10-log", "until [ -e DIR/gate ]; do sleep 0.02; done");
    tree.log_hook("pre", "20-log", "");
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.runs(0));
    daemon.wait_hooks(1);
    let lock = lock_journal(&tree);
    // The next script of the event cannot begin, and a job comes that cannot be told.
    std::fs::write(tree.path("gate"), "").unwrap();
    tree.put(&Job::ended(2));
    daemon.wait_log("no hook starts until the journal can be written", 1);
    let (status, duration) = daemon.stop();
    assert!(status.success() && duration < STOP_LIMIT, "{status} after {duration:?}");
    drop(lock);
    let daemon = tree.start();
    daemon.wait_done(&["1.0.pre", "2.0.post"]);
    let log = tree.hook_log();
    assert!(log.iter().any(|line| line == "20-log 1.0.pre - late=yes attempt=1"), "{log:#?}");
}
