//! Reading job files.

use std::path::{Path, PathBuf};

use crate::ganeti::job::JobId;
use crate::world::regular_file::{ReadError, read_into};

/// The largest job file that is read, in bytes.
pub const JOB_SIZE_LIMIT: u64 = 256 * 1024 * 1024;

/// A buffer that grew beyond this for a large file is given back after it.
const BUFFER_KEEP: usize = 1024 * 1024;

/// Reads job files into one buffer.
#[derive(Debug, Default)]
pub struct JobReader {
    queue_dir: PathBuf,
    buffer: Vec<u8>,
}

impl JobReader {
    /// A reader of the jobs of this queue.
    pub fn new(queue_dir: &Path) -> Self {
        Self { queue_dir: queue_dir.to_owned(), buffer: Vec::new() }
    }

    /// The content of the file of a job in the queue, of at most `limit` bytes; `None` when
    /// it is not there.
    ///
    /// # Errors
    /// When the file is not one to read; [`ReadError::TooLarge`] before anything is read.
    pub fn queued(&mut self, id: JobId, limit: u64) -> Result<Option<&[u8]>, ReadError> {
        self.read(&self.queue_dir.join(id.file_name()), limit)
    }

    /// The content of the file of a job in the archive; `None` when it is not there.
    ///
    /// # Errors
    /// When the file is not one to read.
    pub fn archived(&mut self, id: JobId) -> Result<Option<&[u8]>, ReadError> {
        self.read(&self.queue_dir.join(id.archive_path()), JOB_SIZE_LIMIT)
    }

    /// Gives back the memory that a large file took.
    pub fn give_back(&mut self) {
        if self.buffer.capacity() > BUFFER_KEEP {
            self.buffer = Vec::new();
        }
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Option<&[u8]>, ReadError> {
        self.give_back();
        self.buffer.clear();
        Ok(read_into(path, limit, &mut self.buffer)?.then_some(self.buffer.as_slice()))
    }
}
