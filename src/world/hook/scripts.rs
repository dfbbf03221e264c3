//! The scripts of a hooks directory, in the order they run.
//!
//! Organisation is Ganeti's (`utils.RunParts`): names match `^[a-zA-Z0-9_-]+$` and are
//! executable, anything else is skipped; byte order. Beyond Ganeti, a directory or
//! script that somebody else could have written is refused: it would run as root.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Access;

pub use super::trust::Refusal;
use super::trust::{follow, trust};
use crate::engine::directories::HooksPath;
use crate::ganeti::event::Phase;
use crate::world::unchanged::{Identity, Kept};

/// One script of a hooks directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its name in the directory.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What its path leads to, without links, as far as that could be followed.
    pub file: PathBuf,
    /// Why it must not run, if so. Who runs it looks again: time may have passed.
    pub refusal: Option<Refusal>,
}

/// Directories that are remembered at most: more than Ganeti has opcodes and hooks paths.
const DIRECTORIES_MAX: usize = 512;

/// The directories of this node's hooks.
#[derive(Debug)]
pub struct Hooks {
    path: PathBuf,
    /// What is in it.
    names: Kept<Vec<String>>,
    /// Directories that were asked for, whether they exist or not.
    directories: BTreeMap<String, Directory>,
}

impl Hooks {
    /// The hooks below this directory.
    pub fn new(hooks_dir: &Path) -> Self {
        Self { path: hooks_dir.to_owned(), names: Kept::default(), directories: BTreeMap::new() }
    }

    /// The scripts of a directory below it, in the order they run; none when there is no such
    /// directory, as with Ganeti.
    ///
    /// # Errors
    /// When the directory itself is not trusted or cannot be read.
    pub fn list(&mut self, directory: &str) -> Result<Vec<Script>, Refusal> {
        if self.directories.len() >= DIRECTORIES_MAX {
            self.directories.clear();
        }
        let new = || Directory::new(self.path.join(directory));
        self.directories.entry(directory.to_owned()).or_insert_with(new).list()
    }

    /// Where a directory below it is.
    pub fn path_of(&self, directory: &str) -> PathBuf {
        self.path.join(directory)
    }

    /// What is in it, in byte order; nothing when it cannot be read.
    pub fn directories(&mut self) -> Vec<String> {
        names(&self.path, &mut self.names, |_| true).map(|(_, names)| names).unwrap_or_default()
    }

    /// The hooks paths that have a pre hook which would run.
    pub fn with_pre_hooks(&mut self) -> BTreeSet<HooksPath> {
        let of_opcodes = self.directories().into_iter().filter_map(|name| HooksPath::of_directory(&name));
        let paths = of_opcodes.filter(|(_, phase)| *phase == Phase::Pre).map(|(path, _)| path);
        let paths: BTreeSet<HooksPath> = paths.chain([HooksPath::Global]).collect();
        paths.into_iter().filter(|path| self.has_runnable(&path.directory(Phase::Pre))).collect()
    }

    fn has_runnable(&mut self, directory: &str) -> bool {
        self.list(directory).is_ok_and(|scripts| scripts.iter().any(|script| script.refusal.is_none()))
    }
}

/// How long the way to a file or directory that is the same itself is not followed anew: with thousands of jobs in a
/// second it would be most of what is done for them.
const BURST: Duration = Duration::from_millis(5);

/// A hooks directory. One that has not changed is not read twice; who may write to it and to
/// its scripts is looked at each time, and who may write to what is above them nearly so ([`BURST`]).
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// What Ganeti would run if it is executable, in its order.
    names: Kept<Vec<String>>,
    /// When it or a script that is a link was followed, and to what.
    ways: BTreeMap<PathBuf, Kept<(Instant, PathBuf)>>,
}

impl Directory {
    /// The directory of this path, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, names: Kept::default(), ways: BTreeMap::new() }
    }

    /// The scripts in the order they run; none when there is no such directory, as with
    /// Ganeti.
    ///
    /// # Errors
    /// When the directory itself is not trusted or cannot be read.
    pub fn list(&mut self) -> Result<Vec<Script>, Refusal> {
        let (identity, names) = match names(&self.path, &mut self.names, is_script_name) {
            Ok(names) => names,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(Refusal::unreadable(&self.path, &error)),
        };
        if names.is_empty() {
            return Ok(Vec::new());
        }
        if self.ways.len() > 1 + names.len() {
            self.ways.clear();
        }
        let dir = self.follow(&self.path.clone(), identity)?;
        Ok(names.iter().filter_map(|name| self.script(&dir, name)).collect())
    }

    /// The script of this name, if it is an executable file.
    fn script(&mut self, dir: &Path, name: &str) -> Option<Script> {
        let path = dir.join(name);
        let link = std::fs::symlink_metadata(&path).ok()?;
        let is_link = link.is_symlink();
        let target = if is_link { std::fs::metadata(&path).ok()? } else { link };
        if !target.is_file() || rustix::fs::access(&path, Access::EXEC_OK).is_err() {
            return None;
        }
        // Where it is a link, the whole way to the file that it names is judged.
        let file = match is_link {
            true => self.follow(&path, Identity::of(&target)),
            false => trust(&path, &target, false).map(|()| path.clone()),
        };
        let refusal = file.as_ref().err().cloned();
        let file = file.unwrap_or_else(|_| path.clone());
        Some(Script { name: name.to_owned(), path, file, refusal })
    }

    /// What a path leads to, which is this.
    fn follow(&mut self, path: &Path, identity: Identity) -> Result<PathBuf, Refusal> {
        let way = self.ways.entry(path.to_owned()).or_default();
        if let Some((_, end)) = way.get(&identity).filter(|(at, _)| at.elapsed() < BURST) {
            return Ok(end.clone());
        }
        let at = Instant::now();
        let end = follow(path).map_err(|distrust| distrust.refusal(path))?;
        way.keep(identity, (at, end.clone()));
        Ok(end)
    }
}

/// What is in a directory under names that are wanted, in byte order; and which directory it is.
fn names(
    path: &Path,
    kept: &mut Kept<Vec<String>>,
    is_wanted: fn(&str) -> bool,
) -> io::Result<(Identity, Vec<String>)> {
    let identity = Identity::of(&path.metadata()?);
    if let Some(names) = kept.get(&identity) {
        return Ok((identity, names.clone()));
    }
    let mut names = Vec::new();
    for entry in path.read_dir()? {
        // What is not UTF-8 has no script's name.
        names.extend(entry?.file_name().into_string().ok().filter(|name| is_wanted(name)));
    }
    names.sort_unstable();
    kept.keep(identity, names.clone());
    Ok((identity, names))
}

/// Whether a name is one that Ganeti would run (Ganeti: `constants.EXT_PLUGIN_MASK`).
fn is_script_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
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
    fn a_pre_hook_counts_for_the_opcodes_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut hooks = Hooks::new(dir.path());
        let directory = |name: &str| fs::create_dir(dir.path().join(name)).unwrap();
        assert!(hooks.with_pre_hooks().is_empty());
        for name in
            ["global-pre.d", "global-test-delay-pre.d", "global-tags-set-post.d", "instance-start-pre.d"]
        {
            directory(name);
        }
        for file in
            ["global-test-delay-pre.d/10-a", "global-tags-set-post.d/10-b", "instance-start-pre.d/10-c"]
        {
            put(dir.path(), file, 0o755);
        }
        let delay = HooksPath::of_opcode("OP_TEST_DELAY").unwrap();
        assert_eq!(hooks.with_pre_hooks(), [delay.clone()].into());
        put(dir.path(), "global-pre.d/10-d", 0o755);
        assert_eq!(hooks.with_pre_hooks(), [HooksPath::Global, delay].into());
        fs::set_permissions(dir.path().join("global-test-delay-pre.d"), fs::Permissions::from_mode(0o777))
            .unwrap();
        assert_eq!(hooks.with_pre_hooks(), [HooksPath::Global].into(), "it is refused");
    }

    #[test]
    fn no_more_directories_are_remembered_than_there_are_opcodes() {
        let dir = tempfile::tempdir().unwrap();
        let mut hooks = Hooks::new(dir.path());
        for n in 0..2 * DIRECTORIES_MAX {
            assert_eq!(hooks.list(&format!("global-x{n}-pre.d")), Ok(vec![]));
            assert!(hooks.directories.len() <= DIRECTORIES_MAX);
        }
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
        let script = list(dir.path()).unwrap().remove(0);
        assert_eq!(
            (script.refusal, script.file),
            (None, elsewhere.path().canonicalize().unwrap().join("target"))
        );
        fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(list(dir.path()).unwrap()[0].refusal, Some(Refusal::Writable { .. })));
    }

    #[test]
    fn a_way_is_followed_anew_after_a_burst_or_when_its_end_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let above = dir.path().canonicalize().unwrap().join("above");
        let path = above.join("global-pre.d");
        fs::create_dir_all(&path).unwrap();
        let mut directory = Directory::new(path.clone());
        let identity = || Identity::of(&path.metadata().unwrap());
        // Not kept while the change is young, as that of a directory that was made just now is.
        assert_eq!(directory.follow(&path, identity()), Ok(path.clone()));
        assert!(directory.ways[&path].get(&identity()).is_none());
        let root = Identity::of(&Path::new("/proc").metadata().unwrap());
        let mut follow_at = |at: Instant, kept: Identity| {
            let way = directory.ways.entry(path.clone()).or_default();
            way.keep(kept, (at, path.clone()));
            directory.follow(&path, root).is_ok()
        };
        fs::set_permissions(&above, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(follow_at(Instant::now() + BURST, root), "followed a moment ago");
        assert!(!follow_at(Instant::now().checked_sub(BURST).unwrap(), root));
        assert!(!follow_at(Instant::now() + BURST, Identity::of(&Path::new("/sys").metadata().unwrap())));
    }

    #[test]
    fn within_a_burst_a_link_is_what_it_leads_to_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let mut directory = Directory::new(path.clone());
        let mut lead_to = |target: &Path| {
            let _ = fs::remove_file(path.join("10-link"));
            symlink(target, path.join("10-link")).unwrap();
            directory.list().unwrap().remove(0)
        };
        // These have not changed for long: what they are is kept.
        let programs = ["/bin/true", "/bin/false", "/bin/true", "/bin/cat"].map(Path::new);
        for program in programs {
            let script = lead_to(program);
            assert_eq!((script.refusal, script.file), (None, program.canonicalize().unwrap()));
        }
        let own = path.join("elsewhere");
        fs::write(&own, "").unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o757)).unwrap();
        assert!(matches!(lead_to(&own).refusal, Some(Refusal::Writable { .. })));
        assert_eq!(lead_to(Path::new("/bin/true")).refusal, None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(directory.list(), Err(Refusal::Writable { .. })));
    }

    #[test]
    fn ways_that_nothing_has_any_more_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(dir.path().to_owned());
        for id in 0..100 {
            for link in 0..3 {
                symlink("/bin/true", dir.path().join(format!("{id}-{link}"))).unwrap();
            }
            assert_eq!(directory.list().unwrap().len(), 3);
            assert!(directory.ways.len() <= 8, "{}", directory.ways.len());
            for link in 0..3 {
                fs::remove_file(dir.path().join(format!("{id}-{link}"))).unwrap();
            }
        }
    }
}
