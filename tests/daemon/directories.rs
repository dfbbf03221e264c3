//! Watched directories that go and come back.

use std::fs;
use std::time::Duration;

use crate::harness::{Daemon, Job, NODE, OTHER_NODE, Tree};

/// How often the daemon's main thread has given up the processor.
fn naps(daemon: &Daemon<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero())).unwrap();
    let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
    counts.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum()
}

/// Looks on for a while: nobody wakes a daemon that has nothing to do. This is the one
/// place where time is what is tested.
fn assert_idle(daemon: &Daemon<'_>) {
    let before = naps(daemon);
    std::thread::sleep(Duration::from_millis(300));
    let after = naps(daemon);
    assert!(after - before <= 2, "it woke up {} times in 300 ms", after - before);
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
    assert_idle(&daemon);
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
    assert_idle(&daemon);
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
    assert_idle(&daemon);
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
    assert_idle(&daemon);
}

#[test]
fn a_daemon_with_nothing_to_do_does_nothing() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    let _process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    assert_idle(&daemon);
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
