//! What is in the queue directory right now.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use crate::engine::input::Stamp;
use crate::ganeti::job::{JobId, SERIAL_FILE};
use crate::world::regular_file::{self, ReadError};
use crate::world::unchanged::stamp;

/// The numbers of the jobs in the queue. The archive is not walked.
///
/// # Errors
/// When the directory cannot be read to its end.
pub fn jobs(queue_dir: &Path) -> Result<Vec<JobId>, walkdir::Error> {
    entries(queue_dir).map(|entry| entry.map(|(id, _)| id)).collect()
}

/// The jobs in the queue, one after the other as the directory has them, and what tells the
/// versions of their files apart. The archive is not walked. An error is the last item.
pub fn files(queue_dir: &Path) -> impl Iterator<Item = Result<(JobId, Option<Stamp>), walkdir::Error>> {
    entries(queue_dir).map(|entry| {
        // What is gone by now has no stamp, and is looked at like everything that has none.
        entry.map(|(id, entry)| (id, entry.metadata().ok().and_then(|metadata| stamp(&metadata))))
    })
}

fn entries(queue_dir: &Path) -> impl Iterator<Item = Result<(JobId, DirEntry), walkdir::Error>> {
    WalkDir::new(queue_dir).min_depth(1).max_depth(1).into_iter().filter_map(|entry| match entry {
        Ok(entry) => JobId::from_file_name(entry.file_name().as_bytes()).map(|id| Ok((id, entry))),
        Err(error) if is_gone(&error) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Whether an entry, and not the directory itself, went away while it was looked at.
fn is_gone(error: &walkdir::Error) -> bool {
    error.depth() > 0 && error.io_error().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The last job number that was given out (Ganeti: `queue/serial`); `None` when the file
/// is not there or holds no number.
///
/// # Errors
/// When there is something that cannot be read.
pub fn serial(queue_dir: &Path) -> Result<Option<i64>, ReadError> {
    let text = regular_file::read(&queue_dir.join(SERIAL_FILE), 64)?;
    Ok(text
        .and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok())
        .filter(|serial| *serial >= 0))
}
