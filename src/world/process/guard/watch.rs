//! The guard process: it looks after those that stand still for the daemon, or may.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::LAST_CHECK;
use super::message::{Message, await_message, receive};
use super::slots::{Slot, Slots, State};
use crate::engine::holds::VAIN_LIMIT;
use crate::world::clock::steady;
use crate::world::failpoints;
use crate::world::process::hold::{go_on, may_be_stopped_by_the_kernel};
use crate::world::process::stat;

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
    /// Looks at it, and lets it go on if it is time, or else when it may not stand still any more at all: the
    /// daemon `is_over`, or we soon are. Returns whether there is more to see to.
    fn look(&mut self, slots: &Slots, now: Duration, is_over: bool) -> bool {
        self.due = next_check(now);
        match slots.get(self.slot) {
            None | Some(State::Forgotten) => false,
            Some(State::Free) => !slots.forget(self.slot),
            Some(State::Stopping(until) | State::Held(until)) if until > now && !is_over => {
                self.stands = None;
                self.due = self.due.min(until);
                true
            }
            Some(seen @ (State::Stopping(_) | State::Held(_))) => self.let_go(slots, seen, now),
            Some(State::Going | State::Leaving) => self.go_on(slots, now),
            Some(State::Gone) if self.was_to_stop() => self.let_go_if_stopped(slots, now),
            // As far as the kernel is concerned one that has gone on may be armed.
            Some(seen @ (State::Armed(_) | State::Gone)) => {
                let since = if let State::Armed(since) = seen { since } else { Duration::ZERO };
                let patience = if is_over { Duration::ZERO } else { ARMED_PATIENCE };
                !self.stands_for_long(since, now, patience) || self.let_go(slots, seen, now)
            }
        }
    }

    /// Whether it has stood in the rename for longer than it may, since it was armed at this time.
    fn stands_for_long(&mut self, armed: Duration, now: Duration, patience: Duration) -> bool {
        let since = self.stands.filter(|(_, before)| *before == armed).map_or(now, |(since, _)| since);
        self.stands = may_be_stopped_by_the_kernel(self.pid).then_some((since, armed));
        let end = self.stands.map(|(since, _)| since + patience);
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
        entries.retain(|_, entry| entry.due > now || entry.look(slots, now, false));
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
        entries.retain(|_, entry| entry.look(slots, now, true));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_looked_at_at_the_same_time_soon() {
        let check = |millis: u64| next_check(Duration::from_micros(millis * 1000 + 7)).as_millis();
        assert_eq!([0, 499, 500, 86_400_001].map(check), [500, 500, 1000, 86_400_500]);
    }
}
