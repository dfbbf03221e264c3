//! Metrics: what the daemon tells of itself to Prometheus.
//!
//! [`Figures`] are counted while it works, in fixed arrays; a [`Metrics`] is how things are at one
//! moment, and is worded by whoever asked for it. Never is a job, an instance or a person a label,
//! and of each label no more than [`labelled::LABELS_MAX`] values are told apart. Everything counted
//! begins at 0 with the daemon, `start_time_seconds` says when that was.

pub mod families;
pub mod figures;
pub mod histogram;
pub mod labelled;
pub mod text;

use crate::engine::status::Status;
use crate::ganeti::job::Timestamp;

pub use families::{FAMILIES, Family, Kind, PREFIX};
pub use figures::Figures;

/// How many jobs in the queue are how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStates {
    /// None of their opcodes has begun that has not ended.
    pub queued: usize,
    /// An opcode waits for locks.
    pub waiting: usize,
    /// An opcode executes.
    pub running: usize,
    /// All is over.
    pub ended: usize,
    /// Since when the opcode waits for locks that has waited longest.
    pub oldest_waiting: Option<Timestamp>,
}

/// How things are at one moment.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// What `status` tells.
    pub status: Status,
    /// What was counted.
    pub figures: Figures,
    /// The jobs in the queue.
    pub jobs: JobStates,
    /// When the oldest undelivered event was noticed.
    pub oldest_undelivered: Option<Timestamp>,
    /// Since when the job is held that has been held longest.
    pub oldest_held: Option<Timestamp>,
    /// The cluster's name, if it is known.
    pub cluster: Option<String>,
}

impl Metrics {
    /// The metrics in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        FAMILIES.iter().for_each(|family| family.write(self, &mut text));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::outcome::Outcome;
    use crate::ganeti::event::Phase;

    #[test]
    fn no_series_is_told_twice() {
        let mut metrics = Metrics::default();
        let long = "10-".to_owned() + &"x".repeat(300);
        for script in ["a\nb", "a\\nb", &long, &(long.clone() + "y"), "ends-\u{e4}"] {
            metrics.figures.run(Phase::Pre, script, &Outcome::default());
            metrics.figures.request(script, &Outcome::default());
        }
        let text = metrics.text();
        let mut series = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, _) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(name), "{name} comes twice in\n{text}");
        }
        let runs = "ganeti_hookd_hook_runs_total{phase=\"pre\",script=\"10-xx";
        assert!(text.lines().any(|line| line.starts_with(runs) && line.ends_with(" 2")), "{text}");
    }
}
