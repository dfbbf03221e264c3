//! Reading the history beside the daemon that writes it.
//!
//! Promises: a reader who is slow, or has stopped, keeps nothing open, so that the journal's log
//! can be cleared: what is handed out is a batch that was read to its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params_from_iter};
use serde::Serialize;

use super::load::{self, EVENT_COLUMNS, event};
use super::{FILE, JournalError};
use crate::ganeti::event::{Event, EventKey, EventRecord};
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::opcodes::View;
use crate::ganeti::text::cut;

/// The most events of a batch.
const BATCH_EVENTS: u32 = 256;

/// Bytes of text from which on a batch is complete.
const BATCH_SIZE: usize = 1024 * 1024;

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

    /// How much text it holds, in bytes, about.
    fn size(&self) -> usize {
        let texts = [Some(&self.node), Some(&self.script), self.output.as_ref(), self.error.as_ref()];
        texts.into_iter().flatten().map(String::len).sum()
    }

    /// Keeps so many bytes of output; returns how many that are.
    fn shorten(&mut self, room: usize) -> usize {
        let Some(output) = &mut self.output else { return 0 };
        let cut_off = i64::try_from(cut(output, room)).unwrap_or(i64::MAX);
        if cut_off > 0 {
            self.dropped = Some(self.dropped.unwrap_or(0).saturating_add(cut_off));
        }
        output.len()
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
    /// Of each at most so many bytes of output; of what is left out is told how much it is.
    pub output: Option<usize>,
}

/// Some events that have been read.
#[derive(Debug, Default)]
struct Batch {
    events: Vec<HistoryEvent>,
    /// There were no more when it was read.
    is_last: bool,
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

    /// Hands the events of `filter` to `each`, oldest first, until that says `false`. Nothing is
    /// being read meanwhile: it may take its time.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn events(
        &self,
        filter: &Filter,
        mut each: impl FnMut(HistoryEvent) -> bool,
    ) -> Result<(), JournalError> {
        let mut rest = filter.clone();
        loop {
            let batch = self.batch(&rest).map_err(|error| self.wrap(error))?;
            for event in batch.events {
                rest.after = event.seq;
                rest.limit = rest.limit.map(|limit| limit.saturating_sub(1));
                if !each(event) {
                    return Ok(());
                }
            }
            if batch.is_last {
                return Ok(());
            }
        }
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

    /// The first events of `filter`.
    fn batch(&self, filter: &Filter) -> rusqlite::Result<Batch> {
        let most = filter.limit.map_or(BATCH_EVENTS, |limit| limit.min(BATCH_EVENTS));
        let (sql, values) = question(filter, most);
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut batch, mut size) = (Batch::default(), 0);
        while let Some(row) = rows.next()? {
            let (seq, event) = event(row)?;
            let runs = self.runs(seq, filter.output.unwrap_or(usize::MAX))?;
            size += runs.iter().map(RunRecord::size).sum::<usize>();
            batch.events.push(HistoryEvent { seq, event, state: row.get("state")?, runs });
            if size >= BATCH_SIZE {
                return Ok(batch);
            }
        }
        batch.is_last = batch.events.len() < BATCH_EVENTS as usize;
        Ok(batch)
    }

    /// The runs of an event, with so many bytes of output.
    fn runs(&self, seq: i64, mut room: usize) -> rusqlite::Result<Vec<RunRecord>> {
        let sql = "SELECT node, script, attempt, started, ended IS NOT NULL, code, signal, seconds, output, dropped,
                          error FROM runs WHERE seq = ?1 ORDER BY id";
        self.db
            .prepare_cached(sql)?
            .query_map([seq], |row| {
                let mut run = RunRecord {
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
                };
                room -= run.shorten(room);
                Ok(run)
            })?
            .collect()
    }
}

/// What is asked for at most so many events of `filter`, and the values in it.
fn question(filter: &Filter, most: u32) -> (String, Vec<i64>) {
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
    sql += &format!(" ORDER BY seq LIMIT {most}");
    (sql, values)
}
