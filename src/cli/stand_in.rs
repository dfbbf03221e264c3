//! `ganeti-hookd stand-in`: a process that holds a livelock, as a job process does.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, fcntl_lock};

use super::{Failure, failed};

/// Hold a livelock until standard input ends
///
/// Makes the file, takes the write lock, prints a line, and waits. When standard input
/// ends it removes the file and exits, as a job process does.
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
        io::copy(&mut io::stdin(), &mut io::sink())?;
        std::fs::remove_file(&self.path).map_err(say)
    }
}
