//! Sockets that are given up on: whatever the other side does, or does not do, reading
//! and writing end at a deadline, and at once when the daemon stops.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

/// A connected socket with a deadline for all of its reads and writes together.
#[derive(Debug)]
pub struct Timed<'stop, S> {
    socket: S,
    deadline: Instant,
    /// How long nothing may come or go, however far the deadline is.
    patience: Duration,
    stop: Option<BorrowedFd<'stop>>,
}

impl<'stop, S: AsFd> Timed<'stop, S> {
    /// The socket until `deadline`, or until `stop` becomes readable.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub fn new(socket: S, deadline: Instant, stop: Option<BorrowedFd<'stop>>) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        Ok(Self { socket, deadline, patience: Duration::MAX, stop })
    }

    /// Also gives up when nothing comes or goes for so long.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Goes on until another time.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Waits until the socket is ready for `what`.
    fn wait(&self, what: PollFlags) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec::try_from(left.min(self.patience)).ok();
        let socket = self.socket.as_fd();
        let mut fds = [
            PollFd::from_borrowed_fd(socket, what),
            PollFd::from_borrowed_fd(self.stop.unwrap_or(socket), PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) if self.stop.is_some() && !fds[1].revents().is_empty() => Err(stopped()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn patiently<T>(
        &mut self,
        what: PollFlags,
        mut attempt: impl FnMut(&mut S) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match attempt(&mut self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(what)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// The error of whatever was under way when the daemon stopped.
fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the daemon stops")
}

impl<S: AsFd + Read> Read for Timed<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(PollFlags::IN, |socket| socket.read(buffer))
    }
}

impl<S: AsFd + Write> Write for Timed<'_, S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.patiently(PollFlags::OUT, |socket| socket.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Whether `stop` is readable: the daemon stops.
pub fn is_stopped(stop: Option<BorrowedFd<'_>>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    stop.is_some_and(|stop| {
        let mut fds = [PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn a_drip_does_not_put_the_deadline_off() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let drip = std::thread::spawn(move || {
            while theirs.write_all(b".").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let start = Instant::now();
        let mut timed = Timed::new(ours, start + Duration::from_millis(100), None).unwrap();
        let error = io::copy(&mut timed, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(timed);
        drip.join().unwrap();
    }

    #[test]
    fn who_does_nothing_is_not_waited_for_until_the_deadline() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let timed = Timed::new(ours, start + Duration::from_secs(60), None).unwrap();
        let mut timed = timed.with_patience(Duration::from_millis(20));
        let error = timed.write_all(&vec![0; 4 * 1024 * 1024]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let stop = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut timed = Timed::new(ours, deadline, Some(stop.as_fd())).unwrap();
        assert_eq!(timed.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(is_stopped(Some(stop.as_fd())) && !is_stopped(None));
    }
}
