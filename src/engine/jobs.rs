//! The jobs: how far each has been told, and which numbers are accounted for.
//!
//! What was told before is the `History`'s to know, and what was there before this daemon began to
//! look the `Pass`'s.

mod history;
mod open;
mod pass;

use std::collections::{BTreeMap, BTreeSet};

use self::history::History;
use self::open::Open;
use self::pass::Pass;
use super::agenda::{Cause, Rank};
use super::change::{Change, FirstLook, Past};
use super::input::Stamp;
use super::metrics::JobStates;
use super::numbers::{Account, Numbers, NumbersChange, WIDEST_GAP};
use super::tracker::{Tracked, Tracker};
use super::transitions::{self, Progress};
use crate::ganeti::event::Event;
use crate::ganeti::job::{Job, JobId, Timestamp};

/// How many of the last numbers are searched on a first start, in the queue and in the archive:
/// for jobs that run, and for those whose number was given out but which had not been written.
const FIRST_START_GAP: i64 = 1024;

/// Which version of a job is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The newest one in the queue.
    Queued,
    /// One from the queue that has been replaced since.
    Overtaken,
    /// The one in the archive.
    Archived,
}

/// Where a job begins that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is known, or begins here.
    At(Progress),
    /// The history may know it: ask that first.
    AskHistory,
}

/// What is known of a job's file, for as long as this daemon runs.
#[derive(Clone, Debug, Default)]
struct Sight {
    /// The version that was looked at last.
    stamp: Option<Stamp>,
    /// The last scan that found it in the queue.
    listed: u64,
    /// The pass in which it was looked at last.
    pass: u64,
    /// The opcode that had started and not ended.
    open: Option<Open>,
}

/// All jobs.
#[derive(Debug)]
pub struct Jobs {
    tracker: Tracker,
    numbers: Numbers,
    history: History,
    pass: Pass,
    sights: BTreeMap<JobId, Sight>,
}

impl Jobs {
    /// What an earlier daemon left.
    pub fn new(jobs: Vec<(JobId, Tracked)>, numbers: Numbers, past: Past, started: Timestamp) -> Self {
        let mut tracker = Tracker::default();
        jobs.into_iter().for_each(|(id, tracked)| tracker.keep(id, tracked));
        let (history, pass) = (History::new(past, started), Pass::new(past));
        Self { tracker, numbers, history, pass, sights: BTreeMap::new() }
    }

    /// The jobs themselves.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// The job numbers accounted for.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Whether the first look ever has begun, or is over: what had ended by then is history.
    pub fn has_begun(&self) -> bool {
        self.history.begun().is_some()
    }

    /// What had ended by then is history, for the journal: what is there on a first start is so only
    /// when all of it has been looked at. Before that the next start is a first one again.
    fn begun_for_good(&self) -> Option<Timestamp> {
        self.history.begun().filter(|_| !self.is_first_ever())
    }

    /// The first look that is not over, once everything has been found that was there.
    pub fn first_look(&self) -> Option<FirstLook> {
        self.pass.first_look(self.history.begun()?)
    }

    /// When job numbers began again last.
    pub fn began_again(&self) -> Option<Timestamp> {
        self.history.began_again()
    }

    /// Jobs that may still bring events.
    pub fn open(&self) -> impl Iterator<Item = JobId> {
        self.tracker.open()
    }

    /// How many are how far.
    pub fn states(&self) -> JobStates {
        let (all, open) = (self.tracker.len(), self.tracker.open());
        let mut states = JobStates { ended: all.saturating_sub(open.len()), ..JobStates::default() };
        for id in open {
            match self.open_opcode(id) {
                None => states.queued += 1,
                Some(open) if open.is_executing() => states.running += 1,
                Some(open) => {
                    states.waiting += 1;
                    let oldest = [states.oldest_waiting, open.started()].into_iter().flatten().min();
                    states.oldest_waiting = oldest;
                }
            }
        }
        states
    }

    /// The job's opcode that had started and not ended.
    fn open_opcode(&self, id: JobId) -> Option<&Open> {
        self.sights.get(&id)?.open.as_ref()
    }

    /// The opcodes that wait for their locks, as the pres that will come of them; those that have
    /// waited longest first. However many there are, only what is taken of them is made.
    pub fn waiting(&self, now: Timestamp) -> impl Iterator<Item = Event> {
        let since = |job: JobId| {
            let open = self.open_opcode(job).filter(|open| !open.is_executing())?;
            Some((open.started(), job))
        };
        let mut waiting: Vec<_> = self.tracker.open().filter_map(since).collect();
        waiting.sort_unstable();
        waiting
            .into_iter()
            .filter_map(move |(_, job)| self.open_opcode(job)?.waits(job, self.tracker.get(job)?, now))
    }

    /// Whether nothing was ever told before, and what there was has not all been looked at.
    pub fn is_first_ever(&self) -> bool {
        self.pass.is_first()
    }

    /// Whether everything that was there has been looked at.
    pub fn is_pass_over(&self) -> bool {
        self.pass.is_over()
    }

    /// The watch stands: what is there now was there before.
    pub fn watch_stands(&mut self, now: Timestamp) {
        self.pass.watch_stands(now);
    }

    /// There is no queue now, and the watch has never stood: what ends from now on is no history,
    /// however soon the queue's first jobs run.
    pub fn is_without_queue(&mut self, now: Timestamp) {
        if !self.has_begun() {
            self.pass.is_without_queue(now);
        }
    }

    /// This node became master: what is there now happened under another one.
    pub fn begin_pass(&mut self, now: Timestamp) {
        self.pass.begin(now);
    }

    /// Everything that was there has been looked at, as far as it could be. Returns when it was
    /// there, if that was the first time ever: then what could not be looked at is accounted for,
    /// too, and history if it proves to be over.
    pub fn end_pass(&mut self, unjudged: impl Iterator<Item = JobId>) -> Option<Timestamp> {
        let unjudged: BTreeSet<JobId> = unjudged.filter(|id| self.is_backlog(*id)).collect();
        if self.pass.is_first_of_a_queue() {
            let is_listed = |id: &&JobId| self.sights.get(id).is_some_and(|sight| sight.listed > 0);
            unjudged.iter().filter(is_listed).for_each(|id| drop(self.numbers.see(*id)));
        }
        let is_first = self.pass.end(unjudged);
        self.history.begun().filter(|_| is_first)
    }

    /// Whether what a look at this job brings to light happened before.
    pub fn is_backlog(&self, id: JobId) -> bool {
        self.pass.is_about(id) && !self.has_looked_at(id) || self.pass.is_unjudged(id)
    }

    /// Whether the job is there and was looked at in this pass.
    fn has_looked_at(&self, id: JobId) -> bool {
        self.sights.get(&id).is_some_and(|sight| sight.pass == self.pass.number())
    }

    /// Whether the archive is to be looked at for a job that is not in the queue. One that is not
    /// known may be new though its number is accounted for: an older cluster had given it out.
    pub fn is_wanted(&self, id: JobId) -> bool {
        !(self.numbers.contains(id) && self.is_closed(id))
    }

    /// The last job number that was given out, read when the queue was already watched. Returns
    /// what changes, and whether numbers have begun again.
    pub fn serial(&mut self, serial: i64, now: Timestamp) -> (Option<NumbersChange>, bool) {
        self.pass.reach(serial);
        if !self.has_begun() {
            return (None, false);
        }
        if self.numbers.begin_again_at(serial) {
            self.history.begin_again(now);
            self.pass.begin_again();
            return (Some(self.numbers.begin_again(serial)), true);
        }
        (self.numbers.reach(serial), false)
    }

    /// What is to be written of jobs whose numbers are above the serial, which has been asked for.
    pub fn seen_above(&mut self) -> impl Iterator<Item = NumbersChange> {
        self.numbers.seen_above()
    }

    /// Numbers of jobs in the archive are unaccounted for again. Returns what had ended by when is
    /// history, if that is new.
    pub fn trust_the_history(&mut self) -> Option<Timestamp> {
        self.history.trust()
    }

    /// All that is to be written of them to a journal that is written anew, and has no history of
    /// what was told up to now.
    pub fn anew(&mut self) -> Vec<Change> {
        let lost = self.history.lose();
        self.numbers.account_for_found_before();
        let numbers = [self.numbers.all()].into_iter().chain(self.numbers.of_old());
        let mut all: Vec<Change> = numbers.map(Change::Numbers).collect();
        all.extend(self.begun_for_good().map(Change::Begun));
        all.extend(self.first_look().map(Change::FirstLook));
        all.extend(self.began_again().map(Change::BeganAgain));
        all.push(Change::HistoryLost(lost));
        all.extend(self.tracker.iter().map(|(id, tracked)| Change::Job(id, tracked.clone())));
        all
    }

    /// That journal is in the place of the old one.
    pub fn history_is_lost(&mut self) {
        self.history.is_lost();
    }

    /// The queue has been listed for the first time ever. All but the last numbers are
    /// accounted for; those are when they have been looked at.
    pub fn begin(&mut self, serial: Option<i64>) {
        self.history.begins(self.pass.since());
        match serial {
            Some(serial) if self.pass.is_resumed() => drop(self.numbers.reach(serial)),
            Some(serial) => drop(self.numbers.begin_at(serial, FIRST_START_GAP)),
            None => {}
        }
    }

    /// A scan has found the job's file. Returns whether it is to be looked at.
    pub fn is_listed(&mut self, id: JobId, scan: u64, stamp: Option<Stamp>) -> bool {
        let closed = self.is_closed(id);
        let sight = self.sights.entry(id).or_default();
        sight.listed = scan;
        let unchanged = stamp.is_some() && sight.stamp == stamp;
        if closed && unchanged {
            sight.pass = self.pass.number();
        }
        !(closed && unchanged)
    }

    /// Whether this scan has not found the job's file in the queue.
    pub fn is_unlisted(&self, id: JobId, scan: u64) -> bool {
        self.sights.get(&id).is_none_or(|sight| sight.listed != scan)
    }

    fn is_closed(&self, id: JobId) -> bool {
        self.tracker.get(id).is_some_and(|tracked| !tracked.is_open())
    }

    /// When a job is looked at that a scan has found.
    pub fn rank(&self, id: JobId) -> Rank {
        match self.tracker.get(id) {
            Some(tracked) if tracked.is_open() => Rank::News,
            Some(_) => Rank::Closed,
            None if self.numbers.was_sought(id) => Rank::Missing,
            None => Rank::News,
        }
    }

    /// The job was looked for, and is neither in the queue nor in the archive.
    pub fn is_nowhere(&mut self, id: JobId) {
        if self.tracker.get(id).is_none() {
            self.forget(id);
            self.numbers.is_nowhere(id);
        }
    }

    /// Whether the number is accounted for, though no job of it is known.
    pub fn is_strange(&self, id: JobId) -> bool {
        self.tracker.get(id).is_none() && self.numbers.contains(id)
    }

    /// Whether this is another job than the one that was known by its number: numbers may have
    /// begun again.
    pub fn is_another(&self, job: &Job<'_>) -> bool {
        self.tracker.known(job).is_none() && self.numbers.contains(job.id) && self.begun_for_good().is_some()
    }

    /// Such a job has been found. If it is newer numbers have begun again, whatever has been given out
    /// since; that is written, since the serial may be known only to the next daemon.
    pub fn meet_another(&mut self, job: &Job<'_>) -> Option<NumbersChange> {
        if self.is_newer(job) { self.numbers.are_of_old() } else { None }
    }

    /// Whether the job would be taken for what it is by whoever knew nothing of it: nothing of its number is
    /// accounted for, or this very job is known, and it came after all that may be over. While what was there
    /// before is looked at none is.
    pub fn is_found_again(&self, job: &Job<'_>) -> bool {
        let is_new = self.tracker.get(job.id).is_none() && !self.numbers.contains(job.id);
        let is_same = self.tracker.known(job).is_some();
        (is_new || is_same) && self.is_pass_over() && self.history.is_later(job.received)
    }

    /// Whether an open job of this number is known that was received later: this one is of a cluster
    /// that is gone.
    pub fn is_of_old(&self, job: &Job<'_>) -> bool {
        let is_later = |known: &&Tracked| known.is_open() && known.received > job.received;
        self.tracker.get(job.id).filter(is_later).is_some()
    }

    /// Whether the job was received after the one that is known by its number.
    fn is_newer(&self, job: &Job<'_>) -> bool {
        self.tracker.get(job.id).is_some_and(|known| known.received < job.received)
    }

    /// An event of the job is told.
    pub fn is_told(&mut self, id: JobId, now: Timestamp) {
        self.history.tell(id, now);
    }

    /// The job's process was found dead. While what was there before is still looked at, it
    /// died before.
    pub fn died_before(&mut self, id: JobId) {
        if let Some(sight) = self.sights.get_mut(&id) {
            sight.pass = 0;
        }
    }

    /// Whether the job is new, and its number above all that are known to be given out.
    pub fn is_beyond(&self, id: JobId) -> bool {
        id.get() > self.numbers.highest() && !self.numbers.contains(id)
    }

    /// Where the job begins.
    pub fn start_of(&self, job: &Job<'_>, kind: Kind, cause: Cause) -> Start {
        if self.tracker.known(job).is_some() {
            return Start::At(Progress::default());
        }
        if self.is_of_first_look(job.id) && !self.pass.is_resumed() {
            // Whatever its times say: it has not changed since before the watch stood.
            let unchanged = cause == Cause::Scanned && self.pass.is_first_of_a_queue();
            let begun = self.history.begun().unwrap_or(self.pass.since());
            return Start::At(if unchanged {
                transitions::adopt(job)
            } else {
                transitions::as_of(job, begun)
            });
        }
        match self.history.told(job) {
            Some(Some(told)) => Start::At(told),
            Some(None) => Start::At(self.untold(job, kind)),
            None => Start::AskHistory,
        }
    }

    /// Whether nothing was ever told before, and the job was there.
    fn is_of_first_look(&self, id: JobId) -> bool {
        self.is_first_ever() && self.is_backlog(id)
    }

    /// Where a job begins of which the history has no event.
    fn untold(&self, job: &Job<'_>, kind: Kind) -> Progress {
        let is_of_first_look = self.is_of_first_look(job.id);
        let account = self.numbers.account(job.id);
        // Times alone prove nothing, since the clock may have been set back: a number in the
        // queue that is new to us is a new job, whenever it says that it ended.
        let may_be_old = kind == Kind::Archived || account != Account::Missing || is_of_first_look;
        let over = self.history.over(job, account, is_of_first_look).unwrap_or(self.pass.since());
        if may_be_old && !self.is_newer(job) && job.received <= over {
            return transitions::as_of(job, over);
        }
        Progress::default()
    }

    /// What the history says of a job that is to be looked at.
    pub fn recall(&mut self, id: JobId, received: Timestamp, told: Option<Progress>) {
        self.history.recall(id, received, told);
    }

    /// The history could not be asked about a job.
    pub fn cannot_recall(&mut self, id: JobId) {
        self.history.cannot_recall(id);
    }

    /// Whether the history has yet to be asked about some job.
    pub fn has_unasked(&self) -> bool {
        self.history.has_unasked()
    }

    /// Takes over the outcome of a look. Returns a change of the numbers.
    pub fn keep(&mut self, job: &Job<'_>, tracked: Tracked, stamp: Option<Stamp>) -> Option<NumbersChange> {
        self.history.forget(job.id);
        self.pass.is_judged(job.id);
        let is_known = self.tracker.known(job).is_some();
        let Sight { listed, open: before, .. } = self.sights.remove(&job.id).unwrap_or_default();
        let open = Open::of(job, &tracked, before.filter(|_| is_known));
        let sight = Sight { stamp, listed, pass: self.pass.number(), open };
        self.sights.insert(job.id, sight);
        self.tracker.keep(job.id, tracked);
        self.numbers.see(job.id)
    }

    /// What there is of the job is no job, and its number is accounted for: it was there before us;
    /// should it prove to be over, it is history.
    pub fn is_unfit(&mut self, id: JobId, stamp: Option<Stamp>) -> Option<NumbersChange> {
        self.history.forget(id);
        let sight = self.sights.entry(id).or_default();
        sight.stamp = stamp;
        let is_there = stamp.is_some() || sight.listed > 0;
        if is_there && self.pass.is_first_of_a_queue() { self.numbers.see(id) } else { None }
    }

    /// The job could not be looked at now.
    pub fn is_not_judged(&mut self, id: JobId) {
        self.sights.entry(id).or_default().stamp = None;
    }

    /// The file of an open job is gone, and its process has ended before our eyes: if an opcode of it
    /// had not ended, that it died is all that can be known, and is known.
    pub fn died_unseen(&mut self, id: JobId, now: Timestamp) -> Option<(Tracked, Event)> {
        let open = self.sights.get(&id)?.open.as_ref()?;
        let (tracked, event) = open.disappears(id, self.tracker.get(id)?, now)?;
        self.tracker.keep(id, tracked.clone());
        Some((tracked, event))
    }

    /// The job has left the queue.
    pub fn forget(&mut self, id: JobId) {
        if self.has_looked_at(id) {
            self.pass.leave(id);
        }
        self.tracker.forget(id);
        self.sights.remove(&id);
        self.history.forget(id);
    }

    /// Open jobs that have not been seen since: they may have vanished.
    pub fn not_seen_since(&self, before: Timestamp) -> impl Iterator<Item = JobId> {
        let old = move |id: &JobId| self.tracker.get(*id).is_some_and(|tracked| tracked.seen < before);
        self.open().filter(old)
    }

    /// Stops looking for the numbers that have been missing the longest.
    pub fn give_up_oldest(&mut self) -> Option<NumbersChange> {
        let oldest = self.numbers.highest().saturating_sub(WIDEST_GAP);
        self.numbers.give_up_below(oldest)
    }

    /// What is not in the history any more has been told.
    pub fn history_begins(&mut self, before: Timestamp) {
        self.history.forgets(before);
    }
}
