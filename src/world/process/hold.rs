//! Stopping a job process, and where it was when it stopped (design, section 5).
//!
//! Only a process that is verified at this very moment is signalled, and only through a
//! pidfd: it holds the job's livelock, its start fits the job, and it belongs to the
//! owner of the queue or to root. One that somebody else has stopped is left to them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};

use super::livelock::{self, Holder};
use super::{fits, stat};
use crate::engine::input::Landing;
use crate::ganeti::job::ProcessRef;

/// The port of the node daemons (Ganeti: `constants.PORT_NODED`).
const NODED_PORT: u16 = 1811;

/// How long a stop may take to show. A process that sleeps or runs stops at once.
const STOP_PATIENCE: Duration = Duration::from_millis(10);

/// A process that proved to be the job's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its ID.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// Verifies that `process` is a job process that may be signalled.
///
/// # Errors
/// Why it may not be.
pub fn verify(process: &ProcessRef, livelock_dir: &Path, queue_owner: u32) -> Result<Verified, String> {
    match livelock::holder(Path::new(&process.livelock), livelock_dir) {
        Holder::Process(holder) if holder == process.pid => {}
        Holder::Process(other) => return Err(format!("its livelock is held by process {other}")),
        Holder::Nobody | Holder::NoFile => return Err("it holds no livelock".to_owned()),
        Holder::Unknown(why) | Holder::Shortage(why) => return Err(why),
    }
    let pid = process.pid;
    let users = stat::users(pid).map_err(|error| format!("/proc/{pid}/status: {error}"))?;
    if let Some(other) = users.into_iter().find(|user| *user != 0 && *user != queue_owner) {
        return Err(format!("it belongs to user {other}, the queue to user {queue_owner}"));
    }
    let stat = stat::read(pid).map_err(|error| format!("/proc/{pid}/stat: {error}"))?;
    let stat = stat.ok_or_else(|| "it has ended".to_owned())?;
    if stat.state == b'T' {
        return Err("somebody else has stopped it".to_owned());
    }
    match process.started {
        Some(started) if fits(&stat, started.as_secs_f64()) => {
            Ok(Verified { pid, start_ticks: stat.start_ticks })
        }
        Some(_) => Err("it started after its job".to_owned()),
        None => Err("its job has no start time".to_owned()),
    }
}

/// Stops a verified process.
///
/// # Errors
/// When it has ended, or the kernel says no.
pub fn stop(pidfd: impl AsFd) -> rustix::io::Result<()> {
    pidfd_send_signal(pidfd, Signal::STOP)
}

/// Lets a process go on. One that has ended needs nothing.
///
/// # Errors
/// When the kernel says no for another reason.
pub fn go_on(pidfd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match pidfd_send_signal(pidfd, Signal::CONT) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        result => result,
    }
}

/// Finds out where a process that has just been told to stop was.
pub fn landing(pid: u32) -> Landing {
    await_stop(pid);
    let renaming = syscall(pid).is_some_and(|number| RENAMES.contains(&number));
    if renaming || !talks_to_a_node_daemon(pid) { Landing::Early } else { Landing::Late }
}

/// Waits until the process stands still, for a moment.
fn await_stop(pid: u32) {
    let deadline = Instant::now() + STOP_PATIENCE;
    while Instant::now() < deadline
        && stat::read(pid).is_ok_and(|stat| stat.is_some_and(|stat| stat.state != b'T'))
    {
        std::thread::yield_now();
    }
}

/// The system calls that rename a file.
#[cfg(target_arch = "x86_64")]
const RENAMES: &[i64] = &[libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2];
#[cfg(not(target_arch = "x86_64"))]
const RENAMES: &[i64] = &[libc::SYS_renameat2 as i64];

/// The system call that a stopped process is in (Linux: proc(5), `/proc/PID/syscall`).
fn syscall(pid: u32) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether one of the process's sockets is connected to a node daemon.
fn talks_to_a_node_daemon(pid: u32) -> bool {
    let sockets = sockets(pid);
    // The kernel takes milliseconds to tell of TCP, whose table is as large as the memory,
    // and most job processes have nothing but Unix sockets.
    if let Some(sockets) = &sockets {
        let unix = table(pid, "unix");
        let unix: BTreeSet<&str> = unix.lines().filter_map(unix_inode).collect();
        if sockets.iter().all(|inode| unix.contains(inode.as_str())) {
            return false;
        }
    }
    ["tcp", "tcp6"].iter().any(|name| {
        let is_its = |inode: &str| sockets.as_ref().is_none_or(|sockets| sockets.contains(inode));
        table(pid, name).lines().filter_map(node_daemon_inode).any(is_its)
    })
}

/// The inodes of a process's sockets; `None` when they cannot be told.
fn sockets(pid: u32) -> Option<BTreeSet<String>> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let inode = |link: PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    Some(links.filter_map(inode).collect())
}

/// A table of sockets in the process's network (Linux: proc(5), `/proc/net`); empty when
/// it cannot be read. Each read by which the kernel comes to its end costs a walk.
fn table(pid: u32, name: &str) -> String {
    const ROOM: usize = 64 * 1024;
    let mut bytes = Vec::with_capacity(ROOM);
    let read =
        File::open(format!("/proc/{pid}/net/{name}")).and_then(|mut file| file.read_to_end(&mut bytes));
    if let Err(error) = read {
        log::debug!("/proc/{pid}/net/{name}: {error}");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The inode in a line of `/proc/PID/net/unix`.
fn unix_inode(line: &str) -> Option<&str> {
    line.split_ascii_whitespace().nth(6)
}

/// The inode of a socket in a line of `/proc/PID/net/tcp` whose peer is a node daemon.
fn node_daemon_inode(line: &str) -> Option<&str> {
    let mut fields = line.split_ascii_whitespace();
    let peer = fields.nth(2)?;
    let port = u16::from_str_radix(peer.split_once(':')?.1, 16).ok()?;
    (port == NODED_PORT).then(|| fields.nth(6))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_node_daemons_are_told_by_the_peers_port() {
        let line = |peer: &str| {
            format!(
                "   0: 0A00020F:D431 {peer} 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 20 4 1 10 -1"
            )
        };
        assert_eq!(node_daemon_inode(&line("0A000203:0713")), Some("4711"));
        assert_eq!(node_daemon_inode(&line("0A000203:0714")), None);
        assert_eq!(node_daemon_inode("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn sockets_are_told_apart_by_their_tables() {
        let (unix_socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino.to_string();
        let (unix_end, tcp) = (inode(unix_socket.as_fd()), inode(listener.as_fd()));
        let pid = std::process::id();
        let own = sockets(pid).unwrap();
        assert!(own.contains(&unix_end) && own.contains(&tcp));
        let unix = table(pid, "unix");
        let unix: BTreeSet<&str> = unix.lines().filter_map(unix_inode).collect();
        assert!(unix.contains(unix_end.as_str()) && !unix.contains(tcp.as_str()));
        assert!(!talks_to_a_node_daemon(pid), "a listener has no peer");
    }

    #[test]
    fn a_stopped_process_is_found_in_its_system_call() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = rustix::process::pidfd_open(
            rustix::process::Pid::from_child(&child),
            rustix::process::PidfdFlags::empty(),
        )
        .unwrap();
        stop(&pidfd).unwrap();
        assert_eq!(landing(child.id()), Landing::Early);
        assert_eq!(stat::read(child.id()).unwrap().unwrap().state, b'T');
        go_on(pidfd.as_fd()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(stop(&pidfd), Err(rustix::io::Errno::SRCH));
        assert_eq!(go_on(pidfd.as_fd()), Ok(()));
    }
}
