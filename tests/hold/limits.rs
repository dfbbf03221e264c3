//! No hold lasts longer than it may.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{armed, counters, guard, held, master, open_gate, wait_begun, waiting};
use crate::harness::job_process::JobProcess;
use crate::harness::{Job, Tree};

/// How much longer than it may a hold may last, on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// How long the process goes on standing still.
fn time_to_go_on(process: &JobProcess) -> Duration {
    let begin = Instant::now();
    process.wait_going();
    begin.elapsed()
}

#[test]
fn a_hook_that_hangs_and_ignores_signals_holds_no_longer_than_the_limit() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    tree.set("hooks.hold-limit", "\"700ms\"");
    tree.log_hook("pre", "10-deaf", "trap '' TERM HUP INT; until [ -e DIR/gate-1 ]; do sleep 0.01; done");
    tree.log_hook("pre", "20-after", "");
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    tree.put(job.runs(0));
    process.wait_stopped();
    let held = time_to_go_on(&process);
    assert!(held < Duration::from_millis(700) + SLACK, "{held:?}");
    assert_eq!(counters(&daemon), [1, 0, 0, 1].map(|n| json!(n)));
    assert_eq!(daemon.status()["held"], json!([]));
    open_gate(&tree, 1);
    daemon.wait_done(&["1.0.pre"]);
    let log = tree.hook_log();
    assert_eq!(log[0], "10-deaf 1.0.pre - late=no attempt=1");
    assert_eq!(log[2], "20-after 1.0.pre - late=yes attempt=1", "its moment had passed");
    assert_eq!(tree.told(), ["1.0.pre late"]);
    // A log line of the opcode is no reason to stop it again.
    assert!(process.has_been_stopped());
    tree.put(job.logs(0, "goes on"));
    daemon.fence();
    assert!(!process.has_been_stopped());
}

#[test]
fn the_guard_ends_a_hold_when_the_daemon_stands_still() {
    let tree = master();
    tree.set("hooks.hold-limit", "\"500ms\"");
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    tree.put(job.runs(0));
    wait_begun(&tree, "10-log 1.0.pre");
    daemon.stand_still();
    let held = time_to_go_on(&process);
    assert!(held < Duration::from_millis(500) + SLACK, "{held:?}");
    daemon.signal(Signal::CONT);
    open_gate(&tree, 1);
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
    process.exit();
}

#[test]
fn a_daemon_that_hangs_before_hooks_begin_keeps_no_job_for_long() {
    const VAIN_LIMIT: Duration = Duration::from_secs(3);
    for hang in ["", "fail kernel.stop\n"] {
        let tree = master();
        tree.faults(hang);
        let daemon = tree.start();
        let (mut job, process) = armed(&tree, &daemon, 1);
        tree.faults(&format!("{hang}pause journal.before-commit 60000\n"));
        tree.put(job.runs(0));
        process.wait_stopped();
        let held = time_to_go_on(&process);
        assert!(held < VAIN_LIMIT + SLACK, "{hang}{held:?}");
        assert_eq!(tree.hook_log(), [""; 0], "no hook has begun");
        daemon.kill();
    }
}

#[test]
fn a_hook_that_a_daemon_begins_which_hung_is_told_what_is_true() {
    for (point, is_late) in [("hold.before-claim", true), ("run.before-submit", false)] {
        let tree = master();
        let daemon = tree.start();
        let (mut job, process) = armed(&tree, &daemon, 1);
        // Longer than the guard lets a job stand still for a hook that does not begin.
        tree.faults(&format!("pause {point} 4500\n"));
        tree.put(job.runs(0));
        process.wait_stopped();
        let late = if is_late { "yes" } else { "no" };
        wait_begun(&tree, &format!("10-log 1.0.pre - late={late} attempt=1"));
        assert_eq!(process.state() != 'T', is_late);
        open_gate(&tree, 1);
        process.wait_going();
    }
}

#[test]
fn pre_hooks_of_held_jobs_begin_before_others_that_wait() {
    let tree = master();
    tree.set("hooks.workers", "2");
    tree.log_hook("post", "10-log", super::GATE);
    let daemon = tree.start();
    for id in 1..=6 {
        tree.put(Job::delay(id).waits(0).fails(0));
    }
    wait_begun(&tree, "10-log 1.0.post");
    wait_begun(&tree, "10-log 2.0.post");
    daemon.wait_status("all are noticed", |status| status["counters"]["events"] == 6);
    let (mut job, process) = armed(&tree, &daemon, 50);
    tree.put(job.runs(0));
    process.wait_stopped();
    open_gate(&tree, 1);
    wait_begun(&tree, "10-log 50.0.pre");
    assert!(!tree.hook_log().iter().any(|line| line.contains("3.0.post")), "{:#?}", tree.hook_log());
    open_gate(&tree, 50);
    process.wait_going();
}

#[test]
fn a_held_jobs_hooks_begin_at_once_though_all_workers_are_busy() {
    let tree = master();
    tree.set("hooks.workers", "2");
    tree.log_hook("post", "10-log", super::GATE);
    let daemon = tree.start();
    for id in 1..=2 {
        tree.put(Job::delay(id).waits(0).fails(0));
        wait_begun(&tree, &format!("10-log {id}.0.post"));
    }
    let (mut job, process) = armed(&tree, &daemon, 3);
    tree.put(job.runs(0));
    wait_begun(&tree, "10-log 3.0.pre");
    assert!(tree.hook_log().contains(&"10-log 3.0.pre - late=no attempt=1".to_owned()));
    open_gate(&tree, 3);
    process.wait_going();
    for id in 1..=2 {
        open_gate(&tree, id);
    }
    daemon.wait_done(&["1.0.post", "2.0.post", "3.0.pre"]);
}

#[test]
fn a_process_that_is_stopped_elsewhere_is_held_for_three_seconds_at_most() {
    const LATE_LIMIT: Duration = Duration::from_secs(3);
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    // Somebody else has published this: the process is not in the rename.
    tree.put_by_luxid(job.runs(0));
    process.wait_stopped();
    let begin = Instant::now();
    daemon.wait_log("job 1 had got further", 1);
    assert_eq!(daemon.status()["held"][0]["late"], json!(true));
    assert!(tree.cli(&["status"]).out.contains(&format!("(process {}, late)", process.pid())));
    process.wait_going();
    let held = begin.elapsed();
    assert!(held > LATE_LIMIT - SLACK && held < LATE_LIMIT + SLACK, "{held:?}");
    assert_eq!(counters(&daemon), [1, 1, 0, 1].map(|n| json!(n)));
    assert_eq!(tree.told(), ["1.0.pre late"]);
    assert_eq!(tree.hook_log(), ["10-log 1.0.pre - late=yes attempt=1"]);

    // The guard knows of the shorter time as well.
    let (mut job, process) = armed(&tree, &daemon, 2);
    tree.put_by_luxid(job.runs(0));
    process.wait_stopped();
    wait_begun(&tree, "10-log 2.0.pre");
    daemon.stand_still();
    let held = time_to_go_on(&process);
    assert!(held < LATE_LIMIT + SLACK, "{held:?}");
}

/// A version by which the first opcode began ten seconds ago.
fn began_long_ago(job: &mut Job) -> &Job {
    job.runs(0);
    let began = job.op(0)["exec_timestamp"][0].as_i64().unwrap();
    job.op(0)["exec_timestamp"][0] = json!(began - 10);
    job
}

#[test]
fn an_opcode_that_began_long_ago_is_not_stopped() {
    let tree = master();
    tree.refuse_kernel_stop();
    open_gate(&tree, 1);
    let daemon = tree.start();
    let (mut job, process) = waiting(&tree, 1);
    tree.put(began_long_ago(&mut job));
    daemon.wait_done(&["1.0.pre"]);
    assert!(!process.has_been_stopped());
    assert_eq!(counters(&daemon), [0, 0, 1, 0].map(|n| json!(n)));
    assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=yes attempt=1");
}

#[test]
fn who_stands_where_it_published_is_in_time_however_long_ago_that_was() {
    let tree = master();
    let daemon = tree.start();
    // On a busy machine one may not be seen to be in no rename when it is armed: it may have published before.
    let is_in_time = (1..20).any(|id| {
        let (mut job, process) = armed(&tree, &daemon, id);
        tree.put(began_long_ago(&mut job));
        wait_begun(&tree, &format!("10-log {id}.0.pre"));
        let is_in_time = tree.hook_log().contains(&format!("10-log {id}.0.pre - late=no attempt=1"));
        assert!(!is_in_time || process.state() == 'T');
        open_gate(&tree, id);
        process.wait_going();
        is_in_time
    });
    assert!(is_in_time, "{:?}", tree.hook_log());
}

#[test]
fn a_guard_that_stands_still_does_not_keep_the_daemon_from_ending() {
    let tree = master();
    let daemon = tree.start();
    let guard = guard(&daemon);
    let (_, process) = held(&tree, &daemon, 1);
    rustix::process::kill_process(guard, Signal::STOP).unwrap();
    open_gate(&tree, 1);
    let (status, _) = daemon.stop();
    assert!(status.success());
    process.wait_going();
    rustix::process::kill_process(guard, Signal::KILL).unwrap();
}

#[test]
fn a_hook_that_begins_after_its_job_went_on_is_told_so_wherever_the_daemon_hung() {
    for point in ["run.before-submit", "hook.before-start"] {
        let tree = master();
        tree.set("hooks.hold-limit", "\"700ms\"");
        let daemon = tree.start();
        let (mut job, process) = armed(&tree, &daemon, 1);
        tree.faults(&format!("pause {point} 3000\n"));
        tree.put(job.runs(0));
        process.wait_stopped();
        process.wait_going();
        assert_eq!(tree.hook_log(), [""; 0], "no hook has begun");
        wait_begun(&tree, "10-log 1.0.pre");
        assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=yes attempt=1", "{point}");
        open_gate(&tree, 1);
    }
}

#[test]
fn how_long_a_job_stood_still_before_it_was_let_go_on_counts_no_more_for_the_next_time() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    // Nearly as long as the guard lets it.
    tree.faults("pause hold.before-arm 2800\n");
    tree.put(job.logs(0, "waits"));
    process.wait_stopped();
    process.wait_going();
    tree.faults("pause hold.before-claim 1200\n");
    tree.put(job.runs(0));
    process.wait_stopped();
    wait_begun(&tree, "10-log 1.0.pre");
    assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=no attempt=1");
    assert_eq!(process.state(), 'T');
    open_gate(&tree, 1);
    process.wait_going();
}
