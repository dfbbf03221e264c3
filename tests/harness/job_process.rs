//! Job processes: they hold livelocks, and publish versions of their jobs themselves.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::{PROGRAM, wait_for};

/// A process that holds a livelock.
pub struct JobProcess {
    child: Child,
    publisher: Publisher,
}

impl JobProcess {
    /// Starts it; when this returns it holds the lock.
    pub fn start(livelock: &Path) -> Self {
        Self::start_by(&mut Command::new(PROGRAM), livelock)
    }

    /// Starts it by a command that runs the program.
    pub fn start_by(program: &mut Command, livelock: &Path) -> Self {
        let command = program.arg("stand-in").arg(livelock);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut start = || match command.spawn() {
            // Another test was just starting a program when ours was written.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            child => Some(child.unwrap()),
        };
        let mut child = wait_for(&mut start, || "a program that can be started".to_owned());
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        let said = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&said);
        std::thread::spawn(move || {
            for _ in out.lines().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        let stdin = Arc::new(Mutex::new(child.stdin.take()));
        let publisher = Publisher { pid: child.id(), stdin, said };
        Self { child, publisher }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// By what it publishes.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a job process ends: it removes its livelock and exits.
    pub fn exit(mut self) {
        self.publisher.close();
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it by SIGKILL; its livelock stays.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The letter of its state in `/proc`.
    pub fn state(&self) -> char {
        state(self.pid()).unwrap()
    }

    /// Waits until it stands still.
    pub fn wait_stopped(&self) {
        wait_for(|| (self.state() == 'T').then_some(()), || "the process stands still".to_owned());
    }

    /// Waits until it goes on.
    pub fn wait_going(&self) {
        wait_for(|| (self.state() != 'T').then_some(()), || "the process goes on".to_owned());
    }

    /// Whether it has been stopped, or goes on again, since this was asked last. The
    /// kernel tells a parent also of a stop that is over.
    pub fn has_been_stopped(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), options).unwrap().is_some()
    }
}

impl Drop for JobProcess {
    fn drop(&mut self) {
        self.publisher.close();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The letter of a process's state in `/proc`; `None` when it is gone.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(") ").unwrap() + 2..].chars().next()
}

/// Has a job process publish, from its first thread.
#[derive(Clone, Debug)]
pub struct Publisher {
    pid: u32,
    /// `None` when the process is ended.
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    /// How often it has said something at once after it had published.
    said: Arc<AtomicUsize>,
}

impl Publisher {
    fn close(&self) {
        drop(self.stdin.lock().unwrap().take());
    }

    /// How many versions it has published and ran on afterwards.
    pub fn ran_on(&self) -> usize {
        self.said.load(Ordering::SeqCst)
    }

    /// Has the process put a version in place. When this returns it is in place, and the
    /// process has run on, or stands still. Returns whether there is a process.
    pub fn publish(&self, new: &Path, file: &Path) -> bool {
        let before = self.ran_on();
        let line = format!("publish\t{}\t{}\n", new.display(), file.display());
        let told = match &mut *self.stdin.lock().unwrap() {
            Some(stdin) => stdin.write_all(line.as_bytes()).is_ok(),
            None => false,
        };
        let is_gone = || matches!(state(self.pid), None | Some('Z'));
        if !told || is_gone() {
            return false;
        }
        let is_there = || (is_gone() || !new.exists()).then_some(());
        wait_for(is_there, || format!("process {} publishes {}", self.pid, file.display()));
        let is_over = || (is_gone() || self.ran_on() > before || state(self.pid) == Some('T')).then_some(());
        wait_for(is_over, || format!("process {} runs on or stands still", self.pid));
        !new.exists()
    }
}
