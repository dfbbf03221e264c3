//! The queue: its files as they are, and word of what changes.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::daemon::inbox::Inbox;
use crate::daemon::message::Message;
use crate::daemon::threads::large::LargeFiles;
use crate::daemon::threads::scanner::{self, Scanner};
use crate::daemon::version::{Found, find};
use crate::engine::input::{Input, Version};
use crate::engine::settings::Paths;
use crate::ganeti::job::JobId;
use crate::world::cluster::{MASTER_NODE, ONLINE_NODES};
use crate::world::flood::Flow;
use crate::world::queue::mounts::Place;
use crate::world::queue::read::JobReader;
use crate::world::queue::watch::{Hint, Watch, watch};

/// What is done with the queue directory.
#[derive(Debug)]
pub struct Queue {
    queue_dir: PathBuf,
    data_dir: PathBuf,
    inbox: Inbox,
    reader: JobReader,
    large: LargeFiles,
    scanner: Scanner,
    watch: Option<Watch>,
    /// Where the queue was when it was last watched.
    place: Option<Place>,
}

impl Queue {
    /// The queue with these paths; what happens in it is told to `inbox`. Nothing is watched
    /// yet.
    ///
    /// # Errors
    /// When there are no threads to be had.
    pub fn new(paths: &Paths, inbox: Inbox) -> io::Result<Self> {
        Ok(Self {
            queue_dir: paths.queue_dir.clone(),
            data_dir: paths.data_dir.clone(),
            reader: JobReader::new(&paths.queue_dir),
            large: LargeFiles::start(&paths.queue_dir, inbox.sender())?,
            scanner: Scanner::start(&paths.queue_dir, inbox.sender())?,
            inbox,
            watch: None,
            place: None,
        })
    }

    /// Watches the queue and the cluster's files, from now on.
    ///
    /// # Errors
    /// What cannot be watched, and what to do about it.
    pub fn watch(&mut self) -> Result<(), String> {
        self.watch = None;
        let mut dirs = vec![self.queue_dir.clone()];
        if !dirs.contains(&self.data_dir) {
            dirs.push(self.data_dir.clone());
        }
        let handler = tell(self.inbox.clone(), self.queue_dir.clone(), self.data_dir.clone());
        let watch = watch(&dirs, handler).map_err(|error| error.to_string())?;
        self.place = watch.place(&self.queue_dir).cloned();
        self.watch = Some(watch);
        Ok(())
    }

    /// Whether there is no queue.
    pub fn is_missing(&self) -> bool {
        self.queue_dir.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether something is watched, and is not any more where it was.
    pub fn is_watch_lost(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| !watch.is_current())
    }

    /// What was watched is not there any more.
    pub fn watch_no_longer(&mut self) {
        self.watch = None;
    }

    /// Has the queue listed by the scanner's thread.
    pub fn scan(&self, scan: u64) {
        self.scanner.scan(scan);
    }

    /// Has a large file read by the thread for these.
    pub fn read_large(&self, reading: u64, id: JobId) {
        self.large.read(reading, id);
    }

    /// The last job number that was given out, if that is known.
    pub fn serial(&self) -> Option<i64> {
        scanner::serial(&self.queue_dir).unwrap_or_else(|error| {
            static FLOW: Flow = Flow::new();
            FLOW.warn(error);
            None
        })
    }

    /// Whether the job's file is the one that was read last.
    pub fn is_as_read(&self, id: JobId) -> bool {
        self.reader.is_as_read(id)
    }

    /// Tells what there is of a job: its file in the queue, else, with `archive`, the one in the
    /// archive, if that has at most `limit` bytes.
    pub fn read<R>(
        &mut self,
        id: JobId,
        limit: u64,
        archive: bool,
        tell: impl FnOnce(Version<'_>) -> R,
    ) -> R {
        let (place, queue_dir) = (self.place.as_ref(), &self.queue_dir);
        find(&mut self.reader, id, limit, archive, |found| match found {
            Found::Other(Version::Gone) => tell(gone(place, queue_dir)),
            found => tell(found.as_version()),
        })
    }

    /// What is to be said of a file that was not there.
    pub fn gone(&self) -> Version<'static> {
        gone(self.place.as_ref(), &self.queue_dir)
    }
}

/// What is to be said of a file that was not there: where the queue is not what it was, a missing
/// file says nothing.
fn gone(place: Option<&Place>, queue_dir: &Path) -> Version<'static> {
    let is_there = place.map_or_else(|| queue_dir.is_dir(), Place::is_current);
    if is_there { Version::Gone } else { Version::Failed("the queue is not where it was".to_owned()) }
}

/// Tells the daemon what it has to look at.
fn tell(inbox: Inbox, queue_dir: PathBuf, data_dir: PathBuf) -> impl FnMut(Hint<'_>) + Send {
    move |hint| {
        let input = match hint {
            Hint::Changed(dir, name) if dir == data_dir && (name == MASTER_NODE || name == ONLINE_NODES) => {
                Some(Input::ClusterChanged)
            }
            Hint::Changed(dir, name) if dir == queue_dir => {
                JobId::from_file_name(name.as_bytes()).map(Input::Hint)
            }
            Hint::Changed(..) => None,
            // To watch again takes this thread, which must therefore not be the one that does so.
            Hint::Overflow => return inbox.send(Message::Input(Input::Overflow)),
            Hint::Lost(_) => return inbox.send(Message::WatchLost),
        };
        if let Some(input) = input {
            inbox.hand_in(Message::Input(input));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use crossbeam_channel::Receiver;

    use super::*;
    use crate::engine::settings::Settings;
    use crate::world::queue::read::JOB_SIZE_LIMIT;

    const JOB: &str = r#"{"id":1,"received_timestamp":[5,0],"ops":[]}"#;

    fn queue(dir: &Path) -> (Queue, Receiver<Message>) {
        let mut paths = Settings::default().paths;
        (paths.queue_dir, paths.data_dir) = (dir.to_owned(), dir.to_owned());
        let (inbox, messages) = Inbox::new();
        (Queue::new(&paths, inbox).unwrap(), messages)
    }

    /// What is there of job 1, in words.
    fn read(queue: &mut Queue, limit: u64, archive: bool) -> String {
        queue.read(1.try_into().unwrap(), limit, archive, |version| match version {
            Version::Queued(job, stamp) => format!("queued {} {}", job.id, stamp.is_some()),
            Version::Archived(job) => format!("archived {}", job.id),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_job_is_read_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (mut queue, _messages) = queue(dir.path());
        fs::create_dir_all(dir.path().join("archive/0")).unwrap();
        fs::write(dir.path().join("archive/0/job-1"), JOB).unwrap();
        assert_eq!(read(&mut queue, 100, true), "archived 1");
        assert_eq!(read(&mut queue, 100, false), "Gone");
        assert_eq!(read(&mut queue, 7, true), format!("Large({})", JOB.len()));
        fs::write(dir.path().join("job-1"), JOB).unwrap();
        assert_eq!(read(&mut queue, u64::MAX, true), "queued 1 false", "too young to be told apart");
        assert_eq!(read(&mut queue, 7, true), format!("Large({})", JOB.len()));
        fs::write(dir.path().join("job-1"), "{").unwrap();
        assert!(read(&mut queue, 100, true).starts_with("Bad("));
        fs::remove_file(dir.path().join("job-1")).unwrap();
        let file = File::create(dir.path().join("job-1")).unwrap();
        file.set_len(JOB_SIZE_LIMIT + 1).unwrap();
        assert_eq!(
            read(&mut queue, u64::MAX, true),
            r#"Bad("has 268435457 bytes; the limit is 268435456", None)"#
        );
    }

    #[test]
    fn in_a_queue_that_was_replaced_nothing_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        fs::create_dir(&path).unwrap();
        let (mut queue, messages) = queue(&path);
        assert_eq!(read(&mut queue, 100, true), "Gone");
        queue.watch().unwrap();
        assert_eq!(read(&mut queue, 100, true), "Gone");
        fs::rename(&path, dir.path().join("old")).unwrap();
        let failed = r#"Failed("the queue is not where it was")"#;
        assert_eq!(read(&mut queue, 100, true), failed);
        fs::create_dir(&path).unwrap();
        assert_eq!(read(&mut queue, 100, true), failed);
        assert!(matches!(messages.recv().unwrap(), Message::WatchLost) && queue.is_watch_lost());
        queue.watch_no_longer();
        assert_eq!(read(&mut queue, 100, false), failed, "nor until it is watched again");
        queue.watch().unwrap();
        assert_eq!((read(&mut queue, 100, true).as_str(), queue.is_watch_lost()), ("Gone", false));
    }

    #[test]
    fn before_it_is_watched_a_queue_that_is_not_there_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut queue, _messages) = queue(&dir.path().join("nowhere"));
        assert_eq!(read(&mut queue, 100, true), r#"Failed("the queue is not where it was")"#);
        assert_eq!(queue.serial(), None);
    }
}
