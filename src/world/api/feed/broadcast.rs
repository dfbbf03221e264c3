//! What is new in the feed, read once and encoded once for all who have read it to its end.
//!
//! Whoever has nothing left to read in the journal follows: from then on the thread of the broadcast
//! writes to its connection, as far as that takes it at once, and hands it back to its own thread where
//! it does not, or where there is trouble. That one then reads the journal by itself again, at its own
//! pace, and so nobody waits for a reader who is slow. One follower is served after the other, with
//! a pause between: a hook that is due meanwhile finds a processor. The thread is there only while
//! somebody follows, and sleeps until the bell rings.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::{ANSWER_MAX, RETRY, heartbeat, open};
use crate::world::api::bell::{Bell, STEP, Topic};
use crate::world::api::ear::{Ear, Heard};
use crate::world::api::parameters::OUTPUT_MAX;
use crate::world::api::problem::Problem;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::journal::{Cursor, FeedAnswer, Filter, History, Told};
use crate::world::panics::caught;

/// The most that is read at once.
const PAGE_LINES: u32 = 256;

/// The most open journals that are kept for whoever reads next, while somebody follows.
const SPARE_MAX: usize = 4;

/// A line of the feed and its end.
type Line = Arc<[u8]>;

fn line(text: String) -> Line {
    (text + "\n").into_bytes().into()
}

/// Serves those who follow the feed's end.
#[derive(Debug)]
pub struct Broadcast {
    state_dir: PathBuf,
    bell: Arc<Bell>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What has been told: all who follow have read as far as this, or further.
    told: Option<Cursor>,
    /// Open journals that nobody reads just now: to open one takes longer than to read what is new.
    spare: Vec<History>,
    followers: BTreeMap<u64, Follower>,
    next: u64,
    /// Where the thread hears, while there is one.
    is_running: bool,
    ear: Option<Arc<Ear>>,
}

/// How somebody is told.
#[derive(Debug)]
pub enum Way {
    /// The lines are written to this connection, and a heartbeat after them.
    Stream(Arc<UnixStream>),
    /// The first lines, at most so many, end it.
    Page(u32),
}

#[derive(Debug)]
struct Follower {
    at: Cursor,
    filter: Filter,
    way: Way,
    /// When it was told something.
    told: Instant,
    /// It is its own thread's again.
    back: Option<Rest>,
    ear: Arc<Ear>,
}

/// Lines that are left to be written.
#[derive(Debug, Default)]
pub struct Rest {
    lines: Vec<Line>,
    /// So many bytes of the first are written.
    begin: usize,
}

impl Rest {
    /// What is left.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().enumerate().map(|(at, line)| &line[if at == 0 { self.begin } else { 0 }..])
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Passes over what has been written.
    fn advance(&mut self, mut written: usize) {
        let whole = self.lines.iter().take_while(|line| {
            let is_written = line.len() <= written;
            written -= if is_written { line.len() } else { 0 };
            is_written
        });
        let whole = whole.count();
        self.lines.drain(..whole);
        self.begin = written;
    }
}

/// Somebody who follows, until dropped.
#[derive(Debug)]
pub struct Following<'b> {
    broadcast: &'b Broadcast,
    number: u64,
    begin: Cursor,
    ear: Arc<Ear>,
}

/// Where somebody is who does not follow any more.
#[derive(Debug)]
pub struct Left {
    /// All up to there has been told, or is in `back`.
    pub at: Cursor,
    /// What is still to be written, where it was handed back; nothing, where it is only to read on.
    pub back: Option<Rest>,
}

/// A piece of the feed.
struct Page {
    records: Vec<(Cursor, Told, Line)>,
    /// Those of its lines that somebody wants with less output, by their place and bytes of output.
    shorter: RefCell<BTreeMap<(usize, usize), Line>>,
    heartbeat: Line,
    next: Cursor,
    is_end: bool,
}

impl Page {
    /// Those of its lines that somebody wants who is at this place.
    fn lines(&self, at: Cursor, filter: &Filter) -> Vec<(Cursor, Line)> {
        let is_wanted = |told: &Told| match told {
            Told::Event(event) => filter.wants(event),
            Told::Notice(_) => true,
        };
        let new = self.records.iter().enumerate().filter(|(_, (after_it, ..))| *after_it > at);
        let wanted = new.filter(|(_, (_, told, _))| is_wanted(told));
        wanted.map(|(place, (after_it, ..))| (*after_it, self.line(place, filter.output))).collect()
    }

    /// A line with at most so many bytes of output.
    fn line(&self, place: usize, output: Option<usize>) -> Line {
        match (&self.records[place], output) {
            ((_, Told::Event(event), _), Some(most)) if most < OUTPUT_MAX => {
                let mut shorter = self.shorter.borrow_mut();
                let shorten = || line(event.with_output(most).to_json());
                Arc::clone(shorter.entry((place, most)).or_insert_with(shorten))
            }
            ((.., line), _) => Arc::clone(line),
        }
    }
}

impl Follower {
    fn is_due(&self, page: &Page) -> bool {
        self.back.is_none() && self.at < page.next
    }

    /// Takes what it wants of a page. Returns whether there is something.
    fn take(&mut self, page: &Page) -> bool {
        let mut lines = page.lines(self.at, &self.filter);
        self.at = page.next;
        let Some(last) = lines.last().map(|(after_it, _)| *after_it) else { return false };
        match self.way {
            Way::Page(limit) => {
                lines.truncate(limit as usize);
                // What is left over comes with the next page that it asks for.
                let is_cut = lines.last().filter(|(after_it, _)| *after_it < last);
                self.at = is_cut.map_or(page.next, |(after_it, _)| *after_it);
                let lines = lines.into_iter().map(|(_, line)| line).collect();
                self.hand_back(Rest { lines, begin: 0 });
            }
            Way::Stream(_) => {
                let lines = lines.into_iter().map(|(_, line)| line);
                self.send(lines.chain([Arc::clone(&page.heartbeat)]).collect());
            }
        }
        true
    }

    /// Sends lines to a stream, as far as it takes them at once.
    fn send(&mut self, lines: Vec<Line>) {
        let Way::Stream(stream) = &self.way else { return };
        self.told = Instant::now();
        if let Some(rest) = write_now(stream, Rest { lines, begin: 0 }) {
            self.hand_back(rest);
        }
    }

    /// Has its own thread serve it again, which has this to write.
    fn hand_back(&mut self, rest: Rest) {
        self.back = Some(rest);
        self.ear.ring();
    }
}

/// Writes as much as the connection takes at once; what is left, if so.
fn write_now(stream: &UnixStream, mut rest: Rest) -> Option<Rest> {
    let pieces: Vec<IoSlice<'_>> = rest.pieces().map(IoSlice::new).collect();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    // What is wrong with it its own thread meets, too.
    let written = sendmsg(stream, &pieces, &mut SendAncillaryBuffer::default(), flags).unwrap_or(0);
    rest.advance(written);
    (!rest.is_empty()).then_some(rest)
}

impl Broadcast {
    /// Nobody follows yet.
    pub fn new(state_dir: PathBuf, bell: Arc<Bell>) -> Self {
        Self { state_dir, bell, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open journal: the one that there is now, another one may have been put in its place.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn journal(&self) -> Result<History, Problem> {
        let spare = self.state().spare.pop().filter(|journal| !journal.is_gone());
        spare.map_or_else(|| open(&self.state_dir), Ok)
    }

    /// Takes an open journal back.
    pub fn give_back(&self, journal: History) {
        let mut state = self.state();
        if state.is_running && state.spare.len() < SPARE_MAX {
            state.spare.push(journal);
        }
    }

    /// Somebody who has read all up to `at` follows. `None` where there is more to be read.
    ///
    /// # Errors
    /// When the system has nothing left for it.
    pub fn follow(
        self: &Arc<Self>,
        at: Cursor,
        filter: &Filter,
        way: Way,
    ) -> io::Result<Option<Following<'_>>> {
        let ear = Arc::new(Ear::new()?);
        let mut state = self.state();
        if !state.takes_in(at) {
            return Ok(None);
        }
        if !state.is_running {
            let broadcast = Arc::clone(self);
            thread::Builder::new().name("api-feed".to_owned()).spawn(move || broadcast.run())?;
            state.is_running = true;
        }
        let number = state.next;
        state.next += 1;
        let told = Instant::now();
        let follower = Follower { at, filter: filter.clone(), way, told, back: None, ear: Arc::clone(&ear) };
        state.followers.insert(number, follower);
        Ok(Some(Following { broadcast: self, number, begin: at, ear }))
    }

    /// Tells those who follow, for as long as there are any.
    fn run(&self) {
        while !self.is_over() {
            let told = caught(|| self.tell_on()).unwrap_or_else(|what| Err(io::Error::other(what)));
            if let Err(error) = told {
                static FLOW: Flow = Flow::new();
                FLOW.warn(format_args!("readers of the feed have to read the journal themselves: {error}"));
                // It may pass; do not spin until it does.
                thread::sleep(RETRY);
                self.state().hand_back();
            }
        }
    }

    /// Reads and tells after each ring, until nobody follows.
    fn tell_on(&self) -> io::Result<()> {
        let listener = self.bell.listen(Topic::History)?;
        self.state().ear = Some(Arc::clone(listener.ear()));
        loop {
            listener.ear().forget();
            failpoints::defect("api-feed");
            while let Some(told) = self.told() {
                let is_end = match self.read(told)? {
                    Some(page) => self.tell(&page),
                    None => {
                        // What has been lost each of them finds for itself.
                        self.state().hand_back();
                        true
                    }
                };
                if is_end {
                    break;
                }
            }
            if self.state().followers.is_empty() {
                return Ok(());
            }
            listener.ear().wait(None)?;
        }
    }

    /// Whether nobody follows, and the thread is to end.
    fn is_over(&self) -> bool {
        let mut state = self.state();
        let is_over = state.followers.is_empty();
        if is_over {
            let State { next, .. } = *state;
            *state = State { next, ..State::default() };
        }
        is_over
    }

    /// Where to go on; `None` when nobody follows.
    fn told(&self) -> Option<Cursor> {
        let state = self.state();
        state.told.filter(|_| !state.followers.is_empty())
    }

    /// What comes next; `None` when that place is lost.
    fn read(&self, after: Cursor) -> io::Result<Option<Page>> {
        let journal = self.journal().map_err(|problem| io::Error::other(problem.to_string()))?;
        let filter = Filter { limit: Some(PAGE_LINES), output: Some(OUTPUT_MAX), ..Filter::default() };
        let (mut records, mut size) = (Vec::new(), 0);
        let answer = journal.feed(Some(after), &filter, |after_it, told| {
            let line = line(told.to_json());
            let has_room = records.is_empty() || size + line.len() < ANSWER_MAX;
            if has_room {
                size += line.len();
                records.push((after_it, told, line));
            }
            has_room
        });
        let answer = answer.map_err(io::Error::other)?;
        self.give_back(journal);
        Ok(match answer {
            FeedAnswer::Lost(_) => None,
            FeedAnswer::Read { next, is_end } => {
                let heartbeat = line(heartbeat(next));
                Some(Page { records, shorter: RefCell::default(), heartbeat, next, is_end })
            }
        })
    }

    /// Tells a page to all who follow, also to whoever comes meanwhile. Returns whether it is the last.
    fn tell(&self, page: &Page) -> bool {
        let mut first = 0;
        loop {
            let mut state = self.state();
            let next = state.followers.range_mut(first..).find(|(_, follower)| follower.is_due(page));
            let Some((number, follower)) = next else {
                state.told = state.told.map(|told| if page.next > told { page.next } else { told });
                return page.is_end;
            };
            first = number + 1;
            let has_told = follower.take(page);
            drop(state);
            if has_told {
                thread::sleep(STEP);
            }
        }
    }
}

impl State {
    /// Whether somebody who has read all up to there can be told what comes.
    fn takes_in(&mut self, at: Cursor) -> bool {
        let told = self.told.filter(|_| !self.followers.is_empty());
        match told.map(|told| at.partial_cmp(&told)) {
            Some(Some(order)) => return order.is_ge(),
            // One of the two has another journal: each is to see which there is now.
            Some(None) => self.hand_back(),
            None => {}
        }
        self.told = Some(at);
        // It may be beyond this place already.
        if let Some(ear) = &self.ear {
            ear.ring();
        }
        true
    }

    /// All who follow are to read for themselves.
    fn hand_back(&mut self) {
        for follower in self.followers.values_mut().filter(|follower| follower.back.is_none()) {
            follower.hand_back(Rest::default());
        }
    }
}

impl Following<'_> {
    /// Waits until it is handed back, or was told nothing for so long, while somebody is at the
    /// other end of this connection.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn wait(&self, peer: &UnixStream, silence: Duration) -> io::Result<Heard> {
        loop {
            let told = self.broadcast.state().followers.get(&self.number).map(|follower| follower.told);
            let until = told.unwrap_or_else(Instant::now) + silence;
            match self.ear.wait_for(peer, until)? {
                Heard::Nothing if self.was_told_since(until - silence) => {}
                heard => return Ok(heard),
            }
        }
    }

    fn was_told_since(&self, then: Instant) -> bool {
        self.broadcast.state().followers.get(&self.number).is_some_and(|follower| follower.told > then)
    }

    /// Tells a stream where it is.
    pub fn beat(&self) {
        let mut state = self.broadcast.state();
        let follower = state.followers.get_mut(&self.number).filter(|follower| follower.back.is_none());
        if let Some(follower) = follower {
            follower.send(vec![line(heartbeat(follower.at))]);
        }
    }

    /// Follows no more.
    pub fn leave(self) -> Left {
        self.end().unwrap_or(Left { at: self.begin, back: Some(Rest::default()) })
    }

    fn end(&self) -> Option<Left> {
        let mut state = self.broadcast.state();
        let Follower { at, back, .. } = state.followers.remove(&self.number)?;
        if state.followers.is_empty()
            && let Some(ear) = &state.ear
        {
            ear.ring();
        }
        Some(Left { at, back })
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
