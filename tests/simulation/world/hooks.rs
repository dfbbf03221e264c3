//! Scripts, node daemons and the planner.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ganeti_hookd::engine::directories::HooksPath;
use ganeti_hookd::engine::effect::{NodeRun, PlanRequest, ScriptRun};
use ganeti_hookd::engine::environment::ClusterFacts;
use ganeti_hookd::engine::input::{Input, Script};
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::engine::plan::{Plan, Target};
use ganeti_hookd::ganeti::event::{Phase, PostStatus};
use ganeti_hookd::ganeti::opcodes::View;

use super::{Happening, World};
use crate::dice::Dice;
use crate::recipe::{Fault, HERE, Recipe, THERE};

/// The hooks directories, and what runs.
#[derive(Debug)]
pub struct Hooks {
    /// The scripts of each directory.
    directories: BTreeMap<String, Vec<Script>>,
    /// The directory of pre hooks cannot be read, and until when.
    short_until: u64,
    refused: Option<Phase>,
    online: usize,
    /// Runs by life, event and run.
    pub running: BTreeMap<(u64, i64, i64), Running>,
    /// When the planner has done what it was asked so far.
    planner_free: u64,
}

/// A run under way.
#[derive(Debug)]
pub struct Running {
    /// How it will end if nobody ends it before.
    end: End,
}

#[derive(Debug)]
enum End {
    Script(Outcome),
    Node(Outcome, Vec<(String, Outcome)>),
    Postponed,
}

impl Hooks {
    /// The hooks directories of a world.
    pub fn new(recipe: &Recipe) -> Self {
        let mut dice = Dice::of(recipe.seed, "scripts");
        let mut directories = BTreeMap::new();
        let mut add = |path: &HooksPath, phase: Phase, n: u64, dice: &mut Dice| {
            let directory = path.directory(phase);
            let script = |at: u64| {
                let refused = recipe.has(Fault::ScriptRefused) && dice.one_in(2);
                Script {
                    hooks: path.clone(),
                    name: format!("{at}-{phase}"),
                    path: format!("/etc/ganeti/hooks/{directory}/{at}-{phase}").into(),
                    refusal: refused.then(|| "others may write to it".to_owned()),
                }
            };
            let scripts = (0..n).map(script).collect();
            directories.insert(directory, scripts);
        };
        add(&HooksPath::Global, Phase::Pre, recipe.scripts.0, &mut dice);
        add(&HooksPath::Global, Phase::Post, recipe.scripts.1, &mut dice);
        let mut others = Dice::of(recipe.seed, "scripts of opcodes");
        let codes = ["OP_TEST_DELAY", "OP_INSTANCE_STARTUP", "OP_NEVER_HEARD_OF"];
        for path in codes.into_iter().filter_map(HooksPath::of_opcode) {
            for phase in [Phase::Pre, Phase::Post] {
                let n = *others.pick(&[0, 0, 0, 1, 2]);
                add(&path, phase, n, &mut others);
            }
        }
        for path in ["instance-start", "instance-add", "cluster-verify"] {
            add(&HooksPath::Native(path), Phase::Post, 1, &mut others);
        }
        let refused = recipe.has(Fault::DirRefused).then(|| *dice.pick(&[Phase::Pre, Phase::Post]));
        Self {
            directories,
            short_until: 0,
            refused,
            online: recipe.online,
            running: BTreeMap::new(),
            planner_free: 0,
        }
    }
}

impl World {
    /// `Effect::LookForPreHooks`.
    pub fn pre_hooks(&self) -> BTreeSet<HooksPath> {
        let scripts = self.hooks.directories.iter().filter(|(name, _)| !self.is_refused(name));
        let pre = scripts.filter(|(name, _)| name.ends_with("-pre.d")).flat_map(|(_, scripts)| scripts);
        pre.filter(|script| script.refusal.is_none()).map(|script| script.hooks.clone()).collect()
    }

    /// Whether a directory must not be used.
    fn is_refused(&self, directory: &str) -> bool {
        self.hooks.refused.is_some_and(|phase| HooksPath::Global.directory(phase) == directory)
    }

    /// `Effect::CountNodes`.
    pub fn online_nodes(&self) -> usize {
        self.hooks.online
    }

    /// `Effect::Prepare`.
    pub fn prepare(
        &mut self,
        phase: Phase,
        paths: &[HooksPath],
    ) -> (Result<Vec<Script>, String>, ClusterFacts) {
        let facts = ClusterFacts { name: Some("cluster.example.com".to_owned()), ..ClusterFacts::default() };
        if self.fails(Fault::DirShortage, 3) {
            self.hooks.short_until = self.now + self.of(Fault::DirShortage).spread(1, 5_000_000);
        }
        if self.now < self.hooks.short_until {
            return (Err("too many open files".to_owned()), facts);
        }
        let scripts = paths.iter().flat_map(|path| self.list(path, phase)).collect();
        (Ok(scripts), facts)
    }

    /// The scripts of a directory; a refused one is a script that is.
    fn list(&mut self, hooks: &HooksPath, phase: Phase) -> Vec<Script> {
        let name = hooks.directory(phase);
        if self.is_refused(&name) {
            self.story.reach(Fault::DirRefused.name());
            let (path, refusal) = (name.clone().into(), Some("others may write to it".to_owned()));
            return vec![Script { hooks: hooks.clone(), name, path, refusal }];
        }
        let scripts = self.hooks.directories.get(&name).cloned().unwrap_or_default();
        if scripts.iter().any(|script| script.refusal.is_some()) {
            self.story.reach(Fault::ScriptRefused.name());
        }
        match hooks {
            HooksPath::Global => {}
            HooksPath::Opcode(_) if scripts.is_empty() => {}
            HooksPath::Opcode(_) => self.story.reach("scripts of an opcode"),
            HooksPath::Native(_) => self.story.reach("scripts of Ganeti's own"),
        }
        scripts
    }

    /// The names of this node's scripts of a phase.
    pub fn script_names(&self, phase: Phase) -> Vec<String> {
        let scripts = self.hooks.directories.get(&HooksPath::Global.directory(phase));
        scripts.into_iter().flatten().map(|script| script.name.clone()).collect()
    }

    /// `Effect::Plan`: one after the other, urgent ones before the rest.
    pub fn plan(&mut self, request: PlanRequest) {
        let PlanRequest { seq, event, given, urgent } = request;
        let alone = matches!(event.status, Some(PostStatus::Failed | PostStatus::Disappeared));
        let all: Vec<String> = [HERE, THERE, "node3.example.com"][..self.hooks.online.max(2)]
            .iter()
            .map(|node| (*node).to_owned())
            .collect();
        let view = given.unwrap_or_else(|| View {
            nodes: if alone { vec![HERE.to_owned()] } else { all.clone() },
            native: (alone && event.executed).then(|| all.clone()),
            ..View::default()
        });
        let address: SocketAddr = ([198, 51, 100, 1], 1811).into();
        let has_none = self.fails(Fault::PlanProblem, 3);
        let target = |node: &String| Target { node: node.clone(), address: (!has_none).then_some(address) };
        let nodes: BTreeSet<&String> = view.nodes.iter().chain(view.native.iter().flatten()).collect();
        let targets = nodes.into_iter().map(target).collect();
        let delay = match self.fails(Fault::SlowPlan, 3) {
            true => self.of(Fault::SlowPlan).spread(10_000, 20_000_000),
            false => self.dice.spread(200, 5_000),
        };
        let begin = if urgent { self.now } else { self.hooks.planner_free.max(self.now) };
        self.hooks.planner_free = self.hooks.planner_free.max(begin + delay);
        let problem = has_none.then(|| "config.data cannot be read".to_owned());
        self.tell_later(
            begin + delay - self.now,
            Input::Planned { seq, plan: Plan { view, targets }, problem },
        );
    }

    /// `Effect::Start`.
    pub fn start_script(&mut self, run: &ScriptRun) {
        let timeout = micros(run.timeout);
        let ok = Outcome { code: Some(0), output: "done".to_owned(), ..Outcome::default() };
        let (delay, end) = match () {
            () if self.fails(Fault::Postponed, 4) => (self.dice.spread(10, 2_000), End::Postponed),
            () if self.fails(Fault::ScriptHangs, 4) => {
                let error = Some("ran longer than its time limit".to_owned());
                (timeout + 50_000, End::Script(Outcome { signal: Some(15), error, ..Outcome::default() }))
            }
            () if self.fails(Fault::ScriptFails, 3) => {
                (self.dice.spread(500, 500_000), End::Script(Outcome { code: Some(1), ..Outcome::default() }))
            }
            () => (self.dice.spread(500, 500_000).min(timeout), End::Script(ok)),
        };
        self.runs(run.seq, run.run, delay, end);
    }

    /// `Effect::Ask`.
    pub fn ask_node(&mut self, run: &NodeRun) {
        let timeout = micros(run.timeout);
        let failed = |error: &str| End::Node(Outcome::not_run(error), Vec::new());
        let (delay, end) = match () {
            () if self.fails(Fault::Postponed, 4) => (self.dice.spread(10, 2_000), End::Postponed),
            () if self.fails(Fault::NodeSilent, 3) => (timeout, failed("no answer in time")),
            () if self.fails(Fault::NodeRefuses, 3) => {
                (self.dice.spread(100, 5_000), failed("Connection refused"))
            }
            () => {
                let slow = self.fails(Fault::NodeSlow, 3);
                let delay = if slow { self.of(Fault::NodeSlow).spread(100_000, 10_000_000) } else { 2_000 };
                let ok = Outcome { code: Some(0), ..Outcome::default() };
                let scripts = vec![("10-there".to_owned(), ok.clone())];
                (delay.min(timeout), End::Node(ok, scripts))
            }
        };
        self.runs(run.seq, run.run, delay, end);
    }

    fn runs(&mut self, seq: i64, run: i64, delay: u64, end: End) {
        self.hooks.running.insert((self.life, seq, run), Running { end });
        self.later(delay, Happening::Ends(self.life, seq, run));
    }

    pub(super) fn run_ends(&mut self, life: u64, seq: i64, run: i64) {
        let Some(Running { end }) = self.hooks.running.remove(&(life, seq, run)) else { return };
        if life != self.life || !self.up {
            return;
        }
        self.story.say(|| format!("run {run} of event {seq} ends: {}", end.words()));
        let input = match end {
            End::Script(outcome) => Input::RunEnded { run, seq, outcome },
            End::Node(outcome, scripts) => Input::NodeEnded { run, seq, outcome, scripts },
            End::Postponed => {
                Input::Postponed { run, seq, error: "Resource temporarily unavailable".to_owned() }
            }
        };
        self.inbox.push_back(super::Message::Plain(input));
    }

    /// `Effect::EndRuns`: SIGTERM, and after five seconds SIGKILL.
    pub fn end_runs(&mut self) {
        let interrupted = Outcome { interrupted: true, ..Outcome::default() };
        let life = self.life;
        let mut ends = Vec::new();
        for ((_, seq, run), running) in self.hooks.running.range_mut((life, i64::MIN, i64::MIN)..) {
            match &mut running.end {
                End::Script(outcome) => *outcome = interrupted.clone(),
                End::Node(outcome, scripts) => {
                    *outcome = interrupted.clone();
                    scripts.clear();
                }
                End::Postponed => {}
            }
            ends.push((*seq, *run));
        }
        for (seq, run) in ends {
            let delay = self.dice.spread(500, 5_100_000);
            self.later(delay, Happening::Ends(life, seq, run));
        }
    }

    /// The daemon is gone: its scripts are killed with it, or live on unseen.
    pub(super) fn hooks_without_daemon(&mut self, crashed: bool) {
        self.hooks.planner_free = 0;
        if crashed && self.fails(Fault::ScriptsLiveOn, 2) {
            return;
        }
        self.hooks.running.clear();
    }
}

impl End {
    fn words(&self) -> &'static str {
        match self {
            Self::Postponed => "it could not begin",
            Self::Script(outcome) | Self::Node(outcome, _) if outcome.interrupted => "it was cut short",
            Self::Script(outcome) | Self::Node(outcome, _) if outcome.succeeded() => "well",
            _ => "badly",
        }
    }
}

/// A time limit in microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
