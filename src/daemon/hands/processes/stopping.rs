//! Stopping processes by a signal, and letting go on whoever stands still.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::arming::{UNKNOWN, disarm, take_over};
use super::{Processes, State, Watched, forget, set_free};
use crate::engine::effect::Token;
use crate::engine::holds::VAIN_LIMIT;
use crate::engine::input::Landing;
use crate::ganeti::job::{JobId, Timestamp};
use crate::world::clock::steady;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::process::aside::step_aside;
use crate::world::process::guard::{Claim, Guard};
use crate::world::process::held_file::HeldFile;
use crate::world::process::hold::{self, Verified};
use crate::world::process::kernel_stop::{KernelStop, standing_in_rename};

/// Between two times that a process that goes on is let have the processor: more of them may wait to go on.
const BETWEEN: Duration = Duration::from_millis(1);

impl Processes {
    /// Takes a process over from the kernel for `limit` at most, or else, `by_signal`, stops it, if
    /// it proves to be the job's and was not stopped before. Tells where it was. `is_as_read` tells
    /// whether the job's file is the one that was read last; by that one its opcode began at `executed`.
    ///
    /// # Errors
    /// Why it was not stopped.
    pub fn stop(
        &mut self,
        token: Token,
        limit: Duration,
        executed: Timestamp,
        by_signal: bool,
        is_as_read: impl Fn() -> bool,
    ) -> Result<Landing, String> {
        let watched = self.watched.get_mut(&token).filter(|watched| watched.is_wanted).ok_or(UNKNOWN)?;
        let guard = self.guard.as_mut().ok_or("there is no guard")?;
        let allowance = Some(steady().saturating_add(limit));
        if let (State::Armed { .. }, Some(kernel)) = (watched.state, self.kernel.as_mut()) {
            if let Some(landing) = take_over(watched, kernel, executed, &is_as_read) {
                watched.allowance = allowance;
                return Ok(landing);
            }
            let was_stopped = disarm(watched, Some(kernel));
            set_free(watched, Some(guard), &mut self.file);
            if was_stopped {
                return Err("somebody else has let it go on".to_owned());
            }
        }
        if !by_signal {
            return Err("its opcode began a while ago".to_owned());
        }
        let verified = hold::verify(&watched.process, &self.livelocks, self.queue_owner)?;
        stop(watched, verified, guard, &mut self.file, limit.min(VAIN_LIMIT))?;
        (watched.state, watched.allowance) = (State::Stopped, allowance);
        Ok(hold::landing(verified.pid, is_as_read))
    }

    /// Whether a process that was stopped still stands where it published its opcode.
    pub fn stands(&self, token: Token) -> bool {
        let Some(watched) = self.watched.get(&token) else { return false };
        let pid = watched.process.pid;
        match (watched.state, &self.kernel) {
            (State::StoppedByKernel, Some(kernel)) => kernel.stands(pid),
            (State::Stopped, _) => standing_in_rename(pid),
            _ => false,
        }
    }

    /// A process that stands still may do so until `limit` from now only.
    pub fn shorten(&mut self, token: Token, limit: Duration) {
        let stands =
            |watched: &&mut Watched| matches!(watched.state, State::Stopped | State::StoppedByKernel);
        if let (Some(watched), Some(guard)) = (self.watched.get_mut(&token).filter(stands), &self.guard) {
            watched.allowance = None;
            // One that the guard has let go on already stands for nobody.
            let _ = guard.allow(watched.ticket, steady().saturating_add(limit));
        }
    }

    /// A hook is about to begin that a process is to stand still for: from now on it may do so for as
    /// long as was allowed, whatever becomes of us. Until then the guard lets it go on after
    /// [`VAIN_LIMIT`]. `None` unless it stands where it published its opcode: it does not if the guard
    /// came first.
    pub fn claim(&self, token: Token) -> Option<Claim> {
        self.allow(token, Duration::MAX).filter(|_| self.stands(token))
    }

    /// No hook has begun after all.
    pub fn withdraw(&self, token: Token) {
        let _ = self.allow(token, VAIN_LIMIT);
    }

    /// Has the guard let a process stand still for `limit` from now on, and for as long as was allowed, at
    /// most. `None` if it does not.
    fn allow(&self, token: Token, limit: Duration) -> Option<Claim> {
        let (watched, guard) = (self.watched.get(&token)?, self.guard.as_ref()?);
        let now = steady();
        let until = watched.allowance.filter(|until| *until > now)?;
        guard.allow(watched.ticket, until.min(now.saturating_add(limit)))
    }

    /// Lets a process that stands still for us go on.
    pub fn go_on(&mut self, token: Token, job: JobId) {
        let Some(watched) = self.watched.get_mut(&token) else { return };
        let by_kernel = match watched.state {
            State::StoppedByKernel => true,
            State::Stopped => false,
            State::Free | State::Armed { .. } => return,
        };
        failpoints::point("hold.before-go-on");
        let result = hold::go_on(watched.pidfd.as_fd());
        failpoints::point("hold.gone-on");
        if by_kernel {
            forget_stop(watched, self.kernel.as_mut());
        }
        // What we have yet to do can wait, and it may be this processor that it waits for. Of many the first does.
        let now = Instant::now();
        if self.stepped_aside.is_none_or(|last| now >= last + BETWEEN) {
            step_aside();
            self.stepped_aside = Some(now);
        }
        match result {
            Ok(()) => set_free(watched, self.guard.as_ref(), &mut self.file),
            // The guard still has it, and will let it go when its time is up.
            Err(errno) => {
                static FLOW: Flow = Flow::new();
                FLOW.error(format_args!("job {job} cannot be let go: {errno}; the guard will try"));
                (watched.state, watched.ticket) = (State::Free, None);
            }
        }
        self.drop_unless_needed(token);
    }
}

/// The kernel forgets where it stopped a process that has gone on.
fn forget_stop(watched: &Watched, kernel: Option<&mut KernelStop>) {
    if let Some(Err(reason)) = kernel.map(|kernel| kernel.disarm(watched.process.pid)) {
        static FLOW: Flow = Flow::new();
        FLOW.error(format_args!("process {}: {reason}", watched.process.pid));
    }
}

/// Stops a process: the guard and the file know of it first.
fn stop(
    watched: &mut Watched,
    verified: Verified,
    guard: &mut Guard,
    file: &mut HeldFile,
    limit: Duration,
) -> Result<(), String> {
    failpoints::point("hold.before-guard");
    guard
        .hold(&mut watched.ticket, verified.pid, watched.pidfd.as_fd(), limit)
        .map_err(|error| format!("the guard does not take it: {error}"))?;
    failpoints::point("hold.guard-knows");
    file.hold(verified).map_err(|error| {
        guard.let_go(watched.ticket);
        format!("the file of held processes: {error}")
    })?;
    watched.verified = Some(verified);
    failpoints::point("hold.file-knows");
    hold::stop(watched.pidfd.as_fd()).map_err(|errno| {
        forget(watched, Some(guard), file);
        format!("it cannot be stopped: {errno}")
    })?;
    failpoints::point("hold.stopped");
    if guard.has_stopped(watched.ticket) {
        return Ok(());
    }
    // The guard still has it, and will let it go on should we not be able to.
    hold::go_on(watched.pidfd.as_fd()).map_err(|errno| format!("it cannot be let go: {errno}"))?;
    forget(watched, Some(guard), file);
    Err("the guard had let it go on before it was stopped".to_owned())
}
