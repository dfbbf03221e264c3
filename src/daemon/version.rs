//! What there is of a job's file, as the engine takes it.

use crate::engine::input::{Stamp, Version};
use crate::ganeti::job::Job;
use crate::world::queue::read::JOB_SIZE_LIMIT;
use crate::world::regular_file::ReadError;
use crate::world::shortage::explain;

/// What a large file was when it was read.
#[derive(Debug)]
pub enum LargeVersion {
    /// A job.
    Job(Box<Job<'static>>, Option<Stamp>),
    /// Something else.
    Other(Version<'static>),
}

impl LargeVersion {
    /// The version as the engine takes it.
    pub fn as_version(&self) -> Version<'_> {
        match self {
            Self::Job(job, stamp) => Version::Queued(job, *stamp),
            Self::Other(Version::Large(size)) => Version::Large(*size),
            Self::Other(Version::Bad(what, stamp)) => Version::Bad(what.clone(), *stamp),
            Self::Other(Version::Failed(what)) => Version::Failed(what.clone()),
            Self::Other(_) => Version::Gone,
        }
    }
}

/// What is to be said of a file in the queue that is there and was not read.
pub fn unreadable(error: &ReadError, stamp: impl FnOnce() -> Option<Stamp>) -> Version<'static> {
    match error {
        ReadError::Io(error) => Version::Failed(format!("cannot be read: {}", explain(error))),
        ReadError::TooLarge { size: size @ ..=JOB_SIZE_LIMIT, .. } => Version::Large(*size),
        ReadError::TooLarge { size, .. } => {
            let error = ReadError::TooLarge { size: *size, limit: JOB_SIZE_LIMIT };
            Version::Bad(error.to_string(), stamp())
        }
        error => Version::Bad(error.to_string(), stamp()),
    }
}
