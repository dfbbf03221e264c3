//! An opcode that had started and not ended, as it was read last: what can be told of its death
//! when its job's file is gone.

use std::sync::Arc;

use crate::engine::tracker::Tracked;
use crate::engine::transitions::Progress;
use crate::ganeti::about::About;
use crate::ganeti::event::{Event, EventKey, Phase, PostStatus};
use crate::ganeti::job::{Job, JobId, Timestamp};

/// An opcode that had started and not ended.
#[derive(Clone, Debug)]
pub struct Open {
    op: u32,
    op_code: String,
    executed: bool,
    about: Arc<About>,
}

impl Open {
    /// That of a version that was read; what was read of it before is not read anew.
    pub fn of(job: &Job<'_>, tracked: &Tracked, before: Option<Self>) -> Option<Self> {
        let next = tracked.progress.next;
        let op = job.ops.get(next as usize).filter(|op| op.started.is_some() && tracked.is_open())?;
        let executed = tracked.executed.or(op.executed);
        let is_same = |before: &Self| {
            let About { started, executed: of_before, .. } = *before.about;
            (before.op, started, of_before) == (next, op.started, executed)
        };
        let before = before.filter(is_same);
        let (op_code, about) = before.map(|before| (before.op_code, before.about)).unwrap_or_else(|| {
            let about = About::of(job, next as usize, Phase::Post, Some(PostStatus::Disappeared));
            (op.code.clone().into_owned(), Arc::new(About { executed, ..about }))
        });
        Some(Self { op: next, op_code, executed: op.executed.is_some(), about })
    }

    /// Whether it executes.
    pub fn is_executing(&self) -> bool {
        self.executed
    }

    /// When it started.
    pub fn started(&self) -> Option<Timestamp> {
        self.about.started
    }

    /// Its job's process has ended and left no file. What is known of the job then, and the event;
    /// `None` when the opcode is not the job's next.
    pub fn disappears(&self, id: JobId, known: &Tracked, now: Timestamp) -> Option<(Tracked, Event)> {
        let Tracked { progress, op_count, .. } = *known;
        if !known.is_open() || self.op != progress.next {
            return None;
        }
        let status = Some(PostStatus::Disappeared);
        let executed = self.executed || progress.pre;
        let event = Event { status, executed, ..self.event(id, Phase::Post, known, now) };
        let progress = Progress { next: op_count, pre: false };
        Some((Tracked { progress, executed: None, ..known.clone() }, event))
    }

    /// The pre that will come of it, while it waits for its locks.
    pub fn waits(&self, id: JobId, known: &Tracked, now: Timestamp) -> Option<Event> {
        (!self.executed).then(|| self.event(id, Phase::Pre, known, now))
    }

    fn event(&self, job: JobId, phase: Phase, known: &Tracked, time: Timestamp) -> Event {
        Event {
            key: EventKey { job, op: self.op, phase },
            received: known.received,
            op_count: known.op_count,
            op_code: self.op_code.clone(),
            status: None,
            executed: false,
            late: false,
            time,
            about: Arc::clone(&self.about),
        }
    }
}
