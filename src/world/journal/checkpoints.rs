//! Checkpoints: what SQLite's log holds is moved into the journal's file.
//!
//! That waits for the disk, and whoever commits must not: a job process may stand still
//! meanwhile. So a thread of its own does it, with a connection of its own. A log that has become
//! large, because somebody kept it from being cleared, it clears as soon as that is possible, and
//! it tells how large the log is.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::{Connection, OpenFlags};

use super::{FILE, Journal};
use crate::engine::change::Change;
use crate::world::{failpoints, panics};

/// Changes between two checkpoints. A change is a page or some of 1 KiB in the log.
const INTERVAL: usize = 200;

/// Pages in the log from which a commit does it itself: the thread does not keep up.
const LOG_PAGES_MAX: u32 = 8192;

/// Bytes of text that a change writes to the log beside its page or some.
const PAGE: usize = 1024;

/// From so many bytes on the log is looked after until it has been cleared.
const LARGE: u64 = 16 * 1024 * 1024;

/// How often that is tried.
const RETRY: Duration = Duration::from_secs(1);

/// Is told how many bytes the log has, where they are many, and when they are no longer.
pub type LogTeller = Box<dyn Fn(u64) + Send>;

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
    fn start(path: PathBuf, tell: LogTeller) -> io::Result<Self> {
        let (requests, inbox) = bounded(1);
        let builder = thread::Builder::new().name("checkpoints".to_owned());
        let thread = builder.spawn(move || Keeper { path, tell, told: 0 }.work(&inbox))?;
        Ok(Self { requests: Some(requests), thread: Some(thread), changes: 0 })
    }

    /// These changes were committed.
    pub fn committed(&mut self, changes: &[Change]) {
        self.changes += changes.iter().map(pages).sum::<usize>();
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

/// How many pages of the log a change takes, about.
fn pages(change: &Change) -> usize {
    match change {
        Change::RunEnd(_, _, _, outcome) => 1 + outcome.output.len() / PAGE,
        _ => 1,
    }
}

/// What the thread works with.
struct Keeper {
    path: PathBuf,
    tell: LogTeller,
    /// The log's size when it was told last.
    told: u64,
}

impl Keeper {
    fn work(mut self, inbox: &Receiver<()>) {
        loop {
            let asked = match self.told {
                0..LARGE => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                _ => inbox.recv_timeout(RETRY),
            };
            if asked == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            // After a panic the next one is tried all the same.
            let _ = panics::caught(|| {
                failpoints::defect("checkpoints");
                match self.checkpoint() {
                    Ok(size) => self.tell_of(size),
                    // Whatever it is, the next commit meets it, too.
                    Err(error) => log::debug!("{}: no checkpoint: {error}", self.path.display()),
                }
            });
        }
    }

    /// Moves what can be moved, and returns how many bytes the log has then.
    fn checkpoint(&self) -> rusqlite::Result<u64> {
        // Never made anew here: one that is damaged may just be set aside.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        let page = db.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))?;
        let size = |mode: &str| {
            // The result is a row: whether somebody was in the way, the pages in the log, those moved.
            db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(1))
                .map(|pages| u64::try_from(pages.saturating_mul(page)).unwrap_or(0))
        };
        let moved = size("PASSIVE")?;
        if moved < LARGE {
            return Ok(moved);
        }
        // Waits for nobody: this connection has no patience.
        db.busy_timeout(Duration::ZERO)?;
        size("TRUNCATE").or(Ok(moved))
    }

    fn tell_of(&mut self, size: u64) {
        if size >= LARGE || self.told >= LARGE {
            (self.tell)(size);
        }
        self.told = size;
    }
}

impl Journal {
    /// From now on commits do not wait for checkpoints; without a thread they still do. `tell`
    /// is told of a log that has become large.
    pub fn checkpoint_aside(&mut self, state_dir: &Path, tell: LogTeller) {
        let started = Checkpoints::start(state_dir.join(FILE), tell)
            .map_err(|error| error.to_string())
            .and_then(|checkpoints| {
                let limit = self.db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX);
                limit.map(|()| checkpoints).map_err(|error| error.to_string())
            });
        match started {
            Ok(checkpoints) => self.checkpoints = Some(checkpoints),
            Err(error) => log::warn!("commits wait for the disk now and then: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::engine::change::{EventState, RunStart};
    use crate::engine::outcome::Outcome;
    use crate::ganeti::job::Timestamp;
    use crate::world::journal::tests::event;

    #[test]
    fn the_log_begins_anew_without_a_commit_that_does_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.checkpoint_aside(dir.path(), Box::new(|_| {}));
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

    #[test]
    fn a_log_that_somebody_keeps_is_told_of_and_cleared_when_they_have_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let (tell, told) = channel();
        journal.checkpoint_aside(dir.path(), Box::new(move |size| tell.send(size).unwrap()));
        let (time, node, script) = (Timestamp::from_micros(1), "node1".to_owned(), "10-a".to_owned());
        let run = RunStart {
            id: 1,
            seq: 1,
            node,
            directory: "global-pre.d".to_owned(),
            script,
            attempt: 1,
            started: time,
        };
        journal.commit(&[Change::Event(1, event(1), EventState::Pending), Change::RunStart(run)]).unwrap();
        let reader = Connection::open(dir.path().join(FILE)).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
        for round in 0..20 {
            let output = char::from(b'a' + round).to_string().repeat(1024 * 1024);
            journal.commit(&[Change::RunEnd(1, 1, time, Outcome { output, ..Outcome::default() })]).unwrap();
        }
        assert!(told.recv().unwrap() >= LARGE);
        reader.execute_batch("ROLLBACK").unwrap();
        // Nothing more is committed.
        while told.recv().unwrap() > 0 {}
        let log = std::fs::metadata(dir.path().join(format!("{FILE}-wal"))).unwrap();
        assert_eq!(log.len(), 0);
    }
}
