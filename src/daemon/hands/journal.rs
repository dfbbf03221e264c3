//! The journal: opening it, writing to it, and putting a new one in the place of one that is
//! damaged.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::daemon::message::Message;
use crate::engine::change::{Change, Past, Remembered};
use crate::engine::input::{CommitError, Input, Recorded, Written};
use crate::engine::transitions::Progress;
use crate::ganeti::event_name::EventName;
use crate::ganeti::job::{JobId, Timestamp};
use crate::world::clock::now;
use crate::world::failpoints;
use crate::world::journal::{self, History, Journal, JournalError, LogTeller};
use crate::world::panics::caught;

/// What is done with the journal.
#[derive(Debug)]
pub struct Books {
    journal: Journal,
    state_dir: PathBuf,
    /// The journal is damaged, and how: nothing more is written to it.
    damage: Option<String>,
    /// Is told how large the journal's log is.
    inbox: Sender<Message>,
}

impl Books {
    /// Opens the journal and reads it; of what another node was to deliver in the last
    /// moments, `failover_window`, as well; `inbox` is told of a log that has become large. A damaged one is set aside: it is better to start
    /// as on first start than not at all.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn open(
        state_dir: &Path,
        failover_window: Duration,
        inbox: Sender<Message>,
    ) -> Result<(Self, Remembered), JournalError> {
        if let Some(aside) = journal::put_in_place(state_dir, now()) {
            log::warn!("the journal that was written anew is in place; the damaged one is {aside}");
        }
        let window = i64::try_from(failover_window.as_micros()).unwrap_or(i64::MAX);
        let standby_since = Timestamp::from_micros(now().as_micros().saturating_sub(window));
        let error = match open(state_dir, standby_since, 1, &inbox) {
            Err(error) if error.is_unusable() => error,
            result => return result,
        };
        let aside = journal::set_aside(state_dir, now());
        log::error!(
            "{error}; it is set aside as {aside}, and the daemon starts as on first start: \
             what happened since it last ran is not delivered"
        );
        // Which numbers it had given out nobody knows; there were not as many as seconds.
        open(state_dir, standby_since, now().as_micros() / 1_000_000, &inbox)
    }

    /// How far the history tells a job; `None` when it knows nothing of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn recall(&self, id: JobId, received: Timestamp) -> Result<Option<Progress>, String> {
        self.journal.progress(id, received).map_err(|error| error.to_string())
    }

    /// The last event of this name; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn recorded(&self, name: &EventName) -> Result<Option<Box<Recorded>>, String> {
        let recorded = self.journal.recorded(name).map_err(|error| error.to_string())?;
        Ok(recorded.map(Box::new))
    }

    /// Reads what figures go on from, on a thread of its own: it is all of the history.
    pub fn recollect(&self) {
        let (state_dir, inbox) = (self.state_dir.clone(), self.inbox.clone());
        let read = move || {
            let past = caught(|| {
                failpoints::defect("recollect");
                History::open(&state_dir)?.map(|history| history.past()).transpose()
            });
            match past.and_then(|past| past.map_err(|error| error.to_string())) {
                Ok(past) => drop(inbox.send(Message::Input(Input::Recollected(past.unwrap_or_default())))),
                // Metrics of what was before this start are missing, and nothing else.
                Err(error) => log::warn!("metrics do not go on from the history: {error}"),
            }
        };
        if let Err(error) = thread::Builder::new().name("recollect".to_owned()).spawn(read) {
            log::warn!("metrics do not go on from the history: {error}");
        }
    }

    /// Writes all changes, or none.
    ///
    /// # Errors
    /// Why nothing was written.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Written, CommitError> {
        if let Some(damage) = &self.damage {
            return Err(CommitError { text: damage.clone(), damaged: true });
        }
        self.journal.commit(changes).map_err(|error| {
            let (text, damaged) = (error.to_string(), error.is_damaged());
            self.damage = damaged.then(|| text.clone());
            CommitError { text, damaged }
        })
    }

    /// Writes a new journal, and puts it in the place of the one that is damaged.
    ///
    /// # Errors
    /// Why there is no new one. The old one is still in our hands then, and still damaged.
    pub fn write_anew(&mut self, changes: &[Change]) -> Result<Written, CommitError> {
        let aside = self.replace(changes).map_err(|error| {
            let text = error.to_string();
            self.damage.get_or_insert_with(|| text.clone());
            CommitError { text, damaged: true }
        })?;
        let damage = self.damage.take();
        log::error!(
            "{}; it is set aside as {aside} and was written anew: nothing that is to be done is lost, \
             the history up to now is in the old one only",
            damage.as_deref().unwrap_or("the journal is damaged")
        );
        Ok(Written::default())
    }

    /// Returns the name of the old one.
    fn replace(&mut self, changes: &[Change]) -> Result<String, JournalError> {
        let state_dir = &self.state_dir;
        self.journal.write_anew(state_dir, changes)?;
        let (aside, mut new) = journal::replace(|| {
            let aside = journal::put_in_place(state_dir, now()).ok_or_else(|| {
                let error = io::Error::other("the new journal cannot be put in place");
                JournalError::Io { path: state_dir.clone(), error }
            })?;
            Ok::<_, JournalError>((aside, Journal::open(state_dir)?))
        })?;
        new.checkpoint_aside(state_dir, teller(&self.inbox));
        self.journal = new;
        let _ = self.inbox.send(Message::Input(Input::JournalLog(0)));
        Ok(aside)
    }
}

/// Opens the journal and reads it; events get no number below `first_seq` from now on.
fn open(
    state_dir: &Path,
    standby_since: Timestamp,
    first_seq: i64,
    inbox: &Sender<Message>,
) -> Result<(Books, Remembered), JournalError> {
    let last_written = journal::last_written(state_dir);
    let mut journal = Journal::open(state_dir)?;
    if first_seq > 1 {
        journal.give_out_none_below(first_seq)?;
    }
    let remembered = journal.load(standby_since)?;
    let past = Past { last_written, ..remembered.past };
    let remembered = Remembered { past, ..remembered };
    journal.checkpoint_aside(state_dir, teller(inbox));
    let books = Books { journal, state_dir: state_dir.to_owned(), damage: None, inbox: inbox.clone() };
    Ok((books, remembered))
}

/// Tells the daemon how large the journal's log is.
fn teller(inbox: &Sender<Message>) -> LogTeller {
    let inbox = inbox.clone();
    Box::new(move |size| drop(inbox.send(Message::Input(Input::JournalLog(size)))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::change::EventState;
    use crate::ganeti::event::{Event, EventKey, Phase};

    fn event() -> Event {
        Event {
            key: EventKey { job: 1.try_into().unwrap(), op: 0, phase: Phase::Pre },
            received: Timestamp::from_micros(1),
            op_count: 1,
            op_code: "OP_TEST_DELAY".to_owned(),
            status: None,
            executed: true,
            late: false,
            time: Timestamp::from_micros(5),
            about: Default::default(),
        }
    }

    fn opened(dir: &Path) -> (Books, Remembered) {
        Books::open(dir, Duration::from_secs(30), crossbeam_channel::unbounded().0).unwrap()
    }

    #[test]
    fn a_journal_that_is_no_good_is_set_aside_and_numbers_go_on_from_the_seconds() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(opened(dir.path()).1.next_seq, 1);
        fs::write(dir.path().join(journal::FILE), "no journal").unwrap();
        let (_, remembered) = opened(dir.path());
        assert!(remembered.next_seq > 1_000_000_000 && remembered.past.begun.is_none());
        assert_eq!(opened(dir.path()).1.next_seq, remembered.next_seq);
    }

    #[test]
    fn a_damaged_journal_is_replaced_and_not_written_to_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut books, _) = opened(dir.path());
        let change = |seq| Change::Event(seq, event(), EventState::Pending);
        books.commit(&[change(1)]).unwrap();
        books.damage = Some("damaged".to_owned());
        let error = CommitError { text: "damaged".to_owned(), damaged: true };
        assert_eq!(books.commit(&[change(2)]), Err(error));
        books.write_anew(&[change(2)]).unwrap();
        books.commit(&[change(3)]).unwrap();
        assert_eq!(books.recall(1.try_into().unwrap(), Timestamp::from_micros(1)).unwrap().unwrap().next, 0);
        drop(books);
        let seqs: Vec<i64> = opened(dir.path()).1.undelivered.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, [2, 3]);
    }
}
