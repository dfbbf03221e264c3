//! The job numbers accounted for, as the journal keeps them: the highest that was given out,
//! and one a row the holes below it, and what has been seen above it: a row keeps saying that when it
//! is a hole. A change touches the rows that it is about and no others, however many holes there are.

use rusqlite::Connection;

use super::write::statement;
use crate::engine::numbers::{Numbers, NumbersChange};

/// What had been seen above the highest, and is below what is searched.
const PASSED: &str = "DELETE FROM holes WHERE id < ?1
     AND id > (SELECT coalesce(max(value), 0) FROM meta WHERE key = 'highest')";

/// Reads them.
pub fn load(db: &Connection) -> rusqlite::Result<Numbers> {
    let highest =
        db.query_row("SELECT coalesce(max(value), 0) FROM meta WHERE key = 'highest'", [], |row| row.get(0))?;
    let mut holes = db.prepare("SELECT id, seen FROM holes")?;
    let holes = holes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let holes = holes.collect::<rusqlite::Result<Vec<(i64, bool)>>>()?;
    let seen = holes.iter().filter(|(_, seen)| *seen).map(|(id, _)| *id);
    let mut numbers = Numbers::new(highest, holes.iter().map(|(id, _)| *id)).with_seen(seen);
    if db.prepare("SELECT 1 FROM meta WHERE key = 'of_old'")?.exists([])? {
        numbers.are_of_old();
    }
    Ok(numbers)
}

/// Writes one change of them.
pub fn write(db: &Connection, change: &NumbersChange) -> rusqlite::Result<()> {
    match change {
        NumbersChange::All(highest, holes, seen) => {
            statement(db, "DELETE FROM holes")?.execute([])?;
            statement(db, "DELETE FROM meta WHERE key = 'of_old'")?.execute([])?;
            write_holes(db, holes.iter().copied(), false)?;
            write_holes(db, seen.iter().copied(), true)?;
            write_highest(db, *highest)
        }
        NumbersChange::GivenOut(first, last, seen) => {
            statement(db, PASSED)?.execute([first])?;
            seen.iter().try_for_each(|id| fill(db, *id))?;
            write_holes(db, (*first..=*last).filter(|id| seen.binary_search(id).is_err()), false)?;
            write_highest(db, *last)
        }
        NumbersChange::Filled(id) => fill(db, *id),
        NumbersChange::GivenUpBelow(oldest) => {
            statement(db, "DELETE FROM holes WHERE id < ?1")?.execute([oldest])?;
            Ok(())
        }
        NumbersChange::SeenAbove(seen) => write_holes(db, seen.iter().copied(), true),
        NumbersChange::GivenUpAbove(last) => {
            statement(db, "DELETE FROM holes WHERE id > ?1")?.execute([last])?;
            Ok(())
        }
        NumbersChange::OfOld => {
            statement(db, "INSERT OR REPLACE INTO meta VALUES ('of_old', 1)")?.execute([])?;
            Ok(())
        }
    }
}

fn write_highest(db: &Connection, highest: i64) -> rusqlite::Result<()> {
    statement(db, "INSERT OR REPLACE INTO meta VALUES ('highest', ?1)")?.execute([highest])?;
    Ok(())
}

fn fill(db: &Connection, hole: i64) -> rusqlite::Result<()> {
    statement(db, "DELETE FROM holes WHERE id = ?1")?.execute([hole])?;
    Ok(())
}

/// Those that are there stay what they are.
fn write_holes(db: &Connection, holes: impl Iterator<Item = i64>, seen: bool) -> rusqlite::Result<()> {
    let mut insert = statement(db, "INSERT OR IGNORE INTO holes (id, seen) VALUES (?1, ?2)")?;
    for hole in holes {
        insert.execute((hole, seen))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::change::Change;
    use crate::engine::numbers::Account;
    use crate::ganeti::job::JobId;
    use crate::world::journal::Journal;

    fn id(id: i64) -> JobId {
        id.try_into().unwrap()
    }

    #[test]
    fn a_change_costs_the_same_however_many_holes_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let mut rows = |change: NumbersChange| {
            let before = journal.db.total_changes();
            journal.commit(&[Change::Numbers(change)]).unwrap();
            journal.db.total_changes() - before
        };
        let mut numbers = Numbers::new(0, []);
        assert_eq!(rows(numbers.reach(99_000).unwrap()), 99_001);
        assert_eq!(rows(numbers.see(id(50_000)).unwrap()), 1);
        assert_eq!(rows(numbers.reach(99_003).unwrap()), 4);
        assert_eq!(rows(numbers.give_up_below(3).unwrap()), 2);
        assert_eq!(load(&journal.db).unwrap(), numbers);
    }

    /// A journal that is told changes, and says what it has then.
    fn journal() -> impl FnMut(NumbersChange) -> Numbers {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        move |change| {
            // It goes with the journal.
            let _dir = &dir;
            journal.commit(&[Change::Numbers(change)]).unwrap();
            load(&journal.db).unwrap()
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut commit = journal();
        let mut numbers = Numbers::new(10, [3, 7]);
        assert_eq!(commit(numbers.all()), numbers);
        numbers.see(id(12));
        assert_eq!(commit(numbers.reach(13).unwrap()), Numbers::new(13, [3, 7, 11, 13]));
        assert_eq!(commit(numbers.see(id(7)).unwrap()), numbers);
        assert_eq!(commit(numbers.give_up_below(11).unwrap()), numbers);
        assert_eq!(commit(numbers.begin_again(2)), Numbers::new(2, [1, 2]));
    }

    #[test]
    fn that_they_are_of_a_cluster_that_is_gone_is_read_until_they_begin_again() {
        let mut commit = journal();
        let mut numbers = Numbers::new(10, [3]);
        commit(numbers.all());
        let change = numbers.are_of_old().unwrap();
        assert_eq!(numbers.are_of_old(), None, "it is written once");
        let mut read = commit(change);
        assert!(read == numbers && read.begin_again_at(10));
        let again = commit(read.begin_again(10));
        assert!(again == read && !again.begin_again_at(10));
    }

    #[test]
    fn what_was_seen_above_the_highest_is_read_and_is_no_hole() {
        let mut commit = journal();
        let mut numbers = Numbers::new(10, [3]);
        commit(numbers.all());
        [12, 20, 30].into_iter().for_each(|n| drop(numbers.see(id(n))));
        let all = Numbers::new(10, [3, 12, 20, 30]);
        assert_eq!(commit(numbers.seen_above().next().unwrap()), all);
        assert_eq!(commit(numbers.all()), all);
        assert_eq!(commit(numbers.reach(13).unwrap()), Numbers::new(13, [3, 11, 13, 20, 30]));
        assert_eq!(commit(NumbersChange::GivenUpAbove(20)), Numbers::new(13, [3, 11, 13, 20]));
    }

    #[test]
    fn that_a_hole_was_seen_above_the_highest_is_read_until_it_is_none() {
        let mut commit = journal();
        commit(Numbers::new(10, [3, 12, 13, 30]).all());
        let mut numbers = Numbers::new(10, [3, 12, 13, 30]);
        let read = commit(numbers.reach(20).unwrap());
        assert_eq!((read.account(id(11)), read.account(id(12))), (Account::Missing, Account::FoundBefore));
        assert_eq!(read, numbers);
        assert_eq!(commit(read.all()), read);
        assert_eq!(commit(numbers.see(id(12)).unwrap()), numbers);
        assert_eq!(commit(numbers.give_up_below(14).unwrap()), numbers);
        assert_eq!(numbers.account(id(13)), Account::Found);
    }
}
