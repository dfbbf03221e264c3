//! The guard: a small process that lets every held process go on when the daemon is
//! gone, in whatever way, and no hold last longer than it may.
//!
//! The daemon hands it the pidfd of a process *before* it stops that process, or has the kernel stop
//! it. What becomes of the process from then on both know from memory that they share ([`slots`]): so
//! nobody waits for the guard when a hook begins or a job goes on, and of a guard that lets go and a
//! hook that begins one comes first.
//!
//! The guard knows that the daemon is gone when the socket between them ends, which the kernel
//! sees to. It is the same program, started by the daemon before the first hold. There is one at a time:
//! what it does for a daemon that died must not end the holds of the next.

mod message;
mod slots;
mod watch;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub use self::watch::run;

use self::message::send;
use self::slots::{ROOM, Slot, Slots, State};
use super::priority;
use crate::world::clock::steady;
use crate::world::failpoints;

/// The hidden command that runs the guard.
pub const COMMAND: &str = "guard";

/// How long the guard may take to end when it is not needed any more.
const END_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How much longer than the daemon the guard lets a hold last.
const SLACK: Duration = Duration::from_millis(500);

/// How often a guard whose daemon is gone looks whether it is needed.
const LAST_CHECK: Duration = Duration::from_millis(20);

/// How long a guard is waited for that need not look after them any more.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// The exit code of a program that has panicked.
const PANICKED: i32 = 101;

/// The daemon's end.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    /// The guard process.
    pub pidfd: OwnedFd,
    socket: OwnedFd,
    slots: Arc<Slots>,
    /// Slots that are nobody's, and how many have been somebody's.
    unused: Vec<u16>,
    used: u16,
}

/// What no two guards have: while that of a daemon that died lets jobs go on, none are to be stopped by the next.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock of the file of held processes.
    ///
    /// # Errors
    /// When another guard has it.
    pub fn take(file: impl AsFd) -> io::Result<Self> {
        // With a description of its own: that is what a lock belongs to (flock(2)).
        let own = File::open(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))?;
        match flock(&own, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let why = "that of an earlier daemon (a process hookd-guard) has not ended yet";
                Err(io::Error::new(io::ErrorKind::WouldBlock, why))
            }
            result => Ok(result.map(|()| Self(own))?),
        }
    }

    /// Waits a moment for a guard that has lost its daemon: it ends when the file is another daemon's.
    pub fn wait(file: impl AsFd) {
        let end = steady() + LOCK_PATIENCE;
        while Self::take(&file).is_err() && steady() < end {
            std::thread::sleep(LAST_CHECK / 4);
        }
    }
}

/// What the guard knows a process by; none as long as it does not.
pub type Ticket = Option<Slot>;

/// A process may stand still while a hook runs.
#[derive(Debug)]
pub struct Claim {
    slots: Arc<Slots>,
    slot: Slot,
}

impl Claim {
    /// Whether nobody has let it go on since. Any thread may ask, however long it hung.
    pub fn is_kept(&self) -> bool {
        matches!(self.slots.get(self.slot), Some(State::Held(until)) if until > steady())
    }
}

impl Guard {
    /// Starts the guard, which keeps the lock for as long as it lives.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(lock: Lock) -> io::Result<Self> {
        failpoints::refused("guard")?;
        let (slots, memory) = Slots::create()
            .map_err(|error| io::Error::new(error.kind(), format!("memory to share with it: {error}")))?;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        send(&ours, [0; 3], memory.as_fd())?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("ganeti-hookd")
            .arg(COMMAND)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(lock.0))
            .current_dir("/")
            .process_group(0);
        // It only has to look when we are gone: what it is told it need not hear at once, before a hook that begins.
        let mut child = priority::as_given(|| command.spawn())?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let slots = Arc::new(slots);
        Ok(Self { child, pidfd, socket: ours, slots, unused: Vec::new(), used: 0 })
    }

    /// The process is about to be stopped, for at most `limit`. When it is, that is to be [told](Self::has_stopped).
    ///
    /// # Errors
    /// When the guard does not take it; it must not be stopped then.
    pub fn hold(
        &mut self,
        ticket: &mut Ticket,
        pid: u32,
        pidfd: BorrowedFd<'_>,
        limit: Duration,
    ) -> io::Result<()> {
        let until = steady().saturating_add(limit).saturating_add(SLACK);
        self.watch(ticket, pid, pidfd, State::Stopping(until))
    }

    /// The process was told to stop. Returns whether it may stand still: the guard may have let it go on
    /// before, and then who has stopped it is to let it go on.
    pub fn has_stopped(&self, ticket: Ticket) -> bool {
        ticket.is_some_and(|slot| self.slots.has_stopped(slot))
    }

    /// The process is about to be armed.
    ///
    /// # Errors
    /// When the guard does not take it; it must not be armed then.
    pub fn arm(&mut self, ticket: &mut Ticket, pid: u32, pidfd: BorrowedFd<'_>) -> io::Result<()> {
        match ticket.and_then(|slot| self.slots.get(slot)) {
            Some(State::Armed(_)) => Ok(()),
            _ => self.watch(ticket, pid, pidfd, State::Armed(steady())),
        }
    }

    /// The process, which is armed, has stood still and goes on: that counts no more the next time it does.
    pub fn arm_anew(&self, ticket: Ticket) {
        if let Some(slot) = ticket {
            self.slots.arm_anew(slot, steady());
        }
    }

    fn watch(
        &mut self,
        ticket: &mut Ticket,
        pid: u32,
        pidfd: BorrowedFd<'_>,
        state: State,
    ) -> io::Result<()> {
        if ticket.is_some_and(|slot| self.slots.watch(slot, state)) {
            return Ok(());
        }
        // What comes of that would come to pass after what is about to be done.
        if let Some(State::Going | State::Leaving) = ticket.and_then(|slot| self.slots.get(slot)) {
            return Err(io::Error::other("it lets the process go on at this moment"));
        }
        self.give_back(ticket.take());
        let index = self.unused.pop().or_else(|| {
            self.used = self.used.checked_add(1).filter(|used| usize::from(*used) <= ROOM)?;
            Some(self.used - 1)
        });
        let index = index.ok_or_else(|| io::Error::other(format!("it knows of {ROOM} processes already")))?;
        let slot = self.slots.give(index, state);
        *ticket = Some(slot);
        let sent =
            send(&self.socket, [pid, u32::from(slot.index), u32::from(slot.turn)].map(i64::from), pidfd);
        if sent.is_err() {
            self.give_back(ticket.take());
        }
        Ok(sent?)
    }

    /// A process that stands still, or is just about to, may do so until then (since boot). `None` if it may
    /// not: the guard may have let it go on before.
    pub fn allow(&self, ticket: Ticket, until: Duration) -> Option<Claim> {
        let allowed = ticket.filter(|slot| self.slots.allow(*slot, until.saturating_add(SLACK)))?;
        Some(Claim { slots: Arc::clone(&self.slots), slot: allowed })
    }

    /// The process goes on, and is not armed.
    pub fn let_go(&self, ticket: Ticket) {
        if let Some(slot) = ticket {
            self.slots.free(slot);
        }
    }

    /// The process will never be stopped again.
    pub fn give_back(&mut self, ticket: Ticket) {
        if let Some(slot) = ticket {
            self.slots.free(slot);
            self.unused.push(slot.index);
        }
    }

    /// Whether it has ended by a panic.
    pub fn has_panicked(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(status)) if status.code() == Some(PANICKED))
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

#[cfg(test)]
mod tests {
    use super::message::{Message, receive};
    use super::*;

    /// The daemon's end of a guard that does not read what it is told, and the guard's.
    fn deaf() -> (Guard, OwnedFd) {
        let (slots, _) = Slots::create().unwrap();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        let (slots, unused) = (Arc::new(slots), Vec::new());
        (Guard { child, pidfd, socket: ours, slots, unused, used: 0 }, theirs)
    }

    fn us() -> OwnedFd {
        pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap()
    }

    #[test]
    fn one_for_whom_there_is_no_slot_is_refused_until_there_is() {
        let ((mut guard, theirs), us) = (deaf(), us());
        let mut tickets = vec![None; ROOM];
        for ticket in &mut tickets {
            guard.arm(ticket, 1, us.as_fd()).unwrap();
            assert!(receive(theirs.as_fd()).unwrap().unwrap().descriptor.is_some());
        }
        let mut more = None;
        let error = guard.arm(&mut more, 1, us.as_fd()).unwrap_err().to_string();
        assert_eq!((error.as_str(), more), ("it knows of 4096 processes already", None));
        // Nobody has to be told anew who is known.
        guard.let_go(tickets[7]);
        guard.arm(&mut tickets[7], 1, us.as_fd()).unwrap();
        guard.give_back(tickets.pop().unwrap());
        guard.arm(&mut more, 1, us.as_fd()).unwrap();
        let Message { slot, .. } = receive(theirs.as_fd()).unwrap().unwrap();
        assert_eq!((Some(slot), slot.index, slot.turn), (more, 4095, 2));
    }

    #[test]
    fn what_a_guard_that_hangs_cannot_be_told_is_refused_and_takes_no_room() {
        let ((mut guard, theirs), us) = (deaf(), us());
        let mut told = 0;
        while guard.arm(&mut None, 1, us.as_fd()).is_ok() {
            told += 1;
        }
        assert!(told > 20, "more than Ganeti runs jobs at a time: {told}");
        for _ in 0..2 * ROOM {
            let mut ticket = None;
            assert!(guard.arm(&mut ticket, 1, us.as_fd()).is_err() && ticket.is_none());
        }
        for _ in 0..told {
            receive(theirs.as_fd()).unwrap().unwrap();
        }
        guard.arm(&mut None, 1, us.as_fd()).unwrap();
        assert_eq!(usize::from(receive(theirs.as_fd()).unwrap().unwrap().slot.index), told);
    }

    #[test]
    fn a_claim_is_kept_until_its_process_may_not_stand_still_any_more() {
        let ((mut guard, _theirs), us) = (deaf(), us());
        let later = steady() + Duration::from_secs(60);
        let ends: [fn(&mut Guard, Ticket); 4] = [
            |guard, ticket| guard.let_go(ticket),
            |guard, ticket| guard.give_back(ticket),
            |guard, ticket| _ = guard.allow(ticket, Duration::ZERO),
            // What the guard does.
            |guard, ticket| {
                let slot = ticket.unwrap();
                assert!(guard.slots.begin_to_let_go(slot, guard.slots.get(slot).unwrap()));
            },
        ];
        for end in ends {
            let mut ticket = None;
            guard.arm(&mut ticket, 1, us.as_fd()).unwrap();
            let claim = guard.allow(ticket, later).unwrap();
            assert!(claim.is_kept());
            end(&mut guard, ticket);
            assert!(!claim.is_kept());
        }
        assert!(guard.allow(None, later).is_none());
    }
}
