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
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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

use super::hold::{go_on, may_be_stopped_by_the_kernel};
use super::{priority, stat};
use crate::engine::holds::VAIN_LIMIT;
use crate::world::failpoints;

/// The hidden command that runs the guard.
pub const COMMAND: &str = "guard";

/// How long the guard may take to end when it is not needed any more.
const END_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How much longer than the daemon the guard lets a hold last.
const SLACK: Duration = Duration::from_millis(500);

/// A message: the job's number; how long it may be held, in milliseconds, [`GO`] or [`ARM`]; and
/// its process's ID.
const MESSAGE_SIZE: usize = 24;

/// The job's process goes on.
const GO: i64 = 0;

/// The job's process is armed: the kernel may stop it.
const ARM: i64 = -1;

/// How often armed processes are looked at: the daemon may have been stopped itself.
const ARMED_CHECK: Duration = Duration::from_millis(500);

/// How long an armed process may stand in the rename before a hook begins that it stands still for.
const ARMED_PATIENCE: Duration = VAIN_LIMIT;

/// How often one that was let go is looked at, until it goes on.
const AGAIN: Duration = Duration::from_millis(100);

/// How long after the daemon's end armed processes are looked at: the kernel takes up to half a
/// second to forget what is attached.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// The exit code of a program that has panicked.
const PANICKED: i32 = 101;

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
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("ganeti-hookd")
            .arg(COMMAND)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .current_dir("/")
            .process_group(0);
        // It only has to look when we are gone: what it is told it need not hear at once, before a hook that begins.
        let mut child = priority::as_given(|| command.spawn())?;
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
    pub fn hold(&self, job: i64, pid: u32, pidfd: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
        let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1);
        self.send(job, limit, pid, &[pidfd])
    }

    /// The job's process is about to be armed.
    ///
    /// # Errors
    /// When the guard does not take it; it must not be armed then.
    pub fn arm(&self, job: i64, pid: u32, pidfd: BorrowedFd<'_>) -> io::Result<()> {
        self.send(job, ARM, pid, &[pidfd])
    }

    /// The job's process goes on, and is not armed.
    ///
    /// # Errors
    /// When the guard is gone.
    pub fn let_go(&self, job: i64, pid: u32) -> io::Result<()> {
        self.send(job, GO, pid, &[])
    }

    /// Whether it has ended by a panic.
    pub fn has_panicked(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(status)) if status.code() == Some(PANICKED))
    }

    fn send(&self, job: i64, what: i64, pid: u32, pidfds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = [0; MESSAGE_SIZE];
        for (place, number) in bytes.chunks_exact_mut(8).zip([job, what, i64::from(pid)]) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
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

/// A process that stands still for the daemon, or may.
struct Entry {
    pidfd: OwnedFd,
    pid: u32,
    state: State,
}

/// What is to become of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The kernel may stop it; since when it has been seen to stand in the rename.
    Armed(Option<Instant>),
    /// It stands still until then at most.
    Held(Instant),
    /// It was let go, and is looked at until it goes on.
    Going,
    /// It has gone on. Who stops it now is not us.
    Gone,
}

impl Entry {
    /// When it is to be looked at next.
    fn next(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Armed(_) => Some(now + ARMED_CHECK),
            State::Held(until) => Some(until),
            State::Going => Some(now + AGAIN),
            State::Gone => None,
        }
    }

    /// Looks at it, and lets it go on if it is time.
    fn look(&mut self, now: Instant) {
        match self.state {
            State::Armed(since) => {
                let stands = may_be_stopped_by_the_kernel(self.pid);
                let since = stands.then(|| since.unwrap_or(now));
                self.state = State::Armed(since);
                if since.is_some_and(|since| now - since >= ARMED_PATIENCE) {
                    // It stays armed, as far as the kernel is concerned.
                    let _ = go_on(self.pidfd.as_fd());
                    self.state = State::Armed(None);
                }
            }
            State::Held(until) if until <= now => self.let_go(),
            State::Going => self.let_go(),
            State::Held(_) | State::Gone => {}
        }
    }

    fn let_go(&mut self) {
        let was_told = go_on(self.pidfd.as_fd()).is_ok();
        let stands = matches!(stat::read(self.pid), Ok(Some(stat)) if stat.state == b'T');
        self.state = if was_told && !stands { State::Gone } else { State::Going };
    }
}

/// Runs the guard on standard input until the daemon is gone.
///
/// # Errors
/// When standard input is not the daemon's socket.
pub fn run() -> io::Result<()> {
    prepare()?;
    let socket = io::stdin();
    let mut entries: BTreeMap<i64, Entry> = BTreeMap::new();
    let result = catch_unwind(AssertUnwindSafe(|| serve(socket.as_fd(), &mut entries)));
    let_all_go(entries);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Does what the daemon says, until it is gone.
fn serve(socket: BorrowedFd<'_>, entries: &mut BTreeMap<i64, Entry>) -> io::Result<()> {
    loop {
        match receive(socket, entries) {
            Ok(Some(message)) => {
                if !take(message, entries) {
                    // There was no room for the descriptor.
                    return Err(Errno::MFILE.into());
                }
            }
            Ok(None) => return Ok(()),
            Err(Errno::INTR | Errno::TIMEDOUT) => {}
            Err(errno) => return Err(errno.into()),
        }
        failpoints::defect("guard");
        let now = Instant::now();
        entries.values_mut().for_each(|entry| entry.look(now));
    }
}

/// Takes over what a message says. Returns whether it could.
fn take(Message { job, what, pid, pidfd }: Message, entries: &mut BTreeMap<i64, Entry>) -> bool {
    let state = match what {
        GO => {
            // Another process may run the job by now.
            if entries.get(&job).is_some_and(|entry| entry.pid == pid) {
                entries.remove(&job);
            }
            return true;
        }
        ARM => State::Armed(None),
        limit => State::Held(Instant::now() + Duration::from_millis(limit.unsigned_abs()) + SLACK),
    };
    let taken = pidfd.map(|pidfd| entries.insert(job, Entry { pidfd, pid, state }));
    taken.is_some()
}

/// The daemon is gone: everything goes on, also what the kernel stops until it has forgotten
/// what the daemon attached. One that somebody else has stopped stays so where that can be told.
fn let_all_go(mut entries: BTreeMap<i64, Entry>) {
    let end = Instant::now() + AFTERWARDS;
    for entry in entries.values_mut().filter(|entry| matches!(entry.state, State::Held(_) | State::Going)) {
        entry.let_go();
    }
    loop {
        for entry in entries.values_mut() {
            match entry.state {
                State::Armed(_) if may_be_stopped_by_the_kernel(entry.pid) => {
                    let _ = go_on(entry.pidfd.as_fd());
                }
                State::Going => entry.let_go(),
                _ => {}
            }
        }
        entries.retain(|_, entry| matches!(entry.state, State::Armed(_) | State::Going));
        if entries.is_empty() || Instant::now() >= end {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
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

/// What the daemon says.
struct Message {
    job: i64,
    what: i64,
    pid: u32,
    pidfd: Option<OwnedFd>,
}

/// The next message; `None` when the daemon is gone.
fn receive(socket: BorrowedFd<'_>, entries: &BTreeMap<i64, Entry>) -> rustix::io::Result<Option<Message>> {
    let now = Instant::now();
    let next = entries.values().filter_map(|entry| entry.next(now)).min();
    let timeout = next.and_then(|next| Timespec::try_from(next.saturating_duration_since(now)).ok());
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
    let pid = u32::try_from(number(16..24)).unwrap_or(0);
    Ok(Some(Message { job: number(0..8), what: number(8..16), pid, pidfd }))
}
