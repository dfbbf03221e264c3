//! How long it takes until a hook runs, against a C program that does nothing else.
//!
//! `cargo bench --bench latency`: the release daemon on a temporary tree and the limit
//! program (`benches/limit.c`), in turn, in one run: from the rename of a job file to the
//! first instruction of the hook, and from the death of a job process to it. Needs `cc`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const RUNS: usize = 1000;
const HOOKD: &str = env!("CARGO_BIN_EXE_ganeti-hookd");

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let dir = tempfile::tempdir()?;
    let mut bench = Bench::new(dir.path())?;
    let mut rename = Pair::default();
    for _ in 0..runs {
        rename.limit.push(bench.limit_rename()?);
        rename.daemon.push(bench.daemon_rename()?);
    }
    rename.print("rename to hook");
    let mut death = Pair::default();
    for _ in 0..runs {
        death.limit.push(bench.limit_death()?);
        death.daemon.push(bench.daemon_death()?);
    }
    death.print("death to hook");
    Ok(())
}

/// Times in nanoseconds.
#[derive(Default)]
struct Pair {
    limit: Vec<u64>,
    daemon: Vec<u64>,
}

impl Pair {
    fn print(mut self, what: &str) {
        self.limit.sort_unstable();
        self.daemon.sort_unstable();
        for percent in [50, 90, 99] {
            let at = |times: &[u64]| times[(times.len() - 1) * percent / 100] as f64 / 1000.0;
            let (limit, daemon) = (at(&self.limit), at(&self.daemon));
            println!(
                "{what:15} p{percent}: limit {limit:7.0} us, daemon {daemon:7.0} us, ratio {:.2}",
                daemon / limit
            );
        }
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A child that is killed at the end.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Bench {
    dir: PathBuf,
    /// Where the limit program's hook and the daemon's hooks leave their times.
    limit_stamps: File,
    daemon_stamps: File,
    next_job: u32,
    death_limit: (ChildStdin, BufReader<std::process::ChildStdout>),
    _children: Vec<Kill>,
}

impl Bench {
    fn new(dir: &Path) -> Result<Self> {
        for sub in ["queue", "data", "hooks/global-pre.d", "hooks/global-post.d", "ganeti/livelocks", "limit"]
        {
            fs::create_dir_all(dir.join(sub))?;
        }
        let limit_stamps = stamps(dir, "limit-stamp")?;
        let daemon_stamps = stamps(dir, "daemon-stamp")?;
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
        let daemon = start_daemon(dir)?;
        let children = vec![Kill(watch), Kill(death), daemon];
        Ok(Self {
            dir: dir.to_owned(),
            limit_stamps,
            daemon_stamps,
            next_job: 0,
            death_limit,
            _children: children,
        })
    }

    fn limit_rename(&mut self) -> Result<u64> {
        let text = job(1, epoch(), "running", 0, "");
        let start = self.publish("limit", 1, &text)?;
        Ok(stamp(&mut self.limit_stamps)? - start)
    }

    /// The pre hook of a job that begins to execute; it has been waiting before.
    fn daemon_rename(&mut self) -> Result<u64> {
        self.next_job += 1;
        let (id, received) = (self.next_job, epoch());
        self.publish("queue", id, &job(id, received, "waiting", 0, ""))?;
        self.await_rest(id)?;
        let start = self.publish("queue", id, &job(id, received, "running", 0, ""))?;
        let latency = stamp(&mut self.daemon_stamps)? - start;
        self.publish("queue", id, &job(id, received, "success", 0, ""))?;
        stamp(&mut self.daemon_stamps)?;
        fs::remove_file(self.dir.join(format!("queue/job-{id}")))?;
        Ok(latency)
    }

    fn limit_death(&mut self) -> Result<u64> {
        let mut child = Command::new("sleep").arg("60").spawn()?;
        writeln!(self.death_limit.0, "{}", child.id())?;
        await_line(&mut self.death_limit.1)?;
        let start = now();
        child.kill()?;
        let latency = stamp(&mut self.limit_stamps)? - start;
        child.wait()?;
        Ok(latency)
    }

    fn daemon_death(&mut self) -> Result<u64> {
        self.next_job += 1;
        let id = self.next_job;
        let livelock = self.dir.join(format!("ganeti/livelocks/job_{id:06}_1"));
        let mut process = stand_in(&livelock)?;
        let text = job(id, epoch(), "running", process.0.id(), &livelock.display().to_string());
        self.publish("queue", id, &text)?;
        stamp(&mut self.daemon_stamps)?;
        self.await_rest(id)?;
        let start = now();
        process.0.kill()?;
        let latency = stamp(&mut self.daemon_stamps)? - start;
        process.0.wait()?;
        fs::remove_file(livelock)?;
        fs::remove_file(self.dir.join(format!("queue/job-{id}")))?;
        Ok(latency)
    }

    /// Waits until the daemon knows the job and has nothing else to do.
    fn await_rest(&self, id: u32) -> Result<()> {
        loop {
            let status = ganeti_hookd::api::get(&self.dir.join("run"), "/v1/status")?;
            let status: ganeti_hookd::status::Status = serde_json::from_slice(&status)?;
            if status.undelivered == 0
                && status.jobs_tracked == 1
                && self.dir.join(format!("queue/job-{id}")).exists()
            {
                return Ok(());
            }
        }
    }

    /// Puts a job file in place by rename, and tells when.
    fn publish(&self, dir: &str, id: u32, text: &str) -> Result<u64> {
        let new = self.dir.join("new");
        fs::write(&new, text)?;
        let start = now();
        fs::rename(new, self.dir.join(dir).join(format!("job-{id}")))?;
        Ok(start)
    }
}

/// Makes the hook of this name, and the FIFO that it leaves its times in.
fn stamps(dir: &Path, name: &str) -> Result<File> {
    let fifo = dir.join(format!("{name}s"));
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)?;
    compile("stamp", &dir.join(name), &[format!("-DSTAMP=\"{}\"", fifo.display()), "-static".to_owned()])?;
    Ok(File::options().read(true).write(true).open(&fifo)?)
}

/// The time of the next stamp.
fn stamp(stamps: &mut File) -> Result<u64> {
    let mut bytes = [0; 8];
    stamps.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A process that holds a livelock.
fn stand_in(livelock: &Path) -> Result<Kill> {
    let mut child = Command::new(HOOKD)
        .arg("stand-in")
        .arg(livelock)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    await_line(&mut BufReader::new(child.stdout.take().ok_or("no pipe")?))?;
    Ok(Kill(child))
}

fn await_line(reader: &mut impl BufRead) -> Result<()> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.is_empty() { Err("a program ended early".into()) } else { Ok(()) }
}

fn compile(name: &str, program: &Path, options: &[String]) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/{name}.c"));
    let status = Command::new("cc").arg("-O2").args(options).arg("-o").arg(program).arg(source).status()?;
    if status.success() { Ok(()) } else { Err(format!("cc cannot compile {name}.c").into()) }
}

fn start_daemon(dir: &Path) -> Result<Kill> {
    fs::write(dir.join("data/ssconf_master_node"), "node1.example.com\n")?;
    let path = |name: &str| dir.join(name).display().to_string();
    let config = format!(
        "[paths]\nqueue-dir = \"{}\"\ndata-dir = \"{}\"\nhooks-dir = \"{}\"\nganeti-run-dir = \"{}\"\nstate-dir = \"{}\"\nrun-dir = \"{}\"\n[hooks]\npre = \"notify\"\n[master]\nname = \"node1.example.com\"\n",
        path("queue"),
        path("data"),
        path("hooks"),
        path("ganeti"),
        path("state"),
        path("run"),
    );
    fs::write(dir.join("hookd.toml"), config)?;
    let socket = UnixDatagram::bind(dir.join("notify"))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let child = Command::new(HOOKD)
        .arg("--config")
        .arg(dir.join("hookd.toml"))
        .arg("run")
        .env("NOTIFY_SOCKET", dir.join("notify"))
        .env("RUST_LOG", "error")
        .spawn()?;
    let child = Kill(child);
    let mut buffer = [0; 1024];
    loop {
        let length = socket.recv(&mut buffer)?;
        if buffer[..length].starts_with(b"READY=1") {
            return Ok(child);
        }
    }
}

/// The time in seconds since the epoch. A job keeps the time it was received at.
fn epoch() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A job file of one opcode. One that has a process has begun just now.
fn job(id: u32, started: u64, status: &str, pid: u32, livelock: &str) -> String {
    let time = |set: bool| if set { format!("[{started}, 0]") } else { "null".to_owned() };
    let process = if pid == 0 { "null".to_owned() } else { pid.to_string() };
    format!(
        r#"{{"id": {id}, "ops": [{{"input": {{"duration": 1.0, "on_master": true, "reason": [], "OP_ID": "OP_TEST_DELAY"}}, "status": "{status}", "result": null, "log": [], "start_timestamp": {}, "exec_timestamp": {}, "end_timestamp": {}, "priority": 0}}], "received_timestamp": [{started}, {id}], "start_timestamp": {}, "end_timestamp": null, "livelock": "{livelock}", "process_id": {process}}}"#,
        time(true),
        time(status != "waiting"),
        time(status == "success"),
        time(true),
    )
}
