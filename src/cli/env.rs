//! `ganeti-hookd env`

use std::io::{self, Write};
use std::sync::Arc;

use super::{Failure, failed, say};
use crate::daemon::{node_name, threads::planner};
use crate::engine::directories::HooksPath;
use crate::engine::environment;
use crate::engine::settings::{Paths, Settings};
use crate::engine::transitions::{self, Progress};
use crate::ganeti::about::About;
use crate::ganeti::event::{Event, EventKey, Phase};
use crate::ganeti::job::{self, JobId, Liveness};
use crate::ganeti::opcodes::{self, View};
use crate::ganeti::text::is_plain;
use crate::world::cluster::Cluster;
use crate::world::journal::{Filter, History, HistoryEvent};
use crate::world::queue::read::{JOB_SIZE_LIMIT, JobReader};

/// Show the environment that a hook would get
///
/// For an event of the history the environment its hooks got; for an opcode of a job in
/// the queue or the archive the one they would get now.
///
/// A line a variable, for people: a control character in a value is escaped. With --null the
/// values are as they are, for xargs(1) (ganeti-hookd(8) has the recipe).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job
    job: JobId,

    /// The opcode's place in the job, from 0
    op: u32,

    /// pre or post
    phase: Phase,

    /// As the opcode's own post hooks get it where hooks.native-post has them run
    #[arg(long)]
    native: bool,

    /// Print a JSON object
    #[arg(long, conflicts_with = "null")]
    json: bool,

    /// End each variable with a NUL instead of a line's end
    #[arg(short = '0', long)]
    null: bool,
}

/// The view that the event would have now; what there is to say about it is said.
fn view_now(paths: &Paths, event: &Event) -> View {
    let (view, warnings) = planner::view_now(paths, event);
    for warning in warnings {
        say(&warning);
    }
    view
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let (recorded, view) = match self.recorded(settings)? {
            Some((event, view)) => (Some(event), view),
            None => (None, None),
        };
        let (seq, attempt, event) = match recorded {
            Some(HistoryEvent { seq, event, runs, .. }) => {
                (seq, runs.iter().map(|run| run.attempt).max().unwrap_or(1), event)
            }
            None => (0, 1, self.supposed(settings)?),
        };
        if event.key.phase == Phase::Post && event.status.is_none() {
            eprintln!(
                "ganeti-hookd: the opcode has not ended: GANETI_POST_STATUS and GANETI_HOOKD_EXECUTED are not known"
            );
        }
        let view = match view {
            Some(view) => view,
            None if opcodes::hook_path(&event.op_code).is_none() => View::default(),
            None => view_now(&settings.paths, &event),
        };
        let mut cluster = Cluster::new(&settings.paths.data_dir);
        // Where there is none any more, the cluster was destroyed; this node was its master.
        let was_ours = || (seq > 0).then(|| node_name(settings));
        let master = cluster.master().unwrap_or_default().or_else(was_ours);
        let facts = cluster.facts(master);
        let common = environment::common(seq, &event, &view.variables, &facts, settings.hooks.status_words);
        let env = environment::for_run(&common, &self.path(&event.op_code)?, true, attempt);
        let mut out = io::stdout().lock();
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(&env).map_err(failed)?)?);
        }
        for (name, value) in env {
            match self.null {
                true => write!(out, "{name}={value}\0")?,
                false => writeln!(out, "{}={}", escaped(&name), escaped(&value))?,
            }
        }
        Ok(())
    }

    /// The hooks path whose directory the hook is in.
    fn path(&self, op_code: &str) -> Result<HooksPath, Failure> {
        if !self.native {
            return Ok(HooksPath::Global);
        }
        match (self.phase, opcodes::hook_path(op_code)) {
            (Phase::Post, Some(path)) => Ok(HooksPath::Native(path)),
            (Phase::Pre, _) => {
                Err(Failure::Usage("--native is for post; pre hooks Ganeti runs itself".to_owned()))
            }
            (_, None) => Err(Failure::Usage(format!("{op_code} has no hooks of its own"))),
        }
    }

    fn key(&self) -> EventKey {
        EventKey { job: self.job, op: self.op, phase: self.phase }
    }

    /// The event in the history, the last one of its name, and what is special about it.
    fn recorded(&self, settings: &Settings) -> Result<Option<(HistoryEvent, Option<View>)>, Failure> {
        let Some(history) = History::open(&settings.paths.state_dir)? else { return Ok(None) };
        let mut found = None;
        history.events(&Filter { key: Some(self.key()), ..Filter::default() }, |event| {
            found = Some(event);
            true
        })?;
        let Some(event) = found else { return Ok(None) };
        let view = history.plan(event.seq)?;
        Ok(Some((event, view)))
    }

    /// The event that the job's file tells, or one like it if it has not come yet.
    fn supposed(&self, settings: &Settings) -> Result<Event, Failure> {
        let mut reader = JobReader::new(&settings.paths.queue_dir);
        let in_queue = reader.queued(self.job, JOB_SIZE_LIMIT).map_err(failed)?.map(<[u8]>::to_vec);
        let bytes = match in_queue {
            Some(bytes) => bytes,
            None => {
                reader.archived(self.job, JOB_SIZE_LIMIT).map_err(failed)?.map(<[u8]>::to_vec).ok_or_else(
                    || {
                        failed(format!(
                            "there is no job {} in {} or its archive",
                            self.job,
                            settings.paths.queue_dir.display()
                        ))
                    },
                )?
            }
        };
        let job = job::parse(self.job, &bytes)
            .map_err(|error| failed(format!("{}: {error}", self.job.file_name())))?;
        let Some(op) = job.ops.get(self.op as usize) else {
            return Err(failed(format!(
                "job {} has no opcode {}; it has {}",
                self.job,
                self.op,
                job.ops.len()
            )));
        };
        let step = transitions::step(Progress::default(), &job, Liveness::Unknown);
        let happened = step.transitions.iter().find(|t| t.op == self.op && t.phase == self.phase);
        Ok(Event {
            key: self.key(),
            received: job.received,
            op_count: u32::try_from(job.ops.len()).unwrap_or(u32::MAX),
            op_code: op.code.clone().into_owned(),
            status: happened.and_then(|t| t.status),
            executed: op.executed.is_some(),
            late: false,
            time: crate::world::clock::now(),
            about: Arc::new(About::of(&job, self.op as usize, self.phase, happened.and_then(|t| t.status))),
        })
    }
}

/// A text on one line, and nothing in it for a terminal.
fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) { line.push(c) } else { line.extend(c.escape_default()) }
    }
    line
}
