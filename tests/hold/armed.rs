//! Whoever is armed does not stay stopped, whatever becomes of the daemon.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::death::{stood_still_until_gone, wait_gone};
use super::interplay::JournalLock;
use super::{armed, guard, master, open_gate, wait_begun};
use crate::harness::job_process::JobProcess;
use crate::harness::{Daemon, Job, Tree, wait_for};

/// How long an armed process may stand still after the daemon's end.
const GUARD_TIME: Duration = Duration::from_secs(1);

/// The daemon dies at a point while the process publishes; nobody starts it again.
fn dies_at(point: &str, visit: u32, publish: impl FnOnce(&Tree, &mut Job)) {
    let tree = master();
    let mut daemon = tree.start();
    let guard = guard(&daemon);
    let (mut job, process) = armed(&tree, &daemon, 1);
    process.has_been_stopped();
    tree.faults(&format!("die {point} {visit}\n"));
    publish(&tree, &mut job);
    wait_for(|| daemon.ended(), || format!("the daemon dies at {point}\n{}", tree.log()));
    let longest = stood_still_until_gone(guard, &process);
    assert!(longest < GUARD_TIME, "{point}: {longest:?}");
    assert!(process.has_been_stopped(), "{point}");
    assert_ne!(process.state(), 'T', "{point}");
}

#[test]
fn wherever_the_daemon_dies_the_guard_lets_go_what_the_kernel_has_stopped() {
    // It has published something else, and is about to be armed again; or has been.
    dies_at("hold.before-arm", 1, |tree, job| tree.put(job.logs(0, "waits")));
    dies_at("hold.armed", 1, |tree, job| tree.put(job.logs(0, "waits")));
    dies_at("hold.taken-over", 1, |tree, job| tree.put(job.runs(0)));
}

#[test]
fn what_the_kernel_stops_after_the_daemons_end_goes_on() {
    let tree = master();
    for id in 1..=10 {
        let daemon = tree.start();
        let guard = guard(&daemon);
        let (mut job, process) = armed(&tree, &daemon, id);
        daemon.kill();
        let mut longest = Duration::ZERO;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(600) {
            let published = Instant::now();
            tree.put(job.logs(0, "waits"));
            process.wait_going();
            longest = longest.max(published.elapsed());
        }
        assert!(longest < GUARD_TIME, "{longest:?}");
        wait_gone(guard);
        assert_ne!(process.state(), 'T');
        open_gate(&tree, id);
    }
}

#[test]
fn one_that_an_administrator_stopped_while_it_was_armed_stays_stopped() {
    let tree = master();
    let daemon = tree.start();
    let guard = guard(&daemon);
    let (_, process) = armed(&tree, &daemon, 1);
    process.signal(Signal::STOP);
    process.wait_stopped();
    assert_eq!(tree.cli(&["release"]).out, "");
    assert_eq!(process.state(), 'T');
    daemon.kill();
    wait_gone(guard);
    assert_eq!(process.state(), 'T');
    tree.start().stop();
    assert_eq!(process.state(), 'T');
}

#[test]
fn release_and_the_next_start_let_go_what_the_kernel_has_stopped() {
    let tree = master();
    for by_start in [false, true] {
        let id = 1 + i64::from(by_start);
        let daemon = tree.start();
        let guard = guard(&daemon);
        let (mut job, process) = armed(&tree, &daemon, id);
        daemon.stand_still();
        tree.put(job.runs(0));
        process.wait_stopped();
        rustix::process::kill_process(guard, Signal::KILL).unwrap();
        daemon.kill();
        assert_eq!(process.state(), 'T');
        if by_start {
            let _daemon = tree.start();
            process.wait_going();
        } else {
            assert_eq!(tree.cli(&["release"]).out, format!("process {} goes on\n", process.pid()));
            process.wait_going();
        }
        open_gate(&tree, id);
    }
}

#[test]
fn a_daemon_that_stands_still_keeps_no_job() {
    let tree = master();
    open_gate(&tree, 1);
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    daemon.stand_still();
    let begin = Instant::now();
    tree.put(job.runs(0));
    process.wait_stopped();
    process.wait_going();
    assert!(begin.elapsed() < Duration::from_millis(4500), "{:?}", begin.elapsed());
    process.has_been_stopped();
    daemon.signal(Signal::CONT);
    wait_begun(&tree, "10-log 1.0.pre - late=yes");
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(daemon.status()["counters"]["holds_missed"], json!(1));
    assert!(!process.has_been_stopped(), "it is far into its opcode");
}

fn wait_disarmed(daemon: &Daemon<'_>, process: &JobProcess) {
    daemon.wait_status("nobody is armed", |status| status["armed"] == json!([]));
    assert_ne!(process.state(), 'T');
    process.has_been_stopped();
}

#[test]
fn while_the_journal_cannot_be_written_nobody_is_armed() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    let lock = JournalLock::new(&tree);
    tree.put(&Job::delay(2));
    wait_disarmed(&daemon, &process);
    tree.put(job.logs(0, "waits"));
    assert!(!process.has_been_stopped());
    lock.release();
    daemon.wait_armed(&process);
}

#[test]
fn while_the_queue_is_not_watched_nobody_is_armed() {
    let tree = master();
    let daemon = tree.start();
    let (_, process) = armed(&tree, &daemon, 1);
    fs::rename(tree.path("queue"), tree.path("queue.old")).unwrap();
    wait_disarmed(&daemon, &process);
    fs::rename(tree.path("queue.old"), tree.path("queue")).unwrap();
    daemon.wait_armed(&process);
}

#[test]
fn nobody_is_armed_for_hooks_that_are_off_or_opcodes_that_are_skipped() {
    for (key, value) in [("hooks.pre", "\"notify\""), ("hooks.skip-opcodes", "[\"OP_TEST_*\"]")] {
        let tree = master();
        let daemon = tree.start();
        let (mut job, process) = armed(&tree, &daemon, 1);
        tree.set(key, value);
        daemon.signal(Signal::HUP);
        wait_disarmed(&daemon, &process);
        tree.put(job.logs(0, "waits"));
        daemon.fence();
        assert!(!process.has_been_stopped());
    }
}
