//! Writing changes to the journal, one after the other.

use rusqlite::{CachedStatement, Connection, params};

use super::numbers;
use crate::engine::change::{Change, EventState, RunStart};
use crate::engine::outcome::Outcome;
use crate::engine::tracker::Tracked;
use crate::ganeti::event::Event;
use crate::ganeti::job::{JobId, Timestamp};

/// A statement, prepared once.
pub fn statement<'db>(db: &'db Connection, sql: &str) -> rusqlite::Result<CachedStatement<'db>> {
    db.prepare_cached(sql)
}

/// Writes one change inside of a transaction.
pub fn write(db: &Connection, change: &Change) -> rusqlite::Result<()> {
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
        Change::RunStart(run) => write_run_start(db, run)?,
        Change::Plan(seq, view) => {
            // Strings and lists of them: there is nothing in it that JSON cannot say.
            let plan = serde_json::to_string(view).unwrap_or_default();
            statement(db, "UPDATE events SET plan = ?2 WHERE seq = ?1")?.execute(params![seq, plan])?;
        }
        Change::RunEnd(seq, id, ended, outcome) => write_run_end(db, *seq, *id, *ended, outcome)?,
        Change::Begun(time) => {
            statement(db, "INSERT OR REPLACE INTO meta VALUES ('begun', ?1)")?.execute([time.as_micros()])?;
        }
        Change::Numbers(change) => numbers::write(db, change)?,
        // It has something to tell besides.
        Change::Prune(..) => {}
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

fn write_run_start(db: &Connection, run: &RunStart) -> rusqlite::Result<()> {
    statement(
        db,
        "INSERT INTO runs (seq, id, node, script, attempt, started) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![run.seq, run.id, run.node, run.script, run.attempt, run.started.as_micros()])?;
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
