//! `ganeti-hookd status`

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use super::{Failure, failed, local_time, seconds};
use crate::api;
use crate::settings::Settings;
use crate::status::Status;

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
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
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
            out.write_all(describe(&status).as_bytes())?;
        }
        if status.problems.is_empty() { Ok(()) } else { Err(Failure::Silent) }
    }
}

/// What the daemon answers; if it does not, why, and what to do about it.
pub fn ask(run_dir: &Path, target: &str) -> Result<Vec<u8>, String> {
    api::get(run_dir, target).map_err(|error| {
        let socket = run_dir.join(api::SOCKET);
        let hint = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "the daemon is not running; start it with `systemctl start ganeti-hookd`"
            }
            io::ErrorKind::PermissionDenied => "only root and the daemon's user may ask",
            _ => "the daemon does not answer; its log may say why",
        };
        format!("{}: {error}; {hint}", socket.display())
    })
}

/// The status in words.
fn describe(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |title: &str, value: String| {
        let _ = writeln!(text, "{title:<10} {value}");
    };
    line(
        "daemon",
        format!(
            "ganeti-hookd {}, process {}, since {}",
            status.version,
            status.pid,
            local_time(status.started)
        ),
    );
    line(
        "role",
        format!(
            "{} ({}; the master is {})",
            status.role,
            status.node,
            status.master.as_deref().unwrap_or("unknown")
        ),
    );
    for problem in &status.problems {
        line("PROBLEM", problem.clone());
    }
    line(
        "jobs",
        format!(
            "{} in the queue, {} open, {} processes watched",
            status.jobs_tracked, status.jobs_open, status.processes_watched
        ),
    );
    let lag = if status.undelivered == 0 {
        String::new()
    } else {
        format!(", the oldest {} old", seconds(status.lag_seconds))
    };
    line(
        "events",
        format!(
            "{} noticed, {} late, {} undelivered{lag}",
            status.counters.events, status.counters.events_late, status.undelivered
        ),
    );
    line(
        "hooks",
        format!(
            "{} run, {} failed, {} running",
            status.counters.runs,
            status.counters.runs_failed,
            status.running.len()
        ),
    );
    for held in &status.held {
        let late = if held.late { ", late" } else { "" };
        let hook = held.hook.as_deref().unwrap_or("-");
        line(
            "held",
            format!(
                "{} (process {}{late}) for {}, waits for {hook}",
                held.event,
                held.pid,
                seconds(held.seconds)
            ),
        );
    }
    for hook in &status.running {
        line(
            "running",
            format!("{} {} on {} for {}", hook.event, hook.script, hook.node, seconds(hook.seconds)),
        );
    }
    for hook in &status.last_failures {
        line("failed", format!("{} {} on {}: {}", hook.event, hook.script, hook.node, hook.what));
    }
    for (name, what) in &status.bad_files {
        line("bad file", format!("{name} {what}"));
    }
    text
}
