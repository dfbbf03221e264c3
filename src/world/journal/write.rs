//! Writing changes to the journal, one after the other.

use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, params};

use super::numbers;
use crate::engine::change::{Change, EventState, FirstLook, Rerun, RunStart};
use crate::engine::outcome::Outcome;
use crate::engine::tracker::Tracked;
use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::job::{JobId, Timestamp};

/// A statement, prepared once.
pub fn statement<'db>(db: &'db Connection, sql: &str) -> rusqlite::Result<CachedStatement<'db>> {
    db.prepare_cached(sql)
}

/// Writes one change inside of a transaction. `last` is the number of the feed's last change.
///
/// Those that the feed tells of (noticed, done, run again, Ganeti told of a death) get the next number. How long a job was held,
/// and that a hook was late, come with the next of these, of this event or of its post.
pub fn write(db: &Connection, change: &Change, last: &mut i64) -> rusqlite::Result<()> {
    let mut told = |seq: i64| tell(db, Some(seq), None, last);
    match change {
        Change::Event(seq, event, state) => write_event(db, *seq, event, *state, told(*seq)?),
        Change::EventState(seq, state) => write_state(db, *seq, *state, told(*seq)?),
        Change::Adopt(seq) => write_adopted(db, *seq, told(*seq)?),
        Change::Rerun(seq, rerun) => write_rerun(db, *seq, rerun, told(*seq)?),
        // Texts and numbers: there is nothing in it that JSON cannot say.
        Change::Notice(notice) => {
            tell(db, None, Some(&serde_json::to_string(notice).unwrap_or_default()), last).map(drop)
        }
        Change::ToldGaneti(seq, is_told) => write_told_ganeti(db, *seq, *is_told, told(*seq)?),
        Change::Held(key, received, held) => write_held(db, *key, *received, *held),
        Change::Late(seq) => execute(db, "UPDATE events SET late = 1 WHERE seq = ?1", [seq]),
        // Strings and lists of them, likewise.
        Change::Plan(seq, view) => {
            let plan = serde_json::to_string(view).unwrap_or_default();
            execute(db, "UPDATE events SET plan = ?2 WHERE seq = ?1", params![seq, plan])
        }
        Change::RunStart(run) => write_run_start(db, run),
        Change::RunEnd(seq, id, ended, outcome) => write_run_end(db, *seq, *id, *ended, outcome),
        Change::Job(id, tracked) => write_job(db, *id, tracked),
        Change::Forget(id) => execute(db, "DELETE FROM jobs WHERE id = ?1", [id.get()]),
        Change::Begun(time) => write_time(db, "begun", *time),
        Change::FirstLook(look) => write_first_look(db, *look),
        Change::BeganAgain(time) => write_time(db, "began_again", *time),
        Change::HistoryLost(time) => write_time(db, "history_lost", *time),
        Change::Numbers(change) => numbers::write(db, change),
        // Likewise.
        Change::Outbox(name, progress) => {
            let progress = serde_json::to_string(progress).unwrap_or_default();
            execute(db, "INSERT OR REPLACE INTO outboxes VALUES (?1, ?2)", params![name, progress])
        }
        // It has something to tell besides.
        Change::Prune(..) => Ok(()),
    }
}

fn execute(db: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<()> {
    statement(db, sql)?.execute(values).map(drop)
}

fn write_time(db: &Connection, key: &str, time: Timestamp) -> rusqlite::Result<()> {
    execute(db, "INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, time.as_micros()])
}

fn write_first_look(db: &Connection, look: FirstLook) -> rusqlite::Result<()> {
    let FirstLook { since, is_before_the_queue } = look;
    write_time(db, "first_look", since)?;
    execute(db, "INSERT OR REPLACE INTO meta VALUES ('before_the_queue', ?1)", [is_before_the_queue])
}

fn write_state(db: &Connection, seq: i64, state: EventState, change: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE events SET state = ?2, change = ?3 WHERE seq = ?1";
    execute(db, sql, params![seq, state.as_str(), change])
}

fn write_adopted(db: &Connection, seq: i64, change: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE events SET state = 'pending', late = 1, change = ?2 WHERE seq = ?1";
    execute(db, sql, [seq, change])
}

fn write_rerun(db: &Connection, seq: i64, Rerun { script }: &Rerun, change: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE events SET state = 'pending', change = ?2, rerun_script = ?3,
            rerun_from = (SELECT coalesce(max(id), 0) + 1 FROM runs WHERE runs.seq = events.seq)
        WHERE seq = ?1";
    execute(db, sql, params![seq, change, script])
}

fn write_told_ganeti(db: &Connection, seq: i64, is_told: bool, change: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE events SET told_ganeti = ?2, change = ?3 WHERE seq = ?1";
    execute(db, sql, params![seq, is_told, change])
}

fn write_held(db: &Connection, key: EventKey, received: Timestamp, held: Duration) -> rusqlite::Result<()> {
    let EventKey { job, op, phase } = key;
    let held = i64::try_from(held.as_micros()).unwrap_or(i64::MAX);
    // The last one, from the index's end: a job of many opcodes is not read through.
    let sql = "UPDATE events SET held = ?5 WHERE seq = (SELECT seq FROM events
        WHERE job = ?1 AND received = ?2 AND op = ?3 AND phase = ?4 ORDER BY seq DESC LIMIT 1)";
    execute(db, sql, params![job.get(), received.as_micros(), op, phase.as_str(), held])
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
