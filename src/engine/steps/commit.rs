//! What follows when the journal has what it was given, and when it has not.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::change::{Change, EventState};
use crate::engine::effect::{Effect, Level};
use crate::engine::input::{CommitError, Now, Written};
use crate::engine::report::Problem;

impl Engine {
    /// The journal has answered.
    pub(in crate::engine) fn committed(&mut self, now: Now, result: Result<Written, CommitError>) {
        match result {
            Ok(written) => self.is_written(now, written),
            Err(CommitError { text, damaged: true }) if !self.turn.is_writing_anew => {
                self.turn.is_writing_anew = true;
                let text = format!("{text}; the journal is written anew, the old one is set aside");
                self.report.say(Level::Error, &text);
                self.effects.push(Effect::WriteAnew(Arc::new(self.everything())));
            }
            Err(error) => self.stall(now, &error.text),
        }
    }

    fn is_written(&mut self, now: Now, written: Written) {
        self.turn.is_writing_anew = false;
        self.turn.pruned(written.more_to_prune);
        let outgoing = self.ledger.committed();
        if outgoing.was_stalled {
            self.report.say(Level::Warning, "the journal can be written again; going on");
            self.report.solved(Problem::Journal);
            self.turn.stall_over = Some(now.time);
        }
        self.effects.extend(outgoing.effects);
        if outgoing.was_stalled {
            self.resume(now);
        }
        // Jobs may stand still until their hooks have run; who only listens comes after them.
        for change in outgoing.written.iter() {
            if let Change::Event(_, event, _) = change {
                self.report.say(Level::Info, &event.to_string());
            }
        }
        if !outgoing.written.is_empty() {
            self.effects.push(Effect::Announce);
        }
    }

    /// The journal cannot be written: keep everything, look at nothing, start nothing, try
    /// again.
    fn stall(&mut self, now: Now, error: &str) {
        self.turn.is_writing_anew = false;
        self.report.count(|counters| counters.journal_errors += 1);
        let (is_new, begun) = self.ledger.failed(now.steady);
        if is_new {
            let text = format!("{error}; no hook starts until the journal can be written, nothing is lost");
            self.report.say(Level::Error, &text);
        }
        self.effects.extend(self.holds.let_all_go());
        self.took_back(begun);
        self.report.problem(Problem::Journal, error);
    }

    /// All that a later start must know.
    fn everything(&self) -> Vec<Change> {
        let mut all = vec![Change::Numbers(self.jobs.numbers().all())];
        all.extend(self.jobs.begun().map(Change::Begun));
        all.extend(self.jobs.tracker().iter().map(|(id, tracked)| Change::Job(id, tracked.clone())));
        for (seq, delivery) in self.deliveries.iter() {
            all.push(Change::Event(seq, delivery.event.clone(), EventState::Pending));
            all.extend(delivery.view().map(|view| Change::Plan(seq, view.clone())));
            all.extend(delivery.running.values().map(|run| Change::RunStart(run.start.clone())));
        }
        let standby = self.deliveries.in_standby();
        all.extend(standby.map(|(seq, event)| Change::Event(seq, event.clone(), EventState::Standby)));
        all
    }
}
