//! Having the kernel stop processes in the rename that publishes the next version of their job,
//! and taking over those that it has stopped.
//!
//! What is judged is a version that was read; a process may have published another since. So a
//! process that the kernel has stopped goes on only when what it published has been read, and is
//! exactly where it published its opcode only if it was armed before it published anything after
//! the version that was read, or before it began the opcode, and what it has published since was
//! read. That is told by the file, while no rename is under way: whether it is the one that was read.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Processes, State, Watched, set_free};
use crate::engine::effect::Token;
use crate::engine::input::Landing;
use crate::ganeti::job::Timestamp;
use crate::world::clock;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::process::aside::step_aside;
use crate::world::process::hold;
use crate::world::process::kernel_stop::{Arming, KernelStop};

/// How long the kernel may take between two steps of its own.
const KERNEL_PATIENCE: Duration = Duration::from_millis(10);

/// How long one that runs all the time is looked at: what it publishes may have begun before it was
/// armed.
const SETTLE_PATIENCE: Duration = Duration::from_millis(1);

/// How long one that was sent the signal may take to stand still, when many want the processor.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

impl Processes {
    /// Arms a process, if it proves to be the job's; one that the kernel has stopped goes on, if
    /// what it published has been read. `is_as_read` tells whether the job's file is the one that
    /// was read last.
    ///
    /// # Errors
    /// Why it is not armed.
    pub fn arm(&mut self, token: Token, is_as_read: impl Fn() -> bool) -> Result<(), String> {
        self.know(token)?;
        let watched = self.watched.get_mut(&token).ok_or(UNKNOWN)?;
        let kernel = self.kernel.as_mut().ok_or("the kernel does not stop processes")?;
        let pid = watched.process.pid;
        failpoints::point("hold.judged");
        let before = is_stopped_by(kernel, pid);
        // Only when it stands has it published what it was stopped for, and only then does a
        // SIGCONT not take back a SIGSTOP that is on its way.
        let stands = before == Arming::Stopped && hold::await_stop(pid, STOP_PATIENCE);
        if before == Arming::Stopped && !is_as_read() {
            // What it has published was told of, and is read next.
            return Ok(());
        }
        if before != Arming::Armed {
            failpoints::point("hold.before-arm");
            if let Err(reason) = kernel.arm(pid) {
                disarm(watched, Some(kernel));
                // The kernel has forgotten that it may have stopped it.
                if matches!(before, Arming::Stopped | Arming::Stopping) {
                    let _ = hold::go_on(watched.pidfd.as_fd());
                }
                set_free(watched, self.guard.as_ref(), &mut self.file);
                return Err(reason.to_string());
            }
            watched.state = State::Armed { is_sure: false, since: Some(clock::now()) };
            failpoints::point("hold.armed");
        }
        let State::Armed { is_sure, since } = watched.state else { return Ok(()) };
        // One that was armed all the time has begun no rename since.
        let was_sure = before == Arming::Armed && is_sure;
        let is_settled = stands || was_sure || hold::is_outside_of_renames(pid, SETTLE_PATIENCE);
        watched.state = State::Armed { is_sure: is_settled && is_as_read(), since };
        if before == Arming::Stopped {
            let _ = hold::go_on(watched.pidfd.as_fd());
            if let Some(guard) = &self.guard {
                guard.arm_anew(watched.ticket);
            }
        }
        Ok(())
    }

    /// Guard and file know of the process from now on, if it proves to be the job's.
    fn know(&mut self, token: Token) -> Result<(), String> {
        let watched = self.watched.get_mut(&token).filter(|watched| watched.is_wanted).ok_or(UNKNOWN)?;
        let guard = self.guard.as_mut().ok_or("there is no guard")?;
        let mut tell = |watched: &mut Watched| {
            let told = guard.arm(&mut watched.ticket, watched.process.pid, watched.pidfd.as_fd());
            told.map_err(|error| format!("the guard does not take it: {error}"))
        };
        match watched.state {
            // The guard may have let it go on.
            State::Armed { .. } => return tell(watched),
            State::Stopped | State::StoppedByKernel => return Err("it stands still".to_owned()),
            State::Free => {}
        }
        if self.kernel.is_none() {
            return Err("the kernel does not stop processes".to_owned());
        }
        let verified = hold::verify(&watched.process, &self.livelocks, self.queue_owner)?;
        tell(watched)?;
        self.file.arm(verified).map_err(|error| {
            guard.let_go(watched.ticket);
            format!("the file of held processes: {error}")
        })?;
        (watched.verified, watched.state) = (Some(verified), State::Armed { is_sure: false, since: None });
        Ok(())
    }

    /// Has the kernel stop a process no more; one that it has stopped goes on.
    pub fn disarm(&mut self, token: Token) {
        let armed = self.watched.get_mut(&token);
        let Some(watched) = armed.filter(|watched| matches!(watched.state, State::Armed { .. })) else {
            return;
        };
        disarm(watched, self.kernel.as_mut());
        set_free(watched, self.guard.as_ref(), &mut self.file);
        self.drop_unless_needed(token);
    }
}

/// Why nothing can be done to a process.
pub(super) const UNKNOWN: &str = "its process is not known to be alive";

/// What has become of an arming, once the kernel is not just about to send the signal.
fn is_stopped_by(kernel: &KernelStop, pid: u32) -> Arming {
    let deadline = Instant::now() + KERNEL_PATIENCE;
    loop {
        match kernel.state(pid) {
            Ok(Arming::Stopping) if Instant::now() < deadline => step_aside(),
            Ok(arming) => return arming,
            Err(_) => return Arming::Not,
        }
    }
}

/// Takes over a process that the kernel has stopped: from now on it is held. Guard and file need not
/// be told: they know of it since it was armed, and let it go on should nobody say more. Returns
/// where it stands: exactly there if what it has published is what was read. `None` when the kernel
/// has not stopped it, or somebody else has let it go on.
pub(super) fn take_over(
    watched: &mut Watched,
    kernel: &KernelStop,
    executed: Timestamp,
    is_as_read: impl Fn() -> bool,
) -> Option<Landing> {
    let State::Armed { is_sure, since } = watched.state else { return None };
    let pid = watched.process.pid;
    let comes_to_stand = || {
        is_stopped_by(kernel, pid) == Arming::Stopped
            && hold::await_stop(pid, STOP_PATIENCE)
            && kernel.stands(pid)
    };
    if !kernel.stands(pid) && !comes_to_stand() {
        return None;
    }
    watched.state = State::StoppedByKernel;
    failpoints::point("hold.taken-over");
    // It stands in its first rename since it was armed: what it began to execute since is published
    // by none before.
    let is_first = is_sure || since.is_some_and(|since| since < executed);
    Some(if is_first && is_as_read() { Landing::Exact } else { Landing::Late })
}

/// The kernel stops the process no more; if it has, it goes on. Returns whether it had.
pub(super) fn disarm(watched: &Watched, kernel: Option<&mut KernelStop>) -> bool {
    let Some(kernel) = kernel else { return false };
    let pid = watched.process.pid;
    let _ = is_stopped_by(kernel, pid);
    match kernel.disarm(pid) {
        Ok(Arming::Armed) => return false,
        Ok(Arming::Not | Arming::Missed) if !hold::may_be_stopped_by_the_kernel(pid) => return false,
        Ok(Arming::Not | Arming::Missed) => {}
        Ok(Arming::Stopping | Arming::Stopped) => _ = hold::await_stop(pid, KERNEL_PATIENCE),
        Err(reason) => {
            static FLOW: Flow = Flow::new();
            FLOW.error(format_args!("process {pid} cannot be disarmed: {reason}"));
        }
    }
    let _ = hold::go_on(watched.pidfd.as_fd());
    true
}
