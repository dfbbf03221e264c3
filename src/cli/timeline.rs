//! `ganeti-hookd timeline`

mod course;
mod drawing;

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::filter::{FilterArgs, Subject};
use super::terminal::Terminal;
use super::times::Zone;
use super::{Failure, failed, open_history};
use crate::engine::settings::Settings;
use crate::ganeti::job::{JobId, Timestamp};
use crate::world::clock;
use crate::world::journal::{Filter, History, HistoryEvent};
use course::Opcode;
use drawing::{Drawing, Signs};

/// The width of a drawing where there is no terminal.
const USUAL_WIDTH: usize = 100;

/// Draw jobs on a time axis
///
/// How long each opcode was queued, waited for locks, was held for its pre hooks and executed, how it ended, and
/// when which hook ran. Each job has an axis of its own. Where the terminal has no UTF-8, and in a
/// pipe, it is drawn in ASCII.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A job's number, or an object as for --object: web1, instance/web1, node/; default: all jobs
    #[arg(value_name = "JOB|OBJECT", conflicts_with_all = ["job", "object"])]
    subject: Option<Subject>,

    /// Only so many jobs, those submitted last
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    last: u16,

    #[command(flatten)]
    filter: FilterArgs,

    #[command(flatten)]
    zone: Zone,
}

/// The opcodes of each job, by their place in it. Jobs of one number are told apart by when they were
/// received.
type Jobs = BTreeMap<(Timestamp, JobId), BTreeMap<u32, Opcode>>;

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let filter = self.filter.filter(self.zone)?;
        let filter = self.subject.clone().map_or(filter.clone(), |subject| subject.narrow(filter));
        let history = open_history(settings)?;
        let (jobs, is_all) = self.jobs(&history, filter)?;
        if jobs.is_empty() {
            return Err(failed("the history has no such job"));
        }
        let terminal = Terminal::of_output();
        let drawing = Drawing {
            signs: Signs::of(terminal),
            width: terminal.width.unwrap_or(USUAL_WIDTH),
            has_colours: terminal.has_colours,
            zone: self.zone,
            now: clock::now().as_secs_f64(),
        };
        let mut out = io::stdout().lock();
        for ((received, id), opcodes) in &jobs {
            drawing.job(&mut out, *id, *received, opcodes)?;
        }
        drawing.legend(&mut out)?;
        if !is_all {
            eprintln!("ganeti-hookd: these are the last {}; --last shows more", jobs.len());
        }
        Ok(out.flush()?)
    }

    /// The jobs that are wanted, and whether these are all.
    fn jobs(&self, history: &History, filter: Filter) -> Result<(Jobs, bool), Failure> {
        let filter = Filter { output: Some(0), ..filter };
        let (mut jobs, mut is_all) = (Jobs::new(), true);
        history.events(&filter, |event| {
            is_all &= self.keep(&mut jobs, event);
            true
        })?;
        Ok((jobs, is_all))
    }

    /// Adds an event; `false` if an older job had to go for it.
    fn keep(&self, jobs: &mut Jobs, event: HistoryEvent) -> bool {
        let (received, key) = (event.event.received, event.event.key);
        jobs.entry((received, key.job)).or_default().entry(key.op).or_default().add(event);
        let is_surplus = jobs.len() > usize::from(self.last);
        if is_surplus {
            jobs.pop_first();
        }
        !is_surplus
    }
}
