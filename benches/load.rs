//! What the daemon needs for a large queue: the start, memory, nothing while nothing
//! happens, and a hundred thousand transitions as fast as they can be written.
//!
//! `cargo bench --bench load`. `QUEUE` (5,000), `ARCHIVE` (1,000,000) and `IDLE` (10 s) say
//! how much of it. On a file system in memory, `TMPDIR=/dev/shm`, the writer is not kept
//! from its work by the disk.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

#[expect(dead_code, reason = "other benchmarks use the rest of it")]
mod master;

use master::{Kill, Result, epoch, hookd, make_dirs, number, start_daemon};

/// Opcodes of a job of the transitions.
const OPS: u32 = 10;

fn main() -> Result<()> {
    start()?;
    transitions()
}

/// A long queue and a longer archive.
fn start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    make_dirs(dir)?;
    let (queue, archive) = (number("QUEUE", 5000), number("ARCHIVE", 1_000_000));
    fill_archive(dir, archive)?;
    for id in archive + 1..=archive + queue {
        fs::write(dir.join(format!("queue/job-{id}")), job(id, OPS, 2 * OPS))?;
    }
    fs::write(dir.join("queue/serial"), format!("{}\n", archive + queue))?;
    for what in ["first start", "next start"] {
        let reading = read_all(dir)?;
        let begin = Instant::now();
        let daemon = start_daemon(dir, &hookd())?;
        let ready = begin.elapsed();
        println!(
            "{what}: ready after {:.0} ms with {queue} jobs and {archive} in the archive; \
             reading those jobs takes {:.0} ms",
            ready.as_secs_f64() * 1e3,
            reading.as_secs_f64() * 1e3
        );
        if what == "next start" {
            println!("memory: {}", memory(&daemon)?);
            idle(&daemon)?;
        }
    }
    Ok(())
}

/// Links to a few files: a million files would fill the disk.
fn fill_archive(dir: &Path, count: u32) -> Result<()> {
    const IN_DIR: u32 = 10_000;
    for first in (0..count).step_by(IN_DIR as usize) {
        let sub = dir.join(format!("queue/archive/{}", first / IN_DIR));
        fs::create_dir_all(&sub)?;
        let file = sub.join(format!("job-{}", first + 1));
        fs::write(&file, job(first + 1, 1, 2))?;
        for id in first + 2..=(first + IN_DIR).min(count) {
            fs::hard_link(&file, sub.join(format!("job-{id}")))?;
        }
    }
    Ok(())
}

/// How long it takes to read the queue and do nothing with it.
fn read_all(dir: &Path) -> Result<Duration> {
    let begin = Instant::now();
    for entry in fs::read_dir(dir.join("queue"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::hint::black_box(fs::read(entry.path())?);
        }
    }
    Ok(begin.elapsed())
}

fn memory(daemon: &Kill) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id()))?;
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    Ok(format!("{}, {}", line("VmRSS"), line("RssAnon")).replace('\t', " "))
}

/// How often a thread of the daemon wakes up while nothing happens.
fn idle(daemon: &Kill) -> Result<()> {
    let seconds = number("IDLE", 10);
    let before = switches(daemon)?;
    thread::sleep(Duration::from_secs(seconds.into()));
    println!("idle: {} wake-ups in {seconds} s", switches(daemon)? - before);
    Ok(())
}

fn switches(daemon: &Kill) -> Result<u64> {
    let mut count = 0;
    for task in fs::read_dir(format!("/proc/{}/task", daemon.0.id()))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let switches = status.lines().filter_map(|line| line.split_once("_ctxt_switches:"));
        count += switches.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum::<u64>();
    }
    Ok(count)
}

/// As many transitions as fast as they can be renamed into place; then each event is
/// there once, each job's in order.
fn transitions() -> Result<()> {
    let jobs = number("QUEUE", 5000);
    let alone = {
        let dir = tempfile::tempdir()?;
        make_dirs(dir.path())?;
        write_all(dir.path(), jobs)?
    };
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    make_dirs(dir)?;
    let daemon = start_daemon(dir, &hookd())?;
    let begin = Instant::now();
    let writing = write_all(dir, jobs)?;
    let all = u64::from(jobs * OPS * 2);
    let status = loop {
        let status = master::status(dir)?;
        if status.counters.events >= all && status.undelivered == 0 {
            break status;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let (told, log) = (begin.elapsed(), fs::metadata(dir.join("state/journal.db-wal"))?.len() >> 20);
    let events = Command::new(hookd())
        .arg("--config")
        .arg(dir.join("hookd.toml"))
        .args(["events", "--json"])
        .output()?;
    let events = String::from_utf8(events.stdout)?;
    let mut next = vec![0_u32; jobs as usize + 1];
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        let (id, op) =
            (event["job"].as_u64().unwrap_or(0) as usize, event["op"].as_u64().unwrap_or(0) as u32);
        let expected = 2 * op + u32::from(event["phase"] == "post");
        if next[id] != expected {
            return Err(format!("job {id}: {line} is not event {}", next[id]).into());
        }
        next[id] += 1;
    }
    let complete = next[1..].iter().all(|count| *count == 2 * OPS);
    println!(
        "{all} transitions: {} events, {}; written in {:.2} s ({:.2} s alone), told after {:.2} s \
         (ratio {:.2}); {} versions read, {} overflows, {log} MiB of log; {}",
        events.lines().count(),
        if complete { "each once and in order" } else { "SOME MISSING" },
        writing.as_secs_f64(),
        alone.as_secs_f64(),
        told.as_secs_f64(),
        told.as_secs_f64() / alone.as_secs_f64(),
        status.counters.versions_read,
        status.counters.overflows,
        memory(&daemon)?
    );
    Ok(())
}

/// Every transition of every job, the jobs side by side.
fn write_all(dir: &Path, jobs: u32) -> Result<Duration> {
    let new = dir.join("new");
    let begin = Instant::now();
    for transition in 1..=2 * OPS {
        for id in 1..=jobs {
            fs::write(&new, job(id, OPS, transition))?;
            fs::rename(&new, dir.join(format!("queue/job-{id}")))?;
        }
    }
    Ok(begin.elapsed())
}

/// A job after so many transitions: each opcode begins and ends.
fn job(id: u32, ops: u32, transitions: u32) -> String {
    let time = epoch();
    let mut text = format!(r#"{{"id": {id}, "ops": ["#);
    for op in 0..ops {
        let (status, begun, ended) = match transitions.saturating_sub(2 * op) {
            0 => ("queued", false, false),
            1 => ("running", true, false),
            _ => ("success", true, true),
        };
        let time = |set: bool| if set { format!("[{time}, 0]") } else { "null".to_owned() };
        let comma = if op == 0 { "" } else { ", " };
        let _ = write!(
            text,
            r#"{comma}{{"input": {{"duration": 1.0, "OP_ID": "OP_TEST_DELAY"}}, "status": "{status}", "result": null, "log": [], "start_timestamp": {}, "exec_timestamp": {}, "end_timestamp": {}, "priority": 0}}"#,
            time(begun),
            time(begun),
            time(ended)
        );
    }
    let _ = write!(
        text,
        r#"], "received_timestamp": [1700000000, {id}], "livelock": null, "process_id": null}}"#
    );
    text
}
