//! Reading the history beside the daemon that writes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params_from_iter};
use serde::Serialize;

use super::load::{self, EVENT_COLUMNS, event};
use super::{FILE, JournalError};
use crate::ganeti::event::{Event, EventKey, EventRecord};
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::opcodes::View;

/// The history, open for reading.
#[derive(Debug)]
pub struct History {
    db: Connection,
    path: PathBuf,
}

/// One event and what became of it.
#[derive(Clone, Debug)]
pub struct HistoryEvent {
    /// The event's number in the feed.
    pub seq: i64,
    /// The event.
    pub event: Event,
    /// `pending`, `done` or `standby`.
    pub state: String,
    /// Its runs, in the order they began.
    pub runs: Vec<RunRecord>,
}

impl HistoryEvent {
    /// The event as one line of JSON, without the line's end.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            event: EventRecord<'a>,
            state: &'a str,
            runs: &'a [RunRecord],
        }
        let line =
            Line { event: EventRecord::new(self.seq, &self.event), state: &self.state, runs: &self.runs };
        // Strings, numbers and lists of them: there is nothing in it that JSON cannot say.
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Whether a run of it was under way when the daemon died: it has no end, and never gets one.
    pub fn was_cut_short(&self, run: &RunRecord) -> bool {
        let is_next = |other: &RunRecord| {
            other.node == run.node && other.script == run.script && other.attempt > run.attempt
        };
        !run.ended && (self.state != "pending" || self.runs.iter().any(is_next))
    }

    /// Whether a run of it failed.
    pub fn has_failed(&self) -> bool {
        self.runs.iter().any(RunRecord::has_failed)
    }
}

/// One run of an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRecord {
    /// The node it ran on.
    pub node: String,
    /// The script's name.
    pub script: String,
    /// 1, or more after a crash.
    pub attempt: u32,
    /// When it began, in seconds since the epoch.
    pub started: f64,
    /// Whether it is over.
    pub ended: bool,
    /// The exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// How long it took.
    pub seconds: Option<f64>,
    /// The beginning of its output.
    pub output: Option<String>,
    /// Bytes of output that were dropped.
    pub dropped: Option<i64>,
    /// What went wrong besides.
    pub error: Option<String>,
}

impl RunRecord {
    /// Whether it is over and did not exit with 0.
    pub fn has_failed(&self) -> bool {
        self.ended && (self.code != Some(0) || self.error.is_some())
    }
}

/// Which events to read.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those after this number.
    pub after: i64,
    /// Only those of this job.
    pub job: Option<JobId>,
    /// Only this one.
    pub key: Option<EventKey>,
    /// Only those with a failed run.
    pub failed: bool,
    /// At most this many.
    pub limit: Option<u32>,
}

impl History {
    /// Opens the history in this directory; `None` when there is none yet.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(state_dir: &Path) -> Result<Option<Self>, JournalError> {
        let path = state_dir.join(FILE);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(JournalError::Io { path, error }),
        }
        let open = || {
            // A reader of a WAL journal maintains its shared memory, so it is opened
            // for writing, and told not to.
            let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            db.busy_timeout(Duration::from_secs(5))?;
            db.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;")?;
            Ok(db)
        };
        open()
            .map(|db| Some(Self { db, path: path.clone() }))
            .map_err(|error| JournalError::Sqlite { path, error })
    }

    /// Hands the events of `filter` to `each`, oldest first, until that says `false`.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn events(
        &self,
        filter: &Filter,
        each: impl FnMut(HistoryEvent) -> bool,
    ) -> Result<(), JournalError> {
        self.try_events(filter, each).map_err(|error| self.wrap(error))
    }

    /// What an event's scripts were given; `None` when nothing but what all get.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn plan(&self, seq: i64) -> Result<Option<View>, JournalError> {
        load::plan(&self.db, seq).map_err(|error| self.wrap(error))
    }

    /// What the scripts of the pre of a post were given; `None` when that is not known.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn pre_plan(&self, post: &Event) -> Result<Option<View>, JournalError> {
        let EventKey { job, op, .. } = post.key;
        load::pre_plan(&self.db, job, post.received, op).map_err(|error| self.wrap(error))
    }

    fn wrap(&self, error: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.path.clone(), error }
    }

    fn try_events(
        &self,
        filter: &Filter,
        mut each: impl FnMut(HistoryEvent) -> bool,
    ) -> rusqlite::Result<()> {
        let (mut sql, mut values) =
            (format!("SELECT {EVENT_COLUMNS}, state FROM events WHERE seq > ?"), vec![filter.after]);
        let mut only = |condition: &str, value: i64| {
            sql += condition;
            values.push(value);
        };
        if let Some(job) = filter.job.or(filter.key.map(|key| key.job)) {
            only(" AND job = ?", job.get());
        }
        if let Some(key) = filter.key {
            only(" AND op = ?", key.op.into());
            sql += &format!(" AND phase = '{}'", key.phase);
        }
        if filter.failed {
            sql += " AND EXISTS (SELECT 1 FROM runs WHERE runs.seq = events.seq AND ended IS NOT NULL
                       AND (code IS NULL OR code <> 0 OR error IS NOT NULL))";
        }
        sql += " ORDER BY seq";
        if let Some(limit) = filter.limit {
            sql += &format!(" LIMIT {limit}");
        }
        let mut statement = self.db.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let (seq, event) = event(row)?;
            let found = HistoryEvent { seq, event, state: row.get("state")?, runs: self.runs(seq)? };
            if !each(found) {
                break;
            }
        }
        Ok(())
    }

    fn runs(&self, seq: i64) -> rusqlite::Result<Vec<RunRecord>> {
        let sql = "SELECT node, script, attempt, started, ended IS NOT NULL, code, signal, seconds, output, dropped,
                          error FROM runs WHERE seq = ?1 ORDER BY id";
        self.db
            .prepare_cached(sql)?
            .query_map([seq], |row| {
                Ok(RunRecord {
                    node: row.get(0)?,
                    script: row.get(1)?,
                    attempt: row.get(2)?,
                    started: Timestamp::from_micros(row.get(3)?).as_secs_f64(),
                    ended: row.get(4)?,
                    code: row.get(5)?,
                    signal: row.get(6)?,
                    seconds: row.get(7)?,
                    output: row.get(8)?,
                    dropped: row.get(9)?,
                    error: row.get(10)?,
                })
            })?
            .collect()
    }
}
