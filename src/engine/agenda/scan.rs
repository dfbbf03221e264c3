//! One scan after the other: the queue is listed, and then what was known is compared with the list,
//! a piece at a time.
//!
//! Promise: a scan is over when all has been compared, not before, and until then no other begins: which
//! files were listed is known by the scan's number. One that is wanted meanwhile comes after it.

use std::time::Duration;

use super::walk::Walk;
use crate::engine::retry;
use crate::ganeti::job::JobId;

/// The scan that is under way, or is wanted.
#[derive(Debug, Default)]
pub struct Scan {
    stage: Stage,
    /// Hints were lost while it was under way.
    again: bool,
    number: u64,
}

/// How far a scan is.
#[derive(Debug, Default)]
enum Stage {
    /// None is wanted.
    #[default]
    None,
    /// One is to begin.
    Wanted,
    /// One has failed; the next is to begin at this time.
    After(Duration),
    /// The queue is being listed.
    Listing,
    /// What was known is compared with what was listed; this is left.
    Comparing(Walk),
}

impl Scan {
    /// The whole queue is to be compared.
    pub fn want(&mut self) {
        match self.stage {
            Stage::Listing | Stage::Comparing(_) => self.again = true,
            Stage::None | Stage::Wanted => self.stage = Stage::Wanted,
            // It has its clock.
            Stage::After(_) => {}
        }
    }

    /// The number of the scan that is to begin now.
    pub fn begin(&mut self, steady: Duration) -> Option<u64> {
        let is_due = match self.stage {
            Stage::Wanted => true,
            Stage::After(time) => time <= steady,
            _ => false,
        };
        if !is_due {
            return None;
        }
        self.stage = Stage::Listing;
        self.number += 1;
        Some(self.number)
    }

    /// Whether the queue is being listed by it.
    pub fn is_listing(&self) -> bool {
        matches!(self.stage, Stage::Listing)
    }

    /// Which one is under way, or was the last.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The queue has been listed. No job with a higher number is known.
    pub fn is_listed(&mut self, last: JobId) {
        self.stage = Stage::Comparing(Walk::to(last));
    }

    /// The queue could not be listed to its end.
    pub fn fails(&mut self, steady: Duration) {
        self.again = false;
        self.stage = Stage::After(steady + retry::LOOK);
    }

    /// What is still to be compared of what was known.
    pub fn left(&self) -> Option<&Walk> {
        match &self.stage {
            Stage::Comparing(walk) => Some(walk),
            _ => None,
        }
    }

    /// What was known has been compared up to this number, or to its end. Returns whether the scan is
    /// over.
    pub fn has_compared(&mut self, to: Option<JobId>) -> bool {
        let Stage::Comparing(walk) = &self.stage else { return false };
        let left = to.and_then(|id| walk.after(id));
        let is_over = left.is_none();
        self.stage = match left {
            Some(walk) => Stage::Comparing(walk),
            None if std::mem::take(&mut self.again) => Stage::Wanted,
            None => Stage::None,
        };
        is_over
    }

    /// Whether none is under way, and none is wanted.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::None)
    }

    /// Whether one is to begin at once.
    pub fn is_wanted(&self) -> bool {
        matches!(self.stage, Stage::Wanted)
    }

    /// When one is to be tried again that has failed.
    pub fn deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::After(time) => Some(time),
            _ => None,
        }
    }
}
