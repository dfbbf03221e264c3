//! When the daemon is ready, and what it says of itself to whoever supervises it.

use crate::engine::Engine;
use crate::engine::effect::Effect;

impl Engine {
    /// The watch stands, open jobs have been looked at, and the last of the others; those that
    /// are left are looked at beside the work.
    pub(in crate::engine) fn get_ready(&mut self) {
        let enough = self.life.has_looked_enough() || !self.agenda.has_scanned();
        let looked = self.agenda.has_listed() && enough;
        // What is supervised must not be taken for dead because the queue is not there.
        let fails = self.agenda.is_failing() || self.ledger.is_stalled();
        if (looked || fails) && self.life.become_ready() {
            self.summarize();
            self.effects.extend([Effect::Ready, Effect::Recollect]);
        }
    }

    /// One line for `systemctl status`.
    pub(in crate::engine) fn summarize(&mut self) {
        let master = self.place.master().unwrap_or("unknown");
        let jobs = self.jobs.tracker().len();
        let role = self.place.role().as_str();
        self.effects
            .push(Effect::Summary(format!("{role}; the master is {master}; {jobs} jobs in the queue")));
    }
}
