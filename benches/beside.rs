//! How long it takes until a live job's hook runs while the daemon has much else to do, or much that waits.
//!
//! `cargo bench --bench beside`: from the rename of a job file to the hook's first instruction, at rest, in
//! turn with a daemon that has nothing else:
//!
//! * `ONLY=files`: while `FILES` (300,000) files of ended jobs are read after a start, and while they are compared
//!   again since the watch was lost;
//! * `ONLY=waiting`: with 20,000 events (`EVENTS`) undelivered, from before a start, whose hooks hang, as many as
//!   run at once; with as many that an outbox has to send to a receiver that does not answer; and beside 16 hooks
//!   that hang of 32 workers.
//!
//! `RUNS` is how often (300), `REST` how many milliseconds lie before each transition (10), `HOOKD` another build
//! of the daemon to measure. Nobody asks a daemon anything while it is measured. Needs `cc`.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ganeti_hookd::engine::status::Status;

mod jobs;
#[expect(dead_code, reason = "other benchmarks use the rest of it")]
mod master;
#[expect(dead_code, reason = "there is no job process")]
mod programs;
mod times;

use jobs::Job;
use master::{Kill, Result, await_status, epoch, hookd, make_dirs, number, start_with, worked};
use programs::{stamp, stamps};
use times::{Pace, Table, now};

/// The opcode whose hooks hang.
const HANGS: &str = "OP_TEST_DUMMY";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// As in other benchmarks.
const NOTIFY: &str = "pre = \"notify\"\ntimeout = \"1day\"\n";

fn main() -> Result<()> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let dir = tempfile::tempdir()?;
    let mut quiet = Master::start(&dir.path().join("quiet"), NOTIFY, 0)?;
    let (runs, pace) = (number("RUNS", 300), Pace::of_environment());
    println!("{pace}");
    if only != "waiting" {
        beside_files(dir.path(), &mut quiet, runs, pace)?;
    }
    if only != "files" {
        beside_what_waits(dir.path(), &mut quiet, runs, pace)?;
    }
    Ok(())
}

/// While a long queue is looked at.
fn beside_files(dir: &Path, quiet: &mut Master, runs: u32, pace: Pace) -> Result<()> {
    let files = number("FILES", 300_000);
    let mut long = Master::start(&dir.join("long"), NOTIFY, files)?;
    long.await_status(|status| status.jobs_tracked == files as usize)?;
    long.await_rest()?;
    println!("{files} files are there");
    measure_files(&format!("{files} files read after a start"), &mut long, quiet, runs, pace, |long| {
        long.restart()
    })?;
    measure_files(&format!("{files} files compared again"), &mut long, quiet, runs, pace, |long| {
        let away = long.dir.join("away");
        fs::rename(&long.queue, &away)?;
        fs::rename(&away, &long.queue)?;
        // Where it was not there, that takes a second.
        long.await_work()
    })
}

/// Has the files looked at as often as it takes, and measures as long as the daemon works.
fn measure_files(
    what: &str,
    long: &mut Master,
    quiet: &mut Master,
    runs: u32,
    pace: Pace,
    mut look: impl FnMut(&mut Master) -> Result<()>,
) -> Result<()> {
    let (mut table, mut looks) = (Table::new(["quiet", "beside"]), 0);
    while table.0[1].1.len() < runs as usize {
        long.await_rest()?;
        look(long)?;
        looks += 1;
        let mut count = 0;
        while table.0[1].1.len() < runs as usize {
            let (time, is_at_work) = long.transition_at_work(pace)?;
            if !is_at_work {
                break;
            }
            table.add(1, time);
            count += 1;
        }
        if count == 0 {
            return Err("the daemon is done too soon to be measured: FILES is to be more".into());
        }
        for _ in 0..count {
            table.add(0, quiet.transition(pace)?);
        }
    }
    println!("{what}, {looks} times:");
    table.print("rename to hook");
    Ok(())
}

/// While much waits.
fn beside_what_waits(dir: &Path, quiet: &mut Master, runs: u32, pace: Pace) -> Result<()> {
    let events = number("EVENTS", 20_000);
    let mut undelivered = Master::start(&dir.join("undelivered"), NOTIFY, 0)?;
    undelivered.end_jobs(events / 2)?;
    undelivered.await_status(|status| status.undelivered == events as usize)?;
    undelivered.restart()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut unsent = Master::start(&dir.join("unsent"), &outbox(dir, &listener)?, 0)?;
    unsent.end_jobs(events / 2)?;
    unsent.await_status(|status| status.outboxes[0].pending >= Some(events.into()))?;
    let mut hung = Master::start(&dir.join("hung"), &format!("{NOTIFY}workers = 32\n"), 0)?;
    hung.end_jobs(16)?;
    let of_hung = hung.await_status(|status| status.running.len() == 16)?;
    let mut masters = [quiet, &mut undelivered, &mut unsent, &mut hung];
    for master in &masters {
        master.await_rest()?;
    }
    println!("{events} events are there");
    let mut table = Table::new(["quiet", "undelivered", "unsent", "hung"]);
    for _ in 0..runs {
        for (column, master) in masters.iter_mut().enumerate() {
            table.add(column, master.transition(pace)?);
        }
    }
    let [_, undelivered, unsent, _] = masters;
    let [undelivered, unsent] = [undelivered.await_status(|_| true)?, unsent.await_status(|_| true)?];
    println!(
        "{} events undelivered, {} hooks of which hang; {} not sent; {} hooks that hang:",
        undelivered.undelivered,
        undelivered.running.len(),
        unsent.outboxes[0].pending.unwrap_or(0),
        of_hung.running.len()
    );
    table.print("rename to hook");
    Ok(())
}

/// The configuration of an outbox whose receiver does not answer. The opcodes that hang elsewhere have no
/// hooks.
fn outbox(dir: &Path, listener: &TcpListener) -> Result<String> {
    let (secret, port) = (dir.join("secret"), listener.local_addr()?.port());
    fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    Ok(format!(
        "{NOTIFY}skip-opcodes = [\"{HANGS}\"]\n[[outbox]]\nname = \"silent\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         secret-file = \"{}\"\nstatus = [\"started\", \"succeeded\"]\ntimeout = \"5min\"\n",
        secret.display()
    ))
}

/// A master whose hooks tell when they ran.
struct Master {
    dir: PathBuf,
    queue: PathBuf,
    hooks: String,
    stamps: File,
    next_job: u32,
    daemon: Kill,
}

impl Master {
    /// With these lines in `[hooks]` and what comes after them, and so many jobs that have ended before.
    fn start(dir: &Path, hooks: &str, ended: u32) -> Result<Self> {
        make_dirs(dir)?;
        let queue = dir.join("queue");
        for id in 1..=ended {
            fs::write(queue.join(format!("job-{id}")), Job::new(id, epoch()).is("success").text())?;
        }
        fs::write(queue.join("serial"), format!("{ended}\n"))?;
        let stamps = stamps(dir, "stamp", Some(HANGS))?;
        for phase in ["pre", "post"] {
            fs::copy(dir.join("stamp"), dir.join(format!("hooks/global-{phase}.d/10-stamp")))?;
        }
        let daemon = start_with(dir, &hookd(), hooks)?;
        Ok(Self { dir: dir.to_owned(), queue, hooks: hooks.to_owned(), stamps, next_job: ended + 1, daemon })
    }

    /// Kills the daemon and starts it again.
    fn restart(&mut self) -> Result<()> {
        self.daemon.0.kill()?;
        self.daemon.0.wait()?;
        self.daemon = start_with(&self.dir, &hookd(), &self.hooks)?;
        Ok(())
    }

    /// So many jobs end whose hooks hang.
    fn end_jobs(&mut self, count: u32) -> Result<()> {
        let first = self.next_job;
        self.next_job += count;
        self.give_out()?;
        for id in first..self.next_job {
            Job { op_code: HANGS, ..Job::new(id, epoch()) }.is("success").publish(&self.queue)?;
        }
        Ok(())
    }

    /// Ganeti has given out all numbers before the next.
    fn give_out(&self) -> Result<()> {
        let new = self.dir.join("new");
        fs::write(&new, format!("{}\n", self.next_job - 1))?;
        Ok(fs::rename(new, self.queue.join("serial"))?)
    }

    /// From the rename to the pre hook of a job that begins to execute; it has been waiting before.
    fn transition(&mut self, pace: Pace) -> Result<u64> {
        Ok(self.transition_at_work(pace)?.0)
    }

    /// The same, and whether the daemon worked until then.
    fn transition_at_work(&mut self, pace: Pace) -> Result<(u64, bool)> {
        let job = Job::new(self.next_job, epoch());
        self.next_job += 1;
        self.give_out()?;
        job.is("waiting").publish(&self.queue)?;
        let (rested, before) = (now(), worked(&self.daemon)?);
        pace.rest();
        let begin = job.is("running").publish(&self.queue)?;
        let end = stamp(&mut self.stamps)?;
        let is_at_work = worked(&self.daemon)? - before > (end - rested) / 2;
        pace.rest();
        job.is("success").publish(&self.queue)?;
        stamp(&mut self.stamps)?;
        pace.rest();
        fs::remove_file(self.queue.join(format!("job-{}", job.id)))?;
        pace.rest();
        Ok((end - begin, is_at_work))
    }

    fn await_status(&self, is_wanted: impl FnMut(&Status) -> bool) -> Result<Status> {
        await_status(&self.dir, is_wanted)
    }

    /// Waits until the daemon works.
    fn await_work(&self) -> Result<()> {
        let (begin, mut before) = (Instant::now(), worked(&self.daemon)?);
        while begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(4));
            let worked = worked(&self.daemon)?;
            if worked - before > 2_000_000 {
                return Ok(());
            }
            before = worked;
        }
        Err("the daemon does not look at the queue".into())
    }

    /// Waits until the daemon does nothing for a while.
    fn await_rest(&self) -> Result<()> {
        let begin = Instant::now();
        let mut before = worked(&self.daemon)?;
        while begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(500));
            let worked = worked(&self.daemon)?;
            if worked - before < 5_000_000 {
                return Ok(());
            }
            before = worked;
        }
        Err("the daemon does not come to rest".into())
    }
}
