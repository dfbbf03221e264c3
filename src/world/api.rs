//! HTTP on a Unix socket: status, metrics, the feed, jobs, a page.
//!
//! | target | answer |
//! |---|---|
//! | `GET /` | a page for people, which follows the feed (`world::page`) |
//! | `GET /v1/status` | how things are, JSON |
//! | `GET /metrics` | the same for Prometheus |
//! | `POST /v1/rerun?event=EVENT&script=SCRIPT` | has an event's scripts run again; what is asked for is in the journal then |
//! | `POST /v1/outbox/resend?name=NAME&event=EVENT`, `/v1/outbox/enable?name=NAME` | has an outbox send again |
//! | `GET /v1/events` | the feed, JSON Lines; parameters are `parameters.rs`' |
//! | `GET /v1/jobs/N?wait=SECONDS` | what became of a job, as soon as it has ended, JSON |
//! | `GET /v1/waiting` | the opcodes that wait for their locks now, JSON Lines |
//! | `GET /v1/changes?since=STATE` | waits until the history goes beyond STATE, at most 30 s; answers its state |
//!
//! Root and the daemon's user may ask for all of it, the members of `api.group` for what is GET.
//! What goes wrong is answered as a problem (RFC 9457). Each connection has a thread of its own,
//! and some are kept free of those who only wait. Of what is new in the feed one thread tells all who
//! follow it. None is nicer than the daemon was given: within SQLite they take locks that the daemon's
//! own thread takes, too.

pub mod access;
pub mod bell;
mod browser;
mod ear;
mod feed;
mod job;
pub mod metrics;
mod parameters;
mod problem;

pub use feed::CURSOR;
pub use parameters::FeedQuestion;
pub use problem::Problem;

pub mod outbox;
pub mod rerun;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::Value;

use self::access::Peer;
use self::bell::{Bell, Topic};
use self::ear::Heard;
use self::feed::broadcast::Broadcast;
use self::parameters::Parameters;
use crate::engine::effect::NoRerun;
use crate::engine::metrics::Metrics;
use crate::engine::settings::Paths;
use crate::engine::status::Status;
use crate::engine::waiting::Waiting;
use crate::ganeti::event::{EventRecord, Fate};
use crate::world::deadline::Timed;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::http::{Answer, Request, Response, exchange, read_request};
use crate::world::journal::History;
use crate::world::page;
use crate::world::panics::caught;
use crate::world::queue::read::JobReader;
use crate::world::shortage::explain;

/// The socket, below the run directory.
pub const SOCKET: &str = "hookd.sock";

/// Connections served at the same time.
const CONNECTIONS_MAX: usize = 64;

/// Of these, the ones that may wait or stream: whoever asks how things are is always answered.
const WAITING_MAX: usize = 48;

/// The same with those for whom something is done, which may take long.
const ACTING_MAX: usize = 56;

/// The longest answer that a client takes, in bytes.
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;

/// How long a peer may take to say what it wants, and take nothing of its answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer may take for all of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// The same for Prometheus.
    Metrics(Sender<Box<Metrics>>),
    /// Which opcodes wait for their locks?
    Waiting(Sender<Waiting>),
    /// Have an outbox do this.
    Outbox(outbox::Wanted, Sender<Result<outbox::Done, outbox::NotDone>>),
    /// Have this run again.
    Rerun(rerun::Wanted, Sender<Result<rerun::Accepted, NoRerun>>),
}

/// What the API speaks for: the owner of the state.
pub trait Backend: Send + Sync + 'static {
    /// Passes a question on to it; `false` when it is not there any more.
    fn ask(&self, question: Question) -> bool;
}

/// What answers are made of.
struct Sources {
    owner: Box<dyn Backend>,
    state_dir: PathBuf,
    queue_dir: PathBuf,
    bell: Arc<Bell>,
    broadcast: Arc<Broadcast>,
    /// Reads one job at a time, however large it is.
    reader: Mutex<JobReader>,
    last_end: job::LastEnd,
    /// Those who wait or stream.
    waiting: Places,
}

impl Sources {
    /// What reads job files, for nobody else meanwhile.
    fn reader(&self) -> MutexGuard<'_, JobReader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody who may wait for so long; none is needed for no wait.
    fn place_for(&self, peer: &UnixStream, wait: Duration) -> Result<Option<Place>, Problem> {
        if wait.is_zero() {
            return Ok(None);
        }
        self.waiting
            .take(Peer::of(peer).share_of(WAITING_MAX))
            .map(Some)
            .ok_or_else(|| too_many("clients wait or stream"))
    }

    /// A place for somebody for whom something is to be done, which may take long; those who wait take
    /// not all of these.
    fn place_to_act(&self) -> Result<Place, Problem> {
        self.waiting.take(ACTING_MAX).ok_or_else(|| too_many("clients wait for something to be done"))
    }
}

/// What becomes of a request.
enum Reply {
    /// This is to be answered.
    Answer(Answer),
    /// All has been written that is to be.
    Written,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Serves the API in the run directory of `paths`, on threads of its own. `bell` tells those who
/// wait.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(paths: &Paths, bell: Arc<Bell>, owner: impl Backend) -> io::Result<Api> {
    std::fs::create_dir_all(&paths.run_dir)?;
    let path = paths.run_dir.join(SOCKET);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let sources = Sources {
        owner: Box::new(owner),
        state_dir: paths.state_dir.clone(),
        queue_dir: paths.queue_dir.clone(),
        reader: Mutex::new(JobReader::new(&paths.queue_dir)),
        broadcast: Arc::new(Broadcast::new(paths.state_dir.clone(), Arc::clone(&bell))),
        bell,
        last_end: job::LastEnd::default(),
        waiting: Places::default(),
    };
    let sources = Arc::new(sources);
    thread::Builder::new().name("api".to_owned()).spawn(move || accept(&listener, &sources))?;
    Ok(Api { path })
}

/// Counts places that are taken.
#[derive(Debug, Default)]
struct Places(Arc<AtomicUsize>);

/// One of them, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Places {
    /// Takes one, if fewer than `max` are taken.
    fn take(&self, max: usize) -> Option<Place> {
        let more = |taken: usize| (taken < max).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(Arc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn accept(listener: &UnixListener, sources: &Arc<Sources>) {
    let connections = Places::default();
    loop {
        // A shortage of descriptors passes, a panic is over; do not spin until it is.
        let accepted = caught(|| accept_one(listener, sources, &connections));
        if let Err(error) = accepted.and_then(|accepted| accepted.map_err(|error| explain(&error))) {
            static FLOW: Flow = Flow::new();
            FLOW.warn(format_args!("cannot accept a connection to the API: {error}"));
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Serves the next connection on a thread of its own.
fn accept_one(listener: &UnixListener, sources: &Arc<Sources>, connections: &Places) -> io::Result<()> {
    let stream = Arc::new(listener.accept()?.0);
    failpoints::defect("api");
    let Some(place) = connections.take(Peer::of(&stream).share_of(CONNECTIONS_MAX)) else {
        let _ = too_many("connections").answer().write(&*stream);
        return Ok(());
    };
    let sources = Arc::clone(sources);
    thread::Builder::new().name("api-request".to_owned()).spawn(move || {
        let _place = place;
        serve_one(&stream, &sources);
    })?;
    Ok(())
}

fn too_many(what: &str) -> Problem {
    Problem::new(503, format!("too many {what}; try again in a while"))
}

fn serve_one(stream: &Arc<UnixStream>, sources: &Sources) {
    let served = caught(|| talk(sources, stream)).unwrap_or_else(|what| {
        // Where it has been answered already, the client has what it wanted.
        Problem::new(500, what).answer().write(&**stream)
    });
    if let Err(error) = served {
        log::debug!("API: {error}");
    }
}

fn talk(sources: &Sources, stream: &Arc<UnixStream>) -> io::Result<()> {
    let request = read_request(Timed::new(&**stream, Instant::now() + PEER_TIMEOUT, None)?);
    // What is written as it comes has a time limit of its own.
    stream.set_nonblocking(false)?;
    let reply = match request {
        Ok(request) => {
            failpoints::defect("api-request");
            answer(sources, &request, stream)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Problem::new(400, error)),
        Err(error) => return Err(error),
    };
    match reply.unwrap_or_else(|problem| problem.answer().into()) {
        Reply::Answer(answer) => {
            let stream = Timed::new(&**stream, Instant::now() + ANSWER_TIMEOUT, None)?;
            answer.write(stream.with_patience(PEER_TIMEOUT))
        }
        Reply::Written => Ok(()),
    }
}

fn answer(sources: &Sources, request: &Request, stream: &Arc<UnixStream>) -> Result<Reply, Problem> {
    browser::check(request)?;
    let path = request.path();
    let job = path.strip_prefix("/v1/jobs/");
    let is_known = [browser::PAGE, "/v1/status", "/v1/events", "/v1/waiting", "/v1/changes", "/metrics"]
        .contains(&path)
        || job.is_some();
    match (request.method.as_str(), path, job) {
        ("GET", browser::PAGE, _) => Ok(shown().into()),
        ("GET", "/v1/status", _) => {
            let body = serde_json::to_vec(&status(sources, request)?).unwrap_or_default();
            Ok(Answer::new(200, "application/json", body).into())
        }
        ("GET", "/metrics", _) => {
            Parameters::of(request, &[])?;
            Ok(metrics::metrics(&*sources.owner, &sources.state_dir)?.into())
        }
        ("GET", "/v1/events", _) => feed::answer(sources, request, stream),
        ("GET", "/v1/waiting", _) => Ok(waiting(sources, request)?.into()),
        ("GET", "/v1/changes", _) => changes(sources, request, stream),
        ("GET", _, Some(id)) => job::answer(sources, request, id, stream),
        ("POST", _, _) if Peer::of(stream) != Peer::Owner => {
            Err(Problem::new(403, "only root and the daemon's user may change something"))
        }
        ("POST", rerun::TARGET, _) => rerun::answer(sources, request),
        ("POST", outbox::RESEND | outbox::ENABLE, _) => outbox::answer(sources, request),
        (_, rerun::TARGET | outbox::RESEND | outbox::ENABLE, _) => Err(Problem::only("POST")),
        _ if is_known => Err(Problem::only("GET")),
        _ => Err(Problem::new(
            404,
            "there is /, /v1/status, /v1/events, /v1/jobs/N, /v1/waiting, /v1/rerun, /v1/outbox/resend, /v1/outbox/enable and /metrics",
        )),
    }
}

/// The page that people look at.
fn shown() -> Answer {
    let page = Answer::new(200, "text/html; charset=utf-8", page::live());
    page::headers().into_iter().fold(page, |page, (name, value)| page.with(name, value))
}

fn status(sources: &Sources, request: &Request) -> Result<Status, Problem> {
    Parameters::of(request, &[])?;
    let mut status =
        ask(&*sources.owner, Question::Status)?.recv_timeout(PEER_TIMEOUT).map_err(io::Error::other)?;
    count_pending(&sources.state_dir, &mut status);
    Ok(status)
}

/// What is no event yet: it has no number in the feed.
fn waiting(sources: &Sources, request: &Request) -> Result<Answer, Problem> {
    Parameters::of(request, &[])?;
    let waiting =
        ask(&*sources.owner, Question::Waiting)?.recv_timeout(PEER_TIMEOUT).map_err(io::Error::other)?;
    let fate = Fate { state: "waiting", ..Fate::default() };
    let mut lines = String::new();
    for event in waiting.events() {
        let record = serde_json::to_string(&EventRecord::new(0, &event, fate)).map_err(io::Error::other)?;
        if lines.len() + record.len() >= feed::ANSWER_MAX {
            break;
        }
        lines.extend([&*record, "\n"]);
    }
    Ok(Answer::new(200, feed::LINES, lines))
}

/// What outboxes have still to send is counted in the history, not by the daemon's own thread.
fn count_pending(state_dir: &Path, status: &mut Status) {
    let Some(Ok(Some(history))) = (!status.outboxes.is_empty()).then(|| History::open(state_dir)) else {
        return;
    };
    for outbox in &mut status.outboxes {
        let counted = outbox.progress.as_deref();
        let counted =
            counted.and_then(|(settings, progress)| history.outbox_pending(settings, progress).ok());
        outbox.pending = counted;
    }
}

/// Asks the owner of the state.
fn ask<T>(
    owner: &(impl Backend + ?Sized),
    question: impl FnOnce(Sender<T>) -> Question,
) -> io::Result<Receiver<T>> {
    let (sender, receiver) = bounded(1);
    let is_asked = owner.ask(question(sender));
    if is_asked { Ok(receiver) } else { Err(io::Error::other("the daemon is ending")) }
}

fn changes(sources: &Sources, request: &Request, stream: &UnixStream) -> Result<Reply, Problem> {
    let since = Parameters::of(request, &["since"])?.number("since")?.unwrap_or(0);
    let _place = sources.place_for(stream, CHANGE_WAIT)?;
    let listener = sources.bell.listen(Topic::History)?;
    let until = Instant::now() + CHANGE_WAIT;
    if sources.bell.changes() <= since && listener.ear().wait_for(stream, until)? == Heard::Gone {
        return Ok(Reply::Written);
    }
    Ok(Answer::new(200, "application/json", format!("{}\n", sources.bell.changes())).into())
}

/// Asks the daemon whose run directory this is.
///
/// # Errors
/// When no daemon answers, or it says no.
pub fn get(run_dir: &Path, target: &str) -> io::Result<Vec<u8>> {
    let response = request(run_dir, "GET", target)?;
    match response.status {
        200 => Ok(response.body),
        _ => Err(io::Error::other(detail(&response.body))),
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

/// What a problem says.
pub fn detail(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = String::from_utf8_lossy(body);
    problem["detail"].as_str().unwrap_or(text.trim()).to_owned()
}
