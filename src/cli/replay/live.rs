//! Playing a recording into a directory, with a process for each job process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::ganeti::job::JobId;
use crate::ganeti::python_json;
use crate::ganeti::recording::{Change, Line};
use crate::world::process::livelock;

/// The directory that a daemon watches.
pub struct Live {
    dir: PathBuf,
    /// The processes that stand in for the recorded ones, by recorded process ID.
    stand_ins: BTreeMap<u32, Child>,
}

impl Live {
    /// Plays into this directory, which may not hold jobs yet.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        fs::create_dir_all(dir.join(livelock::DIRECTORY))?;
        for entry in fs::read_dir(&dir)? {
            if JobId::from_file_name(entry?.file_name().as_encoded_bytes()).is_some() {
                return Err(io::Error::other("it holds jobs already; name an empty directory"));
            }
        }
        Ok(Self { dir, stand_ins: BTreeMap::new() })
    }

    /// Does what the line says.
    pub fn play(&mut self, line: &Line) -> io::Result<()> {
        match line.change() {
            Change::Content(path, content) => {
                let content = self.localize(path, content)?;
                self.write(path, &content)
            }
            Change::Moved(path, to) => {
                let to = self.inside(to)?;
                fs::create_dir_all(to.parent().unwrap_or(&self.dir))?;
                fs::rename(self.inside(path)?, to)
            }
            Change::Removed(path) => fs::remove_file(self.inside(path)?),
            Change::Exit(pid) => {
                if let Some(mut child) = self.stand_ins.remove(&pid) {
                    child.kill()?;
                    child.wait()?;
                }
                Ok(())
            }
            Change::Other => Ok(()),
        }
    }

    /// A recorded path below the directory; nothing leads out of it.
    fn inside(&self, path: &str) -> io::Result<PathBuf> {
        if Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            Ok(self.dir.join(path))
        } else {
            Err(io::Error::other(format!("the path {path:?} leads out of the directory")))
        }
    }

    /// Puts a file in place as Ganeti does: written under another name, then renamed.
    fn write(&self, path: &str, content: &str) -> io::Result<()> {
        let target = self.inside(path)?;
        let new = target.with_extension("new");
        fs::write(&new, content)?;
        fs::rename(new, target)
    }

    /// A job file that names a process that runs here instead of the recorded one.
    fn localize(&mut self, path: &str, content: &str) -> io::Result<String> {
        let is_job = JobId::from_file_name(path.as_bytes()).is_some();
        let Some(mut job) = is_job.then(|| value(content)).flatten() else {
            return Ok(content.to_owned());
        };
        let Some(livelock) = job["livelock"].as_str().and_then(|path| Path::new(path).file_name()) else {
            return Ok(content.to_owned());
        };
        let livelock = self.dir.join(livelock::DIRECTORY).join(livelock);
        if let Some(pid) = job["process_id"].as_u64().and_then(|pid| u32::try_from(pid).ok()) {
            job["process_id"] = self.stand_in(pid, &livelock, &job)?.into();
        }
        job["livelock"] = livelock.display().to_string().into();
        Ok(job.to_string())
    }

    /// The process that stands in for a recorded one; started when it is first named by
    /// a job that has not ended.
    fn stand_in(&mut self, pid: u32, livelock: &Path, job: &Value) -> io::Result<u32> {
        if let Some(child) = self.stand_ins.get(&pid) {
            return Ok(child.id());
        }
        let is_over = |op: &Value| matches!(op["status"].as_str(), Some("success" | "error" | "canceled"));
        if job["ops"].as_array().is_some_and(|ops| ops.iter().all(is_over)) {
            return Ok(pid);
        }
        let mut child = Command::new("/proc/self/exe")
            .arg0("ganeti-hookd")
            .arg("stand-in")
            .arg(livelock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // It says so when it holds the livelock.
        let mut ready = [0];
        let mut stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        stdout.read_exact(&mut ready)?;
        io::stdout().flush()?;
        let id = child.id();
        self.stand_ins.insert(pid, child);
        Ok(id)
    }
}

/// A job file as a value; what in it is not UTF-8 is replaced.
fn value(content: &str) -> Option<Value> {
    python_json::read(serde_json::from_str(content).ok()?).value
}

impl Drop for Live {
    fn drop(&mut self) {
        for child in self.stand_ins.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
