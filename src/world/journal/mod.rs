//! The journal: what the daemon knows, kept so that a crash loses nothing.
//!
//! New state and its events are committed in one transaction *before* any script runs;
//! a run is marked before it starts and after it ends. SQLite in WAL mode; a commit is
//! safe against the death of the daemon at any moment.

mod aside;
mod checkpoints;
mod history;
mod load;
mod schema;

pub use aside::{put_in_place, set_aside};
pub use history::{Filter, History, HistoryEvent, RunRecord};
pub use load::{Loaded, Undelivered};

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, ErrorCode, params};

use checkpoints::Checkpoints;

use crate::engine::numbers::Numbers;
use crate::engine::outcome::Outcome;
use crate::engine::tracker::Tracked;
use crate::engine::transitions::Progress;
use crate::ganeti::event::Event;
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::opcodes::View;
use crate::world::failpoints;

/// The journal's file, below the state directory.
pub const FILE: &str = "journal.db";

/// The highest number that an event ever had, also one that was forgotten.
const LAST_SEQ: &str = "max(coalesce((SELECT max(seq) FROM events), 0),
    coalesce((SELECT value FROM meta WHERE key = 'seq'), 0))";

/// The highest number of a run of an event whose scripts have not all ended.
const LAST_RUN: &str = "SELECT coalesce(max(id), 0) FROM runs
    WHERE seq IN (SELECT seq FROM events WHERE state = 'pending')";

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
        error: std::io::Error,
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
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// Its scripts have not all ended.
    Pending,
    /// Its scripts have ended, or it has none.
    Done,
    /// Noticed while another node was master: that node's to deliver.
    Standby,
}

impl EventState {
    /// The word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Standby => "standby",
        }
    }
}

/// A run that begins.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// The run's number, given by [`Journal::next_run`]; together with the event's it is
    /// no other run's.
    pub id: i64,
    /// The event it is for.
    pub seq: i64,
    /// The node it runs on.
    pub node: String,
    /// The script's name.
    pub script: String,
    /// 1, or more after a crash.
    pub attempt: u32,
    /// When.
    pub started: Timestamp,
}

/// One change to what the journal holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// How far a job has been told.
    Job(JobId, Tracked),
    /// The job has left the queue.
    Forget(JobId),
    /// A new event.
    Event(i64, Event, EventState),
    /// An event's state changed.
    EventState(i64, EventState),
    /// A standby event becomes ours: deliver it, late.
    Adopt(i64),
    /// An event turned out to be late.
    Late(i64),
    /// What the event's scripts are given, and where they run.
    Plan(i64, View),
    /// A run begins.
    RunStart(RunStart),
    /// A run of this event and number has ended.
    RunEnd(i64, i64, Timestamp, Outcome),
    /// The job numbers accounted for.
    Numbers(Numbers),
    /// The first start was at this time.
    Begun(Timestamp),
    /// Forget the events before this time.
    Prune(Timestamp),
}

/// The journal, open for writing. There is one writer.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    path: PathBuf,
    numbers: Numbers,
    next_seq: i64,
    next_run: i64,
    /// No event is of a job with a higher number.
    highest_job: i64,
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
        let mut db = Connection::open(&path).map_err(wrap)?;
        let found = prepare(&db).map_err(wrap)?;
        if found > schema::VERSION {
            return Err(JournalError::Newer { path, found });
        }
        schema::migrate(&mut db, found).map_err(wrap)?;
        let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
        let next_seq = number(&format!("SELECT {LAST_SEQ}")).map_err(wrap)? + 1;
        let next_run = number(LAST_RUN).map_err(wrap)? + 1;
        let highest_job = number("SELECT coalesce(max(job), 0) FROM events").map_err(wrap)?;
        let numbers = load::numbers(&db).map_err(wrap)?;
        // From here on somebody waits for each commit, and tries again.
        db.busy_timeout(COMMIT_PATIENCE).map_err(wrap)?;
        Ok(Self { db, path, numbers, next_seq, next_run, highest_job, checkpoints: None })
    }

    /// Everything that a start needs to know; of the events that were another node's to deliver
    /// those noticed since `standby_since`; their runs get higher numbers from now on.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn load(&mut self, standby_since: Timestamp) -> Result<Loaded, JournalError> {
        let loaded = load::load(&self.db, self.numbers.clone(), standby_since);
        let loaded = loaded.map_err(|error| self.wrap(error))?;
        for event in &loaded.standby {
            let last = load::last_run(&self.db, event.seq).map_err(|error| self.wrap(error))?;
            self.next_run = self.next_run.max(last + 1);
        }
        Ok(loaded)
    }

    /// When the first event that is kept was noticed; `None` when there is none.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn first_event_time(&self) -> Result<Option<Timestamp>, JournalError> {
        load::first_event_time(&self.db).map_err(|error| self.wrap(error))
    }

    /// How far the events in the journal tell a job; `None` when there are none of it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn progress(&self, id: JobId, received: Timestamp) -> Result<Option<Progress>, JournalError> {
        if id.get() > self.highest_job {
            return Ok(None);
        }
        load::progress(&self.db, id, received).map_err(|error| self.wrap(error))
    }

    /// The number of the next event.
    pub fn next_seq(&mut self) -> i64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// The number of the next run.
    pub fn next_run(&mut self) -> i64 {
        self.next_run += 1;
        self.next_run - 1
    }

    /// Writes all changes, or none.
    ///
    /// # Errors
    /// When SQLite says no, for example for want of room; nothing has been written then.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
        self.try_commit(changes).map_err(|error| self.wrap(error))
    }

    fn try_commit(&mut self, changes: &[Change]) -> rusqlite::Result<()> {
        failpoints::point("journal.before-commit");
        statement(&self.db, "BEGIN IMMEDIATE")?.execute([])?;
        let written = self.write_all(changes).and_then(|numbers| {
            failpoints::point("journal.within-commit");
            statement(&self.db, "COMMIT")?.execute([])?;
            Ok(numbers)
        });
        let numbers = written.inspect_err(|_| {
            // SQLite may have done so itself.
            let _ = self.db.execute_batch("ROLLBACK");
        })?;
        failpoints::point("journal.after-commit");
        let events = changes.iter().filter_map(|change| match change {
            Change::Event(_, event, _) => Some(event.key.job.get()),
            _ => None,
        });
        self.highest_job = events.fold(self.highest_job, i64::max);
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.committed(changes.len());
        }
        if let Some(numbers) = numbers {
            self.numbers = numbers;
        }
        Ok(())
    }

    /// Writes the changes inside of a transaction. Returns the job numbers, if they changed.
    fn write_all(&self, changes: &[Change]) -> rusqlite::Result<Option<Numbers>> {
        let mut numbers = None;
        for change in changes {
            match change {
                Change::Numbers(new) => {
                    write_numbers(&self.db, numbers.unwrap_or(&self.numbers), new)?;
                    numbers = Some(new);
                }
                change => write(&self.db, change)?,
            }
        }
        Ok(numbers.cloned())
    }

    fn wrap(&self, error: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.path.clone(), error }
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

fn statement<'db>(db: &'db Connection, sql: &str) -> rusqlite::Result<CachedStatement<'db>> {
    db.prepare_cached(sql)
}

fn write(db: &Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Job(id, tracked) => write_job(db, *id, tracked)?,
        Change::Forget(id) => {
            statement(db, "DELETE FROM jobs WHERE id = ?1")?.execute([id.get()])?;
        }
        Change::Event(seq, event, state) => write_event(db, *seq, event, *state)?,
        Change::EventState(seq, state) => {
            statement(db, "UPDATE events SET state = ?2 WHERE seq = ?1")?
                .execute(params![seq, state.as_str()])?;
        }
        Change::Adopt(seq) => {
            statement(db, "UPDATE events SET state = 'pending', late = 1 WHERE seq = ?1")?.execute([seq])?;
        }
        Change::Late(seq) => {
            statement(db, "UPDATE events SET late = 1 WHERE seq = ?1")?.execute([seq])?;
        }
        Change::RunStart(run) => {
            statement(
                db,
                "INSERT INTO runs (seq, id, node, script, attempt, started) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                run.seq,
                run.id,
                run.node,
                run.script,
                run.attempt,
                run.started.as_micros()
            ])?;
        }
        Change::Plan(seq, view) => {
            // Strings and lists of them: there is nothing in it that JSON cannot say.
            let plan = serde_json::to_string(view).unwrap_or_default();
            statement(db, "UPDATE events SET plan = ?2 WHERE seq = ?1")?.execute(params![seq, plan])?;
        }
        Change::RunEnd(seq, id, ended, outcome) => write_run_end(db, *seq, *id, *ended, outcome)?,
        Change::Begun(time) => {
            statement(db, "INSERT OR REPLACE INTO meta VALUES ('begun', ?1)")?.execute([time.as_micros()])?;
        }
        Change::Prune(before) => {
            statement(db, &format!("INSERT OR REPLACE INTO meta VALUES ('seq', {LAST_SEQ})"))?.execute([])?;
            // The oldest ones, up to the first that is to be kept: after the clock was set
            // back some are kept longer.
            statement(
                db,
                "DELETE FROM events WHERE state <> 'pending' AND seq < coalesce(
                    (SELECT seq FROM events WHERE time >= ?1 ORDER BY seq LIMIT 1),
                    (SELECT max(seq) + 1 FROM events))",
            )?
            .execute([before.as_micros()])?;
        }
        Change::Numbers(_) => {}
    }
    Ok(())
}

fn write_job(db: &Connection, id: JobId, tracked: &Tracked) -> rusqlite::Result<()> {
    let process = tracked.process.as_ref();
    statement(db, "INSERT OR REPLACE INTO jobs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
        params![
            id.get(),
            tracked.received.as_micros(),
            tracked.progress.next,
            tracked.progress.pre,
            tracked.op_count,
            process.map(|process| process.pid),
            process.map(|process| &process.livelock),
            process.and_then(|process| process.started).map(Timestamp::as_micros),
            tracked.seen.as_micros(),
        ],
    )?;
    Ok(())
}

fn write_event(db: &Connection, seq: i64, event: &Event, state: EventState) -> rusqlite::Result<()> {
    statement(
        db,
        "INSERT INTO events (seq, job, received, op, phase, op_count, op_code, status, executed, late, time, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        seq,
        event.key.job.get(),
        event.received.as_micros(),
        event.key.op,
        event.key.phase.as_str(),
        event.op_count,
        event.op_code,
        event.status.map(|status| status.as_str()),
        event.executed,
        event.late,
        event.time.as_micros(),
        state.as_str(),
    ])?;
    Ok(())
}

fn write_run_end(
    db: &Connection,
    seq: i64,
    id: i64,
    ended: Timestamp,
    outcome: &Outcome,
) -> rusqlite::Result<()> {
    statement(
        db,
        "UPDATE runs SET ended = ?3, code = ?4, signal = ?5, seconds = ?6, output = ?7, dropped = ?8, error = ?9
         WHERE seq = ?1 AND id = ?2",
    )?
    .execute(params![
        seq,
        id,
        ended.as_micros(),
        outcome.code,
        outcome.signal,
        outcome.seconds,
        outcome.output,
        i64::try_from(outcome.dropped).unwrap_or(i64::MAX),
        outcome.error,
    ])?;
    Ok(())
}

fn write_numbers(db: &Connection, old: &Numbers, new: &Numbers) -> rusqlite::Result<()> {
    if old.highest() != new.highest() {
        statement(db, "INSERT OR REPLACE INTO meta VALUES ('highest', ?1)")?.execute([new.highest()])?;
    }
    for hole in old.holes_not_in(new) {
        statement(db, "DELETE FROM holes WHERE id = ?1")?.execute([hole])?;
    }
    for hole in new.holes_not_in(old) {
        statement(db, "INSERT OR IGNORE INTO holes VALUES (?1)")?.execute([hole])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
