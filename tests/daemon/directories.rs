//! Watched directories that go and come back.

use std::fs;
use std::time::Duration;

use crate::harness::{Daemon, Job, NODE, OTHER_NODE, Tree, wait_for};

/// How long the daemon's main thread has run, and how often it began to (Linux:
/// `/proc/PID/schedstat`).
fn work_done(daemon: &Daemon<'_>) -> String {
    fs::read_to_string(format!("/proc/{}/schedstat", daemon.pid().as_raw_nonzero())).unwrap()
}

/// Waits until nothing wakes the daemon for a while, which one that spins or looks again
/// and again never comes to. This is the one place where time is what is tested.
pub fn wait_idle(daemon: &Daemon<'_>) {
    let is_idle = || {
        let before = work_done(daemon);
        std::thread::sleep(Duration::from_millis(300));
        (work_done(daemon) == before).then_some(())
    };
    wait_for(is_idle, || format!("300 ms without work: {}", work_done(daemon)));
}

#[test]
fn a_queue_that_is_removed_and_made_again_is_watched_again() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.runs(0));
    tree.put(&Job::ended(2));
    daemon.wait_done(&["1.0.pre", "2.0.post"]);
    let told = tree.told().len();
    fs::remove_dir_all(tree.path("queue")).unwrap();
    daemon.wait_log("a watched directory was removed", 1);
    let status = daemon.wait_status("a problem", |status| status["problems"] != serde_json::json!([]));
    let queue = tree.path("queue").display().to_string();
    assert!(status["problems"][0].as_str().unwrap().contains(&queue), "{status}");

    fs::create_dir_all(tree.path("queue/archive")).unwrap();
    tree.put(job.succeeds(0));
    tree.put(&Job::ended(3));
    daemon.wait_done(&["1.0.post", "3.0.post"]);
    daemon.wait_status("no problem", |status| status["problems"] == serde_json::json!([]));
    tree.run_through(&mut Job::delay(4));
    daemon.wait_done(&["4.0.post"]);
    assert_eq!(tree.told().len(), told + 1 + 2 + 2, "{:#?}", tree.told());
    wait_idle(&daemon);
}

#[test]
fn a_queue_that_is_moved_away_is_not_the_queue() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    fs::rename(tree.path("queue"), tree.path("queue.old")).unwrap();
    daemon.wait_log("a watched directory was removed", 1);
    fs::create_dir_all(tree.path("queue/archive")).unwrap();
    fs::copy(tree.path("queue.old/job-1"), tree.job_path(1)).unwrap();
    // What happens in the old place is nobody's business.
    fs::write(tree.path("queue.old/job-7"), Job::ended(7).text()).unwrap();
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told().len(), 4, "{:#?}", tree.told());
    wait_idle(&daemon);
}

#[test]
fn a_queue_that_comes_after_the_daemon_is_found() {
    let tree = Tree::new();
    fs::remove_dir_all(tree.path("queue")).unwrap();
    let daemon = tree.start();
    fs::create_dir_all(tree.path("queue/archive")).unwrap();
    daemon.wait_status("no problem", |status| status["problems"] == serde_json::json!([]));
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    wait_idle(&daemon);
}

#[test]
fn the_first_jobs_of_a_cluster_that_is_made_after_the_daemon_are_no_history() {
    let tree = Tree::with_log();
    // An old queue that is only put back is history still.
    let old = Job::ended(1).text();
    fs::remove_dir_all(tree.path("queue")).unwrap();
    let daemon = tree.start();
    fs::create_dir_all(tree.path("new/archive")).unwrap();
    fs::write(tree.path("new/job-1"), old).unwrap();
    fs::write(tree.path("new/job-2"), Job::ended(2).text()).unwrap();
    fs::write(tree.path("new/serial"), "2\n").unwrap();
    fs::rename(tree.path("new"), tree.path("queue")).unwrap();
    daemon.wait_done(&["2.0.post"]);
    daemon.wait_status("no problem", |status| status["problems"] == serde_json::json!([]));
    tree.put(&Job::ended(3));
    daemon.wait_done(&["3.0.post"]);
    let told = tree.told();
    assert!(!told.iter().any(|event| event.starts_with("1.")), "{told:#?}");
    assert_eq!(told.len(), 4, "{told:#?}");
}

#[test]
fn a_data_directory_that_is_replaced_may_name_another_master() {
    let tree = Tree::new();
    let daemon = tree.start();
    fs::rename(tree.path("data"), tree.path("data.old")).unwrap();
    fs::create_dir(tree.path("data")).unwrap();
    tree.put_data("ssconf_master_node", OTHER_NODE);
    daemon.wait_log("is standby now", 1);
    // And what is renamed into the new one is heard.
    tree.put_data("ssconf_master_node", NODE);
    daemon.wait_log("is master now", 2);
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.event("1.0.post")["state"], "done");
    wait_idle(&daemon);
}

#[test]
fn a_daemon_with_nothing_to_do_does_nothing() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    let _process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    wait_idle(&daemon);
}

#[test]
fn one_directory_may_be_queue_and_data_directory() {
    let tree = Tree::new();
    let one = tree.path("queue");
    tree.set("paths.data-dir", &format!("{one:?}"));
    let put_master = |name: &str| {
        fs::write(one.join("ssconf_master_node.new"), name).unwrap();
        fs::rename(one.join("ssconf_master_node.new"), one.join("ssconf_master_node")).unwrap();
    };
    put_master(OTHER_NODE);
    let daemon = tree.start();
    put_master(NODE);
    daemon.wait_log("is master now", 1);
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
}
