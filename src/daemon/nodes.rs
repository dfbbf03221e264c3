//! Delivering events to other nodes: one request to each node daemon, all side by side.
//!
//! A request is a run of that node named after its hooks directory, marked in the journal
//! before it begins and after it ended, as a script's is; what the node tells of its
//! single scripts is recorded beside it.

use super::Daemon;
use super::planner::{Plan, Target};
use super::workers::{Task, Work};
use crate::engine::environment;
use crate::engine::outcome::Outcome;
use crate::engine::settings::Nodes;
use crate::ganeti::opcodes;
use crate::world::journal::{Change, RunStart};
use crate::world::noded::Request;

/// Opcodes that are remembered as unknown; a Ganeti has about a hundred in all.
const UNKNOWN_MAX: usize = 1000;

impl Daemon {
    /// Asks for an event's plan, if it needs one and nobody has asked. A pre is asked for
    /// as soon as it is noticed: the sooner, the surer is what it tells of the time before.
    pub(super) fn ask_for_plan(&mut self, seq: i64) {
        let Some(delivery) = self.deliveries.get_mut(&seq) else { return };
        let op_code = &delivery.event.op_code;
        let needless = opcodes::hook_path(op_code).is_none() || self.settings.hooks.skips(op_code);
        if needless || std::mem::replace(&mut delivery.asked, true) {
            return;
        }
        self.planner.ask(seq, &delivery.event, delivery.given.take());
    }

    /// An event's plan is there.
    pub(super) fn planned(&mut self, seq: i64, mut plan: Plan, problem: Option<String>) {
        match problem {
            Some(problem) => {
                if self.problems.get(CONFIGURATION) != Some(&problem) {
                    log::warn!("{problem}");
                }
                self.problems.insert(CONFIGURATION, problem);
            }
            None => drop(self.problems.remove(CONFIGURATION)),
        }
        if self.deliveries.get(&seq).is_some_and(|delivery| delivery.plan.is_some()) {
            // Asked for once more after a failover there and back: the first answer counts.
            return;
        }
        if self.settings.hooks.nodes == Nodes::Master {
            plan.view.nodes.truncate(1);
            plan.targets.clear();
        }
        plan.targets.retain(|target| target.node != self.node);
        self.changes.push(Change::Plan(seq, plan.view.clone()));
        if let Some(delivery) = self.deliveries.get_mut(&seq) {
            delivery.plan = Some(plan);
            if std::mem::take(&mut delivery.waits) {
                self.dispatch.postpone(seq);
            }
        }
    }

    /// Whether an event can begin; one whose plan is missing is offered again when that
    /// has come.
    pub(super) fn can_begin(&mut self, seq: i64) -> bool {
        let Some(delivery) = self.deliveries.get_mut(&seq) else { return false };
        if delivery.plan.is_some() || opcodes::hook_path(&delivery.event.op_code).is_none() {
            return true;
        }
        delivery.waits = true;
        self.ask_for_plan(seq);
        false
    }

    /// Says once of each opcode that is not in our table that it is a stranger.
    pub(super) fn note_unknown(&mut self, op_code: &str) {
        if opcodes::is_known(op_code) || self.unknown.len() >= UNKNOWN_MAX {
            return;
        }
        if self.unknown.insert(op_code.to_owned()) {
            log::warn!(
                "{op_code} is not known to this version of ganeti-hookd: \
                 its hooks get the common variables and run on the master alone"
            );
        }
    }

    /// Sends an event to the other nodes that it concerns.
    pub(super) fn send_to_nodes(&mut self, seq: i64) {
        let plan = self.deliveries.get_mut(&seq).and_then(|delivery| delivery.plan.as_mut());
        let targets = plan.map(|plan| std::mem::take(&mut plan.targets)).unwrap_or_default();
        if !targets.is_empty() {
            self.tell_of_lateness(seq);
        }
        for target in targets {
            self.send_to_node(seq, target);
        }
    }

    fn send_to_node(&mut self, seq: i64, Target { node, address }: Target) {
        let Some(delivery) = self.deliveries.get(&seq) else { return };
        let phase = delivery.event.key.phase;
        let script = environment::directory(phase).to_owned();
        let attempt = match delivery.earlier.get(&(node.clone(), script.clone())) {
            Some((_, true)) => return,
            Some((attempt, false)) => attempt + 1,
            None => 1,
        };
        let env = environment::for_run(&delivery.common, false, attempt);
        let run = self.run_start(seq, node, script, attempt);
        let Some(address) = address else {
            return self.record(&run, Outcome::not_run("the configuration has no address of it"));
        };
        let hooks = &self.settings.hooks;
        let request = Request { address, phase, env, timeout: hooks.timeout, output: hooks.output_limit };
        let task = Task::Node { daemons: self.daemons.clone(), request };
        self.effects.push(Work { run: run.id, seq, task });
        if let Some(delivery) = self.deliveries.get_mut(&seq) {
            delivery.running.insert(run.id, run);
        }
    }

    /// A node has run its scripts, or has not.
    pub(super) fn node_ended(
        &mut self,
        run: i64,
        seq: i64,
        outcome: Outcome,
        scripts: Vec<(String, Outcome)>,
    ) {
        let Some(delivery) = self.deliveries.get_mut(&seq) else { return };
        let Some(request) = delivery.running.remove(&run) else { return };
        self.problems.remove("hooks");
        if outcome.interrupted {
            delivery.interrupted = true;
            return;
        }
        for (script, outcome) in scripts {
            let id = self.journal.next_run();
            let run = RunStart { id, script, ..request.clone() };
            self.changes.push(Change::RunStart(run.clone()));
            self.record(&run, outcome);
        }
        if outcome.succeeded() {
            self.end_run(&request, outcome);
        } else {
            self.record(&request, outcome);
        }
        self.finish_if_over(seq);
    }

    /// Whether hooks of this opcode may have to run on other nodes: asked on the path on
    /// which a job is stopped.
    pub(super) fn may_have_remote_targets(&self, op_code: &str) -> bool {
        self.has_other_nodes() && opcodes::hook_path(op_code).is_some()
    }

    /// Whether hooks of any opcode may have to run on other nodes.
    pub(super) fn has_other_nodes(&self) -> bool {
        self.settings.hooks.nodes == Nodes::Targets && self.online_nodes > 1
    }

    /// Counts the nodes that are online.
    pub(super) fn look_for_other_nodes(&mut self) {
        self.online_nodes = self.cluster.online_nodes();
    }
}

/// The name of the problem with the cluster's configuration.
const CONFIGURATION: &str = "cluster configuration";
