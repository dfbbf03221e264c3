//! How far the daemon is in its life: started, ready, stopping.

use std::time::Duration;

/// So many of the jobs that a scan has found are looked at before the daemon says that it is
/// ready, if there are as many.
const LOOKS_BEFORE_READY: usize = 1024;

/// How long scripts may go on after SIGTERM before they are ended.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    has_started: bool,
    is_ready: bool,
    /// Jobs that a scan had found and that were looked at before the daemon was ready.
    looks: usize,
    /// When scripts are ended that still run.
    stopping: Option<Duration>,
}

impl Life {
    /// Starts. Returns whether that is new.
    pub fn start(&mut self) -> bool {
        !std::mem::replace(&mut self.has_started, true)
    }

    /// Whether it has said that it is ready.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Is ready, unless it was. Returns whether that is new.
    pub fn become_ready(&mut self) -> bool {
        !std::mem::replace(&mut self.is_ready, true)
    }

    /// A job that a scan had found is looked at.
    pub fn look(&mut self) {
        self.looks += usize::from(!self.is_ready);
    }

    /// Whether so many have been looked at that the others need not be waited for.
    pub fn has_looked_enough(&self) -> bool {
        self.looks >= LOOKS_BEFORE_READY
    }

    /// Begins to stop. Returns whether that is new.
    pub fn stop(&mut self, steady: Duration) -> bool {
        let is_new = self.stopping.is_none();
        self.stopping.get_or_insert(steady + STOP_PATIENCE);
        is_new
    }

    /// Whether it stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether scripts that still run are to be ended now, once more should they not end.
    pub fn must_end_runs(&mut self, steady: Duration) -> bool {
        let due = self.stopping.is_some_and(|time| time <= steady);
        if due {
            self.stopping = Some(steady + STOP_PATIENCE);
        }
        due
    }

    /// When scripts are ended that still run.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.stopping
    }
}
