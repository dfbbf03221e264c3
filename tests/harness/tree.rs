//! The directories of a master, in a temporary place.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ganeti_hookd::world::journal::{Filter, History};
use serde_json::Value;
use tempfile::TempDir;

use super::job::Job;
use super::job_process::{JobProcess, Publisher};
use super::process::Daemon;
use super::{CLUSTER, FENCE, NODE, PROGRAM};

/// A hook that logs one line: its name, the event, how it ended, and what makes this
/// run different from others.
const LOG_LINE: &str = r#"echo "$(basename "$0") $GANETI_HOOKD_EVENT ${GANETI_POST_STATUS:--} late=$GANETI_HOOKD_LATE attempt=$GANETI_HOOKD_ATTEMPT" >>LOG"#;

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A master's directories.
pub struct Tree {
    dir: TempDir,
    settings: RefCell<BTreeMap<&'static str, String>>,
    /// What publishes a job's versions: its process.
    publishers: RefCell<BTreeMap<i64, Publisher>>,
}

impl Tree {
    /// A master without jobs and hooks.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = Self { dir, settings: RefCell::default(), publishers: RefCell::default() };
        for dir in ["queue/archive", "data", "hooks/global-pre.d", "hooks/global-post.d", "run/livelocks"] {
            fs::create_dir_all(tree.path(dir)).unwrap();
        }
        tree.put_data("ssconf_master_node", NODE);
        tree.put_data("ssconf_cluster_name", CLUSTER);
        let paths = [
            ("paths.queue-dir", "queue"),
            ("paths.data-dir", "data"),
            ("paths.hooks-dir", "hooks"),
            ("paths.ganeti-run-dir", "run"),
            ("paths.state-dir", "state"),
            ("paths.run-dir", "hookd"),
        ];
        for (key, name) in paths {
            tree.set(key, &format!("{:?}", tree.path(name)));
        }
        tree.set("master.name", &format!("{NODE:?}"));
        // Here jobs are not held: what holding is has tests of its own.
        tree.set("hooks.pre", "\"notify\"");
        tree
    }

    /// A master with a hook `10-log` in both phases that logs its runs.
    pub fn with_log() -> Self {
        let tree = Self::new();
        tree.log_hook("pre", "10-log", "");
        tree.log_hook("post", "10-log", "");
        tree
    }

    /// A path in the tree.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("hookd.toml")
    }

    /// Sets a key of the configuration; the value is TOML.
    pub fn set(&self, key: &'static str, value: &str) {
        let mut settings = self.settings.borrow_mut();
        settings.insert(key, value.to_owned());
        let lines: Vec<String> = settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        fs::write(self.config(), lines.concat()).unwrap();
    }

    /// Writes a file of Ganeti's data directory as Ganeti does: by rename.
    pub fn put_data(&self, name: &str, value: &str) {
        let new = self.path(&format!("data/{name}.new"));
        fs::write(&new, format!("{value}\n")).unwrap();
        fs::rename(new, self.path("data").join(name)).unwrap();
    }

    /// The path of a job's file in the queue.
    pub fn job_path(&self, id: i64) -> PathBuf {
        self.path(&format!("queue/job-{id}"))
    }

    /// Puts a version of a job in place as Ganeti does: under another name, then renamed, by the
    /// job's process if there is one. It has run on when this returns, or stands still.
    pub fn put(&self, job: &Job) {
        let new = self.path(&format!("queue/job-{}rcjk9k5j.new", job.id));
        fs::write(&new, job.text()).unwrap();
        let publisher = self.publishers.borrow().get(&job.id).cloned();
        if !publisher.is_some_and(|publisher| publisher.publish(&new, &self.job_path(job.id))) {
            fs::rename(new, self.job_path(job.id)).unwrap();
        }
    }

    /// Puts a version of a job in place as luxid does, whatever its process does.
    pub fn put_by_luxid(&self, job: &Job) {
        self.put_bytes(job.id, job.text().as_bytes());
    }

    /// Puts a job file of any content in place.
    pub fn put_bytes(&self, id: i64, bytes: &[u8]) {
        let new = self.path(&format!("queue/job-{id}rcjk9k5j.new"));
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.job_path(id)).unwrap();
    }

    /// Puts a job through all its versions, each opcode well.
    pub fn run_through(&self, job: &mut Job) {
        self.put(job);
        for op in 0..job.file["ops"].as_array().unwrap().len() {
            self.put(job.waits(op));
            self.put(job.runs(op));
            self.put(job.succeeds(op));
        }
    }

    /// Moves a job to the archive.
    pub fn archive(&self, id: i64) {
        let dir = self.path(&format!("queue/archive/{}", id / 10_000));
        fs::create_dir_all(&dir).unwrap();
        fs::rename(self.job_path(id), dir.join(format!("job-{id}"))).unwrap();
    }

    /// The last job number that was given out.
    pub fn put_serial(&self, serial: i64) {
        fs::write(self.path("queue/serial.new"), format!("{serial}\n")).unwrap();
        fs::rename(self.path("queue/serial.new"), self.path("queue/serial")).unwrap();
    }

    /// The path of a livelock.
    pub fn livelock(&self, name: &str) -> PathBuf {
        self.path("run/livelocks").join(name)
    }

    /// Starts a process that holds a livelock, and names it in the job.
    pub fn process_of(&self, job: &mut Job) -> JobProcess {
        let livelock = self.livelock(&format!("job_{:06}_1795366000", job.id));
        let process = JobProcess::start(&livelock);
        job.process(livelock.display(), Some(process.pid()));
        self.publishes(&process, job.id);
        process
    }

    /// A job whose opcode executes, and its process.
    pub fn executing(&self, id: i64) -> (Job, JobProcess) {
        let mut job = Job::delay(id);
        let process = self.process_of(&mut job);
        self.put(job.waits(0));
        self.put(job.runs(0));
        (job, process)
    }

    /// The process publishes the versions of this job from now on.
    pub fn publishes(&self, process: &JobProcess, job: i64) {
        self.publishers.borrow_mut().insert(job, process.publisher());
    }

    /// What the daemon is to do at its fault points, a line each.
    pub fn faults(&self, lines: &str) {
        let _ = fs::remove_file(self.path("faults.died"));
        fs::write(self.path("faults.new"), lines).unwrap();
        fs::rename(self.path("faults.new"), self.path("faults")).unwrap();
    }

    /// From the next start on the daemon cannot have the kernel stop processes.
    pub fn refuse_kernel_stop(&self) {
        self.faults("fail kernel.stop\n");
    }

    /// Installs a hook: a shell script in which DIR and LOG stand for the tree and the
    /// hooks' log.
    pub fn hook(&self, phase: &str, name: &str, body: &str) {
        self.hook_in(&format!("global-{phase}.d"), name, body);
    }

    /// The same in any hooks directory, which is made.
    pub fn hook_in(&self, directory: &str, name: &str, body: &str) {
        let log = self.path("hooks.log").display().to_string();
        let body = body.replace("LOG", &log).replace("DIR", &self.dir.path().display().to_string());
        fs::create_dir_all(self.path("hooks").join(directory)).unwrap();
        self.put_hook(directory, name, &format!("#!/bin/sh\n{body}\n"));
    }

    /// Installs a hook of any content.
    pub fn file_hook(&self, phase: &str, name: &str, content: &str) {
        self.put_hook(&format!("global-{phase}.d"), name, content);
    }

    fn put_hook(&self, directory: &str, name: &str, content: &str) {
        let path = self.path("hooks").join(directory).join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Installs a hook that logs its run, then does `more`, then logs its end.
    pub fn log_hook(&self, phase: &str, name: &str, more: &str) {
        let end =
            if more.is_empty() { "" } else { "echo \"end $(basename \"$0\") $GANETI_HOOKD_EVENT\" >>LOG" };
        // The name is put in now: a basename costs a process a run.
        let body = format!("{LOG_LINE}\n{more}\n{end}").replace("$(basename \"$0\")", name);
        self.hook(phase, name, &body);
    }

    /// The lines that hooks have logged, without those of fences.
    pub fn hook_log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("hooks.log")).unwrap_or_default();
        let is_fence = |line: &str| {
            let event = line.split(' ').find(|word| word.ends_with(".pre") || word.ends_with(".post"));
            event.and_then(|event| event.split('.').next()?.parse().ok()) >= Some(FENCE)
        };
        log.lines().filter(|line| !is_fence(line)).map(str::to_owned).collect()
    }

    /// The history, as `events --json` shows it.
    pub fn events(&self) -> Vec<Value> {
        let Some(history) = History::open(&self.path("state")).unwrap() else { return vec![] };
        let mut events = Vec::new();
        history
            .events(&Filter::default(), |event| {
                events.push(serde_json::from_str(&event.to_json()).unwrap());
                true
            })
            .unwrap();
        events
    }

    /// The history in short, without fences: `1.0.post succeeded late`.
    pub fn told(&self) -> Vec<String> {
        self.events().iter().filter(|event| event["job"].as_i64() < Some(FENCE)).map(in_short).collect()
    }

    /// One event of the history, the last one of its name.
    pub fn event(&self, key: &str) -> Value {
        self.events()
            .into_iter()
            .rfind(|event| event["event"] == key)
            .unwrap_or_else(|| panic!("no event {key}"))
    }

    /// What daemons have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("hookd.log")).unwrap_or_default()
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&self) -> Daemon<'_> {
        Daemon::start(self, &[])
    }

    /// The program with this tree's configuration.
    pub fn program(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(self.config()).stdin(Stdio::null());
        command
    }

    /// Runs a command of the program to its end.
    pub fn cli(&self, args: &[&str]) -> Said {
        let output = self.program().args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// An event in short.
pub fn in_short(event: &Value) -> String {
    let mut text = event["event"].as_str().unwrap().to_owned();
    if let Some(status) = event["status"].as_str() {
        text += &format!(" {status}");
    }
    if event["late"] == true {
        text += " late";
    }
    text
}

impl Drop for Tree {
    /// Ends hooks that are left, and what they started: their environment names the tree.
    fn drop(&mut self) {
        let data_dir = format!("GANETI_DATA_DIR={}", self.path("data").display());
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if has_variable(&entry.path(), &data_dir)
                && let Some(pid) = name.parse().ok().and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn has_variable(proc: &Path, variable: &str) -> bool {
    fs::read(proc.join("environ"))
        .is_ok_and(|environ| environ.split(|b| *b == 0).any(|entry| entry == variable.as_bytes()))
}
