//! What the other threads tell the owner of the state.

use super::large::Content;
use super::planner::Plan;
use super::workers::Work;
use crate::engine::outcome::Outcome;
use crate::ganeti::job::JobId;
use crate::world::api::Question;

/// A message to the owner of the state.
#[derive(Debug)]
pub enum Message {
    /// The file of this job changed, came or went.
    Job(JobId),
    /// Changes were missed: compare everything.
    Overflow,
    /// A watched directory was removed or replaced.
    WatchLost,
    /// Something was mounted or unmounted.
    Mounts,
    /// The master's name may have changed.
    Cluster,
    /// The job's process has ended.
    Exited(JobId),
    /// The guard has ended.
    GuardEnded,
    /// A run has ended.
    RunEnded {
        /// The run's number.
        run: i64,
        /// The event it was for.
        seq: i64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A run could not begin, and why: for want of something that may come back.
    Postponed(Work, String),
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
    /// A large job file has been read.
    LargeRead {
        /// The request's number.
        number: u64,
        /// The job.
        id: JobId,
        /// What the file holds.
        content: Content,
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
    /// Somebody asks something.
    Asked(Question),
    /// Read the configuration again.
    Reload,
    /// End.
    Stop,
}
