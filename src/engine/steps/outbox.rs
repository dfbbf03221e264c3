//! Outboxes: who sends, and what they say of themselves.

use crate::engine::Engine;
use crate::engine::input::Now;
use crate::engine::outbox_progress::Report;
use crate::engine::report::Problem;

impl Engine {
    /// Has the outboxes of the configuration send, if this node is master: when what it adopts is
    /// written, whose else they would take it for.
    pub(in crate::engine) fn assign_outboxes(&mut self) {
        let is_master = self.place.is_master();
        match self.outboxes.assign(&self.settings.outboxes, is_master) {
            Some(effect) if is_master => self.ledger.after(effect),
            effect => self.effects.extend(effect),
        }
        self.tell_of_outboxes();
    }

    /// An outbox says how far it is.
    pub(in crate::engine) fn outbox_reports(&mut self, now: Now, name: String, report: Report) {
        self.outboxes.reported(name, report, now.steady);
        self.tell_of_outboxes();
    }

    fn tell_of_outboxes(&mut self) {
        let problem = self.outboxes.problem(&self.settings.outboxes).filter(|_| self.place.is_master());
        match problem {
            Some(problem) => {
                let what_follows = "what is to be sent waits in the history";
                self.report.problem_once(Problem::Outbox, &problem, what_follows);
            }
            None => self.report.solved(Problem::Outbox),
        }
    }

    /// Has written how far they are, with what is written anyway. While the journal cannot be
    /// written that waits: it would come to be written once for each try.
    pub(in crate::engine) fn record_outboxes(&mut self) {
        if !self.ledger.is_stalled() {
            self.outboxes.changes().into_iter().for_each(|change| self.ledger.record(change));
        }
    }
}
