//! The end of processes as an event of the kernel: pidfds in an epoll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::priority;
use crate::world::{failpoints, panics};

/// Waits for processes to end.
#[derive(Debug)]
pub struct Exits {
    epoll: Arc<OwnedFd>,
}

impl Exits {
    /// Starts a thread that hands the token of every process that ended to `handler`.
    ///
    /// # Errors
    /// When there is no descriptor or thread to be had.
    pub fn new(mut handler: impl FnMut(u64) + Send + 'static) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        let waiting = Arc::clone(&epoll);
        thread::Builder::new().name("exits".to_owned()).spawn(move || {
            // Who hears of an end may have more to do than to say so.
            priority::raise();
            let mut events = Vec::with_capacity(64);
            loop {
                match epoll::wait(&*waiting, spare_capacity(&mut events), None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return log::error!("cannot wait for job processes to end: {errno}"),
                }
                for event in events.drain(..) {
                    // It is told once, and nobody else tells it.
                    panics::insist(|| {
                        failpoints::defect("exits");
                        handler(event.data.u64());
                    });
                }
            }
        })?;
        Ok(Self { epoll })
    }

    /// Waits for the process behind `pidfd`; its end is told once. Closing the
    /// descriptor ends the waiting.
    ///
    /// # Errors
    /// When the kernel has no room for another watch (`fs.epoll.max_user_watches`).
    pub fn add(&self, pidfd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let once = EventFlags::IN | EventFlags::ONESHOT;
        Ok(epoll::add(self.epoll.as_fd(), pidfd, EventData::new_u64(token), once)?)
    }
}
