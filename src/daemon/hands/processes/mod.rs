//! Job processes: finding and watching them here, having them stopped by the kernel
//! ([`arming`]) or by a signal ([`stopping`]), and letting them go on (design, sections 4 and 5).
//! The guard and the file of held processes know of a process before it is armed or stopped.

mod arming;
mod kernel;
mod stopping;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::daemon::inbox::Inbox;
use crate::daemon::message::Message;
use crate::engine::effect::Token;
use crate::engine::input::Presence;
use crate::engine::settings::Paths;
use crate::ganeti::job::{ProcessRef, Timestamp};
use crate::world::process::exits::Exits;
use crate::world::process::guard::{Guard, Lock, Ticket};
use crate::world::process::held_file::HeldFile;
use crate::world::process::hold::Verified;
use crate::world::process::kernel_stop::KernelStop;
use crate::world::process::{self, livelock};
use crate::world::shortage::explain;

/// What the end of the guard is told by; those of processes begin at 1.
const GUARD: u64 = 0;

/// A process that was found alive.
#[derive(Debug)]
struct Watched {
    process: ProcessRef,
    pidfd: OwnedFd,
    /// Its end is to be told.
    is_wanted: bool,
    /// As it was when it proved to be the job's, before it was stopped or armed.
    verified: Option<Verified>,
    state: State,
    /// Until when it may stand still while hooks run that are in time (since boot).
    allowance: Option<Duration>,
    /// What the guard knows it by.
    ticket: Ticket,
}

/// What we have done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Free,
    /// The kernel is to stop it, or has done so.
    Armed {
        /// In the first rename after the version that is known: it has published nothing in
        /// between.
        is_sure: bool,
        /// When the kernel was told so; what it began to execute later it has published since.
        since: Option<Timestamp>,
    },
    /// It stands still, in the rename where the kernel stopped it.
    StoppedByKernel,
    /// It was sent a signal.
    Stopped,
}

/// What is done with processes.
#[derive(Debug)]
pub struct Processes {
    exits: Exits,
    watched: BTreeMap<Token, Watched>,
    /// What has the kernel stop processes, where that is to be had.
    kernel: Option<KernelStop>,
    inbox: Sender<Message>,
    guard: Option<Guard>,
    file: HeldFile,
    livelocks: PathBuf,
    queue_dir: PathBuf,
    /// The user whose job processes may be signalled, besides root.
    queue_owner: u32,
    /// When a process that went on was let have the processor last.
    stepped_aside: Option<Instant>,
}

impl Processes {
    /// No process is known; the ends of those that will be are told to `inbox`.
    ///
    /// # Errors
    /// When there is no descriptor or thread to be had.
    pub fn new(paths: &Paths, file: HeldFile, inbox: &Inbox) -> io::Result<Self> {
        let told = inbox.clone();
        let exits = Exits::new(move |token| {
            told.hand_in(if token == GUARD { Message::GuardEnded } else { Message::Exited(Token(token)) });
        })?;
        let mut processes = Self {
            exits,
            watched: BTreeMap::new(),
            kernel: None,
            inbox: inbox.sender(),
            guard: None,
            file,
            livelocks: paths.ganeti_run_dir.join(livelock::DIRECTORY),
            queue_dir: paths.queue_dir.clone(),
            queue_owner: 0,
            stepped_aside: None,
        };
        processes.look_for_owner();
        // Once, and before anybody waits for us: it may be one that somebody has stopped.
        Lock::wait(&processes.file);
        Ok(processes)
    }

    /// Looks whose the queue is: root's where that cannot be told.
    pub fn look_for_owner(&mut self) {
        self.queue_owner = fs::metadata(&self.queue_dir).map_or(0, |metadata| metadata.uid());
    }

    /// Looks for a process, and watches it if it is alive.
    pub fn find(&mut self, token: Token, process: ProcessRef) -> Presence {
        let pidfd = match process::find(&process, &self.livelocks) {
            process::Presence::Alive(pidfd) => pidfd,
            process::Presence::Dead => return Presence::Dead,
            process::Presence::Unknown(why) => return Presence::Unknown(why),
            process::Presence::Shortage(why) => return Presence::Shortage(why),
        };
        if let Err(error) = self.exits.add(pidfd.as_fd(), token.0) {
            let hint = "fs.epoll.max_user_watches, or a limit below";
            return Presence::Shortage(format!(
                "its process cannot be watched: {} ({hint})",
                explain(&error)
            ));
        }
        let state = State::Free;
        let watched =
            Watched { process, pidfd, is_wanted: true, verified: None, state, allowance: None, ticket: None };
        self.watched.insert(token, watched);
        Presence::Alive
    }

    /// The end of this process is not to be told any more. One that stands still is kept until
    /// it goes on.
    pub fn unwatch(&mut self, token: Token) {
        if let Some(watched) = self.watched.get_mut(&token) {
            watched.is_wanted = false;
            self.drop_unless_needed(token);
        }
    }

    /// A process has ended. Returns whether somebody wants to know.
    pub fn has_ended(&mut self, token: Token) -> bool {
        let wanted = self.watched.get(&token).is_some_and(|watched| watched.is_wanted);
        self.unwatch(token);
        wanted
    }

    fn drop_unless_needed(&mut self, token: Token) {
        let is_needed = |watched: &Watched| watched.is_wanted || watched.state != State::Free;
        if self.watched.get(&token).is_some_and(is_needed) {
            return;
        }
        let removed = self.watched.remove(&token);
        if let (Some(watched), Some(guard)) = (removed, &mut self.guard) {
            guard.give_back(watched.ticket);
        }
    }

    /// Starts a guard, where there is none.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start_guard(&mut self) -> Result<(), String> {
        if self.guard.is_some() {
            return Ok(());
        }
        let guard = Lock::take(&self.file).and_then(Guard::start).map_err(|error| error.to_string())?;
        self.exits.add(guard.pidfd.as_fd(), GUARD).map_err(|error| error.to_string())?;
        self.guard = Some(guard);
        Ok(())
    }

    /// The guard is not there any more. Returns whether it has panicked.
    pub fn guard_has_ended(&mut self) -> bool {
        let Some(mut guard) = self.guard.take() else { return false };
        for watched in self.watched.values_mut() {
            // What has been claimed and has not begun is late from now on.
            guard.give_back(watched.ticket.take());
        }
        guard.has_panicked()
    }
}

/// The process does not stand still and is not armed any more.
fn set_free(watched: &mut Watched, guard: Option<&Guard>, file: &mut HeldFile) {
    (watched.state, watched.allowance) = (State::Free, None);
    forget(watched, guard, file);
}

/// Guard and file need not know of the process any more.
fn forget(watched: &mut Watched, guard: Option<&Guard>, file: &mut HeldFile) {
    if let Some(verified) = watched.verified.take() {
        file.let_go(verified);
    }
    if let Some(guard) = guard {
        guard.let_go(watched.ticket);
    }
}
