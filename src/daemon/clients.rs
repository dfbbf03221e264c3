//! The clients of the API: what they are answered, by which thread.
//!
//! The history is read by the API's own threads; only what the engine knows is asked of the
//! daemon's.

use std::io;
use std::path::PathBuf;

use crossbeam_channel::Sender;

use super::message::Message;
use crate::world::api::{Backend, Question};
use crate::world::journal::{Filter, History, HistoryEvent};

/// The most bytes of one answer of the feed; the rest is for the next question. An event that is
/// larger by itself comes alone.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Bytes of output of one event that the feed tells. As JSON they may be six times as many.
const OUTPUT_MAX: usize = 512 * 1024;

/// Clients that wait for a change.
const WAITERS_MAX: usize = 64;

/// What the API speaks for.
pub struct ApiBackend {
    state_dir: PathBuf,
    inbox: Sender<Message>,
}

impl ApiBackend {
    /// The history in this directory, and the daemon behind this inbox.
    pub fn new(state_dir: PathBuf, inbox: Sender<Message>) -> Self {
        Self { state_dir, inbox }
    }
}

impl Backend for ApiBackend {
    fn ask(&self, question: Question) -> bool {
        self.inbox.send(Message::Asked(question)).is_ok()
    }

    fn feed(&self, after: i64, limit: u32) -> io::Result<Vec<u8>> {
        let filter = Filter { after, limit: Some(limit), output: Some(OUTPUT_MAX), ..Filter::default() };
        let mut lines = Vec::new();
        let Some(history) = History::open(&self.state_dir).map_err(io::Error::other)? else {
            return Ok(lines);
        };
        let add = |event: HistoryEvent| {
            let line = event.to_json();
            let has_room = lines.is_empty() || lines.len() + line.len() < ANSWER_MAX;
            if has_room {
                lines.extend_from_slice(line.as_bytes());
                lines.push(b'\n');
            }
            has_room
        };
        history.events(&filter, add).map_err(io::Error::other)?;
        Ok(lines)
    }
}

/// Those who wait for the history to change.
#[derive(Debug, Default)]
pub struct Waiters {
    /// Grows with each change.
    change: u64,
    waiting: Vec<Sender<u64>>,
}

impl Waiters {
    /// Somebody knows the history up to change number `since`, and wants to hear of the next.
    pub fn add(&mut self, since: u64, reply: Sender<u64>) {
        if self.change > since {
            let _ = reply.send(self.change);
            return;
        }
        // Whoever has waited longest may have gone; if not, it asks again.
        if self.waiting.len() >= WAITERS_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push(reply);
    }

    /// The history has changed.
    pub fn announce(&mut self) {
        self.change += 1;
        for waiter in self.waiting.drain(..) {
            let _ = waiter.send(self.change);
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::engine::change::{Change, EventState, RunStart};
    use crate::engine::outcome::Outcome;
    use crate::ganeti::event::{Event, EventKey, Phase};
    use crate::ganeti::job::Timestamp;
    use crate::world::journal::Journal;

    /// An event of one script that said `output` bytes.
    fn event(seq: i64, output: usize) -> [Change; 3] {
        let (key, time) =
            (EventKey { job: 1.try_into().unwrap(), op: 0, phase: Phase::Pre }, Timestamp::default());
        let event = Event {
            key,
            received: time,
            op_count: 1,
            op_code: "OP_X".to_owned(),
            status: None,
            executed: true,
            late: false,
            time,
            about: Default::default(),
        };
        let (node, script) = ("node1".to_owned(), "10-a".to_owned());
        let start = RunStart {
            id: seq,
            seq,
            node,
            directory: "global-pre.d".to_owned(),
            script,
            attempt: 1,
            started: time,
        };
        let outcome = Outcome { code: Some(0), output: "\u{1}".repeat(output), ..Outcome::default() };
        [
            Change::Event(seq, event, EventState::Done),
            Change::RunStart(start),
            Change::RunEnd(seq, seq, time, outcome),
        ]
    }

    #[test]
    fn an_answer_of_the_feed_is_bounded_and_the_next_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let changes: Vec<Change> = (1..40).flat_map(|seq| event(seq, 64 * 1024)).collect();
        journal.commit(&changes).unwrap();
        journal.commit(&event(40, 16 * 1024 * 1024)).unwrap();
        let backend = ApiBackend::new(dir.path().to_owned(), unbounded().0);
        let (mut after, mut answers) = (0, 0);
        loop {
            let answer = backend.feed(after, 1000).unwrap();
            assert!(answer.len() <= ANSWER_MAX, "{} bytes", answer.len());
            let Some(last) = answer.split(|byte| *byte == b'\n').rev().nth(1) else { break };
            let last: serde_json::Value = serde_json::from_slice(last).unwrap();
            (after, answers) = (last["seq"].as_i64().unwrap(), answers + 1);
            if after == 40 {
                assert_eq!(last["runs"][0]["dropped"], 16 * 1024 * 1024 - OUTPUT_MAX);
            }
        }
        assert!(after == 40 && (4..10).contains(&answers), "{answers} answers to {after}");
    }

    #[test]
    fn who_knows_less_is_answered_at_once_and_the_others_when_it_changes() {
        let (mut waiters, (reply, answers)) = (Waiters::default(), unbounded());
        waiters.announce();
        waiters.add(0, reply.clone());
        assert_eq!(answers.try_recv(), Ok(1));
        waiters.add(1, reply.clone());
        assert!(answers.try_recv().is_err());
        waiters.announce();
        assert_eq!(answers.try_recv(), Ok(2));
        (0..=WAITERS_MAX).for_each(|_| waiters.add(2, reply.clone()));
        waiters.announce();
        assert_eq!(answers.try_iter().count(), WAITERS_MAX);
    }
}
