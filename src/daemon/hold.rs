//! Holding a job process still while its pre hooks run (design, section 5).
//!
//! [`Holds`] has what it takes to stop a process; the daemon decides when.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::observe::Version;
use super::role::Role;
use super::{Daemon, RETRY, Watched, now};
use crate::engine::environment;
use crate::engine::settings::PreMode;
use crate::engine::status::HeldJob;
use crate::engine::tracker::Look;
use crate::ganeti::event::{EventKey, Phase};
use crate::ganeti::job::{Job, JobId, Status, Timestamp};
use crate::world::failpoints;
use crate::world::hook::scripts;
use crate::world::journal::Change;
use crate::world::process::exits::Exits;
use crate::world::process::guard::Guard;
use crate::world::process::held_file::HeldFile;
use crate::world::process::hold::{Landing, Verified, go_on, landing, stop, verify};
use crate::world::process::livelock;

/// The longest hold of a process that may be in a conversation with a node daemon.
const LATE_LIMIT: Duration = Duration::from_secs(3);

/// An opcode that began to execute longer ago than this is not stopped any more.
const AGE_LIMIT: Duration = Duration::from_secs(2);

/// What the end of the guard is told by; job numbers begin at 1.
const GUARD_TOKEN: u64 = 0;

/// A job process that stands still.
#[derive(Debug)]
pub struct Hold {
    key: EventKey,
    process: Verified,
    /// Its own, whatever becomes of the job file meanwhile.
    pidfd: Arc<OwnedFd>,
    since: Instant,
    until: Instant,
    landing: Landing,
}

/// The processes that are held, and what holding takes.
#[derive(Debug)]
pub struct Holds {
    guard: Option<Guard>,
    /// When the guard was started.
    guard_started: Instant,
    file: HeldFile,
    held: BTreeMap<JobId, Hold>,
    /// Whether there was a pre hook when last looked.
    pub has_scripts: bool,
}

/// What came of the wish to hold a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// There is nothing to hold it for.
    NotNeeded,
    /// It stands still, before this opcode.
    Held(u32),
    /// It stands still but had got further, or could not be stopped: the pre of this
    /// opcode is late.
    TooLate(u32),
}

impl Holds {
    /// Nothing is held.
    pub fn new(file: HeldFile) -> Self {
        Self { guard: None, guard_started: Instant::now(), file, held: BTreeMap::new(), has_scripts: false }
    }

    /// When the next hold must end.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.held.values().map(|hold| hold.until).min()
    }

    /// Whether the job is held for its next pre.
    pub fn holds(&self, key: EventKey) -> bool {
        self.held.get(&key.job).is_some_and(|hold| hold.key == key)
    }

    /// The jobs that are held.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.held.keys().copied()
    }

    /// Has a guard alive before anything is held.
    fn prepare(&mut self, exits: &Exits) -> io::Result<()> {
        if self.guard.is_some() {
            return Ok(());
        }
        self.guard_started = Instant::now();
        let guard = Guard::start()?;
        exits.add(guard.pidfd.as_fd(), GUARD_TOKEN)?;
        self.guard = Some(guard);
        Ok(())
    }

    /// Stops the process: the guard and the file know of it first.
    fn stop(
        &mut self,
        id: JobId,
        watched: &Watched,
        process: Verified,
        limit: Duration,
    ) -> Result<(), String> {
        let pidfd = watched.pidfd.as_fd();
        let guard = self.guard.as_ref().ok_or_else(|| "there is no guard".to_owned())?;
        failpoints::point("hold.before-guard");
        guard.hold(id.get(), pidfd, limit).map_err(|error| format!("the guard does not answer: {error}"))?;
        failpoints::point("hold.guard-knows");
        self.file.hold(process).map_err(|error| {
            let _ = guard.let_go(id.get());
            format!("the file of held processes: {error}")
        })?;
        failpoints::point("hold.file-knows");
        stop(pidfd).map_err(|errno| {
            self.forget(id, process);
            format!("it cannot be stopped: {errno}")
        })?;
        failpoints::point("hold.stopped");
        Ok(())
    }

    /// The guard need not wait as long as it was told first.
    fn shorten(&self, id: JobId, watched: &Watched, limit: Duration) {
        if let Some(guard) = &self.guard {
            let _ = guard.hold(id.get(), watched.pidfd.as_fd(), limit);
        }
    }

    /// The process is not held any more.
    fn forget(&mut self, id: JobId, process: Verified) {
        self.file.let_go(process);
        if let Some(guard) = &self.guard {
            // A guard that is gone has let everything go already.
            let _ = guard.let_go(id.get());
        }
    }
}

impl Daemon {
    /// Stops the job's process if its next opcode has just begun to execute and there
    /// are pre hooks to run before it. Nothing is written, planned or looked up before
    /// the signal that could wait.
    pub(super) fn hold(&mut self, job: &Job<'_>, version: Version) -> Attempt {
        let Some((op, executed)) = self.op_to_hold(job) else { return Attempt::NotNeeded };
        if self.starting {
            return Attempt::TooLate(op);
        }
        if version == Version::Overtaken {
            self.counters.holds_missed += 1;
            log::warn!(
                "job {} is not held: it went on while its file was read; its pre hooks run late",
                job.id
            );
            return Attempt::TooLate(op);
        }
        match self.try_hold(job.id, op, executed) {
            Ok(Landing::Early) => Attempt::Held(op),
            Ok(Landing::Late) => {
                self.counters.holds_late += 1;
                log::warn!("job {} had got further when it was stopped; it is held for 3 s at most", job.id);
                Attempt::TooLate(op)
            }
            Err(why) => {
                self.counters.holds_missed += 1;
                log::warn!("job {} is not held: {why}; its pre hooks run late", job.id);
                Attempt::TooLate(op)
            }
        }
    }

    /// Takes into account, in what a version told, what came of the wish to hold the job.
    pub(super) fn judge(&mut self, attempt: Attempt, look: &mut Look) {
        let is_pre = |key: EventKey, op: u32| key.phase == Phase::Pre && key.op == op;
        let passed = look.events.iter().filter(|event| {
            event.key.phase == Phase::Pre && event.late && !self.starting && self.may_hold(&event.op_code)
        });
        self.counters.holds_missed += passed.count() as u64;
        match attempt {
            Attempt::NotNeeded => {}
            Attempt::TooLate(op) => {
                look.events.iter_mut().filter(|e| is_pre(e.key, op)).for_each(|e| e.late = true);
            }
            Attempt::Held(op) => {
                if !look.events.iter().any(|event| is_pre(event.key, op)) {
                    log::warn!("job {}: the pre of opcode {op} was told before; the job goes on", look.id);
                    self.let_go(look.id);
                }
            }
        }
    }

    /// Whether jobs are held before opcodes of this kind.
    fn may_hold(&self, op_code: &str) -> bool {
        let hooks = &self.settings.hooks;
        hooks.pre == PreMode::Hold
            && self.role == Role::Master
            && self.stopping.is_none()
            && (self.holds.has_scripts || self.may_have_remote_targets(op_code))
            && !hooks.skips(op_code)
    }

    /// The opcode that executes since this version, and since when, if pre hooks are to
    /// end before it.
    fn op_to_hold(&self, job: &Job<'_>) -> Option<(u32, Timestamp)> {
        let index = job.last_started()?;
        let (op, index) = (&job.ops[index], u32::try_from(index).ok()?);
        let told = self.tracker.known(job).is_some_and(|known| {
            known.progress.next > index || known.progress.next == index && known.progress.pre
        });
        let wanted = op.status == Status::Running && !told && self.may_hold(&op.code);
        op.executed.filter(|_| wanted).map(|executed| (index, executed))
    }

    fn try_hold(&mut self, id: JobId, op: u32, executed: Timestamp) -> Result<Landing, String> {
        if self.stalled.is_some() {
            return Err("the journal cannot be written".to_owned());
        }
        let age = now().as_secs_f64() - executed.as_secs_f64();
        if age > AGE_LIMIT.as_secs_f64() {
            return Err(format!("its opcode began {age:.1} s ago"));
        }
        // Should somebody have let it go on behind our back.
        self.let_go(id);
        let limit = self.settings.hooks.hold_limit;
        let watched =
            self.processes.get(&id).ok_or_else(|| "its process is not known to be alive".to_owned())?;
        let livelocks = self.settings.paths.ganeti_run_dir.join(livelock::DIRECTORY);
        let process = verify(&watched.process, &livelocks, self.queue_owner)?;
        self.holds.stop(id, watched, process, limit)?;
        let since = Instant::now();
        let landing = landing(process.pid);
        let limit = if landing == Landing::Late { limit.min(LATE_LIMIT) } else { limit };
        if landing == Landing::Late {
            self.holds.shorten(id, watched, limit);
        }
        let pidfd = Arc::clone(&watched.pidfd);
        let key = EventKey { job: id, op, phase: Phase::Pre };
        self.counters.holds += 1;
        let hold = Hold { key, process, pidfd, since, until: since + limit, landing };
        self.holds.held.insert(id, hold);
        Ok(landing)
    }

    /// Lets a job go on, if it is held.
    pub(super) fn let_go(&mut self, id: JobId) {
        let Some(hold) = self.holds.held.remove(&id) else { return };
        failpoints::point("hold.before-go-on");
        let result = go_on(hold.pidfd.as_fd());
        failpoints::point("hold.gone-on");
        match result {
            Ok(()) => self.holds.forget(id, hold.process),
            // The guard still has it, and will let it go when its time is up.
            Err(errno) => log::error!("job {id} cannot be let go: {errno}; the guard will try"),
        }
        log::debug!("{} held for {:?}", hold.key, hold.since.elapsed());
    }

    /// Lets every job go on.
    pub(super) fn let_all_go(&mut self) {
        let held: Vec<JobId> = self.holds.jobs().collect();
        for id in held {
            self.let_go(id);
        }
    }

    /// Lets those go on that have been held as long as they may.
    pub(super) fn end_holds_in_time(&mut self) {
        let now = Instant::now();
        let due: Vec<(JobId, EventKey)> = self
            .holds
            .held
            .iter()
            .filter(|(_, hold)| hold.until <= now)
            .map(|(id, hold)| (*id, hold.key))
            .collect();
        for (id, key) in due {
            self.counters.holds_timed_out += 1;
            log::warn!("{key}: held as long as it may be; the job goes on, its pre hooks too");
            self.let_go(id);
        }
    }

    /// Without a guard nothing stays held. Another is started at once, or, where guards
    /// do not live, for the next job.
    pub(super) fn guard_ended(&mut self) {
        log::warn!("the guard has ended; what was held goes on, a new guard is started");
        self.let_all_go();
        self.holds.guard = None;
        if self.holds.guard_started.elapsed() > RETRY {
            self.look_for_pre_hooks();
        }
    }

    /// Looks whether there are pre hooks, off the path on which a job is stopped.
    pub(super) fn look_for_pre_hooks(&mut self) {
        if self.settings.hooks.pre != PreMode::Hold {
            return;
        }
        let runnable = |script: &scripts::Script| script.refusal.is_none();
        self.holds.has_scripts =
            self.hooks.of(Phase::Pre).list().is_ok_and(|scripts| scripts.iter().any(runnable));
        if !self.holds.has_scripts && !self.has_other_nodes() {
            return;
        }
        match self.holds.prepare(&self.exits) {
            Ok(()) => drop(self.problems.remove("guard")),
            Err(error) => {
                let what = format!("it cannot be started: {error}; no job is held, pre hooks run late");
                log::error!("the guard: {what}");
                self.problems.insert("guard", what);
            }
        }
    }

    /// A pre is late for the scripts to come when its job is not held, or not any more.
    pub(super) fn tell_of_lateness(&mut self, seq: i64) {
        let Some(delivery) = self.deliveries.get_mut(&seq) else { return };
        let event = &mut delivery.event;
        let in_time = event.key.phase == Phase::Post
            || self.settings.hooks.pre != PreMode::Hold
            || self.holds.holds(event.key);
        if !in_time && !event.late {
            event.late = true;
            environment::set_late(&mut delivery.common);
            self.counters.events_late += 1;
            self.changes.push(Change::Late(seq));
        }
    }

    /// The jobs that are held.
    pub(super) fn held_jobs(&self) -> Vec<HeldJob> {
        let held = self.holds.held.iter();
        held.map(|(id, hold)| HeldJob {
            job: *id,
            event: hold.key.to_string(),
            pid: hold.process.pid,
            seconds: hold.since.elapsed().as_secs_f64(),
            late: hold.landing == Landing::Late,
            hook: self.running_hook(hold.key),
        })
        .collect()
    }

    /// The script that runs for an event.
    fn running_hook(&self, key: EventKey) -> Option<String> {
        let delivery = self.deliveries.values().find(|delivery| delivery.event.key == key)?;
        let run = delivery.running.values().next()?;
        let here = run.node == self.node;
        Some(if here { run.script.clone() } else { format!("{} on {}", run.script, run.node) })
    }
}

/// The owner of the queue directory; root where that cannot be told.
pub fn owner_of(queue_dir: &std::path::Path) -> u32 {
    std::fs::metadata(queue_dir).map_or(0, |metadata| metadata.uid())
}
