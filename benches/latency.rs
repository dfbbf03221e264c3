//! How long it takes until a hook runs, against a C program that does nothing else.
//!
//! `cargo bench --bench latency`: the release daemon on a temporary tree and the limit
//! program (`benches/limit.c`), in turn, in one run: from the rename of a job file to the
//! first instruction of the hook, and from the death of a job process to it; then the first
//! again beside readers of the feed, and beside a job of 64 MiB that is rewritten all the time.
//! A master rests between two transitions: so do both, nobody asks them anything meanwhile.
//! Needs `cc`. `RUNS` is how often (1000), `REST` how many milliseconds lie before each transition (10),
//! `VARY` how many less or more these are at random (0), `HOOKD` another build of the daemon to measure,
//! `BEFORE` an older one that is measured in turn with it (but beside large jobs).
//!
//! `ONLY=rest` measures the first two alone, `ONLY=readers` what is beside readers: `READERS` is how many there
//! are (30), `HOW` what they ask (`stream=1`, `wait=30`).

#![expect(clippy::expect_used, reason = "a benchmark whose ground gives way is to stop")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

mod jobs;
#[expect(dead_code, reason = "other benchmarks use the rest of it")]
mod master;
mod peers;
mod programs;
mod readers;
mod shapes;
mod times;

use jobs::{Job, put};
use master::{Kill, Result, await_status, epoch, hookd, make_dirs, number, start_daemon};
use peers::Peer;
use programs::{await_line, compile, stamp, stamps, stand_in};
use readers::Readers;
use times::{Pace, Table, now};

const RUNS: u32 = 1000;

/// Readers of the feed.
const READERS: u32 = 30;

fn main() -> Result<()> {
    let runs = number("RUNS", RUNS);
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut bench = Bench::new(dirs[0].path(), &hookd())?;
    let before = std::env::var_os("BEFORE").map(|before| Bench::new(dirs[1].path(), &before));
    let mut before = before.transpose()?;
    let only = std::env::var("ONLY").unwrap_or_default();
    if only != "readers" {
        transitions(dirs[0].path(), &mut bench, before.as_mut(), runs)?;
    }
    if only == "rest" {
        return Ok(());
    }
    beside_readers(&mut bench, before.as_mut(), runs)?;
    if only == "readers" { Ok(()) } else { beside_large_jobs(&mut bench, runs / 4) }
}

/// A rename and a death, in turn with the limit, with an older daemon and with other programs that watch files.
fn transitions(dir: &Path, bench: &mut Bench, mut before: Option<&mut Bench>, runs: u32) -> Result<()> {
    let peers = peers::start(dir, &dir.join("limit-stamp"))?;
    for peer in &peers {
        bench.await_peer(peer)?;
    }
    let ours = ["limit", "daemon"].into_iter().chain(before.as_ref().map(|_| "before"));
    let ours: Vec<&str> = ours.collect();
    let mut rename = Table::new(ours.iter().copied().chain(peers.iter().map(|peer| peer.name)));
    for _ in 0..runs {
        rename.add(0, bench.limit_rename("limit")?);
        rename.add(1, bench.daemon_rename()?);
        if let Some(before) = &mut before {
            rename.add(2, before.daemon_rename()?);
        }
        for (column, peer) in peers.iter().enumerate() {
            rename.add(ours.len() + column, bench.limit_rename(peer.name)?);
        }
    }
    rename.print("rename to hook");
    drop(peers);
    let mut death = Table::new(ours);
    for _ in 0..runs {
        death.add(0, bench.limit_death()?);
        death.add(1, bench.daemon_death()?);
        if let Some(before) = &mut before {
            death.add(2, before.daemon_death()?);
        }
    }
    death.print("death to hook");
    Ok(())
}

/// The same rename while the feed has readers, one of whom reads nothing, in turn with none, and
/// with an older daemon.
fn beside_readers(bench: &mut Bench, before: Option<&mut Bench>, runs: u32) -> Result<()> {
    const ROUND: u32 = 25;
    /// Jobs that the history has had: more than a connection takes that is not read.
    const HISTORY: u32 = 300;
    let readers = number("READERS", READERS);
    let mut daemons: Vec<(&str, &mut Bench)> = vec![("", bench)];
    daemons.extend(before.map(|before| ("before: ", before)));
    let mut tables: Vec<Table> = daemons.iter().map(|_| Table::new(["quiet", "readers"])).collect();
    let mut work = vec![[Duration::ZERO; 2]; daemons.len()];
    for (_, bench) in &mut daemons {
        (0..HISTORY).try_for_each(|_| bench.daemon_rename().map(drop))?;
    }
    for _ in 0..runs.div_ceil(ROUND * 2) {
        for (((_, bench), table), work) in daemons.iter_mut().zip(&mut tables).zip(&mut work) {
            let begin = bench.worked()?;
            for _ in 0..ROUND {
                bench.transitions()?.into_iter().for_each(|time| table.add(0, time));
            }
            work[0] += bench.worked()? - begin;
            let (_readers, begin) = (Readers::start(&bench.socket(), readers)?, bench.worked()?);
            for _ in 0..ROUND {
                bench.transitions()?.into_iter().for_each(|time| table.add(1, time));
            }
            work[1] += bench.worked()? - begin;
        }
    }
    println!("{readers} readers of the feed, one of them stuck, {}:", Pace::of_environment());
    for (((name, _), table), work) in daemons.iter().zip(tables).zip(work) {
        let [quiet, beside] = work.map(|work| work / u32::try_from(table.0[0].1.len()).unwrap_or(u32::MAX));
        println!("{name}the daemon's processor time for a transition: quiet {quiet:?} readers {beside:?}");
        table.print(&format!("{name}rename to hook"));
    }
    Ok(())
}

/// The same rename while a job of 64 MiB is rewritten a hundred times a second.
fn beside_large_jobs(bench: &mut Bench, runs: u32) -> Result<()> {
    for shape in ["64 MiB in a list", "64 MiB in a string"] {
        // Two files: a rename onto another link of the same file does nothing.
        let large = ["large-1", "large-2"].map(|name| bench.dir.join(name));
        let link = bench.dir.join("link");
        // It waits, and has no process, so that there is nothing to tell of it.
        let text = String::from_utf8(shapes::file(shape))?
            .replace(r#""status": "success""#, r#""status": "waiting""#)
            .replace(r#""exec_timestamp": [1795366310, 570160]"#, r#""exec_timestamp": null"#)
            .replace(r#""process_id": 2905"#, r#""process_id": null"#);
        for large in &large {
            fs::write(large, &text)?;
        }
        let target = bench.dir.join("queue").join(shapes::id().file_name());
        let quiet = (0..runs).map(|_| bench.daemon_rename()).collect::<Result<Vec<u64>>>()?;
        fs::hard_link(&large[1], &target)?;
        // From now on: an open job that vanishes may come back.
        bench.others = 1;
        let over = AtomicBool::new(false);
        let beside = thread::scope(|scope| {
            let rewriting = scope.spawn(|| {
                let (start, mut count) = (Instant::now(), 0_u32);
                while !over.load(Ordering::Acquire) {
                    fs::hard_link(&large[count as usize % 2], &link)?;
                    fs::rename(&link, &target)?;
                    count += 1;
                    thread::sleep(
                        (start + Duration::from_millis(10) * count).saturating_duration_since(Instant::now()),
                    );
                }
                std::io::Result::Ok(f64::from(count) / start.elapsed().as_secs_f64())
            });
            let beside = (0..runs).map(|_| bench.daemon_rename()).collect::<Result<Vec<u64>>>();
            over.store(true, Ordering::Release);
            let rate = rewriting.join().map_err(|_| "a thread panicked")??;
            println!("{shape}: rewritten {rate:.0} times a second");
            beside
        })?;
        Table(vec![("quiet", quiet), ("beside", beside)]).print("rename to hook");
        fs::remove_file(target)?;
        large.iter().try_for_each(fs::remove_file)?;
    }
    Ok(())
}

struct Bench {
    dir: PathBuf,
    /// Where the limit program's hook and the daemon's hooks leave their times.
    limit_stamps: File,
    daemon_stamps: File,
    next_job: u32,
    pace: Pace,
    /// Jobs in the queue besides the one that is measured.
    others: usize,
    death_limit: (ChildStdin, BufReader<std::process::ChildStdout>),
    daemon: Kill,
    _children: Vec<Kill>,
}

impl Bench {
    fn new(dir: &Path, hookd: &OsStr) -> Result<Self> {
        make_dirs(dir)?;
        fs::create_dir(dir.join("limit"))?;
        let limit_stamps = stamps(dir, "limit-stamp", None)?;
        let daemon_stamps = stamps(dir, "daemon-stamp", None)?;
        compile("limit", &dir.join("limit-program"), &[])?;
        for phase in ["pre", "post"] {
            fs::copy(dir.join("daemon-stamp"), dir.join(format!("hooks/global-{phase}.d/10-stamp")))?;
        }
        let program = dir.join("limit-stamp");
        let mut watch = Command::new(dir.join("limit-program"))
            .arg("watch")
            .args([&dir.join("limit"), &program])
            .stdout(Stdio::piped())
            .spawn()?;
        await_line(&mut BufReader::new(watch.stdout.take().ok_or("no pipe")?))?;
        let mut death = Command::new(dir.join("limit-program"))
            .arg("death")
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut answers = BufReader::new(death.stdout.take().ok_or("no pipe")?);
        await_line(&mut answers)?;
        let death_limit = (death.stdin.take().ok_or("no pipe")?, answers);
        let daemon = start_daemon(dir, hookd)?;
        let children = vec![Kill(watch), Kill(death)];
        Ok(Self {
            dir: dir.to_owned(),
            limit_stamps,
            daemon_stamps,
            next_job: 1,
            pace: Pace::of_environment(),
            others: 0,
            death_limit,
            daemon,
            _children: children,
        })
    }

    fn limit_rename(&mut self, dir: &str) -> Result<u64> {
        let text = Job::new(1, epoch()).is("running").text();
        self.pace.rest();
        let start = put(&self.dir.join(dir), 1, &text)?;
        Ok(stamp(&mut self.limit_stamps)? - start)
    }

    /// Waits until a peer runs something for a file, and then for the last of that.
    fn await_peer(&mut self, peer: &Peer) -> Result<()> {
        for id in 1..100 {
            put(&self.dir.join(peer.name), id, "")?;
            let mut runs = 0;
            while self.limit_stamp_within(Duration::from_millis(100))? {
                runs += 1;
            }
            if runs > 0 {
                return Ok(());
            }
        }
        Err(format!("{} runs nothing", peer.name).into())
    }

    fn limit_stamp_within(&mut self, time: Duration) -> Result<bool> {
        let mut fds = [PollFd::new(&self.limit_stamps, PollFlags::IN)];
        let there = poll(&mut fds, Some(&Timespec::try_from(time)?))? > 0;
        if there {
            stamp(&mut self.limit_stamps)?;
        }
        Ok(there)
    }

    /// The pre hook of a job that begins to execute; it has been waiting before.
    fn daemon_rename(&mut self) -> Result<u64> {
        let [pre, _] = self.transitions()?;
        Ok(pre)
    }

    /// The pre hook of a job that begins to execute, and its post hook.
    fn transitions(&mut self) -> Result<[u64; 2]> {
        self.next_job += 1;
        let (job, queue) = (Job::new(self.next_job, epoch()), self.dir.join("queue"));
        self.await_rest(self.others)?;
        job.is("waiting").publish(&queue)?;
        self.await_rest(self.others + 1)?;
        let mut times = [0; 2];
        for (time, status) in times.iter_mut().zip(["running", "success"]) {
            self.pace.rest();
            let start = job.is(status).publish(&queue)?;
            *time = stamp(&mut self.daemon_stamps)? - start;
        }
        fs::remove_file(queue.join(format!("job-{}", job.id)))?;
        Ok(times)
    }

    /// The same kind of process: how long the kernel takes to end one depends on its size.
    fn limit_death(&mut self) -> Result<u64> {
        let livelock = self.dir.join("livelock");
        let mut process = stand_in(&livelock)?;
        writeln!(self.death_limit.0, "{}", process.0.id())?;
        await_line(&mut self.death_limit.1)?;
        self.pace.rest();
        let start = now();
        process.0.kill()?;
        let latency = stamp(&mut self.limit_stamps)? - start;
        process.0.wait()?;
        fs::remove_file(livelock)?;
        Ok(latency)
    }

    fn daemon_death(&mut self) -> Result<u64> {
        self.next_job += 1;
        let id = self.next_job;
        self.await_rest(self.others)?;
        let livelock = self.dir.join(format!("ganeti/livelocks/job_{id:06}_1"));
        let mut process = stand_in(&livelock)?;
        let (path, pid) = (livelock.display().to_string(), process.0.id());
        let job = Job { livelock: Some(&path), process: Some(pid), ..Job::new(id, epoch()) };
        job.is("running").publish(&self.dir.join("queue"))?;
        stamp(&mut self.daemon_stamps)?;
        self.await_rest(self.others + 1)?;
        self.pace.rest();
        let start = now();
        process.0.kill()?;
        let latency = stamp(&mut self.daemon_stamps)? - start;
        process.0.wait()?;
        fs::remove_file(livelock)?;
        fs::remove_file(self.dir.join(format!("queue/job-{id}")))?;
        Ok(latency)
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("run").join(ganeti_hookd::world::api::SOCKET)
    }

    /// How long the daemon has worked, on all processors together.
    fn worked(&self) -> Result<Duration> {
        /// A second (Linux: `USER_HZ`).
        const TICKS: u64 = 100;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS))
    }

    /// Waits until the daemon knows so many jobs and has nothing else to do.
    fn await_rest(&self, jobs: usize) -> Result<()> {
        await_status(&self.dir, |status| status.undelivered == 0 && status.jobs_tracked == jobs).map(drop)
    }
}
