//! What holding costs a job, and how far a job gets before it stands still.
//!
//! Here the process renames its job file itself, as a job process does, and looks at the
//! clock all the time afterwards: a gap is the hold. Run with
//! `cargo test --release --test hold_cost -- --ignored --nocapture --test-threads 1`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod harness;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Job, Tree};

/// Names the livelock to the process that renames.
const LIVELOCK: &str = "HOLD_COST_LIVELOCK";

/// The process goes on looking at the clock for this long.
const WATCHED: Duration = Duration::from_millis(400);

/// One rename as the process saw it, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Rename {
    /// How long it went on after the rename was over; 0 when it was stopped within.
    went_on: u64,
    /// From the beginning of the rename until it went on after the hold.
    held_until: u64,
}

/// A process that holds a livelock and renames what it is told to.
struct Renamer {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Renamer {
    fn start(livelock: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_process_that_renames", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(LIVELOCK, livelock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut renamer = Self { out: BufReader::new(child.stdout.take().unwrap()), child };
        assert_eq!(renamer.answer(), "locked");
        renamer
    }

    /// Its next word to us, among those of the test harness.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it has ended");
            if let Some((_, answer)) = line.trim_end().split_once("@ ") {
                return answer.to_owned();
            }
        }
    }

    /// Has it rename; a hold is a gap of at least so long.
    fn rename(&mut self, from: &Path, to: &Path, gap: Duration) -> Option<Rename> {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{} {} {}", gap.as_micros(), from.display(), to.display()).unwrap();
        let answer = self.answer();
        let (went_on, held_until) = answer.split_once(' ')?;
        Some(Rename { went_on: went_on.parse().unwrap(), held_until: held_until.parse().unwrap() })
    }
}

impl Drop for Renamer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "it is the job process of the measurements below"]
fn the_process_that_renames() {
    let Some(livelock) = std::env::var_os(LIVELOCK) else { return };
    let file = File::create(livelock).unwrap();
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    println!("@ locked");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let [gap, from, to] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        match rename_and_watch(Duration::from_micros(gap.parse().unwrap()), from, to) {
            Some(rename) => println!("@ {} {}", rename.went_on, rename.held_until),
            None => println!("@ never"),
        }
    }
}

fn rename_and_watch(gap: Duration, from: &str, to: &str) -> Option<Rename> {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap();
    let begin = Instant::now();
    fs::rename(from, to).unwrap();
    let renamed = Instant::now();
    if renamed - begin >= gap {
        return Some(Rename { went_on: 0, held_until: micros(renamed - begin) });
    }
    let mut last = renamed;
    while last - renamed < WATCHED {
        let now = Instant::now();
        if now - last >= gap {
            return Some(Rename { went_on: micros(last - renamed).max(1), held_until: micros(now - begin) });
        }
        last = now;
    }
    None
}

/// Runs so many jobs, one after the other, with this pre hook.
fn measure(jobs: i64, hook: &str, gap: Duration) -> Vec<Option<Rename>> {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    tree.file_hook("pre", "10-hook", hook);
    let daemon = tree.start();
    let livelock = tree.livelock("job_000001_1795366000");
    let mut process = Renamer::start(&livelock);
    let mut renames = Vec::new();
    for id in 1..=jobs {
        let mut job = Job::delay(id);
        tree.put(job.process(livelock.display(), Some(process.child.id())).waits(0));
        let watched = |status: &serde_json::Value| status["processes_watched"] == 1;
        daemon.wait_status("the process is watched", watched);
        let new = tree.path(&format!("queue/job-{id}rcjk9k5j.new"));
        fs::write(&new, job.runs(0).text()).unwrap();
        renames.push(process.rename(&new, &tree.job_path(id), gap));
        tree.put(job.succeeds(0));
        daemon.wait_done(&[&format!("{id}.0.post")]);
    }
    println!("counters: {}", daemon.status()["counters"]);
    renames
}

fn percentiles(mut values: Vec<u64>) -> String {
    values.sort_unstable();
    let at = |part: f64| values.get(((values.len() - 1) as f64 * part) as usize).copied().unwrap_or_default();
    format!("median {} us, p90 {} us, p99 {} us, most {} us", at(0.5), at(0.9), at(0.99), at(1.0))
}

#[test]
#[ignore = "a measurement, for an idle machine"]
fn what_a_hold_costs() {
    let renames = measure(200, "#!/bin/true\n", Duration::from_micros(400));
    let held: Vec<Rename> = renames.iter().flatten().copied().collect();
    println!("{} of {} were held with /bin/true as pre hook", held.len(), renames.len());
    println!("rename until it goes on: {}", percentiles(held.iter().map(|r| r.held_until).collect()));
    println!("in the rename itself: {}", held.iter().filter(|r| r.went_on == 0).count());
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
#[ignore = "a measurement, for an idle machine; HOLD_COST_HOGS makes it busy"]
fn how_far_jobs_get() {
    let hogs: usize = std::env::var("HOLD_COST_HOGS").map_or(0, |hogs| hogs.parse().unwrap());
    let _hogs = Hogs::start(hogs);
    let renames = measure(100, "#!/bin/sh\nsleep 0.15\n", Duration::from_millis(140));
    let held: Vec<Rename> = renames.iter().flatten().copied().collect();
    println!("{} of {} were held beside {hogs} busy processes", held.len(), renames.len());
    println!("in the rename itself: {}", held.iter().filter(|r| r.went_on == 0).count());
    println!("went on after it for: {}", percentiles(held.iter().map(|r| r.went_on).collect()));
}
