//! Stopping (SIGTERM): nothing new begins, scripts that run may end, all is written.

use crate::engine::Engine;
use crate::engine::effect::{Effect, Level};
use crate::engine::input::Now;

impl Engine {
    /// Begins to stop: nothing new is started, scripts that run may end.
    pub(in crate::engine) fn stop(&mut self, now: Now) {
        if self.life.stop(now.steady) {
            self.report.say_the_rest();
            self.report.say(Level::Info, "stopping");
            self.effects.extend(self.holds.let_all_go());
            // Scripts that wait for the journal will not begin any more; the next start runs
            // them.
            self.take_back_begun();
            for (seq, run) in self.deliveries.postponed() {
                self.take_back(seq, run);
            }
        }
    }

    pub(in crate::engine) fn stop_on(&mut self, now: Now) {
        if self.life.must_end_runs(now.steady) {
            self.effects.push(Effect::EndRuns);
        }
        if self.is_done() && !self.ledger.is_stalled() {
            self.record_outboxes();
        }
        let writes = self.ledger.has_changes() || self.ledger.is_stalled();
        if writes && (self.is_done() || !self.ledger.must_wait(now.steady)) {
            self.effects.push(self.ledger.commit());
        }
    }
}
