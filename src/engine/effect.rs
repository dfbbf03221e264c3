//! Effects: what is to be done. The engine returns them, others do them, in order; what an
//! effect brings comes back as an [`Input`](super::input::Input).

use core::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::change::Change;
use super::directories::HooksPath;
use super::environment::Environment;
use super::outbox_progress::Assignment;
use super::topic::Topic;
use crate::ganeti::event::{Event, Phase};
use crate::ganeti::job::{JobId, ProcessRef, Timestamp};
use crate::ganeti::opcodes::View;

/// Stands for one process, for as long as this daemon runs; never for a job, and never for
/// another process. Numbers begin at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One thing that is to be done.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "an effect that is not done is lost"]
pub enum Effect {
    /// Watch the queue and the cluster's files. Brings `Input::Watched`.
    Watch,
    /// List the files of the queue, on a thread of its own. Brings `Input::Listed` for each
    /// piece, and then `Input::ScanEnded`.
    Scan {
        /// The scan's number.
        scan: u64,
    },
    /// Read the file of a job. Brings `Input::Version`.
    Read {
        /// The job.
        id: JobId,
        /// A larger file is not read: `Version::Large`. Bytes.
        limit: u64,
        /// Where it is not in the queue, look in the archive.
        archive: bool,
    },
    /// Read a large file, in the queue or else in the archive, on a thread of its own. Brings
    /// `Input::LargeRead`.
    ReadLarge {
        /// The reading's number.
        reading: u64,
        /// The job.
        id: JobId,
    },
    /// Read the last job number that was given out. Brings `Input::Serial`.
    ReadSerial,
    /// Look in the history how far a job was told. Brings `Input::Recalled`.
    Recall {
        /// The job.
        id: JobId,
        /// When luxid received it.
        received: Timestamp,
    },
    /// Ask who is master. Brings `Input::Master`.
    AskMaster,
    /// Read which cluster this is. Brings `Input::Cluster`.
    AskCluster,
    /// Count the nodes that are online. Brings `Input::OnlineNodes`.
    CountNodes,
    /// Look which directories of global hooks have a pre hook that would run. Brings
    /// `Input::PreHooks`.
    LookForPreHooks,
    /// Start a guard. Brings `Input::GuardStarted`.
    StartGuard,

    /// Look for a process, and watch it if it is alive. Brings `Input::Found`.
    Find {
        /// What the process is to be called.
        token: Token,
        /// The process as its job names it.
        process: ProcessRef,
    },
    /// Watch this process no longer.
    Unwatch(Token),
    /// Find out whether the kernel can stop processes in the rename. Brings
    /// `Input::KernelStop`.
    LoadKernelStop,
    /// Have ready in the kernel what arming takes: a job is about to begin.
    Attach,
    /// Nobody is armed, and has not been for a while: take it away.
    Detach,
    /// From now on the kernel is to stop this process in the rename by which it publishes the
    /// next version of its job. If it was stopped so by an earlier arming, it goes on. Brings
    /// `Input::Armed`.
    Arm {
        /// The process.
        token: Token,
        /// Its job, for the guard.
        job: JobId,
    },
    /// The kernel is not to stop this process any more. If it has, it goes on.
    Disarm {
        /// The process.
        token: Token,
        /// Its job, for the guard.
        job: JobId,
    },
    /// Stop a process that is watched, for this long at most: verify it, tell the guard,
    /// write it down, send the signal; or take it over from the kernel, which has stopped it.
    /// It is not armed any more. Brings `Input::Stopped`.
    Stop {
        /// The process.
        token: Token,
        /// Its job, for the guard.
        job: JobId,
        /// The longest that it may stand still.
        limit: Duration,
        /// When its opcode began to execute.
        executed: Timestamp,
        /// By a signal if the kernel has not stopped it; its opcode has just begun.
        by_signal: bool,
    },
    /// A process that stands still may do so only until this much later.
    Shorten {
        /// The process.
        token: Token,
        /// From now on.
        limit: Duration,
    },
    /// Let a process that we stopped go on.
    Continue {
        /// The process.
        token: Token,
        /// Its job.
        job: JobId,
    },

    /// Write all of this to the journal, or nothing. Brings `Input::Committed`.
    Commit(Arc<Vec<Change>>),
    /// The journal is damaged: write a new one that holds this, and put it in the place of
    /// the old one. Brings `Input::Committed`.
    WriteAnew(Arc<Vec<Change>>),

    /// Work out what an event's scripts are given, and where they run. Brings
    /// `Input::Planned`.
    Plan(PlanRequest),
    /// Look for this node's scripts of a phase, and ask for what all hooks are told of the
    /// cluster. Brings `Input::Prepared`.
    Prepare {
        /// The event.
        seq: i64,
        /// Its phase.
        phase: Phase,
        /// Where to look, in the order the scripts run.
        paths: Vec<HooksPath>,
    },
    /// Run a script of this node. Brings `Input::RunEnded` or `Input::Postponed`.
    Start(ScriptRun),
    /// Have a node daemon run its node's scripts. Brings `Input::NodeEnded` or
    /// `Input::Postponed`.
    Ask(NodeRun),
    /// End the scripts that still run: the daemon stops.
    EndRuns,

    /// A job's process is dead: tell Ganeti, which notices by itself after minutes. Brings
    /// `Input::GanetiTold`.
    TellGaneti(Death),
    /// Have the history sent by these outboxes, and by no others; or by none for now.
    Outboxes {
        /// They, and how far they are.
        outboxes: Vec<Assignment>,
        /// This node is master: they send.
        sends: bool,
    },

    /// Tell who asked for a rerun whether there is one.
    AnswerRerun {
        /// What the asking is called.
        asked: u64,
        /// Why not.
        result: Result<(), NoRerun>,
    },

    /// The feed has something new, or is another one; whoever waits for that may look.
    Announce,
    /// The job brings no more events; whoever waits for its end may look.
    JobEnded(JobId),
    /// Read from the history what figures go on from, beside the work. Brings
    /// `Input::Recollected`.
    Recollect,
    /// Everything that was there has been looked at as far as a start has to wait for it.
    Ready,
    /// What the daemon does, in one line, for whoever supervises it.
    Summary(String),
    /// A line for the log, and what it is about.
    Log(Level, String, Topic),
}

/// Why an event's scripts do not run again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRerun {
    /// There is no such event.
    #[error("there is no such event in the history")]
    Unknown,
    /// This is in the way.
    #[error("{0}")]
    No(String),
}

/// An event to plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRequest {
    /// The event's number.
    pub seq: i64,
    /// The event.
    pub event: Event,
    /// What its scripts were given in an earlier life: that does not change.
    pub given: Option<View>,
    /// A job stands still for it: it comes before those for which none does.
    pub urgent: bool,
}

/// The end of a job's process, which was watched and has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Death {
    /// The post that tells of it, if there is one.
    pub seq: Option<i64>,
    /// The job.
    pub job: JobId,
    /// When luxid received it.
    pub received: Timestamp,
    /// The process.
    pub process: ProcessRef,
}

/// A script to run.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptRun {
    /// The run's number.
    pub run: i64,
    /// The event's number.
    pub seq: i64,
    /// The hooks path that it is of.
    pub path: HooksPath,
    /// The script.
    pub script: PathBuf,
    /// All that it gets.
    pub env: Environment,
    /// Its time limit.
    pub timeout: Duration,
    /// Bytes of output that are kept.
    pub output: usize,
    /// It says that it is in time, so it begins only if this process stands still where it
    /// published its opcode; else `Input::GoneOn`.
    pub while_stopped: Option<Token>,
}

/// A request to a node daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRun {
    /// The run's number.
    pub run: i64,
    /// The event's number.
    pub seq: i64,
    /// Where the node daemon listens.
    pub address: SocketAddr,
    /// What it is asked for.
    pub path: HooksPath,
    /// Before or after the opcode.
    pub phase: Phase,
    /// What the node's scripts get.
    pub env: Environment,
    /// Its time limit.
    pub timeout: Duration,
    /// Bytes of each script's output that are kept.
    pub output: usize,
    /// As for a script.
    pub while_stopped: Option<Token>,
}

/// How much a line of the log matters (syslog(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Somebody must see to it.
    Error,
    /// Somebody should know.
    Warning,
    /// What happened.
    Info,
    /// For whoever looks for a fault.
    Debug,
}
