//! A temporary master with the release daemon, as the benchmarks need it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use ganeti_hookd::engine::status::Status;
use ganeti_hookd::world::api;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A number that the environment may give.
pub fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

/// The daemon's program.
pub fn hookd() -> OsString {
    std::env::var_os("HOOKD").unwrap_or_else(|| env!("CARGO_BIN_EXE_ganeti-hookd").into())
}

/// The directories of a master.
pub fn make_dirs(dir: &Path) -> Result<()> {
    for sub in ["queue", "data", "hooks/global-pre.d", "hooks/global-post.d", "ganeti/livelocks"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    Ok(())
}

/// A child that is killed at the end.
pub struct Kill(pub Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this program of the daemon and waits until it is ready. Pre hooks run beside the opcode.
pub fn start_daemon(dir: &Path, hookd: &OsStr) -> Result<Kill> {
    start_with(dir, hookd, "pre = \"notify\"\n")
}

/// The same with other lines in `[hooks]`, and what comes after them.
pub fn start_with(dir: &Path, hookd: &OsStr, hooks: &str) -> Result<Kill> {
    fs::write(dir.join("data/ssconf_master_node"), "node1.example.com\n")?;
    fs::write(dir.join("data/ssconf_cluster_name"), "cluster.example.com\n")?;
    let path = |name: &str| dir.join(name).display().to_string();
    let config = format!(
        "[paths]\nqueue-dir = \"{}\"\ndata-dir = \"{}\"\nhooks-dir = \"{}\"\nganeti-run-dir = \"{}\"\nstate-dir = \"{}\"\nrun-dir = \"{}\"\n[master]\nname = \"node1.example.com\"\n[hooks]\n{hooks}",
        path("queue"),
        path("data"),
        path("hooks"),
        path("ganeti"),
        path("state"),
        path("run"),
    );
    fs::write(dir.join("hookd.toml"), config)?;
    // An earlier daemon may have had it.
    let _ = fs::remove_file(dir.join("notify"));
    let socket = UnixDatagram::bind(dir.join("notify"))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let child = Command::new(hookd)
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

/// How long the daemon's threads have worked, in nanoseconds. It is not asked.
pub fn worked(daemon: &Kill) -> Result<u64> {
    let mut time = 0;
    for task in fs::read_dir(format!("/proc/{}/task", daemon.0.id()))? {
        // A thread may end.
        let stat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        time += stat.split(' ').next().unwrap_or_default().parse::<u64>().unwrap_or(0);
    }
    Ok(time)
}

/// The daemon's status.
pub fn status(dir: &Path) -> Result<Status> {
    Ok(serde_json::from_slice(&api::get(&dir.join("run"), "/v1/status")?)?)
}

/// Waits until the daemon is as wanted. That asks it all the while.
pub fn await_status(dir: &Path, mut is_wanted: impl FnMut(&Status) -> bool) -> Result<Status> {
    loop {
        let status = status(dir)?;
        if is_wanted(&status) {
            return Ok(status);
        }
    }
}

/// The time in seconds since the epoch. A job keeps the time it was received at.
pub fn epoch() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
