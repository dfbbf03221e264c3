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

mod slots;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::slots::{ROOM, Slot, Slots, State};
use super::hold::{go_on, may_be_stopped_by_the_kernel};
use super::{priority, stat};
use crate::engine::holds::VAIN_LIMIT;
use crate::world::clock::steady;
use crate::world::failpoints;

/// The hidden command that runs the guard.
pub const COMMAND: &str = "guard";

/// How long the guard may take to end when it is not needed any more.
const END_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How much longer than the daemon the guard lets a hold last.
const SLACK: Duration = Duration::from_millis(500);

/// A message: a process's ID, and its slot's index and turn. A descriptor comes with it: the process's, or
/// first of all that of the memory.
const MESSAGE_SIZE: usize = 24;

/// How often processes are looked at that the daemon may have told us more of, or that the kernel may have
/// stopped: the daemon may have been stopped itself.
const CHECK: Duration = Duration::from_millis(500);

/// How long an armed process may stand in the rename before a hook begins that it stands still for.
const ARMED_PATIENCE: Duration = VAIN_LIMIT;

/// How often one that was let go is looked at, until it goes on.
const AGAIN: Duration = Duration::from_millis(100);

/// How long after the daemon's end armed processes are looked at: the kernel takes up to half a
/// second to forget what is attached.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// How often.
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
    /// Takes the lock of the file of held processes. A guard that has lost its daemon is waited for: it ends soon
    /// when that file is another daemon's.
    ///
    /// # Errors
    /// When another guard has it, and keeps it.
    pub fn take(file: impl AsFd) -> io::Result<Self> {
        // With a description of its own: that is what a lock belongs to (flock(2)).
        let own = File::open(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))?;
        let end = steady() + LOCK_PATIENCE;
        loop {
            match flock(&own, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if steady() < end => std::thread::sleep(LAST_CHECK / 4),
                Err(Errno::WOULDBLOCK) => {
                    let why = "that of an earlier daemon (a process hookd-guard) has not ended yet";
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
                }
                result => return Ok(result.map(|()| Self(own))?),
            }
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
    pub fn is_armed_anew(&self, ticket: Ticket) {
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

fn send(socket: &OwnedFd, numbers: [i64; 3], descriptor: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut bytes = [0; MESSAGE_SIZE];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, flags)?;
    Ok(())
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
    slot: Slot,
    pidfd: OwnedFd,
    pid: u32,
    /// Since when it was seen to stand in the rename, and since when it was armed then.
    stands: Option<(Duration, Duration)>,
    /// What was known of it when it was let go on.
    before: State,
    /// When it is looked at next.
    due: Duration,
}

impl Entry {
    /// Looks at it, and lets it go on if it is time. Returns whether there is more to see to.
    fn look(&mut self, slots: &Slots, now: Duration) -> bool {
        self.due = next_check(now);
        match slots.get(self.slot) {
            None | Some(State::Forgotten) => false,
            Some(State::Free) => !slots.forget(self.slot),
            Some(seen @ State::Armed(since)) => {
                !self.stands_for_long(since, now) || self.let_go(slots, seen, now)
            }
            Some(State::Stopping(until) | State::Held(until)) if until > now => {
                self.stands = None;
                self.due = self.due.min(until);
                true
            }
            Some(seen @ (State::Stopping(_) | State::Held(_))) => self.let_go(slots, seen, now),
            Some(State::Going | State::Leaving) => self.go_on(slots, now),
            Some(State::Gone) if self.was_to_stop() => self.let_go_if_stopped(slots, now),
            // As far as the kernel is concerned it may be armed.
            Some(seen @ State::Gone) => {
                !self.stands_for_long(Duration::ZERO, now) || self.let_go(slots, seen, now)
            }
        }
    }

    /// The same when the daemon is gone, or we soon are.
    fn end(&mut self, slots: &Slots, now: Duration) -> bool {
        match slots.get(self.slot) {
            None | Some(State::Forgotten) => false,
            Some(State::Free) => !slots.forget(self.slot),
            Some(seen @ (State::Stopping(_) | State::Held(_))) => self.let_go(slots, seen, now),
            Some(State::Going | State::Leaving) => self.go_on(slots, now),
            Some(State::Gone) if self.was_to_stop() => self.let_go_if_stopped(slots, now),
            Some(seen @ (State::Armed(_) | State::Gone)) => {
                !may_be_stopped_by_the_kernel(self.pid) || self.let_go(slots, seen, now)
            }
        }
    }

    /// Whether it has stood in the rename for longer than it may, since it was armed at this time.
    fn stands_for_long(&mut self, armed: Duration, now: Duration) -> bool {
        let since = self.stands.filter(|(_, before)| *before == armed).map_or(now, |(since, _)| since);
        self.stands = may_be_stopped_by_the_kernel(self.pid).then_some((since, armed));
        let end = self.stands.map(|(since, _)| since + ARMED_PATIENCE);
        self.due = end.map_or(self.due, |end| self.due.min(end));
        end.is_some_and(|end| end <= now)
    }

    /// Lets it go on, if the daemon has not told more since it was seen so. Returns whether there is more
    /// to see to.
    fn let_go(&mut self, slots: &Slots, seen: State, now: Duration) -> bool {
        self.stands = None;
        if slots.begin_to_let_go(self.slot, seen) {
            // Of one that is gone that was to be stopped this is still so.
            if seen != State::Gone {
                self.before = seen;
            }
            return self.go_on(slots, now);
        }
        self.due = now;
        true
    }

    /// The daemon was about to stop it when it was let go on, and may do so yet.
    fn was_to_stop(&self) -> bool {
        matches!(self.before, State::Stopping(_))
    }

    fn let_go_if_stopped(&mut self, slots: &Slots, now: Duration) -> bool {
        !self.is_stopped() || self.let_go(slots, State::Gone, now)
    }

    fn is_stopped(&self) -> bool {
        matches!(stat::read(self.pid), Ok(Some(stat)) if stat.state == b'T')
    }

    fn go_on(&mut self, slots: &Slots, now: Duration) -> bool {
        let was_told = go_on(self.pidfd.as_fd()).is_ok();
        if was_told && !self.is_stopped() {
            // One that was held nobody stops any more but who is not us.
            return !slots.has_gone(self.slot, matches!(self.before, State::Held(_)));
        }
        self.due = now + AGAIN;
        true
    }
}

/// When processes are looked at next: all at the same time, so that many wake us no more often than one.
fn next_check(now: Duration) -> Duration {
    let checks = now.as_millis() / CHECK.as_millis() + 1;
    CHECK.saturating_mul(u32::try_from(checks).unwrap_or(u32::MAX))
}

/// What the daemon has told us of, by the slot's index.
type Entries = BTreeMap<u16, Entry>;

/// Runs the guard on standard input until the daemon is gone.
///
/// # Errors
/// When standard input is not the daemon's socket.
pub fn run() -> io::Result<()> {
    prepare()?;
    let socket = io::stdin();
    let Some(Message { descriptor: Some(memory), .. }) = receive(socket.as_fd())? else {
        return Err(io::Error::other("standard input is not the daemon's socket"));
    };
    let slots = Slots::open(memory)?;
    let mut entries = Entries::new();
    let result = catch_unwind(AssertUnwindSafe(|| serve(socket.as_fd(), &slots, &mut entries)));
    let_all_go(&slots, entries);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Does what the daemon says, until it is gone.
fn serve(socket: BorrowedFd<'_>, slots: &Slots, entries: &mut Entries) -> io::Result<()> {
    loop {
        let next = entries.values().map(|entry| entry.due).min();
        match await_message(socket, next.map(|due| due.saturating_sub(steady()))) {
            Ok(true) => match receive(socket)? {
                None => return Ok(()),
                // There was no room for the descriptor.
                Some(Message { descriptor: None, .. }) => return Err(Errno::MFILE.into()),
                Some(Message { pid, slot, descriptor: Some(pidfd) }) => {
                    let due = next_check(steady());
                    let entry = Entry { slot, pidfd, pid, stands: None, before: State::Free, due };
                    entries.insert(slot.index, entry);
                }
            },
            Ok(false) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        failpoints::defect("guard");
        let now = steady();
        entries.retain(|_, entry| entry.due > now || entry.look(slots, now));
    }
}

/// The daemon is gone: everything goes on, also what the kernel stops until it has forgotten
/// what the daemon attached, or somebody else sees to that. One that somebody else has stopped stays so where
/// that can be told.
fn let_all_go(slots: &Slots, mut entries: Entries) {
    let end = steady() + AFTERWARDS;
    let before = held_file();
    loop {
        let now = steady();
        entries.retain(|_, entry| entry.end(slots, now));
        if entries.is_empty() || now >= end || held_file() != before {
            return;
        }
        std::thread::sleep(LAST_CHECK);
    }
}

/// The size of the file of held processes, which is our standard output, and when it was changed. Who changes it when the
/// daemon is gone is the next one, or `release`, and has let all go on that was in it.
fn held_file() -> Option<(u64, SystemTime)> {
    let metadata = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
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
    pid: u32,
    slot: Slot,
    descriptor: Option<OwnedFd>,
}

/// Waits until there is a message, or the daemon is gone; not for longer than this. Returns whether.
fn await_message(socket: BorrowedFd<'_>, patience: Option<Duration>) -> rustix::io::Result<bool> {
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    Ok(poll(&mut fds, timeout.as_ref())? > 0)
}

/// The next message; `None` when the daemon is gone.
fn receive(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<Message>> {
    let mut bytes = [0; MESSAGE_SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes < MESSAGE_SIZE {
        return Ok(None);
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let number =
        |range: std::ops::Range<usize>| bytes[range].try_into().map(i64::from_ne_bytes).unwrap_or_default();
    let small = |range| u16::try_from(number(range)).unwrap_or_default();
    let slot = Slot { index: small(8..16), turn: small(16..24) };
    Ok(Some(Message { pid: u32::try_from(number(0..8)).unwrap_or(0), slot, descriptor }))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn all_are_looked_at_at_the_same_time_soon() {
        let check = |millis: u64| next_check(Duration::from_micros(millis * 1000 + 7)).as_millis();
        assert_eq!([0, 499, 500, 86_400_001].map(check), [500, 500, 1000, 86_400_500]);
    }
}
