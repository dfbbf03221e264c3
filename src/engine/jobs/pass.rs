//! One comparison of everything that was there before: after a start, and after this node became
//! master.
//!
//! What was there is *backlog* until it has been looked at once. The job numbers that had been
//! given out by then bound it: a job with a higher number is a new one, however much is still to
//! be looked at. What could not be looked at stays backlog when the pass is over.

use std::collections::BTreeSet;

use crate::engine::change::{FirstLook, Past};
use crate::ganeti::job::{JobId, Timestamp};

/// What there is to a pass before which nothing was ever told: jobs that had ended are history.
#[derive(Clone, Copy, Debug)]
struct First {
    /// An earlier daemon began it, and did not come to its end.
    is_resumed: bool,
    /// There was no queue when it began.
    is_before_the_queue: bool,
}

/// One comparison of everything that was there before.
#[derive(Debug, Default)]
pub struct Pass {
    number: u64,
    is_over: bool,
    /// The last job number that had been given out when it began, if that is known.
    bound: Option<i64>,
    /// When the watch stood, or when there was no queue yet.
    since: Option<Timestamp>,
    /// It is the first ever, and not over.
    first: Option<First>,
    /// Jobs that were looked at in it and have left.
    left: BTreeSet<JobId>,
    /// Jobs that could not be looked at in the last one that is over.
    unjudged: BTreeSet<JobId>,
}

impl Pass {
    /// That of a daemon which starts.
    pub fn new(past: Past) -> Self {
        let Past { begun, first_look: look, .. } = past;
        let is_before_the_queue = look.is_some_and(|look| look.is_before_the_queue);
        let first = First { is_resumed: look.is_some(), is_before_the_queue };
        let first = Some(first).filter(|_| begun.is_none());
        Self { number: 1, since: look.map(|look| look.since), first, ..Self::default() }
    }

    /// Which one it is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether everything that was there has been looked at.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether nothing was ever told before, and what there was has not all been looked at.
    pub fn is_first(&self) -> bool {
        self.first.is_some()
    }

    /// Whether it is the first, and an earlier daemon began it.
    pub fn is_resumed(&self) -> bool {
        self.first.is_some_and(|first| first.is_resumed)
    }

    /// Whether it is the first, and there was a queue when it began.
    pub fn is_first_of_a_queue(&self) -> bool {
        self.first.is_some_and(|first| !first.is_before_the_queue)
    }

    /// It as the next daemon finds it, if it is the first.
    pub fn first_look(&self, since: Timestamp) -> Option<FirstLook> {
        let First { is_before_the_queue, .. } = self.first?;
        Some(FirstLook { since, is_before_the_queue })
    }

    /// When the watch stood, or when there was no queue yet.
    pub fn since(&self) -> Timestamp {
        self.since.unwrap_or_default()
    }

    /// The watch stands.
    pub fn watch_stands(&mut self, now: Timestamp) {
        if !self.is_over {
            self.since.get_or_insert(now);
        }
    }

    /// There is no queue now, and the watch has never stood.
    pub fn is_without_queue(&mut self, now: Timestamp) {
        if let Some(first) = &mut self.first {
            first.is_before_the_queue = true;
            self.since = Some(now);
        }
    }

    /// Begins anew; what is there now was there before.
    pub fn begin(&mut self, now: Timestamp) {
        self.number += 1;
        (self.is_over, self.bound) = (false, None);
        self.left.clear();
        if self.first.is_none() {
            self.since = Some(now);
        }
    }

    /// The last job number that was given out.
    pub fn reach(&mut self, serial: i64) {
        if !self.is_over {
            self.bound.get_or_insert(serial);
        }
    }

    /// Job numbers have begun again: those that could not be looked at are of other jobs. What has
    /// left stays so, and the bound where it was: older jobs may still be in the archive, and in
    /// the queue.
    pub fn begin_again(&mut self) {
        self.unjudged.clear();
    }

    /// Everything that was there has been looked at, but for these. Returns whether that was the
    /// first time ever.
    pub fn end(&mut self, unjudged: BTreeSet<JobId>) -> bool {
        (self.is_over, self.unjudged) = (true, unjudged);
        self.left.clear();
        self.first.take().is_some()
    }

    /// Whether what a look at this job brings to light happened before, unless it is there and was
    /// looked at in this pass.
    pub fn is_about(&self, id: JobId) -> bool {
        !self.is_over && id.get() <= self.bound.unwrap_or(i64::MAX) && !self.left.contains(&id)
    }

    /// Whether the job could not be looked at in the last pass, nor since.
    pub fn is_unjudged(&self, id: JobId) -> bool {
        self.unjudged.contains(&id)
    }

    /// The job has been looked at.
    pub fn is_judged(&mut self, id: JobId) {
        self.unjudged.remove(&id);
    }

    /// A job that was looked at in this pass has left.
    pub fn leave(&mut self, id: JobId) {
        if !self.is_over {
            self.left.insert(id);
        }
    }
}
