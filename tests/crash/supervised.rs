//! A daemon that is started again when it dies, as systemd does it, and what must be true
//! whatever happened to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::job_process::JobProcess;
use crate::harness::{Daemon, Tree, process, wait_for};

/// A daemon, and how often it has been started.
pub struct Supervised<'t> {
    pub tree: &'t Tree,
    daemon: Option<Daemon<'t>>,
    pub starts: u32,
    pub deaths: u32,
}

impl<'t> Supervised<'t> {
    /// Starts the daemon; it may be dead before it is ready.
    pub fn start(tree: &'t Tree) -> Self {
        let mut supervised = Self { tree, daemon: None, starts: 0, deaths: 0 };
        supervised.revive();
        supervised
    }

    /// Starts the daemon where there is none.
    pub fn revive(&mut self) -> &mut Daemon<'t> {
        if self.daemon.as_mut().is_some_and(|daemon| daemon.ended().is_some()) {
            self.daemon = None;
            self.deaths += 1;
        }
        let (tree, starts) = (self.tree, &mut self.starts);
        self.daemon.get_or_insert_with(|| {
            *starts += 1;
            let faults = tree.path("faults").display().to_string();
            Daemon::spawn(tree, &[("GANETI_HOOKD_FAULTS", &faults), ("RUST_LOG", "warn")], &[])
        })
    }

    /// Kills the daemon.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.deaths += 1;
            daemon.kill();
        }
    }

    /// Asks the daemon to end, and waits until it has, in whatever way.
    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
    }

    /// Looks until `look` finds something, and keeps the daemon alive meanwhile.
    pub fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&Tree) -> Option<T>) -> T {
        let tree = self.tree;
        let explain = || format!("{what}; {:#?}\n{:#?}\n{}", tree.told(), tree.hook_log(), tree.log());
        wait_for(
            || {
                self.revive();
                look(tree)
            },
            explain,
        )
    }

    /// Waits until the kernel is to stop a process when it publishes.
    pub fn wait_armed(&mut self, process: &JobProcess) {
        self.wait("the process is armed", |tree| is_armed(tree, process).then_some(()));
    }

    /// Waits until these events are over.
    pub fn wait_done(&mut self, keys: &[&str]) {
        self.wait(&format!("the end of {keys:?}"), |tree| {
            let events = tree.events();
            let is_done = |key: &&str| events.iter().any(|e| e["event"] == **key && e["state"] == "done");
            keys.iter().all(is_done).then_some(())
        });
    }
}

/// Whether the daemon that runs has armed the process.
fn is_armed(tree: &Tree, process: &JobProcess) -> bool {
    let answer = ganeti_hookd::world::api::get(&tree.path("hookd"), "/v1/status");
    let status = answer.ok().and_then(|answer| serde_json::from_slice(&answer).ok());
    status.is_some_and(|status| process::is_armed(&status, process.pid()))
}

/// Waits until a process is not stopped.
pub fn wait_going(process: &JobProcess) {
    wait_for(|| (process.state() != 'T').then_some(()), || format!("process {} goes on", process.pid()));
}

/// A line of the hooks' log.
#[derive(Debug)]
struct Ran {
    event: String,
    attempt: u32,
    is_end: bool,
}

/// What the hooks have logged, as [`LOGS`] writes it.
fn ran(tree: &Tree) -> Vec<Ran> {
    let log = fs::read_to_string(tree.path("hooks.log")).unwrap_or_default();
    let take = |line: &str| {
        let mut words = line.split(' ');
        let (kind, event, attempt) = (words.next()?, words.next()?, words.next()?);
        Some(Ran { event: event.to_owned(), attempt: attempt.parse().ok()?, is_end: kind == "end" })
    };
    log.lines().filter_map(take).collect()
}

/// A hook that logs its begin and its end, and takes a moment.
pub const LOGS: &str = "echo \"begin $GANETI_HOOKD_EVENT $GANETI_HOOKD_ATTEMPT\" >>LOG\n\
    MORE\n\
    echo \"end $GANETI_HOOKD_EVENT $GANETI_HOOKD_ATTEMPT\" >>LOG";

/// What came of a check.
#[derive(Debug, Default)]
pub struct Tally {
    pub events: usize,
    pub begun: usize,
    pub repeated: usize,
}

/// Checks that each expected event is in the history once and ran to an end, that what
/// ran again said so, and that a job's events ran one after the other.
///
/// `expected` has the events of each job in their order: `1.0.pre`, `1.0.post succeeded`.
pub fn check(tree: &Tree, expected: &BTreeMap<i64, Vec<String>>) -> Tally {
    let told = told_by_job(&tree.events());
    for (job, events) in expected {
        let none = Vec::new();
        assert_eq!(told.get(job).unwrap_or(&none), events, "job {job}\n{}", tree.log());
    }
    assert!(told.keys().all(|job| expected.contains_key(job)), "invented: {told:?}");
    let ran = ran(tree);
    let mut tally = Tally::default();
    for event in expected.values().flatten() {
        let key = event.split(' ').next().unwrap();
        let attempts: Vec<u32> =
            ran.iter().filter(|ran| ran.event == key && !ran.is_end).map(|ran| ran.attempt).collect();
        assert!(ran.iter().any(|ran| ran.event == key && ran.is_end), "{key} was lost\n{ran:?}");
        // A script outlives the daemon that was killed, and may say so after the next attempt.
        let different: BTreeSet<&u32> = attempts.iter().collect();
        assert_eq!(different.len(), attempts.len(), "{key} ran again unsaid: {attempts:?}");
        tally.events += 1;
        tally.begun += attempts.len();
        tally.repeated += attempts.len() - 1;
    }
    for events in expected.values() {
        check_order(events, &ran);
    }
    check_journal(&tree.path("state/journal.db"));
    tally
}

/// The events of each job in the order of the feed, in short.
fn told_by_job(events: &[Value]) -> BTreeMap<i64, Vec<String>> {
    let mut told: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for event in events {
        let status = event["status"].as_str().map(|status| format!(" {status}")).unwrap_or_default();
        let text = format!("{}{status}", event["event"].as_str().unwrap());
        told.entry(event["job"].as_i64().unwrap()).or_default().push(text);
    }
    told
}

/// An event's scripts begin only when a run of the event before has come to its end, and
/// never again once the next event's have begun; one that outlived its daemon may say so
/// later.
fn check_order(events: &[String], ran: &[Ran]) {
    let key = |event: &String| event.split(' ').next().unwrap().to_owned();
    for pair in events.windows(2) {
        let (before, after) = (key(&pair[0]), key(&pair[1]));
        let first = ran.iter().position(|ran| ran.event == after && !ran.is_end).unwrap();
        let ended = ran[..first].iter().any(|ran| ran.event == before && ran.is_end);
        let begun = |ran: &&Ran| ran.event == before && !ran.is_end;
        let last = ran[..first].iter().filter(begun).map(|ran| ran.attempt).max();
        let again = ran[first..].iter().filter(begun).any(|ran| Some(ran.attempt) > last);
        assert!(ended && !again, "{before} and {after} are out of order in {ran:#?}");
    }
}

/// The journal is sound, and nothing in it is left to do.
fn check_journal(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let pending: i64 =
        db.query_row("SELECT count(*) FROM events WHERE state = 'pending'", [], |row| row.get(0)).unwrap();
    assert_eq!(pending, 0);
}
