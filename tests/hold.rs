//! Holding job processes (design, section 5), seen from outside: the real daemon, real
//! processes that stand in for job processes, real hooks.
//!
//! That a process was never stopped is known from the kernel, which tells a parent of
//! each stop, and from the daemon's counters.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "other tests use the rest of it")]
mod harness;

mod hold {
    mod armed;
    mod best_effort;
    mod death;
    mod directories;
    mod exact;
    mod interplay;
    mod limits;
    mod story;
    mod verified;

    use std::fs;

    use rustix::process::Pid;
    use serde_json::{Value, json};

    use crate::harness::job_process::JobProcess;
    use crate::harness::process::Daemon;
    use crate::harness::{Job, Tree, wait_for};

    /// Waits until the test opens the gate of this job; fences pass.
    pub const GATE: &str =
        "[ $GANETI_JOB_ID -ge 900 ] || until [ -e DIR/gate-$GANETI_JOB_ID ]; do sleep 0.01; done";

    /// A master that holds jobs; its pre hook waits at a gate.
    pub fn master() -> Tree {
        let tree = Tree::new();
        tree.set("hooks.pre", "\"hold\"");
        tree.log_hook("pre", "10-log", GATE);
        tree.log_hook("post", "10-log", "");
        tree
    }

    pub fn open_gate(tree: &Tree, job: i64) {
        fs::write(tree.path(&format!("gate-{job}")), "").unwrap();
    }

    /// A job with a process, which waits for locks.
    pub fn waiting(tree: &Tree, id: i64) -> (Job, JobProcess) {
        waiting_with(tree, Job::delay(id))
    }

    /// The same, and the kernel is to stop the process when it publishes its next version.
    pub fn armed(tree: &Tree, daemon: &Daemon<'_>, id: i64) -> (Job, JobProcess) {
        let (job, process) = waiting(tree, id);
        daemon.wait_armed(&process);
        (job, process)
    }

    /// The same for a job of any kind.
    pub fn waiting_with(tree: &Tree, mut job: Job) -> (Job, JobProcess) {
        tree.put(&job);
        let process = tree.process_of(&mut job);
        tree.put(job.waits(0));
        (job, process)
    }

    /// A job that is held before its first opcode, its pre hook waiting at the gate.
    pub fn held(tree: &Tree, daemon: &Daemon<'_>, id: i64) -> (Job, JobProcess) {
        let (mut job, process) = armed(tree, daemon, id);
        tree.put(job.runs(0));
        process.wait_stopped();
        daemon.wait_log(&format!("{id}.0.pre"), 1);
        wait_begun(tree, &format!("10-log {id}.0.pre"));
        (job, process)
    }

    /// Waits until the hooks' log has a line that begins so.
    pub fn wait_begun(tree: &Tree, line: &str) {
        let is_there = || tree.hook_log().iter().any(|logged| logged.starts_with(line)).then_some(());
        wait_for(is_there, || format!("{line} in {:#?}\n{}", tree.hook_log(), tree.log()));
    }

    /// `holds`, `holds_late`, `holds_missed` and `holds_timed_out`.
    pub fn counters(daemon: &Daemon<'_>) -> [Value; 4] {
        let counters = &daemon.status()["counters"];
        ["holds", "holds_late", "holds_missed", "holds_timed_out"].map(|name| counters[name].clone())
    }

    /// The daemon's guard, once there is one.
    pub fn guard(daemon: &Daemon<'_>) -> Pid {
        let stat = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let prefix = format!(" {} ", daemon.pid().as_raw_nonzero());
        let is_guard = |pid: &i32| {
            stat(*pid).split_once("(hookd-guard) S").is_some_and(|(_, rest)| rest.starts_with(&prefix))
        };
        let find = || {
            let entries = fs::read_dir("/proc").unwrap().flatten();
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_guard)
        };
        Pid::from_raw(wait_for(find, || format!("the guard\n{}", daemon.log()))).unwrap()
    }

    /// Makes sure that a job's process has never been stopped, and nothing else either.
    pub fn assert_never_stopped(daemon: &Daemon<'_>, process: &JobProcess) {
        assert!(!process.has_been_stopped());
        assert_eq!(counters(daemon)[0], json!(0), "{}", daemon.log());
    }
}
