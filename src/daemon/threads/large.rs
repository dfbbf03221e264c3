//! Large job files are read by a thread of their own: one of 64 MiB takes as long as the
//! spawns of a hundred hooks, and the other jobs do not wait for it.

use std::io;
use std::path::Path;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::daemon::message::Message;
use crate::daemon::version::{Found, find};
use crate::engine::input::Version;
use crate::ganeti::job::JobId;
use crate::world::failpoints;
use crate::world::panics::caught;
use crate::world::process::priority;
use crate::world::queue::read::{JOB_SIZE_LIMIT, JobReader};

/// The way to the thread.
#[derive(Debug)]
pub struct LargeFiles {
    requests: Sender<(u64, JobId)>,
}

impl LargeFiles {
    /// Starts the thread; its answers go to `owner`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(queue_dir: &Path, owner: Sender<Message>) -> io::Result<Self> {
        let (requests, inbox) = unbounded();
        let reader = JobReader::new(queue_dir);
        thread::Builder::new().name("large-files".to_owned()).spawn(move || work(reader, &inbox, &owner))?;
        Ok(Self { requests })
    }

    /// Asks for a job's file, in the queue or in the archive, as it is as soon as the thread comes to it; the answer is a
    /// [`Message::LargeRead`].
    pub fn read(&self, reading: u64, id: JobId) {
        // The thread ends with the daemon, not before.
        let _ = self.requests.send((reading, id));
    }
}

fn work(mut reader: JobReader, inbox: &Receiver<(u64, JobId)>, owner: &Sender<Message>) {
    priority::come_last();
    for (reading, id) in inbox {
        let read = caught(|| read(&mut reader, id));
        let found = Box::new(read.unwrap_or_else(|what| Found::Other(Version::Bad(what, None))));
        reader.give_back();
        if owner.send(Message::LargeRead { reading, id, found }).is_err() {
            return;
        }
    }
}

fn read(reader: &mut JobReader, id: JobId) -> Found<'static> {
    failpoints::defect("large-files");
    find(reader, id, JOB_SIZE_LIMIT, true, |found| found.into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let job = r#"{"id":1,"received_timestamp":[5,0],"ops":[]}"#;
        fs::write(dir.path().join("job-1"), job).unwrap();
        fs::write(dir.path().join("job-2"), "nonsense").unwrap();
        fs::create_dir(dir.path().join("job-3")).unwrap();
        let (owner, answers) = unbounded();
        let large = LargeFiles::start(dir.path(), owner).unwrap();
        let version = |id: i64| {
            large.read(7, id.try_into().unwrap());
            match answers.recv().unwrap() {
                Message::LargeRead { reading: 7, found, .. } => found,
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(version(1).as_version(), Version::Queued(job, None) if job.id.get() == 1));
        assert!(matches!(version(2).as_version(), Version::Bad(..)));
        assert!(matches!(version(3).as_version(), Version::Bad(what, _) if what == "is not a regular file"));
        assert!(matches!(version(4).as_version(), Version::Gone));
        fs::create_dir_all(dir.path().join("archive/0/job-5")).unwrap();
        fs::rename(dir.path().join("job-1"), dir.path().join("archive/0/job-1")).unwrap();
        assert!(matches!(version(1).as_version(), Version::Archived(job) if job.id.get() == 1));
        let archived = "(archived) is not a regular file";
        assert!(matches!(version(5).as_version(), Version::Bad(what, _) if what == archived));
    }
}
