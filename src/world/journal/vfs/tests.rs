#![expect(unsafe_code, reason = "SQLite's interface is that of C")]

use std::cell::RefCell;
use std::cmp::Ordering;
use std::path::Path;
use std::rc::Rc;
use std::sync::Once;

use rusqlite::{Connection, ErrorCode};

use super::{SQLITE_OK, c_int, c_void, committing, null, sqlite3_vfs_find};
use crate::engine::change::{Change, EventState};
use crate::world::journal::tests::event;
use crate::world::journal::{FILE, Journal, open, prepare};

/// How many bytes of a write are written, or with which error it fails.
type Fate = Box<dyn FnMut(&[u8]) -> Result<usize, c_int>>;

thread_local! {
    /// What becomes of the writes of this thread.
    static FATE: RefCell<Option<Fate>> = const { RefCell::new(None) };
}

unsafe extern "C" fn pwrite(file: c_int, data: *const c_void, length: usize, offset: i64) -> isize {
    // SAFETY: as SQLite has called us.
    unsafe {
        let bytes = std::slice::from_raw_parts(data.cast(), length);
        match FATE.with_borrow_mut(|fate| fate.as_mut().map_or(Ok(length), |fate| fate(bytes))) {
            Ok(part) => libc::pwrite(file, data, part, offset),
            Err(error) => {
                *libc::__errno_location() = error;
                -1
            }
        }
    }
}

/// Runs this, with such a fate of what SQLite writes meanwhile.
fn fated<T>(fate: impl FnMut(&[u8]) -> Result<usize, c_int> + 'static, run: impl FnOnce() -> T) -> T {
    static ONCE: Once = Once::new();
    type Pwrite = unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize;
    // SAFETY: SQLite's own VFS takes other system calls for tests, and calls them as what they stand for.
    ONCE.call_once(|| unsafe {
        let system = sqlite3_vfs_find(null());
        let (get, set) = ((*system).xGetSystemCall.unwrap(), (*system).xSetSystemCall.unwrap());
        let ours = std::mem::transmute::<Pwrite, unsafe extern "C" fn()>(pwrite);
        // It was built to call one of the two.
        for name in [c"pwrite", c"pwrite64"] {
            if get(system, name.as_ptr()).is_some() {
                assert_eq!(set(system, name.as_ptr(), Some(ours)), SQLITE_OK);
            }
        }
    });
    FATE.set(Some(Box::new(fate)));
    let result = run();
    FATE.set(None);
    result
}

const FEW: [(i64, i64); 1] = [(1, 2)];
/// More than is gathered at once, fewer pages than SQLite keeps.
const MANY: [(i64, i64); 1] = [(100, 80)];
/// More pages than SQLite keeps, and the first of them a second time.
const SPILLED: [(i64, i64); 3] = [(300, 120), (300, 120), (1, 2)];

/// What is written by one commit after the other: rows from this one on, so many.
const COMMITS: [&[(i64, i64)]; 6] = [&FEW, &MANY, &SPILLED, &FEW, &SPILLED, &MANY];

fn database(path: &Path, open: impl FnOnce(&Path) -> rusqlite::Result<Connection>) -> Connection {
    let db = open(path).unwrap();
    prepare(&db).unwrap();
    db.execute_batch("PRAGMA cache_size = 100; CREATE TABLE rows (id INTEGER PRIMARY KEY, round, data)")
        .unwrap();
    db
}

fn write_rows(db: &Connection, round: usize) -> rusqlite::Result<()> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    let write =
        "WITH RECURSIVE ids(id) AS (SELECT ?1 UNION ALL SELECT id + 1 FROM ids WHERE id < ?1 + ?2 - 1)
        INSERT OR REPLACE INTO rows SELECT id, ?3, printf('%0800d', id * ?3) FROM ids";
    for (from, count) in COMMITS[round] {
        db.execute(write, (from, count, i64::try_from(round).unwrap()))?;
    }
    Ok(())
}

fn commit(db: &Connection, round: usize) -> rusqlite::Result<()> {
    let committed = write_rows(db, round).and_then(|()| committing(|| db.execute_batch("COMMIT")));
    committed.inspect_err(|_| {
        let _ = db.execute_batch("ROLLBACK");
    })
}

/// What is there, all of it whole.
fn found(db: &Connection) -> String {
    let checked = db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(checked.as_deref(), Ok("ok"));
    let rows = "SELECT count(*) || ' ' || total(id * round) || ' ' || total(id * data) FROM rows";
    db.query_row(rows, [], |row| row.get(0)).unwrap()
}

type Files = [Vec<u8>; 2];

fn files(path: &Path) -> Files {
    [path.to_owned(), path.with_extension("db-wal")].map(|path| std::fs::read(path).unwrap())
}

/// What a daemon finds that starts with these files after another one was killed.
fn recovered([file, log]: &Files) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    std::fs::write(&path, file).unwrap();
    std::fs::write(path.with_extension("db-wal"), log).unwrap();
    found(&Connection::open(path).unwrap())
}

/// The log's frames without what is by chance or follows from that: its salts and sums.
fn frames(log: &[u8]) -> Vec<(&[u8], &[u8])> {
    log[32..].chunks(24 + 1024).map(|frame| (&frame[..8], &frame[24..])).collect()
}

#[test]
fn a_commit_is_one_write() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(&dir.path().join("journal.db"), open);
    // The first follows a table that was made outside of a commit.
    let [_, few, many] = [0, 3, 1].map(|round| {
        let sizes = Rc::<RefCell<Vec<_>>>::default();
        let written = sizes.clone();
        let count = move |bytes: &[u8]| {
            written.borrow_mut().push(bytes.len());
            Ok(bytes.len())
        };
        fated(count, || commit(&db, round)).unwrap();
        sizes.take()
    });
    assert!(few.len() == 1 && many.len() < 5, "{few:?} {many:?}");
}

#[test]
fn the_log_is_as_sqlite_writes_it() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let paths = dirs.each_ref().map(|dir| dir.path().join("journal.db"));
    let ours = database(&paths[0], open);
    let systems = database(&paths[1], |path| Connection::open(path));
    for round in 0..COMMITS.len() {
        commit(&ours, round).and_then(|()| commit(&systems, round)).unwrap();
        let [[our_file, our_log], [file, log]] = paths.each_ref().map(|path| files(path));
        assert!(our_file == file && frames(&our_log) == frames(&log), "{round}");
        for path in paths.iter().filter(|_| round == 3) {
            // The log begins anew with the next one.
            let db = Connection::open(path).unwrap();
            db.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())).unwrap();
        }
    }
}

#[test]
fn who_is_killed_within_a_write_has_all_of_a_commit_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let db = database(&path, open);
    let reader = Connection::open(&path).unwrap();
    for round in 0..3 {
        let before = found(&reader);
        let left = Rc::<RefCell<Vec<Files>>>::default();
        let (leave, within, mut is_half) = (left.clone(), path.clone(), false);
        // Each is written by two, and SQLite asks for the second half again.
        let halves = move |bytes: &[u8]| {
            leave.borrow_mut().push(files(&within));
            is_half = !is_half;
            Ok(if is_half { bytes.len() / 2 } else { bytes.len() })
        };
        fated(halves, || commit(&db, round)).unwrap();
        let after = found(&reader);
        assert_ne!(before, after);
        // Of many that are alike some.
        let left = left.take();
        for files in left.iter().step_by(left.len() / 16 + 1).chain(&left[left.len() - 2..]) {
            assert_eq!(recovered(files), before, "{round}");
        }
        assert_eq!(recovered(&files(&path)), after, "{round}");
    }
}

#[test]
fn a_write_that_fails_is_the_commits_and_the_next_one_goes_on() {
    // All of it, half of it, a byte of it is not written.
    let parts: [fn(usize) -> usize; 3] = [|_| 0, |size| size / 2, |size| size - 1];
    for (failing, part) in (1..4).flat_map(|failing| parts.map(|part| (failing, part))) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let (db, reader) = (database(&path, open), Connection::open(&path).unwrap());
        let all_find = |expected: &str, round: usize| {
            let all = [found(&db), found(&reader), recovered(&files(&path))];
            assert_eq!(all, [expected; 3], "{round} {failing} {}", part(1000));
        };
        for (round, rows) in COMMITS.iter().enumerate() {
            let (before, mut writes) = (found(&reader), 0);
            let fails = move |bytes: &[u8]| {
                writes += 1;
                match (writes.cmp(&failing), part(bytes.len())) {
                    (Ordering::Less, _) => Ok(bytes.len()),
                    (Ordering::Equal, part) if part > 0 => Ok(part),
                    _ => Err(libc::ENOSPC),
                }
            };
            match fated(fails, || commit(&db, round)) {
                Ok(()) => assert!(rows.len() == 1 && failing > 1, "{round} {failing}"),
                Err(error) => {
                    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DiskFull));
                    all_find(&before, round);
                    commit(&db, round).unwrap();
                }
            }
            let after = found(&db);
            assert_ne!(before, after);
            all_find(&after, round);
        }
    }
}

#[test]
fn the_journals_commit_is_such_a_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let reader = Connection::open(dir.path().join(FILE)).unwrap();
    for job in 1..4 {
        let writes = Rc::<RefCell<usize>>::default();
        let written = writes.clone();
        let count = move |bytes: &[u8]| {
            *written.borrow_mut() += 1;
            Ok(bytes.len())
        };
        fated(count, || journal.commit(&[Change::Event(job, event(job), EventState::Pending)])).unwrap();
        // Before the first the tables were made.
        assert!(job == 1 || writes.take() == 1);
        let events = reader.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0));
        assert_eq!(events, Ok(job));
    }
}
