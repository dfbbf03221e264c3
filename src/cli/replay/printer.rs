//! How `replay` prints events: as a table, or as JSON Lines.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::fields::{EventTable, TableArgs, look};
use crate::cli::table::{Look, painted};
use crate::cli::terminal::Terminal;
use crate::cli::{Failure, failed};
use crate::engine::change::EventState;
use crate::engine::environment::Environment;
use crate::ganeti::event::{Event, EventRecord, Fate, PostStatus};
use crate::world::journal::{HistoryEvent, RunRecord};

/// An event of a recording, and what was made of it.
pub struct Played {
    pub seq: i64,
    pub event: Event,
    /// What its scripts get, where that is to be shown.
    pub env: Option<Environment>,
    /// Where they run, where that is to be shown.
    pub nodes: Option<Vec<String>>,
    /// What became of them, where they ran.
    pub runs: Option<Vec<Run>>,
}

/// One script that ran for an event.
#[derive(Serialize)]
pub struct Run {
    pub directory: String,
    pub script: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub seconds: f64,
    pub output: String,
    pub error: Option<String>,
}

/// An event as JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    event: EventRecord<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Environment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<Vec<Run>>,
}

/// What prints events.
pub enum Printer<'a> {
    /// One JSON object a line.
    Json,
    /// A table for people.
    Table(Box<Summed<'a>>),
}

/// A table, and what is said below it.
pub struct Summed<'a> {
    table: EventTable<'a>,
    /// Each event is printed at once.
    is_live: bool,
    /// Below a table for people; programs want none.
    sum: Option<Sum>,
}

impl<'a> Printer<'a> {
    /// Prints a table; each event at once if they take their time.
    pub fn table(args: &'a TableArgs, is_live: bool) -> Result<Self, Failure> {
        let is_for_people = args.is_for_people() && Terminal::of_output().is_there();
        let sum = is_for_people.then(Sum::default);
        Ok(Self::Table(Box::new(Summed { table: args.table(is_live)?, is_live, sum })))
    }

    /// Prints an event, or keeps it until the columns' widths are known.
    pub fn event(&mut self, played: Played) -> Result<(), Failure> {
        match self {
            Self::Json => Ok(writeln!(io::stdout().lock(), "{}", json(played)?)?),
            Self::Table(summed) => Ok(summed.event(played)?),
        }
    }

    /// Prints what is left.
    pub fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Json => io::stdout().flush(),
            Self::Table(summed) => summed.end(),
        }
    }
}

fn json(Played { seq, event, env, nodes, runs }: Played) -> Result<String, Failure> {
    let event = EventRecord::new(seq, &event, Fate { state: EventState::Done.as_str(), ..Fate::default() });
    serde_json::to_string(&Line { event, env, nodes, runs }).map_err(failed)
}

impl Summed<'_> {
    fn event(&mut self, played: Played) -> io::Result<()> {
        if let Some(sum) = &mut self.sum {
            sum.add(&played);
        }
        self.table.event(&history(played));
        if self.is_live { self.table.print() } else { Ok(()) }
    }

    fn end(&mut self) -> io::Result<()> {
        self.table.print()?;
        match &self.sum {
            Some(sum) => writeln!(io::stdout(), "\n{}", sum.in_words(Terminal::of_output().has_colours)),
            None => Ok(()),
        }
    }
}

/// The event as the history would have it.
fn history(Played { seq, event, runs, .. }: Played) -> HistoryEvent {
    let started = event.time.as_secs_f64();
    let record = |Run { directory, script, code, signal, seconds, output, error }| RunRecord {
        node: String::new(),
        directory,
        script,
        attempt: 1,
        started,
        ended: true,
        code,
        signal,
        seconds: Some(seconds),
        output: Some(output),
        dropped: None,
        error,
    };
    let runs = runs.unwrap_or_default().into_iter().map(record).collect();
    HistoryEvent {
        seq,
        event,
        state: EventState::Done.as_str().to_owned(),
        held: None,
        told_ganeti: None,
        runs,
    }
}

/// How many events there were, and how their opcodes ended.
#[derive(Default)]
struct Sum {
    events: usize,
    ended: [usize; PostStatus::ALL.len()],
    /// Of scripts, if any ran.
    runs: Option<(usize, usize)>,
}

impl Sum {
    fn add(&mut self, Played { event, runs, .. }: &Played) {
        self.events += 1;
        for (status, count) in PostStatus::ALL.iter().zip(&mut self.ended) {
            *count += usize::from(event.status == Some(*status));
        }
        if let Some(runs) = runs {
            let (all, failed) = self.runs.get_or_insert_default();
            *all += runs.len();
            *failed += runs.iter().filter(|run| run.code != Some(0) || run.error.is_some()).count();
        }
    }

    fn in_words(&self, has_colours: bool) -> String {
        let part = |count: usize, words: &str, look: Look| {
            let text = format!("{count} {words}");
            if has_colours && count > 0 { painted(&text, look) } else { text }
        };
        let ended = PostStatus::ALL.iter().zip(self.ended);
        let ended: Vec<String> =
            ended.map(|(status, count)| part(count, status.as_str(), look(*status))).collect();
        let hooks = self.runs.map_or_else(String::new, |(all, failed)| {
            format!("; {all} hooks run, {}", part(failed, "failed", Look::Red))
        });
        format!("{} events: {}{hooks}", self.events, ended.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_one_line() {
        let sum = Sum { events: 9, ended: [3, 0, 1], runs: Some((9, 2)) };
        assert_eq!(
            sum.in_words(false),
            "9 events: 3 succeeded, 0 failed, 1 disappeared; 9 hooks run, 2 failed"
        );
        assert_eq!(
            sum.in_words(true),
            "9 events: 3 succeeded, 0 failed, \u{1b}[1;31m1 disappeared\u{1b}[0m; 9 hooks run, \u{1b}[31m2 failed\u{1b}[0m"
        );
    }
}
