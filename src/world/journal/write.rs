//! Writing changes to the journal, one after the other.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::numbers;
use crate::engine::change::{Change, EventState, Rerun, RunStart};
use crate::engine::outcome::Outcome;
use crate::engine::tracker::Tracked;
use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::job::{JobId, Timestamp};

/// A statement, prepared once.
pub fn statement<'db>(db: &'db Connection, sql: &str) -> rusqlite::Result<CachedStatement<'db>> {
    db.prepare_cached(sql)
}

/// Writes one change inside of a transaction. `last` is the number of the feed's last change.
pub fn write(db: &Connection, change: &Change, last: &mut i64) -> rusqlite::Result<()> {
    match change {
        Change::Job(id, tracked) => write_job(db, *id, tracked)?,
        Change::Forget(id) => {
            statement(db, "DELETE FROM jobs WHERE id = ?1")?.execute([id.get()])?;
        }
        Change::Event(seq, event, state) => {
            write_event(db, *seq, event, *state, tell(db, Some(*seq), None, last)?)?;
        }
        Change::EventState(seq, state) => {
            let change = tell(db, Some(*seq), None, last)?;
            statement(db, "UPDATE events SET state = ?2, change = ?3 WHERE seq = ?1")?.execute(params![
                seq,
                state.as_str(),
                change
            ])?;
        }
        Change::Adopt(seq) => {
            let change = tell(db, Some(*seq), None, last)?;
            statement(db, "UPDATE events SET state = 'pending', late = 1, change = ?2 WHERE seq = ?1")?
                .execute([*seq, change])?;
        }
        Change::Rerun(seq, Rerun { script }) => {
            let change = tell(db, Some(*seq), None, last)?;
            statement(
                db,
                "UPDATE events SET state = 'pending', change = ?2, rerun_script = ?3,
                    rerun_from = (SELECT coalesce(max(id), 0) + 1 FROM runs WHERE runs.seq = events.seq)
                 WHERE seq = ?1",
            )?
            .execute(params![seq, change, script])?;
        }
        Change::Notice(notice) => {
            // Texts and numbers: there is nothing in it that JSON cannot say.
            let notice = serde_json::to_string(notice).unwrap_or_default();
            tell(db, None, Some(&notice), last)?;
        }
        Change::Held(EventKey { job, op, phase }, received, held) => {
            let held = i64::try_from(held.as_micros()).unwrap_or(i64::MAX);
            // The last one, from the index's end: a job of many opcodes is not read through.
            let sql = "UPDATE events SET held = ?5 WHERE seq = (SELECT seq FROM events
                WHERE job = ?1 AND received = ?2 AND op = ?3 AND phase = ?4 ORDER BY seq DESC LIMIT 1)";
            statement(db, sql)?.execute(params![
                job.get(),
                received.as_micros(),
                op,
                phase.as_str(),
                held
            ])?;
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
        Change::FirstLook(time) => {
            statement(db, "INSERT OR REPLACE INTO meta VALUES ('first_look', ?1)")?
                .execute([time.as_micros()])?;
        }
        Change::Numbers(change) => numbers::write(db, change)?,
        Change::Outbox(name, progress) => {
            // Texts and numbers: there is nothing in it that JSON cannot say.
            let progress = serde_json::to_string(progress).unwrap_or_default();
            statement(db, "INSERT OR REPLACE INTO outboxes VALUES (?1, ?2)")?
                .execute(params![name, progress])?;
        }
        // It has something to tell besides.
        Change::Prune(..) => {}
    }
    Ok(())
}

fn write_job(db: &Connection, id: JobId, tracked: &Tracked) -> rusqlite::Result<()> {
    let process = tracked.process.as_ref();
    statement(db, "INSERT OR REPLACE INTO jobs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?.execute(
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
            tracked.executed.map(Timestamp::as_micros),
        ],
    )?;
    Ok(())
}

/// Has the feed tell of an event, or this notice; returns the number of that change.
fn tell(db: &Connection, seq: Option<i64>, notice: Option<&str>, last: &mut i64) -> rusqlite::Result<i64> {
    *last += 1;
    statement(db, "INSERT INTO changes VALUES (?1, ?2, ?3)")?.execute(params![*last, seq, notice])?;
    Ok(*last)
}

fn write_event(
    db: &Connection,
    seq: i64,
    event: &Event,
    state: EventState,
    change: i64,
) -> rusqlite::Result<()> {
    let about = &event.about;
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
    // Texts and numbers: there is nothing in it that JSON cannot say.
    let reason = serde_json::to_string(&about.reason).unwrap_or_default();
    let cluster = about.cluster.as_deref().map(|uuid| cluster(db, uuid)).transpose()?;
    statement(
        db,
        "INSERT INTO events (seq, job, received, op, phase, op_count, op_code, status, executed, late, time, state,
            cluster, object_type, object, previous_end, started, executed_at, ended, reason, error, change)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)",
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
        cluster,
        about.object.as_ref().map(|object| object.kind.as_str()),
        about.object.as_ref().and_then(|object| object.name.as_deref()),
        micros(about.previous_end),
        micros(about.started),
        micros(about.executed),
        micros(about.ended),
        reason,
        about.error,
        change,
    ])?;
    Ok(())
}

/// The number of a cluster in the journal.
fn cluster(db: &Connection, uuid: &str) -> rusqlite::Result<i64> {
    let find = || {
        statement(db, "SELECT id FROM clusters WHERE uuid = ?1")?
            .query_row([uuid], |row| row.get::<_, i64>(0))
            .optional()
    };
    if let Some(id) = find()? {
        return Ok(id);
    }
    statement(db, "INSERT INTO clusters (uuid) VALUES (?1)")?.execute([uuid])?;
    Ok(db.last_insert_rowid())
}

fn write_run_start(db: &Connection, run: &RunStart) -> rusqlite::Result<()> {
    statement(
        db,
        "INSERT INTO runs (seq, id, node, directory, script, attempt, started)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        run.seq,
        run.id,
        run.node,
        run.directory,
        run.script,
        run.attempt,
        run.started.as_micros()
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
