//! What `status` and the metrics tell.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::deliveries::Delivery;
use crate::engine::effect::{Level, Token};
use crate::engine::holds::{Exactness, Hold};
use crate::engine::input::{Landing, Now};
use crate::engine::metrics::Metrics;
use crate::engine::report::Problem;
use crate::engine::status::{ArmedJob, HeldJob, RunningHook, Status};
use crate::engine::topic::{MessageId, Topic};
use crate::engine::waiting::Waiting;
use crate::ganeti::event::Event;
use crate::ganeti::job::Timestamp;

/// Opcodes that wait for their locks and are told of at most.
const WAITING_TOLD: usize = 1000;

impl Engine {
    /// How things are. The process's ID is the daemon's to add.
    pub fn status(&self, now: Now) -> Status {
        let since = |time: f64| (now.time.as_secs_f64() - time).max(0.0);
        let oldest = self.oldest_undelivered().map(Timestamp::as_secs_f64);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: 0,
            started: self.report.started().as_secs_f64(),
            role: self.place.role().as_str().to_owned(),
            node: self.place.node().to_owned(),
            master: self.place.master().map(str::to_owned),
            problems: self.report.problems(),
            jobs_tracked: self.jobs.tracker().len(),
            jobs_open: self.jobs.tracker().open().len(),
            processes_watched: self.processes.watched(),
            undelivered: self.deliveries.undelivered(),
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

    /// The same, which `status` is, and more for Prometheus.
    pub fn metrics(&self, now: Now, status: Status) -> Metrics {
        let oldest_held = self.holds.iter().map(|hold| now.steady.saturating_sub(hold.since)).max();
        let ago = |held: Duration| Timestamp::from_secs_f64(now.time.as_secs_f64() - held.as_secs_f64());
        Metrics {
            status,
            figures: self.report.figures().clone(),
            jobs: self.jobs.states(),
            oldest_undelivered: self.oldest_undelivered(),
            oldest_held: oldest_held.map(ago),
            cluster: self.place.cluster().map(|cluster| cluster.name.clone()),
        }
    }

    /// The opcodes that wait for their locks, those that have waited longest first: events that are to
    /// come, with the names that these will have.
    pub fn waiting(&self, now: Now) -> Waiting {
        let is_there = |event: &Event| !self.report.has_vanished(event.key.job);
        let events = self.jobs.waiting(now.time).filter(is_there).take(WAITING_TOLD).collect();
        Waiting::new(events, self.place.cluster().cloned())
    }

    /// When the oldest event was noticed that is undelivered.
    fn oldest_undelivered(&self) -> Option<Timestamp> {
        let mut firsts = self.deliveries.iter().filter(|(_, delivery)| delivery.rerun.is_none());
        firsts.next().map(|(_, delivery)| delivery.event.time)
    }

    /// Whether all can ask who are to.
    pub(in crate::engine) fn api_is(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.report.solved(Problem::Api),
            Err(what) => {
                if self.report.problem(Problem::Api, &what) {
                    self.report.say_of(Topic::of(MessageId::Problem), Level::Error, &what);
                }
            }
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
            hook: self.running_hook(hold),
        }
    }

    fn pid(&self, token: Token) -> u32 {
        self.processes.get(token).map_or(0, |watched| watched.process.pid)
    }

    /// The script that runs for an event.
    fn running_hook(&self, hold: &Hold) -> Option<String> {
        let delivery = self.deliveries.get(self.deliveries.find(hold.key, hold.received)?)?;
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
