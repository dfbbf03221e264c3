//! The guard: a small process that lets every held process go on when the daemon is
//! gone, in whatever way, and no hold last longer than it may.
//!
//! The daemon hands it the pidfd of a process *before* it stops that process. The guard
//! knows that the daemon is gone when the socket between them ends, which the kernel
//! sees to. It is the same program, started by the daemon before the first hold.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::hold::go_on;
use crate::world::failpoints;

/// The hidden command that runs the guard.
pub const COMMAND: &str = "guard";

/// How long the guard may take to end when it is not needed any more.
const END_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How much longer than the daemon the guard lets a hold last.
const SLACK: Duration = Duration::from_millis(500);

/// A message: the job's number, and how long it may be held, in milliseconds; 0 lets go.
const MESSAGE_SIZE: usize = 16;

/// The daemon's end.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    /// The guard process.
    pub pidfd: OwnedFd,
    socket: OwnedFd,
}

impl Guard {
    /// Starts the guard.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> io::Result<Self> {
        failpoints::refused("guard")?;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut child = Command::new("/proc/self/exe")
            .arg0("ganeti-hookd")
            .arg(COMMAND)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self { child, pidfd, socket: ours })
    }

    /// The job's process is about to be stopped, or has been, for at most `limit`.
    ///
    /// # Errors
    /// When the guard does not take it; it must not be stopped then.
    pub fn hold(&self, job: i64, pidfd: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
        let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1);
        self.send(job, limit, &[pidfd])
    }

    /// The job's process goes on.
    ///
    /// # Errors
    /// When the guard is gone.
    pub fn let_go(&self, job: i64) -> io::Result<()> {
        self.send(job, 0, &[])
    }

    fn send(&self, job: i64, limit: i64, pidfds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = [0; MESSAGE_SIZE];
        bytes[..8].copy_from_slice(&job.to_ne_bytes());
        bytes[8..].copy_from_slice(&limit.to_ne_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !pidfds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(pidfds));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, flags)?;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The guard ends when the socket does, unless somebody has stopped it: that must
        // not keep us.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = poll(&mut [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)], Some(&END_PATIENCE));
        let _ = self.child.try_wait();
    }
}

/// A process that the daemon holds.
struct Held {
    pidfd: OwnedFd,
    until: Instant,
}

/// Runs the guard on standard input until the daemon is gone.
///
/// # Errors
/// When standard input is not the daemon's socket.
pub fn run() -> io::Result<()> {
    prepare()?;
    let socket = io::stdin();
    let mut held: BTreeMap<i64, Held> = BTreeMap::new();
    let result = loop {
        match receive(socket.as_fd(), &held) {
            Ok(Some((job, limit, Some(pidfd)))) => {
                held.insert(job, Held { pidfd, until: Instant::now() + limit + SLACK });
            }
            Ok(Some((job, Duration::ZERO, None))) => {
                held.remove(&job);
            }
            // There was no room for the descriptor.
            Ok(Some(_)) => break Err(Errno::MFILE.into()),
            Ok(None) => break Ok(()),
            Err(Errno::INTR | Errno::TIMEDOUT) => {}
            Err(errno) => break Err(errno.into()),
        }
        let now = Instant::now();
        held.retain(|_, held| {
            let goes_on = held.until <= now;
            if goes_on {
                let _ = go_on(held.pidfd.as_fd());
            }
            !goes_on
        });
    };
    for held in held.values() {
        let _ = go_on(held.pidfd.as_fd());
    }
    result
}

/// Makes the guard outlive what ends the daemon: it has a name of its own, takes no
/// notice of requests to end, and is the last to go when memory is short.
fn prepare() -> io::Result<()> {
    let _ = rustix::thread::set_name(c"hookd-guard");
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(())
}

/// The next message; `None` when the daemon is gone.
fn receive(
    socket: BorrowedFd<'_>,
    held: &BTreeMap<i64, Held>,
) -> rustix::io::Result<Option<(i64, Duration, Option<OwnedFd>)>> {
    let next = held.values().map(|held| held.until.saturating_duration_since(Instant::now())).min();
    let timeout = next.and_then(|next| Timespec::try_from(next).ok());
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    if poll(&mut fds, timeout.as_ref())? == 0 {
        return Err(Errno::TIMEDOUT);
    }
    let mut bytes = [0; MESSAGE_SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes < MESSAGE_SIZE {
        return Ok(None);
    }
    let pidfd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let number =
        |range: std::ops::Range<usize>| bytes[range].try_into().map(i64::from_ne_bytes).unwrap_or_default();
    Ok(Some((number(0..8), Duration::from_millis(number(8..16).unsigned_abs()), pidfd)))
}
