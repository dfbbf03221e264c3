//! Whom a hook is trusted from: what somebody else could have written would run as root.
//!
//! A path is followed one name after the other, as the kernel would follow it, and each
//! directory and link on the way is judged, not only those of the place where it ends. What
//! comes out has no link in it, and nobody else can change that: this is what is executed.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::world::shortage::{explain, is_shortage};

/// Links that are followed at most (Linux: `MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Why a directory or script is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Owned by somebody else.
    #[error("{path} is owned by user {uid}; only root may own hooks: chown root {path}")]
    Owner {
        /// What is owned by somebody else.
        path: String,
        /// Its owner.
        uid: u32,
    },
    /// Writable by somebody else.
    #[error(
        "{path} may be written by others (mode {mode:04o}); only root may write hooks: chmod go-w {path}"
    )]
    Writable {
        /// What others may write.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// It could not be looked at for want of something that may come back.
    #[error("{path} cannot be read: {error}")]
    Shortage {
        /// What could not be looked at.
        path: String,
        /// Why.
        error: String,
    },
    /// It could not be looked at.
    #[error("{path} cannot be read: {error}")]
    Unreadable {
        /// What could not be looked at.
        path: String,
        /// Why.
        error: String,
    },
}

impl Refusal {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let (path, short) = (path.display().to_string(), is_shortage(error));
        let error = explain(error);
        if short { Self::Shortage { path, error } } else { Self::Unreadable { path, error } }
    }
}

/// Why a path has not been trusted.
#[derive(Debug)]
pub enum Distrust {
    /// Somebody else could have written what it names.
    Refused(Refusal),
    /// It could not be followed.
    Failed(io::Error),
}

impl Distrust {
    /// The same as a refusal of this path.
    pub fn refusal(self, path: &Path) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Failed(error) => Refusal::unreadable(path, &error),
        }
    }
}

impl From<io::Error> for Distrust {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for Distrust {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Follows a path to what it names, which nobody else can have put there. Returns the way
/// to that without links. Directories on the way may be sticky, as `/tmp` is.
///
/// # Errors
/// When it cannot be followed, or somebody else could have put something on the way.
pub fn follow(path: &Path) -> Result<PathBuf, Distrust> {
    let mut ahead = names(&std::path::absolute(path)?);
    let mut way = PathBuf::from("/");
    let mut links = 0;
    trust(&way, &way.symlink_metadata()?, !ahead.is_empty())?;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            way.pop();
            continue;
        }
        let next = way.join(&name);
        let metadata = next.symlink_metadata()?;
        if !metadata.is_symlink() {
            trust(&next, &metadata, !ahead.is_empty())?;
            way = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(io::Error::from(Errno::LOOP).into());
        }
        trust_owner(&next, &metadata)?;
        let target = next.read_link()?;
        if target.is_absolute() {
            way = PathBuf::from("/");
        }
        ahead.extend(names(&target));
    }
    Ok(way)
}

/// The names in a path, the last first: they are taken from the end.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

/// Trusts a directory or file when nobody else can write to it.
///
/// # Errors
/// When somebody else can.
pub fn trust(path: &Path, metadata: &Metadata, may_be_sticky: bool) -> Result<(), Refusal> {
    const GROUP_WRITE: u32 = 0o020;
    const OTHER_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    trust_owner(path, metadata)?;
    let mode = metadata.mode() & 0o7777;
    let writable = mode & OTHER_WRITE != 0 || (mode & GROUP_WRITE != 0 && !is_our_group(metadata.gid()));
    if writable && !(may_be_sticky && mode & STICKY != 0) {
        return Err(Refusal::Writable { path: path.display().to_string(), mode });
    }
    Ok(())
}

fn trust_owner(path: &Path, metadata: &Metadata) -> Result<(), Refusal> {
    if is_us(metadata.uid()) {
        return Ok(());
    }
    Err(Refusal::Owner { path: path.display().to_string(), uid: metadata.uid() })
}

fn is_us(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn is_our_group(gid: u32) -> bool {
    gid == 0 || gid == rustix::process::getegid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(path: &Path) -> Refusal {
        follow(path).unwrap_err().refusal(path)
    }

    #[test]
    fn a_path_is_followed_as_the_kernel_does() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/file"), "").unwrap();
        symlink("a/b", dir.join("link")).unwrap();
        symlink(dir.join("link/../file"), dir.join("a/b/absolute")).unwrap();
        for path in ["a/file", "a/b/../file", "link/../file", "link/absolute", "a/./b/absolute"] {
            assert_eq!(follow(&dir.join(path)).unwrap(), dir.join("a/file"), "{path}");
        }
        assert_eq!(follow(Path::new("/")).unwrap(), Path::new("/"));
        symlink("ring", dir.join("ring")).unwrap();
        assert!(matches!(refusal(&dir.join("ring")), Refusal::Unreadable { .. }));
        assert!(matches!(follow(&dir.join("a/none")), Err(Distrust::Failed(_))));
    }

    #[test]
    fn each_directory_on_the_way_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("others")).unwrap();
        fs::write(path("good"), "").unwrap();
        symlink(path("good"), path("others/link")).unwrap();
        symlink("others/link", path("first")).unwrap();
        assert!(follow(&path("first")).is_ok());
        set_mode(&path("others"), 0o777);
        // It ends well, by way of what anybody may change.
        let Refusal::Writable { path: what, mode: 0o777 } = refusal(&path("first")) else { panic!() };
        assert!(what.ends_with("/others"), "{what}");
        set_mode(&path("others"), 0o1777);
        assert!(follow(&path("first")).is_ok(), "in a sticky directory what is ours stays where it is");
    }
}
