//! Where a report goes: standard output, or a file that is whole or not there.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::cli::new_file::NewFile;
use crate::cli::terminal::Terminal;
use crate::cli::{Failure, failed};

/// Standard output, or a file under another name.
pub struct Output {
    file: Option<NewFile>,
    size: u64,
}

impl Output {
    /// Makes ready to write this file; without one, standard output.
    ///
    /// # Errors
    /// When there is something in its place that is no file, or nothing can be made there.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self { file: None, size: 0 }) };
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(failed(format!("{} is there and no regular file; name another one", path.display())));
        }
        Ok(Self { file: Some(NewFile::begin(path)?), size: 0 })
    }

    /// What may be printed there.
    pub fn terminal(&self) -> Terminal {
        if self.file.is_some() { Terminal::none() } else { Terminal::of_output() }
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts the file in its place, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be written or put there; then nothing has changed there.
    pub fn done(self) -> Result<(), Failure> {
        self.file.map_or(Ok(()), |file| file.put_on_disk(0o600))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.file {
            Some(file) => file.write(bytes)?,
            None => io::stdout().write(bytes)?,
        };
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.flush(),
            None => io::stdout().flush(),
        }
    }
}
