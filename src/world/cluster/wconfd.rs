//! Asking wconfd, Ganeti's configuration daemon, for the configuration.
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

use crate::world::deadline::Timed;

/// wconfd's socket, below Ganeti's run directory (Ganeti: `pathutils.py`,
/// `WCONFD_SOCKET`).
pub const SOCKET: &str = "socket/ganeti-wconfd";

/// How long a connection may take: it waits only where many others do.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// How long the answer may take, from the request to its last byte.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// The largest answer, in bytes.
pub const ANSWER_LIMIT: u64 = 256 * 1024 * 1024;

/// The end of a message (Ganeti: `constants.LUXI_EOM`).
const END: u8 = 3;

const REQUEST: &[u8] = b"{\"method\":\"readConfig\",\"args\":[]}\x03";

/// Asks for the configuration and returns the whole answer, a JSON object; `None` when
/// there is no socket.
///
/// # Errors
/// When nobody answers in time, or what comes back is no message.
pub fn ask(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let socket = match connect_patiently(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let mut socket = Timed::new(socket, Instant::now() + ANSWER_PATIENCE, None)?;
    socket.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while answer.last() != Some(&END) {
        let length = socket.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..length]);
        if length == 0 || answer.len() as u64 > ANSWER_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end"));
        }
    }
    answer.pop();
    Ok(Some(answer))
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
