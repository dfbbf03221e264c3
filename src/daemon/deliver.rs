//! Delivering events: which scripts, one after the other, and what became of them.

use std::collections::{BTreeMap, VecDeque};

use super::role::Role;
use super::workers::Work;
use super::{Daemon, now};
use crate::event::{Event, Phase};
use crate::fault;
use crate::hook::outcome::Outcome;
use crate::hook::plan::{self, Environment};
use crate::hook::run::Limits;
use crate::hook::scripts::{self, Refusal, Script};
use crate::hook::{self};
use crate::journal::{Change, EventState, RunStart};
use crate::settings::PreMode;
use crate::shortage::explain;
use crate::status::FailedHook;

/// Events that are begun before the queue and the messages have their turn: an event
/// without scripts is over at once, and a job may have twenty thousand of them.
const BEGINS_PER_TURN: usize = 256;

/// Failures that `status` shows.
const FAILURES_KEPT: usize = 10;

/// An event on its way to the scripts.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// Its runs in an earlier life of the daemon: the last attempt and whether it ended.
    earlier: BTreeMap<(String, String), (u32, bool)>,
    /// What all its scripts get.
    pub common: Environment,
    /// Scripts that have not begun.
    scripts: VecDeque<Script>,
    /// The script that runs.
    pub current: Option<RunStart>,
}

impl Delivery {
    /// A new event.
    pub fn new(event: Event) -> Self {
        Self::resumed(event, BTreeMap::new())
    }

    /// An event that an earlier life of the daemon began to deliver.
    pub fn resumed(event: Event, earlier: BTreeMap<(String, String), (u32, bool)>) -> Self {
        Self { event, earlier, common: Environment::new(), scripts: VecDeque::new(), current: None }
    }
}

impl Daemon {
    /// Begins deliveries while there are workers for them.
    pub(super) fn begin_deliveries(&mut self) {
        if self.must_wait() || self.stopping.is_some() || self.role != Role::Master {
            return;
        }
        let mut running = self.deliveries.values().filter(|delivery| delivery.current.is_some()).count();
        for _ in 0..BEGINS_PER_TURN {
            if running >= self.settings.hooks.workers || self.must_wait() {
                return;
            }
            let Some(seq) = self.dispatch.begin(self.holds.jobs()) else { return };
            running += usize::from(self.begin(seq));
        }
        self.more_to_begin = self.dispatch.is_ready();
    }

    /// Whether something is short that scripts need, or the journal cannot be written.
    fn must_wait(&self) -> bool {
        self.stalled || self.short
    }

    /// Begins to deliver an event. Returns whether a script of it runs.
    fn begin(&mut self, seq: i64) -> bool {
        let Some(delivery) = self.deliveries.get(&seq) else { return false };
        let event = &delivery.event;
        let (phase, hooks) = (event.key.phase, &self.settings.hooks);
        if hooks.skips(&event.op_code) || (phase == Phase::Pre && hooks.pre == PreMode::Off) {
            return self.finish(seq);
        }
        let dir = self.settings.paths.hooks_dir.join(hook::directory(phase));
        let facts = self.cluster.facts();
        let common = plan::common(seq, event, plan::NOT_APPLICABLE, &facts, hooks.status_words);
        match scripts::list(&dir) {
            Ok(scripts) => {
                self.problems.remove("hooks directory");
                if let Some(delivery) = self.deliveries.get_mut(&seq) {
                    delivery.common = common;
                    delivery.scripts = scripts.into();
                }
                self.advance(seq)
            }
            Err(Refusal::Shortage { path, error }) => {
                self.dispatch.postpone(seq);
                self.fall_short("hooks directory", format!("{path} cannot be read: {error}"));
                false
            }
            Err(refusal) => {
                let run = self.run_start(seq, hook::directory(phase).to_owned(), 1);
                self.refuse(run, &refusal);
                self.finish(seq)
            }
        }
    }

    /// Begins the event's next script. Returns whether there was one.
    fn advance(&mut self, seq: i64) -> bool {
        while let Some(delivery) = self.deliveries.get_mut(&seq) {
            let Some(script) = delivery.scripts.pop_front() else { return self.finish(seq) };
            let earlier = delivery.earlier.get(&(self.node.clone(), script.name.clone()));
            let attempt = match earlier {
                Some((_, true)) => continue,
                Some((attempt, false)) => attempt + 1,
                None => 1,
            };
            let run = self.run_start(seq, script.name, attempt);
            if let Some(refusal) = script.refusal {
                self.refuse(run, &refusal);
                continue;
            }
            self.tell_of_lateness(seq);
            let Some(delivery) = self.deliveries.get(&seq) else { return false };
            let env = plan::for_run(&delivery.common, true, attempt);
            let hooks = &self.settings.hooks;
            let limits = Limits { timeout: hooks.timeout, output: hooks.output_limit };
            self.effects.push(Work { run: run.id, seq, script: script.path, env, limits });
            if let Some(delivery) = self.deliveries.get_mut(&seq) {
                delivery.current = Some(run);
            }
            return true;
        }
        false
    }

    fn run_start(&mut self, seq: i64, script: String, attempt: u32) -> RunStart {
        let id = self.journal.next_run();
        let run = RunStart { id, seq, node: self.node.clone(), script, attempt, started: now() };
        self.changes.push(Change::RunStart(run.clone()));
        run
    }

    /// Records a script, or a whole directory, that must not run.
    fn refuse(&mut self, run: RunStart, refusal: &Refusal) {
        self.record(&run, Outcome::not_run(format!("refused: {refusal}")));
    }

    /// A script has ended.
    pub(super) fn run_ended(&mut self, run: i64, seq: i64, outcome: Outcome) {
        let Some(delivery) = self.deliveries.get_mut(&seq) else { return };
        let Some(current) = delivery.current.take_if(|current| current.id == run) else { return };
        fault::point("run.ended");
        self.problems.remove("hooks");
        if outcome.interrupted {
            // Left without an end in the journal: the next start runs it again.
            return;
        }
        self.record(&current, outcome);
        if self.stopping.is_none() || self.deliveries.get(&seq).is_some_and(|d| d.scripts.is_empty()) {
            self.advance(seq);
        }
    }

    /// A script could not begin: it is tried again, however long that takes.
    pub(super) fn postponed(&mut self, work: Work, error: String) {
        let Some(delivery) = self.deliveries.get_mut(&work.seq) else { return };
        if self.stopping.is_some() {
            // As a run that was cut short: the next start runs it.
            delivery.current = None;
            return;
        }
        self.fall_short("hooks", format!("{} {error}", work.script.display()));
        self.shelved.push(work);
    }

    /// Something that scripts need is short.
    fn fall_short(&mut self, key: &'static str, what: String) {
        if !self.problems.contains_key(key) {
            log::error!("{what}; trying again every second, nothing is lost");
        }
        self.problems.insert(key, what);
        self.short = true;
        self.retry_later();
    }

    /// Has the scripts run that may.
    pub(super) fn submit_effects(&mut self) {
        for work in std::mem::take(&mut self.effects) {
            fault::point("run.before-submit");
            if let Err((work, error)) = self.workers.submit(work) {
                self.postponed(work, format!("has no thread to run it: {}", explain(&error)));
            }
        }
    }

    /// Records how a run ended.
    fn record(&mut self, run: &RunStart, outcome: Outcome) {
        self.counters.runs += 1;
        if !outcome.succeeded() {
            self.counters.runs_failed += 1;
            let event = self.deliveries.get(&run.seq).map(|d| d.event.key.to_string()).unwrap_or_default();
            let what = describe_failure(&outcome);
            log::warn!("{event}: hook {} {what}", run.script);
            let (script, node) = (run.script.clone(), run.node.clone());
            self.failures.push_back(FailedHook { event, script, node, what });
            while self.failures.len() > FAILURES_KEPT {
                self.failures.pop_front();
            }
        }
        self.changes.push(Change::RunEnd(run.id, now(), outcome));
    }

    /// All scripts of an event have ended; the job's next event may begin. Returns
    /// `false`: no script of it runs.
    fn finish(&mut self, seq: i64) -> bool {
        if let Some(delivery) = self.deliveries.remove(&seq) {
            self.changes.push(Change::EventState(seq, EventState::Done));
            self.dispatch.finish(delivery.event.key.job);
            if self.holds.holds(delivery.event.key) {
                self.let_go(delivery.event.key.job);
            }
        }
        false
    }
}

/// What went wrong with a run, in words.
fn describe_failure(outcome: &Outcome) -> String {
    match (&outcome.error, outcome.code, outcome.signal) {
        (Some(error), _, _) => error.clone(),
        (None, Some(code), _) => format!("exited with {code}"),
        (None, None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None, None) => "ended in an unknown way".to_owned(),
    }
}
