//! Readers of the feed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::master::Result;

/// Readers, until dropped. The first reads from the beginning of the history, and takes nothing of what it
/// is told; the others read what comes.
pub struct Readers {
    _stuck: Option<UnixStream>,
    readers: Vec<(Arc<Reader>, JoinHandle<()>)>,
}

struct Reader {
    socket: PathBuf,
    how: String,
    connection: Mutex<Option<UnixStream>>,
    is_over: AtomicBool,
}

impl Readers {
    /// So many, all of whom are being served. `HOW` is what they ask.
    pub fn start(socket: &Path, count: u32) -> Result<Self> {
        let how = std::env::var("HOW").unwrap_or_else(|_| "stream=1".to_owned());
        let stuck = (count > 0).then(|| ask(socket, "stream=1")).transpose()?;
        let end = answer(&mut ask(socket, "since=4000000000")?)?.0;
        let (ready, is_ready) = channel();
        let start = |_| {
            let (connection, is_over) = (Mutex::default(), AtomicBool::new(false));
            let reader =
                Arc::new(Reader { socket: socket.to_owned(), how: how.clone(), connection, is_over });
            let (same, end, ready) = (Arc::clone(&reader), end.clone(), ready.clone());
            (reader, thread::spawn(move || same.read_on(end, &ready)))
        };
        let readers: Vec<_> = (1..count).map(start).collect();
        is_ready.iter().take(readers.len()).for_each(drop);
        Ok(Self { _stuck: stuck, readers })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for (reader, _) in &self.readers {
            reader.is_over.store(true, Ordering::SeqCst);
            let connection = reader.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = connection.as_ref().map(|connection| connection.shutdown(Shutdown::Both));
        }
        for (_, thread) in self.readers.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Reader {
    fn read_on(&self, mut cursor: String, ready: &Sender<()>) {
        while !self.is_over.load(Ordering::SeqCst) {
            let Ok(mut stream) = ask(&self.socket, &format!("{}&after={cursor}", self.how)) else { return };
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = stream.try_clone().ok();
            // A page has a head when there is something on it.
            let is_stream = self.how.contains("stream");
            let tell = || {
                let _ = ready.send(());
            };
            if !is_stream {
                tell();
            }
            // Whoever ends it all has seen this connection, or is seen here.
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let read = head(&mut stream).and_then(|(next, mut rest)| {
                if is_stream {
                    tell();
                }
                std::io::copy(&mut rest, &mut std::io::sink())?;
                Ok(next)
            });
            match read {
                Ok(next) => cursor = next,
                Err(_) => return,
            }
        }
    }
}

/// Asks the feed.
fn ask(socket: &Path, query: &str) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "GET /v1/events?{query} HTTP/1.1\r\n\r\n")?;
    Ok(stream)
}

/// The cursor in the head of an answer, and what comes after that.
fn head(stream: &mut UnixStream) -> Result<(String, impl Read + '_)> {
    let (mut answer, mut cursor) = (BufReader::new(stream), String::new());
    for line in answer.by_ref().lines() {
        let line = line?;
        if let Some(value) = line.strip_prefix("Ganeti-Hookd-Cursor: ") {
            cursor = value.to_owned();
        }
        if line.is_empty() {
            break;
        }
    }
    Ok((cursor, answer))
}

/// A whole answer: the cursor, and its content.
fn answer(stream: &mut UnixStream) -> Result<(String, String)> {
    let (cursor, mut rest) = head(stream)?;
    let mut content = String::new();
    rest.read_to_string(&mut content)?;
    Ok((cursor, content))
}
