//! `status --nagios`: one line for Nagios and what is like it (Icinga, Naemon, Checkmk), by the
//! Monitoring Plugins' guidelines.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::explained;
use crate::cli::Failure;
use crate::cli::times::duration;
use crate::daemon::{StartError, read_settings};
use crate::engine::status::{Counters, Status};
use crate::ganeti::text::plain;
use crate::world::api;

/// An event whose hooks have not ended for so many seconds is a warning, and for so many critical.
const LAG_WARNING: f64 = 300.0;
const LAG_CRITICAL: f64 = 3600.0;

/// The most characters of what is said.
const TEXT_MAX: usize = 1024;

/// How things are; the number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// Prints the line, and ends with the exit code that goes with it.
pub fn run(config: &Path) -> Result<(), Failure> {
    let (state, line) = match read_settings(config) {
        Ok(settings) => asked(&settings.paths.run_dir),
        Err(error) => unreadable(&error),
    };
    writeln!(io::stdout().lock(), "GANETI-HOOKD {state} - {line}")?;
    if state == State::Ok { Ok(()) } else { Err(Failure::Code(state as u8)) }
}

fn unreadable(error: &StartError) -> (State, String) {
    (State::Unknown, said(&error.to_string().lines().collect::<Vec<_>>().join(" ")))
}

fn asked(run_dir: &Path) -> (State, String) {
    let status =
        api::get(run_dir, "/v1/status").and_then(|answer| Ok(serde_json::from_slice::<Status>(&answer)?));
    match status {
        Ok(status) => {
            let (state, what) = judged(&status);
            (state, format!("{} | {}", said(&what), figures(&status)))
        }
        Err(error) => {
            let is_down = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
            let state = if is_down { State::Critical } else { State::Unknown };
            (state, said(&explained(run_dir, &error)))
        }
    }
}

/// The worst that there is to say, or that all is well.
fn judged(status: &Status) -> (State, String) {
    let Status { problems, undelivered, lag_seconds, bad_files, .. } = status;
    if !problems.is_empty() {
        return (State::Critical, problems.join("; "));
    }
    if *undelivered > 0 && *lag_seconds >= LAG_WARNING {
        let state = if *lag_seconds >= LAG_CRITICAL { State::Critical } else { State::Warning };
        return (
            state,
            format!("{undelivered} events undelivered, the oldest {} old", duration(*lag_seconds)),
        );
    }
    if !bad_files.is_empty() {
        return (State::Warning, format!("{} job files cannot be used", bad_files.len()));
    }
    let role = match status.role.as_str() {
        "master" => "master".to_owned(),
        role => format!("{role}, the master is {}", status.master.as_deref().unwrap_or("unknown")),
    };
    (State::Ok, format!("{role}; {} jobs open, {undelivered} events undelivered", status.jobs_open))
}

/// Text that cannot be taken for figures or for more than a line.
fn said(text: &str) -> String {
    plain(text, TEXT_MAX).replace('|', "/")
}

/// Performance data.
fn figures(status: &Status) -> String {
    let Counters { events, runs, runs_failed, holds, holds_late, holds_missed, holds_timed_out, .. } =
        status.counters;
    let gauges = [
        ("jobs_open", status.jobs_open),
        ("undelivered", status.undelivered),
        ("held", status.held.len()),
        ("running", status.running.len()),
    ];
    let counters = [
        ("events", events),
        ("runs", runs),
        ("runs_failed", runs_failed),
        ("holds", holds),
        ("holds_late", holds_late),
        ("holds_missed", holds_missed),
        ("holds_timed_out", holds_timed_out),
    ];
    let mut figures = vec![format!("lag={:.3}s;{LAG_WARNING};{LAG_CRITICAL};0", status.lag_seconds)];
    figures.extend(gauges.map(|(name, value)| format!("{name}={value};;;0")));
    figures.extend(counters.map(|(name, value)| format!("{name}={value}c;;;0")));
    figures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status { role: "master".to_owned(), jobs_open: 2, ..Status::default() }
    }

    fn state(status: &Status) -> State {
        judged(status).0
    }

    #[test]
    fn the_worst_is_said() {
        assert_eq!(judged(&status()), (State::Ok, "master; 2 jobs open, 0 events undelivered".to_owned()));
        let lag = |lag_seconds| Status { undelivered: 1, lag_seconds, ..status() };
        assert_eq!([0.0, 299.9].map(|seconds| state(&lag(seconds))), [State::Ok; 2]);
        assert_eq!([300.0, 3599.0].map(|seconds| state(&lag(seconds))), [State::Warning; 2]);
        assert_eq!(state(&lag(3600.0)), State::Critical);
        let bad_files = [("job-7".to_owned(), "is no job".to_owned())].into();
        let bad = Status { bad_files, ..status() };
        assert_eq!(judged(&bad), (State::Warning, "1 job files cannot be used".to_owned()));
        let problems = vec!["journal: full".to_owned(), "guard: none".to_owned()];
        let worst = Status { problems, ..bad };
        assert_eq!(judged(&worst), (State::Critical, "journal: full; guard: none".to_owned()));
        let standby = Status { role: "standby".to_owned(), master: Some("node2".to_owned()), ..status() };
        assert!(judged(&standby).1.starts_with("standby, the master is node2; "));
    }

    #[test]
    fn no_text_makes_a_second_line_or_figures() {
        assert_eq!(said("a | b=9c\nOK\u{1b}[2J"), "a / b=9c\\nOK\\u{1b}[2J");
        assert!(said(&"x".repeat(100_000)).len() < 1100);
    }
}
