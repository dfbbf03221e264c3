//! The journal's schema: migrations, each applied once, in order, never changed later.

use rusqlite::{Connection, Transaction};

use crate::world::failpoints;

/// Step `n` takes a journal of version `n` (SQLite's `user_version`) to `n + 1`.
const MIGRATIONS: [&str; 8] = [
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
    // Two pages less for a commit to write: SQLite's own record of the numbers it gave out,
    // which `meta` has instead when events are forgotten, and an index that told the runs of
    // an event, which the key does now. Runs are copied to where no reference counts, for
    // they would go with the old events.
    "INSERT OR REPLACE INTO meta SELECT 'seq', seq FROM sqlite_sequence WHERE name = 'events';
     CREATE TABLE old_runs AS SELECT * FROM runs;
     DROP TABLE runs;
     ALTER TABLE events RENAME TO old_events;
     DROP INDEX events_job;
     DROP INDEX events_undelivered;
     CREATE TABLE events (
        seq      INTEGER PRIMARY KEY,
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
        state    TEXT NOT NULL,
        plan     TEXT
     ) STRICT;
     INSERT INTO events SELECT seq, job, received, op, phase, op_count, op_code, status, executed,
        late, time, state, plan FROM old_events;
     DROP TABLE old_events;
     CREATE INDEX events_job ON events (job, received);
     CREATE INDEX events_undelivered ON events (seq) WHERE state <> 'done';
     CREATE TABLE runs (
        seq     INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
        id      INTEGER NOT NULL,
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
        error   TEXT,
        PRIMARY KEY (seq, id)
     ) STRICT, WITHOUT ROWID;
     INSERT INTO runs SELECT seq, id, node, script, attempt, started, ended, code, signal, seconds,
        output, dropped, error FROM old_runs;
     DROP TABLE old_runs;",
    // In standby every event stays another node's: a start looks for those of the last moments
    // from the end, and need not read all of them to find what is pending.
    "DROP INDEX events_undelivered;
     CREATE INDEX events_pending ON events (seq) WHERE state = 'pending';",
    // What the record tells of an event beside its status, and the feed. Times are microseconds
    // since the epoch, `held` microseconds. `reason` is JSON (`Trail`).
    "ALTER TABLE jobs ADD COLUMN executed INTEGER;
     CREATE TABLE clusters (
        id   INTEGER PRIMARY KEY,
        uuid TEXT NOT NULL UNIQUE
     ) STRICT;
     ALTER TABLE events ADD COLUMN cluster INTEGER;
     ALTER TABLE events ADD COLUMN object_type TEXT;
     ALTER TABLE events ADD COLUMN object TEXT;
     ALTER TABLE events ADD COLUMN previous_end INTEGER;
     ALTER TABLE events ADD COLUMN started INTEGER;
     ALTER TABLE events ADD COLUMN executed_at INTEGER;
     ALTER TABLE events ADD COLUMN ended INTEGER;
     ALTER TABLE events ADD COLUMN reason TEXT;
     ALTER TABLE events ADD COLUMN error TEXT;
     ALTER TABLE events ADD COLUMN held INTEGER;
     -- The number of its last change in the feed.
     ALTER TABLE events ADD COLUMN change INTEGER NOT NULL DEFAULT 0;
     -- It was run again: runs with lower numbers than this count no more.
     ALTER TABLE events ADD COLUMN rerun_from INTEGER;
     ALTER TABLE events ADD COLUMN rerun_script TEXT;
     ALTER TABLE runs ADD COLUMN directory TEXT NOT NULL DEFAULT '';
     UPDATE runs SET directory = (SELECT 'global-' || phase || '.d' FROM events WHERE events.seq = runs.seq);
     -- What the feed tells, in its order: that an event has changed, or a notice (JSON). Only the
     -- last change of an event counts.
     CREATE TABLE changes (
        change INTEGER PRIMARY KEY,
        seq    INTEGER,
        notice TEXT
     ) STRICT;
     UPDATE events SET change = seq;
     INSERT INTO changes SELECT seq, seq, NULL FROM events;
     INSERT OR REPLACE INTO meta SELECT 'forgotten', coalesce(min(seq) - 1, 0) FROM events;
     -- Tells this journal from all others: cursors of the feed name it.
     INSERT OR REPLACE INTO meta VALUES ('journal', random());",
    // Whether Ganeti was told of the death that an event tells of; NULL where it was not to be. How
    // far each outbox is, as JSON (`Progress`).
    "ALTER TABLE events ADD COLUMN told_ganeti INTEGER;
     CREATE TABLE outboxes (
        name     TEXT PRIMARY KEY,
        progress TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;",
    // Whether the number was seen when it was above the highest that was given out.
    "ALTER TABLE holes ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
     UPDATE holes SET seen = 1 WHERE id > (SELECT coalesce(max(value), 0) FROM meta WHERE key = 'highest');
     -- Where something was forgotten before, when the last of that was noticed, or a little later.
     INSERT OR IGNORE INTO meta SELECT 'told_until', time FROM events
        WHERE (SELECT value FROM meta WHERE key = 'forgotten') > 0 ORDER BY seq LIMIT 1;",
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
        failpoints::point("journal.within-migration");
        tx.pragma_update(None, "user_version", version + 1)?;
        tx.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::engine::change::RunKey;
    use crate::engine::numbers::Numbers;
    use crate::ganeti::job::Timestamp;
    use crate::world::journal::{FILE, FeedAnswer, Filter, History, Journal};

    /// From this version on a journal has the feed.
    const WITH_FEED: usize = 6;

    /// A journal of an earlier version, with a job, an event that is done and one that is not, a run
    /// of each, a hole, and a number that was seen above the highest.
    fn of_version(version: usize, dir: &Path) {
        let db = Connection::open(dir.join(FILE)).unwrap();
        MIGRATIONS[..version].iter().for_each(|migration| db.execute_batch(migration).unwrap());
        db.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
        db.execute_batch(
            "INSERT INTO jobs (id, received, next, pre, op_count, seen) VALUES (42, 9, 0, 1, 1, 3);
             INSERT INTO meta VALUES ('highest', 42);
             INSERT INTO holes (id) VALUES (40), (44);
             INSERT INTO events (seq, job, received, op, phase, op_count, op_code, status, executed, late, time, state)
                VALUES (7, 41, 8, 0, 'post', 1, 'OP_TEST_DELAY', 'failed', 1, 0, 5, 'done'),
                       (8, 42, 9, 0, 'pre', 1, 'OP_TEST_DELAY', NULL, 1, 0, 6, 'pending');
             INSERT INTO runs (id, seq, node, script, attempt, started, ended, code)
                VALUES (1, 7, 'node1', '10-a', 1, 5, 6, 0), (2, 8, 'node1', '10-a', 1, 5, NULL, NULL);",
        )
        .unwrap();
        if version >= WITH_FEED {
            db.execute_batch(
                "UPDATE events SET change = seq, reason = '[]';
                 UPDATE runs SET directory = CASE seq WHEN 7 THEN 'global-post.d' ELSE 'global-pre.d' END;
                 INSERT INTO changes SELECT seq, seq, NULL FROM events;
                 UPDATE meta SET value = 6 WHERE key = 'forgotten';",
            )
            .unwrap();
        }
    }

    #[test]
    fn a_journal_of_each_earlier_version_is_read_as_one_of_this() {
        for version in 1..MIGRATIONS.len() {
            let dir = tempfile::tempdir().unwrap();
            of_version(version, dir.path());
            let journal = Journal::open(dir.path()).unwrap();
            let loaded = journal.load(Timestamp::default()).unwrap();
            assert_eq!((loaded.jobs.len(), loaded.next_seq, loaded.next_run), (1, 9, 3), "{version}");
            assert_eq!(loaded.numbers, Numbers::new(42, [40, 44]), "{version}");
            let seen =
                journal.db.query_row("SELECT group_concat(id) FROM holes WHERE seen", [], |row| row.get(0));
            assert_eq!(seen, Ok("44".to_owned()), "{version}");
            let [undelivered] = &loaded.undelivered[..] else { panic!("{:?}", loaded.undelivered) };
            let [node, directory, script] = ["node1", "global-pre.d", "10-a"].map(str::to_owned);
            let run = RunKey { node, directory, script };
            assert_eq!((undelivered.seq, undelivered.runs.get(&run)), (8, Some(&(1, false))), "{version}");
            let history = History::open(dir.path()).unwrap().unwrap();
            let mut told = Vec::new();
            let answer = history.feed(None, &Filter::default(), |_, one| {
                told.push(one.to_json());
                true
            });
            assert!(matches!(answer.unwrap(), FeedAnswer::Read { is_end: true, .. }));
            assert_eq!(told.len(), 2, "{version}: {told:?}");
            let record: serde_json::Value = serde_json::from_str(&told[0]).unwrap();
            assert_eq!((&record["id"], &record["reason"]), (&json!("-/8/41.0.post"), &json!([])));
            assert_eq!(record["runs"][0]["directory"], "global-post.d");
            assert_eq!((&record["started"], &record["object"]), (&json!(null), &json!(null)));
        }
    }

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

    #[test]
    fn runs_and_the_highest_number_outlive_the_change_of_tables() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        MIGRATIONS[..3].iter().for_each(|migration| db.execute_batch(migration).unwrap());
        for seq in [7, 8, 9] {
            let event = "1, 0, 0, 'post', 1, 'OP_TEST_DELAY', 'failed', 1, 0, 5, 'done', '{}'";
            db.execute_batch(&format!("INSERT INTO events VALUES ({seq}, {event})")).unwrap();
            let run = "'node1', '10-a', 1, 5, 6, 3, NULL, 0.5, 'out', 2, 'error'";
            db.execute_batch(&format!("INSERT INTO runs VALUES ({seq}0, {seq}, {run})")).unwrap();
        }
        db.execute_batch("DELETE FROM events WHERE seq = 9").unwrap();
        migrate(&mut db, 3).unwrap();
        let found = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(found("SELECT value FROM meta WHERE key = 'seq'"), 9);
        assert_eq!(found("SELECT count(*) FROM events WHERE plan = '{}' AND state = 'done' AND time = 5"), 2);
        let run = "seq = 8 AND id = 80 AND node = 'node1' AND script = '10-a' AND attempt = 1 AND started = 5
            AND ended = 6 AND code = 3 AND signal IS NULL AND seconds = 0.5 AND output = 'out' AND dropped = 2
            AND error = 'error'";
        assert_eq!(found(&format!("SELECT count(*) FROM runs WHERE {run}")), 1);
        db.execute_batch("DELETE FROM events").unwrap();
        assert_eq!(found("SELECT count(*) FROM runs"), 0, "they go with their event");
        assert_eq!(found("SELECT count(*) FROM sqlite_sequence"), 0);
    }

    #[test]
    fn what_another_version_has_written_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let said = || History::open(dir.path()).unwrap_err().to_string();
        of_version(MIGRATIONS.len() - 1, dir.path());
        assert!(said().contains("start the daemon once"), "{}", said());
        Journal::open(dir.path()).unwrap();
        assert!(History::open(dir.path()).unwrap().is_some());
        let db = Connection::open(dir.path().join(FILE)).unwrap();
        db.pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert!(said().contains("install that version again"), "{}", said());
    }
}
