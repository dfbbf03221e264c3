//! Words of the history, for a shell to complete.

use super::{History, JournalError};

/// Events that are looked at: the last ones.
const EVENTS: i64 = 500;

/// The longest word.
const LENGTH_MAX: usize = 255;

/// What a word names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A job.
    Job,
    /// An event.
    Event,
    /// An opcode's type.
    OpCode,
    /// What an opcode is about, by its name.
    Object,
    /// A hook script.
    Script,
}

impl Word {
    /// The word in a row of a table, and the table.
    fn column(self) -> (&'static str, &'static str) {
        match self {
            Self::Job => ("CAST(job AS TEXT)", "events"),
            Self::Event => ("job || '.' || op || '.' || phase", "events"),
            Self::OpCode => ("op_code", "events"),
            Self::Object => ("object", "events"),
            Self::Script => ("script", "runs"),
        }
    }
}

impl History {
    /// Such words of the last events, the newest first. Words that mean something to a shell are
    /// left out: jobs and hooks may name anything.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn words(&self, what: Word) -> Result<Vec<String>, JournalError> {
        let (column, table) = what.column();
        let sql = format!(
            "SELECT {column} AS word FROM {table}
             WHERE seq > (SELECT coalesce(max(seq), 0) FROM events) - {EVENTS} AND word IS NOT NULL
             GROUP BY word ORDER BY max(seq) DESC"
        );
        let read = || -> rusqlite::Result<Vec<String>> {
            self.db.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
        };
        let words = read().map_err(|error| self.wrap(error))?;
        Ok(words.into_iter().filter(|word| is_word(word)).collect())
    }
}

/// Whether a text is one word to every shell, and no option.
fn is_word(text: &str) -> bool {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || "._+@-".contains(c);
    let is_first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= LENGTH_MAX && text.starts_with(is_first) && text.chars().all(is_of_word)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::change::{Change, EventState, RunStart};
    use crate::ganeti::about::About;
    use crate::ganeti::event::Event;
    use crate::ganeti::job::Timestamp;
    use crate::ganeti::object::{Object, ObjectKind};
    use crate::world::journal::Journal;
    use crate::world::journal::tests::event;

    fn about(seq: i64, name: &str) -> Change {
        let object = Some(Object { kind: ObjectKind::Instance, name: Some(name.to_owned()) });
        let event = Event { about: Arc::new(About { object, ..About::default() }), ..event(seq) };
        Change::Event(seq, event, EventState::Done)
    }

    #[test]
    fn words_are_of_the_last_events_and_nothing_to_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let run = |id, seq, script: &str| {
            Change::RunStart(RunStart {
                id,
                seq,
                node: "node1".to_owned(),
                directory: "global-post.d".to_owned(),
                script: script.to_owned(),
                attempt: 1,
                started: Timestamp::default(),
            })
        };
        let names = [
            "old",
            "web1.example.com",
            "$(reboot)",
            "a b",
            "`x`",
            "-rf",
            "",
            "../x",
            "web2",
            "web1.example.com",
        ];
        let numbered = names.iter().zip([1, 600, 601, 602, 603, 604, 605, 606, 607, 608]);
        let mut changes: Vec<Change> = numbered.map(|(name, seq)| about(seq, name)).collect();
        changes.extend([
            run(1, 600, "20-log"),
            run(2, 608, "10-mail"),
            run(3, 608, "20-log"),
            run(4, 608, "x;y"),
        ]);
        journal.commit(&changes).unwrap();
        let history = History::open(dir.path()).unwrap().unwrap();
        assert_eq!(history.words(Word::Object).unwrap(), ["web1.example.com", "web2"]);
        let mut scripts = history.words(Word::Script).unwrap();
        scripts.sort();
        assert_eq!(scripts, ["10-mail", "20-log"]);
        let jobs = history.words(Word::Job).unwrap();
        assert_eq!((jobs.len(), jobs[0].as_str()), (9, event(608).key.job.to_string().as_str()));
        assert_eq!(history.words(Word::Event).unwrap()[0], event(608).key.to_string());
        assert_eq!(history.words(Word::OpCode).unwrap(), [event(1).op_code]);
    }

    #[test]
    fn an_empty_history_has_no_words() {
        let dir = tempfile::tempdir().unwrap();
        Journal::open(dir.path()).unwrap();
        let history = History::open(dir.path()).unwrap().unwrap();
        assert_eq!(history.words(Word::Job).unwrap(), [""; 0]);
    }
}
