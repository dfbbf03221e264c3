//! Delivering events: which may begin, what their scripts are given, and which script is next.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::engine::change::{Change, RunKey};
use crate::engine::deliveries::{Delivery, Stage};
use crate::engine::directories::{self, Request};
use crate::engine::effect::{Effect, Level, NodeRun, PlanRequest, ScriptRun, Token};
use crate::engine::environment::{self, ClusterFacts};
use crate::engine::input::{Now, Script};
use crate::engine::outcome::Outcome;
use crate::engine::plan::{Plan, Target};
use crate::engine::report::Problem;
use crate::engine::settings::PreMode;
use crate::engine::slots::Slots;
use crate::engine::topic::{MessageId, Topic};
use crate::ganeti::event::Phase;
use crate::ganeti::opcodes;

/// Events that are begun before hints and messages have their turn: an event without scripts
/// is over at once, and a job may have twenty thousand of them.
const BEGINS_PER_TURN: usize = 64;

impl Engine {
    /// The slots that are left.
    fn slots(&self) -> Slots {
        self.deliveries.slots(self.settings.hooks.workers, self.place.node())
    }

    /// Whether some event may begin.
    pub(in crate::engine) fn may_begin(&self) -> bool {
        self.may_deliver()
            && !self.deliveries.is_short()
            && self.deliveries.may_begin(self.holds.jobs(), self.slots())
    }

    /// Whether anything may begin at all: only on the master, not while the daemon stops, and
    /// only when the journal can be written.
    pub(in crate::engine) fn may_deliver(&self) -> bool {
        self.place.is_master() && !self.life.is_stopping() && !self.ledger.is_stalled()
    }

    /// Begins what may begin, as far as there are slots.
    pub(in crate::engine) fn begin_deliveries(&mut self) {
        if self.may_begin() {
            self.round.ask(&mut self.effects);
        }
        for _ in 0..BEGINS_PER_TURN {
            let slots = self.slots();
            if !self.may_begin() {
                return;
            }
            let Some(seq) = self.deliveries.begin(self.holds.jobs(), slots) else { return };
            self.begin(seq);
        }
    }

    /// Begins to deliver an event.
    fn begin(&mut self, seq: i64) {
        let Some(delivery) = self.deliveries.get_mut(seq) else { return };
        let (key, hooks) = (delivery.event.key, &self.settings.hooks);
        let is_off = key.phase == Phase::Pre && hooks.pre == PreMode::Off;
        if is_off || hooks.skips(&delivery.event.op_code) {
            return self.finish(seq);
        }
        self.report.met(&delivery.event.op_code);
        if delivery.plan.is_some() || opcodes::hook_path(&delivery.event.op_code).is_none() {
            return self.prepare(seq);
        }
        delivery.stage = Stage::Planning;
        let (event, given) = (delivery.event.clone(), delivery.given.clone());
        let urgent = delivery.rerun.is_none() && self.holds.holds(key.job);
        self.effects.push(Effect::Plan(PlanRequest { seq, event, given, urgent }));
    }

    fn prepare(&mut self, seq: i64) {
        let Some(delivery) = self.deliveries.get_mut(seq) else { return };
        delivery.stage = Stage::Preparing;
        let phase = delivery.event.key.phase;
        let paths = directories::here(&delivery.event, delivery.plan.as_ref(), &self.settings.hooks);
        self.effects.push(Effect::Prepare { seq, phase, paths });
    }

    /// An event's plan is there.
    pub(in crate::engine) fn planned(&mut self, seq: i64, plan: Plan, problem: Option<String>) {
        match problem {
            Some(problem) => {
                if self.report.problem(Problem::ClusterConfiguration, &problem) {
                    self.report.say_of(Topic::of(MessageId::Problem), Level::Warning, &problem);
                }
            }
            None => self.report.solved(Problem::ClusterConfiguration),
        }
        // An event that was given up meanwhile is planned again if it comes back.
        let Some(delivery) = self.deliveries.get_mut(seq).filter(|d| d.stage == Stage::Planning) else {
            return;
        };
        // All nodes, whatever the settings say now: they may say something else when it goes on.
        self.ledger.record(Change::Plan(seq, plan.view.clone()));
        delivery.requests =
            directories::elsewhere(&delivery.event, &plan, &self.settings.hooks, self.place.node());
        delivery.plan = Some(plan.view);
        if self.may_deliver() {
            self.prepare(seq);
        } else {
            self.deliveries.put_back(seq);
        }
    }

    /// This node's scripts for an event are known.
    pub(in crate::engine) fn prepared(
        &mut self,
        now: Now,
        seq: i64,
        scripts: Result<Vec<Script>, String>,
        facts: ClusterFacts,
    ) {
        let may_deliver = self.may_deliver();
        let Some(delivery) = self.deliveries.get_mut(seq).filter(|d| d.stage == Stage::Preparing) else {
            return;
        };
        if !may_deliver {
            return self.deliveries.put_back(seq);
        }
        let master = self.place.master().map(str::to_owned);
        let facts = ClusterFacts { master, ..facts };
        let nothing = BTreeMap::new();
        let specialised = delivery.plan.as_ref().map_or(&nothing, |plan| &plan.variables);
        let words = self.settings.hooks.status_words;
        delivery.common = environment::common(seq, &delivery.event, specialised, &facts, words);
        if delivery.rerun.is_some() {
            environment::set_rerun(&mut delivery.common);
        }
        if delivery.only_script().is_some() {
            delivery.requests.clear();
        }
        delivery.stage = Stage::UnderWay;
        match scripts {
            Ok(scripts) => {
                let wanted = scripts.into_iter().filter(|script| delivery.wants(&script.name));
                delivery.scripts = wanted.collect();
                self.report.solved(Problem::HooksDirectory);
            }
            Err(what) => {
                self.deliveries.put_back(seq);
                return self.fall_short(now, Problem::HooksDirectory, &what);
            }
        }
        self.send_to_nodes(now, seq);
        self.advance(now, seq);
    }

    /// Begins the event's next script, or finishes the event.
    pub(in crate::engine) fn advance(&mut self, now: Now, seq: i64) {
        while let Some(delivery) = self.deliveries.get_mut(seq) {
            let Some(script) = delivery.scripts.pop_front() else { return self.finish_if_over(seq) };
            let directory = script.hooks.directory(delivery.event.key.phase);
            let key = RunKey { node: self.place.node().to_owned(), directory, script: script.name };
            let Some(attempt) = delivery.next_attempt(&key) else { continue };
            let run = self.run_start(now, seq, key, attempt);
            if let Some(refusal) = script.refusal {
                self.refuse(now, &run, &refusal);
                continue;
            }
            self.judge_lateness(seq);
            let Some(delivery) = self.deliveries.get(seq) else { return };
            let env = environment::for_run(&delivery.common, &script.hooks, true, attempt);
            let hooks = &self.settings.hooks;
            let (timeout, output) = (hooks.timeout, hooks.output_limit);
            let while_stopped = self.standing(delivery);
            let (path, script) = (script.hooks, script.path);
            let script = ScriptRun { run: run.id, seq, path, script, env, timeout, output, while_stopped };
            return self.start(run, Effect::Start(script));
        }
    }

    /// Sends an event to the other nodes that it concerns, as far as nothing of it is under way there.
    pub(in crate::engine) fn send_to_nodes(&mut self, now: Now, seq: i64) {
        while let Some(delivery) = self.deliveries.get_mut(seq) {
            let requests = delivery.take_requests();
            if requests.is_empty() {
                return;
            }
            self.judge_lateness(seq);
            // One that need not be made, or cannot, makes way for the node's next.
            requests.into_iter().for_each(|request| self.send_to_node(now, seq, request));
        }
    }

    fn send_to_node(&mut self, now: Now, seq: i64, Request { target, path }: Request) {
        let Target { node, address } = target;
        let Some(delivery) = self.deliveries.get(seq) else { return };
        let phase = delivery.event.key.phase;
        let while_stopped = self.standing(delivery);
        let directory = path.directory(phase);
        let key = RunKey { node, script: directory.clone(), directory };
        let Some(attempt) = delivery.next_attempt(&key) else { return };
        let env = environment::for_run(&delivery.common, &path, false, attempt);
        let run = self.run_start(now, seq, key, attempt);
        let Some(address) = address else {
            let outcome = Outcome::not_run("the configuration has no address of it");
            return self.end_request(now, &run, outcome, Vec::new());
        };
        let hooks = &self.settings.hooks;
        let (timeout, output) = (hooks.timeout, hooks.output_limit);
        let request = NodeRun { run: run.id, seq, address, path, phase, env, timeout, output, while_stopped };
        self.start(run, Effect::Ask(request));
    }

    /// The process that stands still for this very pre: not for that of an older job of the same
    /// number, and not for one that is run again.
    fn standing(&self, delivery: &Delivery) -> Option<Token> {
        self.holds.in_time(&delivery.event).filter(|_| delivery.rerun.is_none())
    }

    /// A pre is late for the scripts to come when its job does not stand still for it.
    pub(in crate::engine) fn judge_lateness(&mut self, seq: i64) {
        let Some(delivery) = self.deliveries.get(seq).filter(|d| d.rerun.is_none()) else { return };
        let stands = self.standing(delivery).is_some();
        let in_time = delivery.event.key.phase == Phase::Post || !self.holds_jobs() || stands;
        self.holds.begins(&delivery.event);
        if !in_time {
            self.has_passed(seq);
        }
    }

    /// The event's moment has passed.
    pub(in crate::engine) fn has_passed(&mut self, seq: i64) {
        if self.deliveries.set_late(seq) {
            self.report.count(|counters| counters.events_late += 1);
            self.ledger.record_late(seq);
        }
        if let Some(delivery) = self.deliveries.get_mut(seq).filter(|d| d.stage == Stage::UnderWay) {
            environment::set_late(&mut delivery.common);
        }
    }

    fn finish_if_over(&mut self, seq: i64) {
        if self.deliveries.get(seq).is_some_and(|delivery| delivery.is_over()) {
            self.finish(seq);
        }
    }

    /// All scripts of an event have ended; the job's next event may begin.
    pub(in crate::engine) fn finish(&mut self, seq: i64) {
        if let Some(delivery) = self.deliveries.remove(seq) {
            self.ledger.record_done(seq);
            if delivery.rerun.is_none() {
                self.effects.extend(self.holds.let_go_for(&delivery.event));
            }
        }
    }
}
