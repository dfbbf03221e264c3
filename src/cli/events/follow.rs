//! `ganeti-hookd events --follow`: reads the feed on, change by change.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::Printer;
use crate::cli::times::Zone;
use crate::cli::{Failure, failed};
use crate::engine::change::{EventState, Notice};
use crate::engine::settings::Settings;
use crate::ganeti::job::Timestamp;
use crate::ganeti::text::plain;
use crate::world::api;
use crate::world::journal::{Cursor, FeedAnswer, Filter, History, JournalError, Lost, Told};

/// Bytes of a notice that are shown.
const NOTICE_MAX: usize = 1024;

/// How long it takes to look again while no daemon runs.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who follows the feed, and how far it has come.
pub struct Follower<'a> {
    filter: Filter,
    zone: Zone,
    printer: Printer<'a>,
    place: Option<Cursor>,
    /// Why the history could not be read the last time.
    trouble: String,
}

impl<'a> Follower<'a> {
    /// One that begins with the oldest event that there is.
    pub fn new(filter: Filter, zone: Zone, printer: Printer<'a>) -> Self {
        Self { filter, zone, printer, place: None, trouble: String::new() }
    }

    /// Prints what there is, and what comes, until nobody reads it any more.
    pub fn follow(mut self, settings: &Settings, history: History) -> Result<(), Failure> {
        let mut history = Some(history);
        let mut state = 0;
        loop {
            // The daemon puts another journal in the place of a damaged one.
            if history.as_ref().is_none_or(History::is_gone) {
                history = self.open(&settings.paths.state_dir);
            }
            if let Some(history) = &history {
                self.read_on(history)?;
            }
            state = await_change(settings, state)?;
        }
    }

    /// Prints what has come to its end since the last time.
    fn read_on(&mut self, history: &History) -> Result<(), Failure> {
        loop {
            let Self { filter, zone, printer, place, .. } = self;
            let mut result = Ok(());
            let answer = history.feed(*place, filter, |_, told| {
                result = print(printer, *zone, &told);
                result.is_ok()
            });
            result?;
            printer.flush()?;
            match answer {
                Ok(FeedAnswer::Read { next, .. }) => {
                    self.place = Some(next);
                    self.trouble.clear();
                    return Ok(());
                }
                Ok(FeedAnswer::Lost(Lost { why, oldest })) => {
                    self.place = Some(oldest);
                    say(&format!("events are missing here: {why}; what there still is follows"));
                }
                Err(error) => {
                    self.cannot_read(&error);
                    return Ok(());
                }
            }
        }
    }

    fn open(&mut self, state_dir: &Path) -> Option<History> {
        History::open(state_dir).unwrap_or_else(|error| {
            self.cannot_read(&error);
            None
        })
    }

    /// Says once that the history cannot be read, which may be over soon.
    fn cannot_read(&mut self, error: &JournalError) {
        let trouble = error.to_string();
        if self.trouble != trouble {
            say(&format!("it is tried again: {trouble}"));
            self.trouble = trouble;
        }
    }
}

/// Prints what the feed tells, unless that is not over yet.
fn print(printer: &mut Printer<'_>, zone: Zone, told: &Told) -> io::Result<()> {
    match (told, printer) {
        (Told::Event(event), _) if event.state == EventState::Pending.as_str() => Ok(()),
        (Told::Event(event), printer) => printer.event(event),
        (Told::Notice(notice), Printer::Json) => writeln!(io::stdout().lock(), "{notice}"),
        (Told::Notice(notice), printer) => {
            printer.flush()?;
            say(&in_words(notice, zone));
            Ok(())
        }
    }
}

/// A line that is none of the table's.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "# {}", plain(text, NOTICE_MAX));
}

fn in_words(notice: &str, zone: Zone) -> String {
    let show = |seconds: f64| zone.show(Timestamp::from_micros((seconds * 1e6).round() as i64));
    match serde_json::from_str(notice) {
        Ok(Notice::Takeover { time, node }) => format!("{} {node} has become master", show(time)),
        Ok(Notice::Gap { time, since }) => {
            let since =
                since.map_or_else(|| "for a while".to_owned(), |since| format!("since {}", show(since)));
            format!("{} nobody has watched the queue {since}; what was found comes late", show(time))
        }
        Err(_) => notice.to_owned(),
    }
}

/// Waits until the history changes; while no daemon runs, looks again now and then.
pub fn await_change(settings: &Settings, state: u64) -> Result<u64, Failure> {
    match api::get(&settings.paths.run_dir, &format!("/v1/changes?since={state}")) {
        Ok(answer) => Ok(String::from_utf8_lossy(&answer).trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(failed(format!(
            "{}: {error}; only root and the daemon's user may follow",
            settings.paths.run_dir.join(api::SOCKET).display()
        ))),
        Err(_) => {
            std::thread::sleep(INTERVAL);
            Ok(0)
        }
    }
}
