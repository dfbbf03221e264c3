//! Starting the daemon.

use std::convert::identity;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::clients::Owner;
use super::hands::Hands;
use super::hands::doors::Doors;
use super::hands::journal::Books;
use super::hands::own_name::OwnName;
use super::hands::processes::Processes;
use super::hands::queue::Queue;
use super::hands::runs::Runs;
use super::inbox::{self, Inbox, Shift};
use super::message::Message;
use super::reruns::Reruns;
use super::settings_file::{StartError, distrusted, io_error, node_name, read_settings};
use super::threads::deaths::Deaths;
use super::threads::outboxes::Outboxes;
use super::watchdog::Watchdog;
use super::{Clocks, Daemon, Done};
use crate::engine::Engine;
use crate::engine::change::Remembered;
use crate::engine::input::Input;
use crate::engine::settings::{Paths, Settings};
use crate::world::api::bell::Bell;
use crate::world::api::{self, Api};
use crate::world::cluster::own_name;
use crate::world::flood::Flow;
use crate::world::process::held_file::{self, HeldFile};
use crate::world::process::priority;
use crate::world::queue::mounts;
use crate::world::{clock, failpoints, own_files, panics, signals};

/// Runs the daemon until it is told to stop (SIGTERM, SIGINT).
///
/// # Errors
/// When it cannot start. Once it runs it does not give up.
pub fn run(config: &Path) -> Result<(), StartError> {
    begin_afresh();
    let settings = read_settings(config)?;
    let paths = &settings.paths;
    make_dir(&paths.state_dir)?;
    make_dir(&paths.run_dir)?;
    let _lock = lock(&paths.state_dir)?;
    let open = own_files::close_to_others(&[&paths.state_dir, &paths.run_dir]);
    for what in open.into_iter().chain(distrusted(config).map(|refusal| refusal.to_string())) {
        log::warn!("{what}");
    }
    failpoints::point("start.locked");
    let held_file = release_leftovers(&paths.run_dir)?;
    let (inbox, messages) = Inbox::new();
    let sender = inbox.sender();
    tell_of_panics(sender.clone());
    let window = settings.master.failover_window;
    let (journal, remembered) = Books::open(&paths.state_dir, window, sender.clone())?;
    failpoints::point("start.loaded");
    handle_signals(sender.clone()).map_err(io_error("signals cannot be handled"))?;
    let bell = Bell::new().map_err(io_error("clients of the API cannot be woken"))?;
    let _api = serve_api(paths, Arc::clone(&bell), sender.clone())?;
    watch_mounts(sender.clone()).map_err(io_error("mounts cannot be watched"))?;
    watch_name(sender.clone());
    let node = node_name(&settings);
    let hands = hands(&settings, &node, held_file, journal, &bell, &inbox)?;
    // The watcher, which is started from here, as well. Who waits for processes to end does so itself.
    priority::raise();
    inbox.put(daemon(config, settings, node, remembered, hands, messages.clone(), bell));
    work(&inbox, &messages)
}

/// Works until told to stop.
fn work(inbox: &Inbox, messages: &Receiver<Message>) -> Result<(), StartError> {
    // After a panic nothing of the daemon can be relied on: it stays where it is, behind a lock that
    // nobody gets. With the process, all goes that it holds.
    panics::caught(|| work_on(inbox, messages)).and_then(identity).map_err(StartError::Defect)
}

fn work_on(inbox: &Inbox, messages: &Receiver<Message>) -> Result<(), String> {
    loop {
        let mut daemon = inbox.daemon()?;
        match daemon.as_mut().map_or(Err(Done), Daemon::work) {
            Ok(deadline) => {
                drop(daemon);
                inbox::wait(messages, deadline);
            }
            Err(Done) => {
                if let Some(mut daemon) = daemon.take() {
                    daemon.end();
                }
                return Ok(());
            }
        }
    }
}

/// A panic of any thread is logged, and counted by the engine.
fn tell_of_panics(inbox: Sender<Message>) {
    static FLOW: Flow = Flow::new();
    panics::tell(move |line| {
        FLOW.error(&line);
        let _ = inbox.send(Message::Input(Input::Panicked(line)));
    });
}

/// Does away with what whoever started us left to us.
fn begin_afresh() {
    // They may have had some ignored (`nohup`, a shell's `&`) or blocked; with SIGCHLD ignored
    // no exit status of a hook would ever be known.
    signals::reset();
    // Whatever the clock does from now on, it has been as slow as this.
    let _ = clock::boot_time();
}

/// Makes a directory that only its owner may enter, and those above it.
fn make_dir(dir: &Path) -> Result<(), StartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io_error(format!("the directory {} cannot be made", dir.display())))
}

/// Makes sure that no other daemon uses the state directory, until the file is closed.
fn lock(state_dir: &Path) -> Result<File, StartError> {
    let path = state_dir.join(own_files::LOCK);
    let wrap = || io_error(format!("{} cannot be locked", path.display()));
    let file = own_files::open(&path).map_err(wrap())?;
    // A lock of the process, not of the file descriptor: a hook that is just being started
    // when the daemon is killed must not keep it from the next daemon.
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(StartError::Locked(state_dir.to_owned())),
        Err(errno) => Err(wrap()(errno.into())),
    }
}

/// Lets go what an earlier daemon left stopped, should its guard have died with it. Returns
/// the file of held processes; what could not be let go stays in it.
fn release_leftovers(run_dir: &Path) -> Result<HeldFile, StartError> {
    let file = match held_file::release(run_dir) {
        Ok(pids) => {
            if !pids.is_empty() {
                log::warn!("an earlier daemon left job processes stopped; they go on now: {pids:?}");
            }
            HeldFile::create(run_dir)
        }
        Err(error) => {
            let dir = run_dir.display();
            log::error!(
                "the file of held processes in {dir}: {error}; job processes that an earlier daemon held \
                 may still be stopped: see to it, and run ganeti-hookd release"
            );
            HeldFile::keep(run_dir)
        }
    };
    file.map_err(io_error(format!("the file of held processes in {} cannot be made", run_dir.display())))
}

fn handle_signals(inbox: Sender<Message>) -> io::Result<()> {
    let mut signals = signals::handle(&[SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            panics::insist(|| {
                failpoints::defect("signals");
                let message = if signal == SIGHUP { Message::Reload } else { Message::Stop };
                let _ = inbox.send(message);
            });
        }
    })?;
    Ok(())
}

fn serve_api(paths: &Paths, bell: Arc<Bell>, inbox: Sender<Message>) -> Result<Api, StartError> {
    api::serve(paths, bell, Owner(inbox))
        .map_err(io_error(format!("the API socket in {} cannot be made", paths.run_dir.display())))
}

fn watch_mounts(inbox: Sender<Message>) -> io::Result<()> {
    mounts::watch(move || {
        let _ = inbox.send(Message::Mounts);
    })
}

/// Without it another name of the system is noticed when the cluster's files change.
fn watch_name(inbox: Sender<Message>) {
    let tell = move || drop(inbox.send(Message::NameChanged));
    if let Err(error) = own_name::watch(tell) {
        log::warn!("another name of the system cannot be waited for: {error}");
    }
}

/// To be made when all signal handlers are set.
fn hands(
    settings: &Settings,
    node: &str,
    held_file: HeldFile,
    journal: Books,
    bell: &Arc<Bell>,
    inbox: &Inbox,
) -> Result<Hands, StartError> {
    let paths = &settings.paths;
    let name = OwnName::new(settings, node.to_owned(), inbox.sender());
    let mut doors = Doors::new(paths, inbox.sender());
    doors.open(&settings.api);
    Ok(Hands {
        doors,
        processes: Processes::new(paths, held_file, inbox)
            .map_err(io_error("the ends of processes cannot be watched"))?,
        runs: Runs::new(paths, name, inbox).map_err(io_error("hooks cannot be planned and run"))?,
        queue: Queue::new(paths, inbox.clone()).map_err(io_error("the queue cannot be read"))?,
        deaths: Deaths::new(paths, inbox.sender()),
        outboxes: Outboxes::new(paths, Arc::clone(bell), inbox.sender()),
        journal,
    })
}

fn daemon(
    config: &Path,
    settings: Settings,
    node: String,
    remembered: Remembered,
    hands: Hands,
    inbox: Receiver<Message>,
    bell: Arc<Bell>,
) -> Daemon {
    let clocks = Clocks { begun: Instant::now() };
    Daemon {
        engine: Engine::new(settings, node, remembered, clocks.now()),
        hands,
        inbox,
        shift: Shift::default(),
        clocks,
        config: config.to_owned(),
        bell,
        reruns: Reruns::default(),
        watchdog: Watchdog::new(),
        summary: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_list_of_held_processes_that_cannot_be_read_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        fs::write(&path, vec![b'\n'; 17 * 1024 * 1024]).unwrap();
        release_leftovers(dir.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 17 * 1024 * 1024);
        fs::write(&path, "+ 4000000000 1\n").unwrap();
        release_leftovers(dir.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0, "nothing is left of it");
    }
}
