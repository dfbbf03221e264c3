//! The kernel's own stop: a process that is armed stands still in the rename by which it
//! publishes the next version of its job.

use ganeti_hookd::engine::effect::{Effect, Token};
use ganeti_hookd::engine::input::Input;

use super::World;
use crate::recipe::Fault;

/// Whether the kernel stops a process in its next rename.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arming {
    #[default]
    Not,
    /// It will.
    Armed(Token),
    /// It has, since when, and the process stands where it was stopped; one arming gives one stop.
    Stopped(Token, u64),
    /// It has, and somebody else let the process go on.
    Spent(Token),
}

impl Arming {
    /// Whose arming it is.
    pub fn token(self) -> Option<Token> {
        match self {
            Self::Not => None,
            Self::Armed(token) | Self::Stopped(token, _) | Self::Spent(token) => Some(token),
        }
    }

    /// Since when the process stands still by it.
    pub fn stands_since(self) -> Option<u64> {
        match self {
            Self::Stopped(_, since) => Some(since),
            _ => None,
        }
    }
}

impl World {
    /// `Effect::LoadKernelStop`.
    pub fn load_kernel_stop(&mut self) {
        let result = match self.fails(Fault::NoKernelStop, 1) {
            true => Err("the kernel is locked down".to_owned()),
            false => Ok("fentry".to_owned()),
        };
        self.kernel.stops = result.is_ok();
        let delay = self.dice.spread(500, 100_000);
        self.tell_later(delay, Input::KernelStop(result));
    }

    /// `Effect::Arm`: a process that was stopped by an earlier arming goes on.
    pub fn arm(&mut self, token: Token) -> Result<(), String> {
        let at = self.kernel.watched(token).filter(|at| self.kernel.processes[*at].alive);
        let at = at.ok_or_else(|| "its process is not known to be alive".to_owned())?;
        if !self.kernel.stops || self.fails(Fault::ArmFails, 3) {
            return Err("the kernel does not stop processes".to_owned());
        }
        if !self.kernel.guard {
            return Err("there is no guard".to_owned());
        }
        let process = &mut self.kernel.processes[at];
        if process.held.is_some() {
            return Err("it stands still".to_owned());
        }
        let before = std::mem::replace(&mut process.arming, Arming::Armed(token));
        process.armed_by = self.life;
        if before.stands_since().is_some() {
            self.steps_on(at);
        }
        Ok(())
    }

    /// `Effect::Disarm`.
    pub fn disarm(&mut self, token: Token) {
        let is_it = |p: &super::kernel::Process| p.arming.token() == Some(token) && p.armed_by == self.life;
        if let Some(at) = self.kernel.processes.iter().position(is_it) {
            let before = std::mem::take(&mut self.kernel.processes[at].arming);
            if before.stands_since().is_some() {
                self.steps_on(at);
            }
        }
    }

    /// A process has published a version, and is still in the rename.
    pub fn is_in_rename(&mut self, at: usize) {
        let now = self.now;
        let process = &mut self.kernel.processes[at];
        if let Arming::Armed(token) = process.arming
            && process.here
        {
            process.arming = Arming::Stopped(token, now);
            self.story.reach("a stop by the kernel");
            self.story.say(|| "  the kernel stops it in the rename".to_owned());
        }
    }

    /// A run that is to begin only while a process stands still, which does not.
    pub fn has_gone_on(&self, effect: &Effect) -> Option<Input<'static>> {
        let (run, seq, token) = match effect {
            Effect::Start(run) => (run.run, run.seq, run.while_stopped?),
            Effect::Ask(run) => (run.run, run.seq, run.while_stopped?),
            _ => return None,
        };
        let stands = self.kernel.processes.iter().any(|process| {
            let held = process.held.as_ref().filter(|held| held.life == self.life && held.token == token);
            process.alive && held.is_some_and(|held| held.landing.is_in_time())
        });
        (!stands).then_some(Input::GoneOn { run, seq })
    }
}
