//! What the other threads tell the daemon.

use super::version::Found;
use crate::engine::effect::Token;
use crate::engine::input::Input;
use crate::ganeti::job::JobId;
use crate::world::api::Question;
use crate::world::process::kernel_stop::KernelStop;

/// A message to the daemon.
#[derive(Debug)]
pub enum Message {
    /// What the engine is told as it is.
    Input(Input<'static>),
    /// A watched directory was removed or replaced.
    WatchLost,
    /// Something was mounted or unmounted.
    Mounts,
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
        found: Box<Found<'static>>,
    },
    /// Somebody asks something.
    Asked(Question),
    /// Read the configuration again.
    Reload,
    /// There is more to do, or sooner, than its thread knows.
    Wake,
    /// End.
    Stop,
}
