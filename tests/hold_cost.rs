//! What holding costs a job, and whether its pre hooks end before it goes on.
//!
//! Here the process looks at the clock all the time after it has renamed its job file: a gap is
//! the hold. Run with
//! `cargo test --release --test hold_cost -- --ignored --nocapture --test-threads 1`; where other
//! programs run, the test under `chrt -f 20`. `REST` is how many milliseconds lie before each rename (10); nobody
//! asks the daemon anything meanwhile. `HOLD_COST_TRIES` is how often (300).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "other tests use the rest of it")]
mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use harness::process::is_armed;
use harness::{Daemon, Job, Tree};
use serde_json::Value;

/// One rename as the process saw it, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Rename {
    /// How long it went on after the rename was over; 0 when it was stopped within.
    went_on: u64,
    /// From the beginning of the rename until it went on after the hold.
    held_until: u64,
    /// When the rename was over for the process, in microseconds since the epoch.
    renamed: u64,
}

/// A C program of benches/.
fn compiled(tree: &Tree, name: &str) -> PathBuf {
    let (program, dir) = (tree.path(name), Path::new(env!("CARGO_MANIFEST_DIR")).join("benches"));
    let source = dir.join(name).with_extension("c");
    assert!(Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(source).status().unwrap().success());
    program
}

/// A process that holds a livelock and renames what it is told to.
struct Renamer {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Renamer {
    fn start(tree: &Tree, livelock: &Path) -> Self {
        let mut child = Command::new(compiled(tree, "job"))
            .arg(livelock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut renamer = Self { out: BufReader::new(child.stdout.take().unwrap()), child };
        assert_eq!(renamer.answer(), "locked");
        renamer
    }

    /// Its next word to us.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it has ended");
        line.trim_end().to_owned()
    }

    /// Has it rename; a hold is a gap of at least so long.
    fn rename(&mut self, from: &Path, to: &Path, gap: Duration) -> Option<Rename> {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{} {} {}", gap.as_micros(), from.display(), to.display()).unwrap();
        let answer = self.answer();
        let [went_on, held_until, renamed] = answer.split(' ').collect::<Vec<_>>()[..] else { return None };
        let number = |text: &str| text.parse().unwrap();
        Some(Rename { went_on: number(went_on), held_until: number(held_until), renamed: number(renamed) })
    }
}

impl Drop for Renamer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A job process, and a daemon that has armed it.
struct Bench<'t> {
    tree: &'t Tree,
    daemon: Daemon<'t>,
    process: Renamer,
    livelock: PathBuf,
}

impl<'t> Bench<'t> {
    fn new(tree: &'t Tree, hook: &str) -> Self {
        tree.set("hooks.pre", "\"hold\"");
        tree.hook("pre", "10-hook", hook);
        let livelock = tree.livelock("job_000001_1795366000");
        Self { tree, daemon: tree.start(), process: Renamer::start(tree, &livelock), livelock }
    }

    /// A job that waits, its process armed.
    fn waiting(&self, id: i64) -> Job {
        let mut job = Job::delay(id);
        self.tree.put(job.process(self.livelock.display(), Some(self.process.child.id())).waits(0));
        let is_armed = |status: &Value| is_armed(status, self.process.child.id());
        self.daemon.wait_status("the process is armed", is_armed);
        job
    }

    /// The process publishes a version.
    fn publish(&mut self, job: &Job, gap: Duration) -> Option<Rename> {
        let new = self.tree.path(&format!("queue/job-{}rcjk9k5j.new", job.id));
        fs::write(&new, job.text()).unwrap();
        self.process.rename(&new, &self.tree.job_path(job.id), gap)
    }

    /// One job whose opcode begins after a rest.
    fn begins(&mut self, id: i64, gap: Duration) -> Option<Rename> {
        let mut job = self.waiting(id);
        rest();
        let rename = self.publish(job.runs(0), gap);
        self.tree.put(job.succeeds(0));
        self.daemon.wait_done(&[&format!("{id}.0.post")]);
        rename
    }
}

fn percentiles(mut values: Vec<u64>) -> String {
    values.sort_unstable();
    let at = |part: f64| values.get(((values.len() - 1) as f64 * part) as usize).copied().unwrap_or_default();
    format!("median {} us, p90 {} us, p99 {} us, most {} us", at(0.5), at(0.9), at(0.99), at(1.0))
}

/// A master rests between two transitions.
fn rest() {
    let rest = std::env::var("REST").map_or(10, |rest| rest.parse().unwrap());
    std::thread::sleep(Duration::from_millis(rest));
}

fn tries() -> i64 {
    std::env::var("HOLD_COST_TRIES").map_or(300, |tries| tries.parse().unwrap())
}

/// A gap that is a hold.
const GAP: Duration = Duration::from_micros(400);

/// A C program that reads inotify, stops, spawns the hook, waits, continues; and the process it stops.
struct Limit {
    child: Child,
    dir: PathBuf,
    process: Renamer,
}

impl Limit {
    fn new(tree: &Tree, hook: &Path) -> Self {
        let (program, dir) = (tree.path("limit"), tree.path("limit-queue"));
        fs::create_dir(&dir).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/limit.c");
        assert!(
            Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(source).status().unwrap().success()
        );
        let process = Renamer::start(tree, &tree.path("limit-livelock"));
        let pid = process.child.id().to_string();
        let mut child = Command::new(program)
            .args([Path::new("hold"), &dir, hook, Path::new(&pid)])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        Self { child, dir, process }
    }

    fn begins(&mut self, tree: &Tree) -> Option<Rename> {
        rest();
        let new = tree.path("limit.new");
        fs::write(&new, Job::delay(1).runs(0).text()).unwrap();
        self.process.rename(&new, &self.dir.join("job-1"), GAP)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "a measurement, for an idle machine"]
fn what_a_hold_costs() {
    let tree = Tree::new();
    let mut bench = Bench::new(&tree, "");
    tree.file_hook("pre", "10-hook", "#!/bin/true\n");
    let mut limit = Limit::new(&tree, &tree.path("hooks/global-pre.d/10-hook"));
    let (mut ours, mut least) = (Vec::new(), Vec::new());
    for id in 1..=tries() {
        ours.extend(bench.begins(id, GAP));
        least.extend(limit.begins(&tree));
    }
    for (name, renames) in [("the limit", &least), ("the daemon", &ours)] {
        let within = renames.iter().filter(|rename| rename.went_on == 0).count();
        println!("by {name}: {} held, {within} of them within the rename", renames.len());
    }
    let sorted = |renames: Vec<Rename>| {
        let mut times: Vec<u64> = renames.iter().map(|rename| rename.held_until).collect();
        times.sort_unstable();
        times
    };
    let (least, ours) = (sorted(least), sorted(ours));
    for percent in [50, 90, 99] {
        let [least, ours] = [&least, &ours].map(|times| times[(times.len() - 1) * percent / 100]);
        let ratio = ours as f64 / least as f64;
        println!("rename until it goes on p{percent}: limit {least} us (1.00) daemon {ours} us ({ratio:.2})");
    }
}

#[test]
#[ignore = "a measurement, for an idle machine"]
fn what_another_version_costs() {
    let tree = Tree::new();
    let mut bench = Bench::new(&tree, "");
    let mut job = bench.waiting(1);
    let pause = || std::thread::sleep(Duration::from_millis(15));
    let mut publish = |bench: &mut Bench<'_>| {
        pause();
        let rename = bench.publish(job.logs(0, "waits"), Duration::ZERO);
        rename.unwrap().held_until
    };
    let armed = (0..tries()).map(|_| publish(&mut bench)).collect();
    tree.set("hooks.pre", "\"notify\"");
    bench.daemon.signal(rustix::process::Signal::HUP);
    bench.daemon.wait_status("nobody is armed", |status| status["armed"] == serde_json::json!([]));
    let not = (0..tries()).map(|_| publish(&mut bench)).collect();
    println!("a version that is not running, armed: {}", percentiles(armed));
    println!("not armed:                            {}", percentiles(not));
}

/// Processes that never rest.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start(number: usize) -> Self {
        let hog = || Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..number).map(|_| hog()).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

#[test]
#[ignore = "a measurement; HOLD_COST_HOGS makes the machine busy"]
fn opcodes_that_begin_at_once() {
    let hogs: usize = std::env::var("HOLD_COST_HOGS").map_or(0, |hogs| hogs.parse().unwrap());
    let _hogs = Hogs::start(hogs);
    let tree = Tree::new();
    let mut bench = Bench::new(
        &tree,
        "begin=$(date +%s%6N); sleep 0.01; echo \"$GANETI_JOB_ID $GANETI_HOOKD_LATE $begin $(date +%s%6N)\" >>LOG",
    );
    let (mut first, mut wrongly, mut late) = (0, 0, 0);
    for id in 1..=tries() {
        let renamed = bench.begins(id, Duration::ZERO).unwrap().renamed;
        let log = tree.hook_log();
        let words: Vec<&str> = log.last().unwrap().split(' ').collect();
        let [begin, end] = [words[2], words[3]].map(|word| word.parse::<u64>().unwrap());
        assert_eq!(words[0], id.to_string());
        first += u32::from(end <= renamed);
        late += u32::from(words[1] == "yes");
        wrongly += u32::from(words[1] == "no" && begin > renamed);
    }
    println!(
        "{hogs} busy loops, {} tries: the pre hook ended first in {first}, LATE=yes {late}, LATE=no wrongly {wrongly}",
        tries()
    );
    println!("counters: {}", bench.daemon.status()["counters"]);
}
