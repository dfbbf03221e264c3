//! `ganeti-hookd stand-in`: a process that holds a livelock and publishes versions of its job, as
//! a job process does.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, fcntl_lock};

use super::{Failure, failed};

/// Hold a livelock until standard input ends
///
/// Makes the file, takes the write lock, prints a line, and waits. For each line on standard
/// input it publishes a version of its job, as a job process does: from its first thread, by
/// rename; and says so at once afterwards. When standard input ends it removes the file and
/// exits, as a job process does.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The livelock file
    path: PathBuf,
}

impl Args {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let say = |error: io::Error| failed(format!("{}: {error}", self.path.display()));
        let file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&self.path).map_err(say)?;
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| say(errno.into()))?;
        let mut out = io::stdout();
        writeln!(out, "locked")?;
        out.flush()?;
        for line in io::stdin().lines() {
            let said = publish(&line?);
            writeln!(out, "{said}")?;
            out.flush()?;
        }
        std::fs::remove_file(&self.path).map_err(say)
    }
}

/// What stands between the words of a line: paths may have spaces.
pub(super) const BETWEEN: char = '\t';

/// Does what a line says: `publish NEW FILE`.
fn publish(line: &str) -> String {
    match line.split(BETWEEN).collect::<Vec<_>>()[..] {
        ["publish", new, file] => match std::fs::rename(new, file) {
            Ok(()) => "published".to_owned(),
            Err(error) => format!("{new} {error}"),
        },
        _ => format!("{line:?} is not understood"),
    }
}
