//! Who holds a livelock (Ganeti: `utils/livelock.py`, `Ganeti.Utils.Livelock`).

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::world::regular_file::{self, ReadError};
use crate::world::shortage::{explain, is_shortage};

/// The directory of the livelocks, below Ganeti's run directory.
pub const DIRECTORY: &str = "livelocks";

/// The beginning of the names of job processes' livelocks. luxid's own, which stands in
/// the job file while luxid is still starting the job, is named `luxi-daemon_*`.
const JOB_PREFIX: &str = "job_";

/// Who holds a livelock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This process of this machine.
    Process(u32),
    /// The file is there and nobody holds it.
    Nobody,
    /// The file is not there.
    NoFile,
    /// It cannot be told, and why.
    Unknown(String),
    /// It cannot be told for want of something; ask again.
    Shortage(String),
}

/// Finds the holder of the livelock at `path`, which must be a job's livelock in
/// Ganeti's livelock directory. The file is not read, and nothing is waited for.
///
/// The path is what a job file says: it is compared as text, and what it names is opened below
/// the livelock directory. It is never resolved itself, for it may lead into a file system that
/// hangs.
pub fn holder(path: &Path, livelock_dir: &Path) -> Holder {
    let name = match name_in(path, livelock_dir) {
        Ok(name) => name,
        Err(why) => return Holder::Unknown(why),
    };
    let opened = regular_file::open_dir(livelock_dir).and_then(|dir| match dir {
        Some(dir) => regular_file::open_at(dir.as_fd(), name.as_ref()),
        None => Ok(None),
    });
    let file = match opened {
        Ok(Some((file, _))) => file,
        Ok(None) => return Holder::NoFile,
        Err(ReadError::Io(error)) => return cannot_tell(path, &error),
        Err(error) => return Holder::Unknown(format!("livelock {} {error}", path.display())),
    };
    match fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)) {
        Ok(None) => Holder::Nobody,
        Ok(Some(Flock { pid: Some(pid), .. })) => Holder::Process(pid.as_raw_nonzero().get().unsigned_abs()),
        Ok(Some(_)) => {
            Holder::Unknown(format!("livelock {} is held from another PID namespace", path.display()))
        }
        Err(errno) => cannot_tell(path, &errno.into()),
    }
}

fn cannot_tell(path: &Path, error: &io::Error) -> Holder {
    let why = format!("livelock {}: {}", path.display(), explain(error));
    if is_shortage(error) { Holder::Shortage(why) } else { Holder::Unknown(why) }
}

/// The name in the livelock directory of what `path` says, if that is where a job's livelock
/// may be.
fn name_in<'a>(path: &'a Path, livelock_dir: &Path) -> Result<&'a str, String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.starts_with(JOB_PREFIX) {
        return Err(format!("{} is not a job's livelock", path.display()));
    }
    let parent = path.parent().map(run_dir_as_text);
    let is_ours = |dir: &Path| parent == Some(run_dir_as_text(dir));
    // Of the two only ours is ever resolved.
    if is_ours(livelock_dir) || livelock_dir.canonicalize().is_ok_and(|dir| is_ours(&dir)) {
        Ok(name)
    } else {
        Err(format!("livelock {} is not in {}", path.display(), livelock_dir.display()))
    }
}

/// `/var/run` is another name of `/run` (FHS 3.0, section 5.13), and Ganeti uses the older one.
fn run_dir_as_text(dir: &Path) -> PathBuf {
    dir.strip_prefix("/var/run").map_or_else(|_| dir.to_owned(), |rest| Path::new("/run").join(rest))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn the_directory_may_be_named_as_it_is_configured_or_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("livelocks"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        File::create(real.join("job_1")).unwrap();
        for named in [&real, &link] {
            assert_eq!(holder(&named.join("job_1"), &link), Holder::Nobody, "{}", named.display());
        }
        assert_eq!(holder(&link.join("job_2"), &link), Holder::NoFile);
        assert_eq!(
            holder(&link.join("job_1"), &dir.path().join("gone")),
            unknown(&link, &dir.path().join("gone"))
        );
        assert_eq!(holder(&dir.path().join("gone/job_1"), &dir.path().join("gone")), Holder::NoFile);
    }

    fn unknown(named: &Path, dir: &Path) -> Holder {
        Holder::Unknown(format!("livelock {} is not in {}", named.join("job_1").display(), dir.display()))
    }

    #[test]
    fn what_a_job_file_names_is_not_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("livelocks"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        File::create(real.join("job_1")).unwrap();
        for named in [link.clone(), real.join("../livelocks"), dir.path().join("hangs"), PathBuf::new()] {
            assert_eq!(holder(&named.join("job_1"), &real), unknown(&named, &real));
        }
    }

    #[test]
    fn run_has_two_names() {
        let (old, new) = (Path::new("/var/run/ganeti/livelocks"), Path::new("/run/ganeti/livelocks"));
        for (named, dir) in [(old, new), (new, old), (old, old)] {
            assert_eq!(name_in(&named.join("job_1"), dir), Ok("job_1"));
        }
        assert!(name_in(Path::new("/var/running/job_1"), Path::new("/run/running")).is_err());
    }

    #[test]
    fn nothing_but_a_file_is_a_livelock() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("elsewhere"), "").unwrap();
        symlink("elsewhere", dir.path().join("job_link")).unwrap();
        mknodat(CWD, dir.path().join("job_fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::create_dir(dir.path().join("job_dir")).unwrap();
        for (name, what) in [
            ("job_link", "is a symbolic link"),
            ("job_fifo", "is not a regular file"),
            ("job_dir", "is not a regular file"),
            ("luxi-daemon_1", "is not a job's livelock"),
            ("..", "is not a job's livelock"),
        ] {
            let Holder::Unknown(why) = holder(&dir.path().join(name), dir.path()) else { panic!("{name}") };
            assert!(why.contains(what), "{why}");
        }
    }
}
