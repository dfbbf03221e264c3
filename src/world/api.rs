//! HTTP on a Unix socket: status, metrics, the feed.
//!
//! | target | answer |
//! |---|---|
//! | `GET /v1/status` | how things are, JSON |
//! | `GET /metrics` | the same for Prometheus |
//! | `GET /v1/events?after=SEQ&limit=N` | the next events after number SEQ, JSON Lines, about 4 MiB at most; none when there are no more |
//! | `POST /v1/rerun?event=EVENT&script=SCRIPT` | has an event's scripts run again; what is asked for is in the journal then |
//! | `GET /v1/changes?since=STATE` | waits until the history goes beyond STATE, at most 30 s; answers its state |

pub mod rerun;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::engine::effect::NoRerun;
use crate::engine::status::Status;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::http::{Request, Response, exchange, read_request, write_response};
use crate::world::panics::caught;
use crate::world::shortage::explain;

/// The socket, below the run directory.
pub const SOCKET: &str = "hookd.sock";

/// Connections served at the same time.
const CONNECTIONS_MAX: usize = 32;

/// The longest answer that a client takes, in bytes.
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;

/// How long a peer may take to say what it wants.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// The most events in one answer of the feed.
const FEED_LIMIT: u32 = 1000;

/// The longest wait for a change.
pub const CHANGE_WAIT: Duration = Duration::from_secs(30);

/// The API's socket, removed when dropped.
#[derive(Debug)]
pub struct Api {
    path: PathBuf,
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a client asks of the owner of the state.
#[derive(Debug)]
pub enum Question {
    /// How are things?
    Status(Sender<Status>),
    /// Say when the history has gone beyond this state of it.
    AwaitChange(u64, Sender<u64>),
    /// Have this run again.
    Rerun(rerun::Wanted, Sender<Result<rerun::Accepted, NoRerun>>),
}

/// What the API speaks for.
pub trait Backend: Send + Sync + 'static {
    /// Passes a question on to the owner of the state; `false` when there is none any more.
    fn ask(&self, question: Question) -> bool;

    /// The events after number `after`, at most `limit`, as JSON Lines.
    ///
    /// # Errors
    /// When the history cannot be read.
    fn feed(&self, after: i64, limit: u32) -> io::Result<Vec<u8>>;
}

/// Serves the API in `run_dir`, on threads of its own.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(run_dir: &Path, backend: impl Backend) -> io::Result<Api> {
    std::fs::create_dir_all(run_dir)?;
    let path = run_dir.join(SOCKET);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let backend: Arc<dyn Backend> = Arc::new(backend);
    thread::Builder::new().name("api".to_owned()).spawn(move || accept(&listener, &backend))?;
    Ok(Api { path })
}

/// A connection that is open, one of so many.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn one_of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn accept(listener: &UnixListener, backend: &Arc<dyn Backend>) {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        // A shortage of descriptors passes, a panic is over; do not spin until it is.
        let accepted = caught(|| accept_one(listener, backend, &connections));
        if let Err(error) = accepted.and_then(|accepted| accepted.map_err(|error| explain(&error))) {
            static FLOW: Flow = Flow::new();
            FLOW.warn(format_args!("cannot accept a connection to the API: {error}"));
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Serves the next connection on a thread of its own.
fn accept_one(
    listener: &UnixListener,
    backend: &Arc<dyn Backend>,
    connections: &Arc<AtomicUsize>,
) -> io::Result<()> {
    let (stream, _) = listener.accept()?;
    failpoints::defect("api");
    if connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
        let _ = write_response(&stream, 503, "text/plain", b"too many connections\n");
        return Ok(());
    }
    let (open, backend) = (Open::one_of(connections), Arc::clone(backend));
    thread::Builder::new().name("api-request".to_owned()).spawn(move || {
        let _open = open;
        serve_one(&stream, &*backend);
    })?;
    Ok(())
}

fn serve_one(stream: &UnixStream, backend: &dyn Backend) {
    let served = caught(|| answer(backend, stream)).unwrap_or_else(|what| {
        // Where it has been answered already, the client has what it wanted.
        write_response(stream, 500, "text/plain", format!("{what}\n").as_bytes())
    });
    if let Err(error) = served {
        log::debug!("API: {error}");
    }
}

fn answer(backend: &dyn Backend, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PEER_TIMEOUT))?;
    stream.set_write_timeout(Some(PEER_TIMEOUT))?;
    let request = read_request(stream)?;
    failpoints::defect("api-request");
    let answer = match (request.method.as_str(), request.path()) {
        ("GET", "/v1/status") => {
            status(backend).map(|s| ("application/json", serde_json::to_vec(&s).unwrap_or_default()))
        }
        ("GET", "/metrics") => {
            status(backend).map(|s| ("text/plain; version=0.0.4", s.metrics().into_bytes()))
        }
        ("GET", "/v1/events") => feed(backend, &request).map(|body| ("application/jsonl", body)),
        ("GET", "/v1/changes") => changes(backend, &request).map(|body| ("application/json", body)),
        ("POST", rerun::TARGET) => {
            let (status, content_type, body) = rerun::answer(backend, &request)?;
            return write_response(stream, status, content_type, &body);
        }
        _ => {
            let known = b"there is /v1/status, /v1/events, /v1/changes, /v1/rerun and /metrics\n";
            return write_response(stream, 404, "text/plain", known);
        }
    };
    match answer {
        Ok((content_type, body)) => write_response(stream, 200, content_type, &body),
        Err(error) => write_response(stream, 500, "text/plain", format!("{error}\n").as_bytes()),
    }
}

/// Asks the owner of the state.
fn ask<T>(backend: &dyn Backend, question: impl FnOnce(Sender<T>) -> Question) -> io::Result<Receiver<T>> {
    let (sender, receiver) = bounded(1);
    if backend.ask(question(sender)) { Ok(receiver) } else { Err(io::Error::other("the daemon is ending")) }
}

fn status(backend: &dyn Backend) -> io::Result<Status> {
    ask(backend, Question::Status)?.recv_timeout(PEER_TIMEOUT).map_err(io::Error::other)
}

fn changes(backend: &dyn Backend, request: &Request) -> io::Result<Vec<u8>> {
    let since = u64::try_from(request.number("since").unwrap_or(0)).unwrap_or(0);
    let changed = ask(backend, |sender| Question::AwaitChange(since, sender))?;
    let state = changed.recv_timeout(CHANGE_WAIT).unwrap_or(since);
    Ok(format!("{state}\n").into_bytes())
}

fn feed(backend: &dyn Backend, request: &Request) -> io::Result<Vec<u8>> {
    let limit = request.number("limit").and_then(|limit| u32::try_from(limit).ok()).unwrap_or(FEED_LIMIT);
    backend.feed(request.number("after").unwrap_or(0), limit.min(FEED_LIMIT))
}

/// Asks the daemon whose run directory this is.
///
/// # Errors
/// When no daemon answers, or it says no.
pub fn get(run_dir: &Path, target: &str) -> io::Result<Vec<u8>> {
    let response = request(run_dir, "GET", target)?;
    if response.status == 200 {
        Ok(response.body)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&response.body).trim().to_owned()))
    }
}

/// Asks the daemon whose run directory this is, and takes every answer for one.
///
/// # Errors
/// When no daemon answers.
pub fn request(run_dir: &Path, method: &str, target: &str) -> io::Result<Response> {
    let stream = UnixStream::connect(run_dir.join(SOCKET))?;
    stream.set_read_timeout(Some(CHANGE_WAIT + PEER_TIMEOUT))?;
    exchange(stream, method, "localhost", target, b"", ANSWER_LIMIT)
}
