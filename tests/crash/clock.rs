//! A clock that steps an hour, forward and back: nothing changes but the times shown.
//!
//! The clock steps for the daemon alone, by a line in the file of faults.

use std::fs;

use serde_json::json;

use crate::harness::{Daemon, Job, NODE, OTHER_NODE, Tree};

const STEPS: [i64; 2] = [3600, -3600];

fn step(tree: &Tree, seconds: i64) {
    fs::write(tree.path("faults"), format!("clock {seconds}\n")).unwrap();
}

fn start(tree: &Tree) -> Daemon<'_> {
    let faults = tree.path("faults").display().to_string();
    Daemon::start(tree, &[("GANETI_HOOKD_FAULTS", &faults)])
}

#[test]
fn a_job_that_runs_while_the_clock_steps_is_held_and_told_as_ever() {
    for seconds in STEPS {
        let tree = Tree::with_log();
        tree.set("hooks.pre", "\"hold\"");
        let daemon = start(&tree);
        let mut job = Job::new(1, &["OP_TEST_DELAY", "OP_TEST_DELAY"]);
        let process = tree.process_of(&mut job);
        tree.put(job.waits(0));
        daemon.wait_armed(&process);
        tree.put(job.runs(0));
        daemon.wait_done(&["1.0.pre"]);
        step(&tree, seconds);
        assert!((daemon.status()["started"].as_f64().unwrap() - 1.0e9) > 0.0);
        tree.put(job.succeeds(0).waits(1));
        daemon.wait_done(&["1.0.post"]);
        daemon.wait_armed(&process);
        // Ganeti goes by the same clock.
        let executed = &mut job.runs(1).op(1)["exec_timestamp"][0];
        *executed = json!(executed.as_i64().unwrap() + seconds);
        tree.put(&job);
        daemon.wait_done(&["1.1.pre"]);
        let counters = daemon.status()["counters"].clone();
        assert_eq!(
            (&counters["holds"], &counters["holds_missed"]),
            (&json!(2), &json!(0)),
            "{seconds} {}",
            tree.log()
        );
        // Its livelock is gone: only its start says that it is the job's process.
        fs::remove_file(tree.livelock("job_000001_1795366000")).unwrap();
        daemon.signal(rustix::process::Signal::HUP);
        tree.put(job.logs(1, "still there"));
        daemon.fence();
        let told = tree.told();
        assert_eq!(told, ["1.0.pre", "1.0.post succeeded", "1.1.pre"], "{seconds}");
        process.kill();
        daemon.wait_done(&["1.1.post"]);
        assert_eq!(tree.event("1.1.post")["status"], "disappeared");
        assert!(tree.hook_log().iter().all(|line| line.contains("late=no attempt=1")));
    }
}

#[test]
fn a_process_without_livelock_is_judged_by_its_start_though_the_clock_has_stepped() {
    for seconds in STEPS {
        let tree = Tree::with_log();
        let daemon = start(&tree);
        let mut job = Job::delay(1);
        let process = tree.process_of(&mut job);
        tree.put(job.waits(0));
        daemon.fence();
        step(&tree, seconds);
        fs::remove_file(tree.livelock("job_000001_1795366000")).unwrap();
        // Standby and back: every process is looked for again.
        tree.put_data("ssconf_master_node", OTHER_NODE);
        daemon.wait_log("is standby now", 1);
        tree.put_data("ssconf_master_node", NODE);
        daemon.wait_log("is master now", 2);
        tree.put(job.runs(0));
        daemon.wait_done(&["1.0.pre"]);
        daemon.fence();
        assert_eq!(tree.told().len(), 1, "{seconds}: {:?}", tree.told());
        process.kill();
        daemon.wait_done(&["1.0.post"]);
    }
}

#[test]
fn the_failover_window_is_measured_and_not_read_from_a_clock() {
    for seconds in STEPS {
        let tree = Tree::with_log();
        tree.put_data("ssconf_master_node", OTHER_NODE);
        let daemon = start(&tree);
        tree.put(&Job::ended(1));
        daemon.wait_done(&["1.0.post"]);
        step(&tree, seconds);
        tree.put_data("ssconf_master_node", NODE);
        daemon.wait_hooks(2);
        assert_eq!(tree.hook_log().len(), 2, "{seconds}");
    }
}

#[test]
fn jobs_that_end_before_the_first_start_by_a_clock_set_back_are_no_history() {
    let tree = Tree::with_log();
    step(&tree, 3600);
    let daemon = start(&tree);
    fs::remove_file(tree.path("faults")).unwrap();
    tree.put_serial(2);
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    daemon.kill();
    tree.put(&Job::ended(2));
    let daemon = start(&tree);
    daemon.wait_done(&["1.0.post", "2.0.post"]);
    assert_eq!(tree.told().len(), 4);
    let since = tree.cli(&["status"]);
    assert_eq!(since.code, Some(0), "{}", since.out);
}
