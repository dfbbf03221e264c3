//! Inputs: what happened. Each is taken by [`Engine::take`](super::Engine::take), one after
//! the other, in the order in which it happened as far as anybody knows that.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::change::{EventState, Rerun, Undelivered};
use super::directories::HooksPath;
use super::effect::Token;
use super::environment::ClusterFacts;
use super::outbox_progress::Report;
use super::outcome::Outcome;
use super::plan::Plan;
use super::settings::Settings;
use super::transitions::Progress;
use crate::ganeti::job::{Job, JobId, Timestamp};

/// What tells a cluster from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterId {
    /// Its UUID: another one after it was made again.
    pub uuid: Arc<str>,
    /// Its name.
    pub name: String,
}

/// What time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// By the system's clock, which people and NTP may set.
    pub time: Timestamp,
    /// By a clock that nobody sets; since when is nobody's business.
    pub steady: Duration,
}

/// One thing that happened, or what an effect brought.
#[derive(Debug)]
pub enum Input<'a> {
    /// The file of this job changed, came or went.
    Hint(JobId),
    /// Hints were lost.
    Overflow,
    /// A watched directory was removed, replaced or unmounted.
    WatchLost,
    /// Whether the queue and the cluster's files are watched now, or why not.
    Watched(Result<(), String>),
    /// Files that a scan has found.
    Listed {
        /// The scan's number.
        scan: u64,
        /// Their jobs, and what tells their versions apart.
        files: Vec<(JobId, Option<Stamp>)>,
    },
    /// A scan is over: the last job number that was given out, if there is one; or why the
    /// queue could not be listed to its end.
    ScanEnded {
        /// The scan's number.
        scan: u64,
        /// What it found besides.
        result: Result<Option<i64>, String>,
    },
    /// The last job number that was given out, if that is known.
    Serial(Option<i64>),
    /// The file of a job as it is now.
    Version {
        /// The job.
        id: JobId,
        /// What is there.
        version: Version<'a>,
    },
    /// A large file as it was when it was read.
    LargeRead {
        /// The reading's number.
        reading: u64,
        /// The job.
        id: JobId,
        /// What was there.
        version: Version<'a>,
    },
    /// How far the history tells a job; `None` when it knows nothing of it.
    Recalled {
        /// The job.
        id: JobId,
        /// When luxid received it.
        received: Timestamp,
        /// How far, or why that cannot be read.
        told: Result<Option<Progress>, String>,
    },

    /// Whether a process is there.
    Found {
        /// What it is called.
        token: Token,
        /// Whether it is there.
        presence: Presence,
    },
    /// A process that was watched has ended.
    Exited(Token),
    /// Ganeti was told of a death, or knew already (`false`), or why it was not.
    GanetiTold {
        /// The post that tells of it, if there is one.
        seq: Option<i64>,
        /// The job.
        job: JobId,
        /// What came of it.
        result: Result<bool, String>,
    },
    /// A process was told to stop, and where it was; or why it was not.
    Stopped {
        /// The process.
        token: Token,
        /// Its job.
        job: JobId,
        /// Where it was.
        result: Result<Landing, String>,
    },
    /// Whether the kernel can stop processes in the rename, by which means; or why not.
    KernelStop(Result<String, String>),
    /// Whether a process is armed now, or why not.
    Armed {
        /// The process.
        token: Token,
        /// Why it is not.
        result: Result<(), String>,
    },
    /// A run was to begin while a process stands still, and that does not stand still any
    /// more: it has not begun.
    GoneOn {
        /// The run's number.
        run: i64,
        /// The event's.
        seq: i64,
    },
    /// Whether there is a guard now, or why not.
    GuardStarted(Result<(), String>),
    /// The guard has ended, and has let everything go.
    GuardEnded,

    /// Whether the journal holds what it was given last.
    Committed(Result<Written, CommitError>),
    /// So many bytes wait in the journal's log to be moved to where they belong.
    JournalLog(u64),

    /// What the scripts of an event are given, and where they run.
    Planned {
        /// The event.
        seq: i64,
        /// Its plan.
        plan: Plan,
        /// What an operator must see to.
        problem: Option<String>,
    },
    /// This node's scripts for an event, and what all hooks are told of the cluster.
    Prepared {
        /// The event.
        seq: i64,
        /// The scripts in the order they run, or what is short that may come back.
        scripts: Result<Vec<Script>, String>,
        /// What is known of the cluster; the master is the engine's to add.
        facts: ClusterFacts,
    },
    /// A script has ended.
    RunEnded {
        /// The run's number.
        run: i64,
        /// The event's.
        seq: i64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A node has run its scripts, or has not.
    NodeEnded {
        /// The run's number.
        run: i64,
        /// The event's.
        seq: i64,
        /// How the request ended.
        outcome: Outcome,
        /// How each of the node's scripts ended.
        scripts: Vec<(String, Outcome)>,
    },
    /// A run could not begin for want of something that may come back.
    Postponed {
        /// The run's number.
        run: i64,
        /// The event's.
        seq: i64,
        /// What could not begin, and why.
        error: String,
    },

    /// Somebody wants an event's scripts to run again. Brings `Effect::AnswerRerun`.
    Rerun {
        /// What the asking is called.
        asked: u64,
        /// The event as the journal has it, if it has it, or why that cannot be read.
        found: Result<Option<Box<Recorded>>, String>,
        /// What is to run again.
        rerun: Rerun,
        /// The names of this node's scripts for it.
        scripts: Vec<String>,
    },

    /// The cluster's files changed.
    ClusterChanged,
    /// There is no queue: whatever comes into it is not from before this start.
    NoQueue,
    /// This node's name is this one.
    Named(String),
    /// Who is master; `None` when this node belongs to no cluster, or why that is not known.
    Master(Result<Option<String>, String>),
    /// The cluster as its configuration tells it, if it can be read.
    Cluster(Option<ClusterId>),
    /// How many nodes are not marked offline.
    OnlineNodes(usize),
    /// What the history tells of the time before this start.
    Recollected(Past),
    /// The hooks paths that have a pre hook that would run.
    PreHooks(BTreeSet<HooksPath>),
    /// The configuration was read again, with this node's name; or why it stays as it was.
    Reloaded(Result<(Box<Settings>, String), String>),
    /// Whether all can ask the daemon who are to, or why not.
    Api(Result<(), String>),
    /// An outbox says how far it is.
    Outbox {
        /// Its name.
        name: String,
        /// What it says.
        report: Box<Report>,
    },
    /// A thread has panicked: which, where, and what it said.
    Panicked(String),
    /// Nothing else has happened, as far as is known: time to do what follows.
    Quiet,
    /// End.
    Stop,
}

/// What was found of a job's file.
#[derive(Debug)]
pub enum Version<'a> {
    /// In the queue, and what tells this version from others.
    Queued(&'a Job<'a>, Option<Stamp>),
    /// In the archive.
    Archived(&'a Job<'a>),
    /// Not in the queue, and not in the archive if that was to be looked at.
    Gone,
    /// Larger than it may be, in bytes.
    Large(u64),
    /// There, and no good, and what tells this version from others.
    Bad(String, Option<Stamp>),
    /// It cannot be read now.
    Failed(String),
}

/// What tells a version of a file from others. There is none for a version that is younger
/// than the file system's clock is coarse: it could not be told from the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The file's inode; another file was put into its place by rename.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed last (ctime), in nanoseconds since the epoch.
    pub changed: i64,
}

/// Whether a process is there (design, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is, and its end will be told.
    Alive,
    /// It has ended.
    Dead,
    /// That cannot be told, and why.
    Unknown(String),
    /// It cannot be told or watched for want of something; ask again.
    Shortage(String),
}

/// Where a job process was when it was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// In the rename that published `running`: the kernel stopped it there, as it does all that
    /// are armed.
    Exact,
    /// In the rename, too, but by chance: the signal came early enough.
    Early,
    /// It had got further: whoever it talks to may run out of patience with it.
    Late,
}

impl Landing {
    /// Whether it stands where it published `running`.
    pub fn is_in_time(self) -> bool {
        self != Self::Late
    }
}

/// What the history tells of the time before a start, as far as figures go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Types of opcodes that there were, and when one of each ended well last.
    pub successes: Vec<(String, Option<Timestamp>)>,
    /// When the last event was noticed.
    pub last_event: Option<Timestamp>,
}

/// What a commit tells besides that all is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// There is more that `Change::Prune` would forget.
    pub more_to_prune: bool,
    /// When the last of the events was noticed that were forgotten.
    pub forgotten: Option<Timestamp>,
}

/// Why nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitError {
    /// What the journal says.
    pub text: String,
    /// The journal's file is damaged.
    pub damaged: bool,
}

/// An event as the journal has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What a delivery needs to know of it.
    pub event: Undelivered,
    /// What has become of it.
    pub state: EventState,
    /// How many runs it has had.
    pub runs: u32,
    /// The highest number that a run of it has.
    pub last_run: i64,
}

/// One script of a hooks directory; or a directory that must not be used, which is a script of
/// its name that must not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The hooks path that it is of.
    pub hooks: HooksPath,
    /// Its name in the directory.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Why it must not run, if so.
    pub refusal: Option<String>,
}
