//! The journal's schema: migrations, each applied once, in order, never changed later.

use rusqlite::{Connection, Transaction};

use crate::fault;

/// Step `n` takes a journal of version `n` (SQLite's `user_version`) to `n + 1`.
const MIGRATIONS: [&str; 3] = [
    // Times are microseconds since the epoch.
    "CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;

     -- The jobs in the queue, and how far they have been told (`Tracked`).
     CREATE TABLE jobs (
        id       INTEGER PRIMARY KEY,
        received INTEGER NOT NULL,
        next     INTEGER NOT NULL,
        pre      INTEGER NOT NULL,
        op_count INTEGER NOT NULL,
        pid      INTEGER,
        livelock TEXT,
        started  INTEGER,
        seen     INTEGER NOT NULL
     ) STRICT;

     -- Job numbers that were given out but not seen (`Numbers`).
     CREATE TABLE holes (id INTEGER PRIMARY KEY) STRICT;

     CREATE TABLE events (
        seq      INTEGER PRIMARY KEY AUTOINCREMENT,
        job      INTEGER NOT NULL,
        received INTEGER NOT NULL,
        op       INTEGER NOT NULL,
        phase    TEXT NOT NULL,
        op_count INTEGER NOT NULL,
        op_code  TEXT NOT NULL,
        status   TEXT,
        executed INTEGER NOT NULL,
        late     INTEGER NOT NULL,
        time     INTEGER NOT NULL,
        -- What became of it: `pending`, `done`, or `standby` (another node's to deliver).
        state    TEXT NOT NULL
     ) STRICT;
     CREATE INDEX events_job ON events (job, received);
     CREATE INDEX events_undelivered ON events (seq) WHERE state <> 'done';
     CREATE INDEX events_time ON events (time);

     -- One script run for one event on one node. A run without an end was under way
     -- when the daemon died.
     CREATE TABLE runs (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        seq     INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
        node    TEXT NOT NULL,
        script  TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        started INTEGER NOT NULL,
        ended   INTEGER,
        code    INTEGER,
        signal  INTEGER,
        seconds REAL,
        output  TEXT,
        dropped INTEGER,
        error   TEXT
     ) STRICT;
     CREATE INDEX runs_seq ON runs (seq);",
    // What the event's scripts are given beside the variables that all have, and the nodes
    // they run on, as JSON (`View`). Never the opcode's input, which may hold secrets.
    "ALTER TABLE events ADD COLUMN plan TEXT;",
    // Each event paid for it, and once an hour it was of use.
    "DROP INDEX events_time;",
];

/// The version of the journal that this program writes.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the journal to [`VERSION`].
///
/// # Errors
/// When SQLite says no.
pub fn migrate(db: &mut Connection, found: i64) -> rusqlite::Result<()> {
    for (version, migration) in (0_i64..).zip(MIGRATIONS).filter(|(version, _)| *version >= found) {
        let tx: Transaction<'_> = db.transaction()?;
        tx.execute_batch(migration)?;
        fault::point("journal.within-migration");
        tx.pragma_update(None, "user_version", version + 1)?;
        tx.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_journal_is_brought_up_once() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(MIGRATIONS[0]).unwrap();
        db.pragma_update(None, "user_version", 1).unwrap();
        let insert =
            "INSERT INTO events VALUES (7, 1, 0, 0, 'pre', 1, 'OP_TEST_DELAY', NULL, 1, 0, 0, 'done')";
        db.execute_batch(insert).unwrap();
        migrate(&mut db, 1).unwrap();
        migrate(&mut db, VERSION).unwrap();
        let found = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(found("PRAGMA user_version"), VERSION);
        assert_eq!(found("SELECT seq FROM events WHERE plan IS NULL"), 7);
    }
}
