//! Waking those who wait: for the history to change, for a job to end, for an outbox's orders.
//!
//! Promises: to whoever rings it costs the same however many wait, and nothing but a look when
//! nobody does; a thread of its own wakes them. Who listens before looking misses nothing. Who
//! has gone is not kept: a listener lives as long as its connection, and hears when the other end
//! of that is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::ear::Ear;
use crate::ganeti::job::JobId;
use crate::world::failpoints;
use crate::world::panics::caught;

/// Those who listen are woken so much later: the hooks of what has happened begin before many
/// readers are busy with it, and of much that happens at once they hear once.
const PAUSE: Duration = Duration::from_millis(10);

/// Between two who are woken, who then are busy: a hook that is due meanwhile finds a processor.
pub const STEP: Duration = Duration::from_micros(300);

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A change of the history.
    History,
    /// The end of a job.
    Job(JobId),
    /// Something is wanted of an outbox.
    Outbox,
}

/// Rung by the daemon, heard by the API's threads.
#[derive(Debug)]
pub struct Bell {
    /// Grows with each change of the history.
    changes: AtomicU64,
    /// How many jobs have ended.
    ends: AtomicU64,
    /// Those in `listening`.
    listeners: AtomicUsize,
    listening: Mutex<BTreeMap<u64, Wanted>>,
    next: AtomicU64,
    rope: Sender<Topic>,
}

/// What somebody waits for, and where it hears.
type Wanted = (BTreeSet<Topic>, Arc<Ear>);

/// Somebody who waits.
#[derive(Debug)]
pub struct Listener<'b> {
    bell: &'b Bell,
    number: u64,
    ear: Arc<Ear>,
}

impl Bell {
    /// A bell, and the thread that wakes those who hear it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn new() -> io::Result<Arc<Self>> {
        let (rope, pulled) = unbounded();
        let bell = Arc::new(Self {
            changes: AtomicU64::new(0),
            ends: AtomicU64::new(0),
            listeners: AtomicUsize::new(0),
            listening: Mutex::default(),
            next: AtomicU64::new(0),
            rope,
        });
        let rings = Arc::downgrade(&bell);
        thread::Builder::new().name("api-bell".to_owned()).spawn(move || {
            while let Some(topics) = next_topics(&pulled) {
                let Some(bell) = rings.upgrade() else { return };
                let _ = caught(|| {
                    failpoints::defect("api-bell");
                    bell.wake(&topics);
                });
            }
        })?;
        Ok(bell)
    }

    /// The history has changed.
    pub fn history_has_changed(&self) {
        self.changes.fetch_add(1, SeqCst);
        self.ring(Topic::History);
    }

    /// Something is wanted of an outbox.
    pub fn outboxes_have_orders(&self) {
        self.ring(Topic::Outbox);
    }

    /// A job has ended.
    pub fn job_has_ended(&self, id: JobId) {
        self.ends.fetch_add(1, SeqCst);
        self.ring(Topic::Job(id));
    }

    fn ring(&self, topic: Topic) {
        if self.listeners.load(SeqCst) > 0 {
            let _ = self.rope.send(topic);
        }
    }

    /// How often the history has changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    /// How many jobs have ended.
    pub fn ends(&self) -> u64 {
        self.ends.load(SeqCst)
    }

    /// From now on nothing of this is missed.
    ///
    /// # Errors
    /// When there is no descriptor to be had.
    pub fn listen(&self, topic: Topic) -> io::Result<Listener<'_>> {
        self.listen_to([topic].into())
    }

    /// The same of several.
    ///
    /// # Errors
    /// When there is no descriptor to be had.
    pub fn listen_to(&self, topics: BTreeSet<Topic>) -> io::Result<Listener<'_>> {
        let ear = Arc::new(Ear::new()?);
        let number = self.next.fetch_add(1, SeqCst);
        self.listening().insert(number, (topics, Arc::clone(&ear)));
        self.listeners.fetch_add(1, SeqCst);
        Ok(Listener { bell: self, number, ear })
    }

    fn wake(&self, topics: &BTreeSet<Topic>) {
        let ears: Vec<Arc<Ear>> = self
            .listening()
            .values()
            .filter(|(wanted, _)| !topics.is_disjoint(wanted))
            .map(|(_, ear)| Arc::clone(ear))
            .collect();
        for (at, ear) in ears.iter().enumerate() {
            if at > 0 {
                thread::sleep(STEP);
            }
            ear.ring();
        }
    }

    fn listening(&self) -> MutexGuard<'_, BTreeMap<u64, Wanted>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it is rung for next, all that there is within [`PAUSE`]; `None` when nobody can ring any
/// more.
fn next_topics(pulled: &Receiver<Topic>) -> Option<BTreeSet<Topic>> {
    let mut topics = BTreeSet::from([pulled.recv().ok()?]);
    let until = Instant::now() + PAUSE;
    while let Ok(topic) = pulled.recv_deadline(until) {
        topics.insert(topic);
    }
    Some(topics)
}

impl Listener<'_> {
    /// Where it hears.
    pub fn ear(&self) -> &Arc<Ear> {
        &self.ear
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.bell.listening().remove(&self.number);
        self.bell.listeners.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::world::api::ear::Heard;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(25)
    }

    fn job(id: i64) -> JobId {
        id.try_into().unwrap()
    }

    #[test]
    fn all_who_listen_are_woken_and_who_has_gone_is_not_kept() {
        let bell = Bell::new().unwrap();
        let (here, _there) = UnixStream::pair().unwrap();
        bell.history_has_changed();
        let listeners: Vec<_> = (0..100).map(|_| bell.listen(Topic::History).unwrap()).collect();
        let other = bell.listen(Topic::Job(job(1))).unwrap();
        assert_eq!(
            listeners[0].ear().wait_for(&here, Instant::now()).unwrap(),
            Heard::Nothing,
            "that was before"
        );
        bell.history_has_changed();
        for listener in &listeners {
            assert_eq!(listener.ear().wait_for(&here, soon()).unwrap(), Heard::Ring);
        }
        assert_eq!(listeners[0].ear().wait_for(&here, soon()).unwrap(), Heard::Ring, "until it looks");
        listeners[0].ear().forget();
        assert_eq!(listeners[0].ear().wait_for(&here, Instant::now()).unwrap(), Heard::Nothing);
        drop(listeners);
        bell.job_has_ended(job(2));
        bell.job_has_ended(job(1));
        assert_eq!(other.ear().wait_for(&here, soon()).unwrap(), Heard::Ring);
        drop(other);
        assert!(bell.listening().is_empty() && bell.listeners.load(SeqCst) == 0);
        assert_eq!(bell.changes(), 2);
    }

    #[test]
    fn the_end_of_the_other_side_ends_a_wait() {
        let bell = Bell::new().unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        let listener = bell.listen(Topic::History).unwrap();
        there.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(listener.ear().wait_for(&here, Instant::now()).unwrap(), Heard::Nothing, "it still reads");
        drop(there);
        assert_eq!(listener.ear().wait_for(&here, soon()).unwrap(), Heard::Gone);
    }
}
