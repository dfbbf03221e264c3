//! How many hooks run in a second, against a C program that does nothing but run them.
//!
//! `cargo bench --bench throughput`: the release daemon on a temporary tree, with `/bin/true` as the only
//! hook, a post hook, and 16 workers. So many jobs end at once (`JOBS`, 2,000): it counts from the rename of the
//! first of their files until the hook of a job that came behind all of them. The limit
//! (`benches/limit.c flood`) spawns `/bin/true` as often and waits, 16 at a time. In turn, `RUNS` times (10),
//! with a second of rest before each (`REST`, in milliseconds); nobody asks the daemon anything meanwhile.
//! Needs `cc`. `HOOKD` is another build of the daemon to measure, `BEFORE` one that is measured in turn with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

mod jobs;
#[expect(dead_code, reason = "other benchmarks use the rest of it")]
mod master;
#[expect(dead_code, reason = "there is no job process")]
mod programs;
#[expect(dead_code, reason = "what rests here does so in its own way")]
mod times;

use jobs::Job;
use master::{Kill, Result, await_status, epoch, hookd, make_dirs, number, start_with};
use programs::{await_line, compile, stamp, stamps};
use times::{Table, now};

/// The hook.
const PROGRAM: &str = "/bin/true";

/// The opcode of the job behind all others, which has a hook of its own.
const LAST: &str = "OP_TEST_DUMMY";

fn main() -> Result<()> {
    let (runs, jobs) = (number("RUNS", 10), number("JOBS", 2000));
    let rest = Duration::from_millis(number("REST", 1000).into());
    let dir = tempfile::tempdir()?;
    let mut limit = Limit::start(dir.path())?;
    let mut daemons = vec![("daemon", Daemon::start(&dir.path().join("daemon"), &hookd())?)];
    if let Some(before) = std::env::var_os("BEFORE") {
        daemons.push(("before", Daemon::start(&dir.path().join("before"), &before)?));
    }
    let mut table = Table::new(["limit"].into_iter().chain(daemons.iter().map(|(name, _)| *name)));
    let mut all = vec![0; 1 + daemons.len()];
    for _ in 0..runs {
        thread::sleep(rest);
        let mut times = vec![limit.flood(jobs)?];
        for (_, daemon) in &mut daemons {
            daemon.prepare(jobs)?;
            thread::sleep(rest);
            times.push(daemon.flood()?);
            daemon.clear()?;
        }
        for (column, time) in times.into_iter().enumerate() {
            table.add(column, time / u64::from(jobs));
            all[column] += time;
        }
    }
    print!("{runs} times {jobs} hooks, a second:");
    for ((name, _), time) in table.0.iter().zip(&all) {
        let rate = f64::from(runs * jobs) / (*time as f64 / 1e9);
        print!(" {name} {rate:.0} ({:.2})", all[0] as f64 / *time as f64);
    }
    println!();
    table.print("time of a hook");
    Ok(())
}

/// A C program that does nothing else.
struct Limit {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _child: Kill,
}

impl Limit {
    fn start(dir: &Path) -> Result<Self> {
        compile("limit", &dir.join("limit-program"), &[])?;
        let mut command = Command::new(dir.join("limit-program"));
        let mut child =
            command.args(["flood", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        await_line(&mut output)?;
        Ok(Self { input: child.stdin.take().ok_or("no pipe")?, output, _child: Kill(child) })
    }

    fn flood(&mut self, count: u32) -> Result<u64> {
        writeln!(self.input, "{count}")?;
        Ok(await_line(&mut self.output)?.trim().parse()?)
    }
}

/// The daemon, and where the job files are that are to be renamed into its queue.
struct Daemon {
    dir: PathBuf,
    stamps: File,
    next_job: u32,
    _child: Kill,
}

impl Daemon {
    fn start(dir: &Path, hookd: &OsStr) -> Result<Self> {
        make_dirs(dir)?;
        fs::create_dir(dir.join("ended"))?;
        let stamps = stamps(dir, "stamp", None)?;
        symlink(PROGRAM, dir.join("hooks/global-post.d/10-true"))?;
        fs::create_dir(dir.join("hooks/global-test-dummy-post.d"))?;
        fs::copy(dir.join("stamp"), dir.join("hooks/global-test-dummy-post.d/10-stamp"))?;
        let child = start_with(dir, hookd, "pre = \"off\"\nworkers = 16\n")?;
        Ok(Self { dir: dir.to_owned(), stamps, next_job: 1, _child: child })
    }

    /// Writes the files of so many ended jobs, and of the one behind them.
    fn prepare(&mut self, jobs: u32) -> Result<()> {
        for id in self.next_job..=self.next_job + jobs {
            let op_code = if id == self.next_job + jobs { LAST } else { "OP_TEST_DELAY" };
            Job { op_code, ..Job::new(id, epoch()) }.is("success").publish(&self.dir.join("ended"))?;
        }
        Ok(())
    }

    /// All of them end.
    fn flood(&mut self) -> Result<u64> {
        let start = now();
        let mut ids = self.next_job..;
        for id in ids.by_ref() {
            let name = format!("job-{id}");
            if fs::rename(self.dir.join("ended").join(&name), self.dir.join("queue").join(&name)).is_err() {
                break;
            }
        }
        self.next_job = ids.start - 1;
        Ok(stamp(&mut self.stamps)? - start)
    }

    /// Takes the jobs away.
    fn clear(&self) -> Result<()> {
        await_status(&self.dir, |status| status.undelivered == 0)?;
        for entry in fs::read_dir(self.dir.join("queue"))? {
            fs::remove_file(entry?.path())?;
        }
        await_status(&self.dir, |status| status.jobs_tracked == 0).map(drop)
    }
}
