//! Runs: begun when the journal has them, and what becomes of them.

use crate::engine::Engine;
use crate::engine::change::{Change, RunKey, RunStart};
use crate::engine::deliveries::Running;
use crate::engine::directories::Request;
use crate::engine::effect::{Effect, NodeRun, ScriptRun};
use crate::engine::environment;
use crate::engine::input::{Now, Script};
use crate::engine::outcome::Outcome;
use crate::engine::plan::Target;
use crate::engine::report::Problem;
use crate::engine::retry;

impl Engine {
    /// Begins a run when the journal has it.
    pub(in crate::engine) fn start(&mut self, run: RunStart, effect: Effect) {
        self.ledger.after(effect.clone());
        if let Some(delivery) = self.deliveries.get_mut(run.seq) {
            let id = run.id;
            delivery.running.insert(id, Running { start: run, effect, is_postponed: false });
        }
    }

    pub(in crate::engine) fn run_start(
        &mut self,
        now: Now,
        seq: i64,
        RunKey { node, directory, script }: RunKey,
        attempt: u32,
    ) -> RunStart {
        let id = self.ledger.next_run();
        let run = RunStart { id, seq, node, directory, script, attempt, started: now.time };
        self.ledger.record(Change::RunStart(run.clone()));
        run
    }

    /// Records a script, or a whole directory, that must not run.
    pub(in crate::engine) fn refuse(&mut self, now: Now, run: &RunStart, refusal: &str) {
        self.end_run(now, run, Outcome::not_run(format!("refused: {refusal}")));
    }

    /// A script has ended.
    pub(in crate::engine) fn run_ended(&mut self, now: Now, run: i64, seq: i64, outcome: Outcome) {
        let Some(run) = self.ended(run, seq, &outcome) else { return };
        self.end_run(now, &run, outcome);
        self.go_on(now, seq);
    }

    /// A node has run its scripts, or has not.
    pub(in crate::engine) fn node_ended(
        &mut self,
        now: Now,
        run: i64,
        seq: i64,
        outcome: Outcome,
        scripts: Vec<(String, Outcome)>,
    ) {
        let Some(request) = self.ended(run, seq, &outcome) else { return };
        self.end_request(now, &request, outcome, scripts);
        self.go_on(now, seq);
    }

    /// Records what became of a request to a node, and of the scripts that ran there.
    pub(in crate::engine) fn end_request(
        &mut self,
        now: Now,
        request: &RunStart,
        outcome: Outcome,
        scripts: Vec<(String, Outcome)>,
    ) {
        if let Some(delivery) = self.deliveries.get(request.seq) {
            self.report.node_ended(&delivery.event, request, &outcome, &scripts);
        }
        for (script, outcome) in scripts {
            let id = self.ledger.next_run();
            let run = RunStart { id, script, ..request.clone() };
            self.ledger.record(Change::RunStart(run.clone()));
            self.record_end(now, &run, outcome);
        }
        self.record_end(now, request, outcome);
    }

    /// Takes a run off its event; `None` when it was interrupted, or nobody knows it.
    fn ended(&mut self, run: i64, seq: i64, outcome: &Outcome) -> Option<RunStart> {
        let delivery = self.deliveries.get_mut(seq)?;
        let run = delivery.running.remove(&run)?.start;
        self.report.solved(Problem::Hooks);
        if outcome.interrupted {
            // Left without an end in the journal: the next start runs it again.
            delivery.remember(&run, false);
            delivery.interrupted = true;
            return None;
        }
        Some(run)
    }

    pub(in crate::engine) fn end_run(&mut self, now: Now, run: &RunStart, outcome: Outcome) {
        let is_here = run.node == self.place.node();
        if let Some(delivery) = self.deliveries.get(run.seq) {
            self.report.run_ended(&delivery.event, run, is_here, &outcome);
        }
        self.record_end(now, run, outcome);
    }

    fn record_end(&mut self, now: Now, run: &RunStart, outcome: Outcome) {
        if let Some(delivery) = self.deliveries.get_mut(run.seq) {
            delivery.remember(run, true);
        }
        self.ledger.record(Change::RunEnd(run.seq, run.id, now.time, outcome));
    }

    /// An event goes on after one of its runs.
    fn go_on(&mut self, now: Now, seq: i64) {
        let Some(delivery) = self.deliveries.get(seq) else { return };
        let is_idle = delivery.running.is_empty();
        if delivery.is_over() {
            self.finish(seq);
        } else if !self.place.is_master() {
            // What is left of it is another node's.
            if is_idle && let Some(delivery) = self.deliveries.remove(seq) {
                self.leave_to_another(now, seq, delivery);
            }
        } else if self.may_go_on() {
            self.send_to_nodes(now, seq);
            if !self.runs_here(seq) {
                self.advance(now, seq);
            }
        }
    }

    fn runs_here(&self, seq: i64) -> bool {
        let node = self.place.node();
        self.deliveries.get(seq).is_some_and(|d| d.running.values().any(|run| run.start.node == node))
    }

    /// A run could not begin: it is tried again, however long that takes.
    pub(in crate::engine) fn postponed(&mut self, now: Now, run: i64, seq: i64, error: &str) {
        let Some(running) = self.deliveries.get_mut(seq).and_then(|d| d.running.get_mut(&run)) else {
            return;
        };
        running.is_postponed = true;
        if self.life.is_stopping() || !self.place.is_master() {
            self.take_back(seq, run);
            return self.go_on(now, seq);
        }
        let first = self.deliveries.get(seq).filter(|d| d.rerun.is_none() && !d.has_run());
        if let Some(delivery) = first {
            // Its job stands still for nothing.
            self.holds.have_not_begun(&delivery.event);
        }
        self.fall_short(now, Problem::Hooks, error);
    }

    /// Whether events that have begun may go on: on the master, and not while the daemon stops.
    pub(in crate::engine) fn may_go_on(&self) -> bool {
        self.place.is_master() && !self.life.is_stopping()
    }

    /// Something that scripts need is short.
    pub(in crate::engine) fn fall_short(&mut self, now: Now, problem: Problem, what: &str) {
        self.report.problem_once(problem, what, "trying again every second, nothing is lost");
        self.deliveries.fall_short(now.steady + retry::RUN);
    }

    /// Tries again what could not begin, which may be late by now.
    pub(in crate::engine) fn take_up_postponed(&mut self) {
        for (seq, run) in self.deliveries.postponed() {
            self.judge_lateness(seq);
            self.begin_again(seq, run);
        }
    }

    /// Begins a run again that has not begun, by what is true now; the journal has it.
    pub(in crate::engine) fn begin_again(&mut self, seq: i64, run: i64) {
        let Some(delivery) = self.deliveries.get_mut(seq) else { return };
        let late = delivery.is_late();
        let Some(running) = delivery.running.get_mut(&run) else { return };
        running.is_postponed = false;
        if let Effect::Start(ScriptRun { env, while_stopped, .. })
        | Effect::Ask(NodeRun { env, while_stopped, .. }) = &mut running.effect
            && late
        {
            environment::set_late(env);
            *while_stopped = None;
        }
        self.effects.push(running.effect.clone());
    }

    /// A run has not begun after all; it is to begin anew, by what is true then.
    pub(in crate::engine) fn take_back(&mut self, seq: i64, run: i64) {
        let Some(delivery) = self.deliveries.get_mut(seq) else { return };
        let Some(running) = delivery.running.remove(&run) else { return };
        if running.is_postponed {
            // The journal has its beginning.
            delivery.remember(&running.start, false);
        }
        match running.effect {
            Effect::Start(script) => {
                let (hooks, name, path) = (script.path, running.start.script, script.script);
                delivery.scripts.push_front(Script { hooks, name, path, refusal: None });
            }
            Effect::Ask(request) => {
                let target = Target { node: running.start.node, address: Some(request.address) };
                // Before what the node is asked for after it.
                delivery.requests.insert(0, Request { target, path: request.path });
            }
            _ => {}
        }
        if delivery.running.is_empty() {
            self.deliveries.put_back(seq);
        }
    }

    /// Whatever waits for the journal has not begun.
    pub(in crate::engine) fn take_back_begun(&mut self) {
        let begun = self.ledger.strike_begun();
        self.took_back(begun);
    }

    /// These have not begun.
    pub(in crate::engine) fn took_back(&mut self, begun: Vec<Effect>) {
        for effect in begun {
            match effect {
                Effect::Start(ScriptRun { seq, run, .. }) | Effect::Ask(NodeRun { seq, run, .. }) => {
                    self.take_back(seq, run);
                }
                // Another node's outboxes send.
                Effect::Outboxes { .. } if !self.place.is_master() => {}
                // What was asked for is to be written all the same.
                answer if self.is_still_wanted(&answer) => self.ledger.after(answer),
                _ => {}
            }
        }
    }

    /// Events of which something was taken back while something else of them ran go on.
    pub(in crate::engine) fn resume(&mut self, now: Now) {
        if self.may_go_on() {
            for seq in self.deliveries.idle(self.place.node()) {
                self.go_on(now, seq);
            }
        }
    }
}
