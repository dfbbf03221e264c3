//! The daemon of a test.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ganeti_hookd::world::api;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::job::Job;
use super::job_process::JobProcess;
use super::tree::Tree;
use super::{FENCE, PATIENCE, PROGRAM, wait_for};

/// A daemon that runs.
pub struct Daemon<'t> {
    tree: &'t Tree,
    child: Child,
    socket: PathBuf,
    inbox: Receiver<String>,
    heard: RefCell<Vec<String>>,
}

impl<'t> Daemon<'t> {
    /// Starts a daemon with these variables and waits until it says that it is ready.
    pub fn start(tree: &'t Tree, variables: &[(&str, &str)]) -> Self {
        let mut daemon = Self::spawn(tree, variables, &[]);
        daemon.wait_ready();
        daemon
    }

    /// Starts a daemon, by way of these words (`nohup`) if there are any.
    pub fn spawn(tree: &'t Tree, variables: &[(&str, &str)], by: &[&str]) -> Self {
        Self::spawn_program(tree, variables, &[by, &[PROGRAM]].concat())
    }

    /// The same with another copy of the program, the last of these words.
    pub fn spawn_program(tree: &'t Tree, variables: &[(&str, &str)], program: &[&str]) -> Self {
        let log = File::options().create(true).append(true).open(tree.path("hookd.log")).unwrap();
        let (socket, inbox) = listen(&tree.path("notify"));
        // A descriptor that somebody left open is not for hooks.
        let child = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" run 7</dev/null", "sh"])
            .args(program)
            .arg("--config")
            .arg(tree.config())
            .stdin(Stdio::null())
            .env_remove("RUST_LOG")
            .env_remove("JOURNAL_STREAM")
            .env("NOTIFY_SOCKET", &socket)
            .env("GANETI_HOOKD_FAULTS", tree.path("faults"))
            .envs(variables.iter().copied())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { tree, child, socket, inbox, heard: RefCell::default() }
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.hears("READY=1", Duration::from_millis(50)) {
            let ended = self.child.try_wait().unwrap();
            assert!(Instant::now() < deadline, "the daemon is not ready\n{}", self.log());
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.log());
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops it as SIGSTOP does, and waits until each of its threads stands still.
    pub fn stand_still(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid().as_raw_nonzero());
        let stands = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        let all_stand = || fs::read_dir(&tasks).unwrap().flatten().all(stands).then_some(());
        wait_for(all_stand, || "a daemon that stands still".to_owned());
    }

    /// Kills it: no chance to say or write anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as systemd does, and tells how it ended and how long that took.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        self.signal(Signal::TERM);
        let (child, tree) = (&mut self.child, self.tree);
        let status = wait_for(|| child.try_wait().unwrap(), || format!("the daemon's end\n{}", tree.log()));
        (status, begin.elapsed())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.tree.log()
    }

    /// Waits until the log has so many lines with this text.
    pub fn wait_log(&self, text: &str, count: usize) {
        let is_there = || (self.logged(text) >= count).then_some(());
        wait_for(is_there, || format!("{count} times \"{text}\" in the log:\n{}", self.log()));
    }

    /// The number of lines in the log with this text.
    pub fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until it has sent this to systemd.
    pub fn wait_message(&self, text: &str) {
        assert!(self.hears(text, PATIENCE), "no {text} among {:?}", self.heard.borrow());
    }

    fn hears(&self, text: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let has =
            |messages: &[String]| messages.iter().any(|message| message.lines().any(|l| l.starts_with(text)));
        while !has(&self.heard.borrow()) {
            match self.inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(message) => self.heard.borrow_mut().push(message),
                Err(_) => return false,
            }
        }
        true
    }

    /// Forgets what it has sent to systemd so far.
    pub fn forget_messages(&self) {
        while self.inbox.try_recv().is_ok() {}
        self.heard.borrow_mut().clear();
    }

    /// Waits until the history is as wanted.
    pub fn wait(&self, what: &str, is_there: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_for(
            || Some(self.tree.events()).filter(|events| is_there(events)),
            || format!("{what}; there is {:#?}, the log is\n{}", self.tree.told(), self.log()),
        )
    }

    /// Waits until these events are over: their hooks have ended, or are not ours to run.
    pub fn wait_done(&self, keys: &[&str]) {
        self.wait(&format!("the end of {keys:?}"), |events| keys.iter().all(|key| is_done(events, key)));
    }

    /// Waits until hooks have logged so many lines.
    pub fn wait_hooks(&self, count: usize) {
        let is_there = || (self.tree.hook_log().len() >= count).then_some(());
        wait_for(is_there, || {
            format!(
                "{count} lines from hooks; there is {:#?}, the log is\n{}",
                self.tree.hook_log(),
                self.log()
            )
        });
    }

    /// Makes sure that everything that happened in the queue before has been seen, by a
    /// job that comes after it.
    pub fn fence(&self) {
        let number = (FENCE..).find(|id| !self.tree.job_path(*id).exists()).unwrap();
        self.tree.put(&Job::ended(number));
        self.wait_done(&[&format!("{number}.0.post")]);
    }

    /// What it tells of itself.
    pub fn status(&self) -> Value {
        serde_json::from_slice(&api::get(&self.tree.path("hookd"), "/v1/status").unwrap()).unwrap()
    }

    /// Waits until the kernel is to stop a process when it publishes.
    pub fn wait_armed(&self, process: &JobProcess) {
        let what = format!("process {} is armed", process.pid());
        self.wait_status(&what, |status| is_armed(status, process.pid()));
    }

    /// Waits until what it tells of itself is as wanted.
    pub fn wait_status(&self, what: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        wait_for(
            || Some(self.status()).filter(|status| is_there(status)),
            || format!("{what}; there is {:#}, the log is\n{}", self.status(), self.log()),
        )
    }
}

/// Whether the process is armed, or where the kernel stops nobody, some process is watched.
pub fn is_armed(status: &Value, process: u32) -> bool {
    let cannot = status["hold_exact"] == false && status["hold_means"] != "";
    let armed = status["armed"].as_array().unwrap();
    cannot && status["processes_watched"] != 0 || armed.iter().any(|armed| armed["pid"] == json!(process))
}

fn is_done(events: &[Value], key: &str) -> bool {
    events.iter().any(|event| event["event"] == key && event["state"] != "pending")
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = UnixDatagram::unbound().and_then(|end| end.send_to(END, &self.socket));
    }
}

/// Ends the listener.
const END: &[u8] = b"HARNESS=end";

/// Listens as systemd does: at once, since whoever sends waits until there is room.
fn listen(socket: &Path) -> (PathBuf, Receiver<String>) {
    let _ = fs::remove_file(socket);
    let listener = UnixDatagram::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    let (sender, inbox) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = listener.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if &buffer[..length] == END || sender.send(text).is_err() {
                return;
            }
        }
    });
    (socket.to_owned(), inbox)
}
