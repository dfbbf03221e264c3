//! `GET /v1/events`: the feed, as pages or as a stream.
//!
//! Nothing is being read while a line is written: a reader who is slow, or stands still, costs
//! this connection's thread and nothing else. In a stream one that takes nothing for
//! [`STREAM_PATIENCE`] is left. Whoever has read to the end is told what is new by the
//! [`broadcast`].

pub(super) mod broadcast;

use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use self::broadcast::{Broadcast, Left, Way};
use super::ear::Heard;
use super::parameters::FeedQuestion;
use super::problem::Problem;
use super::{Reply, Sources};
use crate::world::clock;
use crate::world::http::{Answer, Request};
use crate::world::journal::{Cursor, FeedAnswer, Filter, History, Lost, Told};

/// The header that says where to go on.
pub const CURSOR: &str = "Ganeti-Hookd-Cursor";

/// The most bytes of one answer; the rest is for the next question. An event that is larger by
/// itself comes alone.
pub(super) const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// How long a stream is silent at most.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How long a reader of a stream may take nothing; twice that where it has taken a part of what is
/// being written.
const STREAM_PATIENCE: Duration = Duration::from_secs(30);

/// How often it is tried to read a journal that cannot be read, and how long lies between that.
const TRIES: u32 = 5;
const RETRY: Duration = Duration::from_millis(50);

/// Bytes of a stream that are written at once.
const LINES_BUFFER: usize = 64 * 1024;

/// What the feed's answers are.
pub(super) const LINES: &str = "application/jsonl";

/// A reader and its place.
struct Reader<'a> {
    broadcast: &'a Arc<Broadcast>,
    stream: &'a Arc<UnixStream>,
    /// Not there while the broadcast reads for it.
    history: Option<History>,
    filter: Filter,
}

/// A piece of the feed: lines, and where to go on after them.
type Page = (Vec<u8>, Cursor);

/// Answers a question of the feed.
///
/// # Errors
/// What is wrong with it, or that its place is lost.
pub fn answer(sources: &Sources, request: &Request, stream: &Arc<UnixStream>) -> Result<Reply, Problem> {
    let FeedQuestion { after, filter, is_stream, wait } = FeedQuestion::of(request)?;
    let _place = sources.place_for(stream, if is_stream { Duration::MAX } else { wait })?;
    let mut reader = Reader { broadcast: &sources.broadcast, stream, history: None, filter };
    if is_stream { reader.stream(after) } else { reader.page(after, wait) }
}

/// What cannot be read just now may be a journal that is being put in the place of another one: that
/// is over in a moment.
fn insist<T>(mut read: impl FnMut() -> Result<T, Problem>) -> Result<T, Problem> {
    for _ in 1..TRIES {
        match read() {
            Err(problem) if problem.is_ours() => thread::sleep(RETRY),
            other => return other,
        }
    }
    read()
}

fn open(state_dir: &Path) -> Result<History, Problem> {
    match History::open(state_dir) {
        Ok(Some(history)) => Ok(history),
        Ok(None) => Err(Problem::new(503, "there is no journal yet")),
        Err(error) => Err(Problem::new(500, error)),
    }
}

fn lost(lost: &Lost) -> Problem {
    let detail = format!("the feed cannot go on after this cursor: {}", lost.why);
    Problem::new(410, detail).with("oldest", lost.oldest.to_string())
}

impl Reader<'_> {
    /// The journal that there is now: another one may have been put in its place.
    fn history(&mut self) -> Result<&History, Problem> {
        let history = self.history.take().filter(|history| !history.is_gone());
        let history = history.map_or_else(|| self.broadcast.journal(), Ok)?;
        Ok(self.history.insert(history))
    }

    /// Leaves the journal to others.
    fn rest(&mut self) {
        if let Some(history) = self.history.take() {
            self.broadcast.give_back(history);
        }
    }

    /// Reads, from the journal that there is now.
    fn insist<T>(&mut self, read: impl Fn(&History, &Filter) -> Result<T, Problem>) -> Result<T, Problem> {
        insist(|| {
            let filter = self.filter.clone();
            let result = read(self.history()?, &filter);
            // Whatever could not be read, it may be another one now.
            self.history = self.history.take().filter(|_| result.is_ok());
            result
        })
    }

    /// One answer, as soon as there is something wanted, or after the wait.
    fn page(&mut self, mut after: Option<Cursor>, wait: Duration) -> Result<Reply, Problem> {
        let until = Instant::now() + wait;
        loop {
            let (lines, next) = self.insist(|history, filter| read_page(history, after, filter))?;
            if !lines.is_empty() || Instant::now() >= until {
                return Ok(page((lines, next)));
            }
            match self.await_page(next, until)? {
                Some(Awaited::Page(told)) => return Ok(page(told)),
                Some(Awaited::ReadOn(next)) => after = Some(next),
                None => return Ok(Reply::Written),
            }
        }
    }

    /// Waits for what comes after this place; `None` when the reader has gone.
    fn await_page(&mut self, at: Cursor, until: Instant) -> io::Result<Option<Awaited>> {
        let way = Way::Page(self.filter.limit.unwrap_or(u32::MAX));
        let broadcast = self.broadcast;
        let following = broadcast.follow(at, &self.filter, way)?;
        let Some(following) = following else { return Ok(Some(Awaited::ReadOn(at))) };
        self.rest();
        let heard = following.wait(self.stream, until.saturating_duration_since(Instant::now()))?;
        let Left { at, back } = following.leave();
        Ok(match (heard, back) {
            (Heard::Gone, _) => None,
            (_, None) => Some(Awaited::Page((Vec::new(), at))),
            (_, Some(rest)) if rest.is_empty() => Some(Awaited::ReadOn(at)),
            (_, Some(rest)) => Some(Awaited::Page((rest.pieces().flatten().copied().collect(), at))),
        })
    }

    /// Lines as they come, until the reader goes.
    fn stream(&mut self, after: Option<Cursor>) -> Result<Reply, Problem> {
        let begin = self.insist(|history, _| {
            let place = history.place(after).map_err(io::Error::other)?;
            place.map_err(|place| lost(&place))
        })?;
        self.stream.set_write_timeout(Some(STREAM_PATIENCE))?;
        // From here on it is too late for another answer.
        let head = Answer::new(200, LINES, "").with(CURSOR, begin);
        if let Err(error) = head.write_head(&**self.stream).and_then(|()| self.tell_on(begin)) {
            log::debug!("a stream of the feed ends: {error}");
        }
        Ok(Reply::Written)
    }

    /// Tells what comes after this place, for as long as somebody reads it.
    fn tell_on(&mut self, begin: Cursor) -> io::Result<()> {
        let (mut at, mut due) = (begin, Instant::now() + HEARTBEAT);
        loop {
            let (has_told, answer) = self.tell(at)?;
            let is_end = match answer {
                FeedAnswer::Read { next, is_end } => {
                    at = next;
                    is_end
                }
                FeedAnswer::Lost(place) => return self.write(&gap(&place)),
            };
            if has_told || Instant::now() >= due {
                self.write(&heartbeat(at))?;
                due = Instant::now() + HEARTBEAT;
            }
            if is_end {
                match self.follow(at)? {
                    Some(next) => at = next,
                    None => return Ok(()),
                }
                due = Instant::now() + HEARTBEAT;
            }
        }
    }

    /// Has the broadcast tell what comes after this place. Returns where to read on; `None` when the
    /// reader has gone.
    fn follow(&mut self, at: Cursor) -> io::Result<Option<Cursor>> {
        let way = Way::Stream(Arc::clone(self.stream));
        let broadcast = self.broadcast;
        let following = broadcast.follow(at, &self.filter, way)?;
        let Some(following) = following else { return Ok(Some(at)) };
        self.rest();
        loop {
            match following.wait(self.stream, HEARTBEAT)? {
                Heard::Gone => return Ok(None),
                Heard::Nothing => following.beat(),
                Heard::Ring => break,
            }
        }
        let Left { at, back } = following.leave();
        let rest = back.unwrap_or_default();
        rest.pieces().try_for_each(|piece| (&**self.stream).write_all(piece))?;
        Ok(Some(at))
    }

    /// Writes one line.
    fn write(&self, line: &str) -> io::Result<()> {
        (&**self.stream).write_all(format!("{line}\n").as_bytes())
    }

    /// Writes the next lines. Returns whether there are any, and where they end.
    fn tell(&mut self, after: Cursor) -> io::Result<(bool, FeedAnswer)> {
        self.history().map_err(|problem| io::Error::other(problem.to_string()))?;
        let Some(history) = &self.history else { return Err(io::ErrorKind::NotFound.into()) };
        let mut lines = BufWriter::with_capacity(LINES_BUFFER, &**self.stream);
        let (mut has_told, mut result) = (false, Ok(()));
        let write = |_, told: Told| {
            result = writeln!(lines, "{}", told.to_json());
            has_told = true;
            result.is_ok()
        };
        let answer = history.feed(Some(after), &self.filter, write).map_err(io::Error::other)?;
        let result = result.and_then(|()| lines.flush());
        // What is left in it is not tried once more.
        drop(lines.into_parts());
        result.map(|()| (has_told, answer))
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.rest();
    }
}

/// What comes of a wait for a page.
enum Awaited {
    /// It is there, or is empty after all that time.
    Page(Page),
    /// The journal is to be read after this place.
    ReadOn(Cursor),
}

fn page((lines, next): Page) -> Reply {
    Answer::new(200, LINES, lines).with(CURSOR, next).into()
}

/// What comes next as lines, and where to go on after them.
fn read_page(history: &History, after: Option<Cursor>, filter: &Filter) -> Result<Page, Problem> {
    let mut lines = Vec::new();
    let add = |_, told: Told| {
        let line = told.to_json();
        let has_room = lines.is_empty() || lines.len() + line.len() < ANSWER_MAX;
        if has_room {
            lines.extend_from_slice(line.as_bytes());
            lines.push(b'\n');
        }
        has_room
    };
    let answer = history.feed(after, filter, add);
    match answer.map_err(io::Error::other)? {
        FeedAnswer::Read { next, .. } => Ok((lines, next)),
        FeedAnswer::Lost(place) => Err(lost(&place)),
    }
}

/// Where a stream is.
fn heartbeat(at: Cursor) -> String {
    let time = clock::now().as_secs_f64();
    json!({"type": "heartbeat", "time": time, "cursor": at.to_string()}).to_string()
}

/// The last line of a stream that cannot go on.
fn gap(lost: &Lost) -> String {
    let time = clock::now().as_secs_f64();
    json!({"type": "gap", "lost": true, "time": time, "detail": lost.why, "oldest": lost.oldest.to_string()})
        .to_string()
}
