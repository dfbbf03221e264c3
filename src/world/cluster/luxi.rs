//! Calls to Ganeti's own daemons on this node: wconfd, the configuration daemon, and luxid, the
//! queue's.
//!
//! One request and one answer, each JSON and each ended by a byte 3 (Ganeti:
//! `rpc/transport.py`, `rpc/client.py`; `wconfd.py` uses the same protocol as luxid).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ganeti::text::plain;
use crate::world::deadline::Timed;

/// wconfd's socket, below Ganeti's run directory (Ganeti: `pathutils.py`,
/// `WCONFD_SOCKET`).
pub const WCONFD: &str = "socket/ganeti-wconfd";

/// luxid's socket, below Ganeti's run directory (Ganeti: `pathutils.py`, `QUERY_SOCKET`).
pub const LUXID: &str = "socket/ganeti-query";

/// How long a connection may take: it waits only where many others do.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// How long the answer may take, from the request to its last byte.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// The largest answer that any method gives, in bytes.
pub const ANSWER_LIMIT: u64 = 256 * 1024 * 1024;

/// The end of a message (Ganeti: `constants.LUXI_EOM`).
const END: u8 = 3;

/// Bytes of what is not ours that an error quotes.
const QUOTE_MAX: usize = 256;

#[derive(Serialize)]
struct Request<'a> {
    method: &'a str,
    args: &'a Value,
}

/// Calls a method and returns the whole answer, a JSON object of at most `limit` bytes; `None` when
/// there is no socket.
///
/// # Errors
/// When nobody answers in time, or what comes back is no message.
pub fn call(path: &Path, method: &str, args: &Value, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let socket = match connect_patiently(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let mut request = serde_json::to_vec(&Request { method, args })?;
    request.push(END);
    let mut socket = Timed::new(socket, Instant::now() + ANSWER_PATIENCE, None)?;
    socket.write_all(&request)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while answer.last() != Some(&END) {
        let length = socket.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..length]);
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end"));
        }
        if answer.len() as u64 > limit {
            let text = format!("the answer has more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    answer.pop();
    Ok(Some(answer))
}

/// What a method's answer says.
///
/// # Errors
/// When it is none, or says that the method has failed; in words, of one plain line.
pub fn result(answer: &[u8]) -> Result<&RawValue, String> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        success: bool,
        #[serde(borrow)]
        result: &'a RawValue,
    }
    let answer: Answer<'_> =
        serde_json::from_slice(answer).map_err(|error| format!("its answer is none: {}", quoted(&error)))?;
    if answer.success { Ok(answer.result) } else { Err(format!("it says: {}", quoted(&answer.result))) }
}

/// Calls a method of a daemon that runs on the master, and reads what it says.
///
/// # Errors
/// When there is no such answer, in words that name the socket, of one plain line.
pub fn ask<T: DeserializeOwned>(socket: &Path, method: &str, args: &Value, limit: u64) -> Result<T, String> {
    let wrap = |what: String| format!("{}: {what}", socket.display());
    let answer = call(socket, method, args, limit).map_err(|error| {
        wrap(match error.kind() {
            io::ErrorKind::PermissionDenied => "only root and Ganeti's users may ask".to_owned(),
            io::ErrorKind::ConnectionRefused => format!("{error}; is it running?"),
            _ => error.to_string(),
        })
    })?;
    let answer = answer.ok_or_else(|| wrap("does not exist; it is there on the master alone".to_owned()))?;
    let result = result(&answer).map_err(wrap)?;
    serde_json::from_str(result.get())
        .map_err(|error| wrap(format!("its answer is none: {}", quoted(&error))))
}

/// What is not ours, as a part of a sentence.
pub fn quoted(what: &impl ToString) -> String {
    plain(&what.to_string(), QUOTE_MAX)
}

/// Connects; a socket whose queue is full says `EAGAIN` (unix(7)) and is tried again.
fn connect_patiently(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let deadline = Instant::now() + CONNECT_PATIENCE;
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket.into()),
            Err(Errno::AGAIN) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Daemons of Ganeti's that answer as a test says.
#[cfg(test)]
pub mod testing {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::END;

    /// Gives these answers at a socket below `run_dir`, one a connection; tells what it was asked.
    pub fn serve(run_dir: &Path, socket: &str, answers: Vec<String>) -> Receiver<String> {
        let path = run_dir.join(socket);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        let (sender, asked) = channel();
        thread::spawn(move || {
            for (stream, answer) in listener.incoming().zip(answers) {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                BufReader::new(&stream).read_until(END, &mut request).unwrap();
                request.pop();
                sender.send(String::from_utf8(request).unwrap()).unwrap();
                stream.write_all(format!("{answer}\x03").as_bytes()).unwrap();
            }
        });
        asked
    }
}
