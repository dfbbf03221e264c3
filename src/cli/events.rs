//! `ganeti-hookd events`

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use super::table::{Layout, Table};
use super::{Failure, failed, local_time};
use crate::engine::environment;
use crate::engine::settings::Settings;
use crate::ganeti::job::JobId;
use crate::world::api;
use crate::world::journal::{Filter, History, HistoryEvent, RunRecord};

/// Show the history of events and hook runs
///
/// Oldest first. Fields for -o: seq, time, event, job, op, op_count, op_code, phase,
/// status, executed, late, state, runs, failed, output.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only events of this job
    #[arg(long, value_name = "JOB")]
    job: Option<JobId>,

    /// Only events with a hook run that failed
    #[arg(long)]
    failed: bool,

    /// Go on: print each event when its hooks have ended
    #[arg(long, short)]
    follow: bool,

    /// Print JSON Lines, with all runs and their output
    #[arg(long, conflicts_with_all = ["output", "no_headers", "separator"])]
    json: bool,

    /// Fields to show, separated by commas; +FIELD adds to the usual ones
    #[arg(long, short, value_name = "FIELDS")]
    output: Option<String>,

    #[command(flatten)]
    layout: Layout,
}

/// A field: its name, its title, and what it shows.
type Field = (&'static str, &'static str, fn(&HistoryEvent) -> String);

const FIELDS: [Field; 15] = [
    ("seq", "Seq", |e| e.seq.to_string()),
    ("time", "Time", |e| local_time(e.event.time.as_secs_f64())),
    ("event", "Event", |e| e.event.key.to_string()),
    ("job", "Job", |e| e.event.key.job.to_string()),
    ("op", "Op", |e| e.event.key.op.to_string()),
    ("op_count", "OpCount", |e| e.event.op_count.to_string()),
    ("op_code", "OpCode", |e| e.event.op_code.clone()),
    ("phase", "Phase", |e| e.event.key.phase.to_string()),
    ("status", "Status", |e| e.event.status.map_or("-", |status| status.as_str()).to_owned()),
    ("executed", "Executed", |e| yes_no(e.event.executed)),
    ("late", "Late", |e| yes_no(e.event.late)),
    ("state", "State", |e| e.state.clone()),
    ("runs", "Runs", |e| e.runs.iter().filter_map(|run| describe(e, run)).collect::<Vec<_>>().join(",")),
    ("failed", "Failed", |e| e.runs.iter().filter(|run| run.has_failed()).count().to_string()),
    ("output", "Output", |e| {
        e.runs.iter().filter_map(|run| run.output.as_deref()).collect::<String>().escape_debug().to_string()
    }),
];

const USUAL_FIELDS: &str = "seq,time,event,op_code,status,late,state,runs";

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// A run in a few words: `10-mail=0`, `20-log=signal 9`, on another node `node2:10-mail=0`.
/// A request to a node, which is a run named after the hooks directory, is worth a word
/// only where it is the news.
pub(super) fn describe(event: &HistoryEvent, run: &RunRecord) -> Option<String> {
    let directory = environment::directory(event.event.key.phase);
    if run.script == directory && run.ended && !run.has_failed() {
        return None;
    }
    let result = match (run.ended, &run.error, run.code, run.signal) {
        (false, ..) if event.was_cut_short(run) => "interrupted".to_owned(),
        (false, ..) => "running".to_owned(),
        (true, Some(_), ..) => "failed".to_owned(),
        (true, None, Some(code), _) => code.to_string(),
        (true, None, None, signal) => format!("signal {}", signal.unwrap_or(0)),
    };
    let was_asked = event.runs.iter().any(|other| other.node == run.node && other.script == directory);
    let node = run.node.split('.').next().filter(|_| was_asked);
    let place = node.map(|node| format!("{node}:")).unwrap_or_default();
    Some(format!("{place}{}={result}", run.script))
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let fields = self.fields()?;
        let titles: Vec<&str> = fields.iter().map(|field| field.1).collect();
        let mut printer = Printer { json: self.json, table: Table::new(&self.layout, &titles), fields };
        let mut progress = Progress::default();
        let Some(history) = History::open(&settings.paths.state_dir)? else {
            return Err(failed(format!(
                "there is no history in {}; has `ganeti-hookd run` been started with this configuration?",
                settings.paths.state_dir.display()
            )));
        };
        if !self.follow {
            return self.print_all(&history, &mut printer);
        }
        let mut state = 0;
        loop {
            self.print_new(&history, &mut progress, &mut printer)?;
            state = await_change(settings, state)?;
        }
    }

    fn fields(&self) -> Result<Vec<Field>, Failure> {
        let wanted = match self.output.as_deref() {
            None => USUAL_FIELDS.to_owned(),
            Some(more) if more.starts_with('+') => format!("{USUAL_FIELDS},{}", &more[1..]),
            Some(fields) => fields.to_owned(),
        };
        let find = |name: &str| {
            FIELDS.iter().find(|field| field.0 == name).copied().ok_or_else(|| {
                let names: Vec<&str> = FIELDS.iter().map(|field| field.0).collect();
                Failure::Usage(format!("there is no field \"{name}\"; fields are {}", names.join(", ")))
            })
        };
        wanted.split(',').map(|name| find(name.trim())).collect()
    }

    fn filter(&self) -> Filter {
        Filter { job: self.job, failed: self.failed, ..Filter::default() }
    }

    fn print_all(&self, history: &History, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let mut result = Ok(());
        history.events(&self.filter(), |event| {
            result = printer.event(&event);
            result.is_ok()
        })?;
        result?;
        Ok(printer.flush()?)
    }

    /// Prints the events that have come to their end since the last time.
    fn print_new(
        &self,
        history: &History,
        progress: &mut Progress,
        printer: &mut Printer<'_>,
    ) -> Result<(), Failure> {
        let from = progress.pending.first().map_or(progress.last, |first| first - 1);
        let filter = Filter { after: from.min(progress.last), job: self.job, ..Filter::default() };
        let mut result = Ok(());
        history.events(&filter, |event| {
            if progress.is_news(&event) && (!self.failed || event.has_failed()) {
                result = printer.event(&event);
            }
            result.is_ok()
        })?;
        result?;
        Ok(printer.flush()?)
    }
}

/// What `--follow` has printed.
#[derive(Debug, Default)]
struct Progress {
    /// The last event seen.
    last: i64,
    /// Events before it whose hooks had not ended.
    pending: BTreeSet<i64>,
}

impl Progress {
    /// Whether the event is to be printed now.
    fn is_news(&mut self, event: &HistoryEvent) -> bool {
        let was_pending = self.pending.remove(&event.seq);
        if event.seq <= self.last && !was_pending {
            return false;
        }
        self.last = self.last.max(event.seq);
        if event.state == "pending" {
            self.pending.insert(event.seq);
            return false;
        }
        true
    }
}

/// Waits until the history changes; while no daemon runs, looks again now and then.
pub(super) fn await_change(settings: &Settings, state: u64) -> Result<u64, Failure> {
    match api::get(&settings.paths.run_dir, &format!("/v1/changes?since={state}")) {
        Ok(answer) => Ok(String::from_utf8_lossy(&answer).trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(failed(format!(
            "{}: {error}; only root and the daemon's user may follow",
            settings.paths.run_dir.join(api::SOCKET).display()
        ))),
        Err(_) => {
            std::thread::sleep(Duration::from_secs(1));
            Ok(0)
        }
    }
}

/// Prints events, as a table or JSON Lines.
struct Printer<'a> {
    json: bool,
    table: Table<'a>,
    fields: Vec<Field>,
}

impl Printer<'_> {
    fn event(&mut self, event: &HistoryEvent) -> io::Result<()> {
        if self.json {
            return writeln!(io::stdout().lock(), "{}", event.to_json());
        }
        self.table.row(self.fields.iter().map(|field| field.2(event)).collect());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.json { io::stdout().flush() } else { self.table.print(io::stdout().lock()) }
    }
}
