//! What the daemon tells of itself: one state for `status`, its JSON and much of the metrics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::outbox_progress::Progress;
use super::settings::Outbox;
use crate::ganeti::job::JobId;

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The daemon's process ID.
    pub pid: u32,
    /// When it started, in seconds since the epoch.
    pub started: f64,
    /// `master` or `standby`.
    pub role: String,
    /// This node's name.
    pub node: String,
    /// The master's name, as far as it is known.
    pub master: Option<String>,
    /// What an operator must see to; empty when all is well.
    pub problems: Vec<String>,
    /// Jobs whose files are in the queue.
    pub jobs_tracked: usize,
    /// Jobs that may still bring events.
    pub jobs_open: usize,
    /// Job processes that are watched.
    pub processes_watched: usize,
    /// Events whose scripts have not all ended.
    pub undelivered: usize,
    /// The age of the oldest of them, in seconds.
    pub lag_seconds: f64,
    /// Whether the kernel stops jobs in the very rename that publishes their opcode.
    #[serde(default)]
    pub hold_exact: bool,
    /// By which means it does, or why it does not.
    #[serde(default)]
    pub hold_means: String,
    /// What stops them is in the kernel now: a job is armed, or was a moment ago.
    #[serde(default)]
    pub hold_attached: bool,
    /// Job processes that the kernel is to stop, or has just stopped.
    #[serde(default)]
    pub armed: Vec<ArmedJob>,
    /// Jobs that are held for their pre hooks.
    #[serde(default)]
    pub held: Vec<HeldJob>,
    /// Scripts that run now.
    pub running: Vec<RunningHook>,
    /// Runs that failed last, newest last.
    pub last_failures: Vec<FailedHook>,
    /// Job files that cannot be used, by name.
    pub bad_files: BTreeMap<String, String>,
    /// Where events are pushed to.
    #[serde(default)]
    pub outboxes: Vec<OutboxStatus>,
    /// Counted since the start.
    pub counters: Counters,
}

/// How an outbox is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutboxStatus {
    /// Its name.
    pub name: String,
    /// Where it sends to.
    pub url: String,
    /// `ok`, `failing`, `ended` (the receiver wants nothing any more), `standby` (another node
    /// sends) or `starting`.
    pub state: String,
    /// Events that are still to be sent, or are not done yet; `None` where that cannot be read.
    pub pending: Option<u64>,
    /// When the receiver took something last, in seconds since the epoch.
    pub last_success: Option<f64>,
    /// Events that the receiver has refused.
    pub refused: usize,
    /// What stands in the way.
    pub trouble: Option<String>,
    /// What it sends, and how far it is: what is still to be sent is counted by that.
    #[serde(skip)]
    pub progress: Option<Box<(Outbox, Progress)>>,
}

/// A job whose process the kernel stops when it publishes its next version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmedJob {
    /// The job.
    pub job: JobId,
    /// The job process.
    pub pid: u32,
}

/// A job whose process stands still while its pre hooks run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldJob {
    /// The job.
    pub job: JobId,
    /// The event it is held for, e.g. `42.0.pre`.
    pub event: String,
    /// The job process.
    pub pid: u32,
    /// How long it has been held.
    pub seconds: f64,
    /// Whether it had got further when it was stopped.
    pub late: bool,
    /// The script that it waits for.
    pub hook: Option<String>,
}

/// A script that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningHook {
    /// The event, e.g. `42.0.post`.
    pub event: String,
    /// The script's name.
    pub script: String,
    /// The node it runs on.
    pub node: String,
    /// How long it has been running.
    pub seconds: f64,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedHook {
    /// The event, e.g. `42.0.post`.
    pub event: String,
    /// The script's name.
    pub script: String,
    /// The node it ran on.
    pub node: String,
    /// What went wrong.
    pub what: String,
}

/// Things counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Versions of job files that were read.
    pub versions_read: u64,
    /// Events that were noticed.
    pub events: u64,
    /// Of these, late ones.
    pub events_late: u64,
    /// Runs that ended.
    pub runs: u64,
    /// Of these, failed ones.
    pub runs_failed: u64,
    /// Times that the whole queue was compared.
    pub scans: u64,
    /// Times that hints of inotify were lost.
    pub overflows: u64,
    /// Job files that could not be used.
    pub bad_files: u64,
    /// Times that a job was stopped for its pre hooks.
    pub holds: u64,
    /// Of these, times that the kernel did so in the rename.
    pub holds_exact: u64,
    /// Of these, times that it had got further already.
    pub holds_late: u64,
    /// Times that a job should have been stopped but was not.
    pub holds_missed: u64,
    /// Times that a job went on because `hold-limit` was over.
    pub holds_timed_out: u64,
    /// Times that Ganeti was told of a death.
    pub deaths_told: u64,
    /// Times that it was to be told of one and could not.
    pub deaths_not_told: u64,
    /// Commits that failed.
    pub journal_errors: u64,
    /// Times that a thread panicked.
    pub panics: u64,
}
