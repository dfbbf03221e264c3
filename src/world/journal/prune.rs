//! Forgetting old history, a piece at a time: a commit that forgets must not keep those waiting
//! that come after it.

use rusqlite::{Connection, params};

use super::LAST_SEQ;
use super::write::statement;
use crate::ganeti::job::Timestamp;

/// Forgets at most `limit` events, and their runs: the oldest ones, up to the first that was
/// noticed at `before` or later (after the clock was set back some are kept longer). What is
/// not delivered stays. Returns whether there is more to forget.
pub fn prune(db: &Connection, before: Timestamp, limit: u32) -> rusqlite::Result<bool> {
    let (last, more) = last_to_forget(db, before, limit)?;
    if let Some(last) = last {
        // No number is ever given out again, also when all that had one are forgotten.
        statement(db, &format!("INSERT OR REPLACE INTO meta VALUES ('seq', {LAST_SEQ})"))?.execute([])?;
        statement(db, "DELETE FROM events WHERE seq <= ?1 AND state <> 'pending'")?.execute(params![last])?;
    }
    Ok(more)
}

/// The number of the last event that is forgotten now, and whether more could be. No more rows
/// are looked at than are forgotten, and those that are pending among them.
fn last_to_forget(db: &Connection, before: Timestamp, limit: u32) -> rusqlite::Result<(Option<i64>, bool)> {
    let mut oldest = statement(db, "SELECT seq, time, state = 'pending' FROM events ORDER BY seq")?;
    let mut rows = oldest.query([])?;
    let (mut last, mut count) = (None, 0);
    while let Some(row) = rows.next()? {
        let (seq, time, is_pending): (i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if time >= before.as_micros() {
            break;
        }
        if is_pending {
            continue;
        }
        if count == limit {
            return Ok((last, true));
        }
        count += 1;
        last = Some(seq);
    }
    Ok((last, false))
}
