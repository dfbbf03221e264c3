//! Forgetting old history, a piece at a time: a commit that forgets must not keep those waiting
//! that come after it.

use rusqlite::Connection;

use super::LAST_SEQ;
use super::write::statement;
use crate::ganeti::job::Timestamp;

/// Changes that are looked at for each event that may be forgotten.
const CHANGES_EACH: usize = 4;

/// Forgets at most `limit` events, and their runs: those that the feed told first, up to the first
/// that was noticed at `before` or later. What is not delivered stays, and is told again when it
/// is. Changes that others have overtaken go as well. When the last of those that were forgotten was
/// noticed is written with that. Returns whether there is more to forget, and when that one was
/// noticed.
pub fn prune(db: &Connection, before: Timestamp, limit: u32) -> rusqlite::Result<(bool, Option<Timestamp>)> {
    let Old { events, overtaken, last, latest, more } = old(db, before, limit as usize)?;
    for change in overtaken {
        statement(db, "DELETE FROM changes WHERE change = ?1")?.execute([change])?;
    }
    if let Some(last) = last {
        // No number is ever given out again, also when all that had one are forgotten.
        statement(db, &format!("INSERT OR REPLACE INTO meta VALUES ('seq', {LAST_SEQ})"))?.execute([])?;
        statement(db, "INSERT OR REPLACE INTO meta VALUES ('forgotten', ?1)")?.execute([last])?;
        statement(db, "DELETE FROM changes WHERE change <= ?1")?.execute([last])?;
    }
    if let Some(latest) = latest {
        let sql = "INSERT INTO meta VALUES ('told_until', ?1)
            ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)";
        statement(db, sql)?.execute([latest.as_micros()])?;
    }
    for seq in events {
        statement(db, "DELETE FROM events WHERE seq = ?1")?.execute([seq])?;
    }
    Ok((more, latest))
}

/// What is forgotten now.
#[derive(Default)]
struct Old {
    events: Vec<i64>,
    /// Changes that others have overtaken.
    overtaken: Vec<i64>,
    /// The last change of such an event.
    last: Option<i64>,
    /// The latest time of one.
    latest: Option<Timestamp>,
    /// There is more.
    more: bool,
}

fn old(db: &Connection, before: Timestamp, limit: usize) -> rusqlite::Result<Old> {
    let sql = "SELECT changes.change, notice IS NULL, events.seq, time, state = 'pending' FROM changes
        LEFT JOIN events ON events.seq = changes.seq AND events.change = changes.change ORDER BY changes.change";
    let mut changes = statement(db, sql)?;
    let mut rows = changes.query([])?;
    let (mut old, mut looked_at) = (Old::default(), 0);
    while let Some(row) = rows.next()? {
        let (change, is_of_event): (i64, bool) = (row.get(0)?, row.get(1)?);
        let (seq, time, is_pending): (Option<i64>, Option<i64>, Option<bool>) =
            (row.get(2)?, row.get(3)?, row.get(4)?);
        if time >= Some(before.as_micros()) {
            break;
        }
        let goes = is_pending == Some(false);
        if goes && old.events.len() == limit {
            old.more = true;
            break;
        }
        if looked_at == limit * CHANGES_EACH {
            old.more = !old.events.is_empty() || !old.overtaken.is_empty();
            break;
        }
        looked_at += 1;
        match seq.filter(|_| goes) {
            Some(seq) => {
                old.events.push(seq);
                old.last = Some(change);
                old.latest = old.latest.max(time.map(Timestamp::from_micros));
            }
            None if seq.is_none() && is_of_event => old.overtaken.push(change),
            None => {}
        }
    }
    Ok(old)
}
