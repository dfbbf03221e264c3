//! Events: a pre or post of one opcode.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use super::event_key::{EventKey, InvalidKey, InvalidPhase, Phase, PostStatus};

use crate::ganeti::about::{About, Parent, Trail};
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::object::Object;

/// One pre or post of one opcode.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Job, opcode and phase.
    pub key: EventKey,
    /// When luxid received the job: tells apart jobs of one number.
    pub received: Timestamp,
    /// The number of opcodes in the job.
    pub op_count: u32,
    /// The opcode's type, e.g. `OP_TEST_DELAY`.
    pub op_code: String,
    /// How the opcode ended; none for a pre.
    pub status: Option<PostStatus>,
    /// Whether the opcode began to execute.
    pub executed: bool,
    /// Whether the event's moment had passed when it was noticed.
    pub late: bool,
    /// When it was noticed.
    pub time: Timestamp,
    /// What else is told of it.
    pub about: Arc<About>,
}

impl Event {
    /// The event's name everywhere and for ever: the same on every node and after every restart,
    /// another one after the cluster was made again. `-` stands for a cluster that is not known.
    pub fn id(&self) -> String {
        let cluster = self.about.cluster.as_deref().unwrap_or("-");
        format!("{cluster}/{}/{}", self.received.as_micros(), self.key)
    }

    /// When the opcode began or ended, by Ganeti's own time; when that was noticed where it is not
    /// known, as of what has disappeared.
    pub fn moment(&self) -> Timestamp {
        let moment = match self.key.phase {
            Phase::Pre => self.about.executed,
            Phase::Post => self.about.ended,
        };
        moment.unwrap_or(self.time)
    }
}

/// As the log has it: `42.0.post (late) OP_TEST_DELAY succeeded`, always one line.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = if self.late { " (late)" } else { "" };
        write!(f, "{}{late} {}", self.key, self.op_code.escape_debug())?;
        self.status.map_or(Ok(()), |status| write!(f, " {}", status.as_str()))
    }
}

/// An event as `replay`, `events --json` and the feed print it, without its line's end. Times are
/// seconds since the epoch, durations seconds.
#[derive(Clone, Debug, Serialize)]
pub struct EventRecord<'a> {
    /// The event's number in the feed.
    pub seq: i64,
    id: String,
    event: EventKey,
    job: JobId,
    op: u32,
    op_count: u32,
    op_code: &'a str,
    object: Option<&'a Object>,
    phase: Phase,
    status: Option<PostStatus>,
    executed: bool,
    late: bool,
    time: f64,
    received: f64,
    started: Option<f64>,
    executed_at: Option<f64>,
    ended: Option<f64>,
    start_delay: Option<f64>,
    lock_wait: Option<f64>,
    held: Option<f64>,
    execution: Option<f64>,
    reason: &'a Trail,
    parent: Option<Parent>,
    error: Option<&'a str>,
    state: &'a str,
    told_ganeti: Option<bool>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate<'a> {
    /// `pending`, `done` or `standby`.
    pub state: &'a str,
    /// How long its opcode's job was held.
    pub held: Option<Duration>,
    /// Whether Ganeti was told of the death that it tells of; `None` where it was not to be.
    pub told_ganeti: Option<bool>,
}

impl<'a> EventRecord<'a> {
    /// Event number `seq` for printing, and what became of it.
    pub fn new(seq: i64, event: &'a Event, Fate { state, held, told_ganeti }: Fate<'a>) -> Self {
        let (key, about) = (event.key, &*event.about);
        let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_secs_f64);
        Self {
            seq,
            id: event.id(),
            event: key,
            job: key.job,
            op: key.op,
            op_count: event.op_count,
            op_code: &event.op_code,
            object: about.object.as_ref(),
            phase: key.phase,
            status: event.status,
            executed: event.executed,
            late: event.late,
            time: event.time.as_secs_f64(),
            received: event.received.as_secs_f64(),
            started: seconds(about.started),
            executed_at: seconds(about.executed),
            ended: seconds(about.ended),
            start_delay: about.start_delay(key, event.received),
            lock_wait: about.lock_wait(),
            held: held.map(|held| held.as_secs_f64()),
            execution: about.execution(),
            reason: &about.reason,
            parent: about.reason.parent(key),
            error: about.error.as_deref(),
            state,
            told_ganeti,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_in_the_log() {
        let mut event = Event {
            key: "42.0.post".parse().unwrap(),
            received: Timestamp::default(),
            op_count: 1,
            op_code: "OP_TEST_DELAY".to_owned(),
            status: Some(PostStatus::Disappeared),
            executed: true,
            late: true,
            time: Timestamp::default(),
            about: Default::default(),
        };
        assert_eq!(event.to_string(), "42.0.post (late) OP_TEST_DELAY disappeared");
        event = Event { op_code: "OP_X\n<0>".to_owned(), status: None, late: false, ..event };
        assert_eq!(event.to_string(), "42.0.post OP_X\\n<0>");
    }
}
