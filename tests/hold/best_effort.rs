//! Where the kernel does not stop processes: they are when inotify has told of their version.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{counters, held, master, open_gate, waiting};
use crate::harness::Tree;

fn best_effort() -> Tree {
    let tree = master();
    tree.refuse_kernel_stop();
    tree
}

#[test]
fn the_daemon_says_that_it_is_best_effort_and_why() {
    let tree = best_effort();
    let daemon = tree.start();
    daemon.wait_log("jobs are held as well as can be, not exactly", 1);
    let status = daemon.status();
    assert_eq!((&status["hold_exact"], &status["armed"]), (&json!(false), &json!([])));
    assert!(status["hold_means"].as_str().unwrap().contains("Resource temporarily unavailable"));
    let said = tree.cli(&["status"]).out;
    assert!(said.contains("holds      best effort: Resource temporarily unavailable"), "{said}");
    let said = tree.cli(&["check"]).out;
    let line = "note  daemon         it holds jobs as well as can be, not exactly: Resource temporarily";
    assert!(said.contains(line), "{said}");
    assert!(tree.cli(&["status", "--metrics"]).out.contains("\nganeti_hookd_hold_exact 0\n"));
}

#[test]
fn a_job_that_ran_on_is_held_for_three_seconds_at_most_and_its_hooks_say_that_they_are_late() {
    let tree = best_effort();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    let begin = Instant::now();
    if counters(&daemon)[1] == json!(0) {
        // It was stopped in the rename after all, by chance.
        open_gate(&tree, 1);
        return process.wait_going();
    }
    process.wait_going();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(counters(&daemon), [1, 1, 0, 1].map(|n| json!(n)));
    assert_eq!(tree.hook_log(), ["10-log 1.0.pre - late=yes attempt=1"]);
    open_gate(&tree, 1);
}

#[test]
fn a_job_goes_on_when_its_pre_hooks_have_ended() {
    let tree = best_effort();
    let daemon = tree.start();
    let (mut job, process) = held(&tree, &daemon, 1);
    open_gate(&tree, 1);
    process.wait_going();
    tree.put(job.succeeds(0));
    process.exit();
    daemon.wait_done(&["1.0.post"]);
    let [holds, _, missed, timed_out] = counters(&daemon);
    assert_eq!((holds, missed, timed_out), (json!(1), json!(0), json!(0)));
}

#[test]
fn whenever_the_daemon_is_killed_every_job_goes_on() {
    let tree = best_effort();
    for id in 1..=4 {
        let daemon = tree.start();
        let (mut job, process) = waiting(&tree, id);
        tree.put(job.runs(0));
        if id % 2 == 0 {
            process.wait_stopped();
        }
        daemon.kill();
        process.wait_going();
        open_gate(&tree, id);
    }
}
