//! Job files: what Ganeti writes into its job queue, and what of it matters here.
//!
//! A job file is read into a [`Job`] that borrows from the file's bytes. Logs,
//! results and opcode parameters are skipped, not built: [`op_input`] reads one
//! opcode's parameters when a hook needs them.

mod name;
mod old;
mod parse;

pub use name::{ARCHIVE_DIR, JobId, SERIAL_FILE};
pub use old::is_old;
pub use parse::{InputReading, OpInput, ParseError, op_input, parse};

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in time as Ganeti stores it: seconds since the epoch and microseconds.
///
/// Ganeti: `utils.SplitTime`, a list of two integers in the job file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(from = "(i64, i64)", into = "(i64, i64)")]
pub struct Timestamp {
    /// Microseconds since the epoch.
    micros: i64,
}

impl Timestamp {
    /// The point in time `micros` microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self { micros }
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.micros
    }

    /// Seconds since the epoch, as recordings and `--json` output show it.
    pub fn as_secs_f64(self) -> f64 {
        self.micros as f64 / 1e6
    }

    /// The point in time `secs` seconds after the epoch, to the microsecond.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self::from_micros((secs * 1e6).round() as i64)
    }
}

impl From<(i64, i64)> for Timestamp {
    fn from((secs, micros): (i64, i64)) -> Self {
        Self::from_micros(secs.saturating_mul(1_000_000).saturating_add(micros))
    }
}

impl From<Timestamp> for (i64, i64) {
    fn from(t: Timestamp) -> Self {
        (t.micros.div_euclid(1_000_000), t.micros.rem_euclid(1_000_000))
    }
}

/// An opcode's status (Ganeti: `constants.OP_STATUS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Submitted, not started.
    Queued,
    /// Started; waits for locks.
    Waiting,
    /// Canceled while it waited; the job process has not noticed yet.
    Canceling,
    /// Has its locks; checks prerequisites and executes.
    Running,
    /// Final: canceled before it executed.
    Canceled,
    /// Final: ended well.
    Success,
    /// Final: failed, or an earlier opcode of the job failed, or the job died.
    Error,
}

impl Status {
    /// Ganeti's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Canceling => "canceling",
            Self::Running => "running",
            Self::Canceled => "canceled",
            Self::Success => "success",
            Self::Error => "error",
        }
    }

    /// Whether the opcode will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Canceled | Self::Success | Self::Error)
    }
}

/// What the file says of an opcode, as JSON that nobody has read; empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpText<'a> {
    /// Its parameters.
    pub input: Cow<'a, str>,
    /// Its reason trail, which is one of them.
    pub reason: Cow<'a, str>,
    /// Its result, if it has ended without success.
    pub result: Cow<'a, str>,
}

impl OpText<'_> {
    /// The same, independent of the bytes it was read from; what is larger than that is left out.
    fn into_owned(self) -> OpText<'static> {
        const EACH_MAX: usize = 1024 * 1024;
        let own = |text: Cow<'_, str>| match text.len() {
            0..=EACH_MAX => Cow::Owned(text.into_owned()),
            _ => Cow::default(),
        };
        OpText { input: own(self.input), reason: own(self.reason), result: own(self.result) }
    }
}

/// One opcode of a job, without its log.
#[derive(Clone, Debug, PartialEq)]
pub struct Opcode<'a> {
    /// The opcode's type, e.g. `OP_TEST_DELAY`.
    pub code: Cow<'a, str>,
    /// Where the opcode stands.
    pub status: Status,
    /// When it began to wait for locks; stays once set.
    pub started: Option<Timestamp>,
    /// When it began to execute; a retry sets it anew.
    pub executed: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// luxid found the job process dead and wrote so (the end of the reason trail).
    pub death_detected: bool,
    /// What else the file says of it.
    pub text: OpText<'a>,
}

/// A job as one version of its file tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Job<'a> {
    /// The job's number.
    pub id: JobId,
    /// When luxid received the job; with the id it identifies the job, since
    /// numbers begin again when a cluster is re-created.
    pub received: Timestamp,
    /// The path of the livelock file of whoever runs the job at the moment.
    pub livelock: Option<Cow<'a, str>>,
    /// The job process, once it has taken the job over from luxid.
    pub process_id: Option<u32>,
    /// When the job's first opcode started.
    pub started: Option<Timestamp>,
    /// The job's opcodes, in the order they run.
    pub ops: Vec<Opcode<'a>>,
}

impl Job<'_> {
    /// Whether every opcode has ended.
    pub fn is_final(&self) -> bool {
        self.ops.iter().all(|op| op.status.is_final())
    }

    /// The index of the last opcode that has started.
    pub fn last_started(&self) -> Option<usize> {
        self.ops.iter().rposition(|op| op.started.is_some())
    }

    /// The job process, once the job file names one.
    pub fn process(&self) -> Option<ProcessRef> {
        Some(ProcessRef {
            pid: self.process_id?,
            livelock: self.livelock.as_deref()?.to_owned(),
            started: self.started,
        })
    }

    /// The same job, independent of the bytes it was read from.
    pub fn into_owned(self) -> Job<'static> {
        Job {
            livelock: self.livelock.map(|l| Cow::Owned(l.into_owned())),
            ops: self
                .ops
                .into_iter()
                .map(|op| Opcode { code: Cow::Owned(op.code.into_owned()), text: op.text.into_owned(), ..op })
                .collect(),
            id: self.id,
            received: self.received,
            process_id: self.process_id,
            started: self.started,
        }
    }
}

/// The job process that a job file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRef {
    /// The process's ID on the node that was master when it started.
    pub pid: u32,
    /// The path of its livelock file.
    pub livelock: String,
    /// When the job started, as the process wrote it.
    pub started: Option<Timestamp>,
}

/// Whether the process that runs a job is there (design, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The process is there and holds the job's livelock.
    Alive,
    /// The process is gone.
    Dead,
    /// Nothing is known for certain; never treated as dead.
    Unknown,
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        })
    }
}
