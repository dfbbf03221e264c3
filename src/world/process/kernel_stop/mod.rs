//! Exact hold's means: the kernel stops a job process inside the rename that publishes a
//! version of its job (design, section 5). Who is armed, and what follows, others decide.
//!
//! A process is *armed* by its ID being in a BPF map. A BPF program at the system calls
//! that rename files sends SIGSTOP to an armed process whose new name is a job file of the
//! queue ([`program`]). The signal is delivered when the process returns from the system
//! call: the rename is done, and not one instruction after it. One arming gives one stop.
//!
//! Nothing is attached before the first is armed, nor when this process is gone: the kernel
//! detaches what nobody has a descriptor of. Since to detach takes as long as the kernel
//! needs to be sure that nobody runs the program any more, up to half a second, who has
//! disarmed the last says when that is to be done ([`KernelStop::take_unused`]).

mod assembler;
mod attachment;
pub mod btf;
mod kernel;
mod machine;
mod program;
mod reason;
mod standing;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use attachment::Attachment;
pub use reason::Reason;
pub use standing::{is_in_rename, may_stand_in_rename, standing_in_rename};

use attachment::Program;
use program::Parameters;
use reason::refused;

/// How many processes may be armed at a time. Ganeti runs 20 jobs at a time as it is
/// installed (Ganeti: `constants.LUXID_MAXIMAL_RUNNING_JOBS_DEFAULT`).
pub const MAX_ARMED: u32 = 1024;

/// The kernel's means to stop processes that publish a job's version.
#[derive(Debug)]
pub struct KernelStop {
    attachment: Attachment,
    programs: Vec<Program>,
    /// The processes that the kernel is to stop.
    armed: OwnedFd,
    /// Those that it has sent the signal to, with what came of that.
    signalled: OwnedFd,
    /// Those that were armed and not disarmed since, whatever has come of it.
    known: BTreeSet<u32>,
    /// What keeps the programs attached.
    links: Vec<OwnedFd>,
}

/// What keeps the program attached: dropping it detaches, and takes up to half a second.
#[derive(Debug)]
#[must_use = "dropping it takes up to half a second"]
pub struct Unused {
    _links: Vec<OwnedFd>,
}

/// What has become of an arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arming {
    /// The process is not armed.
    Not,
    /// It is armed and has published nothing since.
    Armed,
    /// It is publishing, and is being sent the signal at this moment.
    Stopping,
    /// The signal was sent: from a moment later on, until somebody sends it SIGCONT, it
    /// [stands](KernelStop::stands) in the rename.
    Stopped,
    /// It has published, but could not be sent the signal: it is ending.
    Missed,
}

impl KernelStop {
    /// Loads the program for a queue directory, whose job files must not be named in other
    /// ways than by this path or its canonical form. The best attachment that works here
    /// is found by trying.
    ///
    /// # Errors
    /// Why none works.
    pub fn new(queue_dir: &Path) -> Result<Self, Reason> {
        Self::with(queue_dir, &Attachment::ALL)
    }

    /// The same with the first of these attachments that works here.
    ///
    /// # Errors
    /// Why none works.
    pub fn with(queue_dir: &Path, attachments: &[Attachment]) -> Result<Self, Reason> {
        let prefixes = prefixes(queue_dir)?;
        let namespace = pid_namespace()?;
        let limited = Self::load(&prefixes, namespace, attachments);
        limited
            .or_else(|reason| without_memory_limit(|| Self::load(&prefixes, namespace, attachments), reason))
    }

    fn load(prefixes: &[Vec<u8>], namespace: (u64, u64), attachments: &[Attachment]) -> Result<Self, Reason> {
        let machine = machine::HERE.ok_or_else(|| Reason("not made for this processor".to_owned()))?;
        let map = || kernel::create_map(MAX_ARMED).map_err(|error| refused("bpf(2)", &error));
        let (armed, signalled) = (map()?, map()?);
        let parameters =
            Parameters { machine, prefixes, namespace, armed: armed.as_fd(), signalled: signalled.as_fd() };
        let mut reasons = vec![];
        for attachment in attachments.iter().copied() {
            match attachment::load(attachment, &parameters).and_then(tried) {
                Ok(programs) => {
                    let (known, links) = (BTreeSet::new(), vec![]);
                    return Ok(Self { attachment, programs, armed, signalled, known, links });
                }
                Err(reason) => reasons.push(format!("{attachment}: {reason}")),
            }
        }
        Err(Reason(reasons.join("; ")))
    }

    /// How the program is attached while somebody is armed.
    pub fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Whether it is attached now.
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// Attaches the program, if it is not attached: the first [`arm`](Self::arm) does it
    /// otherwise, and takes some milliseconds longer then.
    ///
    /// # Errors
    /// Why the kernel does not.
    pub fn attach(&mut self) -> Result<(), Reason> {
        if !self.is_attached() {
            self.links = attach(&self.programs)?;
        }
        Ok(())
    }

    /// What is attached for nobody, to be dropped where it may take its time; `None` while
    /// somebody is armed.
    pub fn take_unused(&mut self) -> Option<Unused> {
        let is_unused = self.known.is_empty() && self.is_attached();
        is_unused.then(|| Unused { _links: std::mem::take(&mut self.links) })
    }

    /// Arms a process, by its ID in our own PID namespace: the kernel stops it when it
    /// publishes the next version. One that was stopped before may be armed again.
    ///
    /// # Errors
    /// Why the kernel does not; the process is not armed then.
    pub fn arm(&mut self, pid: u32) -> Result<(), Reason> {
        self.attach()?;
        let inserted = kernel::remove(self.signalled.as_fd(), pid)
            .and_then(|_| kernel::insert(self.armed.as_fd(), pid, kernel::Value::default()));
        match inserted {
            Ok(()) => {
                self.known.insert(pid);
                Ok(())
            }
            Err(error) => {
                self.known.remove(&pid);
                Err(refused("bpf(2)", &error))
            }
        }
    }

    /// Takes an arming back, and says what had become of it. `Armed`: the kernel will not
    /// stop the process any more. `Stopping` or `Stopped`: it has stopped it, or does so
    /// yet, so that somebody has to let it go on *after* it stands in the rename.
    ///
    /// # Errors
    /// Never as far as is known: what bpf(2) says.
    pub fn disarm(&mut self, pid: u32) -> Result<Arming, Reason> {
        if !self.known.contains(&pid) {
            return Ok(Arming::Not);
        }
        // The deletion decides between us and the program.
        let was_armed = kernel::remove(self.armed.as_fd(), pid).map_err(|error| refused("bpf(2)", &error))?;
        let became = if was_armed { Arming::Armed } else { self.state(pid)? };
        kernel::remove(self.signalled.as_fd(), pid).map_err(|error| refused("bpf(2)", &error))?;
        self.known.remove(&pid);
        Ok(became)
    }

    /// What has become of an arming so far.
    ///
    /// # Errors
    /// Never as far as is known: what bpf(2) says.
    pub fn state(&self, pid: u32) -> Result<Arming, Reason> {
        if !self.known.contains(&pid) {
            return Ok(Arming::Not);
        }
        let get = |map: &OwnedFd| kernel::get(map.as_fd(), pid).map_err(|error| refused("bpf(2)", &error));
        Ok(match (get(&self.armed)?, get(&self.signalled)?) {
            (Some(_), _) => Arming::Armed,
            (None, None) => Arming::Stopping,
            (None, Some([0, ..])) => Arming::Stopped,
            (None, Some(_)) => Arming::Missed,
        })
    }

    /// Whether a process that is `Stopped` stands still in the very rename in which the
    /// kernel stopped it: not on its way there, and not let go on by anybody since. To be
    /// asked before it is disarmed or armed again, which forgets where that was.
    pub fn stands(&self, pid: u32) -> bool {
        let stopped = kernel::get(self.signalled.as_fd(), pid).ok().flatten();
        stopped.is_some_and(|[_, stack, next]| standing::stands_at(pid, stack, next))
    }
}

fn attach(programs: &[Program]) -> Result<Vec<OwnedFd>, Reason> {
    programs.iter().map(Program::attach).collect()
}

/// Tries whether programs can be attached, and again: some kernels take one and attach it
/// nowhere, and before 5.13 one for `fentry` is attached once and never again (Linux: commit
/// f3a95075549e). Such a one is told by its answer while it is attached.
fn tried(programs: Vec<Program>) -> Result<Vec<Program>, Reason> {
    let _links = attach(&programs)?;
    match programs.first().filter(|program| program.attaches_only_once()) {
        Some(_) => Err(Reason("the kernel attaches a program only once (before Linux 5.13)".to_owned())),
        None => Ok(programs),
    }
}

/// How the paths of a queue's job files begin, up to the number (Ganeti:
/// `jqueue.JobQueue._GetJobPath`): with the path as it is configured and as it is.
fn prefixes(queue_dir: &Path) -> Result<Vec<Vec<u8>>, Reason> {
    let shown = queue_dir.display();
    let canonical = queue_dir.canonicalize().map_err(|error| Reason(format!("{shown}: {error}")))?;
    let mut forms = vec![queue_dir.to_owned(), canonical];
    forms.dedup();
    let prefix = |form: &std::path::PathBuf| form.join("job-").as_os_str().as_bytes().to_vec();
    let prefixes: Vec<_> = forms.iter().map(prefix).collect();
    if prefixes.iter().any(|prefix| prefix.len() > program::LONGEST_PREFIX) {
        return Err(Reason(format!("{shown} is longer than {} bytes", program::LONGEST_PREFIX - 5)));
    }
    Ok(prefixes)
}

/// Our PID namespace, as bpf_get_ns_current_pid_tgid wants it (bpf-helpers(7)): the
/// kernel's own form of a device number (Linux: include/linux/kdev_t.h), and the inode.
fn pid_namespace() -> Result<(u64, u64), Reason> {
    const NAMESPACE: &str = "/proc/self/ns/pid";
    let stat = rustix::fs::stat(NAMESPACE).map_err(|errno| Reason(format!("{NAMESPACE}: {errno}")))?;
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    Ok((u64::from(major) << 20 | u64::from(minor), stat.st_ino))
}

/// Until 5.11, what BPF takes of the memory counts as locked (Linux: commit 3ac1f01b43b6),
/// and 64 KiB of that is too little. So the limit is lifted for the moment of loading.
fn without_memory_limit<T>(load: impl FnOnce() -> Result<T, Reason>, reason: Reason) -> Result<T, Reason> {
    let before = getrlimit(Resource::Memlock);
    let none = Rlimit { current: None, maximum: None };
    if before == none || setrlimit(Resource::Memlock, none).is_err() {
        return Err(reason);
    }
    let loaded = load();
    let restored = setrlimit(Resource::Memlock, before);
    restored.map_err(|errno| Reason(format!("the limit of locked memory: {}", io::Error::from(errno))))?;
    loaded
}
