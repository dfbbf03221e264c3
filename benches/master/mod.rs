//! A temporary master with the release daemon, as the benchmarks need it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

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

/// Starts this program of the daemon and waits until it is ready.
pub fn start_daemon(dir: &Path, hookd: &OsStr) -> Result<Kill> {
    fs::write(dir.join("data/ssconf_master_node"), "node1.example.com\n")?;
    fs::write(dir.join("data/ssconf_cluster_name"), "cluster.example.com\n")?;
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

/// The time in seconds since the epoch. A job keeps the time it was received at.
pub fn epoch() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
