//! What an outbox does next.
//!
//! It goes through the events in the order of their numbers, and sends one after the other. What
//! is not done yet, and what is about an object of which an earlier event is not done, is left open
//! and looked at again: in order for each object, and nobody else waits for a script that hangs.
//! A failure holds everything up until it is time to try again; an event that the receiver refuses
//! is set aside. An event that is run again is not sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::answer::Verdict;
use super::schedule;
use crate::engine::change::EventState;
use crate::engine::input::Now;
use crate::engine::outbox_progress::{Progress, Span};
use crate::engine::settings::Outbox;
use crate::ganeti::event::PostStatus;
use crate::ganeti::job::Timestamp;
use crate::ganeti::object::Object;
use crate::ganeti::text::plain;

/// Events that are open at most: no more is looked at before some of them are done.
const OPEN_MAX: usize = 1_000;

/// Events that are set aside at most: a receiver that refuses more is taken for one that fails.
const PARKED_MAX: usize = 100;

/// Failures in a row from which on somebody must see to it.
const FAILURES_BEFORE_PROBLEM: u32 = 3;

/// Bytes of a text from elsewhere, about.
const WHY_MAX: usize = 200;

/// What has to be known of an event before it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Its number.
    pub seq: i64,
    /// When it was noticed.
    pub time: Timestamp,
    /// Its opcode.
    pub op_code: String,
    /// How that ended; `None` for a pre.
    pub status: Option<PostStatus>,
    /// What has become of it.
    pub state: EventState,
    /// What it is about.
    pub object: Option<Object>,
}

/// What is to be done about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lot {
    /// Nothing, or nothing yet.
    Next,
    /// It is to be sent.
    Send,
    /// Nothing more can be looked at now.
    Full,
}

/// What an outbox does, and how far it is.
#[derive(Clone, Debug)]
pub struct Course {
    settings: Outbox,
    progress: Progress,
    /// In a row.
    failures: u32,
    /// When the receiver is tried again, by the steady clock.
    next_try: Option<Duration>,
    /// Why it failed last.
    why: Option<String>,
    /// What events are about that are open, as far as this pass has come.
    blocked: BTreeSet<String>,
    /// Events that somebody wants to be sent again.
    wanted: BTreeSet<i64>,
}

impl Course {
    /// An outbox that goes on from where it was; a new one begins with what comes next.
    pub fn new(settings: Outbox, progress: Option<Progress>, span: Span, now: Now) -> Self {
        let progress = match progress {
            None => Progress::new(span),
            Some(mut progress) => {
                progress.resume(span, now.time.as_micros());
                progress
            }
        };
        let (blocked, wanted) = (BTreeSet::new(), BTreeSet::new());
        Self { settings, progress, failures: 0, next_try: None, why: None, blocked, wanted }
    }

    /// These settings apply from now on: the receiver is tried at once, the place is kept.
    pub fn reload(&mut self, settings: Outbox) {
        self.settings = settings;
        self.try_now();
    }

    /// The settings.
    pub fn settings(&self) -> &Outbox {
        &self.settings
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The journal may have been put in the place of another.
    pub fn is_in(&mut self, span: Span, now: Now) {
        if span.journal != self.progress.journal || span.first - 1 > self.progress.cursor {
            self.progress.resume(span, now.time.as_micros());
            self.wanted.clear();
        }
    }

    /// Whether something may be sent now.
    pub fn may_send(&self, steady: Duration) -> bool {
        self.progress.ended.is_none() && self.next_try.is_none_or(|time| steady >= time)
    }

    /// When the receiver is tried again, by the steady clock.
    pub fn next_try(&self) -> Option<Duration> {
        self.next_try.filter(|_| self.progress.ended.is_none())
    }

    /// Begins to go through the events: first those that somebody wants, then those that are open,
    /// then those after the cursor.
    pub fn begin_pass(&mut self) -> Vec<i64> {
        self.blocked.clear();
        self.progress.open.iter().copied().collect()
    }

    /// What somebody wants to be sent again, in order.
    pub fn wanted(&self) -> Vec<i64> {
        self.wanted.iter().copied().collect()
    }

    /// What is to be done about the next event.
    pub fn consider(&mut self, header: &Header, now: Timestamp) -> Lot {
        let Header { seq, time, op_code, status, state, object } = header;
        if *state == EventState::Standby || !self.settings.wants(op_code, *status) {
            self.progress.pass(*seq);
            return Lot::Next;
        }
        let object = object.as_ref().filter(|object| object.name.is_some()).map(Object::to_string);
        let is_blocked = object.as_ref().is_some_and(|object| self.blocked.contains(object));
        if *state == EventState::Pending || is_blocked {
            return self.leave_open(*seq, object);
        }
        let age = now.as_micros().saturating_sub(time.as_micros());
        if age > i64::try_from(self.settings.give_up.as_micros()).unwrap_or(i64::MAX) {
            let why = "they could not be sent within give-up";
            self.progress.give_up(*seq, Some(time.as_micros()), now.as_micros(), why);
            self.progress.pass(*seq);
            return Lot::Next;
        }
        self.progress.unsent_since.get_or_insert(time.as_micros());
        Lot::Send
    }

    fn leave_open(&mut self, seq: i64, object: Option<String>) -> Lot {
        let is_new = seq > self.progress.cursor;
        if is_new && self.progress.open.len() >= OPEN_MAX {
            return Lot::Full;
        }
        self.blocked.extend(object);
        self.progress.open.insert(seq);
        self.progress.cursor = self.progress.cursor.max(seq);
        Lot::Next
    }

    /// An event that was open or wanted is not in the history any more.
    pub fn is_forgotten(&mut self, seq: i64, now: Timestamp) {
        if self.progress.open.remove(&seq) {
            let why = "they were not sent in time, and have been forgotten";
            self.progress.give_up(seq, None, now.as_micros(), why);
        }
        self.wanted.remove(&seq);
        self.progress.parked.remove(&seq);
    }

    /// Everything has been gone through.
    pub fn end_pass(&mut self) {
        self.progress.unsent_since = None;
    }

    /// An event was sent, or a gap told (`None`), and this is what came of it. Returns whether
    /// there is to be more sent now.
    pub fn answered(&mut self, seq: Option<i64>, verdict: Verdict, now: Now, dice: u64) -> bool {
        match verdict {
            Verdict::Taken => {
                self.progress.last_success = Some(now.time.as_micros());
                self.deal_with(seq);
                self.try_now();
                true
            }
            Verdict::Refused(why) if self.can_park(seq) => {
                self.deal_with(seq);
                self.progress.parked.extend(seq.map(|seq| (seq, plain(&why, WHY_MAX))));
                // It is there, and answers.
                self.try_now();
                true
            }
            Verdict::Refused(why) => {
                let why =
                    format!("{why}, and has refused {PARKED_MAX} others: `outbox resend` when it takes them");
                self.fail(&why, None, now, dice)
            }
            Verdict::Failed(why, after) => self.fail(&why, after, now, dice),
            Verdict::Over(why) => {
                self.progress.ended = Some(plain(&why, WHY_MAX));
                false
            }
        }
    }

    fn can_park(&self, seq: Option<i64>) -> bool {
        let parked = &self.progress.parked;
        seq.is_none_or(|seq| parked.contains_key(&seq) || parked.len() < PARKED_MAX)
    }

    fn deal_with(&mut self, seq: Option<i64>) {
        let Some(seq) = seq else {
            self.progress.gap = None;
            return;
        };
        self.progress.parked.remove(&seq);
        // What somebody wanted may be an event that the pass has not come to.
        if !self.wanted.remove(&seq) {
            self.progress.pass(seq);
        }
    }

    /// It could not be gone on, and why: it is tried again as after a receiver's failure.
    pub fn failed(&mut self, why: &str, now: Now, dice: u64) {
        self.fail(why, None, now, dice);
    }

    fn fail(&mut self, why: &str, after: Option<Duration>, now: Now, dice: u64) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.next_try = Some(now.steady + schedule::delay(self.failures, after, dice));
        self.why = Some(plain(why, WHY_MAX));
        false
    }

    /// The receiver is tried at once.
    pub fn try_now(&mut self) {
        (self.failures, self.next_try, self.why) = (0, None, None);
    }

    /// Somebody wants this event to be sent again, or all that were refused; the receiver is tried
    /// at once. Returns how many events that are.
    pub fn resend(&mut self, seq: Option<i64>) -> usize {
        self.try_now();
        match seq {
            Some(seq) => drop(self.wanted.insert(seq)),
            None => self.wanted.extend(self.progress.parked.keys()),
        }
        self.wanted.len()
    }

    /// Somebody wants that something is sent again. Returns whether nothing was.
    pub fn enable(&mut self) -> bool {
        self.try_now();
        self.progress.ended.take().is_some()
    }

    /// In a word: `ok`, `failing` or `ended`.
    pub fn state(&self) -> &'static str {
        match (&self.progress.ended, &self.why) {
            (Some(_), _) => "ended",
            (None, Some(_)) => "failing",
            (None, None) => "ok",
        }
    }

    /// What stands in the way.
    pub fn trouble(&self) -> Option<String> {
        let ended = self.progress.ended.as_ref();
        let name = &self.settings.name;
        let ended = ended.map(|why| {
            format!("{why}: nothing is sent any more; when it is to be: ganeti-hookd outbox enable {name}")
        });
        ended.or_else(|| {
            let why = self.why.as_ref()?;
            let times =
                if self.failures == 1 { "once".to_owned() } else { format!("{} times", self.failures) };
            Some(format!("{why} (failed {times} in a row)"))
        })
    }

    /// Whether somebody must see to that.
    pub fn is_problem(&self) -> bool {
        self.progress.ended.is_some() || self.failures >= FAILURES_BEFORE_PROBLEM
    }
}

#[cfg(test)]
mod tests;
