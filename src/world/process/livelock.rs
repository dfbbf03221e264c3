//! Who holds a livelock (Ganeti: `utils/livelock.py`, `Ganeti.Utils.Livelock`).

use std::io;
use std::path::Path;

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
pub fn holder(path: &Path, livelock_dir: &Path) -> Holder {
    if let Err(why) = check_path(path, livelock_dir) {
        return Holder::Unknown(why);
    }
    let file = match regular_file::open(path) {
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

/// Whether `path` is where a job's livelock may be.
fn check_path(path: &Path, livelock_dir: &Path) -> Result<(), String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.starts_with(JOB_PREFIX) {
        return Err(format!("{} is not a job's livelock", path.display()));
    }
    let same = path.parent().is_some_and(|parent| {
        parent == livelock_dir
            || matches!((parent.canonicalize(), livelock_dir.canonicalize()), (Ok(a), Ok(b)) if a == b)
    });
    if same {
        Ok(())
    } else {
        Err(format!("livelock {} is not in {}", path.display(), livelock_dir.display()))
    }
}
