//! How far an outbox is: what the journal keeps of it, what its thread says, and is told.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::settings::Outbox;

/// How far an outbox is. Times are microseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The journal whose events are counted.
    pub journal: i64,
    /// Every event up to this number has been dealt with, but for those in `open`.
    pub cursor: i64,
    /// Events that are not done yet, and those that wait for one of them about the same object.
    pub open: BTreeSet<i64>,
    /// Events that the receiver has refused, and why.
    pub parked: BTreeMap<i64, String>,
    /// What was not sent and will not be, as long as the receiver does not know.
    pub gap: Option<Gap>,
    /// Why nothing is sent any more until somebody wants it again.
    pub ended: Option<String>,
    /// When the first event was noticed that is to be sent.
    pub unsent_since: Option<i64>,
    /// When the receiver took something last.
    pub last_success: Option<i64>,
}

/// Events that were not sent and will not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The journal.
    pub journal: i64,
    /// The number of the first event that may be missing.
    pub from: i64,
    /// When it was noticed, if that is known.
    pub since: Option<i64>,
    /// When the last one was noticed, if that is known.
    pub until: Option<i64>,
    /// When it was noticed that they are missing.
    pub noticed: i64,
    /// How many are known to be missing.
    pub events: u64,
    /// There are no others.
    pub is_counted: bool,
    /// Why.
    pub why: String,
}

/// A journal, as an outbox finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Which one it is.
    pub journal: i64,
    /// The number of the first event that is kept, or of the next one.
    pub first: i64,
    /// The number of the last event there ever was.
    pub last: i64,
}

/// What an outbox says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How far it is.
    pub progress: Progress,
    /// `ok`, `failing` or `ended`.
    pub state: String,
    /// What stands in the way.
    pub trouble: Option<String>,
    /// Somebody must see to that.
    pub is_problem: bool,
}

/// An outbox, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Its settings.
    pub settings: Outbox,
    /// How far it is; `None` for a new one.
    pub progress: Option<Progress>,
}

impl Progress {
    /// An outbox that is new begins with what comes next.
    pub fn new(span: Span) -> Self {
        Self { journal: span.journal, cursor: span.last, ..Self::default() }
    }

    /// Goes on in this journal. What is not there any more and was not sent is a gap.
    pub fn resume(&mut self, span: Span, noticed: i64) {
        let begin = span.first - 1;
        if span.journal != self.journal {
            let why =
                "the journal was lost; its history, and what was to be sent of it, is not there any more";
            self.miss(Gap { is_counted: false, ..self.gap_from(self.cursor + 1, noticed, why) });
            (self.journal, self.cursor) = (span.journal, begin);
            self.open.clear();
            self.parked.clear();
        } else if self.cursor < begin {
            if self.unsent_since.is_some() {
                let why = "they were not sent in time, and have been forgotten";
                self.miss(Gap { is_counted: false, ..self.gap_from(self.cursor + 1, noticed, why) });
            }
            self.cursor = begin;
        }
        // A journal that was put back to an earlier state has that state's place in it.
        self.cursor = self.cursor.min(span.last);
        self.unsent_since = None;
    }

    /// An event is not sent that was noticed then, if that is known.
    pub fn give_up(&mut self, seq: i64, time: Option<i64>, noticed: i64, why: &str) {
        let gap = self.gap_from(seq, noticed, why);
        self.miss(Gap { since: time.or(gap.since), until: time, events: 1, ..gap });
    }

    fn gap_from(&self, from: i64, noticed: i64, why: &str) -> Gap {
        let (journal, since) = (self.journal, self.unsent_since);
        Gap { journal, from, since, until: None, noticed, events: 0, is_counted: true, why: why.to_owned() }
    }

    /// One gap is told, however many there were since one was told.
    fn miss(&mut self, gap: Gap) {
        self.gap = Some(match self.gap.take() {
            None => gap,
            Some(before) => Gap {
                journal: before.journal,
                from: before.from,
                since: before.since.or(gap.since),
                until: gap.until.max(before.until),
                events: before.events + gap.events,
                is_counted: before.is_counted && gap.is_counted,
                ..gap
            },
        });
    }

    /// This event has been dealt with.
    pub fn pass(&mut self, seq: i64) {
        self.open.remove(&seq);
        self.cursor = self.cursor.max(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(journal: i64, first: i64, last: i64) -> Span {
        Span { journal, first, last }
    }

    #[test]
    fn a_new_outbox_begins_with_what_comes_next() {
        let progress = Progress::new(span(7, 3, 20));
        assert_eq!((progress.journal, progress.cursor, progress.gap), (7, 20, None));
    }

    #[test]
    fn who_goes_on_is_told_what_is_missing() {
        let begun = Progress { unsent_since: Some(50), cursor: 5, ..Progress::new(span(7, 1, 9)) };
        let resumed = |span: Span| {
            let mut progress = begun.clone();
            progress.resume(span, 99);
            progress
        };
        assert_eq!(resumed(span(7, 1, 9)), Progress { unsent_since: None, ..begun.clone() });
        assert_eq!(resumed(span(7, 6, 9)).gap, None, "all that it has seen was forgotten");
        let forgotten = resumed(span(7, 8, 9));
        let gap = forgotten.gap.unwrap();
        assert_eq!((forgotten.cursor, gap.from, gap.since, gap.is_counted), (7, 6, Some(50), false));
        let lost = resumed(span(8, 1, 3));
        assert_eq!((lost.journal, lost.cursor), (8, 0));
        let gap = lost.gap.unwrap();
        assert!(gap.why.contains("journal"));
        assert_eq!((gap.journal, gap.from), (7, 6));
        let mut nothing_was_left = Progress { unsent_since: None, ..begun };
        nothing_was_left.resume(span(7, 8, 9), 99);
        assert_eq!((nothing_was_left.cursor, nothing_was_left.gap), (7, None));
    }

    #[test]
    fn several_gaps_are_told_as_one() {
        let mut progress = Progress::new(span(7, 1, 0));
        progress.give_up(3, Some(30), 100, "too old");
        progress.give_up(4, Some(40), 101, "too old");
        let gap = progress.gap.unwrap();
        assert_eq!((gap.from, gap.since, gap.until, gap.events), (3, Some(30), Some(40), 2));
        assert!(gap.is_counted);
    }

    #[test]
    fn gaps_of_two_journals_are_told_as_one_of_the_first() {
        let mut progress = Progress::new(span(7, 1, 9));
        progress.give_up(3, Some(30), 100, "too old");
        progress.resume(span(8, 1, 3), 101);
        progress.give_up(2, Some(20), 102, "too old");
        let gap = progress.gap.unwrap();
        assert_eq!((gap.journal, gap.from, gap.since, gap.until), (7, 3, Some(30), Some(30)));
        assert_eq!((gap.events, gap.is_counted), (2, false), "how many went with the journal nobody knows");
    }
}
