//! The kernel stops a job process inside the rename that publishes its opcode.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{GATE, armed, counters, held, master, open_gate, wait_begun, waiting};
use crate::harness::job_process::JobProcess;
use crate::harness::{Job, Tree, wait_for};

/// How many jobs are held, one after the other.
const JOBS: i64 = 50;

#[test]
fn no_opcode_begins_before_its_pre_hooks_have_ended() {
    let tree = master();
    let daemon = tree.start();
    for id in 1..=JOBS {
        let (mut job, process) = armed(&tree, &daemon, id);
        let before = process.publisher().ran_on();
        tree.put(job.runs(0));
        wait_begun(&tree, &format!("10-log {id}.0.pre - late=no"));
        assert_eq!((process.state(), process.publisher().ran_on()), ('T', before), "job {id}");
        open_gate(&tree, id);
        wait_for(|| (process.publisher().ran_on() > before).then_some(()), || format!("job {id} goes on"));
        assert!(tree.hook_log().contains(&format!("end 10-log {id}.0.pre")));
        tree.put(job.succeeds(0));
        process.exit();
    }
    assert_eq!(counters(&daemon), [JOBS, 0, 0, 0].map(|n| json!(n)));
    assert_eq!(daemon.status()["counters"]["holds_exact"], json!(JOBS));
    daemon.wait_done(&[&format!("{JOBS}.0.post")]);
    for event in tree.events() {
        let held = event["held"].as_f64().unwrap_or_default();
        assert!(held > 0.0 && held < 60.0, "pre and post tell how long the job stood still: {event}");
    }
    let said = tree.cli(&["status"]).out;
    let counted = format!("{JOBS} held, {JOBS} exactly, 0 late, 0 missed, 0 armed now");
    assert!(said.contains("holds      exact (") && said.contains(&counted), "{said}");
    assert!(tree.cli(&["check"]).out.contains("ok    hold           exact: "));
    let metrics = tree.cli(&["status", "--metrics"]).out;
    assert!(metrics.contains(&format!("\nganeti_hookd_holds_exact_total {JOBS}\n")), "{metrics}");
}

#[test]
fn a_version_that_is_not_running_does_not_keep_the_job() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let before = process.publisher().ran_on();
            let begin = Instant::now();
            tree.put(job.logs(0, "waits"));
            let ran_on = || (process.publisher().ran_on() > before).then_some(());
            wait_for(ran_on, || "it goes on".to_owned());
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("from being told to having published: p50 {:?}, most {:?}", times[50], times[99]);
    assert!(times[50] < Duration::from_millis(50), "{times:?}");
    assert_eq!(counters(&daemon), [0, 0, 0, 0].map(|n| json!(n)));
    // And it is armed as before.
    tree.put(job.runs(0));
    wait_begun(&tree, "10-log 1.0.pre - late=no");
    open_gate(&tree, 1);
    process.wait_going();
}

/// A master with a second pre hook.
fn master_with_two() -> Tree {
    let tree = master();
    tree.log_hook("pre", "20-after", "");
    tree
}

/// The second hook says that it is late, since the job has gone on.
fn says_that_it_is_late(tree: &Tree, process: &JobProcess) {
    process.wait_going();
    open_gate(tree, 1);
    wait_begun(tree, "20-after 1.0.pre - late=yes attempt=1");
    assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=no attempt=1");
}

#[test]
fn what_begins_after_somebody_has_let_the_job_go_on_is_late() {
    let tree = master_with_two();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    process.signal(Signal::CONT);
    says_that_it_is_late(&tree, &process);
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(tree.told(), ["1.0.pre late"]);
    assert_eq!(counters(&daemon), [1, 1, 0, 0].map(|n| json!(n)));
}

#[test]
fn what_begins_after_release_is_late() {
    let tree = master_with_two();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    assert_eq!(tree.cli(&["release"]).code, Some(0));
    says_that_it_is_late(&tree, &process);
    daemon.wait_done(&["1.0.pre"]);
}

#[test]
fn one_that_went_on_and_was_stopped_again_elsewhere_is_late() {
    let tree = master_with_two();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    let before = process.publisher().ran_on();
    process.signal(Signal::CONT);
    wait_for(|| (process.publisher().ran_on() > before).then_some(()), || "it goes on".to_owned());
    process.signal(Signal::STOP);
    process.wait_stopped();
    open_gate(&tree, 1);
    wait_begun(&tree, "20-after 1.0.pre - late=yes attempt=1");
    daemon.wait_done(&["1.0.pre"]);
    process.wait_going();
}

#[test]
fn the_first_job_after_the_first_hook_was_installed_is_held() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    let daemon = tree.start();
    tree.log_hook("pre", "10-log", GATE);
    let (_, process) = held(&tree, &daemon, 1);
    wait_begun(&tree, "10-log 1.0.pre - late=no");
    assert_eq!(daemon.status()["counters"]["holds_exact"], json!(1));
    open_gate(&tree, 1);
    process.wait_going();
}

#[test]
fn the_first_job_of_a_cluster_that_was_made_after_the_daemon_had_started_is_held() {
    let tree = master();
    fs::rename(tree.path("queue"), tree.path("not-yet")).unwrap();
    let daemon = tree.start();
    daemon.wait_log("jobs are held as well as can be, not exactly", 1);
    fs::rename(tree.path("not-yet"), tree.path("queue")).unwrap();
    daemon.wait_status("it is exact", |status| status["hold_exact"] == true);
    let (_, process) = held(&tree, &daemon, 1);
    wait_begun(&tree, "10-log 1.0.pre - late=no");
    open_gate(&tree, 1);
    process.wait_going();
}

#[test]
fn a_job_that_waits_when_the_daemon_starts_is_held() {
    let tree = master();
    tree.start().stop();
    let (mut job, process) = waiting(&tree, 1);
    let daemon = tree.start();
    daemon.wait_armed(&process);
    tree.put(job.runs(0));
    wait_begun(&tree, "10-log 1.0.pre - late=no");
    open_gate(&tree, 1);
    process.wait_going();
}

/// Waits until the daemon pauses at this point.
fn wait_paused(tree: &Tree, point: &str) {
    let is_there = || fs::read_to_string(tree.path("faults.paused")).is_ok_and(|at| at == point);
    wait_for(|| is_there().then_some(()), || format!("a pause at {point}\n{}", tree.log()));
}

#[test]
fn one_that_published_its_opcode_before_it_was_armed_is_not_in_time_by_a_later_version() {
    let tree = master();
    let daemon = tree.start();
    tree.faults("pause hold.before-arm 400\npause hold.armed 400\n");
    let (mut job, process) = waiting(&tree, 1);
    wait_paused(&tree, "hold.before-arm");
    // The daemon has read that the job waits, and is about to arm its process.
    tree.put(job.runs(0));
    while process.state() != 'T' {
        tree.put(job.logs(0, "has begun"));
    }
    wait_begun(&tree, "10-log 1.0.pre - late=yes");
    assert_eq!(daemon.status()["counters"]["holds_exact"], json!(0), "{}", tree.log());
    open_gate(&tree, 1);
    process.wait_going();
}

#[test]
fn one_that_began_its_opcode_after_it_was_armed_is_in_time_whatever_it_had_published_before() {
    let tree = master();
    let daemon = tree.start();
    tree.faults("pause hold.before-arm 400\npause hold.armed 400\n");
    let (mut job, process) = waiting(&tree, 1);
    wait_paused(&tree, "hold.before-arm");
    tree.put(job.logs(0, "still waits"));
    wait_paused(&tree, "hold.armed");
    // The daemon has not read that.
    tree.put(job.runs(0));
    wait_begun(&tree, "10-log 1.0.pre - late=no");
    assert_eq!(daemon.status()["counters"]["holds_exact"], json!(1), "{}", tree.log());
    open_gate(&tree, 1);
    process.wait_going();
}

#[test]
fn what_was_published_while_an_older_version_was_read_is_read_before_the_job_goes_on() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    tree.faults("pause hold.judged 300\n");
    tree.put_by_luxid(job.logs(0, "of another priority"));
    wait_paused(&tree, "hold.judged");
    // The daemon has read that the job waits, and will say that it may go on.
    tree.put(job.runs(0));
    assert_eq!(process.state(), 'T');
    wait_begun(&tree, "10-log 1.0.pre - late=no");
    tree.faults("");
    open_gate(&tree, 1);
    process.wait_going();
}

#[test]
fn nothing_is_attached_while_no_job_may_begin() {
    let tree = master();
    open_gate(&tree, 1);
    let daemon = tree.start();
    daemon.fence();
    let links = || {
        let dir = fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid().as_raw_nonzero())).unwrap();
        let texts = dir.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
        texts.filter(|text| text.contains("link_type:")).count()
    };
    let (mut job, process): (Job, _) = armed(&tree, &daemon, 1);
    assert!(daemon.status()["hold_attached"] == json!(true));
    let attached = links();
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    process.wait_going();
    tree.put(job.succeeds(0));
    process.exit();
    daemon.wait_status("nothing is attached", |status| status["hold_attached"] == json!(false));
    // By a perf event where there is no link.
    wait_for(|| (links() == 0).then_some(()), || format!("{attached} links, {}", links()));
}
