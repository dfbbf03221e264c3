//! What decides. Given versions of job files, ends of processes and the time, it says what
//! happened and what is to be done. It knows no file, process, clock, thread or database.

pub mod deliveries;
pub mod effect;
pub mod environment;
pub mod input;
pub mod ledger;
pub mod numbers;
pub mod outcome;
pub mod replay;
pub mod settings;
pub mod status;
pub mod tracker;
pub mod transitions;
pub mod views;

use std::time::Duration;

use effect::Effect;
use input::{Input, Now};
use ledger::Remembered;
use settings::Settings;
use status::Status;

/// What this node is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Events are delivered.
    Master,
    /// Events are noticed, and delivered only if this node becomes master soon.
    Standby,
}

/// Everything that decides, in one value.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// An engine that goes on from what an earlier one left.
    pub fn new(settings: Settings, node: String, remembered: Remembered, now: Now) -> Self {
        let _ = (settings, node, remembered, now);
        Self {}
    }

    /// Takes what happened; says what is to be done, in order.
    pub fn take(&mut self, now: Now, input: Input<'_>) -> Vec<Effect> {
        let _ = (now, input);
        Vec::new()
    }

    /// When `Input::Quiet` is to be given even though nothing happened, by the steady clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        None
    }

    /// There is more to do at once: give `Input::Quiet` again without waiting.
    pub fn has_more(&self) -> bool {
        false
    }

    /// The daemon may end.
    pub fn is_done(&self) -> bool {
        false
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        Role::Standby
    }

    /// How things are.
    pub fn status(&self, now: Now) -> Status {
        let _ = now;
        Status::default()
    }
}
