//! Job files that are so large that they are read aside.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Daemon, Job, Tree, wait_for};

/// A job whose file has 3 MiB, for the sake of its log.
fn large_job(id: i64) -> Job {
    let mut job = Job::new(id, &["OP_TEST_DELAY", "OP_TAGS_SET"]);
    job.logs(0, &"x".repeat(3 * 1024 * 1024));
    job
}

#[test]
fn a_large_job_is_told_as_any_other() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = large_job(1);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put(job.succeeds(0).runs(1));
    daemon.wait_done(&["1.0.post", "1.1.pre"]);
    process.kill();
    daemon.wait_done(&["1.1.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post succeeded", "1.1.pre", "1.1.post disappeared"]);
}

#[test]
fn what_a_large_job_wrote_before_its_process_ended_is_not_taken_for_the_last_word() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    for id in 1..=10 {
        let mut job = large_job(id);
        let process = tree.process_of(&mut job);
        tree.put(job.runs(0));
        daemon.wait_done(&[&format!("{id}.0.pre")]);
        // Read while it is being replaced, and the process ends before that is over.
        tree.put(job.logs(0, "more"));
        tree.put(job.succeeds(0).succeeds(1));
        process.exit();
        daemon.wait_done(&[&format!("{id}.1.post")]);
    }
    let expected = (1..=10).flat_map(|id| {
        ["0.pre", "0.post succeeded", "1.pre", "1.post succeeded"].map(|event| format!("{id}.{event}"))
    });
    assert_eq!(tree.told(), expected.collect::<Vec<_>>());
}

#[test]
fn a_large_job_that_never_rests_is_told_and_others_are_not_kept_waiting() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = large_job(1);
    let process = tree.process_of(&mut job);
    let (text, new, path) = (job.runs(0).text(), tree.path("new"), tree.job_path(1));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                fs::write(&new, &text).unwrap();
                fs::rename(&new, &path).unwrap();
            }
        });
        daemon.wait_done(&["1.0.pre"]);
        for id in 2..=20 {
            tree.put(&Job::ended(id));
        }
        daemon.wait_done(&["20.0.post"]);
        process.kill();
        over.store(true, Ordering::Release);
    });
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.event("1.0.post")["status"], "disappeared");
    assert_eq!(tree.told().len(), 2 + 19 * 2);
}

/// Puts a version in which the job executes, and another in which it has ended while the
/// daemon reads the first.
fn overtake(tree: &Tree, daemon: &Daemon<'_>, job: &mut Job) {
    let end = job.runs(0).clone().succeeds(0).succeeds(1).text();
    fs::write(tree.path("end"), end).unwrap();
    tree.put(job.logs(0, &"x".repeat(24 * 1024 * 1024)));
    let pre = format!("{}.0.pre", job.id);
    let is_read = || tree.told().iter().any(|event| event.starts_with(&pre));
    wait_for(|| (is_reading(daemon) || is_read()).then_some(()), || daemon.log());
    fs::rename(tree.path("end"), tree.job_path(job.id)).unwrap();
}

/// Whether the thread that reads large files has something to do.
fn is_reading(daemon: &Daemon<'_>) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid().as_raw_nonzero())).unwrap();
    let stats = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.into_iter().any(|stat| stat.contains("(large-files)") && !stat.contains(") S "))
}

#[test]
fn a_version_from_before_the_end_of_a_process_does_not_tell_of_a_death() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    for id in 1..=6 {
        let mut job = large_job(id);
        let process = tree.process_of(&mut job);
        if id % 2 == 0 {
            tree.put(job.waits(0));
            daemon.wait_status("its process", |status| status["processes_watched"] == 1);
        }
        overtake(&tree, &daemon, &mut job);
        process.exit();
        daemon.wait_done(&[&format!("{id}.1.post")]);
    }
    let expected = (1..=6).flat_map(|id| {
        ["0.pre", "0.post succeeded", "1.pre", "1.post succeeded"].map(|event| format!("{id}.{event}"))
    });
    assert_eq!(tree.told(), expected.collect::<Vec<_>>());
}

#[test]
fn a_job_that_went_on_while_its_file_was_read_is_not_held() {
    let tree = Tree::with_log();
    tree.set("hooks.pre", "\"hold\"");
    let daemon = tree.start();
    let is_said = || daemon.logged("is not held: it went on while its file was read") > 0;
    // One whose first version is read in time is held.
    for id in (1..=10).take_while(|_| !is_said()) {
        let mut job = large_job(id);
        let _process = tree.process_of(&mut job);
        tree.put(job.waits(0));
        daemon.wait_status("its process", |status| status["processes_watched"] == 1);
        let holds = || daemon.status()["counters"]["holds"].as_i64().unwrap();
        let before = holds();
        overtake(&tree, &daemon, &mut job);
        daemon.wait_done(&[&format!("{id}.1.post")]);
        // Its other opcode may have been held.
        assert!(!is_said() || holds() <= before + 1, "{}", daemon.log());
    }
    assert!(is_said(), "{}", daemon.log());
}

#[test]
fn a_large_job_is_told_to_its_end_out_of_the_archive() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = large_job(1);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    // Its last version is never seen in the queue.
    fs::create_dir_all(tree.path("queue/archive/0")).unwrap();
    fs::write(tree.path("queue/archive/0/job-1"), job.succeeds(0).succeeds(1).text()).unwrap();
    fs::remove_file(tree.job_path(1)).unwrap();
    daemon.wait_done(&["1.1.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post succeeded", "1.1.pre", "1.1.post succeeded"]);
}
