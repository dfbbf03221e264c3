//! `GET /v1/events`: the feed, as pages or as a stream.
//!
//! Nothing is being read while a line is written: a reader who is slow, or stands still, costs
//! this connection's thread and nothing else. In a stream one that takes nothing for
//! [`STREAM_PATIENCE`] is left.

use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bell::{Heard, Listener, Topic};
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
const ANSWER_MAX: usize = 4 * 1024 * 1024;

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
const LINES: &str = "application/jsonl";

/// A reader and its place.
struct Reader<'a> {
    state_dir: &'a Path,
    history: History,
    after: Option<Cursor>,
    filter: Filter,
}

/// Answers a question of the feed.
///
/// # Errors
/// What is wrong with it, or that its place is lost.
pub fn answer(sources: &Sources, request: &Request, stream: &UnixStream) -> Result<Reply, Problem> {
    let FeedQuestion { after, filter, is_stream, wait } = FeedQuestion::of(request)?;
    let state_dir = sources.state_dir.as_path();
    let _place = sources.place_for(if is_stream { Duration::MAX } else { wait })?;
    let history = insist(|| open(state_dir))?;
    let reader = Reader { state_dir, history, after, filter };
    if is_stream { reader.stream(sources, stream) } else { reader.page(sources, stream, wait) }
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
    /// Reads the journal that there is now: another one may have been put in its place.
    fn look_again(&mut self) -> Result<(), Problem> {
        if self.history.is_gone() {
            self.history = open(self.state_dir)?;
        }
        Ok(())
    }

    /// Reads, from the journal that there is now.
    fn insist<T>(&mut self, read: impl Fn(&Self) -> Result<T, Problem>) -> Result<T, Problem> {
        let mut is_first = true;
        insist(|| {
            // Whatever could not be read, it may be another one now.
            if !std::mem::take(&mut is_first) {
                self.history = open(self.state_dir)?;
            }
            self.look_again()?;
            read(self)
        })
    }

    /// One answer, as soon as there is something wanted, or after the wait.
    fn page(mut self, sources: &Sources, stream: &UnixStream, wait: Duration) -> Result<Reply, Problem> {
        let until = Instant::now() + wait;
        let listener = sources.bell.listen(Topic::History)?;
        loop {
            listener.forget();
            let (lines, next) = self.insist(Self::read_page)?;
            self.after = Some(next);
            let is_over = !lines.is_empty() || Instant::now() >= until;
            if is_over {
                return Ok(Answer::new(200, LINES, lines).with(CURSOR, next).into());
            }
            if listener.wait(stream, until)? == Heard::Gone {
                return Ok(Reply::Written);
            }
        }
    }

    /// What comes next as lines, and where to go on after them.
    fn read_page(&self) -> Result<(Vec<u8>, Cursor), Problem> {
        let mut lines = Vec::new();
        let add = |told: &Told| {
            let line = told.to_json();
            let has_room = lines.is_empty() || lines.len() + line.len() < ANSWER_MAX;
            if has_room {
                lines.extend_from_slice(line.as_bytes());
                lines.push(b'\n');
            }
            has_room
        };
        let answer = self.history.feed(self.after, &self.filter, add);
        match answer.map_err(io::Error::other)? {
            FeedAnswer::Read { next, .. } => Ok((lines, next)),
            FeedAnswer::Lost(place) => Err(lost(&place)),
        }
    }

    /// Lines as they come, until the reader goes.
    fn stream(mut self, sources: &Sources, stream: &UnixStream) -> Result<Reply, Problem> {
        let listener = sources.bell.listen(Topic::History)?;
        let begin = self.insist(|reader| {
            let place = reader.history.place(reader.after).map_err(io::Error::other)?;
            place.map_err(|place| lost(&place))
        })?;
        stream.set_write_timeout(Some(STREAM_PATIENCE))?;
        // From here on it is too late for another answer.
        let head = Answer::new(200, LINES, "").with(CURSOR, begin);
        let mut lines = BufWriter::with_capacity(LINES_BUFFER, stream);
        if let Err(error) =
            head.write_head(&mut lines).and_then(|()| self.tell_on(begin, &listener, &mut lines))
        {
            log::debug!("a stream of the feed ends: {error}");
            // What is left in it is not tried once more.
            drop(lines.into_parts());
        }
        Ok(Reply::Written)
    }

    /// Tells what comes after this place, for as long as somebody reads it.
    fn tell_on(
        &mut self,
        begin: Cursor,
        listener: &Listener<'_>,
        lines: &mut BufWriter<&UnixStream>,
    ) -> io::Result<()> {
        let (mut at, mut due) = (begin, Instant::now() + HEARTBEAT);
        lines.flush()?;
        loop {
            listener.forget();
            self.look_again().map_err(|problem| io::Error::other(problem.to_string()))?;
            let (has_told, answer) = self.tell(at, lines)?;
            let is_end = match answer {
                FeedAnswer::Read { next, is_end } => {
                    at = next;
                    is_end
                }
                FeedAnswer::Lost(place) => {
                    writeln!(lines, "{}", gap(&place))?;
                    return lines.flush();
                }
            };
            if has_told || Instant::now() >= due {
                let time = clock::now().as_secs_f64();
                writeln!(lines, "{}", json!({"type": "heartbeat", "time": time, "cursor": at.to_string()}))?;
                lines.flush()?;
                due = Instant::now() + HEARTBEAT;
            }
            if is_end && listener.wait(lines.get_ref(), due)? == Heard::Gone {
                return Ok(());
            }
        }
    }

    /// Writes the next lines. Returns whether there are any, and where they end.
    fn tell(&self, after: Cursor, lines: &mut impl Write) -> io::Result<(bool, FeedAnswer)> {
        let (mut has_told, mut result) = (false, Ok(()));
        let write = |told: &Told| {
            result = writeln!(lines, "{}", told.to_json());
            has_told = true;
            result.is_ok()
        };
        let answer = self.history.feed(Some(after), &self.filter, write).map_err(io::Error::other)?;
        result.map(|()| (has_told, answer))
    }
}

/// The last line of a stream that cannot go on.
fn gap(lost: &Lost) -> Value {
    let time = clock::now().as_secs_f64();
    json!({"type": "gap", "lost": true, "time": time, "detail": lost.why, "oldest": lost.oldest.to_string()})
}
