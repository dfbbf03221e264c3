//! A file that is whole or not there: it is written under another name, and then renamed.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{Failure, failed};

/// A file under another name. If it is not put in its place nothing of it is left.
pub struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Begins one in the directory of this path. That may be another user's: nothing there is
    /// followed or written to but what is made here.
    ///
    /// # Errors
    /// When nothing can be made there.
    pub fn begin(path: &Path) -> Result<Self, Failure> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // For its owner alone, as the crate makes them.
        let file = NamedTempFile::with_prefix_in(".ganeti-hookd-", dir)
            .map_err(|error| failed(format!("cannot write in {}: {error}", dir.display())))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Puts it in its place, with this mode.
    ///
    /// # Errors
    /// When it cannot be put there; then nothing has changed there.
    pub fn put(self, mode: u32) -> Result<(), Failure> {
        let Self { file, path } = self;
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))
            .and_then(|()| file.persist(&path).map_err(|error| error.error))
            .map_err(|error| named(&path, &error))?;
        Ok(())
    }

    /// The same, and its content is on the disk by then.
    ///
    /// # Errors
    /// When it cannot be written or put there; then nothing has changed there.
    pub fn put_on_disk(self, mode: u32) -> Result<(), Failure> {
        self.file.as_file().sync_all().map_err(|error| named(&self.path, &error))?;
        self.put(mode)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What cannot be done with a file.
pub fn named(path: &Path, error: &io::Error) -> Failure {
    failed(format!("{}: {error}", path.display()))
}
