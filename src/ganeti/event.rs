//! Events: a pre or post of one opcode.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::ganeti::about::{About, Parent, Trail};
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::object::Object;

/// Before or after the opcode (Ganeti: `constants.HOOKS_PHASE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the opcode executes.
    Pre,
    /// After the opcode ended.
    Post,
}

impl Phase {
    /// `pre` or `post`, as in `GANETI_HOOKS_PHASE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Post => "post",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = InvalidPhase;

    fn from_str(text: &str) -> Result<Self, InvalidPhase> {
        match text {
            "pre" => Ok(Self::Pre),
            "post" => Ok(Self::Post),
            _ => Err(InvalidPhase),
        }
    }
}

/// A text that names no phase.
#[derive(Debug, thiserror::Error)]
#[error("a phase is pre or post")]
pub struct InvalidPhase;

/// How an opcode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostStatus {
    /// Its status became `success`.
    Succeeded,
    /// It had started and its status became `error`; or it was canceled after its pre.
    Failed,
    /// The job process died before the opcode ended.
    Disappeared,
}

impl PostStatus {
    /// All that there are.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Disappeared];

    /// The word in `GANETI_POST_STATUS` and in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Disappeared => "disappeared",
        }
    }

    /// The word that Ganeti's never-released branch used.
    pub fn upstream(self) -> &'static str {
        match self {
            Self::Succeeded => "success",
            Self::Failed => "error",
            Self::Disappeared => "disappeared",
        }
    }
}

impl FromStr for PostStatus {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(InvalidKey)
    }
}

/// What an event is about: its job, opcode and phase. Written `42.0.post`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// The job.
    pub job: JobId,
    /// The opcode's index in the job, from 0.
    pub op: u32,
    /// Before or after.
    pub phase: Phase,
}

/// A text that names no event.
#[derive(Debug, thiserror::Error)]
#[error("not an event: an event is written JOB.OPCODE.PHASE, for example 42.0.post")]
pub struct InvalidKey;

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.op, self.phase)
    }
}

impl FromStr for EventKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.split('.');
        let (Some(job), Some(op), Some(phase), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidKey);
        };
        Ok(Self {
            job: job.parse().map_err(|_| InvalidKey)?,
            op: op.parse().map_err(|_| InvalidKey)?,
            phase: phase.parse().map_err(|_| InvalidKey)?,
        })
    }
}

impl Serialize for EventKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

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
}

impl<'a> EventRecord<'a> {
    /// Event number `seq` for printing: what became of it, and for how long its job was held.
    pub fn new(seq: i64, event: &'a Event, state: &'a str, held: Option<Duration>) -> Self {
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

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key: EventKey = "42.0.post".parse().unwrap();
        assert_eq!(key.to_string(), "42.0.post");
        for bad in ["", "42", "42.0", "42.0.during", "0.0.pre", "42.-1.pre", "42.0.pre.x"] {
            assert!(bad.parse::<EventKey>().is_err(), "{bad}");
        }
    }
}
