//! What there is of a job's file, as the engine takes it.

use crate::engine::input::{Stamp, Version};
use crate::ganeti::job::Job;
use crate::world::queue::read::JOB_SIZE_LIMIT;
use crate::world::regular_file::ReadError;
use crate::world::shortage::explain;

/// What a large file was when it was read.
#[derive(Debug)]
pub enum LargeVersion {
    /// A job in the queue.
    Job(Box<Job<'static>>, Option<Stamp>),
    /// One in the archive.
    Archived(Box<Job<'static>>),
    /// Something else.
    Other(Version<'static>),
}

impl LargeVersion {
    /// The version as the engine takes it.
    pub fn as_version(&self) -> Version<'_> {
        match self {
            Self::Job(job, stamp) => Version::Queued(job, *stamp),
            Self::Archived(job) => Version::Archived(job),
            Self::Other(Version::Large(size)) => Version::Large(*size),
            Self::Other(Version::Bad(what, stamp)) => Version::Bad(what.clone(), *stamp),
            Self::Other(Version::Failed(what)) => Version::Failed(what.clone()),
            Self::Other(_) => Version::Gone,
        }
    }
}

/// The same of a file in the archive.
pub fn unreadable_in_archive(error: &ReadError) -> Version<'static> {
    match unreadable(error, || None) {
        Version::Bad(what, _) => Version::Bad(format!("(archived) {what}"), None),
        Version::Failed(what) => Version::Failed(format!("(archived) {what}")),
        version => version,
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
