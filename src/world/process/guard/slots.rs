//! What daemon and guard both know of each process that stands still or may: one word of memory that
//! they share.
//!
//! So the guard need not be woken to be told, and which of two comes first is never in doubt: either the
//! daemon [allows](Slots::allow) a process to stand still because a hook begins, or the guard
//! [lets it go](Slots::begin_to_let_go). The other one finds that out from the same word.
//!
//! A slot is a process's for as long as the daemon watches that. Its *turn* tells it from those that had
//! it before: who comes with an old one is refused.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;

/// How many processes can stand still, or be armed, at a time.
pub const ROOM: usize = 4096;

/// The size of the memory, in bytes.
const SIZE: usize = ROOM * size_of::<AtomicU64>();

/// Bits of a word: milliseconds since boot below, then what they mean, then the turn.
const TIME_BITS: u32 = 45;
const MEANING_BITS: u32 = 3;

/// A process's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Which, below [`ROOM`].
    pub index: u16,
    /// How often it had been given out before.
    pub turn: u16,
}

/// What is known of a slot's process. Times are since boot ([`crate::world::clock::steady`]), in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The guard need not look at it: nobody has stopped it, or it goes on.
    Free,
    /// The guard has forgotten it, and has to be told of it anew.
    Forgotten,
    /// Since then the kernel may stop it.
    Armed(Duration),
    /// The daemon is about to stop it. It may stand still until then.
    Stopping(Duration),
    /// It may stand still until then.
    Held(Duration),
    /// The guard is about to let it go on.
    Going,
    /// The same, and then need not look at it any more.
    Leaving,
    /// The guard has let it go on. It may be armed yet, or be about to be stopped.
    Gone,
}

impl State {
    fn word(self, turn: u16) -> u64 {
        let (meaning, time) = match self {
            Self::Free => (0, Duration::ZERO),
            Self::Forgotten => (1, Duration::ZERO),
            Self::Armed(since) => (2, since),
            Self::Held(until) => (3, until),
            Self::Going => (4, Duration::ZERO),
            Self::Gone => (5, Duration::ZERO),
            Self::Stopping(until) => (6, until),
            Self::Leaving => (7, Duration::ZERO),
        };
        let longest = (1 << TIME_BITS) - 1;
        let millis = u64::try_from(time.as_millis()).unwrap_or(longest).min(longest);
        u64::from(turn) << (TIME_BITS + MEANING_BITS) | meaning << TIME_BITS | millis
    }

    /// A word, and whose turn it is.
    fn of(word: u64) -> (Self, u16) {
        let time = Duration::from_millis(word & ((1 << TIME_BITS) - 1));
        let state = match word >> TIME_BITS & ((1 << MEANING_BITS) - 1) {
            0 => Self::Free,
            2 => Self::Armed(time),
            3 => Self::Held(time),
            4 => Self::Going,
            5 => Self::Gone,
            6 => Self::Stopping(time),
            7 => Self::Leaving,
            _ => Self::Forgotten,
        };
        (state, u16::try_from(word >> (TIME_BITS + MEANING_BITS)).unwrap_or_default())
    }
}

/// The memory.
#[derive(Debug)]
pub struct Slots {
    memory: MmapRaw,
}

impl Slots {
    /// Memory that nobody knows of yet, and the descriptor to share it by.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        const NAME: &str = "hookd-guard";
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // A system may insist on memory that cannot be executed (`vm.memfd_noexec`); Linux before 6.3
        // does not know that.
        let memory = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd_create(NAME, flags)?,
            memory => memory?,
        };
        ftruncate(&memory, SIZE as u64)?;
        // Who reads behind the end of it dies.
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::open(&memory)?, memory))
    }

    /// The memory behind a descriptor.
    ///
    /// # Errors
    /// When it is not that, or cannot be mapped.
    pub fn open(memory: impl AsFd) -> io::Result<Self> {
        let memory = memory.as_fd();
        if fstat(memory)?.st_size != SIZE as i64 {
            return Err(io::Error::other("this is not the memory that daemon and guard share"));
        }
        Ok(Self { memory: MmapOptions::new().len(SIZE).map_raw(&memory)? })
    }

    fn words(&self) -> &[AtomicU64; ROOM] {
        #[expect(unsafe_code, reason = "memory that another process writes, too")]
        // SAFETY: it is as long as that, aligned to a page, and lives as long as `self`; nobody reaches it but by
        // atomic words, of which every value is valid.
        unsafe {
            &*self.memory.as_ptr().cast::<[AtomicU64; ROOM]>()
        }
    }

    fn word(&self, slot: Slot) -> &AtomicU64 {
        &self.words()[usize::from(slot.index) % ROOM]
    }

    /// Gives a slot to a process of which this is known, and says whose turn it is then.
    pub fn give(&self, index: u16, state: State) -> Slot {
        let word = self.word(Slot { index, turn: 0 });
        let turn = State::of(word.load(Ordering::SeqCst)).1.wrapping_add(1);
        word.store(state.word(turn), Ordering::SeqCst);
        Slot { index, turn }
    }

    /// What is known of a slot's process; `None` when the slot is another's by now.
    pub fn get(&self, slot: Slot) -> Option<State> {
        let (state, turn) = State::of(self.word(slot).load(Ordering::SeqCst));
        (turn == slot.turn).then_some(state)
    }

    /// Puts in the place of a state the next one, if there is one. Returns the one that was there then.
    fn change(&self, slot: Slot, next: impl Fn(State) -> Option<State>) -> Option<State> {
        let change = |word| {
            let (state, turn) = State::of(word);
            if turn == slot.turn { next(state).map(|next| next.word(turn)) } else { None }
        };
        let changed = self.word(slot).fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
        changed.ok().map(|word| State::of(word).0)
    }

    /// The daemon: the process may be stopped, or has been. Returns whether the guard, which knows it from
    /// before, looks at it from now on.
    pub fn watch(&self, slot: Slot, state: State) -> bool {
        let watched = |known| match known {
            State::Forgotten | State::Going | State::Leaving => None,
            _ => Some(state),
        };
        self.change(slot, watched).is_some()
    }

    /// The daemon: what is armed has been so since then.
    pub fn arm_anew(&self, slot: Slot, since: Duration) {
        self.change(slot, |known| matches!(known, State::Armed(_)).then_some(State::Armed(since)));
    }

    /// The daemon: it has been stopped. Returns whether it may stand still: the guard may have let it go
    /// on before.
    pub fn has_stopped(&self, slot: Slot) -> bool {
        let held = |known| if let State::Stopping(until) = known { Some(State::Held(until)) } else { None };
        self.change(slot, held).is_some()
    }

    /// The daemon: it may stand still until then. Returns whether it may, and did not go on before.
    pub fn allow(&self, slot: Slot, until: Duration) -> bool {
        let stands = |known| matches!(known, State::Armed(_) | State::Held(_));
        self.change(slot, |known| stands(known).then_some(State::Held(until))).is_some()
    }

    /// The daemon: nobody need look at it any more.
    pub fn free(&self, slot: Slot) {
        self.change(slot, |known| match known {
            State::Forgotten => None,
            // The guard may be just about to tell it.
            State::Going | State::Leaving => Some(State::Leaving),
            _ => Some(State::Free),
        });
    }

    /// The guard: it goes on, if it may still only what the guard saw. Returns whether it is to.
    pub fn begin_to_let_go(&self, slot: Slot, seen: State) -> bool {
        self.change(slot, |known| (known == seen).then_some(State::Going)).is_some()
    }

    /// The guard: it has gone on. Returns whether it is forgotten, which is asked for here unless the daemon
    /// has.
    pub fn has_gone(&self, slot: Slot, forget: bool) -> bool {
        let gone = |known| match known {
            State::Going if !forget => Some(State::Gone),
            State::Going | State::Leaving => Some(State::Forgotten),
            _ => None,
        };
        self.change(slot, gone).is_some_and(|known| forget || known == State::Leaving)
    }

    /// The guard: it forgets one that is free. Returns whether it is.
    pub fn forget(&self, slot: Slot) -> bool {
        self.change(slot, |known| (known == State::Free).then_some(State::Forgotten)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Duration = Duration::from_millis(86_400_007);

    fn pair() -> (Slots, Slots) {
        let (ours, memory) = Slots::create().unwrap();
        (ours, Slots::open(memory).unwrap())
    }

    #[test]
    fn a_word_says_what_was_written() {
        let states = [
            State::Free,
            State::Forgotten,
            State::Armed(THEN),
            State::Held(Duration::ZERO),
            State::Going,
            State::Gone,
            State::Stopping(THEN),
            State::Leaving,
        ];
        for state in states {
            for turn in [0, 7, u16::MAX] {
                assert_eq!(State::of(state.word(turn)), (state, turn));
            }
        }
        let longest = Duration::from_millis((1 << TIME_BITS) - 1);
        assert_eq!(State::of(State::Held(Duration::MAX).word(1)), (State::Held(longest), 1));
    }

    #[test]
    fn of_daemon_and_guard_one_comes_first() {
        let (daemon, guard) = pair();
        let armed = State::Armed(THEN);
        let slot = daemon.give(4095, armed);
        assert_eq!(guard.get(slot), Some(armed));
        assert!(daemon.allow(slot, THEN));
        assert!(!guard.begin_to_let_go(slot, armed), "a hook has begun meanwhile");
        assert!(guard.begin_to_let_go(slot, State::Held(THEN)));
        assert!(!daemon.allow(slot, THEN) && !daemon.watch(slot, armed), "it is about to be told");
        assert!(!guard.has_gone(slot, false));
        daemon.arm_anew(slot, THEN);
        assert!(!daemon.allow(slot, THEN), "it has gone on");
        assert!(daemon.watch(slot, armed) && daemon.allow(slot, THEN));
        assert!(guard.begin_to_let_go(slot, State::Held(THEN)) && guard.has_gone(slot, true));
        assert!(!daemon.allow(slot, THEN) && !daemon.watch(slot, armed), "the guard has forgotten it");
    }

    #[test]
    fn one_that_is_free_is_forgotten_unless_it_is_watched_again_first() {
        let (daemon, guard) = pair();
        let slot = daemon.give(0, State::Held(THEN));
        assert!(!guard.forget(slot));
        daemon.free(slot);
        assert!(!daemon.allow(slot, THEN));
        assert!(daemon.watch(slot, State::Armed(THEN)) && !guard.forget(slot));
        daemon.free(slot);
        assert!(guard.forget(slot) && !daemon.watch(slot, State::Armed(THEN)));
        daemon.free(slot);
        assert_eq!(guard.get(slot), Some(State::Forgotten));
    }

    #[test]
    fn what_the_guard_is_about_to_let_go_is_watched_only_when_it_has() {
        let (daemon, guard) = pair();
        let armed = State::Armed(THEN);
        let slot = daemon.give(7, armed);
        assert!(guard.begin_to_let_go(slot, armed));
        daemon.free(slot);
        daemon.free(slot);
        assert!(!daemon.watch(slot, armed), "it would be let go on that the guard was not asked to");
        assert!(!daemon.allow(slot, THEN));
        assert!(guard.has_gone(slot, false), "the daemon wants it forgotten");
        assert_eq!(guard.get(slot), Some(State::Forgotten));
    }

    #[test]
    fn who_stops_a_process_learns_that_the_guard_has_let_it_go_on() {
        let (daemon, guard) = pair();
        let stopping = State::Stopping(THEN);
        let slot = daemon.give(7, stopping);
        assert!(!daemon.allow(slot, THEN), "it does not stand still yet");
        assert!(daemon.has_stopped(slot) && !daemon.has_stopped(slot));
        assert_eq!(guard.get(slot), Some(State::Held(THEN)));
        assert!(daemon.watch(slot, stopping) && guard.begin_to_let_go(slot, stopping));
        assert!(!daemon.has_stopped(slot));
        assert!(!guard.has_gone(slot, false) && !daemon.has_stopped(slot));
        assert_eq!(guard.get(slot), Some(State::Gone));
    }

    #[test]
    fn a_slot_that_is_anothers_by_now_is_nobodys_else() {
        let (daemon, guard) = pair();
        let old = daemon.give(3, State::Held(THEN));
        let new = daemon.give(3, State::Held(THEN));
        assert_ne!(old, new);
        daemon.free(old);
        assert!(!daemon.allow(old, THEN) && !guard.begin_to_let_go(old, State::Held(THEN)));
        assert_eq!((guard.get(old), guard.get(new)), (None, Some(State::Held(THEN))));
    }

    #[test]
    fn other_files_are_not_that_memory() {
        assert!(Slots::open(tempfile::tempfile().unwrap()).is_err());
        let (_, memory) = Slots::create().unwrap();
        assert!(ftruncate(&memory, 0).is_err());
    }
}
