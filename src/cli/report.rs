//! `ganeti-hookd report`

mod groups;
mod output;
mod sheet;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::filter::FilterArgs;
use super::table::Layout;
use super::times::Zone;
use super::{Failure, open_history};
use crate::engine::settings::Settings;
use crate::ganeti::text::plain;
use crate::world::clock;
use crate::world::cluster::Cluster;
use crate::world::journal::{Filter, History};
use crate::world::page;
use groups::{By, Groups};
use output::Output;
use sheet::{Format, Sheet, event_columns, event_row};

/// Bytes of output of one event that a page holds.
const OUTPUT_MAX: usize = 16 * 1024;

/// A page larger than this is no pleasure to open, in bytes.
const SIZE_USUAL: u64 = 64 * 1024 * 1024;

/// Rows that are lined up with each other.
const ROWS_AT_ONCE: u64 = 1000;

/// Write what has happened as a page for a ticket, or count it in a table
///
/// Without --by: one file of HTML, which loads nothing and shows what the daemon's own page shows: the
/// opcodes on a time axis, with reasons, errors, and of each event 16 KiB of what its hooks said.
///
/// With --by: a line for each opcode, object, reason or day, with how many opcodes ended and how, the median and
/// the 95th percentile of their wait for locks and of their execution, how many scripts ran, how many of
/// these failed, and which. With --by event a line for each event, oldest first.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,

    /// Count by this
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,

    /// How a table is written
    ///
    /// In CSV and JSON Lines times are as in RFC 3339 and durations in seconds. In CSV a text that a spreadsheet would
    /// take for a formula (it begins with =, +, - or @) begins with a '
    /// instead; JSON Lines have it as it is.
    #[arg(long, value_name = "FORMAT", requires = "by", default_value = "text")]
    format: Format,

    /// The file to write: for its owner alone, complete or not at all; a file that is there is replaced
    #[arg(long, value_name = "FILE", required_unless_present = "by")]
    out: Option<PathBuf>,

    #[command(flatten)]
    layout: Layout,

    #[command(flatten)]
    zone: Zone,
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let filter = self.filter.filter(self.zone)?;
        let history = open_history(settings)?;
        let mut output = Output::open(self.out.as_deref())?;
        match self.by {
            None => self.page(settings, &history, filter, &mut output)?,
            Some(By::Event) => self.events(&history, &filter, &mut output)?,
            Some(by) => self.counts(&history, filter, by, &mut output)?,
        }
        output.done()
    }

    fn page(
        &self,
        settings: &Settings,
        history: &History,
        filter: Filter,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let now = clock::now();
        let until = filter.until.map_or(now, |until| until.min(now));
        let place = self.place(settings, &filter);
        let filter = Filter { output: Some(OUTPUT_MAX), ..filter };
        let mut file =
            page::File::begin(BufWriter::new(&mut *output), "Ganeti jobs", &place, until.as_secs_f64())?;
        let (mut result, mut events) = (Ok(()), 0_u64);
        history.events(&filter, |event| {
            result = file.event(&event);
            events += 1;
            result.is_ok()
        })?;
        result?;
        file.end()?.flush()?;
        let size = output.size();
        if size > SIZE_USUAL {
            eprintln!(
                "ganeti-hookd: {events} events are {} MiB: a browser takes its time with them; --since, --op-code and the like make them fewer",
                size / 1024 / 1024
            );
        }
        Ok(())
    }

    /// What a page is of: the cluster, the time, and what was left out.
    fn place(&self, settings: &Settings, filter: &Filter) -> String {
        let show = |time| self.zone.show(time);
        let cluster = Cluster::new(&settings.paths.data_dir).facts(None);
        let mut words: Vec<String> = cluster.name.into_iter().collect();
        words.extend(filter.since.map(|since| format!("since {}", show(since))));
        words.extend(filter.until.map(|until| format!("until {}", show(until))));
        words.push(format!("written {}", show(clock::now())));
        words.extend(self.filter.in_words());
        plain(&words.join(" · "), 2000)
    }

    /// A line an event.
    fn events(&self, history: &History, filter: &Filter, output: &mut Output) -> Result<(), Failure> {
        let filter = Filter { output: Some(0), ..filter.clone() };
        let mut sheet = Sheet::new(
            self.format,
            event_columns(),
            &self.layout,
            self.zone,
            output.terminal(),
            &mut *output,
        )?;
        let (mut result, mut rows) = (Ok(()), 0);
        history.events(&filter, |event| {
            rows += 1;
            result = sheet.row(event_row(&event));
            if result.is_ok() && rows % ROWS_AT_ONCE == 0 {
                result = sheet.flush();
            }
            result.is_ok()
        })?;
        result?;
        Ok(sheet.flush()?)
    }

    /// A line a group.
    fn counts(&self, history: &History, filter: Filter, by: By, output: &mut Output) -> Result<(), Failure> {
        let filter = Filter { output: Some(0), ..filter };
        let mut groups = Groups::new(by, self.zone);
        history.events(&filter, |event| {
            groups.add(&event);
            true
        })?;
        let columns = groups.columns();
        let mut sheet =
            Sheet::new(self.format, columns, &self.layout, self.zone, output.terminal(), &mut *output)?;
        for row in groups.rows() {
            sheet.row(row)?;
        }
        Ok(sheet.flush()?)
    }
}
