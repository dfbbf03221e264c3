//! The scripts of a hooks directory, in the order they run.
//!
//! Organisation is Ganeti's (`utils.RunParts`): names match `^[a-zA-Z0-9_-]+$` and are
//! executable, anything else is skipped; byte order. Beyond Ganeti, a directory or
//! script that somebody else could have written is refused: it would run as root.

use std::borrow::Cow;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use crate::ganeti::event::Phase;
use crate::world::shortage::{explain, is_shortage};
use crate::world::unchanged::{Identity, Kept};

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
    fn unreadable(path: &Path, error: &io::Error) -> Self {
        let (path, short) = (path.display().to_string(), is_shortage(error));
        let error = explain(error);
        if short { Self::Shortage { path, error } } else { Self::Unreadable { path, error } }
    }
}

/// One script of a hooks directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its name in the directory.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Why it must not run, if so.
    pub refusal: Option<Refusal>,
}

/// The directories of this node's hooks.
#[derive(Debug)]
pub struct Hooks {
    pre: Directory,
    post: Directory,
}

impl Hooks {
    /// The hooks below this directory.
    pub fn new(hooks_dir: &Path) -> Self {
        let directory = |phase| Directory::new(hooks_dir.join(crate::engine::environment::directory(phase)));
        Self { pre: directory(Phase::Pre), post: directory(Phase::Post) }
    }

    /// Those of a phase.
    pub fn of(&mut self, phase: Phase) -> &mut Directory {
        match phase {
            Phase::Pre => &mut self.pre,
            Phase::Post => &mut self.post,
        }
    }
}

/// A hooks directory. One that has not changed is not read twice; who may write to it and to
/// its scripts is looked at each time.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// What Ganeti would run if it is executable, in its order.
    names: Kept<Vec<String>>,
}

impl Directory {
    /// The directory of this path, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, names: Kept::default() }
    }

    /// The scripts in the order they run; none when there is no such directory, as with
    /// Ganeti.
    ///
    /// # Errors
    /// When the directory itself is not trusted or cannot be read.
    pub fn list(&mut self) -> Result<Vec<Script>, Refusal> {
        let names = match self.names() {
            Ok(names) => names,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(Refusal::unreadable(&self.path, &error)),
        };
        if names.is_empty() {
            return Ok(Vec::new());
        }
        trust_path(&self.path)?;
        Ok(names.iter().filter_map(|name| script(&self.path, name)).collect())
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        let identity = Identity::of(&self.path.metadata()?);
        if let Some(names) = self.names.get(&identity) {
            return Ok(names.clone());
        }
        let mut names = Vec::new();
        for entry in self.path.read_dir()? {
            // What is not UTF-8 has no script's name.
            names
                .extend(entry?.file_name().into_string().ok().filter(|name| is_script_name(name.as_bytes())));
        }
        names.sort_unstable();
        self.names.keep(identity, names.clone());
        Ok(names)
    }
}

/// Whether a name is one that Ganeti would run (Ganeti: `constants.EXT_PLUGIN_MASK`).
fn is_script_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-')
}

/// The script of this name, if it is an executable file.
fn script(dir: &Path, name: &str) -> Option<Script> {
    let path = dir.join(name);
    let link = std::fs::symlink_metadata(&path).ok()?;
    let is_link = link.is_symlink();
    let is_file = if is_link { std::fs::metadata(&path).ok()?.is_file() } else { link.is_file() };
    if !is_file || rustix::fs::access(&path, Access::EXEC_OK).is_err() {
        return None;
    }
    // Where it is a link, the path to the file it names is what counts.
    let refusal = if is_link { trust_path(&path) } else { trust(&path, &link, false) }.err();
    Some(Script { name: name.to_owned(), path, refusal })
}

/// Trusts a path when nobody else could have put something there: every directory down
/// to it, and itself. Directories above it may be sticky, as `/tmp` is.
fn trust_path(path: &Path) -> Result<(), Refusal> {
    let unreadable = |error: io::Error| Refusal::unreadable(path, &error);
    let mut path = Cow::Borrowed(path);
    let mut ancestors = link_free(&path).map_err(unreadable)?;
    if ancestors.is_none() {
        path = path.canonicalize().map_err(unreadable)?.into();
        ancestors = link_free(&path).map_err(unreadable)?;
    }
    // A link again: somebody is at work there, who may well be somebody else.
    let ancestors = ancestors.ok_or_else(|| unreadable(Errno::LOOP.into()))?;
    for (depth, (ancestor, metadata)) in path.ancestors().zip(&ancestors).enumerate() {
        trust(ancestor, metadata, depth > 0)?;
    }
    Ok(())
}

/// What a path and its ancestors are, the path first; `None` when one of them is a link, or
/// the path does not begin at the root.
fn link_free(path: &Path) -> io::Result<Option<Vec<Metadata>>> {
    let is_plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(is_plain) {
        return Ok(None);
    }
    let ancestors: Vec<Metadata> =
        path.ancestors().map(std::fs::symlink_metadata).collect::<io::Result<_>>()?;
    Ok((!ancestors.iter().any(Metadata::is_symlink)).then_some(ancestors))
}

fn trust(path: &Path, metadata: &Metadata, may_be_sticky: bool) -> Result<(), Refusal> {
    const GROUP_WRITE: u32 = 0o020;
    const OTHER_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let is_us = |uid: u32| uid == 0 || uid == rustix::process::geteuid().as_raw();
    let is_our_group = |gid: u32| gid == 0 || gid == rustix::process::getegid().as_raw();
    if !is_us(metadata.uid()) {
        return Err(Refusal::Owner { path: path.display().to_string(), uid: metadata.uid() });
    }
    let mode = metadata.mode() & 0o7777;
    let writable = mode & OTHER_WRITE != 0 || (mode & GROUP_WRITE != 0 && !is_our_group(metadata.gid()));
    if writable && !(may_be_sticky && mode & STICKY != 0) {
        return Err(Refusal::Writable { path: path.display().to_string(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn put(dir: &Path, name: &str, mode: u32) {
        fs::write(dir.join(name), "#!/bin/sh\n").unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn list(dir: &Path) -> Result<Vec<Script>, Refusal> {
        Directory::new(dir.to_owned()).list()
    }

    fn names(scripts: &[Script]) -> Vec<&str> {
        scripts.iter().map(|script| script.name.as_str()).collect()
    }

    #[test]
    fn scripts_are_chosen_and_ordered_as_ganeti_does() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["20-b", "10-a", "Z", "a_b", "notes.txt", ".hidden", "30-c.dpkg-old", "x~"] {
            put(dir.path(), name, 0o755);
        }
        put(dir.path(), "not-executable", 0o644);
        fs::create_dir(dir.path().join("directory")).unwrap();
        symlink("10-a", dir.path().join("40-link")).unwrap();
        symlink("nowhere", dir.path().join("50-dangling")).unwrap();
        let scripts = list(dir.path()).unwrap();
        assert_eq!(names(&scripts), ["10-a", "20-b", "40-link", "Z", "a_b"]);
        assert!(scripts.iter().all(|script| script.refusal.is_none()));
    }

    #[test]
    fn no_directory_is_no_scripts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list(&dir.path().join("global-pre.d")), Ok(vec![]));
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "10-open", 0o757);
        put(dir.path(), "20-closed", 0o755);
        let scripts = list(dir.path()).unwrap();
        assert!(matches!(scripts[0].refusal, Some(Refusal::Writable { mode: 0o757, .. })));
        assert_eq!(scripts[1].refusal, None);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(list(dir.path()), Err(Refusal::Writable { .. })));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(
            matches!(list(dir.path()), Err(Refusal::Writable { .. })),
            "sticky does not help the directory itself"
        );
    }

    #[test]
    fn a_link_is_as_good_as_what_it_names() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(elsewhere.path(), "target", 0o755);
        symlink(elsewhere.path().join("target"), dir.path().join("10-link")).unwrap();
        assert_eq!(list(dir.path()).unwrap()[0].refusal, None);
        fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(list(dir.path()).unwrap()[0].refusal, Some(Refusal::Writable { .. })));
    }
}
