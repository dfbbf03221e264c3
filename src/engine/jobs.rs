//! The jobs: how far each has been told, which numbers are accounted for, and the processes
//! that run them.
//!
//! After a start, and after this node became master, everything that was there is *backlog*
//! until it has been looked at once: what it brings to light has happened before, so it is
//! late and nothing is held for it. The job numbers that had been given out by then bound it: a
//! job with a higher number is a new one, however much is still to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::agenda::{Cause, Rank};
use super::change::FirstLook;
use super::input::Stamp;
use super::metrics::JobStates;
use super::numbers::{Numbers, NumbersChange, WIDEST_GAP};
use super::processes::Processes;
use super::tracker::{Tracked, Tracker};
use super::transitions::{self, Progress};
use crate::ganeti::about::About;
use crate::ganeti::event::{Event, EventKey, Phase, PostStatus};
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

/// An opcode that had started and not ended, as it was read last.
#[derive(Clone, Debug)]
struct Open {
    op: u32,
    op_code: String,
    executed: bool,
    about: Arc<About>,
}

impl Open {
    /// That of a version that was read; what was read of it before is not read anew.
    fn of(job: &Job<'_>, tracked: &Tracked, before: Option<Self>) -> Option<Self> {
        let next = tracked.progress.next;
        let op = job.ops.get(next as usize).filter(|op| op.started.is_some() && tracked.is_open())?;
        let executed = tracked.executed.or(op.executed);
        let is_same = |before: &Self| {
            let About { started, executed: of_before, .. } = *before.about;
            (before.op, started, of_before) == (next, op.started, executed)
        };
        let before = before.filter(is_same);
        let (op_code, about) = before.map(|before| (before.op_code, before.about)).unwrap_or_else(|| {
            let about = About::of(job, next as usize, Phase::Post, Some(PostStatus::Disappeared));
            (op.code.clone().into_owned(), Arc::new(About { executed, ..about }))
        });
        Some(Self { op: next, op_code, executed: op.executed.is_some(), about })
    }
}

/// One comparison of everything that was there before.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    number: u64,
    is_over: bool,
    /// The last job number that had been given out when it began, if that is known.
    bound: Option<i64>,
    /// Nothing was ever told before: jobs that had ended are history.
    is_first_ever: bool,
    /// An earlier daemon began that, and did not come to its end.
    is_resumed: bool,
    /// When the watch stood, or when there was no queue yet.
    since: Timestamp,
    /// There was no queue when it began.
    is_before_the_queue: bool,
}

/// What an earlier daemon left, besides jobs and numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    /// When the first start ever was over.
    pub begun: Option<Timestamp>,
    /// A first start that was not over.
    pub first_look: Option<FirstLook>,
    /// When job numbers began again last.
    pub began_again: Option<Timestamp>,
    /// The oldest event in the history.
    pub history_since: Option<Timestamp>,
    /// What was told up to then is in no history.
    pub history_lost: Option<Timestamp>,
    /// When something was written last.
    pub last_written: Option<Timestamp>,
    /// No event of a job with a higher number was ever told.
    pub highest_told: i64,
}

/// All jobs.
#[derive(Debug)]
pub struct Jobs {
    tracker: Tracker,
    numbers: Numbers,
    /// What had ended by then is history; `None` before the first start is over.
    begun: Option<Timestamp>,
    /// The oldest event in the history when this daemon started, or the last one before all of it
    /// was lost.
    history_since: Option<Timestamp>,
    /// What was told up to then is in no history.
    history_lost: Option<Timestamp>,
    /// When an earlier daemon wrote something last.
    last_written: Option<Timestamp>,
    /// When the last event was told, or this daemon started.
    told_at: Timestamp,
    /// Numbers have begun again: the next serial is that of another cluster.
    begins_again: bool,
    /// When that was noticed last: what was received before may have been told though its number is
    /// not accounted for.
    began_again: Option<Timestamp>,
    /// No event of a job with a higher number was ever told.
    highest_told: i64,
    /// What the history says of jobs that are to be looked at.
    recalled: BTreeMap<JobId, (Timestamp, Option<Progress>)>,
    /// Jobs that it could not be asked about.
    unasked: BTreeSet<JobId>,
    sights: BTreeMap<JobId, Sight>,
    pass: Pass,
    /// Numbers that were given out and that no job was found with.
    missing: BTreeSet<JobId>,
    /// Jobs that were looked at in this pass and have left.
    left: BTreeSet<JobId>,
    /// Jobs that could not be looked at in the last pass.
    unjudged: BTreeSet<JobId>,
    /// Jobs that have vanished, and have not been seen since then, are forgotten.
    expiry: Option<Timestamp>,
    /// The processes that run them.
    pub processes: Processes,
}

impl Jobs {
    /// What an earlier daemon left.
    pub fn new(jobs: Vec<(JobId, Tracked)>, numbers: Numbers, past: Past, started: Timestamp) -> Self {
        let Past { begun, first_look, began_again, history_since, history_lost, .. } = past;
        let Past { last_written, highest_told, .. } = past;
        let mut tracker = Tracker::default();
        jobs.into_iter().for_each(|(id, tracked)| tracker.keep(id, tracked));
        let pass = Pass {
            number: 1,
            is_first_ever: begun.is_none(),
            is_resumed: begun.is_none() && first_look.is_some(),
            since: first_look.map(|look| look.since).unwrap_or_default(),
            is_before_the_queue: first_look.is_some_and(|look| look.is_before_the_queue),
            ..Pass::default()
        };
        Self {
            tracker,
            numbers,
            begun,
            history_since: history_since.max(history_lost),
            history_lost,
            last_written,
            told_at: started,
            begins_again: false,
            began_again,
            highest_told,
            recalled: BTreeMap::new(),
            unasked: BTreeSet::new(),
            sights: BTreeMap::new(),
            pass,
            missing: BTreeSet::new(),
            left: BTreeSet::new(),
            unjudged: BTreeSet::new(),
            expiry: None,
            processes: Processes::default(),
        }
    }

    /// The jobs themselves.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// The job numbers accounted for.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// What had ended by then is history.
    pub fn begun(&self) -> Option<Timestamp> {
        self.begun
    }

    /// The same for the journal: what is there on a first start is history only when all of it
    /// has been looked at. Before that the next start is a first one again.
    pub fn begun_for_good(&self) -> Option<Timestamp> {
        self.begun.filter(|_| !self.is_first_ever())
    }

    /// The first look that is not over, once everything has been found that was there.
    pub fn first_look(&self) -> Option<FirstLook> {
        let since = self.begun.filter(|_| self.is_first_ever())?;
        Some(FirstLook { since, is_before_the_queue: self.pass.is_before_the_queue })
    }

    /// When job numbers began again last.
    pub fn began_again(&self) -> Option<Timestamp> {
        self.began_again
    }

    /// Jobs that may still bring events.
    pub fn open(&self) -> impl Iterator<Item = JobId> {
        self.tracker.iter().filter(|(_, tracked)| tracked.is_open()).map(|(id, _)| id)
    }

    /// How many are how far.
    pub fn states(&self) -> JobStates {
        let mut states = JobStates::default();
        for (id, tracked) in self.tracker.iter() {
            let open = || self.sights.get(&id).and_then(|sight| sight.open.as_ref());
            match open() {
                _ if !tracked.is_open() => states.ended += 1,
                None => states.queued += 1,
                Some(Open { executed: true, .. }) => states.running += 1,
                Some(Open { about, .. }) => {
                    states.waiting += 1;
                    let oldest = [states.oldest_waiting, about.started].into_iter().flatten().min();
                    states.oldest_waiting = oldest;
                }
            }
        }
        states
    }

    /// The opcodes that wait for their locks, as the pres that will come of them; those that have
    /// waited longest first. However many there are, only what is taken of them is made.
    pub fn waiting(&self, now: Timestamp) -> impl Iterator<Item = Event> {
        let since = |(job, sight): (&JobId, &Sight)| {
            let open = sight.open.as_ref().filter(|open| !open.executed)?;
            Some((open.about.started, *job))
        };
        let mut waiting: Vec<_> = self.sights.iter().filter_map(since).collect();
        waiting.sort_unstable();
        waiting.into_iter().filter_map(move |(_, job)| {
            let tracked = self.tracker.get(job).filter(|tracked| tracked.is_open())?;
            let &Tracked { received, op_count, .. } = tracked;
            let open = self.sights.get(&job)?.open.as_ref()?;
            let key = EventKey { job, op: open.op, phase: Phase::Pre };
            let (op_code, about) = (open.op_code.clone(), Arc::clone(&open.about));
            let (status, executed, late, time) = (None, false, false, now);
            Some(Event { key, received, op_count, op_code, status, executed, late, time, about })
        })
    }

    /// Whether nothing was ever told before, and what there was has not all been looked at.
    pub fn is_first_ever(&self) -> bool {
        self.pass.is_first_ever && !self.pass.is_over
    }

    /// Whether everything that was there has been looked at.
    pub fn is_pass_over(&self) -> bool {
        self.pass.is_over
    }

    /// The watch stands: what is there now was there before.
    pub fn watch_stands(&mut self, now: Timestamp) {
        if !self.pass.is_over && self.pass.since == Timestamp::default() {
            self.pass.since = now;
        }
    }

    /// There is no queue now, and the watch has never stood: what ends from now on is no history,
    /// however soon the queue's first jobs run.
    pub fn is_without_queue(&mut self, now: Timestamp) {
        if self.is_first_ever() && self.begun.is_none() {
            self.pass.since = now;
            self.pass.is_before_the_queue = true;
        }
    }

    /// This node became master: what is there now happened under another one.
    pub fn begin_pass(&mut self, now: Timestamp) {
        let first_ever = self.is_first_ever();
        let number = self.pass.number + 1;
        let first_ever_since = if first_ever { self.pass.since } else { now };
        self.pass = Pass { number, is_over: false, bound: None, is_first_ever: first_ever, ..self.pass };
        self.pass.since = first_ever_since;
        self.left.clear();
    }

    /// Everything that was there has been looked at, as far as it could be. Returns when it was
    /// there, if that was the first time ever: then what could not be looked at is accounted for,
    /// too, and history if it proves to be over.
    pub fn end_pass(&mut self, unjudged: impl Iterator<Item = JobId>) -> Option<Timestamp> {
        self.unjudged = unjudged.filter(|id| self.is_backlog(*id)).collect();
        let first = self.is_first_ever();
        if first && !self.pass.is_before_the_queue {
            let is_listed = |id: &&JobId| self.sights.get(id).is_some_and(|sight| sight.listed > 0);
            self.unjudged.iter().filter(is_listed).for_each(|id| drop(self.numbers.see(*id)));
        }
        self.pass.is_over = true;
        self.left.clear();
        self.begun.filter(|_| first)
    }

    /// Whether what a look at this job brings to light happened before.
    pub fn is_backlog(&self, id: JobId) -> bool {
        let looked_at = || self.has_looked_at(id) || self.left.contains(&id);
        let is_of_pass = !self.pass.is_over && id.get() <= self.pass.bound.unwrap_or(i64::MAX);
        is_of_pass && !looked_at() || self.unjudged.contains(&id)
    }

    /// Whether the job is there and was looked at in this pass.
    fn has_looked_at(&self, id: JobId) -> bool {
        self.sights.get(&id).is_some_and(|sight| sight.pass == self.pass.number)
    }

    /// Whether the archive is to be looked at for a job that is not in the queue. One that is not
    /// known may be new though its number is accounted for: an older cluster had given it out.
    pub fn is_wanted(&self, id: JobId) -> bool {
        !(self.numbers.contains(id) && self.is_closed(id))
    }

    /// The last job number that was given out, read when the queue was already watched. Returns
    /// what changes, and whether numbers have begun again.
    pub fn serial(&mut self, serial: i64, now: Timestamp) -> (Vec<NumbersChange>, bool) {
        if !self.pass.is_over {
            self.pass.bound.get_or_insert(serial);
        }
        if self.is_first_ever() && self.begun.is_none() {
            return (Vec::new(), false);
        }
        let begins_again = std::mem::take(&mut self.begins_again);
        if begins_again || serial < self.numbers.highest() {
            // The clock may have been set back since something was told.
            self.began_again = self.began_again.max(Some(now.max(self.told_at)));
            return (vec![self.numbers.begin_again(serial)], true);
        }
        (self.numbers.reach(serial).into_iter().collect(), false)
    }

    /// What is to be written of jobs whose numbers are above the serial, which has been asked for.
    pub fn seen_above(&mut self) -> impl Iterator<Item = NumbersChange> {
        self.numbers.seen_above()
    }

    /// Numbers of jobs in the archive are unaccounted for again. Of those that were told the
    /// history knows, as far back as it goes; what had ended before that is over.
    pub fn trust_the_history(&mut self) -> Option<Timestamp> {
        let since = self.history_since.filter(|since| Some(*since) > self.begun)?;
        self.begun = Some(since);
        self.begun
    }

    /// The history of what was told up to now is about to be lost.
    pub fn is_losing_history(&mut self) {
        self.numbers.account_for_seen_before();
    }

    /// The history of what was told up to now is lost.
    pub fn history_is_lost(&mut self) {
        self.history_lost = Some(self.told_at);
        self.history_since = self.history_lost;
    }

    /// When the last event was told, or this daemon started.
    pub fn told_at(&self) -> Timestamp {
        self.told_at
    }

    /// The queue has been listed for the first time ever. All but the last numbers are
    /// accounted for; those are when they have been looked at.
    pub fn begin(&mut self, serial: Option<i64>) {
        self.begun = Some(self.pass.since);
        match serial {
            Some(serial) if self.pass.is_resumed => drop(self.numbers.reach(serial)),
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
            sight.pass = self.pass.number;
        }
        !(closed && unchanged)
    }

    /// Jobs that are known and that a scan has not found in the queue.
    pub fn not_listed(&self, scan: u64) -> impl Iterator<Item = JobId> {
        let listed = move |id: &JobId| self.sights.get(id).is_some_and(|sight| sight.listed == scan);
        self.tracker.iter().map(|(id, _)| id).filter(move |id| !listed(id))
    }

    fn is_closed(&self, id: JobId) -> bool {
        self.tracker.get(id).is_some_and(|tracked| !tracked.is_open())
    }

    /// When a job is looked at that a scan has found.
    pub fn rank(&self, id: JobId) -> Rank {
        match self.tracker.get(id) {
            Some(tracked) if tracked.is_open() => Rank::News,
            Some(_) => Rank::Closed,
            None if self.missing.contains(&id) => Rank::Missing,
            None => Rank::News,
        }
    }

    /// The job was looked for, and is neither in the queue nor in the archive.
    pub fn is_nowhere(&mut self, id: JobId) {
        if self.tracker.get(id).is_none() {
            self.forget(id);
            if !self.numbers.contains(id) {
                self.missing.insert(id);
            }
        }
    }

    /// Whether the number is accounted for, though no job of it is known.
    pub fn is_strange(&self, id: JobId) -> bool {
        self.tracker.get(id).is_none() && self.numbers.contains(id)
    }

    /// Whether this is another job than the one that was known by its number: numbers may have
    /// begun again. If it is newer they have, whatever has been given out since.
    pub fn is_another(&mut self, job: &Job<'_>) -> bool {
        let is_another = self.tracker.known(job).is_none()
            && self.numbers.contains(job.id)
            && self.begun_for_good().is_some();
        self.begins_again |= is_another && self.is_newer(job);
        is_another
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
        self.highest_told = self.highest_told.max(id.get());
        self.told_at = self.told_at.max(now);
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
        let begun = self.begun.unwrap_or(self.pass.since);
        let is_first_look = self.is_first_ever() && self.is_backlog(job.id);
        if is_first_look && !self.pass.is_resumed {
            // Whatever its times say: it has not changed since before the watch stood.
            let unchanged = cause == Cause::Scanned && !self.pass.is_before_the_queue;
            let known = if unchanged { transitions::adopt(job) } else { transitions::as_of(job, begun) };
            return Start::At(known);
        }
        if job.id.get() > self.highest_told {
            return Start::At(self.untold(job, kind, begun));
        }
        match self.recalled.get(&job.id) {
            // It is back after it vanished, or was found in the archive of an older cluster
            // whose numbers are given out again.
            Some((received, Some(told))) if *received == job.received => Start::At(self.lost(job).max(*told)),
            Some((received, None)) if *received == job.received => Start::At(self.untold(job, kind, begun)),
            _ => Start::AskHistory,
        }
    }

    /// How far a job was told, at least, by a history that is lost. Of what is still there, because it
    /// was to run again, others may have come later.
    fn lost(&self, job: &Job<'_>) -> Progress {
        let lost = self.history_lost.filter(|lost| job.received <= *lost);
        lost.map(|lost| transitions::as_of(job, lost)).unwrap_or_default()
    }

    /// Where a job begins of which the history has no event.
    fn untold(&self, job: &Job<'_>, kind: Kind, begun: Timestamp) -> Progress {
        // Times alone prove nothing, since the clock may have been set back: a number in the
        // queue that is new to us is a new job, whenever it says that it ended.
        let is_of_first_look = self.is_first_ever() && self.is_backlog(job.id);
        let is_accounted_for = self.numbers.contains(job.id);
        let was_seen = self.numbers.was_seen_before(job.id);
        let may_be_old = kind == Kind::Archived || is_accounted_for || is_of_first_look || was_seen;
        // It may have been told before the history that there is begins.
        let lost = match was_seen {
            // The history goes back to where it began: nothing is forgotten before that is over.
            _ if is_of_first_look && (was_seen || is_accounted_for) => self.history_lost,
            // An earlier daemon has told it, since it is not known any more.
            true => self.history_since.or(self.last_written),
            false if is_accounted_for => self.history_since,
            false => self.history_lost.filter(|_| Some(job.received) <= self.began_again),
        };
        let over = lost.map_or(begun, |lost| lost.max(begun));
        if may_be_old && !self.is_newer(job) && job.received <= over {
            return transitions::as_of(job, over);
        }
        Progress::default()
    }

    /// What the history says of a job that is to be looked at.
    pub fn recall(&mut self, id: JobId, received: Timestamp, told: Option<Progress>) {
        self.unasked.remove(&id);
        self.recalled.insert(id, (received, told));
    }

    /// The history could not be asked about a job.
    pub fn cannot_recall(&mut self, id: JobId) {
        self.unasked.insert(id);
    }

    /// Whether the history has yet to be asked about some job.
    pub fn has_unasked(&self) -> bool {
        !self.unasked.is_empty()
    }

    /// Takes over the outcome of a look. Returns a change of the numbers.
    pub fn keep(&mut self, job: &Job<'_>, tracked: Tracked, stamp: Option<Stamp>) -> Option<NumbersChange> {
        self.recalled.remove(&job.id);
        self.unasked.remove(&job.id);
        self.missing.remove(&job.id);
        self.unjudged.remove(&job.id);
        let is_known = self.tracker.known(job).is_some();
        let Sight { listed, open: before, .. } = self.sights.remove(&job.id).unwrap_or_default();
        let open = Open::of(job, &tracked, before.filter(|_| is_known));
        let sight = Sight { stamp, listed, pass: self.pass.number, open };
        self.sights.insert(job.id, sight);
        self.tracker.keep(job.id, tracked);
        self.numbers.see(job.id)
    }

    /// What there is of the job is no job, and its number is accounted for: it was there before us;
    /// should it prove to be over, it is history.
    pub fn is_unfit(&mut self, id: JobId, stamp: Option<Stamp>) -> Option<NumbersChange> {
        self.unasked.remove(&id);
        let sight = self.sights.entry(id).or_default();
        sight.stamp = stamp;
        let is_there = stamp.is_some() || sight.listed > 0;
        let was_there = is_there && self.is_first_ever() && !self.pass.is_before_the_queue;
        if was_there { self.numbers.see(id) } else { None }
    }

    /// The job could not be looked at now.
    pub fn is_not_judged(&mut self, id: JobId) {
        self.sights.entry(id).or_default().stamp = None;
    }

    /// The file of an open job is gone, and its process has ended before our eyes while an
    /// opcode of it had not ended: that it died is all that can be known, and is known.
    pub fn died_unseen(&mut self, id: JobId, now: Timestamp) -> Option<(Tracked, Event)> {
        if !self.processes.died_watched(id) {
            return None;
        }
        let tracked = self.tracker.get(id)?;
        let Open { op, op_code, executed, about } = self.sights.get(&id)?.open.clone()?;
        if !tracked.is_open() || op != tracked.progress.next {
            return None;
        }
        let event = Event {
            key: EventKey { job: id, op, phase: Phase::Post },
            received: tracked.received,
            op_count: tracked.op_count,
            op_code,
            status: Some(PostStatus::Disappeared),
            executed: executed || tracked.progress.pre,
            late: false,
            time: now,
            about,
        };
        let progress = Progress { next: tracked.op_count, pre: false };
        let tracked = Tracked { progress, executed: None, ..tracked.clone() };
        self.tracker.keep(id, tracked.clone());
        Some((tracked, event))
    }

    /// Whether a job that has vanished is to be forgotten; what was seen since `kept_since` is not,
    /// however far the clock has been set back since the history was forgotten.
    pub fn has_expired(&self, id: JobId, kept_since: Timestamp) -> bool {
        let is_before = |seen| Some(seen) < self.expiry && seen < kept_since;
        self.tracker.get(id).is_some_and(|tracked| is_before(tracked.seen))
    }

    /// The job has left the queue.
    pub fn forget(&mut self, id: JobId) {
        if !self.pass.is_over && self.has_looked_at(id) {
            self.left.insert(id);
        }
        self.tracker.forget(id);
        self.sights.remove(&id);
        self.recalled.remove(&id);
        self.unasked.remove(&id);
    }

    /// History from before this time is forgotten. Returns the jobs that may have vanished
    /// since, and what changes.
    pub fn forget_before(&mut self, before: Timestamp) -> (Vec<JobId>, Option<NumbersChange>) {
        self.expiry = Some(before);
        let old = self.tracker.iter().filter(|(_, tracked)| tracked.is_open() && tracked.seen < before);
        let old = old.map(|(id, _)| id).collect();
        let oldest = self.numbers.highest().saturating_sub(WIDEST_GAP);
        (old, self.numbers.give_up_below(oldest))
    }

    /// What is not in the history any more has been told. Returns whether that is new.
    pub fn history_begins(&mut self, before: Timestamp) -> bool {
        let is_later = Some(before) > self.begun;
        if is_later {
            self.begun = Some(before);
        }
        is_later
    }
}
