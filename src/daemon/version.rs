//! What there is of a job's file, as the engine takes it.

use std::sync::Once;

use crate::engine::input::{Stamp, Version};
use crate::ganeti::job::{self, Job, JobId};
use crate::world::queue::read::{FileVersion, JOB_SIZE_LIMIT, JobReader};
use crate::world::regular_file::ReadError;
use crate::world::shortage::explain;

/// What a job's file was when it was read.
#[derive(Debug)]
pub enum Found<'a> {
    /// A job in the queue.
    Queued(Job<'a>, Option<Stamp>),
    /// One in the archive.
    Archived(Job<'a>),
    /// Something else.
    Other(Version<'static>),
}

impl Found<'_> {
    /// The version as the engine takes it.
    pub fn as_version(&self) -> Version<'_> {
        match self {
            Self::Queued(job, stamp) => Version::Queued(job, *stamp),
            Self::Archived(job) => Version::Archived(job),
            Self::Other(Version::Large(size)) => Version::Large(*size),
            Self::Other(Version::Bad(what, stamp)) => Version::Bad(what.clone(), *stamp),
            Self::Other(Version::Failed(what)) => Version::Failed(what.clone()),
            Self::Other(_) => Version::Gone,
        }
    }

    /// The same, independent of the bytes it was read from.
    pub fn into_owned(self) -> Found<'static> {
        match self {
            Self::Queued(job, stamp) => Found::Queued(job.into_owned(), stamp),
            Self::Archived(job) => Found::Archived(job.into_owned()),
            Self::Other(version) => Found::Other(version),
        }
    }
}

/// Tells what there is of a job: its file in the queue, else, with `archive`, the one in the
/// archive, if that has at most `limit` bytes.
pub fn find<R>(
    reader: &mut JobReader,
    id: JobId,
    limit: u64,
    archive: bool,
    tell: impl FnOnce(Found<'_>) -> R,
) -> R {
    match reader.version(id, limit.min(JOB_SIZE_LIMIT)) {
        Ok(Some(FileVersion { bytes, stamp })) => tell(match job::parse(id, bytes) {
            Ok(job) => {
                if job.ops.is_empty() && job::is_old(id, bytes) {
                    say_old(id);
                }
                Found::Queued(job, stamp)
            }
            Err(error) => Found::Other(Version::Bad(error.to_string(), stamp)),
        }),
        Ok(None) if archive => find_archived(reader, id, limit.min(JOB_SIZE_LIMIT), tell),
        Ok(None) => tell(Found::Other(Version::Gone)),
        Err(error) => tell(Found::Other(unreadable(&error, || reader.stamp_of(id)))),
    }
}

fn find_archived<R>(reader: &mut JobReader, id: JobId, limit: u64, tell: impl FnOnce(Found<'_>) -> R) -> R {
    tell(match reader.archived(id, limit) {
        Ok(Some(bytes)) => match job::parse(id, bytes) {
            Ok(job) => Found::Archived(job),
            Err(error) => Found::Other(Version::Bad(error.to_string(), None)),
        },
        Ok(None) => Found::Other(Version::Gone),
        Err(error) => Found::Other(unreadable_in_archive(&error)),
    })
}

/// Says once that there are old jobs.
fn say_old(id: JobId) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        log::info!("{} is a job of a Ganeti before 2.7: it and all of its kind are history", id.file_name());
    });
}

/// What is to be said of a file in the queue that is there and was not read.
fn unreadable(error: &ReadError, stamp: impl FnOnce() -> Option<Stamp>) -> Version<'static> {
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

/// The same of a file in the archive.
fn unreadable_in_archive(error: &ReadError) -> Version<'static> {
    match unreadable(error, || None) {
        Version::Bad(what, _) => Version::Bad(format!("(archived) {what}"), None),
        Version::Failed(what) => Version::Failed(format!("(archived) {what}")),
        version => version,
    }
}
