//! Starting the daemon, and ending it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::hold::Holds;
use super::large::LargeFiles;
use super::message::Message;
use super::planner::Planner;
use super::report::Watchdog;
use super::role::{Role, StandbyEvent};
use super::workers::Workers;
use super::{Daemon, now};
use crate::engine::dispatch::Dispatch;
use crate::engine::settings::{Findings, Settings};
use crate::engine::status::Counters;
use crate::engine::tracker::Tracker;
use crate::ganeti::job::{JobId, Timestamp};
use crate::world::api::{self, Backend, Question};
use crate::world::clock;
use crate::world::cluster::{Cluster, system_name};
use crate::world::failpoints;
use crate::world::hook::run::Starter;
use crate::world::hook::scripts::Hooks;
use crate::world::journal::{
    self, Change, EventState, Filter, History, Journal, JournalError, Loaded, Undelivered,
};
use crate::world::noded::NodeDaemons;
use crate::world::process::exits::Exits;
use crate::world::process::held_file::{self, HeldFile};
use crate::world::process::priority;
use crate::world::queue::mounts;
use crate::world::queue::read::JobReader;
use crate::world::regular_file;
use crate::world::shortage::explain;
use crate::world::signals;

/// The file that is locked while a daemon runs, below the state directory.
const LOCK_FILE: &str = "lock";

/// Node daemons that are asked at the same time.
const CALLERS_MAX: usize = 64;

/// The largest configuration file, in bytes.
const CONFIG_LIMIT: u64 = 1024 * 1024;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{path}: {error}")]
    Unreadable {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The configuration says something that cannot be.
    #[error("{path} is not a good configuration:\n{findings}")]
    Settings {
        /// The configuration file.
        path: PathBuf,
        /// Everything that is wrong with it.
        findings: Findings,
    },
    /// Another daemon runs.
    #[error("another ganeti-hookd runs with the state directory {0}; one is enough")]
    Locked(PathBuf),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The system says no.
    #[error("{what}: {}", explain(error))]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Io { what: what.into(), error }
}

/// The settings in a configuration file; the defaults where the default one is missing.
///
/// # Errors
/// When the file cannot be read, or says something that cannot be.
pub fn read_settings(path: &Path) -> Result<Settings, StartError> {
    let unreadable = |error: String| StartError::Unreadable { path: path.to_owned(), error };
    // The administrator's own file may well be a link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let bytes = match regular_file::read(&target, CONFIG_LIMIT) {
        Ok(Some(bytes)) => bytes,
        Ok(None) if path == Path::new(crate::engine::settings::DEFAULT_PATH) => {
            return Ok(Settings::default());
        }
        Ok(None) => return Err(unreadable("there is no such file".to_owned())),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))?;
    Settings::parse(&text).map_err(|findings| StartError::Settings { path: path.to_owned(), findings })
}

/// This node's name, as in `ssconf_master_node`.
pub fn node_name(settings: &Settings) -> String {
    if settings.master.name.is_empty() { system_name() } else { settings.master.name.clone() }
}

/// Runs the daemon until it is told to stop (SIGTERM, SIGINT).
///
/// # Errors
/// When it cannot start. Once it runs it does not give up.
pub fn run(config: &Path) -> Result<(), StartError> {
    // Whoever started us may have had some ignored (`nohup`, a shell's `&`) or blocked; with
    // SIGCHLD ignored no exit status of a hook would ever be known.
    signals::reset();
    // Whatever the clock does from now on, it has been as slow as this.
    let _ = clock::boot_time();
    let settings = read_settings(config)?;
    let paths = &settings.paths;
    make_dir(&paths.state_dir)?;
    make_dir(&paths.run_dir)?;
    let _lock = lock(&paths.state_dir)?;
    failpoints::point("start.locked");
    release_leftovers(&paths.run_dir);
    let held_file = HeldFile::create(&paths.run_dir).map_err(io_error(format!(
        "the file of held processes in {} cannot be made",
        paths.run_dir.display()
    )))?;
    let (journal, loaded) = open_journal(&paths.state_dir, settings.master.failover_window)?;
    failpoints::point("start.loaded");
    let (sender, inbox) = unbounded();
    handle_signals(sender.clone()).map_err(io_error("signals cannot be handled"))?;
    let backend = ApiBackend { state_dir: paths.state_dir.clone(), inbox: sender.clone() };
    let _api = api::serve(&paths.run_dir, backend)
        .map_err(io_error(format!("the API socket in {} cannot be made", paths.run_dir.display())))?;
    watch_mounts(sender.clone()).map_err(io_error("mounts cannot be watched"))?;
    let exits = exits(sender.clone()).map_err(io_error("the ends of processes cannot be watched"))?;
    let starter = Starter::new().map_err(io_error("hooks cannot be run"))?;
    let workers = |max| Workers::new(sender.clone(), max).map_err(io_error("hooks cannot be run"));
    let (workers, callers) = (workers(usize::MAX)?, workers(CALLERS_MAX)?);
    let node = node_name(&settings);
    let planner = Planner::start(paths, sender.clone()).map_err(io_error("hooks cannot be planned"))?;
    let large = LargeFiles::start(&paths.queue_dir, sender.clone())
        .map_err(io_error("large job files cannot be read"))?;
    let mut daemon = Daemon {
        node,
        daemons: NodeDaemons::new(&paths.data_dir),
        cluster: Cluster::new(&paths.data_dir),
        hooks: Hooks::new(&paths.hooks_dir),
        starter: Arc::new(starter),
        role: Role::Standby,
        master: None,
        reader: JobReader::new(&paths.queue_dir),
        large,
        config: config.to_owned(),
        settings,
        journal,
        tracker: Tracker::default(),
        numbers: loaded.numbers.clone(),
        dispatch: Dispatch::default(),
        deliveries: BTreeMap::new(),
        more_to_begin: false,
        standby: VecDeque::new(),
        begun: loaded.begun,
        inbox,
        sender,
        watch: None,
        exits,
        planner,
        workers,
        callers,
        unknown: Default::default(),
        online_nodes: 0,
        processes: BTreeMap::new(),
        dead: BTreeMap::new(),
        holds: Holds::new(held_file),
        queue_owner: 0,
        dirty: Default::default(),
        rescan: true,
        starting: true,
        changes: Vec::new(),
        numbers_changed: false,
        effects: Vec::new(),
        shelved: Vec::new(),
        short: false,
        again: Default::default(),
        retry_at: None,
        stalled: None,
        prune_at: Instant::now(),
        stopping: None,
        started: now(),
        counters: Counters::default(),
        bad_files: BTreeMap::new(),
        problems: BTreeMap::new(),
        failures: VecDeque::new(),
        change: 0,
        waiters: Vec::new(),
        watchdog: Watchdog::new(),
    };
    // The watcher, which is started from here, as well.
    priority::raise();
    daemon.start(loaded);
    daemon.main_loop();
    daemon.end();
    Ok(())
}

/// Makes a directory that only its owner may enter, and those above it.
fn make_dir(dir: &Path) -> Result<(), StartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io_error(format!("the directory {} cannot be made", dir.display())))
}

/// Lets go what an earlier daemon left stopped, should its guard have died with it.
fn release_leftovers(run_dir: &Path) {
    match held_file::release(run_dir) {
        Ok(pids) if pids.is_empty() => {}
        Ok(pids) => log::warn!("an earlier daemon left job processes stopped; they go on now: {pids:?}"),
        Err(error) => log::error!("the file of held processes: {error}"),
    }
}

/// Makes sure that no other daemon uses the state directory, until the file is closed.
fn lock(state_dir: &Path) -> Result<File, StartError> {
    let path = state_dir.join(LOCK_FILE);
    let wrap = || io_error(format!("{} cannot be locked", path.display()));
    let file = File::create(&path).map_err(wrap())?;
    // A lock of the process, not of the file descriptor: a hook that is just being started
    // when the daemon is killed must not keep it from the next daemon.
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(StartError::Locked(state_dir.to_owned())),
        Err(errno) => Err(wrap()(errno.into())),
    }
}

/// Opens the journal and reads it. A damaged one is set aside: it is better to start as
/// on first start than not at all.
fn open_journal(state_dir: &Path, failover_window: Duration) -> Result<(Journal, Loaded), JournalError> {
    if let Some(aside) = journal::put_in_place(state_dir, now()) {
        log::warn!("the journal that was written anew is in place; the damaged one is {aside}");
    }
    let open = || {
        let mut journal = Journal::open(state_dir)?;
        let window = i64::try_from(failover_window.as_micros()).unwrap_or(i64::MAX);
        let loaded = journal.load(Timestamp::from_micros(now().as_micros().saturating_sub(window)))?;
        journal.checkpoint_aside(state_dir);
        Ok::<_, JournalError>((journal, loaded))
    };
    let error = match open() {
        Err(error) if error.is_unusable() => error,
        result => return result,
    };
    let aside = journal::set_aside(state_dir, now());
    log::error!(
        "{error}; it is set aside as {aside}, and the daemon starts as on first start: \
         what happened since it last ran is not delivered"
    );
    let (mut journal, loaded) = open()?;
    // Which numbers it had given out nobody knows; there were not as many as seconds.
    let seconds = now().as_micros() / 1_000_000;
    journal.give_out_none_below(seconds)?;
    Ok((journal, loaded))
}

fn handle_signals(inbox: Sender<Message>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let message = if signal == SIGHUP { Message::Reload } else { Message::Stop };
            if inbox.send(message).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn watch_mounts(inbox: Sender<Message>) -> io::Result<()> {
    mounts::watch(move || {
        let _ = inbox.send(Message::Mounts);
    })
}

fn exits(inbox: Sender<Message>) -> io::Result<Exits> {
    Exits::new(move |token| {
        let id = i64::try_from(token).ok().and_then(|id| JobId::try_from(id).ok());
        let _ = inbox.send(id.map_or(Message::GuardEnded, Message::Exited));
    })
}

/// What the API speaks for.
struct ApiBackend {
    state_dir: PathBuf,
    inbox: Sender<Message>,
}

impl Backend for ApiBackend {
    fn ask(&self, question: Question) -> bool {
        self.inbox.send(Message::Asked(question)).is_ok()
    }

    fn feed(&self, after: i64, limit: u32) -> io::Result<Vec<u8>> {
        let filter = Filter { after, limit: Some(limit), ..Filter::default() };
        let mut lines = Vec::new();
        if let Some(history) = History::open(&self.state_dir).map_err(io::Error::other)? {
            history
                .events(&filter, |event| {
                    lines.extend_from_slice(event.to_json().as_bytes());
                    lines.push(b'\n');
                    true
                })
                .map_err(io::Error::other)?;
        }
        Ok(lines)
    }
}

impl Daemon {
    /// Takes up what an earlier life left, and compares it with the queue.
    fn start(&mut self, loaded: Loaded) {
        self.tracker = loaded.tracker;
        self.standby = loaded
            .standby
            .into_iter()
            .map(|Undelivered { seq, event, runs, plan }| StandbyEvent::resumed(seq, event, runs, plan))
            .collect();
        self.update_role();
        for Undelivered { seq, mut event, runs, plan } in loaded.undelivered {
            if self.is_anothers() {
                event.late = true;
                self.changes.push(Change::EventState(seq, EventState::Standby));
                self.remember_in_standby(StandbyEvent::resumed(seq, event, runs, plan));
            } else {
                self.adopt(seq, event, runs, plan);
            }
        }
        if self.begun.is_none() {
            log::info!("first start: jobs that have ended are history");
        }
        // Watch first, then look at everything.
        self.work();
        while !self.dirty.is_empty() {
            self.work();
        }
        failpoints::point("start.before-ready");
        log::info!("ready: {}", self.summary());
        self.watchdog.status(&self.summary());
        self.watchdog.ready();
    }

    /// Once everything has been looked at, what is found happens now.
    pub(super) fn finish_start(&mut self) {
        if self.starting && !self.rescan && self.dirty.is_empty() {
            self.starting = false;
            if self.begun.is_none() {
                self.begun = Some(now());
                self.changes.push(Change::Begun(now()));
            }
        }
    }

    /// Waits for the last scripts, so that nothing of ours is left running.
    fn end(&mut self) {
        for workers in [&mut self.workers, &mut self.callers] {
            workers.end_scripts();
            workers.join();
        }
        failpoints::point("stop.scripts-ended");
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::RunEnded { run, seq, outcome } => self.run_ended(run, seq, outcome),
                Message::NodeEnded { run, seq, outcome, scripts } => {
                    self.node_ended(run, seq, outcome, scripts);
                }
                _ => {}
            }
        }
        self.stalled = self.stalled.map(|_| Instant::now());
        self.commit();
        log::info!("stopped");
    }
}
