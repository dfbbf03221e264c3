//! Reading job files.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use crate::engine::input::Stamp;
use crate::ganeti::job::JobId;
use crate::world::regular_file::{ReadError, read_into};
use crate::world::unchanged::{Identity, stamp};

/// The largest job file that is read, in bytes.
pub const JOB_SIZE_LIMIT: u64 = 256 * 1024 * 1024;

/// A buffer that grew beyond this for a large file is given back after it.
const BUFFER_KEEP: usize = 1024 * 1024;

/// A version of a job file.
#[derive(Clone, Copy, Debug)]
pub struct FileVersion<'a> {
    /// Its content.
    pub bytes: &'a [u8],
    /// What tells it from others.
    pub stamp: Option<Stamp>,
}

/// Reads job files into one buffer.
#[derive(Debug, Default)]
pub struct JobReader {
    queue_dir: PathBuf,
    buffer: Vec<u8>,
    /// What was read last of the queue.
    last: Option<(JobId, Identity)>,
}

impl JobReader {
    /// A reader of the jobs of this queue.
    pub fn new(queue_dir: &Path) -> Self {
        Self { queue_dir: queue_dir.to_owned(), buffer: Vec::new(), last: None }
    }

    /// The content of the file of a job in the queue, of at most `limit` bytes; `None` when
    /// it is not there.
    ///
    /// # Errors
    /// When the file is not one to read; [`ReadError::TooLarge`] before anything is read.
    pub fn queued(&mut self, id: JobId, limit: u64) -> Result<Option<&[u8]>, ReadError> {
        Ok(self.version(id, limit)?.map(|version| version.bytes))
    }

    /// The same, and what tells this version from others.
    ///
    /// # Errors
    /// As [`JobReader::queued`].
    pub fn version(&mut self, id: JobId, limit: u64) -> Result<Option<FileVersion<'_>>, ReadError> {
        self.last = None;
        let metadata = self.read(&self.queue_dir.join(id.file_name()), limit)?;
        self.last = metadata.as_ref().map(|metadata| (id, Identity::of(metadata)));
        Ok(metadata.map(|metadata| FileVersion { bytes: &self.buffer, stamp: stamp(&metadata) }))
    }

    /// Whether the file of a job in the queue is the one that was read last, not a later version.
    /// Each version is a file of its own beside the one before it, so that also those of the same
    /// moment differ.
    pub fn is_as_read(&self, id: JobId) -> bool {
        let metadata = self.queue_dir.join(id.file_name()).symlink_metadata();
        metadata.is_ok_and(|metadata| self.last == Some((id, Identity::of(&metadata))))
    }

    /// The content of the file of a job in the archive, of at most `limit` bytes; `None` when it
    /// is not there.
    ///
    /// # Errors
    /// As [`JobReader::queued`].
    pub fn archived(&mut self, id: JobId, limit: u64) -> Result<Option<&[u8]>, ReadError> {
        let metadata = self.read(&self.queue_dir.join(id.archive_path()), limit)?;
        Ok(metadata.map(|_| self.buffer.as_slice()))
    }

    /// What tells a file in the queue that is not one to read from others in its place.
    pub fn stamp_of(&self, id: JobId) -> Option<Stamp> {
        stamp(&self.queue_dir.join(id.file_name()).symlink_metadata().ok()?)
    }

    /// Gives back the memory that a large file took.
    pub fn give_back(&mut self) {
        if self.buffer.capacity() > BUFFER_KEEP {
            self.buffer = Vec::new();
        }
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Option<Metadata>, ReadError> {
        self.give_back();
        self.buffer.clear();
        read_into(path, limit, &mut self.buffer)
    }
}
