//! Playing a recording into a directory, with a process for each job process.
//!
//! The processes publish their jobs' versions themselves, as job processes do, so that a daemon
//! can hold them. What others do to a job's file comes after what its process has to publish.

mod stand_in;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::ganeti::job::JobId;
use crate::ganeti::python_json;
use crate::ganeti::recording::{Change, Line};
use crate::world::process::livelock;
use stand_in::StandIn;

/// The directory that a daemon watches.
pub struct Live {
    dir: PathBuf,
    /// The processes that stand in for the recorded ones, by recorded process ID.
    stand_ins: BTreeMap<u32, StandIn>,
    /// Files that were written, so that each has a name of its own until it is in place.
    written: u64,
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
        Ok(Self { dir, stand_ins: BTreeMap::new(), written: 0 })
    }

    /// Does what the line says.
    pub fn play(&mut self, line: &Line) -> io::Result<()> {
        match line.change() {
            Change::Content(path, content) => {
                let (content, process) = self.localize(path, content)?;
                self.write(path, &content, process)
            }
            Change::Moved(path, to) => {
                self.settle(path);
                let to = self.inside(to)?;
                fs::create_dir_all(to.parent().unwrap_or(&self.dir))?;
                fs::rename(self.inside(path)?, to)
            }
            Change::Removed(path) => {
                self.settle(path);
                fs::remove_file(self.inside(path)?)
            }
            Change::Exit(pid) => self.stand_ins.remove(&pid).map_or(Ok(()), StandIn::end),
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

    /// Waits until what a process has to publish of this job is in place.
    fn settle(&mut self, path: &str) {
        self.stand_ins.values_mut().filter(|process| process.publishes(path)).for_each(StandIn::settle);
    }

    /// Puts a file in place as Ganeti does, written under another name and then renamed, by the
    /// process that does so if there is one.
    fn write(&mut self, path: &str, content: &str, process: Option<u32>) -> io::Result<()> {
        let target = self.inside(path)?;
        self.written += 1;
        let new = target.with_extension(format!("{}.new", self.written));
        fs::write(&new, content)?;
        let process = process.and_then(|pid| self.stand_ins.get_mut(&pid));
        if process.is_some_and(|process| process.publish(path, &new, &target)) {
            return Ok(());
        }
        self.settle(path);
        fs::rename(new, target)
    }

    /// A job file that names a process that runs here instead of the recorded one, and the
    /// recorded one.
    fn localize(&mut self, path: &str, content: &str) -> io::Result<(String, Option<u32>)> {
        let is_job = JobId::from_file_name(path.as_bytes()).is_some();
        let Some(mut job) = is_job.then(|| value(content)).flatten() else {
            return Ok((content.to_owned(), None));
        };
        let Some(livelock) = job["livelock"].as_str().and_then(|path| Path::new(path).file_name()) else {
            return Ok((content.to_owned(), None));
        };
        let livelock = self.dir.join(livelock::DIRECTORY).join(livelock);
        let pid = job["process_id"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        if let Some(pid) = pid {
            job["process_id"] = self.stand_in(pid, &livelock, &job)?.into();
        }
        job["livelock"] = livelock.display().to_string().into();
        Ok((job.to_string(), pid))
    }

    /// The process that stands in for a recorded one; started when it is first named by
    /// a job that has not ended.
    fn stand_in(&mut self, pid: u32, livelock: &Path, job: &Value) -> io::Result<u32> {
        if let Some(process) = self.stand_ins.get(&pid) {
            return Ok(process.id());
        }
        let is_over = |op: &Value| matches!(op["status"].as_str(), Some("success" | "error" | "canceled"));
        if job["ops"].as_array().is_some_and(|ops| ops.iter().all(is_over)) {
            return Ok(pid);
        }
        let process = StandIn::start(livelock)?;
        let id = process.id();
        self.stand_ins.insert(pid, process);
        Ok(id)
    }
}

/// A job file as a value; what in it is not UTF-8 is replaced.
fn value(content: &str) -> Option<Value> {
    python_json::read(serde_json::from_str(content).ok()?).value
}
