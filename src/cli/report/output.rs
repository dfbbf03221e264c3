//! Where a report goes: standard output, or a file that is whole or not there.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cli::terminal::Terminal;
use crate::cli::{Failure, failed};

/// Standard output, or a file under another name.
pub struct Output {
    file: Option<(NamedTempFile, PathBuf)>,
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
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // For its owner alone, as the crate makes them.
        let file = NamedTempFile::with_prefix_in(".ganeti-hookd-report-", dir)
            .map_err(|error| failed(format!("cannot write in {}: {error}", dir.display())))?;
        Ok(Self { file: Some((file, path.to_owned())), size: 0 })
    }

    /// What may be printed there.
    pub fn terminal(&self) -> Terminal {
        if self.file.is_some() { Terminal::none() } else { Terminal::of_output() }
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When it cannot be written or put there; then nothing has changed there.
    pub fn done(self) -> Result<(), Failure> {
        let Some((file, path)) = self.file else { return Ok(()) };
        let cannot = |error: io::Error| failed(format!("{}: {error}", path.display()));
        file.as_file().sync_all().map_err(cannot)?;
        file.persist(&path).map_err(|error| cannot(error.error))?;
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.file {
            Some((file, _)) => file.write(bytes)?,
            None => io::stdout().write(bytes)?,
        };
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.file {
            Some((file, _)) => file.flush(),
            None => io::stdout().flush(),
        }
    }
}
