//! What is counted and timed while the daemon works. Nothing is worded here, and a label that is
//! known needs no memory: an event costs a few look-ups and additions.

use std::time::Duration;

use super::histogram::Histogram;
use super::labelled::Labelled;
use crate::engine::input::{Landing, Past};
use crate::engine::outcome::Outcome;
use crate::ganeti::event::{Event, Phase, PostStatus};
use crate::ganeti::job::Timestamp;

/// What is known of an opcode's type.
#[derive(Clone, Debug, Default)]
pub struct OfOpCode {
    /// How often it ended, by [`PostStatus::ALL`].
    pub ended: [u64; PostStatus::ALL.len()],
    /// From started to executed.
    pub lock_wait: Histogram,
    /// From executed to ended.
    pub execution: Histogram,
    /// When one of these ended well last.
    pub last_success: Option<Timestamp>,
}

/// What is known of a script.
#[derive(Clone, Debug, Default)]
pub struct OfScript {
    /// Runs that ended.
    pub runs: Results,
    /// How long it ran on this node.
    pub seconds: Histogram,
}

/// How often something went well, and how often not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// How often it did.
    pub succeeded: u64,
    /// How often it did not.
    pub failed: u64,
}

impl Results {
    fn count(&mut self, outcome: &Outcome) {
        match outcome.succeeded() {
            true => self.succeeded += 1,
            false => self.failed += 1,
        }
    }
}

/// Something for each of the two phases.
#[derive(Clone, Debug, Default)]
pub struct ByPhase<V> {
    /// Before the opcode.
    pub pre: V,
    /// After it.
    pub post: V,
}

impl<V> ByPhase<V> {
    fn of(&mut self, phase: Phase) -> &mut V {
        match phase {
            Phase::Pre => &mut self.pre,
            Phase::Post => &mut self.post,
        }
    }

    /// Both, with the words for them.
    pub fn each(&self) -> [(&'static str, &V); 2] {
        [(Phase::Pre.as_str(), &self.pre), (Phase::Post.as_str(), &self.post)]
    }
}

/// How long jobs were held, by how they were.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The kernel stopped them in the rename.
    pub exact: Histogram,
    /// A signal did, and came early enough.
    pub best_effort: Histogram,
    /// A signal did, and they had got further.
    pub late: Histogram,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// By the opcode's type.
    pub op_codes: Labelled<OfOpCode>,
    /// By script, those of other nodes, too.
    pub scripts: ByPhase<Labelled<OfScript>>,
    /// Requests to other nodes.
    pub nodes: Labelled<Results>,
    /// From the job's submission, or the end of its opcode before, to the opcode's start.
    pub start_delay: Histogram,
    /// From an opcode's own moment to its first script's start.
    pub hook_delay: ByPhase<Histogram>,
    /// How long jobs were held.
    pub held: Held,
    /// From the end of a job process to the event that tells of it.
    pub death_notice: Histogram,
    /// Times that this node took over from another one.
    pub takeovers: u64,
    /// When something happened last.
    pub last_event: Option<Timestamp>,
}

impl Figures {
    /// Something has happened, whoever runs the hooks for it.
    pub fn noticed(&mut self, event: &Event) {
        self.last_event = self.last_event.max(Some(event.time));
        let success = match event.status {
            Some(PostStatus::Succeeded) => event.about.ended.or(Some(event.time)),
            _ => None,
        };
        self.op_codes.with(&event.op_code, |known| known.last_success = known.last_success.max(success));
    }

    /// An event is this node's to deliver. What an opcode waited for is counted with its first
    /// event, how long it executed with its last.
    pub fn event(&mut self, event: &Event) {
        let (about, is_pre) = (&event.about, event.key.phase == Phase::Pre);
        if is_pre || !event.executed {
            observe(&mut self.start_delay, about.start_delay(event.key, event.received));
        }
        self.op_codes.with(&event.op_code, |op_code| {
            if is_pre {
                return observe(&mut op_code.lock_wait, about.lock_wait());
            }
            observe(&mut op_code.execution, about.execution());
            let statuses = op_code.ended.iter_mut().zip(PostStatus::ALL);
            statuses.filter(|(_, status)| event.status == Some(*status)).for_each(|(count, _)| *count += 1);
        });
    }

    /// What the history tells of the time before this start.
    pub fn recall(&mut self, past: &Past) {
        self.last_event = self.last_event.max(past.last_event);
        for (op_code, success) in &past.successes {
            self.op_codes.with(op_code, |known| known.last_success = known.last_success.max(*success));
        }
    }

    /// A script's run has ended. How long it took is not known of one of another node.
    pub fn run(&mut self, phase: Phase, script: &str, outcome: &Outcome) {
        self.scripts.of(phase).with(script, |script| {
            script.runs.count(outcome);
            if outcome.seconds > 0.0 {
                script.seconds.observe(outcome.seconds);
            }
        });
    }

    /// Another node was asked to run its scripts.
    pub fn request(&mut self, node: &str, outcome: &Outcome) {
        self.nodes.with(node, |results| results.count(outcome));
    }

    /// The first script of an event starts so long after the opcode's own moment.
    pub fn first_script(&mut self, phase: Phase, delay: f64) {
        self.hook_delay.of(phase).observe(delay);
    }

    /// A job that was held goes on.
    pub fn held(&mut self, landing: Landing, held: Duration) {
        let histogram = match landing {
            Landing::Exact => &mut self.held.exact,
            Landing::Early => &mut self.held.best_effort,
            Landing::Late => &mut self.held.late,
        };
        histogram.observe(held.as_secs_f64());
    }
}

fn observe(histogram: &mut Histogram, seconds: Option<f64>) {
    seconds.into_iter().for_each(|seconds| histogram.observe(seconds));
}
