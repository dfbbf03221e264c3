//! Which event's scripts may run now.
//!
//! For one job the scripts of an event end before the next event's begin; different
//! jobs run side by side. Events are known here by their number in the feed, and are
//! offered in that order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::job::JobId;

/// Events that wait or run, by job.
#[derive(Debug, Default)]
pub struct Dispatch {
    /// For each job its undelivered events, oldest first.
    jobs: BTreeMap<JobId, VecDeque<i64>>,
    /// Events that may begin: the first of their jobs, not begun.
    ready: BTreeSet<i64>,
}

impl Dispatch {
    /// Adds event number `seq` of a job, behind the job's earlier ones.
    pub fn push(&mut self, job: JobId, seq: i64) {
        let queue = self.jobs.entry(job).or_default();
        if queue.is_empty() {
            self.ready.insert(seq);
        }
        queue.push_back(seq);
    }

    /// Takes the oldest event that may begin; it runs until [`Dispatch::finish`].
    pub fn begin(&mut self) -> Option<i64> {
        self.ready.pop_first()
    }

    /// What was taken could not begin yet; it may again.
    pub fn postpone(&mut self, seq: i64) {
        self.ready.insert(seq);
    }

    /// Whether some event may begin.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The running event of a job has ended; the job's next may begin.
    pub fn finish(&mut self, job: JobId) {
        let Some(queue) = self.jobs.get_mut(&job) else { return };
        queue.pop_front();
        match queue.front() {
            Some(next) => {
                self.ready.insert(*next);
            }
            None => {
                self.jobs.remove(&job);
            }
        }
    }

    /// The number of events that wait or run.
    pub fn len(&self) -> usize {
        self.jobs.values().map(VecDeque::len).sum()
    }

    /// Whether everything has been delivered.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_side_by_side_and_each_in_order() {
        let (a, b) = (JobId::try_from(1).unwrap(), JobId::try_from(2).unwrap());
        let mut dispatch = Dispatch::default();
        dispatch.push(a, 1);
        dispatch.push(a, 2);
        dispatch.push(b, 3);
        assert_eq!((dispatch.begin(), dispatch.begin(), dispatch.begin()), (Some(1), Some(3), None));
        dispatch.finish(a);
        assert_eq!(dispatch.begin(), Some(2));
        dispatch.finish(b);
        dispatch.finish(a);
        assert!(dispatch.is_empty() && dispatch.begin().is_none());
    }
}
