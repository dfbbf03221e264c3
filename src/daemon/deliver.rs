//! Delivering events: which scripts, one after the other, and what became of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::planner::{Plan, Target};
use super::role::Role;
use super::workers::{Task, Work};
use super::{Daemon, now};
use crate::engine::environment::{self, Environment};
use crate::engine::outcome::Outcome;
use crate::engine::settings::PreMode;
use crate::engine::status::FailedHook;
use crate::ganeti::event::{Event, Phase};
use crate::ganeti::opcodes::View;
use crate::world::failpoints;
use crate::world::hook::run::Limits;
use crate::world::hook::scripts::{Refusal, Script};
use crate::world::journal::{Change, EventState, RunStart};
use crate::world::shortage::explain;

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
    /// Its runs in an earlier life of the daemon.
    pub earlier: Earlier,
    /// What it was given in an earlier life.
    pub given: Option<View>,
    /// Whether the planner has been asked.
    pub asked: bool,
    /// Whether it was to begin before its plan was there.
    pub waits: bool,
    /// What is special about it, once that is known.
    pub plan: Option<Plan>,
    /// What all its scripts get.
    pub common: Environment,
    /// This node's scripts that have not begun.
    scripts: VecDeque<Script>,
    /// This node's script and the other nodes' requests that are under way, by number.
    pub running: BTreeMap<i64, RunStart>,
    /// Whether a run was interrupted: the next start delivers the event again.
    pub interrupted: bool,
}

/// An event's runs in an earlier life of the daemon, by node and script: the last attempt
/// and whether it ended.
pub type Earlier = BTreeMap<(String, String), (u32, bool)>;

impl Delivery {
    /// A new event.
    pub fn new(event: Event) -> Self {
        Self::resumed(event, Earlier::new(), None)
    }

    /// An event that an earlier life of the daemon began to deliver.
    pub fn resumed(event: Event, earlier: Earlier, given: Option<View>) -> Self {
        Self {
            event,
            earlier,
            given,
            asked: false,
            waits: false,
            plan: None,
            common: Environment::new(),
            scripts: VecDeque::new(),
            running: BTreeMap::new(),
            interrupted: false,
        }
    }

    /// A run of it has ended: it need not run again, whatever happens.
    fn has_ended(&mut self, run: &RunStart) {
        self.earlier.insert((run.node.clone(), run.script.clone()), (run.attempt, true));
    }

    /// A run of it has not begun after all.
    fn put_back(&mut self, run: RunStart, task: Task) {
        match task {
            Task::Script { script: path, .. } => {
                self.scripts.push_front(Script { name: run.script, path, refusal: None });
            }
            Task::Node { request, .. } => {
                let target = Target { node: run.node, address: Some(request.address) };
                self.plan.get_or_insert_default().targets.push(target);
            }
        }
    }

    /// Whether nothing of it runs or is to run.
    fn is_over(&self) -> bool {
        self.scripts.is_empty()
            && self.running.is_empty()
            && !self.interrupted
            && self.plan.as_ref().is_none_or(|plan| plan.targets.is_empty())
    }

    /// Whether a script of it runs on this node.
    fn runs_on(&self, node: &str) -> bool {
        self.running.values().any(|run| run.node == node)
    }
}

impl Daemon {
    /// Begins deliveries while there are workers for them.
    pub(super) fn begin_deliveries(&mut self) {
        if self.must_wait() || self.stopping.is_some() || self.role != Role::Master {
            return;
        }
        let mut running = self.deliveries.values().filter(|delivery| delivery.runs_on(&self.node)).count();
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
        self.stalled.is_some() || self.short
    }

    /// Begins to deliver an event. Returns whether a script of it runs.
    fn begin(&mut self, seq: i64) -> bool {
        let Some(delivery) = self.deliveries.get(&seq) else { return false };
        let event = &delivery.event;
        let (phase, hooks) = (event.key.phase, &self.settings.hooks);
        if hooks.skips(&event.op_code) || (phase == Phase::Pre && hooks.pre == PreMode::Off) {
            return self.finish(seq);
        }
        let op_code = event.op_code.clone();
        self.note_unknown(&op_code);
        if !self.can_begin(seq) || !self.find_scripts(seq) {
            return false;
        }
        self.send_to_nodes(seq);
        self.advance(seq)
    }

    /// Finds this node's scripts for an event, and what all nodes' get. Returns whether the
    /// event can begin.
    fn find_scripts(&mut self, seq: i64) -> bool {
        let Some(delivery) = self.deliveries.get_mut(&seq) else { return false };
        let view = delivery.plan.as_ref().map(|plan| &plan.view.variables);
        let (nothing, words) = (Environment::new(), self.settings.hooks.status_words);
        let specialised = view.unwrap_or(&nothing);
        let facts = self.cluster.facts(self.master.clone());
        delivery.common = environment::common(seq, &delivery.event, specialised, &facts, words);
        let phase = delivery.event.key.phase;
        match self.hooks.of(phase).list() {
            Ok(scripts) => {
                delivery.scripts = scripts.into();
                self.problems.remove("hooks directory");
            }
            Err(Refusal::Shortage { path, error }) => {
                self.dispatch.postpone(seq);
                self.fall_short("hooks directory", format!("{path} cannot be read: {error}"));
                return false;
            }
            Err(refusal) => {
                let run = self.run_start(seq, self.node.clone(), environment::directory(phase).to_owned(), 1);
                self.refuse(run, &refusal);
            }
        }
        true
    }

    /// Begins the event's next script. Returns whether there was one.
    fn advance(&mut self, seq: i64) -> bool {
        while let Some(delivery) = self.deliveries.get_mut(&seq) {
            let Some(script) = delivery.scripts.pop_front() else { return self.finish_if_over(seq) };
            let earlier = delivery.earlier.get(&(self.node.clone(), script.name.clone()));
            let attempt = match earlier {
                Some((_, true)) => continue,
                Some((attempt, false)) => attempt + 1,
                None => 1,
            };
            let run = self.run_start(seq, self.node.clone(), script.name, attempt);
            if let Some(refusal) = script.refusal {
                self.refuse(run, &refusal);
                continue;
            }
            self.tell_of_lateness(seq);
            let Some(delivery) = self.deliveries.get(&seq) else { return false };
            let env = environment::for_run(&delivery.common, true, attempt);
            let hooks = &self.settings.hooks;
            let limits = Limits { timeout: hooks.timeout, output: hooks.output_limit };
            let starter = Arc::clone(&self.starter);
            let task = Task::Script { starter, script: script.path, env, limits };
            self.effects.push(Work { run: run.id, seq, task });
            if let Some(delivery) = self.deliveries.get_mut(&seq) {
                delivery.running.insert(run.id, run);
            }
            return true;
        }
        false
    }

    pub(super) fn run_start(&mut self, seq: i64, node: String, script: String, attempt: u32) -> RunStart {
        let id = self.journal.next_run();
        let run = RunStart { id, seq, node, script, attempt, started: now() };
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
        let Some(current) = delivery.running.remove(&run) else { return };
        failpoints::point("run.ended");
        self.problems.remove("hooks");
        if outcome.interrupted {
            // Left without an end in the journal: the next start runs it again.
            delivery.interrupted = true;
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
            delivery.running.remove(&work.run);
            delivery.interrupted = true;
            return;
        }
        self.fall_short("hooks", format!("{} {error}", work.task));
        self.shelved.push(work);
    }

    /// Tries again what could not begin, which may be late by now.
    pub(super) fn take_up_shelved(&mut self) {
        for mut work in std::mem::take(&mut self.shelved) {
            self.tell_of_lateness(work.seq);
            if self.deliveries.get(&work.seq).is_some_and(|delivery| delivery.event.late) {
                environment::set_late(work.task.env());
            }
            self.effects.push(work);
        }
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

    /// What the journal does not know to have begun has not: it begins anew when that can be
    /// written, by what is true then. Meanwhile its job goes on, and the master may change.
    pub(super) fn take_back_unwritten(&mut self) {
        let (unwritten, written): (Vec<Work>, Vec<Work>) =
            std::mem::take(&mut self.effects).into_iter().partition(|work| self.is_unwritten(work));
        // Those were postponed in an earlier turn.
        self.effects = written;
        for work in unwritten {
            let run = self.take_back(&work);
            if let (Some(run), Some(delivery)) = (run, self.deliveries.get_mut(&work.seq)) {
                delivery.put_back(run, work.task);
                self.dispatch.postpone(work.seq);
            }
        }
    }

    fn is_unwritten(&self, work: &Work) -> bool {
        self.changes.iter().any(|change| is_start_of(change, work))
    }

    /// Strikes the beginning of a run that has not begun, also from what is to be written.
    pub(super) fn take_back(&mut self, work: &Work) -> Option<RunStart> {
        self.changes.retain(|change| !is_start_of(change, work));
        self.deliveries.get_mut(&work.seq)?.running.remove(&work.run)
    }

    /// Has the scripts run that may.
    pub(super) fn submit_effects(&mut self) {
        for work in std::mem::take(&mut self.effects) {
            failpoints::point("run.before-submit");
            let submitted = match work.task {
                Task::Script { .. } => self.workers.submit(work),
                Task::Node { .. } => self.callers.submit(work),
            };
            if let Err(failure) = submitted {
                let (work, error) = *failure;
                self.postponed(work, format!("has no thread to run it: {}", explain(&error)));
            }
        }
    }

    /// Records how a run ended.
    pub(super) fn record(&mut self, run: &RunStart, outcome: Outcome) {
        self.counters.runs += 1;
        if !outcome.succeeded() {
            self.counters.runs_failed += 1;
            let event = self.deliveries.get(&run.seq).map(|d| d.event.key.to_string()).unwrap_or_default();
            let what = describe_failure(&outcome);
            let place = if run.node == self.node { String::new() } else { format!(" on {}:", run.node) };
            log::warn!("{event}: hook {}{place} {what}", run.script);
            let (script, node) = (run.script.clone(), run.node.clone());
            self.failures.push_back(FailedHook { event, script, node, what });
            while self.failures.len() > FAILURES_KEPT {
                self.failures.pop_front();
            }
        }
        self.end_run(run, outcome);
    }

    /// A run has ended.
    pub(super) fn end_run(&mut self, run: &RunStart, outcome: Outcome) {
        if let Some(delivery) = self.deliveries.get_mut(&run.seq) {
            delivery.has_ended(run);
        }
        self.changes.push(Change::RunEnd(run.seq, run.id, now(), outcome));
    }

    /// Finishes an event if nothing of it runs or is to run. Returns `false`: no script of
    /// it runs on this node.
    pub(super) fn finish_if_over(&mut self, seq: i64) -> bool {
        self.deliveries.get(&seq).is_some_and(Delivery::is_over) && self.finish(seq)
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

/// Whether this is the beginning of that run.
fn is_start_of(change: &Change, work: &Work) -> bool {
    matches!(change, Change::RunStart(run) if run.id == work.run)
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
