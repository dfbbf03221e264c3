//! Job processes: are they there, who are they, when do they end (design, section 4).
//!
//! A process ID is never trusted by itself. What proves a job process is its livelock:
//! a file in Ganeti's livelock directory on which it holds a POSIX write lock from
//! before its ID is in the job file until it ends.

pub mod aside;
pub mod exits;
pub mod guard;
pub mod held_file;
pub mod hold;
pub mod inherited;
pub mod kernel_stop;
pub mod livelock;
pub mod priority;
pub mod stat;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ganeti::job::ProcessRef;
use crate::world::shortage::{explain, is_shortage};
use livelock::Holder;
use stat::ProcessStat;

/// What is known of a job process at this moment.
#[derive(Debug)]
pub enum Presence {
    /// It is there; the descriptor names this very process, whatever becomes of its ID.
    Alive(OwnedFd),
    /// It has ended.
    Dead,
    /// It cannot be told, and why.
    Unknown(String),
    /// It cannot be told for want of something; ask again.
    Shortage(String),
}

/// Slack when a process's start is compared with the time its job wrote: the kernel
/// counts in hundredths of a second from a boot time that is known to the second.
const START_SLACK_SECS: f64 = 2.0;

/// Looks for a job process. `livelock_dir` is Ganeti's; a livelock elsewhere proves
/// nothing.
pub fn find(process: &ProcessRef, livelock_dir: &Path) -> Presence {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
        return Presence::Unknown(format!("{} is not a process ID", process.pid));
    };
    // First the descriptor, then the proof: whoever holds the lock now is the process
    // that the descriptor names, since an ID is not given out again while it is in use.
    let pidfd = pidfd_open(pid, PidfdFlags::empty());
    match livelock::holder(Path::new(&process.livelock), livelock_dir) {
        Holder::Process(holder) if holder == process.pid => match pidfd {
            Ok(pidfd) => Presence::Alive(pidfd),
            Err(Errno::SRCH) => Presence::Dead,
            Err(errno) => cannot_open(process, errno),
        },
        Holder::Process(other) => {
            Presence::Unknown(format!("the livelock of process {} is held by process {other}", process.pid))
        }
        // The process holds its lock until it ends, so a free lock means it has ended.
        Holder::Nobody => Presence::Dead,
        // The job process removes its livelock last of all, just before it ends.
        Holder::NoFile => without_livelock(process, pidfd),
        Holder::Unknown(why) => Presence::Unknown(why),
        Holder::Shortage(why) => Presence::Shortage(why),
    }
}

/// Judges a process whose livelock has been removed: it is on its way out, or its ID
/// has gone to another process since, or never was on this machine.
fn without_livelock(process: &ProcessRef, pidfd: Result<OwnedFd, Errno>) -> Presence {
    let pidfd = match pidfd {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH | Errno::INVAL) => return Presence::Dead,
        Err(errno) => return cannot_open(process, errno),
    };
    match (stat::read(process.pid), process.started) {
        (Ok(Some(stat)), Some(started)) if fits(&stat, started.as_secs_f64()) => Presence::Alive(pidfd),
        (Ok(Some(_)), Some(_)) => Presence::Dead,
        (Ok(None), _) => Presence::Unknown(format!("process {} is hidden in /proc", process.pid)),
        (Ok(Some(_)), None) => {
            Presence::Unknown(format!("the job of process {} has no start time", process.pid))
        }
        (Err(error), _) => {
            cannot_tell(format!("/proc/{}/stat cannot be read: {}", process.pid, explain(&error)), &error)
        }
    }
}

fn cannot_open(process: &ProcessRef, errno: Errno) -> Presence {
    let error = errno.into();
    cannot_tell(format!("process {} cannot be opened: {}", process.pid, explain(&error)), &error)
}

fn cannot_tell(why: String, error: &io::Error) -> Presence {
    if is_shortage(error) { Presence::Shortage(why) } else { Presence::Unknown(why) }
}

/// Whether a process can be one that had started by `job_started` (seconds since the
/// epoch).
pub fn fits(stat: &ProcessStat, job_started: f64) -> bool {
    stat.started <= job_started + START_SLACK_SECS
}
