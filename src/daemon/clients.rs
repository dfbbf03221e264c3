//! The clients of the API: what they are answered, by which thread.
//!
//! The history is read by the API's own threads; only what the engine knows is asked of the
//! daemon's.

use std::io;
use std::path::PathBuf;

use crossbeam_channel::Sender;

use super::message::Message;
use crate::world::api::{Backend, Question};
use crate::world::journal::{Filter, History};

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
        let filter = Filter { after, limit: Some(limit), ..Filter::default() };
        let mut lines = Vec::new();
        if let Some(history) = History::open(&self.state_dir).map_err(io::Error::other)? {
            history
                .events(&filter, |event| {
                    lines.extend_from_slice(event.to_json().as_bytes());
                    lines.push(b'\n');
                    true
                })
                .map_err(io::Error::other)?;
        }
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
