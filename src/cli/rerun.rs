//! `ganeti-hookd rerun`

use std::io;

use super::events::await_change;
use super::fields::describe;
use super::status::explained;
use super::table::{Column, Layout, Table};
use super::terminal::Terminal;
use super::times::{Period, Zone};
use super::{Failure, failed, open_history, say};
use crate::daemon::node_name;
use crate::engine::settings::Settings;
use crate::ganeti::event_name::EventName;
use crate::world::api;
use crate::world::api::rerun::{Accepted, Wanted};
use crate::world::journal::{Filter, HistoryEvent, RunRecord};

/// Run an event's scripts again
///
/// EVENT is JOB.OPCODE.PHASE, for example 42.0.post: the newest event of that name; or the id that
/// `events --json` shows, which is one event for ever. The scripts get the variables that were
/// stored, the next GANETI_HOOKD_ATTEMPT, GANETI_HOOKD_LATE=yes and GANETI_HOOKD_RERUN=yes, when
/// their job has nothing else to deliver; no job is held for them. The runs before stay in the
/// history. Prints how each run has ended; the exit code is 1 if one has failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The event
    // An id begins with a dash where the cluster was not known.
    #[arg(required_unless_present = "failed", conflicts_with_all = ["failed", "since", "until"], allow_hyphen_values = true)]
    event: Option<EventName>,

    /// Only this node's script of this name; otherwise those of all nodes that had them run
    #[arg(long, value_name = "SCRIPT", value_parser = script_name)]
    script: Option<String>,

    /// All events of which some script failed, and has not run well since
    #[arg(long, requires = "since")]
    failed: bool,

    #[command(flatten)]
    period: Period,

    /// With --failed: only show which events that are, and what failed
    #[arg(long, requires = "failed")]
    dry_run: bool,

    /// Do not wait until the scripts have ended
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    zone: Zone,

    #[command(flatten)]
    layout: Layout,
}

/// A name that a script may have.
fn script_name(text: &str) -> Result<String, &'static str> {
    let may_be_in = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !text.is_empty() && text.chars().all(may_be_in) {
        true => Ok(text.to_owned()),
        false => Err("a script's name is of letters, digits, _ and -"),
    }
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let found = match &self.event {
            Some(_) => Vec::new(),
            None => self.failures(settings)?,
        };
        if self.dry_run {
            return self.show(&found);
        }
        let of_those = found.iter().filter_map(|event| event.event.id().parse().ok());
        let wanted: Vec<EventName> = self.event.iter().cloned().chain(of_those).collect();
        let mut all_well = true;
        let mut accepted = Vec::new();
        for name in &wanted {
            match self.ask(settings, name)? {
                Ok(answer) => accepted.push(answer),
                Err(why) => {
                    all_well = false;
                    say(&format!("{name}: {why}"));
                }
            }
        }
        if !self.no_wait {
            all_well &= self.await_all(settings, &accepted)?;
        }
        if all_well { Ok(()) } else { Err(Failure::Silent) }
    }

    /// The events that are meant by `--failed`.
    fn failures(&self, settings: &Settings) -> Result<Vec<HistoryEvent>, Failure> {
        let [since, until] = self.period.resolve(self.zone)?;
        let filter = Filter { since, until, failed: true, output: Some(0), ..Filter::default() };
        let script = self.script.as_ref().map(|script| (node_name(settings), script.as_str()));
        let script = script.as_ref().map(|(node, script)| (node.as_str(), *script));
        let mut found = Vec::new();
        open_history(settings)?.events(&filter, |event| {
            if event.state != "pending" && !last_failures(&event, script).is_empty() {
                found.push(event);
            }
            true
        })?;
        Ok(found)
    }

    fn table(&self, titles: [&'static str; 3]) -> Table<'_> {
        let columns = titles.into_iter().map(Column::whole).collect();
        Table::new(&self.layout, columns, Terminal::of_output(), true)
    }

    fn show(&self, found: &[HistoryEvent]) -> Result<(), Failure> {
        let mut table = self.table(["Event", "Id", "Failed"]);
        for event in found {
            let failures = last_failures(event, None);
            table.row(vec![event.event.key.to_string(), event.event.id(), words(event, failures)]);
        }
        Ok(table.print(io::stdout().lock())?)
    }

    /// Asks the daemon; inside is why it says no.
    fn ask(&self, settings: &Settings, name: &EventName) -> Result<Result<Accepted, String>, Failure> {
        let run_dir = &settings.paths.run_dir;
        let wanted = Wanted { name: name.clone(), script: self.script.clone() };
        let answer = api::request(run_dir, "POST", &wanted.target())
            .map_err(|error| failed(explained(run_dir, &error)))?;
        if answer.status == 200 {
            return Ok(Ok(serde_json::from_slice(&answer.body).map_err(failed)?));
        }
        Ok(Err(api::detail(&answer.body)))
    }

    /// Waits for all of them, and prints how each has ended. Returns whether all is well.
    fn await_all(&self, settings: &Settings, accepted: &[Accepted]) -> Result<bool, Failure> {
        let mut table = self.table(["Event", "State", "Runs"]);
        let mut all_well = true;
        for Accepted { event: name, seq, runs, .. } in accepted {
            let event = await_end(settings, *seq)?.ok_or_else(|| failed(format!("{name} is forgotten")))?;
            let new: Vec<&RunRecord> = event.runs.iter().skip(*runs as usize).collect();
            let nothing_ran = new.is_empty() && self.script.is_some();
            all_well &= event.state == "done" && !nothing_ran && !new.iter().any(|run| run.has_failed());
            table.row(vec![name.clone(), event.state.clone(), words(&event, new)]);
            table.print(io::stdout().lock())?;
            if event.state == "standby" {
                say(&format!("{name}: another node has become master meanwhile"));
            }
        }
        Ok(all_well)
    }
}

/// The event of this number when its scripts have ended; `None` when the history has forgotten it.
fn await_end(settings: &Settings, seq: i64) -> Result<Option<HistoryEvent>, Failure> {
    let filter = Filter { after: seq - 1, limit: Some(1), output: Some(0), ..Filter::default() };
    let mut state = 0;
    loop {
        let mut found = None;
        open_history(settings)?.events(&filter, |event| {
            found = Some(event);
            false
        })?;
        let found = found.filter(|event| event.seq == seq);
        if found.as_ref().is_none_or(|event| event.state != "pending") {
            return Ok(found);
        }
        state = await_change(settings, state)?;
    }
}

/// Runs in few words.
fn words(event: &HistoryEvent, runs: Vec<&RunRecord>) -> String {
    let words: Vec<String> = runs.into_iter().filter_map(|run| describe(event, run)).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(",") }
}

/// What failed, and has not run again since; of one node's script only, if so.
fn last_failures<'a>(event: &'a HistoryEvent, only: Option<(&str, &str)>) -> Vec<&'a RunRecord> {
    let key = |run: &'a RunRecord| (&run.node, &run.directory, &run.script);
    let is_wanted = |run: &RunRecord| only.is_none_or(|only| only == (&run.node, &run.script));
    let is_last = |at: usize| !event.runs[at + 1..].iter().any(|later| key(later) == key(&event.runs[at]));
    let failed = event.runs.iter().enumerate().filter(|(_, run)| run.has_failed() && is_wanted(run));
    failed.filter(|(at, _)| is_last(*at)).map(|(_, run)| run).collect()
}
