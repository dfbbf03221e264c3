//! The file of held processes: which processes we have stopped, or the kernel may stop for us
//! (they are *armed*), in the run directory.
//!
//! It is written before a process is stopped or armed, so that whoever comes after a sudden end
//! of daemon and guard (`ganeti-hookd release`, the next start) can let go what we held,
//! and only that: a process that an administrator stopped is not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::hold::{Verified, go_on, may_be_stopped_by_the_kernel};
use super::stat;
use crate::world::flood::Flow;
use crate::world::own_files::{self, HELD};
use crate::world::regular_file;

/// The largest file that is read, in bytes.
const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

/// How long after a daemon's end the kernel may yet stop a process that was armed: it takes that
/// long to forget what was attached.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// How often such a one is looked at.
const AGAIN: Duration = Duration::from_millis(5);

/// The file of held processes, open for writing.
#[derive(Debug)]
pub struct HeldFile {
    file: File,
    /// The IDs of those that are in it.
    held: BTreeSet<u32>,
    /// It holds what an earlier daemon left, which must stay.
    has_leftovers: bool,
}

impl AsFd for HeldFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl HeldFile {
    /// Opens an empty one. What an earlier one held must have been let go by then.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(run_dir: &Path) -> io::Result<Self> {
        let file = open(run_dir)?;
        file.set_len(0)?;
        Ok(Self { file, held: BTreeSet::new(), has_leftovers: false })
    }

    /// Opens the one that is there, and leaves in it what an earlier daemon held and could not
    /// be let go: whoever looks into it later may know how.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn keep(run_dir: &Path) -> io::Result<Self> {
        Ok(Self { file: open(run_dir)?, held: BTreeSet::new(), has_leftovers: true })
    }

    /// The process is about to be stopped.
    ///
    /// # Errors
    /// When it cannot be written down; it must not be stopped then.
    pub fn hold(&mut self, process: Verified) -> io::Result<()> {
        self.write('+', process)?;
        self.held.insert(process.pid);
        Ok(())
    }

    /// The process is about to be armed: from now on the kernel may stop it.
    ///
    /// # Errors
    /// When it cannot be written down; it must not be armed then.
    pub fn arm(&mut self, process: Verified) -> io::Result<()> {
        self.write('~', process)?;
        self.held.insert(process.pid);
        Ok(())
    }

    /// The process goes on.
    pub fn let_go(&mut self, process: Verified) {
        self.held.remove(&process.pid);
        let is_empty = self.held.is_empty() && !self.has_leftovers;
        let written = if is_empty { self.file.set_len(0) } else { self.write('-', process) };
        if let Err(error) = written {
            static FLOW: Flow = Flow::new();
            FLOW.warn(format_args!("the file of held processes: {error}"));
        }
    }

    fn write(&mut self, sign: char, process: Verified) -> io::Result<()> {
        self.file.write_all(format!("{sign} {} {}\n", process.pid, process.start_ticks).as_bytes())
    }
}

/// The processes in the file's text that have not been let go, and whether each is only armed.
pub fn still_held(text: &str) -> Vec<(Verified, bool)> {
    let mut held = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let (sign, pid, ticks) = (fields.next(), fields.next(), fields.next());
        let (Some(Ok(pid)), Some(Ok(start_ticks))) = (pid.map(str::parse), ticks.map(str::parse)) else {
            continue;
        };
        match sign {
            Some(sign @ ("+" | "~")) => held.insert(pid, (Verified { pid, start_ticks }, sign == "~")),
            _ => held.remove(&pid),
        };
    }
    held.into_values().collect()
}

/// Lets every process go on that the file says we hold, and that is still that process.
/// Returns their IDs. Whoever stops one of them from then on is not us.
///
/// # Errors
/// When the file cannot be read or not written, or of a process it cannot be told whether it
/// is ours: that stays in the file.
pub fn release(run_dir: &Path) -> io::Result<Vec<u32>> {
    let text =
        regular_file::read(&run_dir.join(HELD), SIZE_LIMIT).map_err(io::Error::other)?.unwrap_or_default();
    let held = still_held(&String::from_utf8_lossy(&text));
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let mut file = HeldFile::keep(run_dir)?;
    let (mut released, mut failure) = (Vec::new(), None);
    let end = Instant::now() + AFTERWARDS;
    for (process, is_armed) in held {
        match release_one(process, is_armed, end) {
            Ok(true) => released.push(process.pid),
            Ok(false) => {}
            Err(error) => {
                failure = Some(io::Error::other(format!("process {}: {error}", process.pid)));
                continue;
            }
        }
        file.write('-', process)?;
    }
    failure.map_or(Ok(released), Err)
}

/// Opens the file; what is written goes to its end.
fn open(run_dir: &Path) -> io::Result<File> {
    own_files::open_to_append(&run_dir.join(HELD))
}

/// Lets a process go on; one that was only armed if it stands where the kernel stops it, now or
/// until `end`. Returns whether it was let go.
fn release_one(process: Verified, is_armed: bool, end: Instant) -> io::Result<bool> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH | Errno::INVAL) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    };
    // The descriptor came first: if the process fits now, it is the one. It may still be
    // about to stop; to one that runs this does nothing.
    let is_ours = || Ok::<_, io::Error>(is_same(stat::read(process.pid)?, process));
    while is_armed && is_ours()? && !may_be_stopped_by_the_kernel(process.pid) {
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(AGAIN);
    }
    let is_ours = is_ours()?;
    if is_ours {
        go_on(pidfd.as_fd())?;
    }
    Ok(is_ours)
}

fn is_same(stat: Option<stat::ProcessStat>, process: Verified) -> bool {
    stat.is_some_and(|stat| stat.start_ticks == process.start_ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_is_not_held() {
        let held = still_held("+ 10 111\n+ 20 222\n- 10 111\n+ 30 3");
        let held: Vec<(u32, u64)> =
            held.into_iter().map(|(process, _)| (process.pid, process.start_ticks)).collect();
        assert_eq!(held, [(20, 222), (30, 3)]);
        let armed = still_held("~ 10 111\n~ 20 222\n+ 20 222\n");
        assert_eq!(armed.iter().map(|(_, is_armed)| *is_armed).collect::<Vec<_>>(), [true, false]);
        assert!(still_held("nonsense\n+ x y\n").is_empty());
    }

    #[test]
    fn only_what_we_stopped_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut children: Vec<_> =
            (0..3).map(|_| std::process::Command::new("sleep").arg("60").spawn().unwrap()).collect();
        let state = |pid: u32| stat::read(pid).unwrap().unwrap();
        let mut file = HeldFile::create(dir.path()).unwrap();
        for (i, child) in children.iter().enumerate() {
            let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
            let ticks = state(child.id()).start_ticks + u64::from(i == 1);
            if i < 2 {
                file.hold(Verified { pid: child.id(), start_ticks: ticks }).unwrap();
            }
            super::super::hold::stop(&pidfd).unwrap();
            while state(child.id()).state != b'T' {
                std::thread::yield_now();
            }
        }
        assert_eq!(
            release(dir.path()).unwrap(),
            [children[0].id()],
            "not another process of the same ID, not an administrator's"
        );
        let pidfd = pidfd_open(Pid::from_child(&children[0]), PidfdFlags::empty()).unwrap();
        super::super::hold::stop(&pidfd).unwrap();
        while state(children[0].id()).state != b'T' {
            std::thread::yield_now();
        }
        assert!(release(dir.path()).unwrap().is_empty(), "an administrator stopped it afterwards");
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn what_could_not_be_read_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HELD);
        let leftover = "+ 10 111\n".repeat(usize::try_from(SIZE_LIMIT).unwrap() / 9 + 1);
        std::fs::write(&path, &leftover).unwrap();
        let error = release(dir.path()).unwrap_err().to_string();
        assert!(error.contains("the limit is"), "{error}");
        let mut file = HeldFile::keep(dir.path()).unwrap();
        let process = Verified { pid: 20, start_ticks: 222 };
        file.hold(process).unwrap();
        file.let_go(process);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), leftover + "+ 20 222\n- 20 222\n");
    }
}
