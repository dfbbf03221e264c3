//! Scripts, node daemons and the planner.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ganeti_hookd::engine::effect::{NodeRun, PlanRequest, ScriptRun};
use ganeti_hookd::engine::environment::ClusterFacts;
use ganeti_hookd::engine::input::{Input, NoScripts, Script};
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
    pre: Vec<Script>,
    post: Vec<Script>,
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
        let mut of = |phase: &str, n: u64| -> Vec<Script> {
            let script = |at: u64| {
                let refused = recipe.has(Fault::ScriptRefused) && dice.one_in(2);
                Script {
                    name: format!("{at}-{phase}"),
                    path: format!("/etc/ganeti/hooks/global-{phase}.d/{at}-{phase}").into(),
                    refusal: refused.then(|| "others may write to it".to_owned()),
                }
            };
            (0..n).map(script).collect()
        };
        let (pre, post) = (of("pre", recipe.scripts.0), of("post", recipe.scripts.1));
        let refused = recipe.has(Fault::DirRefused).then(|| *dice.pick(&[Phase::Pre, Phase::Post]));
        Self {
            pre,
            post,
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
    pub fn has_pre_hooks(&self) -> bool {
        self.hooks.refused != Some(Phase::Pre) && self.hooks.pre.iter().any(|script| script.refusal.is_none())
    }

    /// `Effect::CountNodes`.
    pub fn online_nodes(&self) -> usize {
        self.hooks.online
    }

    /// `Effect::Prepare`.
    pub fn prepare(&mut self, phase: Phase) -> (Result<Vec<Script>, NoScripts>, ClusterFacts) {
        let facts = ClusterFacts { name: Some("cluster.example.com".to_owned()), ..ClusterFacts::default() };
        if self.fails(Fault::DirShortage, 3) {
            self.hooks.short_until = self.now + self.of(Fault::DirShortage).spread(1, 5_000_000);
        }
        let scripts = match phase {
            _ if self.now < self.hooks.short_until => {
                Err(NoScripts::Shortage("too many open files".to_owned()))
            }
            _ if self.hooks.refused == Some(phase) => {
                self.story.reach(Fault::DirRefused.name());
                Err(NoScripts::Refused("others may write to it".to_owned()))
            }
            Phase::Pre => Ok(self.hooks.pre.clone()),
            Phase::Post => Ok(self.hooks.post.clone()),
        };
        if scripts.iter().flatten().any(|script| script.refusal.is_some()) {
            self.story.reach(Fault::ScriptRefused.name());
        }
        (scripts, facts)
    }

    /// The names of this node's scripts of a phase.
    pub fn script_names(&self, phase: Phase) -> Vec<String> {
        let scripts = if phase == Phase::Pre { &self.hooks.pre } else { &self.hooks.post };
        scripts.iter().map(|script| script.name.clone()).collect()
    }

    /// `Effect::Plan`: one after the other, urgent ones before the rest.
    pub fn plan(&mut self, request: PlanRequest) {
        let PlanRequest { seq, event, given, urgent } = request;
        let alone = matches!(event.status, Some(PostStatus::Failed | PostStatus::Disappeared));
        let others = if alone { 1 } else { self.hooks.online.max(2) };
        let view = given.unwrap_or_else(|| View {
            nodes: [HERE, THERE, "node3.example.com"][..others]
                .iter()
                .map(|node| (*node).to_owned())
                .collect(),
            ..View::default()
        });
        let address: SocketAddr = ([198, 51, 100, 1], 1811).into();
        let has_none = self.fails(Fault::PlanProblem, 3);
        let target = |node: &String| Target { node: node.clone(), address: (!has_none).then_some(address) };
        let targets = view.nodes.iter().map(target).collect();
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
