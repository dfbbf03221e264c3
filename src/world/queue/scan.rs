//! What is in the queue directory right now.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use walkdir::WalkDir;

use crate::ganeti::job::{JobId, SERIAL_FILE};
use crate::world::regular_file::{self, ReadError};

/// The numbers of the jobs in the queue. The archive is not walked.
///
/// # Errors
/// When the directory cannot be read to its end.
pub fn jobs(queue_dir: &Path) -> Result<Vec<JobId>, walkdir::Error> {
    WalkDir::new(queue_dir)
        .min_depth(1)
        .max_depth(1)
        .into_iter()
        .filter_map(|entry| match entry {
            Ok(entry) => JobId::from_file_name(entry.file_name().as_bytes()).map(Ok),
            Err(error)
                if error
                    .io_error()
                    .is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound && error.depth() > 0) =>
            {
                None
            }
            Err(error) => Some(Err(error)),
        })
        .collect()
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
