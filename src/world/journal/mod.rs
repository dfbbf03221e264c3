//! The journal: what the daemon knows, kept so that a crash loses nothing.
//!
//! New state and its events are committed in one transaction *before* any script runs;
//! a run is marked before it starts and after it ends. SQLite in WAL mode; a commit is
//! safe against the death of the daemon at any moment.

mod aside;
mod checkpoints;
mod feed;
mod filter;
mod history;
mod load;
mod numbers;
mod outbox;
mod prune;
mod schema;
mod vfs;
mod words;
mod write;

pub use aside::{put_in_place, set_aside};
pub use checkpoints::LogTeller;
pub use feed::{Cursor, FeedAnswer, InvalidCursor, Lost, Told};
pub use filter::Filter;
pub use history::{History, HistoryEvent, RunRecord};
pub use words::Word;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use checkpoints::Checkpoints;
use write::{statement, write};

use crate::engine::change::{Change, Remembered};
use crate::engine::input::{Recorded, Written};
use crate::engine::transitions::Progress;
use crate::ganeti::event_name::EventName;
use crate::ganeti::job::{JobId, Timestamp};
use crate::world::{failpoints, own_files};

/// The journal's file, below the state directory.
pub const FILE: &str = own_files::JOURNAL;

/// The highest number that an event ever had, also one that was forgotten.
const LAST_SEQ: &str = "max(coalesce((SELECT max(seq) FROM events), 0),
    coalesce((SELECT value FROM meta WHERE key = 'seq'), 0))";

/// The number of the last change in the feed, also of one that was forgotten.
const LAST_CHANGE: &str = "max(coalesce((SELECT max(change) FROM changes), 0),
    coalesce((SELECT value FROM meta WHERE key = 'forgotten'), 0))";

/// How long a commit waits for another writer.
const COMMIT_PATIENCE: Duration = Duration::from_millis(500);

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite says no.
    #[error("journal {path}: {error}")]
    Sqlite {
        /// The journal's file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        error: rusqlite::Error,
    },
    /// The system says no.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// Written by a newer version of this program.
    #[error(
        "journal {path} was written by a newer ganeti-hookd (journal version {found}, this program knows {}); install that version again",
        schema::VERSION
    )]
    Newer {
        /// The journal's file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Written by an older version of this program, and only to be read.
    #[error(
        "journal {path} was written by an older ganeti-hookd (journal version {found}, this program reads {}); start the daemon once, which brings it up to date",
        schema::VERSION
    )]
    Older {
        /// The journal's file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
}

impl JournalError {
    /// Whether the file is not a journal, or a damaged one: not a database, or one of
    /// another shape or with other values than we write.
    pub fn is_unusable(&self) -> bool {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqlInputError,
        };
        let Self::Sqlite { error, .. } = self else { return false };
        match error.sqlite_error_code() {
            Some(ErrorCode::Unknown) => true,
            Some(_) => self.is_damaged(),
            None => matches!(
                error,
                FromSqlConversionFailure(..)
                    | IntegralValueOutOfRange(..)
                    | InvalidColumnType(..)
                    | SqlInputError { .. }
            ),
        }
    }

    /// Whether the file has been damaged.
    pub fn is_damaged(&self) -> bool {
        let Self::Sqlite { error, .. } = self else { return false };
        matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation)
        )
    }
}

/// Nobody begins to read a journal while another one is put in its place: SQLite opens the file first
/// and the log beside it later. A reader of this process that had the old file and the new log would take
/// the index of the log for its own, and empty it: locks are the process's (SQLite: `os_unix.c`,
/// `unixLockSharedMemory`).
static PLACE: RwLock<()> = RwLock::new(());

/// Puts another journal in the place of the one that is there, and opens it.
pub fn replace<T>(put: impl FnOnce() -> T) -> T {
    let _alone = PLACE.write().unwrap_or_else(PoisonError::into_inner);
    put()
}

/// When the journal in this directory was written last; `None` when there is none. To be asked
/// before it is opened.
pub fn last_written(state_dir: &Path) -> Option<Timestamp> {
    let modified = |name: String| {
        let time = state_dir.join(name).metadata().ok()?.modified().ok()?;
        let since_epoch = time.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).ok()?))
    };
    // A commit goes to the log; a checkpoint may follow long after it, but not much.
    modified(format!("{FILE}-wal")).max(modified(FILE.to_owned()))
}

/// The journal, open for writing. There is one writer.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    path: PathBuf,
    /// No event has a higher number, not even one that could not be written.
    last_seq: i64,
    /// No change in the feed has a higher number.
    last_change: i64,
    checkpoints: Option<Checkpoints>,
}

impl Journal {
    /// Opens the journal in this directory; makes it where there is none.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged or from a newer version.
    pub fn open(state_dir: &Path) -> Result<Self, JournalError> {
        let path = state_dir.join(FILE);
        let wrap = |error| JournalError::Sqlite { path: path.clone(), error };
        // SQLite gives its other files the mode of this one. What else is wrong it says itself.
        match own_files::make(&path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(JournalError::Io { path, error });
            }
            _ => {}
        }
        let mut db = open(&path).map_err(wrap)?;
        let found = prepare(&db).map_err(wrap)?;
        if found > schema::VERSION {
            return Err(JournalError::Newer { path, found });
        }
        schema::migrate(&mut db, found).map_err(wrap)?;
        let (last_seq, last_change) = db
            .query_row(&format!("SELECT {LAST_SEQ}, {LAST_CHANGE}"), [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(wrap)?;
        // From here on somebody waits for each commit, and tries again.
        db.busy_timeout(COMMIT_PATIENCE).map_err(wrap)?;
        Ok(Self { db, path, last_seq, last_change, checkpoints: None })
    }

    /// Everything that a start needs to know; of the events that were another node's to deliver
    /// those noticed since `standby_since`.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn load(&self, standby_since: Timestamp) -> Result<Remembered, JournalError> {
        let remembered = load::load(&self.db, standby_since).map_err(|error| self.wrap(error))?;
        Ok(Remembered { next_seq: self.last_seq + 1, ..remembered })
    }

    /// The last event of this name; `None` when there is none.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn recorded(&self, name: &EventName) -> Result<Option<Recorded>, JournalError> {
        load::recorded(&self.db, name).map_err(|error| self.wrap(error))
    }

    /// How far the events in the journal tell a job; `None` when there are none of it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn progress(&self, id: JobId, received: Timestamp) -> Result<Option<Progress>, JournalError> {
        load::progress(&self.db, id, received).map_err(|error| self.wrap(error))
    }

    /// Writes all changes, or none.
    ///
    /// # Errors
    /// When SQLite says no, for example for want of room; nothing has been written then.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Written, JournalError> {
        let seqs = changes.iter().filter_map(|change| match change {
            Change::Event(seq, ..) => Some(*seq),
            _ => None,
        });
        self.last_seq = seqs.fold(self.last_seq, i64::max);
        self.try_commit(changes).map_err(|error| self.wrap(error))
    }

    fn try_commit(&mut self, changes: &[Change]) -> rusqlite::Result<Written> {
        failpoints::point("journal.before-commit");
        statement(&self.db, "BEGIN IMMEDIATE")?.execute([])?;
        let written = self.write_all(changes).and_then(|written| {
            failpoints::point("journal.within-commit");
            let mut commit = statement(&self.db, "COMMIT")?;
            vfs::committing(|| commit.execute([]))?;
            Ok(written)
        });
        let written = written.inspect_err(|_| {
            // SQLite may have done so itself.
            let _ = self.db.execute_batch("ROLLBACK");
        })?;
        failpoints::point("journal.after-commit");
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.committed(changes);
        }
        Ok(written)
    }

    /// Writes the changes inside of a transaction.
    fn write_all(&mut self, changes: &[Change]) -> rusqlite::Result<Written> {
        let mut written = Written::default();
        for change in changes {
            match change {
                Change::Prune(before, limit) => {
                    let (more, forgotten) = prune::prune(&self.db, *before, *limit)?;
                    written.more_to_prune |= more;
                    written.forgotten = written.forgotten.max(forgotten);
                }
                change => write(&self.db, change, &mut self.last_change)?,
            }
        }
        Ok(written)
    }

    fn wrap(&self, error: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.path.clone(), error }
    }
}

/// Opens the file for writing; makes it where there is none.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    match vfs::name() {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs),
        None => Connection::open(path),
    }
}

/// Sets the connection up and returns the journal's version.
fn prepare(db: &Connection) -> rusqlite::Result<i64> {
    db.busy_timeout(Duration::from_secs(5))?;
    db.set_prepared_statement_cache_capacity(32);
    // Synced at checkpoints, not at each commit: a commit outlives the daemon but may
    // not outlive the machine, and then comparing with the queue finds its events again.
    // Small pages (of a new journal): a commit changes a few bytes on each of several.
    db.execute_batch(
        "PRAGMA page_size = 1024;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -1024;",
    )?;
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

#[cfg(test)]
mod tests;
