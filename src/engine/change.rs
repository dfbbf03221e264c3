//! What the journal holds, as changes and as a whole. Nothing of this decides.

use std::collections::BTreeMap;

use super::numbers::{Numbers, NumbersChange};
use super::outcome::Outcome;
use super::tracker::Tracked;
use crate::ganeti::event::Event;
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

/// A run that begins.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// The run's number; together with the event's it is no other run's.
    pub id: i64,
    /// The event it is for.
    pub seq: i64,
    /// The node it runs on.
    pub node: String,
    /// The script's name.
    pub script: String,
    /// 1, or more after a crash.
    pub attempt: u32,
    /// When.
    pub started: Timestamp,
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
    /// An event's state changed.
    EventState(i64, EventState),
    /// An event becomes ours, or is so after a restart: deliver it, late.
    Adopt(i64),
    /// An event turned out to be late.
    Late(i64),
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
    /// Forget events before this time, at most so many.
    Prune(Timestamp, u32),
}

/// An event's runs in an earlier life of the daemon, by node and script: the last attempt
/// and whether it ended.
pub type Earlier = BTreeMap<(String, String), (u32, bool)>;

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
}

/// What the journal holds when the daemon starts.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// What had ended by then is history; `None` before the first start is over.
    pub begun: Option<Timestamp>,
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
    /// No event is of a job with a higher number.
    pub highest_job: i64,
    /// When the first event that is kept was noticed.
    pub history_since: Option<Timestamp>,
}
