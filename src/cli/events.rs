//! `ganeti-hookd events`

mod follow;

use std::io::{self, Write};

use super::fields::{EventTable, TableArgs};
use super::filter::FilterArgs;
use super::{Failure, open_history};
use crate::engine::settings::Settings;
use crate::world::journal::HistoryEvent;
use follow::Follower;
pub use follow::await_change;

/// Show the history of events and hook runs
///
/// Oldest first. On a terminal the usual columns are made to fit: some are left out, `status` then
/// says what they would, and `runs` names only what failed. In a pipe, and with -o or --json, all
/// is shown.
///
/// Fields for -o: seq, id, time, event, job, op, op_count, op_code, object, phase, status,
/// executed, late, state, runs, failed, output, received, started, executed_at, ended,
/// start_delay, lock_wait, held, execution, reason, parent, error.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,

    /// Go on: print each event when its hooks have ended, and again when they were run again
    ///
    /// What else is to be told (another node has become master, nobody watched the queue for a
    /// while, a part of the history is gone) is a line that begins with # on standard error; the
    /// first two are JSON objects with --json.
    #[arg(long, short)]
    follow: bool,

    /// Print JSON Lines, with all runs and their output
    #[arg(long, conflicts_with_all = ["output", "no_headers", "separator", "units"])]
    json: bool,

    #[command(flatten)]
    table: TableArgs,
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let filter = self.filter.filter(self.table.zone)?;
        let mut printer = match self.json {
            true => Printer::Json,
            false => Printer::Table(self.table.table(self.follow)?),
        };
        let history = open_history(settings)?;
        if self.follow {
            return Follower::new(filter, self.table.zone, printer).follow(settings, history);
        }
        let mut result = Ok(());
        history.events(&filter, |event| {
            result = printer.event(&event);
            result.is_ok()
        })?;
        result?;
        Ok(printer.flush()?)
    }
}

/// Prints events, as a table or JSON Lines.
enum Printer<'a> {
    Json,
    Table(EventTable<'a>),
}

impl Printer<'_> {
    fn event(&mut self, event: &HistoryEvent) -> io::Result<()> {
        match self {
            Self::Json => return writeln!(io::stdout().lock(), "{}", event.to_json()),
            Self::Table(table) => table.event(event),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Json => io::stdout().flush(),
            Self::Table(table) => table.print(),
        }
    }
}
