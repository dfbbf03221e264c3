//! Which job numbers have been accounted for.
//!
//! Job numbers are given out before the job is written, and jobs are not seen in the
//! order of their numbers. A job may come, run and be archived while nobody looks. So
//! every number up to `highest` is either accounted for or in `holes`; what to look for
//! after a restart is the holes, and the numbers up to `queue/serial` above `highest`.

use std::collections::BTreeSet;

use crate::ganeti::job::JobId;

/// The most numbers that one gap adds to the holes.
pub const WIDEST_GAP: i64 = 100_000;

/// The job numbers seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    highest: i64,
    holes: BTreeSet<i64>,
}

impl Numbers {
    /// Numbers as the journal remembers them.
    pub fn new(highest: i64, holes: impl IntoIterator<Item = i64>) -> Self {
        Self { highest, holes: holes.into_iter().collect() }
    }

    /// The highest number that was seen or given out.
    pub fn highest(&self) -> i64 {
        self.highest
    }

    /// The numbers up to the highest that no job has been seen with.
    pub fn holes(&self) -> impl Iterator<Item = JobId> {
        self.holes.iter().filter_map(|id| JobId::try_from(*id).ok())
    }

    /// The numbers that are holes here and not in `other`.
    pub fn holes_not_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = i64> + 'a {
        self.holes.difference(&other.holes).copied()
    }

    /// Whether the job is one that has been accounted for.
    pub fn contains(&self, id: JobId) -> bool {
        id.get() <= self.highest && !self.holes.contains(&id.get())
    }

    /// Accounts for a job. Returns whether that is new.
    pub fn see(&mut self, id: JobId) -> bool {
        if self.contains(id) {
            return false;
        }
        self.reach(id.get());
        self.holes.remove(&id.get());
        true
    }

    /// Numbers up to `serial` have been given out. Of a gap wider than [`WIDEST_GAP`]
    /// only the upper end is searched.
    pub fn reach(&mut self, serial: i64) {
        if serial > self.highest {
            let first = (self.highest + 1).max(serial.saturating_sub(WIDEST_GAP - 1));
            self.holes.extend(first..=serial);
            self.highest = serial;
        }
    }

    /// Stops waiting for holes below `oldest`.
    pub fn give_up_below(&mut self, oldest: i64) {
        self.holes = self.holes.split_off(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(id: i64) -> JobId {
        id.try_into().unwrap()
    }

    fn holes(numbers: &Numbers) -> Vec<i64> {
        numbers.holes().map(JobId::get).collect()
    }

    #[test]
    fn numbers_seen_out_of_order_leave_no_hole_behind() {
        let mut numbers = Numbers::default();
        assert!(numbers.see(id(3)));
        assert_eq!(holes(&numbers), [1, 2]);
        assert!(numbers.see(id(1)));
        assert!(!numbers.see(id(1)));
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
    fn of_a_wide_gap_only_the_upper_end_is_searched() {
        let mut numbers = Numbers::new(10, []);
        numbers.reach(10 + 3 * WIDEST_GAP);
        assert_eq!(numbers.holes().count() as i64, WIDEST_GAP);
        assert_eq!(numbers.holes().last(), Some(id(10 + 3 * WIDEST_GAP)));
        numbers.reach(i64::MAX);
        assert_eq!(numbers.highest(), i64::MAX);
    }

    /// What a daemon learns of job numbers.
    #[derive(Clone, Debug)]
    enum Lesson {
        See(i64),
        Reach(i64),
        GiveUpBelow(i64),
    }

    fn any_lesson() -> impl Strategy<Value = Lesson> {
        prop_oneof![
            4 => (1..60i64).prop_map(Lesson::See),
            1 => (0..60i64).prop_map(Lesson::Reach),
            1 => (0..60i64).prop_map(Lesson::GiveUpBelow),
        ]
    }

    /// The numbers up to `n` are given out; those that were before keep what became of them.
    fn give_out(numbers: &mut BTreeMap<i64, bool>, n: i64) {
        for n in 1..=n {
            numbers.entry(n).or_insert(false);
        }
    }

    proptest! {
        /// The reference remembers every number and what became of it.
        #[test]
        fn what_is_neither_seen_nor_given_up_is_a_hole(
            lessons in prop::collection::vec(any_lesson(), 0..40),
        ) {
            let mut numbers = Numbers::default();
            let mut given_out: BTreeMap<i64, bool> = BTreeMap::new();
            for lesson in lessons {
                match lesson {
                    Lesson::See(n) => {
                        let is_new = given_out.get(&n) != Some(&true);
                        give_out(&mut given_out, n);
                        given_out.insert(n, true);
                        prop_assert_eq!(numbers.see(id(n)), is_new);
                    }
                    Lesson::Reach(n) => {
                        give_out(&mut given_out, n);
                        numbers.reach(n);
                    }
                    Lesson::GiveUpBelow(n) => {
                        given_out.range_mut(..n).for_each(|(_, done)| *done = true);
                        numbers.give_up_below(n);
                    }
                }
                let open = given_out.iter().filter(|(_, done)| !**done).map(|(n, _)| *n);
                prop_assert_eq!(holes(&numbers), open.collect::<Vec<_>>());
                prop_assert_eq!(numbers.highest(), given_out.keys().last().copied().unwrap_or(0));
                prop_assert!((1..70).all(|n| numbers.contains(id(n)) == (given_out.get(&n) == Some(&true))));
                prop_assert_eq!(&Numbers::new(numbers.highest(), holes(&numbers)), &numbers);
            }
        }
    }
}
