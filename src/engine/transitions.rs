//! From job versions to events (design, section 3).
//!
//! Opcodes of a job run one after the other, so what is known of a job is where it
//! stands: how many opcodes are behind it, and whether the next one's pre has been
//! given. [`step`] compares that with a version of the job and says what happened in
//! between. It needs no version but the last one: the timestamps in it prove what
//! happened. It promises each (opcode, phase) once, and in order.

use crate::ganeti::event::{EventKey, Phase, PostStatus};
use crate::ganeti::job::{Job, Liveness, Opcode, Status, Timestamp};

/// How far a job has been told in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// The first opcode that is not closed: every opcode before it has had its post,
    /// or never gets one.
    pub next: u32,
    /// Whether the pre of opcode `next` has been given (or is not to be).
    pub pre: bool,
}

impl Progress {
    /// How far a job is told whose last event this is.
    pub fn after(EventKey { op, phase, .. }: EventKey) -> Self {
        match phase {
            Phase::Pre => Self { next: op, pre: true },
            Phase::Post => Self { next: op.saturating_add(1), pre: false },
        }
    }
}

/// A pre or post that a look at the job brought to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The opcode's index in the job.
    pub op: u32,
    /// Before or after the opcode.
    pub phase: Phase,
    /// How the opcode ended; none for a pre.
    pub status: Option<PostStatus>,
    /// Whether the opcode began to execute.
    pub executed: bool,
    /// A pre that came to light only when its opcode had ended already.
    pub passed: bool,
}

/// What a look at a job changes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Step {
    /// What is known from now on.
    pub progress: Progress,
    /// What happened, in order.
    pub transitions: Vec<Transition>,
}

/// Whether an opcode is over, and what its post says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not over.
    Open,
    /// Over, and it gets no post.
    Silent,
    /// Over.
    Ended(PostStatus),
}

/// Compares what was known of a job with the job as read.
///
/// `liveness` is the job process's as of *before* the version was read: a process
/// writes its last version and then ends, so only a version read after the death can
/// show that an opcode disappeared.
pub fn step(known: Progress, job: &Job<'_>, liveness: Liveness) -> Step {
    let mut progress = known;
    let mut transitions = Vec::new();
    let last_started = job.last_started();
    while let Some(op) = job.ops.get(progress.next as usize) {
        let fate = fate(op, progress, last_started, liveness);
        let executed = op.executed.is_some();
        if executed && !progress.pre {
            progress.pre = true;
            let passed = fate != Fate::Open;
            transitions.push(Transition {
                op: progress.next,
                phase: Phase::Pre,
                status: None,
                executed,
                passed,
            });
        }
        if let Fate::Ended(status) = fate {
            transitions.push(Transition {
                op: progress.next,
                phase: Phase::Post,
                status: Some(status),
                executed: progress.pre,
                passed: false,
            });
        }
        if fate == Fate::Open {
            break;
        }
        progress = Progress { next: progress.next + 1, pre: false };
    }
    Step { progress, transitions }
}

/// The progress of a job that was there before us: what is over is history and an
/// opcode that executes is adopted, its post will come, its pre will not.
pub fn adopt(job: &Job<'_>) -> Progress {
    step(Progress::default(), job, Liveness::Unknown).progress
}

/// The progress of a job as it was at `time`, by the times in a later version of it: what had
/// ended by then is history, and so is the pre of an opcode that executed by then.
pub fn as_of(job: &Job<'_>, time: Timestamp) -> Progress {
    let mut progress = Progress::default();
    for (index, op) in job.ops.iter().enumerate() {
        // luxid's rewrite of a dead job gives every opcode a new end, but not a new beginning.
        let next_started = job.ops.get(index + 1).and_then(|next| next.started);
        // Ganeti gives a canceled opcode no end: it is not over before it began.
        let last = op.ended.max(op.executed).max(op.started);
        let had_ended = op.status.is_final() && last <= Some(time);
        if !had_ended && next_started.is_none_or(|started| started > time) {
            progress.pre = op.executed.is_some_and(|executed| executed <= time);
            break;
        }
        progress.next += 1;
    }
    progress
}

/// What became of the opcode at `progress`.
fn fate(op: &Opcode<'_>, progress: Progress, last_started: Option<usize>, liveness: Liveness) -> Fate {
    let started = op.started.is_some();
    let is_last_started = last_started == Some(progress.next as usize);
    if last_started > Some(progress.next as usize) {
        // An opcode starts only when the one before it has succeeded; luxid's rewrite
        // of a dead job, which says `error` everywhere, cannot change that.
        return Fate::Ended(PostStatus::Succeeded);
    }
    match op.status {
        Status::Success => Fate::Ended(PostStatus::Succeeded),
        Status::Error if !started => Fate::Silent,
        Status::Error if op.death_detected => Fate::Ended(PostStatus::Disappeared),
        Status::Error => Fate::Ended(PostStatus::Failed),
        Status::Canceled if progress.pre || op.executed.is_some() => Fate::Ended(PostStatus::Failed),
        Status::Canceled => Fate::Silent,
        _ if is_last_started && liveness == Liveness::Dead => Fate::Ended(PostStatus::Disappeared),
        _ => Fate::Open,
    }
}
