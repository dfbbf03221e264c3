//! The daemon's own files: the journal holds what hooks said, so that nobody else may read them,
//! whatever the directory lets others do.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::hook::trust::{follow, trust_owner};

/// What only the owner of a file may do.
const MODE: u32 = 0o600;

/// The journal, below the state directory; what SQLite puts beside it begins with the same name.
pub const JOURNAL: &str = "journal.db";

/// The file that is locked while a daemon runs, below the state directory.
pub const LOCK: &str = "lock";

/// The file of held processes, below the run directory.
pub const HELD: &str = "held";

/// The names of files of ours besides.
const NAMES: [&str; 2] = [LOCK, HELD];

/// What others may be able to do: read, write, enter.
const OTHERS: u32 = 0o077;

/// Opens a file of ours, made if it is not there, which only its owner may read or write.
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE);
    open_with(&mut options, path)
}

/// The same to write to its end only.
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().append(true).create(true).mode(MODE), path)
}

fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Of a FIFO nobody is waited for.
    let file =
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).map_err(|error| match error
            .raw_os_error()
        {
            Some(libc::ELOOP | libc::ENXIO) => not_regular(),
            _ => error,
        })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_regular());
    }
    if metadata.mode() & OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

/// What is in the place of a file of ours is none.
fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file: move it away")
}

/// Sees to it that a file of ours is there and its owner's alone. One that is there is not
/// opened: to close it again would take this process's locks off it (fcntl(2)).
///
/// # Errors
/// When it cannot be made, or is no file of ours to change.
pub fn make(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => set_mode(path),
        made => made.map(drop),
    }
}

/// Takes from others what they may do with files of ours that were there before; returns what
/// is to be said about that.
pub fn close_to_others(dirs: &[&Path]) -> Vec<String> {
    let close = |(path, mode): (PathBuf, u32)| {
        let shown = path.display();
        match set_mode(&path) {
            Ok(()) => format!("{shown} was open to others (mode {mode:04o}); its mode is {MODE:04o} now"),
            Err(error) => format!("{shown} is open to others (mode {mode:04o}): {error}; chmod 600 {shown}"),
        }
    };
    let mut said: Vec<String> = dirs.iter().flat_map(|dir| open_files(dir)).map(close).collect();
    said.extend(others(dirs));
    said
}

/// What is open to others in these directories, and what to do about it.
pub fn too_open(dirs: &[&Path]) -> Vec<String> {
    let files = dirs.iter().flat_map(|dir| open_files(dir));
    let file = |(path, mode): (PathBuf, u32)| {
        let shown = path.display();
        format!("{shown} is open to others (mode {mode:04o}): chmod 600 {shown}, or restart the daemon")
    };
    files.map(file).chain(others(dirs)).collect()
}

/// What in these directories, or which of them, is somebody else's.
fn others(dirs: &[&Path]) -> Vec<String> {
    let files = dirs.iter().flat_map(|dir| own_files(dir));
    let files = files.filter_map(|(path, metadata)| trust_owner(&path, &metadata).err());
    let files = files.map(|refusal| refusal.to_string());
    files.chain(dirs.iter().filter_map(|dir| open_directory(dir))).collect()
}

/// Why somebody else could put files into this directory, if so.
fn open_directory(dir: &Path) -> Option<String> {
    if !dir.exists() {
        return None;
    }
    follow(dir).err().map(|distrust| distrust.refusal(dir).to_string())
}

/// Whether a file of this name in a directory of ours is ours: the administrator may have put
/// others there, or us where others are.
fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    NAMES.contains(&&*name) || name.starts_with(JOURNAL)
}

/// The files of ours in a directory, in the order of their names.
fn own_files(dir: &Path) -> Vec<(PathBuf, Metadata)> {
    let entries = dir.read_dir().into_iter().flatten().flatten();
    let ours = entries.filter(|entry| is_ours(&entry.file_name()));
    let files = ours.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
    let mut files: Vec<_> = files.filter(|(_, metadata)| metadata.is_file()).collect();
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    files
}

/// Those that others may do something with, and their modes. Where nobody may come in, a file's
/// own mode lets nobody do anything; it may be copied or moved, though.
fn open_files(dir: &Path) -> Vec<(PathBuf, u32)> {
    let files = own_files(dir).into_iter().map(|(path, metadata)| (path, metadata.mode() & 0o7777));
    files.filter(|(_, mode)| mode & OTHERS != 0).collect()
}

/// Makes a regular file its owner's alone, without opening what it holds.
fn set_mode(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_regular());
    }
    if metadata.mode() & OTHERS == 0 {
        return Ok(());
    }
    let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(by_descriptor, Permissions::from_mode(MODE))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_of_ours_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        open(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        set(&path, 0o644);
        open(&path).unwrap();
        assert_eq!(mode(&path), 0o600, "one that was there before, too");
        set(&path, 0o640);
        make(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        make(&dir.path().join("new")).unwrap();
        assert_eq!(mode(&dir.path().join("new")), 0o600);
    }

    #[test]
    fn what_is_no_regular_file_is_none_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink("target", path("link")).unwrap();
        rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::create_dir(path("dir")).unwrap();
        for name in ["link", "fifo", "dir"] {
            let opened =
                [open(&path(name)).map(drop), open_to_append(&path(name)).map(drop), make(&path(name))];
            for result in opened {
                assert!(result.is_err(), "{name}");
            }
        }
        assert!(!path("target").exists());
    }

    #[test]
    fn only_what_is_ours_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let ours = ["journal.db", "journal.db-wal", "journal.db.damaged-1", "lock", "held"];
        for name in ours.into_iter().chain(["ssconf_master_node", "other.pid"]) {
            fs::write(dir.path().join(name), "").unwrap();
            set(&dir.path().join(name), 0o644);
        }
        set(dir.path(), 0o755);
        assert_eq!(too_open(&[dir.path()]).len(), ours.len());
        assert_eq!(close_to_others(&[dir.path()]).len(), ours.len());
        assert!(ours.iter().all(|name| mode(&dir.path().join(name)) == 0o600));
        assert_eq!(mode(&dir.path().join("ssconf_master_node")), 0o644);
    }

    #[test]
    fn what_is_open_is_named_and_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (old, good) = (dir.path().join("journal.db"), dir.path().join("held"));
        fs::write(&old, "").unwrap();
        fs::write(&good, "").unwrap();
        set(&old, 0o644);
        set(&good, 0o600);
        set(dir.path(), 0o775);
        assert_eq!(too_open(&[dir.path()]).len(), 1, "a directory that our own group may write is ours");
        set(dir.path(), 0o777);
        let said = too_open(&[dir.path()]);
        assert!(said[0].contains("journal.db is open to others (mode 0644)"), "{said:?}");
        assert!(said[1].contains("may be written by others (mode 0777)"), "{said:?}");
        assert_eq!(close_to_others(&[dir.path()]).len(), 2);
        assert_eq!((mode(&old), mode(dir.path())), (0o600, 0o777));
        set(dir.path(), 0o755);
        assert_eq!(close_to_others(&[dir.path()]), [""; 0]);
    }
}
