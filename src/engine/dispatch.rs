//! Which event's scripts may run now.
//!
//! For one job the scripts of an event end before the next event's begin; different
//! jobs run side by side. Events are known here by their number in the feed, and are
//! offered in that order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ganeti::job::JobId;

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

    /// Takes the oldest event that may begin; it runs until [`Dispatch::finish`]. Events
    /// of `urgent` jobs come first.
    pub fn begin(&mut self, urgent: impl IntoIterator<Item = JobId>) -> Option<i64> {
        let firsts = urgent.into_iter().filter_map(|job| self.jobs.get(&job)?.front());
        match firsts.filter(|seq| self.ready.contains(*seq)).min().copied() {
            Some(seq) => self.ready.take(&seq),
            None => self.ready.pop_first(),
        }
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
        let begun: Vec<_> = std::iter::from_fn(|| dispatch.begin([])).collect();
        assert_eq!(begun, [1, 3]);
        dispatch.finish(a);
        assert_eq!(dispatch.begin([]), Some(2));
        dispatch.finish(b);
        dispatch.finish(a);
        assert!(dispatch.is_empty() && dispatch.begin([]).is_none());
    }

    #[test]
    fn urgent_jobs_come_first_and_in_order() {
        let jobs = [1, 2, 3, 4].map(|id| JobId::try_from(id).unwrap());
        let mut dispatch = Dispatch::default();
        for (job, seq) in jobs.into_iter().zip(1..) {
            dispatch.push(job, seq);
        }
        dispatch.push(jobs[3], 5);
        let urgent = [jobs[3], jobs[2]];
        let begun: Vec<_> = std::iter::from_fn(|| dispatch.begin(urgent)).collect();
        assert_eq!(begun, [3, 4, 1, 2], "and event 5 waits for event 4");
    }
}
