//! What the other threads tell the daemon.

use super::version::LargeVersion;
use crate::engine::effect::Token;
use crate::engine::input::Stamp;
use crate::engine::outcome::Outcome;
use crate::engine::plan::Plan;
use crate::ganeti::job::JobId;
use crate::world::api::Question;
use crate::world::process::kernel_stop::KernelStop;

/// A message to the daemon.
#[derive(Debug)]
pub enum Message {
    /// The file of this job changed, came or went.
    Job(JobId),
    /// Changes were missed.
    Overflow,
    /// A watched directory was removed or replaced.
    WatchLost,
    /// Something was mounted or unmounted.
    Mounts,
    /// The cluster's files changed.
    Cluster,
    /// The system has been given another name.
    NameChanged,
    /// This node's name, as the system tells it now.
    Named(String),
    /// A process has ended.
    Exited(Token),
    /// The guard has ended.
    GuardEnded,
    /// Whether the kernel can stop processes, or why not.
    KernelStop(Result<Box<KernelStop>, String>),
    /// A scan has found files.
    Listed {
        /// The scan's number.
        scan: u64,
        /// Their jobs, and what tells their versions apart.
        files: Vec<(JobId, Option<Stamp>)>,
    },
    /// A scan is over.
    ScanEnded {
        /// The scan's number.
        scan: u64,
        /// The last job number that was given out, or why there is no end of the list.
        result: Result<Option<i64>, String>,
    },
    /// A large job file has been read.
    LargeRead {
        /// The reading's number.
        reading: u64,
        /// The job.
        id: JobId,
        /// What was there.
        version: LargeVersion,
    },
    /// A run has ended.
    RunEnded {
        /// The run's number.
        run: i64,
        /// The event it was for.
        seq: i64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A node has run the hooks of an event, or has not.
    NodeEnded {
        /// The run's number.
        run: i64,
        /// The event it was for.
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
        /// The event it was for.
        seq: i64,
        /// What could not begin, and why.
        error: String,
    },
    /// What the scripts of an event are given, and where they run.
    Planned {
        /// The event.
        seq: i64,
        /// Its plan.
        plan: Plan,
        /// What an operator must see to.
        problem: Option<String>,
    },
    /// So many bytes wait in the journal's log; said when they are many, and when no longer.
    JournalLog(u64),
    /// Somebody asks something.
    Asked(Question),
    /// Read the configuration again.
    Reload,
    /// End.
    Stop,
}
