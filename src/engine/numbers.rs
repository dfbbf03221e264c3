//! Which job numbers have been accounted for.
//!
//! Job numbers are given out before the job is written, and jobs are not seen in the
//! order of their numbers. A job may come, run and be archived while nobody looks. So
//! every number that was given out is either accounted for or in `holes`; what to look for
//! after a restart is the holes, and the numbers up to `queue/serial` above `highest`.
//!
//! Only the serial says what has been given out. A job whose number is above it may have been
//! given that since, or is no job of this queue at all: it is kept apart until the serial
//! reaches it. If only an earlier daemon has seen it, its number is a hole then, for another job may
//! have that now; that it was seen is known until it has been looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::ganeti::job::JobId;

/// The most numbers that one gap adds to the holes.
pub const WIDEST_GAP: i64 = 100_000;

/// How many numbers above the serial are remembered. They are asked about long before.
const BEYOND_MAX: usize = 4096;

/// One change of the numbers that are accounted for, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumbersChange {
    /// This is all: the highest number that was given out, the holes below it, and what has been
    /// seen above it, or above what was the highest then and is a hole now.
    All(i64, Vec<i64>, Vec<i64>),
    /// Numbers up to the second have been given out; those from the first on are holes, but
    /// for these. What had been seen above the highest stays known as that.
    GivenOut(i64, i64, Vec<i64>),
    /// A hole that was one no more.
    Filled(i64),
    /// Holes below this are waited for no more.
    GivenUpBelow(i64),
    /// These have been seen, and are above the highest that was given out.
    SeenAbove(Vec<i64>),
    /// What has been seen above this is not remembered any more.
    GivenUpAbove(i64),
    /// These are of a cluster that is gone: numbers begin again with the next serial.
    OfOld,
}

/// The job numbers seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    highest: i64,
    /// The numbers up to the highest that no job has been seen with, and whether one was sought.
    holes: BTreeMap<i64, bool>,
    /// Seen, and above the highest.
    beyond: BTreeSet<i64>,
    /// Those of them that the journal has not been told of.
    untold: BTreeSet<i64>,
    /// Seen above what was the highest then by an earlier daemon, and not since: still above it, or
    /// holes.
    seen_before: BTreeSet<i64>,
    /// Some of those that the journal has were given up.
    is_given_up: bool,
    /// Numbers have begun again: the next serial is that of another cluster.
    begins_again: bool,
}

/// Whether a number is accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// It is not.
    Missing,
    /// A job of it has been found.
    Found,
    /// An earlier daemon has found one, when the number had not been given out as far as was known,
    /// and this one has not.
    FoundBefore,
}

impl Numbers {
    /// Numbers as the journal remembers them: the highest that was given out, the holes below it,
    /// and what has been seen above it, which is to be looked at again once it has been given out.
    pub fn new(highest: i64, numbers: impl IntoIterator<Item = i64>) -> Self {
        let (holes, seen): (BTreeSet<i64>, BTreeSet<i64>) =
            numbers.into_iter().partition(|id| *id <= highest);
        let holes = holes.into_iter().map(unsought).collect();
        let is_given_up = seen.len() > BEYOND_MAX;
        let seen_before = seen.into_iter().take(BEYOND_MAX).collect();
        Self { highest, holes, seen_before, is_given_up, ..Self::default() }
    }

    /// The same where those of these numbers that are holes had been seen when they were above the
    /// highest.
    pub fn with_seen(mut self, numbers: impl IntoIterator<Item = i64>) -> Self {
        self.seen_before.extend(numbers.into_iter().filter(|id| self.holes.contains_key(id)));
        self
    }

    /// The highest number that was given out, as far as is known.
    pub fn highest(&self) -> i64 {
        self.highest
    }

    /// Which of these, up to the highest, no job has been seen with.
    pub fn holes(&self, numbers: RangeInclusive<JobId>) -> impl Iterator<Item = JobId> {
        let (first, last) = numbers.into_inner();
        self.holes.range(first.get()..=last.get()).filter_map(|(id, _)| JobId::try_from(*id).ok())
    }

    /// All of it, as a change from nothing.
    pub fn all(&self) -> NumbersChange {
        let holes = self.holes.keys().filter(|id| !self.seen_before.contains(id));
        let seen = self.seen_before.union(&self.beyond);
        NumbersChange::All(self.highest, holes.copied().collect(), seen.copied().collect())
    }

    /// Whether the job's number is accounted for, and how.
    pub fn account(&self, id: JobId) -> Account {
        match self.contains(id) {
            _ if self.seen_before.contains(&id.get()) => Account::FoundBefore,
            true => Account::Found,
            false => Account::Missing,
        }
    }

    /// Whether the job is one that has been accounted for.
    pub fn contains(&self, id: JobId) -> bool {
        let id = id.get();
        if id > self.highest { self.beyond.contains(&id) } else { !self.holes.contains_key(&id) }
    }

    /// Accounts for a job.
    pub fn see(&mut self, id: JobId) -> Option<NumbersChange> {
        let id = id.get();
        self.seen_before.remove(&id);
        if id > self.highest {
            if self.beyond.insert(id) {
                self.untold.insert(id);
            }
            if self.beyond.len() > BEYOND_MAX
                && let Some(last) = self.beyond.pop_last()
            {
                self.is_given_up |= !self.untold.remove(&last);
            }
            return None;
        }
        self.holes.remove(&id).map(|_| NumbersChange::Filled(id))
    }

    /// A job of this number was sought, and is nowhere.
    pub fn is_nowhere(&mut self, id: JobId) {
        self.holes.entry(id.get()).and_modify(|was_sought| *was_sought = true);
    }

    /// Whether that is so, and the number is still waited for.
    pub fn was_sought(&self, id: JobId) -> bool {
        self.holes.get(&id.get()) == Some(&true)
    }

    /// What is to be written of the numbers that have been seen above the highest, when the serial
    /// has been asked for and has not reached them.
    pub fn seen_above(&mut self) -> impl Iterator<Item = NumbersChange> {
        let untold = std::mem::take(&mut self.untold);
        let seen = (!untold.is_empty()).then(|| NumbersChange::SeenAbove(untold.into_iter().collect()));
        let given_up = std::mem::take(&mut self.is_given_up);
        let last = self.beyond.last().max(self.seen_before.last()).copied().max(Some(self.highest));
        let last = last.filter(|_| given_up);
        seen.into_iter().chain(last.map(NumbersChange::GivenUpAbove))
    }

    /// Numbers up to `serial` have been given out. Of a gap wider than [`WIDEST_GAP`]
    /// only the upper end is searched.
    pub fn reach(&mut self, serial: i64) -> Option<NumbersChange> {
        if serial <= self.highest {
            return None;
        }
        let first = (self.highest + 1).max(serial.saturating_sub(WIDEST_GAP - 1));
        let later = serial.checked_add(1).map(|next| self.beyond.split_off(&next)).unwrap_or_default();
        let seen = std::mem::replace(&mut self.beyond, later);
        self.untold.retain(|id| *id > serial);
        self.holes.extend((first..=serial).filter(|id| !seen.contains(id)).map(unsought));
        self.seen_before.retain(|id| *id > serial || self.holes.contains_key(id));
        self.highest = serial;
        Some(NumbersChange::GivenOut(first, serial, seen.into_iter().filter(|id| *id >= first).collect()))
    }

    /// They are those of a cluster that is gone: numbers begin again when the serial is known.
    pub fn are_of_old(&mut self) -> Option<NumbersChange> {
        let was_known = std::mem::replace(&mut self.begins_again, true);
        self.of_old().filter(|_| !was_known)
    }

    /// Whether they are, as a change from nothing.
    pub fn of_old(&self) -> Option<NumbersChange> {
        self.begins_again.then_some(NumbersChange::OfOld)
    }

    /// Whether numbers have begun again where this is the last that was given out.
    pub fn begin_again_at(&self, serial: i64) -> bool {
        self.begins_again || serial < self.highest
    }

    /// Job numbers have begun again: nothing is accounted for.
    pub fn begin_again(&mut self, serial: i64) -> NumbersChange {
        *self = Self::default();
        self.reach(serial);
        self.all()
    }

    /// No history tells any more that what an earlier daemon has seen above the serial was told: it
    /// is not looked for any more, though a job of another cluster may have its number now.
    pub fn account_for_found_before(&mut self) {
        let above = self.seen_before.split_off(&self.highest.saturating_add(1));
        let found_before = std::mem::replace(&mut self.seen_before, above);
        self.holes.retain(|id, _| !found_before.contains(id));
    }

    /// A first start: only the last `gap` of the numbers up to `serial` are looked for. What was seen
    /// above it is a stray, or of a cluster that was before this one: its number may be given out yet.
    pub fn begin_at(&mut self, serial: i64, gap: i64) -> NumbersChange {
        let mut beyond = std::mem::take(&mut self.beyond);
        beyond.retain(|id| *id <= serial);
        *self = Self { highest: (serial - gap).max(0), beyond, ..Self::default() };
        self.reach(serial);
        self.all()
    }

    /// Stops waiting for holes below `oldest`.
    pub fn give_up_below(&mut self, oldest: i64) -> Option<NumbersChange> {
        let oldest = oldest.min(self.highest.saturating_add(1));
        let kept = self.holes.split_off(&oldest);
        let given_up = std::mem::replace(&mut self.holes, kept);
        self.seen_before = self.seen_before.split_off(&oldest);
        (!given_up.is_empty()).then_some(NumbersChange::GivenUpBelow(oldest))
    }
}

/// A hole that no job was sought for.
fn unsought(id: i64) -> (i64, bool) {
    (id, false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(id: i64) -> JobId {
        id.try_into().unwrap()
    }

    fn all_holes(numbers: &Numbers) -> impl Iterator<Item = JobId> {
        numbers.holes(JobId::FIRST..=id(i64::MAX))
    }

    fn holes(numbers: &Numbers) -> Vec<i64> {
        all_holes(numbers).map(JobId::get).collect()
    }

    #[test]
    fn numbers_seen_out_of_order_leave_no_hole_behind() {
        let mut numbers = Numbers::default();
        numbers.reach(3);
        assert_eq!(numbers.see(id(3)), Some(NumbersChange::Filled(3)));
        assert_eq!(holes(&numbers), [1, 2]);
        assert!(numbers.see(id(1)).is_some());
        assert!(numbers.see(id(1)).is_none());
        assert_eq!(holes(&numbers), [2]);
        assert!(!numbers.contains(id(2)) && !numbers.contains(id(4)));
    }

    #[test]
    fn the_serial_bounds_the_search() {
        let mut numbers = Numbers::new(10, [7]);
        numbers.reach(12);
        assert_eq!(holes(&numbers), [7, 11, 12]);
        numbers.give_up_below(11);
        assert_eq!(holes(&numbers), [11, 12]);
    }

    #[test]
    fn a_stray_job_far_above_the_serial_gives_out_no_number() {
        let mut numbers = Numbers::new(10, []);
        assert_eq!(numbers.see(id(1_000_000)), None);
        assert_eq!((numbers.highest(), numbers.beyond.len()), (10, 1));
        assert!(numbers.contains(id(1_000_000)) && !numbers.contains(id(11)));
        assert_eq!(numbers.see(id(12)), None);
        assert_eq!(numbers.reach(12), Some(NumbersChange::GivenOut(11, 12, vec![12])));
        assert_eq!((holes(&numbers), numbers.beyond.len()), (vec![11], 1));
    }

    #[test]
    fn what_is_above_the_serial_is_written_once_and_only_so_much_of_it() {
        let mut numbers = Numbers::new(10, []);
        let last = 20 + BEYOND_MAX as i64;
        (20..last).for_each(|n| drop(numbers.see(id(n))));
        let first: Vec<_> = numbers.seen_above().collect();
        assert_eq!(first, [NumbersChange::SeenAbove((20..last).collect())]);
        assert_eq!(numbers.seen_above().count(), 0);
        numbers.see(id(last));
        assert_eq!(numbers.seen_above().count(), 0, "the highest is the first that is given up");
        numbers.see(id(12));
        let changes: Vec<_> = numbers.seen_above().collect();
        assert_eq!(changes, [NumbersChange::SeenAbove(vec![12]), NumbersChange::GivenUpAbove(last - 2)]);
    }

    #[test]
    fn what_an_earlier_daemon_saw_above_the_serial_is_looked_for_once_that_is_reached() {
        let mut numbers = Numbers::new(10, [7, 12, 20]);
        assert!(!numbers.contains(id(12)));
        assert_eq!(numbers.account(id(12)), Account::FoundBefore);
        assert_eq!(numbers.all(), NumbersChange::All(10, vec![7], vec![12, 20]));
        assert_eq!(numbers.reach(13), Some(NumbersChange::GivenOut(11, 13, vec![])));
        assert_eq!(numbers.all(), NumbersChange::All(13, vec![7, 11, 13], vec![12, 20]));
        assert_eq!(numbers.account(id(12)), Account::FoundBefore, "until it has been looked at");
        assert_eq!(Numbers::new(13, [7, 11, 12, 13, 20]).with_seen([12, 20]), numbers);
        assert_eq!(numbers.see(id(12)), Some(NumbersChange::Filled(12)));
        assert_eq!(numbers.account(id(12)), Account::Found);
        let flood = Numbers::new(10, 11..=11 + BEYOND_MAX as i64).seen_above().next();
        assert_eq!(flood, Some(NumbersChange::GivenUpAbove(10 + BEYOND_MAX as i64)));
    }

    #[test]
    fn what_was_seen_above_the_first_serial_is_looked_for_once_that_is_reached() {
        let mut numbers = Numbers::default();
        [1, 3, 7, 8].into_iter().for_each(|n| drop(numbers.see(id(n))));
        assert_eq!(numbers.begin_at(3, 100), NumbersChange::All(3, vec![2], vec![]));
        assert!(numbers.contains(id(3)) && !numbers.contains(id(7)));
        numbers.see(id(8));
        assert_eq!(numbers.reach(8), Some(NumbersChange::GivenOut(4, 8, vec![8])));
        assert_eq!(holes(&numbers), [2, 4, 5, 6, 7]);
    }

    #[test]
    fn of_a_wide_gap_only_the_upper_end_is_searched() {
        let mut numbers = Numbers::new(10, []);
        numbers.reach(10 + 3 * WIDEST_GAP);
        assert_eq!(all_holes(&numbers).count() as i64, WIDEST_GAP);
        assert_eq!(all_holes(&numbers).last(), Some(id(10 + 3 * WIDEST_GAP)));
        numbers.reach(i64::MAX);
        assert_eq!(numbers.highest(), i64::MAX);
    }

    /// What a daemon learns of job numbers.
    #[derive(Clone, Debug)]
    enum Lesson {
        See(i64),
        Reach(i64),
        GiveUpBelow(i64),
        BeginAgain(i64),
        /// All of it is written anew.
        WriteAnew,
        /// The serial cannot be read.
        NoSerial,
        /// The next daemon starts.
        Restart,
    }

    fn any_lesson() -> impl Strategy<Value = Lesson> {
        prop_oneof![
            8 => (1..60i64).prop_map(Lesson::See),
            2 => (0..60i64).prop_map(Lesson::Reach),
            2 => (0..60i64).prop_map(Lesson::GiveUpBelow),
            1 => (0..60i64).prop_map(Lesson::BeginAgain),
            1 => Just(Lesson::WriteAnew),
            2 => Just(Lesson::NoSerial),
            1 => Just(Lesson::Restart),
        ]
    }

    /// What a daemon would know that starts after these changes.
    fn written(changes: &[NumbersChange]) -> Numbers {
        let (mut highest, mut holes, mut above) = (0, BTreeSet::new(), BTreeSet::new());
        for change in changes {
            match change {
                NumbersChange::All(all, open, seen) => {
                    highest = *all;
                    holes = open.iter().chain(seen).copied().collect();
                    above = seen.iter().copied().collect();
                }
                NumbersChange::GivenOut(first, last, seen) => {
                    holes.retain(|id| *id <= highest || *id >= *first);
                    holes.extend(*first..=*last);
                    holes.retain(|id| !seen.contains(id));
                    above.retain(|id| holes.contains(id));
                    highest = *last;
                }
                NumbersChange::Filled(id) => drop(holes.remove(id)),
                NumbersChange::GivenUpBelow(oldest) => holes = holes.split_off(oldest),
                NumbersChange::SeenAbove(seen) => {
                    holes.extend(seen);
                    above.extend(seen);
                }
                NumbersChange::GivenUpAbove(last) => holes.retain(|id| id <= last),
                NumbersChange::OfOld => panic!("nobody said so"),
            }
        }
        Numbers::new(highest, holes).with_seen(above)
    }

    proptest! {
        /// The reference remembers every number and what became of it.
        #[test]
        fn what_was_given_out_and_is_neither_seen_nor_given_up_is_a_hole(
            lessons in prop::collection::vec(any_lesson(), 0..40),
        ) {
            let mut numbers = Numbers::default();
            // Each number that was seen, or given out: whether nothing is to be looked for.
            let mut known: BTreeMap<i64, bool> = BTreeMap::new();
            // Those that an earlier daemon has seen above the highest, and nobody since.
            let mut before = BTreeSet::new();
            let mut highest = 0;
            let mut changes = Vec::new();
            for lesson in lessons {
                match lesson {
                    Lesson::See(n) => {
                        known.insert(n, true);
                        before.remove(&n);
                        changes.extend(numbers.see(id(n)));
                    }
                    Lesson::Reach(n) => {
                        highest = highest.max(n);
                        for n in 1..=n {
                            known.entry(n).or_insert(false);
                        }
                        changes.extend(numbers.reach(n));
                    }
                    Lesson::GiveUpBelow(n) => {
                        known.range_mut(..n.min(highest + 1)).for_each(|(_, done)| *done = true);
                        before = before.split_off(&n.min(highest + 1));
                        changes.extend(numbers.give_up_below(n));
                    }
                    Lesson::BeginAgain(n) => {
                        known = (1..=n).map(|n| (n, false)).collect();
                        (highest, before) = (n, BTreeSet::new());
                        changes.push(numbers.begin_again(n));
                    }
                    Lesson::WriteAnew => changes = vec![numbers.all()],
                    Lesson::NoSerial => {
                        changes.extend(numbers.seen_above());
                        let seen = before.union(&numbers.beyond).copied().collect();
                        prop_assert_eq!(&written(&changes).seen_before, &seen);
                    }
                    Lesson::Restart => {
                        changes.extend(numbers.seen_above());
                        numbers = written(&changes);
                        before.extend(known.split_off(&(highest + 1)).into_keys());
                    }
                }
                let open: Vec<i64> = known.iter().filter(|(_, done)| !**done).map(|(n, _)| *n).collect();
                prop_assert_eq!(holes(&numbers), &*open);
                prop_assert_eq!(numbers.highest(), highest);
                prop_assert!((1..70).all(|n| numbers.contains(id(n)) == (known.get(&n) == Some(&true))));
                let written = written(&changes);
                prop_assert_eq!((written.highest(), holes(&written)), (highest, open), "they tell all of it");
                let seen: BTreeSet<i64> = before.union(&numbers.beyond).copied().collect();
                prop_assert!(before.is_subset(&written.seen_before), "and what was seen before");
                prop_assert!(written.seen_before.is_subset(&seen));
                let is_before = |n: &i64| numbers.account(id(*n)) == Account::FoundBefore;
                prop_assert_eq!((1..70).filter(is_before).collect::<BTreeSet<i64>>(), before.clone());
            }
        }
    }
}
