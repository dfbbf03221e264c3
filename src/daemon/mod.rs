//! The daemon: the only owner of the state, and the loop around it.
//!
//! Other threads send it messages. In each turn it takes all there are, looks at every
//! job that changed, writes what came to light to the journal in one transaction, and
//! only then lets scripts run. A turn that could not be written is kept and written
//! later; until then no script starts.

mod deliver;
mod hold;
mod large;
mod message;
mod nodes;
mod observe;
pub mod planner;
mod report;
mod rewrite;
mod role;
mod start;
mod workers;

pub use start::{StartError, node_name, read_settings, run};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::engine::dispatch::Dispatch;
use crate::engine::numbers::Numbers;
use crate::engine::settings::Settings;
use crate::engine::status::{Counters, FailedHook};
use crate::engine::tracker::{Tracker};
use crate::ganeti::job::ProcessRef;
use crate::ganeti::job::{JobId, Timestamp};
pub use crate::world::clock::now;
use crate::world::cluster::Cluster;
use crate::world::failpoints;
use crate::world::hook::run::Starter;
use crate::world::hook::scripts::Hooks;
use crate::world::journal::{Change, Journal};
use crate::world::noded::NodeDaemons;
use crate::world::process::exits::Exits;
use crate::world::queue::read::JobReader;
use crate::world::queue::watch::Watch;
use deliver::Delivery;
use large::LargeFiles;
use message::Message;
use planner::Planner;
use role::{Role, StandbyEvent};
use workers::{Work, Workers};

/// Jobs that are looked at before what was found is written.
const LOOKS_PER_TURN: usize = 1024;

/// A larger job file, in bytes, is read by a thread of its own. One of this size takes
/// about half a millisecond.
const LARGE_FILE: u64 = 1024 * 1024;

/// How long after a failure something is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long scripts may go on after SIGTERM before they are ended.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// A job process whose end will be told.
#[derive(Debug)]
struct Watched {
    process: ProcessRef,
    pidfd: Arc<OwnedFd>,
}

/// The daemon's state.
struct Daemon {
    settings: Settings,
    config: PathBuf,
    node: String,
    cluster: Cluster,
    hooks: Hooks,
    starter: Arc<Starter>,
    role: Role,
    master: Option<String>,

    journal: Journal,
    tracker: Tracker,
    numbers: Numbers,
    dispatch: Dispatch,
    deliveries: BTreeMap<i64, Delivery>,
    /// There are events that may begin, and nothing that keeps them from it.
    more_to_begin: bool,
    /// Events noticed in standby, oldest first.
    standby: VecDeque<StandbyEvent>,
    /// When the first start was; `None` until it is over.
    begun: Option<Timestamp>,

    inbox: Receiver<Message>,
    sender: Sender<Message>,
    watch: Option<Watch>,
    reader: JobReader,
    large: LargeFiles,
    exits: Exits,
    planner: Planner,
    daemons: NodeDaemons,
    /// Run scripts.
    workers: Workers,
    /// Ask node daemons: nodes that hang take no worker from the scripts of this one.
    callers: Workers,
    /// Opcodes that are not in our table, as far as they have been met.
    unknown: BTreeSet<String>,
    /// The number of nodes that are not marked offline, as last looked.
    online_nodes: usize,
    processes: BTreeMap<JobId, Watched>,
    /// Processes that have ended, whose jobs have not been read again since.
    dead: BTreeMap<JobId, ProcessRef>,
    holds: hold::Holds,
    /// The user whose job processes may be signalled, besides root.
    queue_owner: u32,

    /// Jobs to look at.
    dirty: BTreeSet<JobId>,
    /// Look at everything.
    rescan: bool,
    /// What is found now happened before this start.
    starting: bool,
    /// Changes that the journal does not hold yet.
    changes: Vec<Change>,
    numbers_changed: bool,
    /// What may be done once it does.
    effects: Vec<Work>,
    /// Scripts that could not begin.
    shelved: Vec<Work>,
    /// Something that scripts need is short.
    short: bool,
    /// Jobs that could not be read or judged for want of something that may come back.
    again: BTreeSet<JobId>,
    /// Something failed; when to try again.
    retry_at: Option<Instant>,
    /// The journal cannot be written; when that is tried again.
    stalled: Option<Instant>,
    prune_at: Instant,
    stopping: Option<Instant>,

    started: Timestamp,
    counters: Counters,
    bad_files: BTreeMap<JobId, String>,
    problems: BTreeMap<&'static str, String>,
    failures: VecDeque<FailedHook>,
    /// Grows with each change to the history.
    change: u64,
    waiters: Vec<(u64, Sender<u64>)>,
    watchdog: report::Watchdog,
}

impl Daemon {
    /// Takes messages and works until told to stop.
    fn main_loop(&mut self) {
        while !self.is_done() {
            self.wait();
            self.work();
        }
    }

    /// Waits for the next message or the next thing that is due, and takes all messages.
    fn wait(&mut self) {
        let more_to_do = !self.dirty.is_empty() || self.may_scan() || self.more_to_begin;
        if !more_to_do {
            let message = match self.next_deadline() {
                Some(deadline) => self.inbox.recv_deadline(deadline),
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if let Ok(message) = message {
                self.take(message);
            }
        }
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }

    fn may_scan(&self) -> bool {
        self.rescan && self.watch.is_some() && self.retry_at.is_none()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines =
            [self.retry_at, self.stalled, self.watchdog.next(), self.stopping, self.holds.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Job(id) => {
                self.dirty.insert(id);
            }
            Message::Overflow => {
                self.counters.overflows += 1;
                self.rescan = true;
            }
            Message::WatchLost => {
                log::warn!("a watched directory was removed or replaced; watching again");
                self.watch = None;
                self.rescan = true;
            }
            Message::Mounts => self.check_watch(),
            Message::Cluster => {
                self.update_role();
                self.look_for_other_nodes();
            }
            Message::GuardEnded => self.guard_ended(),
            Message::Exited(id) => {
                failpoints::point("exit.noticed");
                self.let_go(id);
                if let Some(watched) = self.processes.remove(&id) {
                    self.dead.insert(id, watched.process);
                    self.dirty.insert(id);
                }
            }
            Message::RunEnded { run, seq, outcome } => self.run_ended(run, seq, outcome),
            Message::Postponed(work, error) => self.postponed(work, error),
            Message::NodeEnded { run, seq, outcome, scripts } => self.node_ended(run, seq, outcome, scripts),
            Message::LargeRead { number, id, content } => self.large_read(number, id, content),
            Message::Planned { seq, plan, problem } => self.planned(seq, plan, problem),
            Message::Asked(question) => self.answer(question),
            Message::Reload => self.reload(),
            Message::Stop => self.stop(),
        }
    }

    /// One turn: look, write, act.
    fn work(&mut self) {
        self.end_holds_in_time();
        if self.watchdog.ping() {
            // A directory above them may have been renamed, which nobody tells.
            self.check_watch();
        }
        // What failed is tried again in this turn, and sets a new time if it fails again.
        self.take_retries();
        self.watch_again();
        if self.may_scan() {
            self.scan();
        }
        for _ in 0..LOOKS_PER_TURN {
            let Some(id) = self.dirty.pop_first() else { break };
            self.observe(id);
        }
        self.finish_start();
        self.prune();
        self.more_to_begin = false;
        if self.dispatch.is_ready() {
            self.update_role();
            self.begin_deliveries();
        }
        // The events and the beginnings of their runs at once.
        self.commit();
        self.end_scripts_in_time();
    }

    /// Takes up what failed, when it is time.
    fn take_retries(&mut self) {
        self.retry_at = self.retry_at.filter(|at| Instant::now() < *at);
        if self.retry_at.is_none() {
            self.short = false;
            self.dirty.append(&mut self.again);
            self.take_up_shelved();
        }
    }

    /// Something failed that is to be tried again.
    fn retry_later(&mut self) {
        self.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
    }

    /// Writes what came to light, and then has done what follows from it.
    fn commit(&mut self) {
        if self.stalled.is_some_and(|until| Instant::now() < until) {
            return;
        }
        if self.numbers_changed {
            self.changes.push(Change::Numbers(self.numbers.clone()));
            self.numbers_changed = false;
        }
        if !self.changes.is_empty()
            && let Err(error) = self.write_changes()
        {
            return self.stall(&error.to_string());
        }
        let written = std::mem::take(&mut self.changes);
        if self.stalled.take().is_some() {
            log::warn!("the journal can be written again; going on");
            self.problems.remove("journal");
            // What waited for this begins in the next turn, at once.
            self.more_to_begin = self.dispatch.is_ready();
        }
        self.submit_effects();
        // Jobs may stand still until their hooks have run; who only listens comes after them.
        self.announce(&written);
    }

    /// The journal cannot be written: keep everything, start nothing, try again.
    fn stall(&mut self, error: &str) {
        self.counters.journal_errors += 1;
        if self.stalled.is_none() {
            log::error!("{error}; no hook starts until the journal can be written, nothing is lost");
        }
        // A time of its own: whatever else is tried again must not put this off.
        self.stalled = Some(Instant::now() + RETRY);
        self.let_all_go();
        self.take_back_unwritten();
        self.problems.insert("journal", error.to_owned());
    }

    /// Tells the log, and those who wait for it, what is new in the history.
    fn announce(&mut self, written: &[Change]) {
        if written.is_empty() {
            return;
        }
        for change in written {
            if let Change::Event(_, event, _) = change {
                log::info!("{event}");
            }
        }
        self.change += 1;
        let change = self.change;
        for (_, waiter) in self.waiters.drain(..) {
            let _ = waiter.send(change);
        }
    }

    /// Forgets old history, at most once an hour, and never for that alone.
    fn prune(&mut self) {
        // A job that has not been looked at since the start may have ended meanwhile.
        if self.starting || Instant::now() < self.prune_at {
            return;
        }
        self.prune_at = Instant::now() + Duration::from_secs(3600);
        let keep = i64::try_from(self.settings.history.keep.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp::from_micros(now().as_micros().saturating_sub(keep));
        self.changes.push(Change::Prune(before));
        self.standby.retain(|standby| standby.event.time >= before);
        self.forget_vanished(before);
    }

    /// Begins to stop: nothing new is started, scripts that run may end.
    fn stop(&mut self) {
        if self.stopping.is_none() {
            log::info!("stopping");
            self.let_all_go();
            self.watchdog.stopping();
            self.give_up_unstarted();
            self.stopping = Some(Instant::now() + STOP_PATIENCE);
        }
    }

    /// Scripts that wait for the journal will not begin any more; the next start runs them.
    fn give_up_unstarted(&mut self) {
        self.effects.append(&mut self.shelved);
        for work in std::mem::take(&mut self.effects) {
            self.take_back(&work);
            if let Some(delivery) = self.deliveries.get_mut(&work.seq) {
                delivery.interrupted = true;
            }
        }
    }

    fn end_scripts_in_time(&mut self) {
        if self.stopping.is_some_and(|at| Instant::now() >= at) {
            self.workers.end_scripts();
            self.callers.end_scripts();
            self.stopping = Some(Instant::now() + STOP_PATIENCE);
        }
    }

    fn is_done(&self) -> bool {
        self.stopping.is_some() && self.deliveries.values().all(|delivery| delivery.running.is_empty())
    }

    /// Reads the configuration again; a bad one changes nothing. Paths stay as they are.
    fn reload(&mut self) {
        self.watchdog.reloading();
        match start::read_settings(&self.config) {
            Ok(settings) => {
                if settings.paths != self.settings.paths {
                    log::warn!("a change of [paths] needs a restart; the other settings apply now");
                }
                self.settings = Settings { paths: self.settings.paths.clone(), ..settings };
                self.problems.remove("configuration");
                log::info!("configuration read again");
                self.node = start::node_name(&self.settings);
                self.update_role();
                self.look_for_pre_hooks();
            }
            Err(error) => {
                log::error!("the configuration stays as it was: {error}");
                self.problems.insert("configuration", error.to_string());
            }
        }
        self.watchdog.ready();
    }
}
