//! The daemon, its guard, or both are gone.

use std::fs;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use super::{armed, counters, guard, held, master, open_gate, wait_begun, waiting};
use crate::harness::job_process::JobProcess;
use crate::harness::process::Daemon;
use crate::harness::{Tree, wait_for};

/// How often the daemon is killed, unless `HOLD_KILLS` says otherwise.
const KILLS: i64 = 20;

/// Kills the daemon and its guard as one. (A guard that stands still would go on when the
/// daemon ends: the kernel sees to that in a process group that nobody is left to mind.)
fn kill_both(daemon: Daemon<'_>) {
    let guard = guard(&daemon);
    daemon.stand_still();
    kill_process(guard, Signal::KILL).unwrap();
    daemon.kill();
    wait_gone(guard);
}

fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

pub fn wait_gone(pid: Pid) {
    wait_for(|| is_gone(pid).then_some(()), || format!("the end of {pid:?}"));
}

/// Waits until the guard is gone. Returns how long the process stood still at a time.
pub fn stood_still_until_gone(guard: Pid, process: &JobProcess) -> Duration {
    let (mut since, mut longest) = (None, Duration::ZERO);
    let mut look = || {
        if process.state() == 'T' {
            longest = longest.max(since.get_or_insert_with(Instant::now).elapsed());
        } else {
            since = None;
        }
        is_gone(guard).then_some(())
    };
    wait_for(&mut look, || format!("the end of {guard:?}"));
    process.wait_going();
    longest.max(since.map_or(Duration::ZERO, |since| since.elapsed()))
}

#[test]
fn whenever_the_daemon_is_killed_every_job_goes_on() {
    let kills = std::env::var("HOLD_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let tree = master();
    let mut longest = Duration::ZERO;
    let mut held = 0;
    for id in 1..=kills {
        let daemon = tree.start();
        let (mut job, process) = armed(&tree, &daemon, id);
        tree.put(job.runs(0));
        if id % 2 == 0 {
            process.wait_stopped();
        } else {
            // At any moment, also in the middle of it.
            let moment = Instant::now() + Duration::from_micros(u64::try_from(id).unwrap() * 97 % 2500);
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
        }
        let guard = guard(&daemon);
        daemon.kill();
        // With the guard the last one is gone that could have stopped it, and the kernel has
        // forgotten what the daemon attached.
        longest = longest.max(stood_still_until_gone(guard, &process));
        assert_ne!(process.state(), 'T');
        held += i32::from(process.has_been_stopped());
        process.exit();
        open_gate(&tree, id);
    }
    println!(
        "{kills} daemons killed, {held} jobs were held, the longest stood still for {longest:?} afterwards"
    );
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(i64::from(held) >= kills / 2);
}

#[test]
fn a_daemon_that_aborts_leaves_no_job_held() {
    let tree = master();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    daemon.signal(Signal::ABORT);
    process.wait_going();
}

#[test]
fn release_lets_go_what_daemon_and_guard_have_left() {
    let tree = master();
    let daemon = tree.start();
    let (_, first) = held(&tree, &daemon, 1);
    let (_, second) = held(&tree, &daemon, 2);
    open_gate(&tree, 2);
    second.wait_going();
    kill_both(daemon);
    second.signal(Signal::STOP);
    second.wait_stopped();
    assert_eq!(first.state(), 'T');
    let said = tree.cli(&["release"]);
    assert_eq!(said.out, format!("process {} goes on\n", first.pid()));
    first.wait_going();
    assert_eq!(second.state(), 'T', "an administrator stopped it");
    assert_eq!((tree.cli(&["release"]).out, said.code), (String::new(), Some(0)));
}

#[test]
fn the_next_start_lets_go_what_daemon_and_guard_have_left() {
    let tree = master();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    kill_both(daemon);
    assert_eq!(process.state(), 'T');
    let daemon = tree.start();
    process.wait_going();
    assert_eq!(daemon.logged("an earlier daemon left job processes stopped"), 1);
    open_gate(&tree, 1);
}

#[test]
fn release_ends_the_holds_of_a_daemon_that_runs() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = held(&tree, &daemon, 1);
    assert_eq!(tree.cli(&["release"]).out, format!("process {} goes on\n", process.pid()));
    process.wait_going();
    tree.put(job.succeeds(0));
    process.exit();
    open_gate(&tree, 1);
    daemon.wait_done(&["1.0.post"]);
    let (_, process) = held(&tree, &daemon, 2);
    open_gate(&tree, 2);
    process.wait_going();
}

#[test]
fn without_its_guard_the_daemon_lets_go_and_starts_another() {
    let tree = master();
    tree.log_hook("pre", "20-after", "");
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    let first = guard(&daemon);
    kill_process(first, Signal::KILL).unwrap();
    process.wait_going();
    assert!(test_kill_process(first).is_err(), "it is waited for");
    open_gate(&tree, 1);
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(tree.hook_log()[2], "20-after 1.0.pre - late=yes attempt=1");
    let (_, process) = held(&tree, &daemon, 2);
    assert_ne!(guard(&daemon), first);
    open_gate(&tree, 2);
    process.wait_going();
}

#[test]
fn after_a_restart_no_job_is_stopped_again_for_the_same_opcode() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = held(&tree, &daemon, 1);
    daemon.kill();
    process.wait_going();
    assert!(process.has_been_stopped());
    let daemon = tree.start();
    wait_begun(&tree, "10-log 1.0.pre - late=yes attempt=2");
    tree.put(job.logs(0, "goes on"));
    daemon.fence();
    assert!(!process.has_been_stopped());
    assert_eq!(counters(&daemon)[0], json!(0));
    assert_eq!(tree.told(), ["1.0.pre late"]);
    open_gate(&tree, 1);
    // For the next opcode it is.
    daemon.wait_done(&["1.0.pre"]);
}

#[test]
fn what_began_while_the_daemon_was_down_is_not_stopped() {
    let tree = master();
    open_gate(&tree, 1);
    tree.start().stop();
    let (mut job, process) = waiting(&tree, 1);
    tree.put(job.runs(0));
    let daemon = tree.start();
    daemon.wait_done(&["1.0.pre"]);
    assert!(!process.has_been_stopped());
    assert_eq!(tree.hook_log(), ["10-log 1.0.pre - late=yes attempt=1", "end 10-log 1.0.pre"]);
}

#[test]
fn the_guard_ends_with_the_daemon() {
    let tree: Tree = master();
    let daemon = tree.start();
    let guard = guard(&daemon);
    assert!(daemon.stop().0.success());
    wait_gone(guard);
}

#[test]
fn of_many_jobs_that_go_on_at_once_each_does_whenever_the_daemon_dies() {
    const JOBS: i64 = 24;
    for (point, visit) in
        [("hold.before-go-on", 1), ("hold.gone-on", 1), ("hold.gone-on", 12), ("hold.gone-on", 24)]
    {
        let tree = Tree::new();
        tree.set("hooks.pre", "\"hold\"");
        tree.log_hook("pre", "10-log", "[ $GANETI_JOB_ID -ge 900 ] || : <DIR/gate");
        let gate = tree.path("gate");
        mkfifoat(CWD, &gate, Mode::from_raw_mode(0o600)).unwrap();
        let daemon = tree.start();
        let jobs: Vec<_> = (1..=JOBS).map(|id| held(&tree, &daemon, id)).collect();
        assert_eq!(counters(&daemon), [JOBS, 0, 0, 0].map(|n| json!(n)));
        assert!(tree.hook_log().iter().all(|line| !line.contains("late=yes")), "{:#?}", tree.hook_log());
        tree.faults(&format!("die {point} {visit}\n"));
        // For all of them: who opens it for reading waits for this.
        let _open = fs::File::options().read(true).write(true).open(&gate).unwrap();
        jobs.iter().for_each(|(_, process)| process.wait_going());
        wait_for(|| tree.path("faults.died").exists().then_some(()), || tree.log());
        drop(daemon);
        let daemon = tree.start();
        let events: Vec<String> = (1..=JOBS).map(|id| format!("{id}.0.pre")).collect();
        daemon.wait_done(&events.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(daemon.status()["held"], json!([]));
        assert!(jobs.iter().all(|(_, process)| process.state() != 'T'));
    }
}

#[test]
fn a_daemon_that_hung_before_it_stops_a_job_keeps_it_no_longer() {
    for end in ["die hold.stopped 1", "pause hold.stopped 20000"] {
        let tree = master();
        tree.refuse_kernel_stop();
        let mut daemon = tree.start();
        let (mut job, process) = armed(&tree, &daemon, 1);
        // Longer than the guard lets a job stand still for a hook that does not begin, and not just when it looks,
        // every half a second.
        tree.faults(&format!("fail kernel.stop\npause hold.guard-knows 4250\n{end}\n"));
        tree.put(job.runs(0));
        process.wait_stopped();
        let begin = Instant::now();
        if end.starts_with("die") {
            wait_for(|| daemon.ended(), || "the daemon dies".to_owned());
        }
        process.wait_going();
        assert!(begin.elapsed() < Duration::from_secs(2), "{end}: {:?}", begin.elapsed());
        daemon.kill();
    }
}

#[test]
fn the_guard_of_a_daemon_that_died_does_not_end_the_holds_of_the_next() {
    let tree = master();
    let daemon = tree.start();
    let (mut job, process) = armed(&tree, &daemon, 1);
    let first = guard(&daemon);
    daemon.kill();
    // It looks after those that the kernel may yet stop.
    let daemon = tree.start();
    daemon.wait_armed(&process);
    assert!(is_gone(first));
    process.has_been_stopped();
    tree.put(job.runs(0));
    wait_begun(&tree, "10-log 1.0.pre - late=no");
    assert_eq!(process.state(), 'T');
    open_gate(&tree, 1);
    process.wait_going();
}
