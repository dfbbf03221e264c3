//! What the journal holds, as changes and as a whole. Nothing of this decides.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::directories;
use super::numbers::{Numbers, NumbersChange};
use super::outbox_progress::Progress;
use super::outcome::Outcome;
use super::tracker::Tracked;
use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::opcodes::View;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// Its scripts have not all ended.
    Pending,
    /// Its scripts have ended, or it has none.
    Done,
    /// Noticed while another node was master: that node's to deliver.
    Standby,
}

impl EventState {
    /// The word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Standby => "standby",
        }
    }
}

/// A text that is no state of an event.
#[derive(Debug, thiserror::Error)]
#[error("not a state of an event")]
pub struct InvalidState;

impl FromStr for EventState {
    type Err = InvalidState;

    fn from_str(text: &str) -> Result<Self, InvalidState> {
        let all = [Self::Pending, Self::Done, Self::Standby];
        all.into_iter().find(|state| state.as_str() == text).ok_or(InvalidState)
    }
}

/// A run that begins.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// The run's number; together with the event's it is no other run's.
    pub id: i64,
    /// The event it is for.
    pub seq: i64,
    /// The node it runs on.
    pub node: String,
    /// The hooks directory that the script is of, e.g. `global-post.d`.
    pub directory: String,
    /// The script's name; the directory's for a request to another node.
    pub script: String,
    /// 1, or more after a crash, or when it was run again.
    pub attempt: u32,
    /// When.
    pub started: Timestamp,
}

impl RunStart {
    /// What it is a run of.
    pub fn key(&self) -> RunKey {
        RunKey { node: self.node.clone(), directory: self.directory.clone(), script: self.script.clone() }
    }

    /// The script as people are told of it.
    pub fn label(&self) -> String {
        directories::label(&self.directory, &self.script)
    }
}

/// What a run is of: a script of a directory on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunKey {
    /// The node.
    pub node: String,
    /// The hooks directory.
    pub directory: String,
    /// The script, or the directory once more: all of its scripts.
    pub script: String,
}

/// An event's scripts are to run again because somebody wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rerun {
    /// Only this node's scripts of this name.
    pub script: Option<String>,
}

/// What the feed tells beside events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Notice {
    /// This node has become master and goes on where the other one ended.
    Takeover {
        /// When, in seconds since the epoch.
        time: f64,
        /// This node.
        node: String,
    },
    /// Nobody watched the queue: what happened meanwhile was found by comparing.
    Gap {
        /// When that was noticed, in seconds since the epoch.
        time: f64,
        /// When the queue was watched last, if that is known.
        since: Option<f64>,
    },
}

/// A first start that is looking at what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstLook {
    /// What had ended by then is history.
    pub since: Timestamp,
    /// There was no queue then: whatever is in it came later.
    pub is_before_the_queue: bool,
}

/// One change to what the journal holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// How far a job has been told.
    Job(JobId, Tracked),
    /// The job has left the queue.
    Forget(JobId),
    /// A new event.
    Event(i64, Event, EventState),
    /// So long a job, received then, stood still for this pre.
    Held(EventKey, Timestamp, Duration),
    /// An event's scripts are to run again; their runs so far count no more.
    Rerun(i64, Rerun),
    /// The feed tells this.
    Notice(Notice),
    /// An event's state changed.
    EventState(i64, EventState),
    /// An event becomes ours, or is so after a restart: deliver it, late.
    Adopt(i64),
    /// An event turned out to be late.
    Late(i64),
    /// Whether Ganeti was told of the death that an event tells of, when it was to be.
    ToldGaneti(i64, bool),
    /// What the event's scripts are given, and where they run.
    Plan(i64, View),
    /// A run begins.
    RunStart(RunStart),
    /// A run of this event and number has ended.
    RunEnd(i64, i64, Timestamp, Outcome),
    /// The job numbers accounted for.
    Numbers(NumbersChange),
    /// What had ended by this time is history.
    Begun(Timestamp),
    /// The same of a first look that is not over.
    FirstLook(FirstLook),
    /// Job numbers began again: up to then jobs were told whose numbers are not accounted for.
    BeganAgain(Timestamp),
    /// What was told up to then is in no history.
    HistoryLost(Timestamp),
    /// How far the outbox of this name is.
    Outbox(String, Box<Progress>),
    /// Forget events before this time, at most so many: what had ended by the last of them is
    /// history then.
    Prune(Timestamp, u32),
}

/// An event's runs so far: the last attempt, and whether it ended and counts.
pub type Earlier = BTreeMap<RunKey, (u32, bool)>;

/// An event whose scripts have not all ended, or that another node was to deliver.
#[derive(Clone, Debug, PartialEq)]
pub struct Undelivered {
    /// Its number.
    pub seq: i64,
    /// The event.
    pub event: Event,
    /// Its runs so far.
    pub runs: Earlier,
    /// What its scripts are given, if that was known already.
    pub plan: Option<View>,
    /// It is delivered again, as somebody wanted.
    pub rerun: Option<Rerun>,
}

/// What the journal knows of its own beginning, and of what it does not hold any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    /// What had ended by then is history; `None` before the first start is over.
    pub begun: Option<Timestamp>,
    /// The first look that was not over.
    pub first_look: Option<FirstLook>,
    /// When job numbers began again last.
    pub began_again: Option<Timestamp>,
    /// What was told up to then is in no history.
    pub lost: Option<Timestamp>,
    /// When the last event that was forgotten was noticed.
    pub forgotten: Option<Timestamp>,
    /// When the journal was written last, if there was one.
    pub last_written: Option<Timestamp>,
    /// No event is of a job with a higher number.
    pub highest_told: i64,
}

/// What the journal holds when the daemon starts.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// What it knows of its own beginning, and of what it does not hold any more.
    pub past: Past,
    /// The jobs in the queue.
    pub jobs: Vec<(JobId, Tracked)>,
    /// The job numbers accounted for.
    pub numbers: Numbers,
    /// Events that are to be delivered, by number.
    pub undelivered: Vec<Undelivered>,
    /// Events that another node was to deliver, of the last moments, by number.
    pub standby: Vec<Undelivered>,
    /// The number of the next event.
    pub next_seq: i64,
    /// The number of the next run.
    pub next_run: i64,
    /// How far each outbox is.
    pub outboxes: BTreeMap<String, Progress>,
}
