//! What the daemon reads from the journal when it starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};

use super::numbers;
use crate::engine::change::{Earlier, FirstLook, Past, Remembered, Rerun, RunKey, Undelivered};
use crate::engine::input::{Past as PastFigures, Recorded};
use crate::engine::outbox_progress::Progress as OutboxProgress;
use crate::engine::tracker::Tracked;
use crate::engine::transitions::Progress;
use crate::ganeti::about::About;
use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::event_name::EventName;
use crate::ganeti::job::{JobId, ProcessRef, Timestamp};
use crate::ganeti::object::{Object, ObjectKind};
use crate::ganeti::opcodes::View;

/// The highest number of a run of an event whose scripts have not all ended.
const LAST_RUN: &str = "SELECT coalesce(max(id), 0) FROM runs
    WHERE seq IN (SELECT seq FROM events WHERE state = 'pending')";

/// Reads everything. Of the events that another node was to deliver those that were noticed
/// since `standby_since`: a node that was never master has nothing but such.
///
/// Runs get higher numbers than any of these events has: `next_run`.
pub fn load(db: &Connection, standby_since: Timestamp) -> rusqlite::Result<Remembered> {
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let with_runs = |(seq, event)| undelivered(db, seq, event);
    let standby: Vec<Undelivered> =
        standby(db, standby_since)?.into_iter().map(with_runs).collect::<rusqlite::Result<_>>()?;
    let mut last_run = number(LAST_RUN)?.unwrap_or(0);
    for event in &standby {
        last_run = last_run.max(self::last_run(db, event.seq)?);
    }
    let meta = |key: &str| {
        let sql = "SELECT max(value) FROM meta WHERE key = ?1";
        db.query_row(sql, [key], |row| row.get::<_, Option<i64>>(0))
    };
    let time = |key: &str| Ok::<_, rusqlite::Error>(meta(key)?.map(Timestamp::from_micros));
    let is_before_the_queue = meta("before_the_queue")? == Some(1);
    Ok(Remembered {
        past: Past {
            begun: time("begun")?,
            first_look: time("first_look")?.map(|since| FirstLook { since, is_before_the_queue }),
            began_again: time("began_again")?,
            lost: time("history_lost")?,
            forgotten: time("told_until")?,
            last_written: None,
            highest_told: number("SELECT max(job) FROM events")?.unwrap_or(0),
        },
        jobs: jobs(db)?,
        numbers: numbers::load(db)?,
        undelivered: pending(db)?.into_iter().map(with_runs).collect::<rusqlite::Result<_>>()?,
        standby,
        next_seq: 1,
        next_run: last_run + 1,
        outboxes: outboxes(db)?,
    })
}

/// How far each outbox is.
fn outboxes(db: &Connection) -> rusqlite::Result<BTreeMap<String, OutboxProgress>> {
    let mut all = db.prepare("SELECT name, progress FROM outboxes")?;
    let rows = all.query_map([], |row| {
        let progress = serde_json::from_str(row.get_ref(1)?.as_str()?).map_err(|error| invalid(1, error))?;
        Ok((row.get(0)?, progress))
    })?;
    rows.collect()
}

/// An event with what a delivery needs to know of it.
fn undelivered(db: &Connection, seq: i64, event: Event) -> rusqlite::Result<Undelivered> {
    let sql = "SELECT rerun_from, rerun_script FROM events WHERE seq = ?1";
    let (from, script): (Option<i64>, _) =
        db.prepare_cached(sql)?.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let runs = runs(db, seq, from.unwrap_or(0))?;
    Ok(Undelivered { seq, event, runs, plan: plan(db, seq)?, rerun: from.map(|_| Rerun { script }) })
}

/// The last event of this name; `None` when there is none.
pub fn recorded(db: &Connection, name: &EventName) -> rusqlite::Result<Option<Recorded>> {
    let sql = format!(
        "SELECT {EVENT_COLUMNS}, state FROM events WHERE job = ?1 AND op = ?2 AND phase = ?3 ORDER BY seq DESC"
    );
    let EventKey { job, op, phase } = name.key;
    let mut events = db.prepare_cached(&sql)?;
    let mut rows = events.query(rusqlite::params![job.get(), op, phase.as_str()])?;
    while let Some(row) = rows.next()? {
        let (seq, event) = event(row)?;
        if name.names(&event) {
            let state = word(row, row.as_ref().column_index("state")?)?;
            let runs = "SELECT count(*), coalesce(max(id), 0) FROM runs WHERE seq = ?1";
            let (runs, last_run) = db.query_row(runs, [seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
            return Ok(Some(Recorded { event: undelivered(db, seq, event)?, state, runs, last_run }));
        }
    }
    Ok(None)
}

fn jobs(db: &Connection) -> rusqlite::Result<Vec<(JobId, Tracked)>> {
    db.prepare("SELECT id, received, next, pre, op_count, pid, livelock, started, seen, executed FROM jobs")?
        .query_map([], |row| Ok((job_id(row, 0)?, tracked(row)?)))?
        .collect()
}

fn tracked(row: &Row<'_>) -> rusqlite::Result<Tracked> {
    let process = match (row.get(5)?, row.get(6)?) {
        (Some(pid), Some(livelock)) => Some(ProcessRef {
            pid,
            livelock,
            started: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_micros),
        }),
        _ => None,
    };
    Ok(Tracked {
        received: Timestamp::from_micros(row.get(1)?),
        progress: Progress { next: row.get(2)?, pre: row.get(3)? },
        op_count: row.get(4)?,
        process,
        seen: Timestamp::from_micros(row.get(8)?),
        executed: micros(row, 9)?,
    })
}

/// How far the events in the journal tell a job; `None` when there are none of it.
pub fn progress(db: &Connection, id: JobId, received: Timestamp) -> rusqlite::Result<Option<Progress>> {
    let sql = "SELECT op, phase FROM events WHERE job = ?1 AND received = ?2 ORDER BY seq DESC LIMIT 1";
    let key = |row: &Row<'_>| Ok(EventKey { job: id, op: row.get(0)?, phase: word(row, 1)? });
    let last = db.prepare_cached(sql)?.query_row([id.get(), received.as_micros()], key).optional()?;
    Ok(last.map(Progress::after))
}

/// The columns of an event, in the order [`event`] reads them.
pub const EVENT_COLUMNS: &str =
    "events.seq, job, received, op, phase, op_count, op_code, status, executed, late, time,
     (SELECT uuid FROM clusters WHERE id = cluster), object_type, object, previous_end, started, executed_at,
     ended, reason, error";

/// The event in a row of [`EVENT_COLUMNS`].
pub fn event(row: &Row<'_>) -> rusqlite::Result<(i64, Event)> {
    let key = EventKey { job: job_id(row, 1)?, op: row.get(3)?, phase: word(row, 4)? };
    let event = Event {
        key,
        received: Timestamp::from_micros(row.get(2)?),
        op_count: row.get(5)?,
        op_code: row.get(6)?,
        status: word_or_null(row, 7)?,
        executed: row.get(8)?,
        late: row.get(9)?,
        time: Timestamp::from_micros(row.get(10)?),
        about: Arc::new(about(row)?),
    };
    Ok((row.get(0)?, event))
}

fn about(row: &Row<'_>) -> rusqlite::Result<About> {
    let reason = row.get_ref(18)?.as_str_or_null()?;
    let reason = reason.map(|text| serde_json::from_str(text).map_err(|error| invalid(18, error)));
    Ok(About {
        cluster: row.get::<_, Option<String>>(11)?.map(Into::into),
        object: object(row, 12)?,
        previous_end: micros(row, 14)?,
        started: micros(row, 15)?,
        executed: micros(row, 16)?,
        ended: micros(row, 17)?,
        reason: reason.transpose()?.unwrap_or_default(),
        error: row.get(19)?,
    })
}

/// What stands in these columns of the object of an event: its type, and its name after it.
pub fn object(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Object>> {
    let kind: Option<ObjectKind> = word_or_null(row, column)?;
    let name = row.get(column + 1)?;
    Ok(kind.map(|kind| Object { kind, name }))
}

fn micros(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

fn pending(db: &Connection) -> rusqlite::Result<Vec<(i64, Event)>> {
    let sql = format!("SELECT {EVENT_COLUMNS} FROM events WHERE state = 'pending' ORDER BY seq");
    db.prepare(&sql)?.query_map([], event)?.collect()
}

/// The last events in standby, back to the first that was noticed before `since`.
fn standby(db: &Connection, since: Timestamp) -> rusqlite::Result<Vec<(i64, Event)>> {
    let mut found = Vec::new();
    let mut events = db.prepare(&format!("SELECT {EVENT_COLUMNS}, state FROM events ORDER BY seq DESC"))?;
    let mut rows = events.query([])?;
    while let Some(row) = rows.next()? {
        let (seq, event) = event(row)?;
        if event.time < since {
            break;
        }
        if row.get_ref("state")?.as_str()? == "standby" {
            found.push((seq, event));
        }
    }
    found.reverse();
    Ok(found)
}

/// The highest number of a run of this event.
fn last_run(db: &Connection, seq: i64) -> rusqlite::Result<i64> {
    db.prepare_cached("SELECT coalesce(max(id), 0) FROM runs WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
}

/// What figures go on from.
pub fn past(db: &Connection) -> rusqlite::Result<PastFigures> {
    let sql = "SELECT op_code, max(CASE status WHEN 'succeeded' THEN coalesce(ended, time) END), max(time)
        FROM events GROUP BY op_code";
    let mut past = PastFigures::default();
    let mut found = db.prepare(sql)?;
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        past.successes.push((row.get(0)?, micros(row, 1)?));
        past.last_event = past.last_event.max(micros(row, 2)?);
    }
    Ok(past)
}

/// An event's runs; those with lower numbers than `from` do not count.
fn runs(db: &Connection, seq: i64, from: i64) -> rusqlite::Result<Earlier> {
    let sql = "SELECT node, directory, script, attempt, ended IS NOT NULL AND id >= ?2 FROM runs
        WHERE seq = ?1 ORDER BY id";
    db.prepare_cached(sql)?
        .query_map([seq, from], |row| {
            let key = RunKey { node: row.get(0)?, directory: row.get(1)?, script: row.get(2)? };
            Ok((key, (row.get(3)?, row.get(4)?)))
        })?
        .collect()
}

/// What an event's scripts are given, if that is known.
pub fn plan(db: &Connection, seq: i64) -> rusqlite::Result<Option<View>> {
    db.prepare_cached("SELECT plan FROM events WHERE seq = ?1")?.query_row([seq], view)
}

/// What the scripts of the pre of opcode `op` were given, if that is known.
pub fn pre_plan(db: &Connection, id: JobId, received: Timestamp, op: u32) -> rusqlite::Result<Option<View>> {
    let sql = "SELECT plan FROM events WHERE job = ?1 AND received = ?2 AND op = ?3 AND phase = 'pre'
        ORDER BY seq DESC LIMIT 1";
    let mut found = db.prepare_cached(sql)?;
    Ok(found.query_row(rusqlite::params![id.get(), received.as_micros(), op], view).optional()?.flatten())
}

fn view(row: &Row<'_>) -> rusqlite::Result<Option<View>> {
    let text = row.get_ref(0)?.as_str_or_null()?;
    text.map(|text| serde_json::from_str(text).map_err(|error| invalid(0, error))).transpose()
}

fn job_id(row: &Row<'_>, column: usize) -> rusqlite::Result<JobId> {
    JobId::try_from(row.get::<_, i64>(column)?).map_err(|error| invalid(column, error))
}

/// The word in a column.
pub fn word<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| invalid(column, error))
}

/// The same where there need not be one.
pub fn word_or_null<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => word(row, column).map(Some),
    }
}

fn invalid(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
