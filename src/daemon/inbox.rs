//! Where the other threads tell the daemon what they have to tell, and who then works.
//!
//! The daemon has a thread of its own. On a master at rest it sleeps, and to wake it takes longer
//! than most of what it then does; what a job waits for is therefore done by the thread that has
//! heard of it, if nothing else is to be done: the one that reads inotify, the one that waits
//! for processes to end, and those that wait for hooks while few run. The daemon's state is one
//! value behind one lock, and nothing is taken out of order: who does not get the lock at once, or
//! finds that somebody has told something before it, leaves the message to the daemon's thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, unbounded};

use super::Daemon;
use super::message::Message;
use crate::world::failpoints;

/// How long after another thread has worked the daemon's own does: under a stream of messages it
/// takes many at once, and the thread that reads inotify goes on reading.
const PAUSE: Duration = Duration::from_millis(2);

/// So often the engine may go on before the rest is left to the daemon's thread.
const ROUNDS: usize = 16;

/// Where messages to the daemon go.
#[derive(Clone, Debug)]
pub struct Inbox {
    messages: Sender<Message>,
    daemon: Arc<Mutex<Option<Daemon>>>,
}

impl Inbox {
    /// Nobody takes them yet.
    pub fn new() -> (Self, Receiver<Message>) {
        let (messages, receiver) = unbounded();
        (Self { messages, daemon: Arc::default() }, receiver)
    }

    /// Where those tell who leave the work to the daemon's thread.
    pub fn sender(&self) -> Sender<Message> {
        self.messages.clone()
    }

    /// The daemon that takes them from now on.
    pub(super) fn put(&self, daemon: Daemon) {
        *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = Some(daemon);
    }

    /// The daemon, as soon as nobody else works.
    ///
    /// # Errors
    /// When somebody who worked has panicked: nothing of it can be relied on.
    pub(super) fn daemon(&self) -> Result<MutexGuard<'_, Option<Daemon>>, String> {
        self.daemon.lock().map_err(|_| "a thread has panicked while it worked".to_owned())
    }

    /// Tells the daemon something.
    pub fn send(&self, message: Message) {
        // Who ends listens to nobody.
        let _ = self.messages.send(message);
    }

    /// Tells the daemon something that is not to wait for its thread: one of a stream of messages.
    pub fn hand_in(&self, message: Message) {
        let has_paused = |daemon: &Daemon| daemon.shift.has_paused(Instant::now());
        self.hand_in_if(message, has_paused, |daemon| daemon.shift.worked = Some(Instant::now()));
    }

    /// The same for the end of a run: a job may stand still for that, and who tells of it has nothing else
    /// to do. To be asked for while few run.
    pub fn hand_in_end(&self, message: Message) {
        self.hand_in_if(message, |_| true, |_| ());
    }

    fn hand_in_if(&self, message: Message, may: impl Fn(&Daemon) -> bool, done: impl Fn(&mut Daemon)) {
        match self.daemon.try_lock().as_deref_mut() {
            Ok(Some(daemon)) if daemon.is_at_rest() && may(daemon) => {
                daemon.take_in_passing(message, &self.messages);
                done(daemon);
            }
            _ => self.send(message),
        }
    }
}

/// Waits until there is a message, which is not taken, or until then.
pub fn wait(messages: &Receiver<Message>, deadline: Option<Instant>) {
    let mut select = Select::new();
    select.recv(messages);
    match deadline {
        Some(deadline) => drop(select.ready_deadline(deadline)),
        None => drop(select.ready()),
    }
}

/// What the daemon's thread sleeps for, and when another has worked last.
#[derive(Debug, Default)]
pub struct Shift {
    /// It is to be woken then; `None` for nothing but a message.
    pub wakes_at: Option<Instant>,
    worked: Option<Instant>,
}

impl Shift {
    fn has_paused(&self, now: Instant) -> bool {
        self.worked.is_none_or(|worked| now >= worked + PAUSE)
    }

    /// The daemon's thread is to work: it has a deadline to meet, or to tell that all is well.
    fn is_due(&self, now: Instant) -> bool {
        self.wakes_at.is_some_and(|wakes_at| now >= wakes_at)
    }
}

impl Daemon {
    /// Nothing is to be done, and nothing was told.
    fn is_at_rest(&self) -> bool {
        self.inbox.is_empty() && self.engine.is_at_rest() && !self.shift.is_due(Instant::now())
    }

    /// Does what follows from a message, on a thread that has other things to do. What is left, and
    /// what is due before the daemon's thread wakes, is that one's.
    fn take_in_passing(&mut self, message: Message, messages: &Sender<Message>) {
        failpoints::defect("passing");
        self.receive(message);
        for _ in 0..ROUNDS {
            self.go_on();
            if !self.engine.has_more() || self.shift.is_due(Instant::now()) {
                break;
            }
        }
        let (deadline, wakes_at) = (self.next_deadline(), self.shift.wakes_at);
        let is_earlier = deadline.is_some_and(|deadline| wakes_at.is_none_or(|wakes_at| deadline < wakes_at));
        if is_earlier || self.engine.has_more() {
            self.shift.wakes_at = deadline;
            let _ = messages.send(Message::Wake);
        }
    }
}
