//! Large job files, which are read one after the other by a thread of their own.

use std::collections::BTreeSet;

use super::Cause;
use crate::ganeti::job::JobId;

/// Large files that are to be read, and the one that is being read.
#[derive(Debug, Default)]
pub struct LargeFiles {
    /// None of them is being read and wanted.
    waiting: BTreeSet<(Cause, JobId)>,
    reading: Option<Reading>,
    readings: u64,
}

/// A large file that is being read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    number: u64,
    id: JobId,
    /// What it tells is still wanted.
    is_wanted: bool,
    /// The file has changed since it was asked for.
    overtaken: bool,
}

/// What a reading tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// What is in the file.
    Current,
    /// What was in it when it was asked for; it has changed since.
    Overtaken,
    /// Nothing that is wanted any more.
    Unwanted,
}

impl LargeFiles {
    /// The job's file has changed.
    pub fn changed(&mut self, id: JobId) {
        if let Some(reading) = self.reading_of(id) {
            reading.overtaken = true;
        }
    }

    fn reading_of(&mut self, id: JobId) -> Option<&mut Reading> {
        self.reading.as_mut().filter(|reading| reading.id == id)
    }

    /// Has a file read. Returns what is to be read now.
    pub fn want(&mut self, id: JobId, cause: Cause) -> Option<(u64, JobId)> {
        match self.reading_of(id).filter(|reading| reading.is_wanted) {
            Some(reading) => reading.overtaken = true,
            None => {
                self.waiting.remove(&(Cause::Scanned, id));
                self.waiting.insert((cause, id));
            }
        }
        self.next()
    }

    /// Whether the file is to be read, or being read.
    pub fn wants(&self, id: JobId) -> bool {
        let is_waiting = |cause| self.waiting.contains(&(cause, id));
        let reading = self.reading.filter(|reading| reading.id == id && reading.is_wanted);
        reading.is_some() || is_waiting(Cause::Hinted) || is_waiting(Cause::Scanned)
    }

    /// What a reading of the file tells is not wanted.
    pub fn unwant(&mut self, id: JobId) {
        self.waiting.remove(&(Cause::Hinted, id));
        self.waiting.remove(&(Cause::Scanned, id));
        if let Some(reading) = self.reading_of(id) {
            reading.is_wanted = false;
        }
    }

    /// A file has been read, of which something else may say that it has changed; `None` for
    /// another than the one that is being read.
    pub fn read(&mut self, number: u64, has_changed: bool) -> Option<Read> {
        let read = self.reading.take_if(|read| read.number == number)?;
        Some(match (read.is_wanted, read.overtaken || has_changed) {
            (false, _) => Read::Unwanted,
            (true, true) => Read::Overtaken,
            (true, false) => Read::Current,
        })
    }

    /// The next to be read, if none is: those that something has just happened to come first.
    pub fn next(&mut self) -> Option<(u64, JobId)> {
        if self.reading.is_some() {
            return None;
        }
        let (_, id) = self.waiting.pop_first()?;
        self.readings += 1;
        let number = self.readings;
        self.reading = Some(Reading { number, id, overtaken: false, is_wanted: true });
        Some((number, id))
    }

    /// Whether none is to be read, nor being read.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.reading.is_none()
    }
}
