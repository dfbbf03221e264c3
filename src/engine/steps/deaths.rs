//! Deaths of job processes are told to Ganeti, which notices them by itself after minutes and keeps
//! the job's locks until then (design, section 17).
//!
//! Promise: only a death that this daemon has watched, on the master, and once it is written. Who
//! tells looks once more whether the job is still the dead process's.

use crate::engine::Engine;
use crate::engine::change::Change;
use crate::engine::effect::{Death, Effect, Level};
use crate::engine::processes;
use crate::ganeti::job::{Job, JobId};

impl Engine {
    /// Has Ganeti told that the job's process has died, if it is to be; `seq` tells of it here.
    pub(in crate::engine) fn tell_ganeti(
        &mut self,
        job: &Job<'_>,
        death: &processes::Death,
        seq: Option<i64>,
    ) {
        let is_wanted = self.settings.deaths.tell_ganeti && self.place.is_surely_master();
        if is_wanted && death.watched_at().is_some() {
            let process = death.process().clone();
            let death = Death { seq, job: job.id, received: job.received, process };
            self.ledger.after(Effect::TellGaneti(death));
        }
    }

    /// Whether an effect is still to be done: while it waited for the journal, telling Ganeti may have
    /// been turned off, and the node may have become another's. The other node's Ganeti knows nothing
    /// of a process of this one.
    pub(in crate::engine) fn is_still_wanted(&self, effect: &Effect) -> bool {
        let is_told = self.settings.deaths.tell_ganeti && self.place.is_master();
        is_told || !matches!(effect, Effect::TellGaneti(_))
    }

    /// What came of it.
    pub(in crate::engine) fn told_ganeti(
        &mut self,
        seq: Option<i64>,
        job: JobId,
        result: Result<bool, String>,
    ) {
        match &result {
            Ok(true) => {
                self.report.count(|counters| counters.deaths_told += 1);
                self.report
                    .say(Level::Info, &format!("job {job}: Ganeti was told that its process has died"));
            }
            Ok(false) => {
                self.report.say(Level::Debug, &format!("job {job}: Ganeti knew that its process has died"))
            }
            Err(error) => {
                self.report.count(|counters| counters.deaths_not_told += 1);
                let text = format!("job {job}: Ganeti was not told that its process has died: {error}");
                self.report.say(Level::Warning, &text);
            }
        }
        if let (Some(seq), Ok(true) | Err(_)) = (seq, &result) {
            self.ledger.record(Change::ToldGaneti(seq, result.is_ok()));
        }
    }
}
