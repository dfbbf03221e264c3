//! The reference: what the whole life of a job means, asked opcode by opcode.
//!
//! It has every version before it and no state, so it needs none of the engine's
//! reasoning: it looks up when an opcode first executed and how it first ended.

use ganeti_hookd::ganeti::event::{Phase, PostStatus};
use ganeti_hookd::ganeti::job::{Opcode, Status};

use crate::ganeti::Moment;

/// An event, as far as the model knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The opcode's index.
    pub op: usize,
    /// Before or after it.
    pub phase: Phase,
    /// How it ended.
    pub status: Option<PostStatus>,
    /// Whether it had begun to execute.
    pub executed: bool,
}

/// The events of a job of which all of `life` has happened.
pub fn events(life: &[Moment]) -> Vec<Told> {
    let ops = life.iter().find_map(Moment::version).map_or(0, |job| job.ops.len());
    (0..ops).flat_map(|op| events_of(life, op)).collect()
}

fn events_of(life: &[Moment], op: usize) -> Vec<Told> {
    let executed = versions(life, op).any(|version| version.executed.is_some());
    let pre = executed.then_some(Told { op, phase: Phase::Pre, status: None, executed });
    let post = end(life, op).map(|status| Told { op, phase: Phase::Post, status: Some(status), executed });
    pre.into_iter().chain(post).collect()
}

/// How the opcode first came to an end; none when it did not, or silently.
fn end(life: &[Moment], op: usize) -> Option<PostStatus> {
    let mut file = None;
    for moment in life {
        match (moment.version(), file) {
            (Some(job), _) => file = Some(&job.ops[op]),
            (None, Some(op)) if op.started.is_some() => return Some(PostStatus::Disappeared),
            (None, _) => {}
        }
        if let Some(op) = file.filter(|op| op.status.is_final()) {
            return verdict(op);
        }
    }
    None
}

/// What the first final version of an opcode says.
fn verdict(op: &Opcode<'_>) -> Option<PostStatus> {
    let began = if op.status == Status::Canceled { op.executed } else { op.started };
    began?;
    match op.status {
        Status::Success => Some(PostStatus::Succeeded),
        _ if op.death_detected => Some(PostStatus::Disappeared),
        _ => Some(PostStatus::Failed),
    }
}

/// Every version of the opcode.
fn versions(life: &[Moment], op: usize) -> impl Iterator<Item = &Opcode<'static>> {
    life.iter().filter_map(Moment::version).map(move |job| &job.ops[op])
}

/// The one thing that cannot be known (design, section 3): the job died between two
/// opcodes, luxid has rewritten it, and nobody saw a version in which the opcode before
/// the gap, which is returned, had succeeded. `seen` is the last moment seen before.
pub fn lost_success(life: &[Moment], seen: Option<usize>) -> Option<usize> {
    let [before @ .., Moment::Died, Moment::Written(_)] = life else { return None };
    let job = before.last()?.version()?;
    let last_started = job.ops.iter().rposition(|op| op.started.is_some())?;
    let is_over =
        |moment: &Moment| moment.version().is_none_or(|job| job.ops[last_started].status == Status::Success);
    let seen_over = seen.is_some_and(|seen| is_over(&life[seen]));
    (is_over(before.last()?) && !seen_over).then_some(last_started)
}
