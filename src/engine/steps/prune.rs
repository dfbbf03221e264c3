//! Forgetting old history: what the engine does about it.

use crate::engine::Engine;
use crate::engine::agenda::Rank;
use crate::engine::change::Change;
use crate::engine::input::Now;
use crate::engine::pruning::PER_COMMIT;
use crate::ganeti::job::{JobId, Timestamp};

impl Engine {
    /// Forgets old history, at most once an hour, never for that alone, and a piece at a time.
    pub(in crate::engine) fn prune(&mut self, now: Now) {
        // A job that has not been looked at since the start may have ended meanwhile, and of one that
        // the history could not be asked about nobody knows what of it was told.
        if !self.may_prune() {
            return;
        }
        if self.pruning.is_due(now.steady) {
            self.begin_to_prune(now);
        }
        if let Some(before) = self.pruning.before() {
            self.ledger.record(Change::Prune(before, PER_COMMIT));
        }
    }

    pub(in crate::engine) fn may_prune(&self) -> bool {
        self.life.is_ready() && self.jobs.is_pass_over() && !self.jobs.has_unasked()
    }

    /// What was noticed before this time need not be kept.
    pub(in crate::engine) fn kept_since(&self, now: Now) -> Timestamp {
        let keep = i64::try_from(self.settings.keep().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.time.as_micros().saturating_sub(keep))
    }

    fn begin_to_prune(&mut self, now: Now) {
        let before = self.kept_since(now);
        self.pruning.begin(before, now.steady);
        self.deliveries.forget_before(before);
        let vanished: Vec<JobId> = self.jobs.not_seen_since(before).collect();
        vanished.into_iter().for_each(|id| self.agenda.found(id, Rank::News));
        let numbers = self.jobs.give_up_oldest();
        self.record_numbers(numbers);
    }

    /// Whether a job that has vanished is to be forgotten which was seen then; what was seen since
    /// history is kept is not, however far the clock has been set back since some was forgotten.
    pub(in crate::engine) fn has_expired(&self, now: Now, seen: Timestamp) -> bool {
        self.pruning.has_forgotten(seen) && seen < self.kept_since(now)
    }
}
