//! What a job costs the daemon in processor time, beside what it costs to read and parse its versions.
//!
//! `cargo bench --bench processor_time`: the release daemon on a temporary tree without hook scripts, and jobs
//! of one opcode as Ganeti writes them: three versions that are queued, then waiting, running and success, by a
//! process that holds a livelock. The daemon's time is that of all its threads, by the kernel's
//! count (`schedstat`), from before a job's first version until it rests after the last. Before each next version this
//! process reads and parses the one before with the library's own reader and parser, as rested as the
//! daemon, and notes its own time; and writes each event to a journal, with a commit for each.
//!
//! `RUNS` is how many jobs (2000), `REST` how many milliseconds lie before each version (10), `HOOKD` another build
//! of the daemon to measure, `BEFORE` one that is measured in turn with it. Nobody asks the daemon anything.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use ganeti_hookd::engine::change::{Change, EventState};
use ganeti_hookd::ganeti::event::{Event, EventKey, Phase};
use ganeti_hookd::ganeti::job::{JobId, Timestamp, parse};
use ganeti_hookd::world::journal::Journal;
use ganeti_hookd::world::queue::read::{JOB_SIZE_LIMIT, JobReader};
use rustix::time::{ClockId, clock_gettime};

#[expect(dead_code, reason = "versions are written before they are put in place")]
mod jobs;
#[expect(dead_code, reason = "other benchmarks use the rest of it")]
mod master;
#[expect(dead_code, reason = "there is no program to compile")]
mod programs;
mod times;

use jobs::{Job, put};
use master::{Kill, Result, epoch, hookd, make_dirs, number, start_with, worked};
use programs::stand_in;
use times::{Pace, Table};

fn main() -> Result<()> {
    let (runs, pace) = (number("RUNS", 2000), Pace::of_environment());
    let dir = tempfile::tempdir()?;
    let mut daemons = vec![("daemon", Master::start(&dir.path().join("daemon"), &hookd())?)];
    if let Some(before) = std::env::var_os("BEFORE") {
        daemons.push(("before", Master::start(&dir.path().join("before"), &before)?));
    }
    let columns = ["reading and parsing", "and two commits"];
    let mut table = Table::new(columns.into_iter().chain(daemons.iter().map(|(name, _)| *name)));
    for _ in 0..runs {
        for (column, (_, master)) in daemons.iter_mut().enumerate() {
            let Costs { reading, commits, daemon } = master.job(pace)?;
            if column == 0 {
                table.add(0, reading);
                table.add(1, reading + commits);
            }
            table.add(2 + column, daemon);
        }
    }
    println!("{runs} jobs of one opcode without scripts, six versions each, {pace}:");
    table.print("processor time");
    Ok(())
}

/// What a job costs, in nanoseconds.
struct Costs {
    /// To read and parse its versions.
    reading: u64,
    /// To write its events.
    commits: u64,
    /// What it costs the daemon.
    daemon: u64,
}

/// A master, a process that all its jobs are of, and what does here the least that the daemon must do.
struct Master {
    queue: PathBuf,
    next_job: u32,
    livelock: String,
    process: Kill,
    daemon: Kill,
    reader: JobReader,
    journal: Journal,
    seq: i64,
}

impl Master {
    fn start(dir: &Path, hookd: &OsStr) -> Result<Self> {
        make_dirs(dir)?;
        let livelock = dir.join("ganeti/livelocks/job_000001_1");
        let process = stand_in(&livelock)?;
        let daemon = start_with(dir, hookd, "")?;
        let (queue, livelock) = (dir.join("queue"), livelock.display().to_string());
        let own = dir.join("own");
        fs::create_dir(&own)?;
        let (reader, journal) = (JobReader::new(&queue), Journal::open(&own)?);
        Ok(Self { queue, next_job: 1, livelock, process, daemon, reader, journal, seq: 0 })
    }

    /// One job, from its first version to its last.
    fn job(&mut self, pace: Pace) -> Result<Costs> {
        let queued = Job::new(self.next_job, epoch());
        let livelock = self.livelock.clone();
        let locked = Job { livelock: Some(&livelock), ..queued };
        let job = Job { process: Some(self.process.0.id()), ..locked };
        let versions = [queued, locked, locked, job.is("waiting"), job.is("running"), job.is("success")]
            .map(|job| (job.text(), job.status));
        let (id, queue) = (self.next_job, self.queue.clone());
        self.next_job += 1;
        self.give_out(id)?;
        let (begin, mut costs) = (worked(&self.daemon)?, Costs { reading: 0, commits: 0, daemon: 0 });
        for (text, status) in versions {
            put(&queue, id, &text)?;
            pace.rest();
            costs.reading += self.read(id)?;
            match status {
                "running" => costs.commits += self.commit(id, Phase::Pre)?,
                "success" => costs.commits += self.commit(id, Phase::Post)?,
                _ => {}
            }
        }
        costs.daemon = worked(&self.daemon)? - begin;
        fs::remove_file(queue.join(format!("job-{id}")))?;
        pace.rest();
        Ok(costs)
    }

    /// The last job number that was given out, as Ganeti writes it before the job.
    fn give_out(&self, id: u32) -> Result<()> {
        let new = self.queue.join("serial.new");
        fs::write(&new, format!("{id}\n"))?;
        Ok(fs::rename(new, self.queue.join("serial"))?)
    }

    /// Reads and parses the job's file; returns how long that took.
    fn read(&mut self, id: u32) -> Result<u64> {
        let (id, begin) = (JobId::try_from(i64::from(id))?, own_time());
        let bytes = self.reader.queued(id, JOB_SIZE_LIMIT)?.ok_or("it is gone")?;
        std::hint::black_box(parse(id, bytes)?.ops.len());
        Ok(own_time() - begin)
    }

    /// Writes an event to a journal; returns how long that took.
    fn commit(&mut self, id: u32, phase: Phase) -> Result<u64> {
        self.seq += 1;
        let key = EventKey { job: JobId::try_from(i64::from(id))?, op: 0, phase };
        let event = Event {
            key,
            received: Timestamp::default(),
            op_count: 1,
            op_code: "OP_TEST_DELAY".to_owned(),
            status: None,
            executed: true,
            late: false,
            time: Timestamp::default(),
            about: Default::default(),
        };
        let begin = own_time();
        self.journal.commit(&[Change::Event(self.seq, event, EventState::Done)])?;
        Ok(own_time() - begin)
    }
}

/// How long this thread has worked, in nanoseconds.
fn own_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
