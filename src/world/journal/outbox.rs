//! The history as an outbox reads it: by the numbers of events, a few at a time.

use rusqlite::{OptionalExtension, Row};

use super::load::{object, word, word_or_null};
use super::{History, JournalError, LAST_SEQ};
use crate::engine::outbox::course::Header;
use crate::engine::outbox_progress::{Progress, Span};
use crate::engine::settings::Outbox;
use crate::ganeti::job::Timestamp;

/// Events that are looked at in one go.
const HEADERS: u32 = 256;

/// What is counted at most: more than that is as much as that.
const COUNT_MAX: u32 = 100_000;

/// The columns of a [`Header`], in the order [`header`] reads them.
const COLUMNS: &str = "seq, time, op_code, status, state, object_type, object";

impl History {
    /// What it spans.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn outbox_span(&self) -> Result<Span, JournalError> {
        let sql = format!(
            "SELECT (SELECT value FROM meta WHERE key = 'journal'),
                coalesce((SELECT min(seq) FROM events), {LAST_SEQ} + 1), {LAST_SEQ}"
        );
        let span = |row: &Row<'_>| Ok(Span { journal: row.get(0)?, first: row.get(1)?, last: row.get(2)? });
        let found = self.db.prepare_cached(&sql).and_then(|mut sql| sql.query_row([], span));
        found.map_err(|error| self.wrap(error))
    }

    /// What an outbox has to know of an event; `None` when it is not in the history.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn outbox_header(&self, seq: i64) -> Result<Option<Header>, JournalError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE seq = ?1");
        let found = self.db.prepare_cached(&sql).and_then(|mut sql| sql.query_row([seq], header).optional());
        found.map_err(|error| self.wrap(error))
    }

    /// The same of some events after this number, in their order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn outbox_headers(&self, after: i64) -> Result<Vec<Header>, JournalError> {
        self.headers(after, HEADERS).map_err(|error| self.wrap(error))
    }

    fn headers(&self, after: i64, limit: u32) -> rusqlite::Result<Vec<Header>> {
        // Those that are another node's, of which there may be very many, and the last of all, so that
        // they are not looked at again.
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE seq > ?1
                AND (state <> 'standby' OR seq = (SELECT max(seq) FROM events)) ORDER BY seq LIMIT {limit}"
        );
        self.db.prepare_cached(&sql)?.query_map([after], header)?.collect()
    }

    /// How many events this outbox has still to send, or that are not done yet.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn outbox_pending(&self, outbox: &Outbox, progress: &Progress) -> Result<u64, JournalError> {
        let is_other = self.outbox_span()?.journal != progress.journal;
        let after = if is_other { 0 } else { progress.cursor };
        let count = self.count_wanted(after, outbox).map_err(|error| self.wrap(error))?;
        Ok(count + progress.open.len() as u64)
    }

    fn count_wanted(&self, after: i64, outbox: &Outbox) -> rusqlite::Result<u64> {
        let sql = format!(
            "SELECT op_code, status FROM events WHERE seq > ?1 AND state <> 'standby' ORDER BY seq LIMIT {COUNT_MAX}"
        );
        let mut events = self.db.prepare_cached(&sql)?;
        let mut rows = events.query([after])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += u64::from(is_wanted(row, outbox)?);
        }
        Ok(count)
    }
}

fn is_wanted(row: &Row<'_>, outbox: &Outbox) -> rusqlite::Result<bool> {
    Ok(outbox.wants(row.get_ref(0)?.as_str()?, word_or_null(row, 1)?))
}

fn header(row: &Row<'_>) -> rusqlite::Result<Header> {
    Ok(Header {
        seq: row.get(0)?,
        time: Timestamp::from_micros(row.get(1)?),
        op_code: row.get(2)?,
        status: word_or_null(row, 3)?,
        state: word(row, 4)?,
        object: object(row, 5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::change::{Change, EventState};
    use crate::world::journal::Journal;
    use crate::world::journal::tests::event;

    #[test]
    fn an_outbox_finds_what_it_may_send_and_what_there_is_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let state = |seq| match seq {
            2 => EventState::Pending,
            3..=5 | 7.. => EventState::Standby,
            _ => EventState::Done,
        };
        let changes: Vec<Change> = (1..=9).map(|seq| Change::Event(seq, event(seq), state(seq))).collect();
        let history = History::open(dir.path()).unwrap().unwrap();
        let empty = history.outbox_span().unwrap();
        assert_eq!((empty.first, empty.last), (1, 0));
        journal.commit(&changes).unwrap();
        let span = history.outbox_span().unwrap();
        assert_eq!((span.journal, span.first, span.last), (empty.journal, 1, 9));
        let seqs = |after| {
            let headers = history.outbox_headers(after).unwrap();
            headers.iter().map(|header| header.seq).collect::<Vec<_>>()
        };
        assert_eq!((seqs(0), seqs(2), seqs(9)), (vec![1, 2, 6, 9], vec![6, 9], vec![]));
        assert_eq!(history.outbox_header(2).unwrap().unwrap().state, EventState::Pending);
        assert_eq!(history.outbox_header(10).unwrap(), None);
        let text = "[[outbox]]\nname = \"a\"\nurl = \"https://a/\"\nsecret-file = \"/key\"\nstatus = [\"started\"]\n";
        let outbox = crate::engine::settings::Settings::parse(text).unwrap().outboxes.remove(0);
        let progress = Progress { cursor: 2, open: [2].into(), ..Progress::new(span) };
        assert_eq!(history.outbox_pending(&outbox, &progress).unwrap(), 2);
        let of_another = Progress { journal: span.journal ^ 1, cursor: 9, ..Progress::default() };
        assert_eq!(history.outbox_pending(&outbox, &of_another).unwrap(), 3);
        journal.commit(&[Change::Outbox("a".to_owned(), Box::new(progress.clone()))]).unwrap();
        journal.commit(&[Change::Outbox("a".to_owned(), Box::new(progress.clone()))]).unwrap();
        let loaded = journal.load(Timestamp::default()).unwrap();
        assert_eq!(loaded.outboxes, [("a".to_owned(), progress)].into());
    }
}
