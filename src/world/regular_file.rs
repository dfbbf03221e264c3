//! Regular files that another program writes: no link is followed, nothing but a
//! regular file is opened, nothing is waited for, and no more is read than a limit.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A symbolic link.
    #[error("is a symbolic link; only a regular file is read")]
    Link,
    /// A FIFO, a device, a directory.
    #[error("is not a regular file")]
    NotRegular,
    /// Too large.
    #[error("has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// The system says no.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// The content of a regular file of at most `limit` bytes; `None` when it is not there.
///
/// # Errors
/// When the file is not one to read.
pub fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let mut buffer = Vec::new();
    Ok(read_into(path, limit, &mut buffer)?.map(|_| buffer))
}

/// The first `most` bytes of a regular file; `None` when it is not there.
///
/// # Errors
/// When the file is not one to read.
pub fn head(path: &Path, most: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let Some((file, _)) = open(path)? else { return Ok(None) };
    let mut buffer = Vec::new();
    file.take(most).read_to_end(&mut buffer)?;
    Ok(Some(buffer))
}

/// Appends the content of a regular file of at most `limit` bytes to `buffer`. Returns what
/// the file was before it was read; `None` when it is not there.
///
/// # Errors
/// When the file is not one to read.
pub fn read_into(path: &Path, limit: u64, buffer: &mut Vec<u8>) -> Result<Option<Metadata>, ReadError> {
    let Some((file, metadata)) = open(path)? else { return Ok(None) };
    let size = metadata.len();
    if size > limit {
        return Err(ReadError::TooLarge { size, limit });
    }
    buffer.reserve_exact(usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1));
    // Less than there was room for, and all that there is: that is its end.
    let first =
        retry_on_intr(|| rustix::io::read(&file, spare_capacity(buffer))).map_err(io::Error::from)? as u64;
    if first == size {
        return Ok(Some(metadata));
    }
    let rest = limit.saturating_add(1).saturating_sub(first);
    let read = first + file.take(rest).read_to_end(buffer)? as u64;
    if read > limit {
        return Err(ReadError::TooLarge { size: read, limit });
    }
    Ok(Some(metadata))
}

/// Opens a regular file without following a link and without waiting for anybody, and
/// tells what it is; `None` when it is not there.
///
/// # Errors
/// When it is something else, or cannot be opened.
pub fn open(path: &Path) -> Result<Option<(File, Metadata)>, ReadError> {
    open_at(CWD, path)
}

/// The same below a directory, for a path that is not absolute.
///
/// # Errors
/// When it is something else, or cannot be opened.
pub fn open_at(dir: BorrowedFd<'_>, path: &Path) -> Result<Option<(File, Metadata)>, ReadError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::LOOP) => return Err(ReadError::Link),
        Err(Errno::NXIO) => return Err(ReadError::NotRegular),
        Err(errno) => return Err(ReadError::Io(errno.into())),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotRegular);
    }
    Ok(Some((file, metadata)))
}

/// Opens a directory, to open what is in it; `None` when it is not there.
///
/// # Errors
/// When it cannot be opened.
pub fn open_dir(path: &Path) -> Result<Option<OwnedFd>, ReadError> {
    match rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(ReadError::Io(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "content").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        assert_eq!(read(&path("file"), 7).unwrap().unwrap(), b"content");
        assert_eq!(head(&path("file"), 4).unwrap().unwrap(), b"cont");
        assert!(read(&path("missing"), 7).unwrap().is_none());
        assert!(matches!(read(&path("link"), 7), Err(ReadError::Link)));
        assert!(matches!(read(&path("fifo"), 7), Err(ReadError::NotRegular)));
        assert!(matches!(read(dir.path(), 7), Err(ReadError::NotRegular)));
        assert!(matches!(read(&path("file"), 6), Err(ReadError::TooLarge { size: 7, limit: 6 })));
        assert!(matches!(read(Path::new("/dev/zero"), 6), Err(ReadError::NotRegular)));
    }
}
