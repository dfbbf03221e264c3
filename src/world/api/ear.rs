//! Where one thread hears that it is to look, while the client that it serves is there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// It stays rung until somebody forgets it.
#[derive(Debug)]
pub struct Ear(OwnedFd);

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

/// So long; as long as anybody waits where that does not fit.
fn timeout(left: Duration) -> Timespec {
    Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
}

impl Ear {
    /// One that has heard nothing.
    ///
    /// # Errors
    /// When there is no descriptor to be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Whoever waits is to look.
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// What has been heard so far is over: to be called before looking at what may have changed.
    pub fn forget(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Waits for the next ring, until then at the latest if there is a then.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn wait(&self, until: Option<Instant>) -> io::Result<()> {
        loop {
            let left = until.map(|until| timeout(until.saturating_duration_since(Instant::now())));
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], left.as_ref()) {
                Err(Errno::INTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Waits for the next ring, until then at the latest, while somebody is at the other end of
    /// this connection.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn wait_for(&self, peer: impl AsFd, until: Instant) -> io::Result<Heard> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.poll(peer.as_fd(), left) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn poll(&self, peer: BorrowedFd<'_>, left: Duration) -> rustix::io::Result<Heard> {
        let mut fds =
            [PollFd::new(&self.0, PollFlags::IN), PollFd::from_borrowed_fd(peer, PollFlags::empty())];
        poll(&mut fds, Some(&timeout(left)))?;
        let [ear, peer] = fds.map(|fd| !fd.revents().is_empty());
        Ok(match (ear, peer) {
            (_, true) => Heard::Gone,
            (true, false) => Heard::Ring,
            (false, false) => Heard::Nothing,
        })
    }
}
