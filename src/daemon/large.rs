//! Large job files are read by a thread of their own: one of 64 MiB takes as long as the
//! spawns of a hundred hooks, and the other jobs do not wait for it.
//!
//! One reading of a job is under way at a time. What changes meanwhile is read after it,
//! so a file that never rests is read as fast as that goes, and each reading counts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::thread;

use crossbeam_channel::{Sender, unbounded};

use super::message::Message;
use super::observe::Version;
use super::{Daemon, LARGE_FILE};
use crate::ganeti::job::{self, Job, JobId, ParseError};
use crate::world::process::priority;
use crate::world::queue::read::{JOB_SIZE_LIMIT, JobReader};
use crate::world::regular_file::ReadError;

/// What a large file holds; `None` when it is gone.
pub type Content = Result<Option<Result<Job<'static>, ParseError>>, ReadError>;

/// The way to the thread, and what it was asked.
#[derive(Debug)]
pub struct LargeFiles {
    requests: Sender<(u64, JobId)>,
    next: u64,
    under_way: BTreeMap<JobId, UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    /// The file has changed since it was asked for.
    overtaken: bool,
}

impl LargeFiles {
    /// Starts the thread; its answers go to `owner`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(queue_dir: &Path, owner: Sender<Message>) -> io::Result<Self> {
        let (requests, inbox) = unbounded();
        let mut reader = JobReader::new(queue_dir);
        thread::Builder::new().name("large-files".to_owned()).spawn(move || {
            priority::come_last();
            for (number, id) in inbox {
                let content = reader
                    .queued(id, JOB_SIZE_LIMIT)
                    .map(|bytes| bytes.map(|bytes| job::parse(id, bytes).map(Job::into_owned)));
                reader.give_back();
                if owner.send(Message::LargeRead { number, id, content }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, next: 0, under_way: BTreeMap::new() })
    }

    /// Asks for a job's file as it is now, or as soon as the thread has read it as it was.
    pub fn read(&mut self, id: JobId) {
        if let Some(under_way) = self.under_way.get_mut(&id) {
            under_way.overtaken = true;
            return;
        }
        self.next += 1;
        self.under_way.insert(id, UnderWay { number: self.next, overtaken: false });
        let _ = self.requests.send((self.next, id));
    }

    /// The job's file has been read in another way: the answer is not wanted any more.
    pub fn forget(&mut self, id: JobId) {
        self.under_way.remove(&id);
    }

    /// Takes an answer. Returns whether its file has changed since it was asked for;
    /// `None` when it is not wanted.
    fn answered(&mut self, number: u64, id: JobId) -> Option<bool> {
        self.under_way.get(&id).filter(|under_way| under_way.number == number)?;
        self.under_way.remove(&id).map(|under_way| under_way.overtaken)
    }
}

impl Daemon {
    /// A large file has been read.
    pub(super) fn large_read(&mut self, number: u64, id: JobId, content: Content) {
        let Some(overtaken) = self.large.answered(number, id) else { return };
        // What has been hinted at, but not been looked at, may be newer, too.
        let overtaken = overtaken || self.dirty.contains(&id);
        match content {
            Ok(Some(Ok(job))) => {
                self.look_at(&job, if overtaken { Version::Overtaken } else { Version::Queued });
            }
            // It is looked at again, which tells more than an old answer.
            _ if overtaken => {}
            Ok(Some(Err(error))) => self.bad_file(id, error.to_string()),
            Ok(None) => drop(self.dirty.insert(id)),
            Err(error) => self.unreadable(id, &error),
        }
        if overtaken {
            self.dirty.insert(id);
        }
    }

    /// The largest file that is read at once. What was there before the start is looked at
    /// in one go, and so is everything after a failover.
    pub(super) fn read_limit(&self) -> u64 {
        if self.starting { JOB_SIZE_LIMIT } else { LARGE_FILE }
    }
}
