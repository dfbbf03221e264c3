//! Only a verified job process is ever signalled.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use super::{armed, assert_never_stopped, counters, held, master, open_gate};
use crate::harness::job_process::JobProcess;
use crate::harness::{Job, PROGRAM, Tree};

/// A user that is neither root nor the queue's owner.
const NOBODY: u32 = 65_534;

/// Has the job's opcode execute, and waits until its pre, which came too late, is over.
fn runs_late(tree: &Tree, job: &mut Job) -> [serde_json::Value; 4] {
    open_gate(tree, job.id);
    let daemon = tree.start();
    tree.put(job.waits(0));
    tree.put(job.runs(0));
    daemon.wait_done(&[&format!("{}.0.pre", job.id)]);
    let log = tree.hook_log();
    assert_eq!(log[0], format!("10-log {}.0.pre - late=yes attempt=1", job.id));
    counters(&daemon)
}

#[test]
fn a_process_that_only_the_job_file_names_is_not_stopped() {
    let tree = master();
    let mut job = Job::delay(1);
    let victim = JobProcess::start(&tree.path("not-a-livelock"));
    let owner = JobProcess::start(&tree.livelock("job_000001_1795366000"));
    job.process(tree.livelock("job_000001_1795366000").display(), Some(victim.pid()));
    assert_eq!(runs_late(&tree, &mut job), [0, 0, 1, 0].map(|n| json!(n)));
    assert!(!victim.has_been_stopped() && !owner.has_been_stopped());
}

#[test]
fn a_livelock_elsewhere_or_of_another_kind_proves_nothing() {
    for livelock in ["job_000001_1795366000", "run/livelocks/luxi-daemon_1795366000"] {
        let tree = master();
        let mut job = Job::delay(1);
        let process = JobProcess::start(&tree.path(livelock));
        job.process(tree.path(livelock).display(), Some(process.pid()));
        assert_eq!(runs_late(&tree, &mut job)[0], json!(0));
        assert!(!process.has_been_stopped());
    }
}

#[test]
fn a_process_that_started_after_its_job_is_not_stopped() {
    let tree = master();
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    job.waits(0);
    let started = job.file["start_timestamp"][0].as_i64().unwrap();
    job.file["start_timestamp"][0] = json!(started - 60);
    assert_eq!(runs_late(&tree, &mut job), [0, 0, 1, 0].map(|n| json!(n)));
    assert!(!process.has_been_stopped());
}

/// A copy of the program that everybody may run, in a tree that everybody may enter.
fn program_for_everybody(tree: &Tree, mode: u32) -> Command {
    for (dir, mode) in [("", 0o711), ("run", 0o711), ("run/livelocks", 0o777)] {
        fs::set_permissions(tree.path(dir), Permissions::from_mode(mode)).unwrap();
    }
    let program = tree.path("program");
    fs::copy(PROGRAM, &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
    Command::new(program)
}

#[test]
fn a_process_of_another_user_is_not_stopped() {
    // Another user's process takes root to start. One whose program its user may not
    // read seems to be root's by the owner of its directory in /proc.
    let is_root = rustix::process::getuid().is_root();
    for mode in [0o755, 0o711].into_iter().filter(|_| is_root) {
        let tree = master();
        let mut job = Job::delay(1);
        let livelock = tree.livelock("job_000001_1795366000");
        let mut program = program_for_everybody(&tree, mode);
        let process = JobProcess::start_by(program.uid(NOBODY).current_dir("/"), &livelock);
        job.process(livelock.display(), Some(process.pid()));
        assert_eq!(runs_late(&tree, &mut job), [0, 0, 1, 0].map(|n| json!(n)));
        assert!(!process.has_been_stopped());
        assert!(tree.log().contains("it belongs to user 65534, the queue to user 0"), "{}", tree.log());
    }
}

#[test]
fn a_process_of_the_queues_owner_is_held() {
    if !rustix::process::getuid().is_root() {
        // Then every test here is one of a queue that is not root's.
        return;
    }
    let tree = master();
    let livelock = tree.livelock("job_000001_1795366000");
    let mut program = program_for_everybody(&tree, 0o755);
    std::os::unix::fs::chown(tree.path("queue"), Some(NOBODY), None).unwrap();
    let process = JobProcess::start_by(program.uid(NOBODY).current_dir("/"), &livelock);
    tree.publishes(&process, 1);
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.process(livelock.display(), Some(process.pid())).waits(0));
    daemon.wait_armed(&process);
    tree.put(job.runs(0));
    process.wait_stopped();
    open_gate(&tree, 1);
    process.wait_going();
    assert_eq!(counters(&daemon)[0], json!(1));
}

#[test]
fn a_process_that_an_administrator_has_stopped_is_theirs() {
    let tree = master();
    open_gate(&tree, 1);
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    process.signal(Signal::STOP);
    process.wait_stopped();
    assert!(process.has_been_stopped());
    tree.put_by_luxid(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    assert_never_stopped(&daemon, &process);
    assert_eq!(tree.hook_log()[0], "10-log 1.0.pre - late=yes attempt=1");
    assert_eq!(tree.cli(&["release"]).out, "");
    daemon.kill();
    assert_eq!(tree.cli(&["release"]).out, "");
    let daemon = tree.start();
    daemon.fence();
    daemon.stop();
    assert_eq!(process.state(), 'T');
}

#[test]
fn a_job_file_that_names_another_process_does_not_keep_the_held_one() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = held(&tree, &daemon, 1);
    let other = JobProcess::start(&tree.livelock("job_000001_other"));
    tree.put_by_luxid(job.process(tree.livelock("job_000001_other").display(), Some(other.pid())));
    daemon.fence();
    assert_eq!(process.state(), 'T');
    open_gate(&tree, 1);
    process.wait_going();
    assert!(!other.has_been_stopped());
}
