//! What was told before this daemon knew of it: what the history says of a job, and what is over
//! of which it says nothing.
//!
//! Promise: what may have been told is not told again, though its events were forgotten or lost.
//! Up to when that was decides one place, however the history came to begin later: the first start,
//! what was forgotten, and a journal that was written anew.

use std::collections::BTreeMap;

use crate::engine::change::Past;
use crate::engine::numbers::Account;
use crate::engine::transitions::{self, Progress};
use crate::ganeti::job::{Job, JobId, Timestamp};

/// What the history says of a job that is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recall {
    /// It could not be asked.
    Failed,
    /// How far the job was told that was received then; `None` when it has no event of it.
    Told(Timestamp, Option<Progress>),
}

/// What was told before.
#[derive(Debug)]
pub struct History {
    /// What had ended by then is history; `None` before the first start is over.
    begun: Option<Timestamp>,
    /// What was told up to then is in no history.
    lost: Option<Timestamp>,
    /// The same once the journal has been written anew.
    losing: Option<Timestamp>,
    /// When the last event that was forgotten was noticed.
    forgotten: Option<Timestamp>,
    /// When an earlier daemon wrote something last.
    last_written: Option<Timestamp>,
    /// When the last event was told, or this daemon started.
    told_at: Timestamp,
    /// When it was noticed last that numbers had begun again: what was received before may have
    /// been told though its number is not accounted for.
    began_again: Option<Timestamp>,
    /// No event of a job with a higher number was ever told.
    highest_told: i64,
    /// What it says of jobs that are to be looked at.
    recalls: BTreeMap<JobId, Recall>,
}

impl History {
    /// What an earlier daemon left, for one that starts now.
    pub fn new(past: Past, started: Timestamp) -> Self {
        let Past { begun, began_again, lost, forgotten, last_written, highest_told, .. } = past;
        let (losing, recalls, told_at) = (None, BTreeMap::new(), started);
        Self { begun, lost, forgotten, losing, last_written, told_at, began_again, highest_told, recalls }
    }

    /// What had ended by then is history.
    pub fn begun(&self) -> Option<Timestamp> {
        self.begun
    }

    /// What had ended by `time` is history. Returns whether that is new.
    pub fn begins(&mut self, time: Timestamp) -> bool {
        let is_later = Some(time) > self.begun;
        self.begun = self.begun.max(Some(time));
        is_later
    }

    /// The events up to then are in the history no more: what had ended by then was told, or its number
    /// is not accounted for.
    pub fn forgets(&mut self, time: Timestamp) {
        self.forgotten = self.forgotten.max(Some(time));
    }

    /// Numbers of jobs in the archive are unaccounted for again. Of those that were told the
    /// history knows, unless it was lost; what had ended before that is over. Returns when that was,
    /// if it is new.
    pub fn trust(&mut self) -> Option<Timestamp> {
        self.lost.filter(|since| self.begins(*since))
    }

    /// When job numbers began again last.
    pub fn began_again(&self) -> Option<Timestamp> {
        self.began_again
    }

    /// Job numbers have begun again.
    pub fn begin_again(&mut self, now: Timestamp) {
        // The clock may have been set back since something was told.
        self.began_again = self.began_again.max(Some(now.max(self.told_at)));
    }

    /// An event of the job is told.
    pub fn tell(&mut self, id: JobId, now: Timestamp) {
        self.highest_told = self.highest_told.max(id.get());
        self.told_at = self.told_at.max(now);
    }

    /// The journal is about to be written anew, without what was told up to now. Returns when that
    /// was told last.
    pub fn lose(&mut self) -> Timestamp {
        // The clock may have been set back since something of what is forgotten was told.
        *self.losing.insert(self.told_at.max(self.forgotten.unwrap_or(self.told_at)))
    }

    /// The journal has been written anew.
    pub fn is_lost(&mut self) {
        if let Some(losing) = self.losing.take() {
            self.lost = Some(losing);
        }
    }

    /// How far the job was told; `None` before the history was asked. It is not asked about one that
    /// none of its events can be of.
    pub fn told(&self, job: &Job<'_>) -> Option<Option<Progress>> {
        if job.id.get() > self.highest_told {
            return Some(None);
        }
        match self.recalls.get(&job.id) {
            // It is back after it vanished, or was found in the archive of an older cluster
            // whose numbers are given out again.
            Some(Recall::Told(received, told)) if *received == job.received => {
                Some(told.map(|told| self.told_by_the_lost(job).max(told)))
            }
            _ => None,
        }
    }

    /// How far a job was told, at least, by a history that is lost. Of what is still there, because it
    /// was to run again, others may have come later.
    fn told_by_the_lost(&self, job: &Job<'_>) -> Progress {
        let lost = self.lost.filter(|lost| job.received <= *lost);
        lost.map(|lost| transitions::as_of(job, lost)).unwrap_or_default()
    }

    /// What of a job had ended by then is over, though the history has no event of it: it may have
    /// been told before that begins.
    pub fn over(&self, job: &Job<'_>, account: Account, is_of_first_look: bool) -> Option<Timestamp> {
        let told = match account {
            // The history goes back to where it began: nothing is forgotten before that is over.
            Account::Found | Account::FoundBefore if is_of_first_look => self.lost,
            // An earlier daemon has told it, since it is not known any more.
            Account::FoundBefore => self.lost.or(self.last_written).max(self.forgotten),
            Account::Found => self.lost.max(self.forgotten),
            // Nobody has told it, but for one of the numbers before they began again.
            Account::Missing => {
                self.lost.max(self.forgotten).filter(|_| Some(job.received) <= self.began_again)
            }
        };
        told.max(self.begun)
    }

    /// Whether no time says that what was received then is over.
    pub fn is_later(&self, received: Timestamp) -> bool {
        let over = [self.begun, self.lost, self.forgotten, self.began_again];
        over.into_iter().all(|time| time < Some(received))
    }

    /// What it says of a job that is to be looked at.
    pub fn recall(&mut self, id: JobId, received: Timestamp, told: Option<Progress>) {
        self.recalls.insert(id, Recall::Told(received, told));
    }

    /// It could not be asked about a job.
    pub fn cannot_recall(&mut self, id: JobId) {
        self.recalls.insert(id, Recall::Failed);
    }

    /// Whether it has yet to be asked about some job.
    pub fn has_unasked(&self) -> bool {
        self.recalls.values().any(|recall| *recall == Recall::Failed)
    }

    /// What it says of a job is not wanted any more.
    pub fn forget(&mut self, id: JobId) {
        self.recalls.remove(&id);
    }
}
