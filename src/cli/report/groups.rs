//! Sums of events by something that they have in common.
//!
//! Kept are the sums, and of each opcode that ended its two durations: eight bytes.

use std::collections::BTreeMap;

use super::sheet::{Kind, Value};
use crate::cli::times::Zone;
use crate::engine::directories;
use crate::ganeti::event::{Phase, PostStatus};
use crate::world::journal::HistoryEvent;

/// What is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The opcode's type.
    OpCode,
    /// What the opcode is about.
    Object,
    /// The user's own reason, or the last of the trail.
    Reason,
    /// The day on which the event was noticed.
    Day,
    /// Nothing is counted: a line an event.
    Event,
}

impl By {
    fn title(self) -> &'static str {
        match self {
            Self::OpCode => "op_code",
            Self::Object => "object",
            Self::Reason => "reason",
            Self::Day => "day",
            Self::Event => "event",
        }
    }
}

/// The sums of one group.
#[derive(Debug, Default)]
struct Sum {
    opcodes: u64,
    succeeded: u64,
    failed: u64,
    disappeared: u64,
    lock_waits: Durations,
    executions: Durations,
    runs: u64,
    runs_failed: u64,
    /// The scripts that failed, and how often.
    failing: BTreeMap<String, u64>,
}

/// Durations, in milliseconds.
#[derive(Debug, Default)]
struct Durations(Vec<u32>);

impl Durations {
    fn add(&mut self, seconds: Option<f64>) {
        // Beyond 49 days it is 49 days.
        self.0.extend(seconds.map(|seconds| (seconds * 1e3).round() as u32));
    }

    /// The least one that so many percent do not exceed, in seconds; sorts.
    fn percentile(&mut self, percent: usize) -> Option<f64> {
        self.0.sort_unstable();
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).map(|millis| f64::from(*millis) / 1e3)
    }
}

impl Sum {
    fn add(&mut self, event: &HistoryEvent) {
        if event.event.key.phase == Phase::Post {
            self.opcodes += 1;
            match event.event.status {
                Some(PostStatus::Succeeded) => self.succeeded += 1,
                Some(PostStatus::Failed) => self.failed += 1,
                Some(PostStatus::Disappeared) => self.disappeared += 1,
                None => {}
            }
            self.lock_waits.add(event.event.about.lock_wait());
            self.executions.add(event.event.about.execution());
        }
        for run in event.runs.iter().filter(|run| run.counts()) {
            self.runs += 1;
            if run.has_failed() {
                self.runs_failed += 1;
                *self.failing.entry(directories::label(&run.directory, &run.script)).or_default() += 1;
            }
        }
    }

    fn row(mut self, key: String) -> Vec<Value> {
        let mut failing: Vec<(String, u64)> = self.failing.into_iter().collect();
        failing.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let failing: Vec<String> =
            failing.iter().map(|(script, times)| format!("{script} ({times})")).collect();
        vec![
            Value::Text(key),
            Value::Count(self.opcodes),
            Value::Count(self.succeeded),
            Value::Count(self.failed),
            Value::Count(self.disappeared),
            Value::Duration(self.lock_waits.percentile(50)),
            Value::Duration(self.lock_waits.percentile(95)),
            Value::Duration(self.executions.percentile(50)),
            Value::Duration(self.executions.percentile(95)),
            Value::Count(self.runs),
            Value::Count(self.runs_failed),
            Value::Text(failing.join(", ")),
        ]
    }
}

/// All groups.
pub struct Groups {
    by: By,
    zone: Zone,
    sums: BTreeMap<String, Sum>,
}

impl Groups {
    /// None so far; days are in this zone.
    pub fn new(by: By, zone: Zone) -> Self {
        Self { by, zone, sums: BTreeMap::new() }
    }

    /// Counts an event.
    pub fn add(&mut self, event: &HistoryEvent) {
        let told = &event.event;
        let key = match self.by {
            By::OpCode => told.op_code.clone(),
            By::Object => told.about.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            By::Reason => told.about.reason.in_short().unwrap_or_default().to_owned(),
            By::Day => self.zone.show_day(told.time),
            By::Event => told.key.to_string(),
        };
        self.sums.entry(key).or_default().add(event);
    }

    /// The columns of [`Self::rows`].
    pub fn columns(&self) -> Vec<(&'static str, Kind)> {
        use Kind::{Number, Text};
        vec![
            (self.by.title(), Text),
            ("opcodes", Number),
            ("succeeded", Number),
            ("failed", Number),
            ("disappeared", Number),
            ("lock_wait_p50", Number),
            ("lock_wait_p95", Number),
            ("execution_p50", Number),
            ("execution_p95", Number),
            ("runs", Number),
            ("runs_failed", Number),
            ("failing_hooks", Text),
        ]
    }

    /// A row a group: days in their order, else the one with the most opcodes first.
    pub fn rows(self) -> Vec<Vec<Value>> {
        let mut sums: Vec<(String, Sum)> = self.sums.into_iter().collect();
        if self.by != By::Day {
            sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.opcodes));
        }
        sums.into_iter().map(|(key, sum)| sum.row(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let percentile = |values: &[f64], percent| {
            let mut durations = Durations::default();
            values.iter().for_each(|value| durations.add(Some(*value)));
            durations.percentile(percent)
        };
        let many: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&many, 50), percentile(&many, 95)), (Some(50.0), Some(95.0)));
        assert_eq!((percentile(&[3.0, 1.0], 50), percentile(&[3.0, 1.0], 95)), (Some(1.0), Some(3.0)));
        assert_eq!((percentile(&[0.0015], 50), percentile(&[1e9], 50)), (Some(0.002), Some(4_294_967.295)));
        assert_eq!(percentile(&[], 50), None);
    }
}
