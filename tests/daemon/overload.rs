//! More than can be followed: nothing lost, nothing twice, order kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{FENCE, Job, NODE, OTHER_NODE, Tree};

const FIVE: [&str; 5] =
    ["OP_TEST_DELAY", "OP_TAGS_SET", "OP_TEST_DELAY", "OP_CLUSTER_VERIFY", "OP_TEST_DELAY"];

/// What a job of `ops` opcodes that all end well is to tell.
fn all_of(ops: usize) -> Vec<String> {
    (0..ops).flat_map(|op| [format!("{op}.pre"), format!("{op}.post succeeded")]).collect()
}

/// The events of each job, in the order of the feed.
fn by_job(events: &[Value]) -> BTreeMap<i64, Vec<String>> {
    let mut jobs: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for event in events {
        let (job, text) = (event["job"].as_i64().unwrap(), event["event"].as_str().unwrap());
        let (_, key) = text.split_once('.').unwrap();
        let status = event["status"].as_str().map(|status| format!(" {status}")).unwrap_or_default();
        jobs.entry(job).or_default().push(format!("{key}{status}"));
    }
    jobs.retain(|job, _| *job < FENCE);
    jobs
}

#[test]
fn a_burst_for_one_job_is_looked_at_as_one() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::new(1, &FIVE);
    tree.put(&job);
    daemon.fence();
    daemon.stand_still();
    let before = 300;
    for line in 0..before {
        tree.put(job.runs(0).logs(0, &format!("line {line}")));
    }
    for op in 0..FIVE.len() {
        tree.put(job.succeeds(op));
    }
    daemon.signal(Signal::CONT);
    daemon.wait_done(&["1.4.post"]);
    assert_eq!(by_job(&tree.events())[&1], all_of(5));
    let read = daemon.status()["counters"]["versions_read"].as_i64().unwrap();
    assert!(read < before / 2, "{read} versions read");
}

#[test]
fn two_thousand_transitions_as_fast_as_they_can_be_written() {
    const JOBS: i64 = 200;
    let tree = Tree::new();
    for phase in ["pre", "post"] {
        tree.hook(phase, "10-log", "echo $GANETI_HOOKD_EVENT >>LOG");
    }
    let daemon = tree.start();
    let mut jobs: Vec<Job> = (1..=JOBS).map(|id| Job::new(id, &FIVE)).collect();
    for op in 0..FIVE.len() {
        for job in &mut jobs {
            tree.put(job.waits(op));
            tree.put(job.runs(op));
            tree.put(job.succeeds(op));
        }
    }
    let total = JOBS as usize * 2 * FIVE.len();
    daemon.wait_hooks(total);
    daemon.wait_status("all delivered", |status| status["undelivered"] == 0);
    let events = by_job(&tree.events());
    assert_eq!(events.len(), JOBS as usize);
    assert!(events.values().all(|told| *told == all_of(5)));
    // And so did the hooks run.
    let mut ran: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in tree.hook_log() {
        let (job, event) = line.split_once('.').unwrap();
        ran.entry(job.to_owned()).or_default().push(event.to_owned());
    }
    let in_order: Vec<String> = all_of(5).iter().map(|text| text.replace(" succeeded", "")).collect();
    assert_eq!(ran.len(), JOBS as usize);
    assert!(ran.values().all(|events| *events == in_order));
}

/// The number of events that inotify keeps for a reader that does not read.
fn inotify_queue() -> usize {
    fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap()
}

#[test]
fn an_overflow_of_inotify_loses_nothing() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut running = Job::new(1, &FIVE);
    let process = tree.process_of(&mut running);
    tree.put(running.runs(0));
    let mut dies = Job::delay(2);
    let dying = tree.process_of(&mut dies);
    tree.put(dies.runs(0));
    tree.put(&Job::delay(3));
    daemon.wait_done(&["1.0.pre", "2.0.pre"]);

    daemon.stand_still();
    // Each version is four events: created, closed, moved from, moved to.
    for _ in 0..inotify_queue() / 4 + 100 {
        tree.put(&running);
    }
    for op in 0..FIVE.len() {
        tree.put(running.succeeds(op));
    }
    process.exit();
    dying.kill();
    tree.put(&Job::ended(3));
    for id in 4..=40 {
        tree.put(&Job::ended(id));
    }
    for id in 30..=40 {
        tree.archive(id);
    }
    tree.put_serial(40);
    daemon.signal(Signal::CONT);

    daemon.wait("all jobs", |events| by_job(events).len() == 40);
    daemon.fence();
    let events = by_job(&tree.events());
    assert_eq!(events[&1], all_of(5));
    assert_eq!(events[&2], ["0.pre", "0.post disappeared"]);
    assert!((3..=40).all(|id| events[&id] == all_of(1)), "{events:#?}");
    assert!(daemon.status()["counters"]["overflows"].as_i64() >= Some(1));
    let seqs: BTreeSet<i64> = tree.events().iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs.len(), tree.events().len());
}

#[test]
fn a_job_of_ten_thousand_opcodes_is_a_job() {
    const OPS: usize = 10_000;
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::new(1, &vec!["OP_TEST_DELAY"; OPS]);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    for op in 0..OPS {
        job.succeeds(op);
    }
    tree.put(&job);
    daemon.wait_status("all delivered", |status| {
        status["undelivered"] == 0 && status["counters"]["events"] == 2 * OPS
    });
    assert_eq!(by_job(&tree.events())[&1], all_of(OPS));
}

#[test]
fn an_overflow_does_not_hide_a_failover() {
    let tree = Tree::new();
    tree.put_data("ssconf_master_node", OTHER_NODE);
    let daemon = tree.start();
    daemon.stand_still();
    let job = Job::delay(1);
    for _ in 0..inotify_queue() / 4 + 100 {
        tree.put(&job);
    }
    tree.put_data("ssconf_master_node", NODE);
    daemon.signal(Signal::CONT);
    daemon.wait_log("is master now", 1);
}

#[test]
fn of_two_threads_that_hear_of_something_at_once_neither_is_lost_and_nothing_waits() {
    const ROUNDS: i64 = 100;
    let tree = Tree::new();
    for phase in ["pre", "post"] {
        tree.hook(phase, "10-log", "echo $GANETI_HOOKD_EVENT >>LOG");
    }
    let daemon = tree.start();
    for round in 0..ROUNDS {
        let [mut dies, mut ends] = [1, 2].map(|which| Job::delay(2 * round + which));
        let process = tree.process_of(&mut dies);
        tree.put(dies.waits(0));
        tree.put(dies.runs(0));
        tree.put(ends.runs(0));
        // Whether the daemon's thread sleeps, works or leaves it to others is another each time.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(u64::try_from(round).unwrap() * 61 % 4_000) {
            std::hint::spin_loop();
        }
        std::thread::scope(|threads| {
            threads.spawn(|| process.kill());
            tree.put(ends.succeeds(0));
        });
        // Nothing else comes that would wake it.
        daemon.wait_hooks(4 * (usize::try_from(round).unwrap() + 1));
    }
    assert_eq!(daemon.status()["undelivered"], 0);
}
