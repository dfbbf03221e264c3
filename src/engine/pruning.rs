//! When old history is forgotten (`history.keep`): at most once an hour, never for that alone,
//! and a little at a time.

use std::time::Duration;

use crate::ganeti::job::Timestamp;

/// Events that are forgotten in one commit.
pub const PER_COMMIT: u32 = 200;

/// How often history is forgotten, at most.
const EVERY: Duration = Duration::from_secs(3600);

/// What is forgotten now, and when next.
#[derive(Clone, Copy, Debug)]
pub struct Pruning {
    next: Duration,
    /// What is from before this is forgotten.
    before: Option<Timestamp>,
    /// There may be more of it.
    is_under_way: bool,
}

impl Pruning {
    /// The first time is at once.
    pub fn new(steady: Duration) -> Self {
        Self { next: steady, before: None, is_under_way: false }
    }

    /// Whether it is time to begin.
    pub fn is_due(&self, steady: Duration) -> bool {
        !self.is_under_way && steady >= self.next
    }

    /// Begins to forget events from before this time.
    pub fn begin(&mut self, before: Timestamp, steady: Duration) {
        (self.before, self.is_under_way) = (Some(before), true);
        self.next = steady + EVERY;
    }

    /// A piece was forgotten.
    pub fn forgot(&mut self, there_is_more: bool) {
        self.is_under_way &= there_is_more;
    }

    /// Events from before this are being forgotten.
    pub fn before(&self) -> Option<Timestamp> {
        self.before.filter(|_| self.is_under_way)
    }

    /// Whether something is being forgotten.
    pub fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Whether what was seen at this time last is forgotten.
    pub fn has_forgotten(&self, seen: Timestamp) -> bool {
        Some(seen) < self.before
    }
}
