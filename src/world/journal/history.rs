//! Reading the history beside the daemon that writes it.
//!
//! Promises: a reader who is slow, or has stopped, keeps nothing open, so that the journal's log
//! can be cleared: what is handed out is a batch that was read to its end.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};
use serde::Serialize;

use super::load::{self, EVENT_COLUMNS};
use super::schema::VERSION;
use super::{FILE, Filter, JournalError, PLACE};
use crate::engine::input::Past;
use crate::ganeti::event::{Event, EventKey, EventRecord, Fate};
use crate::ganeti::job::Timestamp;
use crate::ganeti::opcodes::View;
use crate::ganeti::text::cut;

/// The most events of a batch.
pub(super) const BATCH_EVENTS: u32 = 256;

/// Bytes of text from which on a batch is complete.
pub(super) const BATCH_SIZE: usize = 1024 * 1024;

/// The history, open for reading.
#[derive(Debug)]
pub struct History {
    pub(super) db: Connection,
    path: PathBuf,
    /// Which file that was when it was opened.
    inode: Option<u64>,
}

/// The columns of an event of the history. The hold of a pre is that of its opcode.
pub(super) fn columns() -> String {
    format!(
        "{EVENT_COLUMNS}, state, told_ganeti, coalesce(held, (SELECT CASE WHEN pre.op = events.op THEN pre.held END
            FROM events AS pre WHERE pre.job = events.job AND pre.received = events.received AND pre.seq < events.seq
            ORDER BY pre.seq DESC LIMIT 1)) AS held"
    )
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
    /// How long its opcode's job was held.
    pub held: Option<Duration>,
    /// Whether Ganeti was told of the death that it tells of; `None` where it was not to be.
    pub told_ganeti: Option<bool>,
    /// Its runs, in the order they began.
    pub runs: Vec<RunRecord>,
}

impl HistoryEvent {
    /// What is told of it, as everybody is told.
    pub fn record(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Record<'a> {
            #[serde(flatten)]
            event: EventRecord<'a>,
            runs: &'a [RunRecord],
        }
        let fate = Fate { state: &self.state, held: self.held, told_ganeti: self.told_ganeti };
        let event = EventRecord::new(self.seq, &self.event, fate);
        Record { event, runs: &self.runs }
    }

    /// The event as one line of JSON, without the line's end.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists of them: there is nothing in it that JSON cannot say.
        serde_json::to_string(&self.record()).unwrap_or_default()
    }

    /// The same with at most so many bytes of its runs' output.
    pub fn with_output(&self, most: usize) -> Self {
        let (mut event, mut room) = (self.clone(), most);
        for run in &mut event.runs {
            room = run.shorten(room);
        }
        event
    }

    /// Whether a run of it was under way when the daemon died: it has no end, and never gets one.
    pub fn was_cut_short(&self, run: &RunRecord) -> bool {
        let is_next = |other: &RunRecord| {
            (&other.node, &other.directory, &other.script) == (&run.node, &run.directory, &run.script)
                && other.attempt > run.attempt
        };
        !run.ended && (self.state != "pending" || self.runs.iter().any(is_next))
    }

    /// How much text it holds, in bytes, about.
    pub(super) fn size(&self) -> usize {
        self.runs.iter().map(RunRecord::size).sum()
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
    /// The hooks directory that the script is of, e.g. `global-post.d`.
    pub directory: String,
    /// The script's name; the directory's for a request to another node.
    pub script: String,
    /// 1, or more after a crash, or when it was run again.
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

    /// Whether it is a request to another node to run a whole directory, and no script.
    pub fn is_request(&self) -> bool {
        self.script == self.directory
    }

    /// Whether it counts as the run of a script: a request does where it failed.
    pub fn counts(&self) -> bool {
        !self.is_request() || self.has_failed()
    }

    /// Whether it is worth a word: a request that went well is not, for its scripts are told of.
    pub fn is_told(&self) -> bool {
        !self.ended || self.counts()
    }

    /// How much text it holds, in bytes, about.
    fn size(&self) -> usize {
        let texts = [Some(&self.node), Some(&self.script), self.output.as_ref(), self.error.as_ref()];
        texts.into_iter().flatten().map(String::len).sum()
    }

    /// Keeps so many bytes of output; returns how many are left for the next. Where something is cut
    /// off none are: what is shortened again is then as if it had been so at once.
    fn shorten(&mut self, room: usize) -> usize {
        let Some(output) = &mut self.output else { return room };
        let cut_off = i64::try_from(cut(output, room)).unwrap_or(i64::MAX);
        if cut_off == 0 {
            return room - output.len();
        }
        self.dropped = Some(self.dropped.unwrap_or(0).saturating_add(cut_off));
        0
    }
}

/// Which file this is.
fn inode(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|metadata| metadata.ino())
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
    /// When it cannot be opened, or another version of this program has written it.
    pub fn open(state_dir: &Path) -> Result<Option<Self>, JournalError> {
        let _stays = PLACE.read().unwrap_or_else(PoisonError::into_inner);
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
            // The files' times say when the daemon wrote last: a reader that is the last to
            // close must not touch them.
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            db.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;")?;
            // From here on the log is open, too.
            let found = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok((db, found))
        };
        let inode = inode(&path);
        match open() {
            Ok((_, found)) if found > VERSION => Err(JournalError::Newer { path, found }),
            Ok((_, found)) if found < VERSION => Err(JournalError::Older { path, found }),
            Ok((db, _)) => Ok(Some(Self { db, path, inode })),
            Err(error) => Err(JournalError::Sqlite { path, error }),
        }
    }

    /// Whether there is another file in its place by now, or none.
    pub fn is_gone(&self) -> bool {
        inode(&self.path) != self.inode
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

    /// What figures go on from. All of the history is read for it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn past(&self) -> Result<Past, JournalError> {
        load::past(&self.db).map_err(|error| self.wrap(error))
    }

    pub(super) fn wrap(&self, error: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.path.clone(), error }
    }

    /// The first events of `filter`.
    fn batch(&self, filter: &Filter) -> rusqlite::Result<Batch> {
        let most = filter.limit.map_or(BATCH_EVENTS, |limit| limit.min(BATCH_EVENTS));
        let (conditions, mut values) = filter.conditions();
        values.push(filter.after.into());
        let sql = format!(
            "SELECT {} FROM events WHERE {conditions} AND events.seq > ? ORDER BY events.seq LIMIT {most}",
            columns()
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut batch, mut size) = (Batch::default(), 0);
        while let Some(row) = rows.next()? {
            let event = self.event(row, filter.output)?;
            size += event.size();
            batch.events.push(event);
            if size >= BATCH_SIZE {
                return Ok(batch);
            }
        }
        batch.is_last = batch.events.len() < BATCH_EVENTS as usize;
        Ok(batch)
    }

    /// The event in a row of [`columns`], with at most so many bytes of its runs' output.
    pub(super) fn event(&self, row: &Row<'_>, output: Option<usize>) -> rusqlite::Result<HistoryEvent> {
        let (seq, event) = load::event(row)?;
        let held: Option<i64> = row.get("held")?;
        let held = held.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
        let runs = self.runs(seq, output.unwrap_or(usize::MAX))?;
        let (state, told_ganeti) = (row.get("state")?, row.get("told_ganeti")?);
        Ok(HistoryEvent { seq, event, state, held, told_ganeti, runs })
    }

    /// The runs of an event, with so many bytes of output.
    fn runs(&self, seq: i64, mut room: usize) -> rusqlite::Result<Vec<RunRecord>> {
        let sql = "SELECT node, directory, script, attempt, started, ended IS NOT NULL, code, signal, seconds, output,
                          dropped, error FROM runs WHERE seq = ?1 ORDER BY id";
        self.db
            .prepare_cached(sql)?
            .query_map([seq], |row| {
                let mut run = RunRecord {
                    node: row.get(0)?,
                    directory: row.get(1)?,
                    script: row.get(2)?,
                    attempt: row.get(3)?,
                    started: Timestamp::from_micros(row.get(4)?).as_secs_f64(),
                    ended: row.get(5)?,
                    code: row.get(6)?,
                    signal: row.get(7)?,
                    seconds: row.get(8)?,
                    output: row.get(9)?,
                    dropped: row.get(10)?,
                    error: row.get(11)?,
                };
                room = run.shorten(room);
                Ok(run)
            })?
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::journal::tests;

    fn run(output: &str) -> RunRecord {
        RunRecord {
            node: "node1".to_owned(),
            directory: "global-post.d".to_owned(),
            script: "10-log".to_owned(),
            attempt: 1,
            started: 5.0,
            ended: true,
            code: Some(0),
            signal: None,
            seconds: Some(1.0),
            output: Some(output.to_owned()),
            dropped: None,
            error: None,
        }
    }

    #[test]
    fn what_has_been_shortened_is_shortened_further_as_at_once() {
        let runs = ["four \u{1d11e}\u{1d11e}", "two \u{e4}\u{e4}", "one"].map(run).to_vec();
        let (state, event) = ("done".to_owned(), tests::event(1));
        let event = HistoryEvent { seq: 1, event, state, held: None, told_ganeti: None, runs };
        for most in 0..30 {
            for less in 0..=most {
                let told = event.with_output(most).with_output(less);
                assert_eq!(told.to_json(), event.with_output(less).to_json(), "{most}, {less}");
            }
        }
    }
}
