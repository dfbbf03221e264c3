//! The daemon killed at random moments while jobs come, run, fail, are canceled and die.
//!
//! `HOOKD_CRASH_KILLS=500` makes it the longer form, `HOOKD_CRASH_SEED=N` repeats a run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::supervised::{LOGS, Supervised, check, wait_going};
use crate::harness::job_process::JobProcess;
use crate::harness::{Job, Tree};

/// How often the daemon is killed in the normal form.
const KILLS: u32 = 40;

/// Random numbers that can be had again (xorshift).
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed: Option<u64> = std::env::var("HOOKD_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed
            .unwrap_or_else(|| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into());
        println!("HOOKD_CRASH_SEED={seed}");
        Self(seed * 2 + 1)
    }

    /// One of `0..n`.
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// What a job does next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Waits,
    Runs,
    Logs,
    Retries,
    Succeeds,
    Fails,
    IsCanceled,
    Dies,
    IsArchived,
}

/// A job on its way.
struct Life {
    job: Job,
    process: Option<JobProcess>,
    op: usize,
    todo: Vec<Step>,
    expected: Vec<String>,
    has_run: bool,
}

impl Life {
    fn new(tree: &Tree, id: i64, dice: &mut Dice) -> Self {
        let job = Job::new(id, &vec!["OP_TEST_DELAY"; 1 + dice.roll(3) as usize]);
        tree.put_serial(id);
        tree.put(&job);
        Self { job, process: None, op: 0, todo: Vec::new(), expected: Vec::new(), has_run: false }
    }

    fn is_over(&self) -> bool {
        self.todo.is_empty() && self.op >= self.ops()
    }

    fn ops(&self) -> usize {
        self.job.file["ops"].as_array().unwrap().len()
    }

    /// Decides what becomes of the next opcode.
    fn plan(&mut self, dice: &mut Dice) {
        use Step::{Dies, Fails, IsArchived, IsCanceled, Logs, Retries, Runs, Succeeds, Waits};
        self.has_run = false;
        let mut steps = match dice.roll(10) {
            0 => vec![Waits, Fails],
            1 => vec![Waits, IsCanceled],
            2 => vec![Waits, Dies],
            3 => vec![Waits, Runs, Dies],
            4 => vec![Waits, Runs, Logs, Fails],
            5 => vec![Waits, Runs, Retries, Runs, Succeeds],
            6 => vec![Runs, Succeeds],
            _ => vec![Waits, Runs, Logs, Succeeds],
        };
        let ends = !steps.contains(&Succeeds) || self.op + 1 == self.ops();
        // A dead job whose end is not in its file cannot be archived.
        if ends && !steps.contains(&Dies) && dice.one_in(3) {
            steps.push(IsArchived);
        }
        steps.reverse();
        self.todo = steps;
    }

    /// Takes the next step, unless the job process is held.
    fn step(&mut self, tree: &Tree, dice: &mut Dice) {
        if self.is_over() || self.process.as_ref().is_some_and(|process| process.state() == 'T') {
            return;
        }
        if self.todo.is_empty() {
            self.plan(dice);
        }
        let Some(step) = self.todo.pop() else { return };
        if self.process.is_none() && step != Step::IsArchived {
            self.process = Some(tree.process_of(&mut self.job));
        }
        self.take(step, tree, dice);
    }

    fn take(&mut self, step: Step, tree: &Tree, dice: &mut Dice) {
        let (op, id) = (self.op, self.job.id);
        let post = |status: &str| format!("{id}.{op}.post {status}");
        match step {
            Step::Waits => tree.put(self.job.waits(op)),
            Step::Runs => {
                if !std::mem::replace(&mut self.has_run, true) {
                    self.expected.push(format!("{id}.{op}.pre"));
                }
                tree.put(self.job.runs(op));
            }
            Step::Logs => tree.put(self.job.logs(op, "still there")),
            Step::Retries => {
                self.job.waits(op).op(op)["exec_timestamp"] = json!(null);
                tree.put(&self.job);
            }
            Step::Succeeds => {
                self.expected.push(post("succeeded"));
                tree.put(self.job.succeeds(op));
                self.next(op + 1 == self.ops());
            }
            Step::Fails => {
                self.expected.push(post("failed"));
                tree.put(self.job.fails(op));
                self.next(true);
            }
            Step::IsCanceled => {
                tree.put(self.job.is_canceled(op));
                self.next(true);
            }
            Step::Dies => {
                self.expected.push(post("disappeared"));
                self.op = self.ops();
                if let Some(process) = self.process.take() {
                    process.kill();
                }
                if dice.one_in(2) {
                    tree.put(self.job.death_is_detected());
                }
            }
            Step::IsArchived => tree.archive(id),
        }
    }

    /// The opcode has ended, and perhaps the job.
    fn next(&mut self, is_last: bool) {
        self.op = if is_last { self.ops() } else { self.op + 1 };
        if is_last && let Some(process) = self.process.take() {
            process.exit();
        }
    }
}

/// Lets an instant of up to `limit` pass, to be somewhere else in the daemon's work.
fn linger(dice: &mut Dice, limit: Duration) {
    let until = Instant::now() + limit.mul_f64(dice.roll(1000) as f64 / 1000.0);
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

/// Kills the daemon, and now and then its guard before it, as `systemctl kill` does.
fn kill(daemon: &mut Supervised<'_>, lives: &[Life], dice: &mut Dice) {
    if dice.one_in(3) {
        // In the middle of a start.
        daemon.revive();
        linger(dice, Duration::from_millis(30));
    }
    let with_guard = dice.one_in(4);
    if with_guard {
        kill_guards(daemon.tree);
    }
    daemon.kill();
    if with_guard {
        // As the unit's ExecStopPost does.
        assert_eq!(daemon.tree.cli(&["release"]).code, Some(0));
    }
    for life in lives {
        life.process.iter().for_each(wait_going);
    }
}

/// Kills the guards of this tree's daemons: they have the daemon for a parent.
fn kill_guards(tree: &Tree) {
    let Ok(status) = ganeti_hookd::world::api::get(&tree.path("hookd"), "/v1/status") else { return };
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", status["pid"]);
    for pid in std::fs::read_to_string(children).unwrap_or_default().split_whitespace() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "hookd-guard" {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn wanted_kills() -> u32 {
    std::env::var("HOOKD_CRASH_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS)
}

#[test]
fn killed_at_any_moment_it_loses_nothing_and_leaves_no_job_stopped() {
    let mut dice = Dice::new();
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    tree.set("hooks.workers", "4");
    for phase in ["pre", "post"] {
        tree.hook(phase, "10-log", &LOGS.replace("MORE", "[ $(($$ % 3)) = 0 ] && sleep 0.03"));
    }
    let mut daemon = Supervised::start(&tree);
    daemon.revive().wait_ready();
    let (mut lives, mut expected) = (Vec::<Life>::new(), BTreeMap::new());
    let (mut next_id, begin, mut memory) = (1, Instant::now(), 0);
    while daemon.deaths < wanted_kills() || !lives.is_empty() {
        if lives.len() < 6 && daemon.deaths < wanted_kills() {
            lives.push(Life::new(&tree, next_id, &mut dice));
            next_id += 1;
        }
        let chosen = dice.roll(lives.len() as u64) as usize;
        lives[chosen].step(&tree, &mut dice);
        if lives[chosen].is_over() {
            let life = lives.swap_remove(chosen);
            expected.insert(life.job.id, life.expected);
        }
        linger(&mut dice, Duration::from_millis(4));
        memory = memory.max(peak_memory(&mut daemon));
        if dice.one_in(8) && daemon.deaths < wanted_kills() {
            kill(&mut daemon, &lives, &mut dice);
        }
        if !dice.one_in(4) {
            daemon.revive();
        }
        assert!(begin.elapsed() < Duration::from_secs(3600), "{}", tree.log());
    }
    let count: usize = expected.values().map(Vec::len).sum();
    daemon.wait("every event's end", |tree| {
        let events = tree.events();
        (events.len() >= count && events.iter().all(|event| event["state"] == "done")).then_some(())
    });
    expected.retain(|_, events: &mut Vec<String>| !events.is_empty());
    let tally = check(&tree, &expected);
    assert_eq!(daemon.revive().status()["held"], json!([]));
    println!(
        "{} kills, {} jobs, {} events, {} runs begun, {} of them again, 0 lost, at most {memory} KiB, {:.1} s",
        daemon.deaths,
        next_id - 1,
        tally.events,
        tally.begun,
        tally.repeated,
        begin.elapsed().as_secs_f64()
    );
}

/// The most memory that the daemon that runs has had, in KiB.
fn peak_memory(daemon: &mut Supervised<'_>) -> u64 {
    let pid = daemon.revive().pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
