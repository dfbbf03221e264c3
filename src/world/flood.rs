//! Lines of the log that may come a thousand times a second: the first ones are said, then one
//! every ten seconds with a count ([`Flood`]). Each place that says such lines has a [`Flow`].

use std::sync::{Mutex, PoisonError};

use crate::engine::flood::Flood;
use crate::ganeti::text::plain;
use crate::world::clock;

/// Bytes of a line, which may quote what is not ours.
const LINE_MAX: usize = 4096;

/// The lines of one place.
#[derive(Debug)]
pub struct Flow(Mutex<Flood>);

impl Flow {
    /// Nothing has come.
    #[expect(clippy::new_without_default, reason = "it stands in a static")]
    pub const fn new() -> Self {
        Self(Mutex::new(Flood::new()))
    }

    /// Warns of something, unless that has been done too often. What was not said is said with
    /// a later line.
    pub fn warn(&self, line: impl ToString) {
        self.say(log::Level::Warn, line);
    }

    /// The same for what is worse.
    pub fn error(&self, line: impl ToString) {
        self.say(log::Level::Error, line);
    }

    fn say(&self, level: log::Level, line: impl ToString) {
        let lines = {
            let mut flood = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            flood.comes(clock::steady(), plain(&line.to_string(), LINE_MAX))
        };
        lines.iter().for_each(|line| log::log!(level, "{line}"));
    }
}
