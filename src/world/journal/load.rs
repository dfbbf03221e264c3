//! What the daemon reads from the journal when it starts.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::numbers;
use crate::engine::change::{Earlier, Remembered, Undelivered};
use crate::engine::tracker::Tracked;
use crate::engine::transitions::Progress;
use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::job::{JobId, ProcessRef, Timestamp};
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
    let with_runs = |(seq, event)| {
        Ok::<_, rusqlite::Error>(Undelivered { seq, event, runs: runs(db, seq)?, plan: plan(db, seq)? })
    };
    let standby: Vec<Undelivered> =
        standby(db, standby_since)?.into_iter().map(with_runs).collect::<rusqlite::Result<_>>()?;
    let mut last_run = number(LAST_RUN)?.unwrap_or(0);
    for event in &standby {
        last_run = last_run.max(self::last_run(db, event.seq)?);
    }
    Ok(Remembered {
        begun: number("SELECT max(value) FROM meta WHERE key = 'begun'")?.map(Timestamp::from_micros),
        jobs: jobs(db)?,
        numbers: numbers::load(db)?,
        undelivered: pending(db)?.into_iter().map(with_runs).collect::<rusqlite::Result<_>>()?,
        standby,
        next_seq: 1,
        next_run: last_run + 1,
        highest_job: number("SELECT max(job) FROM events")?.unwrap_or(0),
        history_since: first_event_time(db)?,
    })
}

fn jobs(db: &Connection) -> rusqlite::Result<Vec<(JobId, Tracked)>> {
    db.prepare("SELECT id, received, next, pre, op_count, pid, livelock, started, seen FROM jobs")?
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
    })
}

/// How far the events in the journal tell a job; `None` when there are none of it.
pub fn progress(db: &Connection, id: JobId, received: Timestamp) -> rusqlite::Result<Option<Progress>> {
    let sql =
        "SELECT op, phase = 'pre' FROM events WHERE job = ?1 AND received = ?2 ORDER BY seq DESC LIMIT 1";
    let mut last = db.prepare_cached(sql)?;
    let mut rows = last.query([id.get(), received.as_micros()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (op, pre): (u32, bool) = (row.get(0)?, row.get(1)?);
    Ok(Some(Progress { next: if pre { op } else { op + 1 }, pre }))
}

/// The columns of an event, in the order [`event`] reads them.
pub const EVENT_COLUMNS: &str =
    "seq, job, received, op, phase, op_count, op_code, status, executed, late, time";

/// The event in a row of [`EVENT_COLUMNS`].
pub fn event(row: &Row<'_>) -> rusqlite::Result<(i64, Event)> {
    let key = EventKey { job: job_id(row, 1)?, op: row.get(3)?, phase: word(row, 4)? };
    let status = match row.get_ref(7)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(word(row, 7)?),
    };
    let event = Event {
        key,
        received: Timestamp::from_micros(row.get(2)?),
        op_count: row.get(5)?,
        op_code: row.get(6)?,
        status,
        executed: row.get(8)?,
        late: row.get(9)?,
        time: Timestamp::from_micros(row.get(10)?),
    };
    Ok((row.get(0)?, event))
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

/// When the first event that is kept was noticed.
fn first_event_time(db: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let time =
        db.query_row("SELECT time FROM events ORDER BY seq LIMIT 1", [], |row| row.get(0)).optional()?;
    Ok(time.map(Timestamp::from_micros))
}

fn runs(db: &Connection, seq: i64) -> rusqlite::Result<Earlier> {
    let sql = "SELECT node, script, attempt, ended IS NOT NULL FROM runs WHERE seq = ?1 ORDER BY id";
    db.prepare_cached(sql)?
        .query_map([seq], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?
        .collect()
}

/// What an event's scripts are given, if that is known.
pub fn plan(db: &Connection, seq: i64) -> rusqlite::Result<Option<View>> {
    db.prepare_cached("SELECT plan FROM events WHERE seq = ?1")?.query_row([seq], view)
}

/// What the scripts of the pre of opcode `op` were given, if that is known.
pub fn pre_plan(db: &Connection, id: JobId, received: Timestamp, op: u32) -> rusqlite::Result<Option<View>> {
    let sql = "SELECT max(plan) FROM events WHERE job = ?1 AND received = ?2 AND op = ?3 AND phase = 'pre'";
    db.prepare_cached(sql)?.query_row(rusqlite::params![id.get(), received.as_micros(), op], view)
}

fn view(row: &Row<'_>) -> rusqlite::Result<Option<View>> {
    let text = row.get_ref(0)?.as_str_or_null()?;
    text.map(|text| serde_json::from_str(text).map_err(|error| invalid(0, error))).transpose()
}

fn job_id(row: &Row<'_>, column: usize) -> rusqlite::Result<JobId> {
    JobId::try_from(row.get::<_, i64>(column)?).map_err(|error| invalid(column, error))
}

fn word<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| invalid(column, error))
}

fn invalid(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
