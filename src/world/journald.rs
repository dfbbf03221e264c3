//! The systemd journal's own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): lines of the log
//! with fields that `journalctl` finds them by.
//!
//! A line that the journal does not take at once goes to our standard error, which is the journal's,
//! too. Nobody waits for either: a journal that stands still would have jobs stand still. How many lines it did not
//! take it is told when it takes some again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use log::kv::{Key, Value, VisitSource};
use log::{Level, Record};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// Where it listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// What the program is called there.
const IDENTIFIER: &str = "ganeti-hookd";

/// The way to it.
#[derive(Debug)]
pub struct Journald {
    socket: UnixDatagram,
    path: PathBuf,
    stderr: OwnedFd,
    /// Lines that it did not take, and has not been told of.
    missing: AtomicU64,
}

/// How much a line matters (syslog(3)).
pub fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

impl Journald {
    /// The one that has our standard error (systemd.exec(5), `JOURNAL_STREAM`); `None` where that
    /// goes elsewhere.
    pub fn of_stderr() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = std::fs::metadata("/proc/self/fd/2").ok()?;
        let is_ours = stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino());
        let stderr = io::stderr().as_fd().try_clone_to_owned().ok()?;
        if is_ours { Self::at(Path::new(SOCKET), stderr).ok() } else { None }
    }

    /// The one that listens there, and has our standard error.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn at(path: &Path, stderr: OwnedFd) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned(), stderr, missing: AtomicU64::new(0) })
    }

    /// Says one line with what the record has besides, if that can be done at once.
    pub fn say(&self, record: &Record<'_>, line: &str) {
        let missing = self.missing.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let words = format!("{missing} lines are missing here: the journal did not take them");
            let is_taken = self.takes(&Record::builder().level(Level::Warn).build(), &words);
            self.missing.fetch_add(if is_taken { 0 } else { missing }, Ordering::Relaxed);
        }
        let is_taken = self.takes(record, line);
        self.missing.fetch_add(u64::from(!is_taken), Ordering::Relaxed);
    }

    fn takes(&self, record: &Record<'_>, line: &str) -> bool {
        self.send(record, line).is_ok() || self.write(record.level(), line).is_ok()
    }

    /// Writes a line to standard error, which begins with its priority (sd-daemon(3)).
    fn write(&self, level: Level, line: &str) -> io::Result<()> {
        let text = format!("<{}>{line}\n", priority(level));
        let sent = send(&self.stderr, text.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        let written = match sent {
            // A file takes it at once.
            Err(Errno::NOTSOCK) => rustix::io::write(&self.stderr, text.as_bytes()),
            sent => sent,
        };
        if written? == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Sends one line with what the record has besides.
    ///
    /// # Errors
    /// When it does not take it now.
    fn send(&self, record: &Record<'_>, line: &str) -> io::Result<()> {
        let mut entry = Entry::default();
        entry.add("PRIORITY", &priority(record.level()).to_string());
        entry.add("SYSLOG_IDENTIFIER", IDENTIFIER);
        entry.add("MESSAGE", line);
        // Writing to memory cannot fail.
        let _ = record.key_values().visit(&mut entry);
        self.socket.send_to(&entry.0, &self.path).map(drop)
    }
}

/// An entry as it is sent.
#[derive(Debug, Default)]
struct Entry(Vec<u8>);

impl Entry {
    fn add(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl<'kvs> VisitSource<'kvs> for Entry {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.add(key.as_str(), &value.to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn send(journald: &Journald, fields: &[(&str, &str)], line: &str) -> io::Result<()> {
        journald.send(&Record::builder().level(Level::Warn).key_values(&fields).build(), line)
    }

    #[test]
    fn a_line_goes_with_its_fields_and_none_can_be_forged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let journald = Journald::at(&path, UnixDatagram::unbound().unwrap().into()).unwrap();
        send(&journald, &[("GANETI_JOB", "42"), ("GANETI_OP_CODE", "a\nPRIORITY=0")], "not so well").unwrap();
        let mut buffer = [0; 4096];
        let length = listener.recv(&mut buffer).unwrap();
        let expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=ganeti-hookd\nMESSAGE=not so well\nGANETI_JOB=42\n\
                         GANETI_OP_CODE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n";
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), String::from_utf8_lossy(expected));
    }

    #[test]
    fn nobody_waits_for_a_journal_that_does_not_read_or_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = Journald::at(&path, UnixDatagram::unbound().unwrap().into()).unwrap();
        assert!(send(&journald, &[], "nobody is there").is_err());
        let listener = UnixDatagram::bind(&path).unwrap();
        let full = (0..1_000_000).find_map(|_| send(&journald, &[], "it does not read").err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
        // It is started anew.
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        let _listener = UnixDatagram::bind(&path).unwrap();
        send(&journald, &[], "here it is again").unwrap();
    }

    #[test]
    fn what_the_journal_did_not_take_is_counted_and_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let (stderr, mut journal) = UnixStream::pair().unwrap();
        let journald = Journald::at(&dir.path().join("nobody"), stderr.into()).unwrap();
        let say = |line: &str| journald.say(&Record::builder().level(Level::Error).build(), line);
        while journald.missing.load(Ordering::Relaxed) < 3 {
            say(&"x".repeat(999));
        }
        let mut text = vec![0; 4 * 1024 * 1024];
        while journald.missing.load(Ordering::Relaxed) > 0 {
            let _ = journal.read(&mut text).unwrap();
            say("again");
        }
        drop(journald);
        let mut rest = String::new();
        journal.read_to_string(&mut rest).unwrap();
        let told = "<4>3 lines are missing here: the journal did not take them\n<3>again\n";
        assert!(rest.ends_with(told), "{rest}");
    }
}
