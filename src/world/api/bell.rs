//! Waking those who wait: for the history to change, for a job to end, for an outbox's orders.
//!
//! Promises: to whoever rings it costs the same however many wait, and nothing but a look when
//! nobody does; a thread of its own wakes them. Who listens before looking misses nothing. Who
//! has gone is not kept: a listener lives as long as its connection, and hears when the other end
//! of that is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::ganeti::job::JobId;
use crate::world::failpoints;
use crate::world::panics::caught;

/// Those who listen are woken so much later: the hooks of what has happened begin before many
/// readers are busy with it, and of much that happens at once they hear once.
const PAUSE: Duration = Duration::from_millis(10);

/// As long as anybody waits that does not fit.
const LONG: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

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
    /// Those in `listening`.
    listeners: AtomicUsize,
    listening: Mutex<BTreeMap<u64, Ear>>,
    next: AtomicU64,
    rope: Sender<Topic>,
}

/// What somebody who waits is woken by, and for what.
type Ear = (BTreeSet<Topic>, Arc<OwnedFd>);

/// Somebody who waits.
#[derive(Debug)]
pub struct Listener<'b> {
    bell: &'b Bell,
    number: u64,
    ear: Arc<OwnedFd>,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It has rung.
    Ring,
    /// Nothing for so long.
    Nothing,
    /// Nobody is at the other end any more.
    Gone,
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
        let ear = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let number = self.next.fetch_add(1, SeqCst);
        self.listening().insert(number, (topics, Arc::clone(&ear)));
        self.listeners.fetch_add(1, SeqCst);
        Ok(Listener { bell: self, number, ear })
    }

    fn wake(&self, topics: &BTreeSet<Topic>) {
        for (wanted, ear) in self.listening().values() {
            if !topics.is_disjoint(wanted) {
                let _ = rustix::io::write(ear, &1_u64.to_ne_bytes());
            }
        }
    }

    fn listening(&self) -> MutexGuard<'_, BTreeMap<u64, Ear>> {
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
    /// What has been heard so far is over: to be called before looking at what may have changed.
    pub fn forget(&self) {
        let _ = rustix::io::read(&self.ear, &mut [0; 8]);
    }

    /// Waits for the next ring, until then at the latest, while somebody is at the other end of
    /// this connection.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn wait(&self, peer: impl AsFd, until: Instant) -> io::Result<Heard> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.poll(peer.as_fd(), left) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Waits for the next ring, until then at the latest if there is a then.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn wait_alone(&self, until: Option<Instant>) -> io::Result<()> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec::try_from(left).unwrap_or(LONG));
            match poll(&mut [PollFd::new(&self.ear, PollFlags::IN)], timeout.as_ref()) {
                Err(Errno::INTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    fn poll(&self, peer: BorrowedFd<'_>, left: Duration) -> rustix::io::Result<Heard> {
        let mut fds =
            [PollFd::new(&self.ear, PollFlags::IN), PollFd::from_borrowed_fd(peer, PollFlags::empty())];
        let timeout = Timespec::try_from(left).unwrap_or(LONG);
        poll(&mut fds, Some(&timeout))?;
        let [ear, peer] = fds.map(|fd| !fd.revents().is_empty());
        Ok(match (ear, peer) {
            (_, true) => Heard::Gone,
            (true, false) => Heard::Ring,
            (false, false) => Heard::Nothing,
        })
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
        assert_eq!(listeners[0].wait(&here, Instant::now()).unwrap(), Heard::Nothing, "that was before");
        bell.history_has_changed();
        for listener in &listeners {
            assert_eq!(listener.wait(&here, soon()).unwrap(), Heard::Ring);
        }
        assert_eq!(listeners[0].wait(&here, soon()).unwrap(), Heard::Ring, "until it looks");
        listeners[0].forget();
        assert_eq!(listeners[0].wait(&here, Instant::now()).unwrap(), Heard::Nothing);
        drop(listeners);
        bell.job_has_ended(job(2));
        bell.job_has_ended(job(1));
        assert_eq!(other.wait(&here, soon()).unwrap(), Heard::Ring);
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
        assert_eq!(listener.wait(&here, Instant::now()).unwrap(), Heard::Nothing, "it still reads");
        drop(there);
        assert_eq!(listener.wait(&here, soon()).unwrap(), Heard::Gone);
    }
}
