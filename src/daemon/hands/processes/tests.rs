//! Processes that are stopped, seen from inside.

use std::time::Duration;

use std::process::{Child, Command};

use crossbeam_channel::Receiver;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::*;
use crate::engine::settings::Settings;
use crate::ganeti::job::JobId;
use crate::world::process::{hold, stat};

const TOKEN: Token = Token(7);
const BEGAN: Timestamp = Timestamp::from_micros(1);

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
        let (inbox, messages) = Inbox::new();
        let mut processes = Processes::new(&paths, HeldFile::create(dir.path()).unwrap(), &inbox).unwrap();
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        processes.exits.add(pidfd.as_fd(), TOKEN.0).unwrap();
        let process = ProcessRef { pid: child.id(), livelock: "none".to_owned(), started: None };
        processes.watched.insert(
            TOKEN,
            Watched {
                process,
                pidfd,
                is_wanted: true,
                verified: None,
                state: State::Free,
                allowance: None,
                ticket: None,
            },
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
        bench.processes.stop(TOKEN, Duration::from_secs(1), BEGAN, true, || true),
        Err("its process is not known to be alive".to_owned())
    );
    bench.processes.go_on(TOKEN, job());
    assert!(bench.processes.watched.is_empty() && bench.held().is_empty());
}

#[test]
fn who_proves_nothing_is_not_stopped() {
    let mut bench = Bench::new();
    assert!(bench.processes.stop(TOKEN, Duration::from_secs(1), BEGAN, true, || true).is_err());
    let unknown = bench.processes.stop(Token(8), Duration::from_secs(1), BEGAN, true, || true);
    assert_eq!(unknown, Err("its process is not known to be alive".to_owned()));
    let dead = ProcessRef { pid: 0, livelock: String::new(), started: None };
    assert!(matches!(bench.processes.find(Token(9), dead), Presence::Unknown(_)));
    bench.await_state(b"SRD");
}
