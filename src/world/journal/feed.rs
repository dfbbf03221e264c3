//! The feed: each change of an event has a number, and appears (design, section 13).
//!
//! Whoever reads on to the end has seen each event's last state: a change that another one of the
//! same event has overtaken is passed over. A reader whose place was forgotten, or is in another
//! journal, is told so and never led over the gap. Like the history it is read in batches, each
//! to its end.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rusqlite::params_from_iter;

use super::history::{BATCH_EVENTS, BATCH_SIZE, History, HistoryEvent, columns};
use super::{Filter, JournalError, LAST_CHANGE};

/// Changes that are looked at in one go, however few of them are wanted.
const WINDOW: i64 = 20_000;

/// A place in the feed of one journal: what comes after it has not been read. Nobody but us knows
/// what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    journal: i64,
    change: i64,
}

/// A text that is no cursor.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a cursor of this feed; take one from the header Ganeti-Hookd-Cursor, or leave it out to begin with the oldest event"
)]
pub struct InvalidCursor;

/// Places in different journals come neither before nor after each other.
impl PartialOrd for Cursor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.journal == other.journal).then(|| self.change.cmp(&other.change))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.journal, self.change)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (journal, change) = text.split_once('-').ok_or(InvalidCursor)?;
        let journal = u64::from_str_radix(journal, 16).map_err(|_| InvalidCursor)?.cast_signed();
        let change = change.parse().map_err(|_| InvalidCursor)?;
        Ok(Self { journal, change })
    }
}

/// What the feed tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// An event, as it is now.
    Event(Box<HistoryEvent>),
    /// Something beside the events: a JSON object.
    Notice(String),
}

impl Told {
    /// It as one line of JSON, without the line's end.
    pub fn to_json(&self) -> String {
        match self {
            Self::Event(event) => event.to_json(),
            Self::Notice(notice) => notice.clone(),
        }
    }
}

/// What a reader of the feed is answered.
#[derive(Clone, Debug)]
pub enum FeedAnswer {
    /// It was told what there is.
    Read {
        /// Where to go on.
        next: Cursor,
        /// There is no more for now.
        is_end: bool,
    },
    /// Its place is not there any more.
    Lost(Lost),
}

/// Why a reader cannot go on from its place, and from where it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Why.
    pub why: &'static str,
    /// The oldest place there is.
    pub oldest: Cursor,
}

/// A piece of the feed.
struct Batch {
    told: Vec<(i64, Told)>,
    next: i64,
    is_end: bool,
}

/// What a journal's feed spans.
struct Span {
    journal: i64,
    /// The last change that was forgotten.
    forgotten: i64,
    last: i64,
}

impl History {
    /// The place before the first of what the feed still tells.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn oldest_cursor(&self) -> Result<Cursor, JournalError> {
        let Span { journal, forgotten, .. } = self.span().map_err(|error| self.wrap(error))?;
        Ok(Cursor { journal, change: forgotten })
    }

    /// The place after all that there is now.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn end_cursor(&self) -> Result<Cursor, JournalError> {
        let Span { journal, last, .. } = self.span().map_err(|error| self.wrap(error))?;
        Ok(Cursor { journal, change: last })
    }

    /// Where somebody begins who knows all up to `after`, or who knows nothing; or why nobody can
    /// go on from there.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn place(&self, after: Option<Cursor>) -> Result<Result<Cursor, Lost>, JournalError> {
        let span = self.span().map_err(|error| self.wrap(error))?;
        let place = after.unwrap_or(Cursor { journal: span.journal, change: span.forgotten });
        Ok(span.lost(place).map_or(Ok(place), Err))
    }

    /// Hands what comes after `after`, and is wanted by `filter` (whose `after` does not count), to
    /// `each`, with the place after it, until that says `false` to what it has not taken. Nothing is
    /// being read meanwhile.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn feed(
        &self,
        after: Option<Cursor>,
        filter: &Filter,
        mut each: impl FnMut(Cursor, Told) -> bool,
    ) -> Result<FeedAnswer, JournalError> {
        let mut at = match self.place(after)? {
            Ok(place) => place,
            Err(lost) => return Ok(FeedAnswer::Lost(lost)),
        };
        let mut room = filter.limit.unwrap_or(u32::MAX);
        loop {
            let span = self.span().map_err(|error| self.wrap(error))?;
            if let Some(lost) = span.lost(at) {
                return Ok(FeedAnswer::Lost(lost));
            }
            let batch = self.feed_batch(at.change, room, filter).map_err(|error| self.wrap(error))?;
            let Some(batch) = batch else { continue };
            for (change, told) in batch.told {
                let after_it = Cursor { change, ..at };
                if !each(after_it, told) {
                    return Ok(FeedAnswer::Read { next: at, is_end: false });
                }
                at = after_it;
                room = room.saturating_sub(1);
            }
            at.change = batch.next;
            if batch.is_end || room == 0 {
                return Ok(FeedAnswer::Read { next: at, is_end: batch.is_end });
            }
        }
    }

    fn span(&self) -> rusqlite::Result<Span> {
        let sql = format!(
            "SELECT (SELECT value FROM meta WHERE key = 'journal'),
                coalesce((SELECT value FROM meta WHERE key = 'forgotten'), 0), {LAST_CHANGE}"
        );
        self.db
            .prepare_cached(&sql)?
            .query_row([], |row| Ok(Span { journal: row.get(0)?, forgotten: row.get(1)?, last: row.get(2)? }))
    }

    /// The next piece, of at most `most` changes; `None` when its beginning has been forgotten
    /// meanwhile.
    fn feed_batch(&self, after: i64, most: u32, filter: &Filter) -> rusqlite::Result<Option<Batch>> {
        // What is forgotten, what there is and where it ends are of one moment.
        let transaction = self.db.unchecked_transaction()?;
        let span = self.span()?;
        if after < span.forgotten {
            return Ok(None);
        }
        let (window, most) = (after.saturating_add(WINDOW), most.min(BATCH_EVENTS));
        let (conditions, mut values) = filter.conditions();
        values.extend([after.into(), window.into()]);
        let sql = format!(
            "SELECT {}, changes.change AS number, notice FROM changes
             LEFT JOIN events ON events.seq = changes.seq AND events.change = changes.change
             WHERE (notice IS NOT NULL OR events.seq IS NOT NULL AND {conditions})
                AND changes.change > ? AND changes.change <= ?
             ORDER BY changes.change LIMIT {most}",
            columns()
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut told, mut size) = (Vec::new(), 0);
        let mut is_cut = false;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get("number")?;
            let one = match row.get("notice")? {
                Some(notice) => Told::Notice(notice),
                None => Told::Event(Box::new(self.event(row, filter.output)?)),
            };
            size += if let Told::Event(event) = &one { event.size() } else { 0 };
            told.push((number, one));
            is_cut = size >= BATCH_SIZE || told.len() >= most as usize;
            if is_cut {
                break;
            }
        }
        drop(rows);
        drop(statement);
        transaction.finish()?;
        let last_told = told.last().map_or(after, |(number, _)| *number);
        let next = if is_cut { last_told } else { window.min(span.last).max(after) };
        Ok(Some(Batch { told, next, is_end: next >= span.last }))
    }
}

impl Span {
    /// Why nobody can go on from this place, if so.
    fn lost(&self, at: Cursor) -> Option<Lost> {
        let oldest = Cursor { journal: self.journal, change: self.forgotten };
        let why = if at.journal != self.journal {
            "it is a place in another journal: that one was lost, or is another node's"
        } else if at.change < self.forgotten {
            "what came after it is older than history.keep and has been forgotten"
        } else if at.change > self.last {
            "it is beyond the last event: the journal was put back to an earlier state"
        } else {
            return None;
        };
        Some(Lost { why, oldest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::change::{Change, EventState, Notice};
    use crate::ganeti::event::Event;
    use crate::ganeti::job::Timestamp;
    use crate::world::journal::Journal;
    use crate::world::journal::tests::event;

    /// A journal, and what a reader of its feed is told.
    struct Reader {
        dir: tempfile::TempDir,
        journal: Journal,
    }

    impl Reader {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let journal = Journal::open(dir.path()).unwrap();
            Self { dir, journal }
        }

        fn commit(&mut self, changes: &[Change]) {
            self.journal.commit(changes).unwrap();
        }

        /// What is told after this place: events as `SEQ:STATE`, notices as `notice`.
        fn read(&self, after: Option<Cursor>, limit: Option<u32>) -> (Vec<String>, FeedAnswer) {
            let history = History::open(self.dir.path()).unwrap().unwrap();
            let mut told = Vec::new();
            let filter = Filter { limit, ..Filter::default() };
            let answer = history.feed(after, &filter, |_, one| {
                told.push(match one {
                    Told::Event(event) => format!("{}:{}", event.seq, event.state),
                    Told::Notice(_) => "notice".to_owned(),
                });
                true
            });
            (told, answer.unwrap())
        }

        fn next(&self, after: Option<Cursor>) -> (Vec<String>, Cursor) {
            match self.read(after, None) {
                (told, FeedAnswer::Read { next, is_end: true }) => (told, next),
                other => panic!("{other:?}"),
            }
        }

        fn why_lost(&self, at: Cursor) -> (&'static str, Cursor) {
            match self.read(Some(at), None).1 {
                FeedAnswer::Lost(Lost { why, oldest }) => (why, oldest),
                other => panic!("{other:?}"),
            }
        }
    }

    const DONE: EventState = EventState::Done;
    const PENDING: EventState = EventState::Pending;

    fn at(seq: i64, time: i64, state: EventState) -> Change {
        Change::Event(seq, Event { time: Timestamp::from_micros(time), ..event(seq) }, state)
    }

    #[test]
    fn who_reads_on_has_seen_each_events_last_state() {
        let mut reader = Reader::new();
        reader.commit(&[at(1, 1, PENDING), at(2, 1, PENDING)]);
        let (told, next) = reader.next(None);
        assert_eq!(told, ["1:pending", "2:pending"]);
        reader.commit(&[Change::EventState(1, DONE), Change::Notice(Notice::Gap { time: 1.5, since: None })]);
        assert_eq!(reader.next(Some(next)).0, ["1:done", "notice"]);
        assert_eq!(reader.next(None).0, ["2:pending", "1:done", "notice"], "what is overtaken is not told");
        let end = reader.next(Some(next)).1;
        assert_eq!(reader.next(Some(end)), (vec![], end));
        assert_eq!(end.to_string().parse::<Cursor>().unwrap(), end);
    }

    #[test]
    fn a_reader_goes_on_where_it_stopped_also_when_its_filter_leaves_nothing() {
        let mut reader = Reader::new();
        reader.commit(&(1..=1000).map(|seq| at(seq, 1, DONE)).collect::<Vec<_>>());
        let (mut after, mut all) = (None, Vec::new());
        loop {
            let (told, answer) = reader.read(after, Some(300));
            let FeedAnswer::Read { next, is_end } = answer else { panic!("{answer:?}") };
            assert!(told.len() <= 300);
            all.extend(told);
            after = Some(next);
            if is_end {
                break;
            }
        }
        assert_eq!(all, (1..=1000).map(|seq| format!("{seq}:done")).collect::<Vec<_>>());
        let history = History::open(reader.dir.path()).unwrap().unwrap();
        let nothing = Filter { op_code: Some("OP_NO_*".to_owned()), ..Filter::default() };
        let answer = history.feed(None, &nothing, |_, _| panic!("nothing is wanted")).unwrap();
        let FeedAnswer::Read { next, is_end: true } = answer else { panic!("{answer:?}") };
        assert_eq!(Some(next), after);
    }

    #[test]
    fn what_is_not_taken_comes_again() {
        let mut reader = Reader::new();
        reader.commit(&(1..=9).map(|seq| at(seq, 1, DONE)).collect::<Vec<_>>());
        let history = History::open(reader.dir.path()).unwrap().unwrap();
        let mut taken = 0;
        let answer = history.feed(None, &Filter::default(), |_, _| {
            taken += 1;
            taken <= 4
        });
        let FeedAnswer::Read { next, is_end: false } = answer.unwrap() else { panic!() };
        assert_eq!(reader.next(Some(next)).0.first().unwrap(), "5:done");
    }

    #[test]
    fn a_reader_is_told_of_what_it_has_missed() {
        let mut reader = Reader::new();
        let begin = reader.next(None).1;
        reader.commit(&[at(1, 1, PENDING), at(2, 2, DONE), at(3, 9, DONE), Change::EventState(1, DONE)]);
        let after_all = reader.next(None).1;
        reader.commit(&[Change::Prune(Timestamp::from_micros(5), 100)]);
        // Event 1 was told again after event 3, which stays: so does it.
        assert_eq!(reader.next(None).0, ["3:done", "1:done"]);
        let (why, oldest) = reader.why_lost(begin);
        assert!(why.contains("history.keep"), "{why}");
        assert_eq!(reader.next(Some(oldest)).0, ["3:done", "1:done"]);
        let history = History::open(reader.dir.path()).unwrap().unwrap();
        assert_eq!(history.place(None).unwrap(), Ok(oldest));
        assert_eq!(history.place(Some(after_all)).unwrap(), Ok(after_all));
        assert_eq!(history.place(Some(begin)).unwrap().unwrap_err().oldest, oldest);
        assert_eq!(reader.next(Some(after_all)).0, [""; 0]);
        let beyond = Cursor { change: after_all.change + 1, ..after_all };
        assert!(reader.why_lost(beyond).0.contains("beyond"));
        let other = Reader::new();
        assert!(other.why_lost(after_all).0.contains("another journal"));
    }

    #[test]
    fn no_number_of_a_change_is_given_out_twice() {
        let mut reader = Reader::new();
        reader.commit(&[at(1, 1, DONE), at(2, 1, DONE)]);
        let end = reader.next(None).1;
        reader.commit(&[Change::Prune(Timestamp::from_micros(5), 100)]);
        let Reader { dir, journal } = reader;
        drop(journal);
        let mut reader = Reader { journal: Journal::open(dir.path()).unwrap(), dir };
        assert_eq!(reader.next(Some(end)), (vec![], end));
        reader.commit(&[at(3, 9, DONE)]);
        assert_eq!(reader.next(Some(end)).0, ["3:done"]);
    }
}
