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

use super::acl::{self, Who};
use crate::world::shortage::{explain, is_shortage};

/// Links that are followed at most (Linux: `MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Why a directory or script is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Owned by somebody else.
    #[error("{path} is owned by user {uid}; only root may own it: chown root {path}")]
    Owner {
        /// What is owned by somebody else.
        path: String,
        /// Its owner.
        uid: u32,
    },
    /// Writable by somebody else.
    #[error("{path} may be written by others (mode {mode:04o}); only root may write it: chmod go-w {path}")]
    Writable {
        /// What others may write.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// Its access control list lets somebody else write.
    #[error(
        "{path} may be written by {who}, as its access control list says; only root may write it: setfacl -b {path}"
    )]
    Listed {
        /// What may be written.
        path: String,
        /// Whom the list names.
        who: String,
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
/// to that without links. Directories on the way may be sticky, as `/tmp` is; one where it ends may not: it is what is
/// in it that runs.
///
/// # Errors
/// When it cannot be followed, or somebody else could have put something on the way.
pub fn follow(path: &Path) -> Result<PathBuf, Distrust> {
    let mut ahead = names(&std::path::absolute(path)?);
    let mut way = PathBuf::from("/");
    let mut links = 0;
    trust(&way, &way.symlink_metadata()?, !ahead.is_empty())?;
    // A way may go back to a directory, which was judged as one on the way.
    let mut goes_back = false;
    while let Some(name) = ahead.pop() {
        goes_back = name == "..";
        if goes_back {
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
        goes_back = true;
    }
    if goes_back {
        trust(&way, &way.symlink_metadata()?, false)?;
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
    if may_be_sticky && mode & STICKY != 0 {
        return Ok(());
    }
    if mode & OTHER_WRITE != 0 {
        return Err(Refusal::Writable { path: path.display().to_string(), mode });
    }
    // Where there is a list these bits are its mask: without them it lets nobody write.
    if mode & GROUP_WRITE == 0 { Ok(()) } else { trust_groups(path, mode, metadata.gid()) }
}

/// Trusts what is open to its group, or to whom its access control list names.
fn trust_groups(path: &Path, mode: u32, group: u32) -> Result<(), Refusal> {
    let writers = acl::writers(path).map_err(|error| Refusal::unreadable(path, &error))?;
    let other = writers.unwrap_or_else(|| vec![Who::OwnGroup]).into_iter().find(|who| match who {
        Who::User(uid) => !is_us(*uid),
        Who::Group(gid) => !is_our_group(*gid),
        Who::OwnGroup => !is_our_group(group),
    });
    let path = path.display().to_string();
    match other {
        None => Ok(()),
        Some(Who::OwnGroup) => Err(Refusal::Writable { path, mode }),
        Some(Who::User(uid)) => Err(Refusal::Listed { path, who: format!("user {uid}") }),
        Some(Who::Group(gid)) => Err(Refusal::Listed { path, who: format!("group {gid}") }),
    }
}

/// Trusts what belongs to nobody else.
///
/// # Errors
/// When it does.
pub fn trust_owner(path: &Path, metadata: &Metadata) -> Result<(), Refusal> {
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

    #[test]
    fn where_it_ends_it_may_not_even_be_sticky() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("sticky/inner")).unwrap();
        fs::write(path("sticky/script"), "").unwrap();
        for (target, link) in [(".", "here"), ("inner/..", "back")] {
            symlink(target, path("sticky").join(link)).unwrap();
        }
        let ends = ["sticky", "sticky/here", "sticky/back", "sticky/inner/..", "sticky/here/."];
        assert!(ends.iter().all(|end| follow(&path(end)).is_ok()));
        set_mode(&path("sticky"), 0o1777);
        for end in ends {
            assert!(matches!(refusal(&path(end)), Refusal::Writable { mode: 0o1777, .. }), "{end}");
        }
        for way in ["sticky/inner", "sticky/script", "sticky/here/script", "sticky/back/inner"] {
            assert!(follow(&path(way)).is_ok(), "{way}");
        }
    }

    #[test]
    fn whom_a_list_lets_write_is_somebody_else() {
        use super::super::acl::tests::list;
        const NONE: u32 = u32::MAX;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        fs::write(&script, "").unwrap();
        let us = rustix::process::geteuid().as_raw();
        for (trusted, entry, group) in [
            (true, (2, 7, us), 5),
            (false, (2, 6, us + 65_534), 5),
            (false, (8, 7, 65_534), 5),
            (true, (8, 5, 65_534), 7),
        ] {
            let mut entries = [(1, 7, NONE), entry, (4, group, NONE), (0x10, 7, NONE), (0x20, 5, NONE)];
            entries.sort_unstable();
            let acl = list(&entries);
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&script, "system.posix_acl_access", &acl, flags).unwrap();
            assert_eq!(follow(&script).is_ok(), trusted, "{entry:?}");
        }
        set_mode(&script, 0o755);
        assert!(follow(&script).is_ok(), "the mask lets nobody write");
    }
}
