//! A damaged journal: out of the way with it, and a new one in its place.
//!
//! The new one is written beside the old one, in a directory of its own, and becomes the
//! journal by renames. Whoever is interrupted in that is finished by the next start.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::{FILE, Journal, JournalError};
use crate::engine::change::Change;
use crate::ganeti::job::Timestamp;
use crate::world::failpoints;

/// The directory of a new journal that is complete.
const ANEW: &str = "journal.anew";

/// The directory of one that is not.
const ANEW_UNFINISHED: &str = "journal.anew.tmp";

/// Puts a damaged journal out of the way, and tells its new name.
pub fn set_aside(state_dir: &Path, now: Timestamp) -> String {
    let suffix = format!("damaged-{}", now.as_micros() / 1_000_000);
    failpoints::point("journal.before-aside");
    // The journal itself goes last: whoever finds it sees to what is left of this.
    for part in ["-wal", "-shm", ""] {
        let name = format!("{FILE}{part}");
        let _ = std::fs::rename(state_dir.join(&name), state_dir.join(format!("{name}.{suffix}")));
        if part == "-wal" {
            failpoints::point("journal.between-aside");
        }
    }
    failpoints::point("journal.after-aside");
    format!("{FILE}.{suffix}")
}

/// Puts a new journal that is complete in place of the old one, which is set aside.
/// Returns the old one's name; `None` when there is no new one.
pub fn put_in_place(state_dir: &Path, now: Timestamp) -> Option<String> {
    let anew = state_dir.join(ANEW);
    if !anew.join(FILE).exists() {
        return None;
    }
    let aside = set_aside(state_dir, now);
    std::fs::rename(anew.join(FILE), state_dir.join(FILE)).ok()?;
    let _ = std::fs::remove_dir(anew);
    Some(aside)
}

impl Journal {
    /// Writes a new journal beside this one, which is damaged; [`put_in_place`] makes it
    /// the journal. Its numbers go on from this one's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_anew(&self, state_dir: &Path, all: &[Change]) -> Result<(), JournalError> {
        let (unfinished, anew) = (state_dir.join(ANEW_UNFINISHED), state_dir.join(ANEW));
        let io = |error: std::io::Error| JournalError::Io { path: anew.clone(), error };
        for old in [&unfinished, &anew].into_iter().filter(|dir| dir.exists()) {
            std::fs::remove_dir_all(old).map_err(io)?;
        }
        DirBuilder::new().mode(0o700).create(&unfinished).map_err(io)?;
        let mut journal = Self::open(&unfinished)?;
        journal.commit(all)?;
        journal.give_out_none_below(self.last_seq + 1)?;
        // The last to close it leaves one file.
        drop(journal);
        std::fs::rename(&unfinished, &anew).map_err(io)?;
        failpoints::point("journal.anew-written");
        Ok(())
    }

    /// Has the numbers of events go on from this one at least, after a restart, too.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn give_out_none_below(&mut self, seq: i64) -> Result<(), JournalError> {
        self.last_seq = self.last_seq.max(seq.saturating_sub(1));
        let sql = "INSERT OR REPLACE INTO meta VALUES ('seq', ?1)";
        self.db.execute(sql, [self.last_seq]).map_err(|error| self.wrap(error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::change::EventState;
    use crate::world::journal::tests::event;

    #[test]
    fn a_journal_that_is_written_anew_gives_no_number_out_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.commit(&[Change::Event(41, event(1), EventState::Done)]).unwrap();
        journal.write_anew(dir.path(), &[Change::Event(40, event(2), EventState::Pending)]).unwrap();
        assert!(put_in_place(dir.path(), Timestamp::default()).is_some());
        let loaded = Journal::open(dir.path()).unwrap().load(Timestamp::default()).unwrap();
        assert_eq!((loaded.next_seq, loaded.undelivered[0].seq), (42, 40));
    }

    #[test]
    fn numbers_go_on_from_where_they_are_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.give_out_none_below(1_000).unwrap();
        assert_eq!(journal.load(Timestamp::default()).unwrap().next_seq, 1_000);
        journal.give_out_none_below(7).unwrap();
        drop(journal);
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.load(Timestamp::default()).unwrap().next_seq, 1_000);
    }
}
