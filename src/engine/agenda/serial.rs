//! Looking for the last job number that was given out, when it is not there.

use std::time::Duration;

use crate::engine::retry;

/// How often a serial that is not there any more is looked for: it may have gone with its
/// cluster.
const TRIES: u32 = 60;

/// Whether the serial is missing, and when it is looked for again.
#[derive(Debug, Default)]
pub struct Serial {
    at: Option<Duration>,
    tries: u32,
    /// The last that was asked for was not there.
    is_lacking: bool,
}

impl Serial {
    /// It cannot be read. If it was known before it is looked for again.
    pub fn is_missing(&mut self, steady: Duration, was_known: bool) {
        self.is_lacking = true;
        if was_known && self.tries < TRIES {
            self.tries += 1;
            self.at = Some(steady + retry::LOOK);
        }
    }

    /// What was read of it does not tell: once it is known, what is missing is looked for.
    pub fn lacks(&mut self) {
        self.is_lacking = true;
    }

    /// It is known. Returns whether it was missing before.
    pub fn is_known(&mut self) -> bool {
        std::mem::take(self).is_lacking
    }

    /// Whether it is to be read now.
    pub fn is_due(&mut self, steady: Duration) -> bool {
        self.at.take_if(|time| *time <= steady).is_some()
    }

    /// When it is looked for again.
    pub fn deadline(&self) -> Option<Duration> {
        self.at
    }
}
