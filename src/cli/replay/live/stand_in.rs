//! A process that stands in for a recorded job process.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::cli::stand_in::BETWEEN;

/// Versions that the process may still have to publish: neither of the pipes fills.
const MOST_OUTSTANDING: usize = 100;

/// The process, and what it has to do.
pub struct StandIn {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The job that it publishes, as a recorded path.
    job: String,
    /// Versions that it has not said to be published.
    outstanding: usize,
}

impl StandIn {
    /// Starts it; when this returns it holds the livelock.
    pub fn start(livelock: &Path) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("ganeti-hookd")
            .arg("stand-in")
            .arg(livelock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let no_pipe = || io::Error::other("no pipe");
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(no_pipe)?);
        let mut process = Self { child, stdin, stdout, job: String::new(), outstanding: 1 };
        process.settle();
        Ok(process)
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it publishes versions of this job.
    pub fn publishes(&self, job: &str) -> bool {
        self.job == job
    }

    /// Has it publish a version of a job: at once, or when it goes on. Returns whether it can.
    pub fn publish(&mut self, job: &str, new: &Path, file: &Path) -> bool {
        if self.outstanding >= MOST_OUTSTANDING {
            self.settle();
        }
        job.clone_into(&mut self.job);
        let (new, file) = (new.display(), file.display());
        let told = writeln!(self.stdin, "publish{BETWEEN}{new}{BETWEEN}{file}").is_ok();
        self.outstanding += usize::from(told);
        told
    }

    /// Waits until everything is published, or it has ended.
    pub fn settle(&mut self) {
        let mut line = String::new();
        while self.outstanding > 0 && self.stdout.read_line(&mut line).is_ok_and(|length| length > 0) {
            self.outstanding -= 1;
        }
        self.outstanding = 0;
    }

    /// Ends it as the recorded one ended: suddenly, or so it seems.
    pub fn end(mut self) -> io::Result<()> {
        self.settle();
        self.child.kill()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
