//! What `status` and the metrics tell.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::deliveries::Delivery;
use crate::engine::effect::Token;
use crate::engine::holds::{Exactness, Hold};
use crate::engine::input::{Landing, Now};
use crate::engine::report::Problem;
use crate::engine::status::{ArmedJob, HeldJob, RunningHook, Status};
use crate::ganeti::event::EventKey;

impl Engine {
    /// How things are. The process's ID is the daemon's to add.
    pub fn status(&self, now: Now) -> Status {
        let since = |time: f64| (now.time.as_secs_f64() - time).max(0.0);
        let mut firsts = self.deliveries.iter().filter(|(_, delivery)| delivery.rerun.is_none());
        let oldest = firsts.next().map(|(_, delivery)| delivery.event.time.as_secs_f64());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: 0,
            started: self.report.started().as_secs_f64(),
            role: self.place.role().as_str().to_owned(),
            node: self.place.node().to_owned(),
            master: self.place.master().map(str::to_owned),
            problems: self.report.problems(),
            jobs_tracked: self.jobs.tracker().len(),
            jobs_open: self.jobs.open().count(),
            processes_watched: self.jobs.processes.watched(),
            undelivered: self.deliveries.len(),
            lag_seconds: oldest.map_or(0.0, since),
            hold_exact: matches!(self.holds.exactness(), Exactness::Exact(_)),
            hold_means: match self.holds.exactness() {
                Exactness::Unknown => String::new(),
                Exactness::Exact(means) | Exactness::BestEffort(means) => means.clone(),
            },
            hold_attached: self.holds.is_attached(),
            armed: self.holds.armed().map(|(job, token)| ArmedJob { job, pid: self.pid(token) }).collect(),
            held: self.holds.iter().map(|hold| self.held_job(hold, now.steady)).collect(),
            running: self.deliveries.iter().flat_map(|(_, delivery)| running(delivery, &since)).collect(),
            last_failures: self.report.failures(),
            bad_files: self.report.bad_files(),
            outboxes: self.outboxes.status(&self.settings.outboxes, self.place.is_master()),
            counters: self.report.counters(),
        }
    }

    /// A piece of work has failed by a defect of ours; that is said until the next start.
    pub(in crate::engine) fn panicked(&mut self, what: &str) {
        self.report.count(|counters| counters.panics += 1);
        let what = format!("{what}; the log has more; please report it, the next start forgets it");
        self.report.problem(Problem::Defect, &what);
    }

    fn held_job(&self, hold: &Hold, steady: Duration) -> HeldJob {
        HeldJob {
            job: hold.key.job,
            event: hold.key.to_string(),
            pid: self.pid(hold.token),
            seconds: steady.saturating_sub(hold.since).as_secs_f64(),
            late: !hold.landing.is_some_and(Landing::is_in_time),
            hook: self.running_hook(hold.key),
        }
    }

    fn pid(&self, token: Token) -> u32 {
        self.jobs.processes.get(token).map_or(0, |watched| watched.process.pid)
    }

    /// The script that runs for an event.
    fn running_hook(&self, key: EventKey) -> Option<String> {
        let delivery = self.deliveries.get(self.deliveries.find(key)?)?;
        let run = &delivery.running.values().next()?.start;
        let here = run.node == self.place.node();
        Some(if here { run.label() } else { format!("{} on {}", run.label(), run.node) })
    }
}

fn running(delivery: &Delivery, since: &impl Fn(f64) -> f64) -> Vec<RunningHook> {
    let hook = |run: &crate::engine::change::RunStart| RunningHook {
        event: delivery.event.key.to_string(),
        script: run.label(),
        node: run.node.clone(),
        seconds: since(run.started.as_secs_f64()),
    };
    delivery.running.values().map(|run| hook(&run.start)).collect()
}
