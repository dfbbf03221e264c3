//! `ganeti-hookd status`

mod nagios;

use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::path::Path;

use super::times::{Zone, duration};
use super::{Failure, failed, settings};
use crate::engine::settings::Settings;
use crate::engine::status::{Counters, FailedHook, HeldJob, OutboxStatus, RunningHook, Status};
use crate::ganeti::job::Timestamp;
use crate::ganeti::text::plain;
use crate::world::api;

/// Show how the daemon is doing
///
/// Role, lag, jobs, running hooks, last failures, and everything that an operator must
/// see to. The exit code is 0 when the daemon answers and has no problem; files that are no jobs
/// are their writer's problem.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print metrics in Prometheus' text format
    #[arg(long, conflicts_with = "json")]
    metrics: bool,

    /// Print one line for Nagios, with performance data; the exit code is 0 for OK, 1 for WARNING, 2
    /// for CRITICAL, 3 for UNKNOWN
    #[arg(long, conflicts_with_all = ["json", "metrics"])]
    nagios: bool,

    #[command(flatten)]
    zone: Zone,
}

impl Args {
    pub(super) fn run(&self, config: &Path) -> Result<(), Failure> {
        if self.nagios { nagios::run(config) } else { self.show(&settings(config)?) }
    }

    fn show(&self, settings: &Settings) -> Result<(), Failure> {
        let run_dir = &settings.paths.run_dir;
        let target = if self.metrics { "/metrics" } else { "/v1/status" };
        let answer = ask(run_dir, target).map_err(failed)?;
        let mut out = io::stdout().lock();
        if self.metrics {
            return Ok(out.write_all(&answer)?);
        }
        let status: Status = serde_json::from_slice(&answer).map_err(failed)?;
        if self.json {
            writeln!(out, "{}", String::from_utf8_lossy(&answer))?;
        } else {
            out.write_all(describe(&status, self.zone).as_bytes())?;
        }
        if status.problems.is_empty() { Ok(()) } else { Err(Failure::Silent) }
    }
}

/// What the daemon answers; if it does not, why, and what to do about it.
pub fn ask(run_dir: &Path, target: &str) -> Result<Vec<u8>, String> {
    api::get(run_dir, target).map_err(|error| explained(run_dir, &error))
}

/// Why the daemon does not answer, and what to do about it.
pub fn explained(run_dir: &Path, error: &io::Error) -> String {
    let socket = run_dir.join(api::SOCKET);
    let hint = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "the daemon is not running; start it with `systemctl start ganeti-hookd`"
        }
        io::ErrorKind::PermissionDenied => "only root may ask, and the members of api.group (hookd.toml(5))",
        _ => "the daemon does not answer; its log may say why",
    };
    format!("{}: {error}; {hint}", socket.display())
}

/// Entries of a list that are shown to people.
const LIST_MAX: usize = 20;

/// The status in words.
fn describe(status: &Status, zone: Zone) -> String {
    let mut lines = Lines::default();
    lines.who(status, zone);
    lines.counts(status);
    lines.holds(status);
    lines.outboxes(status);
    lines.details(status);
    lines.0
}

/// Lines of a title and what there is to say.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, title: &str, value: impl Display) {
        let value = plain(&value.to_string(), usize::MAX);
        let _ = writeln!(self.0, "{title:<10} {value}");
    }

    fn who(&mut self, status: &Status, zone: Zone) {
        let Status { version, pid, role, node, .. } = status;
        let since = zone.show(Timestamp::from_micros((status.started * 1e6) as i64));
        self.line("daemon", format_args!("ganeti-hookd {version}, process {pid}, since {since}"));
        let master = status.master.as_deref().unwrap_or("unknown");
        self.line("role", format_args!("{role} ({node}; the master is {master})"));
        for problem in &status.problems {
            self.line("PROBLEM", problem);
        }
    }

    fn counts(&mut self, status: &Status) {
        let Status { jobs_tracked, jobs_open, processes_watched, undelivered, counters, .. } = status;
        self.line(
            "jobs",
            format_args!(
                "{jobs_tracked} in the queue, {jobs_open} open, {processes_watched} processes watched"
            ),
        );
        let lag = match undelivered {
            0 => String::new(),
            _ => format!(", the oldest {} old", duration(status.lag_seconds)),
        };
        let (events, late) = (counters.events, counters.events_late);
        self.line("events", format_args!("{events} noticed, {late} late, {undelivered} undelivered{lag}"));
        let (runs, failed, running) = (counters.runs, counters.runs_failed, status.running.len());
        self.line("hooks", format_args!("{runs} run, {failed} failed, {running} running"));
    }

    /// How jobs are held, and what came of it.
    fn holds(&mut self, status: &Status) {
        let (counters, armed) = (status.counters, status.armed.len());
        let how = match (status.hold_exact, status.hold_means.as_str()) {
            (true, means) => format!("exact ({means})"),
            (false, "") => "not known yet".to_owned(),
            (false, why) => format!("best effort: {why}"),
        };
        self.line("holds", how);
        let Counters { holds, holds_exact, holds_late, holds_missed, .. } = counters;
        self.line(
            "",
            format_args!(
                "{holds} held, {holds_exact} exactly, {holds_late} late, {holds_missed} missed, {armed} armed now"
            ),
        );
    }

    fn outboxes(&mut self, status: &Status) {
        for OutboxStatus { name, state, pending, refused, trouble, .. } in &status.outboxes {
            let pending = pending.map_or_else(|| "?".to_owned(), |pending| pending.to_string());
            let trouble = trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            self.line(
                "outbox",
                format_args!("{name} {state}, {pending} pending, {refused} refused{trouble}"),
            );
        }
    }

    fn details(&mut self, status: &Status) {
        self.list("held", &status.held, |HeldJob { event, pid, late, hook, seconds: held, .. }| {
            let (late, hook) = (if *late { ", late" } else { "" }, hook.as_deref().unwrap_or("-"));
            let held = duration(*held);
            format!("{event} (process {pid}{late}) for {held}, waits for {hook}")
        });
        self.list("running", &status.running, |RunningHook { event, script, node, seconds: running }| {
            format!("{event} {script} on {node} for {}", duration(*running))
        });
        self.list("failed", &status.last_failures, |FailedHook { event, script, node, what }| {
            format!("{event} {script} on {node}: {what}")
        });
        self.list("bad file", &status.bad_files, |(name, what)| format!("{name} {what}"));
    }

    /// The first of a list, and how many more there are.
    fn list<T>(&mut self, title: &str, all: impl IntoIterator<Item = T>, describe: impl Fn(T) -> String) {
        let mut all = all.into_iter();
        for one in all.by_ref().take(LIST_MAX) {
            self.line(title, describe(one));
        }
        match all.count() {
            0 => {}
            more => self.line(title, format_args!("and {more} more, which --json shows")),
        }
    }
}
