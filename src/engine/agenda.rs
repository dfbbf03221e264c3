//! What to look at, and when to try again.
//!
//! What inotify has just told of is looked at before anything that a scan has found, the
//! oldest hint first. Of what a scan has found jobs that may bring events come before those
//! that are known to be closed, each in the order of their numbers: so what is caught up is
//! told in the order in which it happened. A closed job whose file has not changed since it
//! was looked at is not looked at again. Each thing that failed has a clock of its own: what else is
//! tried again puts none of them off. What a scan has not found is looked for among all jobs and all
//! numbers, a piece at a time; everything has been found only when that is over.

mod large;
mod scan;
mod serial;
mod walk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use self::large::{LargeFiles, Read};
use self::scan::Scan;
use self::serial::Serial;
use self::walk::Walk;
use super::retry;
use crate::ganeti::job::JobId;

/// So many jobs or numbers are compared in one go with what a scan has found: live jobs wait for them.
const COMPARED_AT_ONCE: usize = 128;

/// Why a job is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Something has just happened to it.
    Hinted,
    /// It was found.
    Scanned,
}

/// Which of the jobs that a scan has found come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It may bring events.
    News,
    /// It is known to be closed.
    Closed,
    /// It was looked for before, and was nowhere.
    Missing,
}

/// A piece of what is to be gone through for what a scan has not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What is gone through.
    pub of: Unfound,
    /// The numbers that are left.
    pub numbers: RangeInclusive<JobId>,
    /// So many jobs or numbers at most are gone through now.
    pub most: usize,
}

/// What a scan cannot find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfound {
    /// Jobs that are known and have left the queue: this scan has not listed them.
    Unlisted {
        /// The scan's number.
        scan: u64,
    },
    /// Jobs that came and were archived unseen: numbers that were given out and are not accounted for.
    Holes,
}

/// Something that is wanted once, and tried again when it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    /// It is not wanted.
    #[default]
    None,
    /// It is to be done.
    Wanted,
    /// It has failed, and is to be done again at this time.
    After(Duration),
    /// It is being done.
    UnderWay,
}

impl Wish {
    fn is_due(self, steady: Duration) -> bool {
        match self {
            Self::Wanted => true,
            Self::After(time) => time <= steady,
            Self::None | Self::UnderWay => false,
        }
    }

    fn deadline(self) -> Option<Duration> {
        match self {
            Self::After(time) => Some(time),
            _ => None,
        }
    }
}

/// What to look at.
#[derive(Debug, Default)]
pub struct Agenda {
    /// The oldest hint first, each job once.
    hinted: VecDeque<JobId>,
    is_hinted: BTreeSet<JobId>,
    /// What a scan has found.
    scanned: BTreeSet<(Rank, JobId)>,
    /// Jobs that could not be read or judged for want of something that may come back.
    again: BTreeSet<JobId>,
    again_at: Option<Duration>,
    /// Jobs that something happened to while they could not be looked at: much may have happened
    /// since.
    delayed: BTreeSet<JobId>,
    /// Why the readings were asked for that have not been answered.
    asked: BTreeMap<JobId, Cause>,
    large: LargeFiles,
    watch: Wish,
    is_watched: bool,
    scan: Scan,
    /// Numbers that are to be gone through for holes.
    holes: Option<Walk>,
    /// So many jobs or numbers at most are a piece.
    piece: usize,
    serial: Serial,
}

impl Agenda {
    /// Nothing is watched, and nothing has been looked at.
    pub fn new() -> Self {
        Self { watch: Wish::Wanted, piece: COMPARED_AT_ONCE, ..Self::default() }
    }

    /// So many jobs or numbers are a piece from now on, at least one.
    pub fn take_pieces_of(&mut self, most: usize) {
        self.piece = most.max(1);
    }

    /// Something happened to this job.
    pub fn hint(&mut self, id: JobId) {
        if self.is_hinted.insert(id) {
            self.hinted.push_back(id);
        }
        self.unscan(id);
        self.large.changed(id);
    }

    /// This job was found.
    pub fn found(&mut self, id: JobId, rank: Rank) {
        if !self.is_hinted.contains(&id) {
            self.unscan(id);
            self.scanned.insert((rank, id));
        }
    }

    fn unscan(&mut self, id: JobId) {
        for rank in [Rank::News, Rank::Closed, Rank::Missing] {
            self.scanned.remove(&(rank, id));
        }
    }

    /// The job is to be looked at again after a while.
    pub fn again(&mut self, id: JobId, steady: Duration) {
        self.again.insert(id);
        self.delayed.insert(id);
        self.again_at.get_or_insert(steady + retry::LOOK);
    }

    /// Takes up what failed, when it is time. These are looked at like what a scan has found.
    pub fn take_up(&mut self, steady: Duration) {
        if self.again_at.is_some_and(|time| time <= steady) {
            self.again_at = None;
            for id in std::mem::take(&mut self.again) {
                self.found(id, Rank::News);
            }
        }
    }

    /// Nothing could be looked at until now.
    pub fn was_delayed(&mut self) {
        self.delayed.extend(&self.is_hinted);
    }

    /// Whether the job may have come and gone since it was to be looked at first. To be asked
    /// when it is read.
    pub fn may_have_gone(&mut self, id: JobId) -> bool {
        self.delayed.remove(&id) || self.large.wants(id)
    }

    /// Whether the queue cannot be watched, or cannot be listed, for now.
    pub fn is_failing(&self) -> bool {
        matches!(self.watch, Wish::After(_)) || self.scan.deadline().is_some()
    }

    /// Jobs that could not be read or judged, and are tried again.
    pub fn failing(&self) -> impl Iterator<Item = JobId> {
        self.again.iter().copied()
    }

    /// The last job number cannot be read. If it was known before it is looked for again.
    pub fn serial_is_missing(&mut self, steady: Duration, was_known: bool) {
        self.serial.is_missing(steady, was_known);
    }

    /// The last job number that a scan has read is none, or an old one.
    pub fn serial_lacks(&mut self) {
        self.serial.lacks();
    }

    /// The last job number is known. Returns whether it was missing before.
    pub fn serial_is_known(&mut self) -> bool {
        self.serial.is_known()
    }

    /// Whether the last job number is to be read now.
    pub fn wants_serial(&mut self, steady: Duration) -> bool {
        self.serial.is_due(steady)
    }

    /// Whether something has just happened to some job.
    pub fn has_hinted(&self) -> bool {
        !self.hinted.is_empty()
    }

    /// Whether a scan has found some that have not been looked at.
    pub fn has_scanned(&self) -> bool {
        !self.scanned.is_empty()
    }

    /// The next job that something happened to.
    pub fn next_hinted(&mut self) -> Option<JobId> {
        let id = self.hinted.pop_front()?;
        self.is_hinted.remove(&id);
        self.asked.insert(id, Cause::Hinted);
        Some(id)
    }

    /// The next job that a scan has found.
    pub fn next_scanned(&mut self) -> Option<JobId> {
        let (_, id) = self.scanned.pop_first()?;
        self.asked.entry(id).or_insert(Cause::Scanned);
        Some(id)
    }

    /// The job is read once more, for the reason that it was read for.
    pub fn ask_again(&mut self, id: JobId, cause: Cause) {
        self.asked.insert(id, cause);
    }

    /// The job has been read. Why that was asked for.
    pub fn answered(&mut self, id: JobId) -> Cause {
        self.asked.remove(&id).unwrap_or(Cause::Scanned)
    }

    /// Nothing is wanted of this job any more but what happens from now on.
    pub fn forget(&mut self, id: JobId) {
        self.again.remove(&id);
        self.delayed.remove(&id);
        self.is_small(id);
    }

    /// Has a large file read, after the one that is being read. Returns what is to be read now;
    /// the cause is that of the reading that found it large.
    pub fn read_large(&mut self, id: JobId, cause: Cause) -> Option<(u64, JobId)> {
        self.asked.insert(id, cause);
        self.large.want(id, cause)
    }

    /// The file has been read in another way: what a reading of it tells is not wanted.
    pub fn is_small(&mut self, id: JobId) {
        self.large.unwant(id);
    }

    /// A large file has been read. Whether it has changed since that was asked for, `None` when
    /// it is not wanted any more; and what is to be read next. One that has changed is looked at
    /// again.
    pub fn large_read(&mut self, reading: u64, id: JobId) -> (Option<bool>, Option<(u64, JobId)>) {
        let read = self.large.read(reading, self.is_hinted.contains(&id));
        if read == Some(Read::Overtaken) {
            self.hint(id);
            self.delayed.insert(id);
        }
        let overtaken = read.and_then(|read| match read {
            Read::Unwanted => None,
            read => Some(read == Read::Overtaken),
        });
        (overtaken, read.and_then(|_| self.large.next()))
    }

    /// Whether directories are to be watched now.
    pub fn wants_watch(&mut self, steady: Duration) -> bool {
        let due = self.watch.is_due(steady);
        if due {
            self.watch = Wish::UnderWay;
        }
        due
    }

    /// They are watched. Everything has to be looked at that happened before.
    pub fn is_watched_now(&mut self) {
        self.watch = Wish::None;
        self.is_watched = true;
        self.want_scan();
    }

    /// They cannot be watched.
    pub fn cannot_watch(&mut self, steady: Duration) {
        self.watch = Wish::After(steady + retry::LOOK);
    }

    /// Whether what happens is told.
    pub fn is_watching(&self) -> bool {
        self.is_watched
    }

    /// They are not watched any more.
    pub fn watch_lost(&mut self) {
        self.is_watched = false;
        self.watch = Wish::Wanted;
    }

    /// The whole queue is to be compared.
    pub fn want_scan(&mut self) {
        self.scan.want();
    }

    /// The number of the scan that is to begin now. First the queue is watched, then listed.
    pub fn next_scan(&mut self, steady: Duration) -> Option<u64> {
        if self.is_watched { self.scan.begin(steady) } else { None }
    }

    /// Whether the queue is being listed.
    pub fn is_listing(&self) -> bool {
        self.scan.is_listing()
    }

    /// Whether it is by this scan.
    pub fn is_listing_by(&self, scan: u64) -> bool {
        self.scan.is_listing() && self.scan.number() == scan
    }

    /// The queue has been listed by the scan that is under way. What was known is to be compared with
    /// that: no job with a higher number is.
    pub fn is_listed(&mut self, last: Option<JobId>) {
        self.scan.is_listed(last.unwrap_or(JobId::FIRST));
    }

    /// The scan that was under way could not come to its end.
    pub fn scan_failed(&mut self, steady: Duration) {
        self.scan.fails(steady);
    }

    /// All holes are to be looked for, up to this number.
    pub fn seek_holes(&mut self, last: Option<JobId>) {
        self.holes = last.map(Walk::to);
    }

    /// What is to be gone through next for what a scan has not found.
    pub fn next_piece(&self) -> Option<Piece> {
        let unlisted = Unfound::Unlisted { scan: self.scan.number() };
        let known = self.scan.left().map(|walk| (unlisted, walk));
        let (of, walk) = known.or_else(|| Some((Unfound::Holes, self.holes.as_ref()?)))?;
        Some(Piece { of, numbers: walk.left(), most: self.piece })
    }

    /// That has been gone through up to this number, or to its end. Returns whether the scan is over.
    pub fn has_compared(&mut self, of: Unfound, to: Option<JobId>) -> bool {
        match of {
            Unfound::Unlisted { .. } => self.scan.has_compared(to),
            Unfound::Holes => {
                self.holes = self.holes.take().zip(to).and_then(|(walk, id)| walk.after(id));
                false
            }
        }
    }

    /// Whether something is to be gone through for what a scan has not found.
    pub fn is_comparing(&self) -> bool {
        self.scan.left().is_some() || self.holes.is_some()
    }

    /// Whether everything that a scan can find has been found, and what it cannot.
    pub fn has_listed(&self) -> bool {
        self.is_watched && self.scan.is_over() && !self.is_comparing()
    }

    /// Whether directories are to be watched, or the queue is to be listed, at once.
    pub fn wants_more(&self) -> bool {
        self.watch == Wish::Wanted || self.is_watched && self.scan.is_wanted()
    }

    /// Whether everything has been looked at that was found.
    pub fn is_through(&self) -> bool {
        self.has_listed()
            && self.hinted.is_empty()
            && self.scanned.is_empty()
            && self.asked.is_empty()
            && self.large.is_done()
    }

    /// When something is to be tried again.
    pub fn next_deadline(&self) -> Option<Duration> {
        let scan = self.scan.deadline().filter(|_| self.is_watched);
        [self.watch.deadline(), scan, self.again_at, self.serial.deadline()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: i64) -> JobId {
        id.try_into().unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn hints_come_in_their_order_then_what_was_found_and_what_is_closed_last() {
        let mut agenda = Agenda::new();
        agenda.found(id(2), Rank::Missing);
        [300, 5, 7].into_iter().for_each(|n| agenda.found(id(n), Rank::News));
        agenda.found(id(1), Rank::Closed);
        [9, 7, 9].into_iter().for_each(|n| agenda.hint(id(n)));
        let hinted: Vec<_> = std::iter::from_fn(|| agenda.next_hinted()).collect();
        assert_eq!(hinted, [id(9), id(7)]);
        let scanned: Vec<_> = std::iter::from_fn(|| agenda.next_scanned()).collect();
        assert_eq!(scanned, [5, 300, 1, 2].map(id));
        assert_eq!([9, 300].map(|n| agenda.answered(id(n))), [Cause::Hinted, Cause::Scanned]);
    }

    #[test]
    fn what_else_fails_puts_no_clock_off() {
        let mut agenda = Agenda::new();
        agenda.again(id(1), SECOND);
        agenda.cannot_watch(SECOND * 3);
        agenda.again(id(2), SECOND * 2);
        assert_eq!(agenda.next_deadline(), Some(SECOND * 2));
        agenda.take_up(SECOND * 2);
        assert_eq!((agenda.next_scanned(), agenda.next_scanned()), (Some(id(1)), Some(id(2))));
        assert_eq!(agenda.next_deadline(), Some(SECOND * 4));
    }

    /// Goes through what is left, where these are known. What was gone through, piece by piece.
    fn pieces(agenda: &mut Agenda, known: &[i64]) -> Vec<Vec<i64>> {
        let mut pieces = Vec::new();
        while let Some(Piece { of, numbers, most }) = agenda.next_piece() {
            let is_left = |n: &&i64| numbers.contains(&id(**n));
            let piece: Vec<i64> = known.iter().filter(is_left).take(most).copied().collect();
            agenda.has_compared(of, piece.last().filter(|_| piece.len() == most).map(|n| id(*n)));
            pieces.push(piece);
        }
        pieces
    }

    #[test]
    fn hints_that_are_lost_while_a_scan_is_under_way_cost_another_one_when_all_is_compared() {
        let mut agenda = Agenda::new();
        agenda.take_pieces_of(2);
        agenda.want_scan();
        assert_eq!(agenda.next_scan(SECOND), None, "not before it is watched");
        agenda.is_watched_now();
        let scan = agenda.next_scan(SECOND).unwrap();
        assert!(agenda.is_listing_by(scan) && agenda.next_scan(SECOND).is_none());
        agenda.want_scan();
        agenda.is_listed(Some(id(3)));
        assert!(agenda.is_comparing() && !agenda.is_listing_by(scan) && agenda.next_scan(SECOND).is_none());
        assert_eq!(pieces(&mut agenda, &[1, 3]), [vec![1, 3]]);
        assert!(!agenda.has_listed());
        assert_eq!(agenda.next_scan(SECOND), Some(scan + 1));
        agenda.is_listed(Some(id(3)));
        let piece = agenda.next_piece().unwrap();
        assert!(!agenda.has_compared(piece.of, Some(id(2))) && !agenda.has_listed());
        agenda.want_scan();
        assert_eq!(agenda.next_scan(SECOND), None, "not before all is compared");
        assert_eq!(pieces(&mut agenda, &[1, 2, 3]), [[3]]);
        assert_eq!(agenda.next_scan(SECOND), Some(scan + 2));
        agenda.is_listed(None);
        assert_eq!(pieces(&mut agenda, &[]), [Vec::<i64>::new()]);
        assert!(agenda.has_listed());
    }

    #[test]
    fn each_scan_is_compared_from_the_first_job_on_and_holes_are_sought_after_that() {
        let mut agenda = Agenda::new();
        agenda.take_pieces_of(2);
        agenda.is_watched_now();
        for _ in 0..2 {
            agenda.next_scan(SECOND).unwrap();
            agenda.is_listed(Some(id(7)));
            agenda.seek_holes(Some(id(4)));
            assert_eq!(agenda.next_piece().unwrap().of, Unfound::Unlisted { scan: agenda.scan.number() });
            let found = pieces(&mut agenda, &[1, 3, 5, 7, 8]);
            assert_eq!(found, [vec![1, 3], vec![5, 7], vec![1, 3], vec![]]);
            assert!(agenda.has_listed());
            agenda.want_scan();
        }
    }

    #[test]
    fn holes_that_are_sought_anew_are_sought_from_the_first_number_on() {
        let mut agenda = Agenda::new();
        agenda.take_pieces_of(1);
        agenda.seek_holes(Some(id(3)));
        agenda.has_compared(Unfound::Holes, Some(id(1)));
        assert_eq!(agenda.next_piece().unwrap().numbers, id(2)..=id(3));
        agenda.seek_holes(Some(id(4)));
        assert_eq!(pieces(&mut agenda, &[2, 3, 4, 5]), [[2], [3], [4]]);
        agenda.seek_holes(None);
        assert_eq!(agenda.next_piece(), None);
    }

    #[test]
    fn a_large_file_that_changes_while_it_is_read_is_read_again() {
        let mut agenda = Agenda::new();
        let (reading, _) = agenda.read_large(id(1), Cause::Hinted).unwrap();
        agenda.hint(id(1));
        assert_eq!(agenda.next_hinted(), Some(id(1)));
        assert_eq!(agenda.read_large(id(1), Cause::Hinted), None, "one at a time");
        assert_eq!(agenda.large_read(reading, id(1)), (Some(true), None));
        assert_eq!(agenda.next_hinted(), Some(id(1)));
        assert_eq!(agenda.large_read(reading, id(1)), (None, None), "it is not wanted twice");
    }

    #[test]
    fn large_files_are_read_one_at_a_time_and_those_that_change_first() {
        let mut agenda = Agenda::new();
        let (first, _) = agenda.read_large(id(1), Cause::Scanned).unwrap();
        assert_eq!(agenda.read_large(id(2), Cause::Scanned), None);
        assert_eq!(agenda.read_large(id(3), Cause::Hinted), None);
        agenda.is_small(id(1));
        let (wanted, next) = agenda.large_read(first, id(1));
        assert_eq!((wanted, next.unwrap().1), (None, id(3)));
    }
}
