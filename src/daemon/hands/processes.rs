//! Job processes: finding and watching them, stopping them and letting them go on (design,
//! sections 4 and 5). The guard and the file of held processes know of a process before it is
//! stopped.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::daemon::defect;
use crate::daemon::message::Message;
use crate::engine::effect::Token;
use crate::engine::input::{Landing, Presence};
use crate::engine::settings::Paths;
use crate::ganeti::job::{JobId, ProcessRef};
use crate::world::failpoints;
use crate::world::process::exits::Exits;
use crate::world::process::guard::Guard;
use crate::world::process::held_file::HeldFile;
use crate::world::process::hold::{self, Verified};
use crate::world::process::kernel_stop::{Arming, KernelStop, standing_in_rename};
use crate::world::process::{self, livelock};
use crate::world::shortage::explain;

/// How long the kernel may take between two steps of its own.
const KERNEL_PATIENCE: Duration = Duration::from_millis(10);

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
}

/// What we have done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Free,
    /// The kernel is to stop it, or has done so.
    Armed,
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
}

impl Processes {
    /// No process is known; the ends of those that will be are told to `inbox`.
    ///
    /// # Errors
    /// When there is no descriptor or thread to be had.
    pub fn new(paths: &Paths, file: HeldFile, inbox: Sender<Message>) -> io::Result<Self> {
        let sender = inbox.clone();
        let exits = Exits::new(move |token| {
            let message = if token == GUARD { Message::GuardEnded } else { Message::Exited(Token(token)) };
            let _ = sender.send(message);
        })?;
        let mut processes = Self {
            exits,
            watched: BTreeMap::new(),
            kernel: None,
            inbox,
            guard: None,
            file,
            livelocks: paths.ganeti_run_dir.join(livelock::DIRECTORY),
            queue_dir: paths.queue_dir.clone(),
            queue_owner: 0,
        };
        processes.look_for_owner();
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
        let (verified, state) = (None, State::Free);
        self.watched.insert(token, Watched { process, pidfd, is_wanted: true, verified, state });
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
        if self.watched.get(&token).is_some_and(|watched| !watched.is_wanted && watched.state == State::Free)
        {
            self.watched.remove(&token);
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
        let guard = Guard::start().map_err(|error| error.to_string())?;
        self.exits.add(guard.pidfd.as_fd(), GUARD).map_err(|error| error.to_string())?;
        self.guard = Some(guard);
        Ok(())
    }

    /// The guard is not there any more.
    pub fn guard_has_ended(&mut self) {
        self.guard = None;
    }

    /// Has a thread find out whether the kernel can stop processes; that takes a while.
    pub fn load_kernel_stop(&self) {
        let (inbox, queue_dir) = (self.inbox.clone(), self.queue_dir.clone());
        let load = move || {
            let loaded = catch_unwind(|| kernel_stop(&queue_dir));
            let loaded = loaded.map_err(|panic| defect(&*panic)).and_then(|loaded| loaded);
            let _ = inbox.send(Message::KernelStop(loaded.map(Box::new)));
        };
        if let Err(error) = thread::Builder::new().name("kernel-stop".to_owned()).spawn(load) {
            let _ = self.inbox.send(Message::KernelStop(Err(explain(&error))));
        }
    }

    /// The kernel can stop processes; by which means.
    pub fn use_kernel_stop(&mut self, kernel: KernelStop) -> String {
        let means = kernel.attachment().to_string();
        self.kernel = Some(kernel);
        means
    }

    /// Has ready what arming takes: a process may have to be armed soon.
    pub fn attach(&mut self) {
        if let Some(Err(reason)) = self.kernel.as_mut().map(KernelStop::attach) {
            log::warn!("what stops processes in the kernel cannot be attached: {reason}");
        }
    }

    /// Takes away what arming takes, while nobody is armed. The kernel takes its time for that.
    pub fn detach(&mut self) {
        if let Some(unused) = self.kernel.as_mut().and_then(KernelStop::take_unused) {
            let detach = thread::Builder::new().name("detach".to_owned()).spawn(move || drop(unused));
            if let Err(error) = detach {
                log::debug!("detached at once: {}", explain(&error));
            }
        }
    }

    /// Arms a process, if it proves to be the job's; one that the kernel has stopped goes on.
    ///
    /// # Errors
    /// Why it is not armed.
    pub fn arm(&mut self, token: Token, job: JobId) -> Result<(), String> {
        let watched = self.watched.get_mut(&token).filter(|watched| watched.is_wanted);
        let watched = watched.ok_or_else(|| "its process is not known to be alive".to_owned())?;
        let kernel = self.kernel.as_mut().ok_or_else(|| "the kernel does not stop processes".to_owned())?;
        let pid = watched.process.pid;
        match watched.state {
            State::Armed => {}
            State::Free => {
                let verified = hold::verify(&watched.process, &self.livelocks, self.queue_owner)?;
                let guard = self.guard.as_ref().ok_or_else(|| "there is no guard".to_owned())?;
                make_known(watched, verified, guard, &mut self.file, job)?;
            }
            State::Stopped | State::StoppedByKernel => return Err("it stands still".to_owned()),
        }
        if is_stopped_by(kernel, pid) == Arming::Armed {
            return Ok(());
        }
        failpoints::point("hold.before-arm");
        let was_stopped = kernel.state(pid).is_ok_and(|arming| arming == Arming::Stopped);
        // Where that fails it stays known, until it is disarmed: it may stand still.
        kernel.arm(pid).map_err(|reason| reason.to_string())?;
        failpoints::point("hold.armed");
        if was_stopped {
            // It has published something else, and stands or is about to.
            hold::await_stop(pid);
            let _ = hold::go_on(watched.pidfd.as_fd());
        }
        Ok(())
    }

    /// Has the kernel stop a process no more; one that it has stopped goes on.
    pub fn disarm(&mut self, token: Token, job: JobId) {
        let Some(watched) = self.watched.get_mut(&token).filter(|watched| watched.state == State::Armed)
        else {
            return;
        };
        disarm(watched, self.kernel.as_mut());
        set_free(watched, self.guard.as_ref(), &mut self.file, job);
        self.drop_unless_needed(token);
    }

    /// Stops a process for `limit` at most, if it proves to be the job's, or takes it over from
    /// the kernel. Tells where it was.
    ///
    /// # Errors
    /// Why it was not stopped.
    pub fn stop(&mut self, token: Token, job: JobId, limit: Duration) -> Result<Landing, String> {
        let watched = self.watched.get_mut(&token).filter(|watched| watched.is_wanted);
        let watched = watched.ok_or_else(|| "its process is not known to be alive".to_owned())?;
        let guard = self.guard.as_ref().ok_or_else(|| "there is no guard".to_owned())?;
        if watched.state == State::Armed {
            let taken = take_over(watched, self.kernel.as_mut(), guard, &mut self.file, job, limit);
            if taken {
                return Ok(Landing::Exact);
            }
            disarm(watched, self.kernel.as_mut());
            set_free(watched, Some(guard), &mut self.file, job);
        }
        let verified = hold::verify(&watched.process, &self.livelocks, self.queue_owner)?;
        stop(watched, verified, guard, &mut self.file, job, limit)?;
        (watched.verified, watched.state) = (Some(verified), State::Stopped);
        Ok(hold::landing(verified.pid))
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
    pub fn shorten(&self, token: Token, job: JobId, limit: Duration) {
        let stopped = self.watched.get(&token).filter(|watched| watched.state == State::Stopped);
        if let (Some(watched), Some(guard)) = (stopped, &self.guard) {
            // A guard that is gone has let everything go already.
            let _ = guard.hold(job.get(), watched.process.pid, watched.pidfd.as_fd(), limit);
        }
    }

    /// Lets a process that we stopped go on.
    pub fn go_on(&mut self, token: Token, job: JobId) {
        let Some(watched) = self.watched.get_mut(&token) else { return };
        match watched.state {
            State::StoppedByKernel => forget_stop(watched, self.kernel.as_mut()),
            State::Stopped => {}
            State::Free | State::Armed => return,
        }
        failpoints::point("hold.before-go-on");
        let result = hold::go_on(watched.pidfd.as_fd());
        failpoints::point("hold.gone-on");
        match result {
            Ok(()) => set_free(watched, self.guard.as_ref(), &mut self.file, job),
            // The guard still has it, and will let it go when its time is up.
            Err(errno) => {
                log::error!("job {job} cannot be let go: {errno}; the guard will try");
                watched.state = State::Free;
            }
        }
        self.drop_unless_needed(token);
    }
}

fn kernel_stop(queue_dir: &Path) -> Result<KernelStop, String> {
    failpoints::refused("kernel.stop").map_err(|error| error.to_string())?;
    KernelStop::new(queue_dir).map_err(|reason| reason.to_string())
}

/// What has become of an arming, once the kernel is not just about to send the signal.
fn is_stopped_by(kernel: &KernelStop, pid: u32) -> Arming {
    let deadline = Instant::now() + KERNEL_PATIENCE;
    loop {
        match kernel.state(pid) {
            Ok(Arming::Stopping) if Instant::now() < deadline => thread::yield_now(),
            Ok(arming) => return arming,
            Err(_) => return Arming::Not,
        }
    }
}

/// The guard and the file know of a process before it is armed.
fn make_known(
    watched: &mut Watched,
    verified: Verified,
    guard: &Guard,
    file: &mut HeldFile,
    job: JobId,
) -> Result<(), String> {
    guard
        .arm(job.get(), verified.pid, watched.pidfd.as_fd())
        .map_err(|error| format!("the guard does not answer: {error}"))?;
    file.arm(verified).map_err(|error| {
        let _ = guard.let_go(job.get());
        format!("the file of held processes: {error}")
    })?;
    (watched.verified, watched.state) = (Some(verified), State::Armed);
    Ok(())
}

/// Takes over a process that the kernel has stopped: from now on it is held. Returns whether it
/// stands where the kernel stopped it.
fn take_over(
    watched: &mut Watched,
    kernel: Option<&mut KernelStop>,
    guard: &Guard,
    file: &mut HeldFile,
    job: JobId,
    limit: Duration,
) -> bool {
    let (Some(kernel), Some(verified)) = (kernel, watched.verified) else { return false };
    if is_stopped_by(kernel, verified.pid) != Arming::Stopped {
        return false;
    }
    hold::await_stop(verified.pid);
    let is_known = kernel.stands(verified.pid)
        && guard.hold(job.get(), verified.pid, watched.pidfd.as_fd(), limit).is_ok()
        && file.hold(verified).is_ok();
    if is_known {
        watched.state = State::StoppedByKernel;
        failpoints::point("hold.taken-over");
    }
    is_known
}

/// The kernel stops the process no more; if it has, it goes on.
fn disarm(watched: &Watched, kernel: Option<&mut KernelStop>) {
    let Some(kernel) = kernel else { return };
    let pid = watched.process.pid;
    let _ = is_stopped_by(kernel, pid);
    match kernel.disarm(pid) {
        Ok(Arming::Not | Arming::Armed | Arming::Missed) => {}
        Ok(Arming::Stopping | Arming::Stopped) => {
            hold::await_stop(pid);
            let _ = hold::go_on(watched.pidfd.as_fd());
        }
        Err(reason) => {
            log::error!("process {pid} cannot be disarmed: {reason}");
            let _ = hold::go_on(watched.pidfd.as_fd());
        }
    }
}

/// The kernel forgets where it stopped a process that goes on now.
fn forget_stop(watched: &Watched, kernel: Option<&mut KernelStop>) {
    if let Some(Err(reason)) = kernel.map(|kernel| kernel.disarm(watched.process.pid)) {
        log::error!("process {}: {reason}", watched.process.pid);
    }
}

/// The process does not stand still and is not armed any more.
fn set_free(watched: &mut Watched, guard: Option<&Guard>, file: &mut HeldFile, job: JobId) {
    watched.state = State::Free;
    if let Some(verified) = watched.verified.take() {
        forget(verified, guard, file, job);
    }
}

/// Stops a process: the guard and the file know of it first.
fn stop(
    watched: &Watched,
    verified: Verified,
    guard: &Guard,
    file: &mut HeldFile,
    job: JobId,
    limit: Duration,
) -> Result<(), String> {
    let pidfd = watched.pidfd.as_fd();
    failpoints::point("hold.before-guard");
    guard
        .hold(job.get(), verified.pid, pidfd, limit)
        .map_err(|error| format!("the guard does not answer: {error}"))?;
    failpoints::point("hold.guard-knows");
    file.hold(verified).map_err(|error| {
        let _ = guard.let_go(job.get());
        format!("the file of held processes: {error}")
    })?;
    failpoints::point("hold.file-knows");
    hold::stop(pidfd).map_err(|errno| {
        forget(verified, Some(guard), file, job);
        format!("it cannot be stopped: {errno}")
    })?;
    failpoints::point("hold.stopped");
    Ok(())
}

/// Guard and file need not know of the process any more.
fn forget(verified: Verified, guard: Option<&Guard>, file: &mut HeldFile, job: JobId) {
    file.let_go(verified);
    if let Some(guard) = guard {
        // A guard that is gone has let everything go already.
        let _ = guard.let_go(job.get());
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use crossbeam_channel::{Receiver, unbounded};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;
    use crate::engine::settings::Settings;
    use crate::world::process::stat;

    const TOKEN: Token = Token(7);

    struct Bench {
        dir: tempfile::TempDir,
        processes: Processes,
        messages: Receiver<Message>,
        child: Child,
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    fn job() -> JobId {
        1.try_into().unwrap()
    }

    impl Bench {
        /// A process that is watched, as if it had been found.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut paths = Settings::default().paths;
            (paths.queue_dir, paths.ganeti_run_dir) = (dir.path().to_owned(), dir.path().to_owned());
            let (inbox, messages) = unbounded();
            let mut processes = Processes::new(&paths, HeldFile::create(dir.path()).unwrap(), inbox).unwrap();
            let child = Command::new("sleep").arg("60").spawn().unwrap();
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            processes.exits.add(pidfd.as_fd(), TOKEN.0).unwrap();
            let process = ProcessRef { pid: child.id(), livelock: "none".to_owned(), started: None };
            processes.watched.insert(
                TOKEN,
                Watched { process, pidfd, is_wanted: true, verified: None, state: State::Free },
            );
            Self { dir, processes, messages, child }
        }

        /// As [`Processes::stop`] does it, but for the proof.
        fn stop(&mut self) {
            let stat = stat::read(self.child.id()).unwrap().unwrap();
            let verified = Verified { pid: self.child.id(), start_ticks: stat.start_ticks };
            let watched = self.processes.watched.get_mut(&TOKEN).unwrap();
            self.processes.file.hold(verified).unwrap();
            hold::stop(&watched.pidfd).unwrap();
            (watched.verified, watched.state) = (Some(verified), State::Stopped);
            self.await_state(b"T");
        }

        fn await_state(&self, states: &[u8]) {
            while !states.contains(&stat::read(self.child.id()).unwrap().unwrap().state) {
                std::thread::yield_now();
            }
        }

        fn held(&self) -> String {
            fs::read_to_string(self.dir.path().join("held")).unwrap()
        }
    }

    #[test]
    fn a_process_that_stands_still_is_kept_until_it_goes_on() {
        let mut bench = Bench::new();
        bench.stop();
        bench.processes.unwatch(TOKEN);
        assert!(bench.processes.watched.contains_key(&TOKEN) && !bench.held().is_empty());
        bench.processes.go_on(TOKEN, job());
        bench.await_state(b"SRD");
        assert!(bench.processes.watched.is_empty() && bench.held().is_empty());
        bench.processes.go_on(TOKEN, job());
        bench.processes.unwatch(TOKEN);
    }

    #[test]
    fn an_end_is_told_once_and_to_those_who_want_to_know() {
        let mut bench = Bench::new();
        bench.stop();
        bench.child.kill().unwrap();
        assert!(matches!(bench.messages.recv().unwrap(), Message::Exited(TOKEN)));
        assert!(bench.processes.has_ended(TOKEN) && !bench.processes.has_ended(TOKEN));
        assert_eq!(
            bench.processes.stop(TOKEN, job(), Duration::from_secs(1)),
            Err("its process is not known to be alive".to_owned())
        );
        bench.processes.go_on(TOKEN, job());
        assert!(bench.processes.watched.is_empty() && bench.held().is_empty());
    }

    #[test]
    fn who_proves_nothing_is_not_stopped() {
        let mut bench = Bench::new();
        assert!(bench.processes.stop(TOKEN, job(), Duration::from_secs(1)).is_err());
        let unknown = bench.processes.stop(Token(8), job(), Duration::from_secs(1));
        assert_eq!(unknown, Err("its process is not known to be alive".to_owned()));
        let dead = ProcessRef { pid: 0, livelock: String::new(), started: None };
        assert!(matches!(bench.processes.find(Token(9), dead), Presence::Unknown(_)));
        bench.await_state(b"SRD");
    }
}
