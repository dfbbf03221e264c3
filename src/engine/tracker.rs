//! What is known of every job that matters, and what each look at a job adds.
//!
//! A [`Tracker`] never changes by itself: [`Tracker::look`] returns what would change,
//! and [`Tracker::keep`] takes it over once the journal holds it. A look whose outcome
//! could not be written is simply made again later; by the machine's promise it then
//! finds the same events.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::engine::transitions::{self, Progress, Transition};
use crate::ganeti::about::About;
use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::job::{Job, JobId, Liveness, ProcessRef, Timestamp};

/// What of that which a look brings to light counts as late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// Its moment had passed: a start, a takeover.
    Everything,
    /// A pre that should have come before its opcode, which has ended already.
    PassedPres,
    /// Nobody was promised that a pre comes before its opcode.
    Nothing,
}

/// What is known of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// When luxid received the job; tells jobs of one number apart.
    pub received: Timestamp,
    /// How far the job has been told.
    pub progress: Progress,
    /// When the opcode that comes next in `progress` began to execute for the first time, if it
    /// has: a retry sets the time in the file anew.
    pub executed: Option<Timestamp>,
    /// The number of opcodes.
    pub op_count: u32,
    /// The job process, once there is one.
    pub process: Option<ProcessRef>,
    /// When the job was looked at last.
    pub seen: Timestamp,
}

impl Tracked {
    /// Whether the job may still bring events.
    pub fn is_open(&self) -> bool {
        self.progress.next < self.op_count
    }
}

/// The outcome of a look at a job.
#[derive(Clone, Debug)]
#[must_use]
pub struct Look {
    /// The job.
    pub id: JobId,
    /// What is known of it now.
    pub tracked: Tracked,
    /// What happened since, in order.
    pub events: Vec<Event>,
    /// Whether anything that has to be remembered changed.
    pub changed: bool,
}

/// All jobs that are known, by number.
#[derive(Debug, Default)]
pub struct Tracker {
    jobs: BTreeMap<JobId, Tracked>,
    /// Those that may still bring events: few, where the others are many.
    open: BTreeSet<JobId>,
}

impl Tracker {
    /// Compares a version of a job with what is known of it.
    ///
    /// `liveness` is the job process's, found before the version was read. `start` is
    /// where a job begins that is not known yet.
    pub fn look(
        &self,
        job: &Job<'_>,
        liveness: Liveness,
        start: Progress,
        lateness: Lateness,
        now: Timestamp,
    ) -> Look {
        let known = self.known(job);
        let before = known.map_or(start, |known| known.progress);
        let step = transitions::step(before, job, liveness);
        let op_count = u32::try_from(job.ops.len()).unwrap_or(u32::MAX);
        // What was known when it executed first is not what a later version says.
        let first = |op: u32| {
            let known = known.filter(|known| known.progress.next == op && known.progress.pre);
            known.and_then(|known| known.executed).or_else(|| job.ops.get(op as usize)?.executed)
        };
        let about = |transition: &Transition| {
            let (op, phase, status) = (transition.op, transition.phase, transition.status);
            Arc::new(About { executed: first(op), ..About::of(job, op as usize, phase, status) })
        };
        let events = step.transitions.iter().map(|transition| Event {
            key: EventKey { job: job.id, op: transition.op, phase: transition.phase },
            received: job.received,
            op_count,
            op_code: job.ops[transition.op as usize].code.clone().into_owned(),
            status: transition.status,
            executed: transition.executed,
            late: match lateness {
                Lateness::Everything => true,
                Lateness::PassedPres => transition.passed,
                Lateness::Nothing => false,
            },
            time: now,
            about: about(transition),
        });
        let executed = if step.progress.pre { first(step.progress.next) } else { None };
        let tracked = Tracked {
            received: job.received,
            progress: step.progress,
            executed,
            op_count,
            process: job.process(),
            seen: now,
        };
        let changed = known.is_none_or(|known| {
            known.progress != tracked.progress
                || known.process != tracked.process
                || known.op_count != op_count
        });
        Look { id: job.id, events: events.collect(), tracked, changed }
    }

    /// What is known of this very job, which may not be the first of its number.
    pub fn known(&self, job: &Job<'_>) -> Option<&Tracked> {
        self.jobs.get(&job.id).filter(|known| known.received == job.received)
    }

    /// Takes over the outcome of a look.
    pub fn keep(&mut self, id: JobId, tracked: Tracked) {
        match tracked.is_open() {
            true => self.open.insert(id),
            false => self.open.remove(&id),
        };
        self.jobs.insert(id, tracked);
    }

    /// Forgets a job that has left the queue.
    pub fn forget(&mut self, id: JobId) -> Option<Tracked> {
        self.open.remove(&id);
        self.jobs.remove(&id)
    }

    /// What is known of a job.
    pub fn get(&self, id: JobId) -> Option<&Tracked> {
        self.jobs.get(&id)
    }

    /// All known jobs, by number.
    pub fn iter(&self) -> impl Iterator<Item = (JobId, &Tracked)> {
        self.jobs.iter().map(|(id, tracked)| (*id, tracked))
    }

    /// Jobs that may still bring events, by number.
    pub fn open(&self) -> impl ExactSizeIterator<Item = JobId> {
        self.open.iter().copied()
    }

    /// Known jobs of these numbers, by number.
    pub fn among(&self, numbers: RangeInclusive<JobId>) -> impl Iterator<Item = JobId> {
        self.jobs.range(numbers).map(|(id, _)| *id)
    }

    /// The highest number of a known job.
    pub fn last(&self) -> Option<JobId> {
        self.jobs.last_key_value().map(|(id, _)| *id)
    }

    /// The number of known jobs.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether no job is known.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}
