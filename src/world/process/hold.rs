//! Stopping a job process, and where it was when it stopped (design, section 5).
//!
//! Only a process that is verified at this very moment is signalled, and only through a
//! pidfd: it holds the job's livelock, its start fits the job, and it belongs to the
//! owner of the queue or to root. One that somebody else has stopped is left to them.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};

use super::aside::step_aside;
use super::kernel_stop::{is_in_rename, may_stand_in_rename, standing_in_rename};
use super::livelock::{self, Holder};
use super::{fits, stat};
use crate::engine::input::Landing;
use crate::ganeti::job::ProcessRef;

/// How long a stop may take to show. A process that sleeps or runs stops at once.
const STOP_PATIENCE: Duration = Duration::from_millis(10);

/// For how long, and how often after that, one that is to stop is looked at.
const SPIN: Duration = Duration::from_micros(500);

/// How long one may take to stand still that the signal was delivered to.
const GRACE: Duration = Duration::from_millis(50);

/// A process that proved to be the job's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its ID.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// Verifies that `process` is a job process that may be signalled.
///
/// # Errors
/// Why it may not be.
pub fn verify(process: &ProcessRef, livelock_dir: &Path, queue_owner: u32) -> Result<Verified, String> {
    match livelock::holder(Path::new(&process.livelock), livelock_dir) {
        Holder::Process(holder) if holder == process.pid => {}
        Holder::Process(other) => return Err(format!("its livelock is held by process {other}")),
        Holder::Nobody | Holder::NoFile => return Err("it holds no livelock".to_owned()),
        Holder::Unknown(why) | Holder::Shortage(why) => return Err(why),
    }
    let pid = process.pid;
    let users = stat::users(pid).map_err(|error| format!("/proc/{pid}/status: {error}"))?;
    if let Some(other) = users.into_iter().find(|user| *user != 0 && *user != queue_owner) {
        return Err(format!("it belongs to user {other}, the queue to user {queue_owner}"));
    }
    let stat = stat::read(pid).map_err(|error| format!("/proc/{pid}/stat: {error}"))?;
    let stat = stat.ok_or_else(|| "it has ended".to_owned())?;
    if stat.state == b'T' {
        return Err("somebody else has stopped it".to_owned());
    }
    match process.started {
        Some(started) if fits(&stat, started.as_secs_f64()) => {
            Ok(Verified { pid, start_ticks: stat.start_ticks })
        }
        Some(_) => Err("it started after its job".to_owned()),
        None => Err("its job has no start time".to_owned()),
    }
}

/// Stops a verified process.
///
/// # Errors
/// When it has ended, or the kernel says no.
pub fn stop(pidfd: impl AsFd) -> rustix::io::Result<()> {
    pidfd_send_signal(pidfd, Signal::STOP)
}

/// Lets a process go on. One that has ended needs nothing.
///
/// # Errors
/// When the kernel says no for another reason.
pub fn go_on(pidfd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match pidfd_send_signal(pidfd, Signal::CONT) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        result => result,
    }
}

/// Finds out where a process that has just been told to stop was. It was early only if the rename
/// that it stands in is done and none that is to come: `is_as_read` tells whether the job's file is
/// the one that was read.
pub fn landing(pid: u32, is_as_read: impl Fn() -> bool) -> Landing {
    await_stop(pid, STOP_PATIENCE);
    if standing_in_rename(pid) && is_as_read() { Landing::Early } else { Landing::Late }
}

/// Waits until the process stands still, for so long at most, and not much longer than it takes
/// once the signal was delivered: somebody else may have let it go on. Returns whether it does.
pub fn await_stop(pid: u32, patience: Duration) -> bool {
    let begin = Instant::now();
    loop {
        match stat::read(pid) {
            Ok(Some(stat)) if stat.state == b'T' => return true,
            Ok(Some(_)) if begin.elapsed() < SPIN.min(patience) => step_aside(),
            // It waits for a processor.
            Ok(Some(_)) if begin.elapsed() < patience && (begin.elapsed() < GRACE || is_to_stop(pid)) => {
                std::thread::sleep(SPIN)
            }
            _ => return false,
        }
    }
}

fn is_to_stop(pid: u32) -> bool {
    stat::is_stop_pending(pid).unwrap_or(false)
}

/// Whether a process is seen, within this time, to be in no rename: what it publishes from then on
/// it has yet to begin. One that runs all the time is not seen to be anywhere.
pub fn is_outside_of_renames(pid: u32, patience: Duration) -> bool {
    let begin = Instant::now();
    loop {
        match is_in_rename(pid) {
            Some(false) => return true,
            // It has published already.
            Some(true) if standing_in_rename(pid) => return false,
            _ if begin.elapsed() < SPIN.min(patience) => step_aside(),
            _ if begin.elapsed() < patience => std::thread::sleep(SPIN),
            _ => return false,
        }
    }
}

/// Whether an armed process may have been stopped by the kernel, or is just about to be: it stands
/// in a rename, or, where that cannot be told of one that is stopped (arm64, or `/proc` that we
/// may not read), stands still.
pub fn may_be_stopped_by_the_kernel(pid: u32) -> bool {
    is_to_stop(pid)
        || if cfg!(target_arch = "x86_64") {
            may_stand_in_rename(pid)
        } else {
            matches!(stat::read(pid), Ok(Some(stat)) if stat.state == b'T')
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_stopped_elsewhere_had_got_further() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = rustix::process::pidfd_open(
            rustix::process::Pid::from_child(&child),
            rustix::process::PidfdFlags::empty(),
        )
        .unwrap();
        stop(&pidfd).unwrap();
        assert_eq!(landing(child.id(), || true), Landing::Late);
        assert!(!may_be_stopped_by_the_kernel(child.id()) || cfg!(not(target_arch = "x86_64")));
        assert_eq!(stat::read(child.id()).unwrap().unwrap().state, b'T');
        go_on(pidfd.as_fd()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(stop(&pidfd), Err(rustix::io::Errno::SRCH));
        assert_eq!(go_on(pidfd.as_fd()), Ok(()));
    }
}
