//! Checkpoints: what SQLite's log holds is moved into the journal's file.
//!
//! That waits for the disk, and whoever commits must not: a job process may stand still
//! meanwhile. So a thread of its own does it, with a connection of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, OpenFlags};

use super::{FILE, Journal};

/// Changes between two checkpoints. A change is a page or some of 1 KiB in the log.
const INTERVAL: usize = 200;

/// Pages in the log from which a commit does it itself: the thread does not keep up.
const LOG_PAGES_MAX: u32 = 8192;

/// The way to the thread.
#[derive(Debug)]
pub struct Checkpoints {
    /// Taken when dropped.
    requests: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Changes since the last was asked for.
    changes: usize,
}

impl Checkpoints {
    fn start(path: PathBuf) -> io::Result<Self> {
        let (requests, inbox) = bounded(1);
        let builder = thread::Builder::new().name("checkpoints".to_owned());
        let thread = builder.spawn(move || work(&path, &inbox))?;
        Ok(Self { requests: Some(requests), thread: Some(thread), changes: 0 })
    }

    /// So many changes were committed.
    pub fn committed(&mut self, changes: usize) {
        self.changes += changes;
        if self.changes >= INTERVAL {
            self.changes = 0;
            // Where one is asked for already, that will do.
            let _ = self.requests.as_ref().map(|requests| requests.try_send(()));
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(path: &Path, inbox: &Receiver<()>) {
    for () in inbox {
        // Never made anew here: one that is damaged may just be set aside.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let done = Connection::open_with_flags(path, flags).and_then(|db| {
            // The result is a row: how much was moved.
            db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        });
        // Whatever it is, the next commit meets it, too.
        if let Err(error) = done {
            log::debug!("{}: no checkpoint: {error}", path.display());
        }
    }
}

impl Journal {
    /// From now on commits do not wait for checkpoints; without a thread they still do.
    pub fn checkpoint_aside(&mut self, state_dir: &Path) {
        let started = Checkpoints::start(state_dir.join(FILE)).map_err(|error| error.to_string()).and_then(
            |checkpoints| {
                let limit = self.db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX);
                limit.map(|()| checkpoints).map_err(|error| error.to_string())
            },
        );
        match started {
            Ok(checkpoints) => self.checkpoints = Some(checkpoints),
            Err(error) => log::warn!("commits wait for the disk now and then: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::change::Change;
    use crate::ganeti::job::Timestamp;

    #[test]
    fn the_log_begins_anew_without_a_commit_that_does_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.checkpoint_aside(dir.path());
        let log = dir.path().join(format!("{FILE}-wal"));
        // Others each time: SQLite does not write what is there.
        let mut times = (1..).map(|time| Change::Begun(Timestamp::from_micros(time)));
        let mut commit = |count: usize| {
            journal.commit(&times.by_ref().take(count).collect::<Vec<_>>()).unwrap();
        };
        commit(1);
        // The log's header has a number that grows when the log begins anew (SQLite: file
        // format, section 4.1): at a commit that finds all of it moved.
        let number = || std::fs::read(&log).unwrap()[12..16].to_vec();
        let first = number();
        let begins_anew = (0..12).any(|round| {
            commit(INTERVAL);
            // The thread may take its time.
            thread::sleep(std::time::Duration::from_millis(1 << round));
            commit(1);
            number() != first
        });
        // So few pages that no commit has done it itself.
        let length = std::fs::metadata(&log).unwrap().len();
        assert!(begins_anew && length < 1024 * u64::from(LOG_PAGES_MAX) / 2, "{length}");
    }
}
