//! What the daemon says of itself: to `status` and the metrics, and to systemd.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::{Daemon, now};
use crate::engine::status::{RunningHook, Status};
use crate::world::api::Question;

/// Clients that wait for a change.
const WAITERS_MAX: usize = 64;

/// Messages to systemd (sd_notify(3)); none are sent where nobody asked for them.
#[derive(Debug)]
pub struct Watchdog {
    interval: Option<Duration>,
    next: Option<Instant>,
}

impl Watchdog {
    /// Pings twice as often as systemd wants (`WATCHDOG_USEC`).
    pub fn new() -> Self {
        let interval = sd_notify::watchdog_enabled().map(|timeout| timeout / 2);
        Self { interval, next: interval.map(|interval| Instant::now() + interval) }
    }

    /// When the next ping is due.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Pings if it is time. Returns whether it was.
    pub fn ping(&mut self) -> bool {
        let is_due = self.next.is_some_and(|next| Instant::now() >= next);
        if is_due {
            self.next = self.interval.map(|interval| Instant::now() + interval);
            notify(&[NotifyState::Watchdog]);
        }
        is_due
    }

    /// Ready to do its work.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// What it is doing, in one line.
    pub fn status(&self, status: &str) {
        notify(&[NotifyState::Status(status)]);
    }

    /// Reads its configuration again; [`Watchdog::ready`] says when that is over.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(since) => notify(&[NotifyState::Reloading, since]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
    }

    /// Ends.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("systemd cannot be told: {error}");
    }
}

impl Daemon {
    /// Answers what a client of the API asks.
    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Question::AwaitChange(since, reply) if self.change > since => {
                let _ = reply.send(self.change);
            }
            Question::AwaitChange(since, reply) => {
                // Whoever has waited longest may have gone; if not, it asks again.
                if self.waiters.len() >= WAITERS_MAX {
                    self.waiters.remove(0);
                }
                self.waiters.push((since, reply));
            }
        }
    }

    /// One line for `systemctl status`.
    pub(super) fn summary(&self) -> String {
        let master = self.master.as_deref().unwrap_or("unknown");
        format!("{}; the master is {master}; {} jobs in the queue", self.role.as_str(), self.tracker.len())
    }

    fn status(&self) -> Status {
        let now = now();
        let since = |time: f64| (now.as_secs_f64() - time).max(0.0);
        let oldest = self.deliveries.values().next().map(|delivery| delivery.event.time.as_secs_f64());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started.as_secs_f64(),
            role: self.role.as_str().to_owned(),
            node: self.node.clone(),
            master: self.master.clone(),
            problems: self.problems.iter().map(|(what, problem)| format!("{what}: {problem}")).collect(),
            jobs_tracked: self.tracker.len(),
            jobs_open: self.tracker.iter().filter(|(_, tracked)| tracked.is_open()).count(),
            processes_watched: self.processes.len(),
            undelivered: self.deliveries.len(),
            lag_seconds: oldest.map_or(0.0, since),
            held: self.held_jobs(),
            running: self.running(since),
            last_failures: self.failures.iter().cloned().collect(),
            bad_files: self.bad_files.iter().map(|(id, what)| (id.file_name(), what.clone())).collect(),
            counters: self.counters,
        }
    }

    fn running(&self, since: impl Fn(f64) -> f64) -> Vec<RunningHook> {
        let runs = self
            .deliveries
            .values()
            .flat_map(|delivery| delivery.running.values().map(move |run| (delivery, run)));
        runs.map(|(delivery, run)| RunningHook {
            event: delivery.event.key.to_string(),
            script: run.script.clone(),
            node: run.node.clone(),
            seconds: since(run.started.as_secs_f64()),
        })
        .collect()
    }
}
