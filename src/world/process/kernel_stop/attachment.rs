//! Where the program is attached.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::Reason;
use super::btf::{self, Btf};
use super::kernel::{self, Kind};
use super::machine::{Machine, Rename};
use super::program::{self, Parameters};
use super::reason::{refused, rejected};

/// Where the kernel names its source of kprobe events.
const KPROBE_SOURCE: &str = "/sys/bus/event_source/devices/kprobe/type";

/// Room for what the verifier says.
const LOG_ROOM: usize = 1 << 20;

/// A way to attach the program. All of them stop a process alike, but they differ in what
/// they need and what they cost others while they are attached (`docs/performance.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// At the entry of the system calls' functions, by a kprobe: costs nobody but who
    /// renames. Debian 11, 12 and 13 on amd64 and arm64.
    Kprobe,
    /// At the same place by a BPF trampoline: the same, without perf_event_open(2), but
    /// attached more slowly. Needs the kernel's BTF, and ftrace's direct calls: Debian 12 and
    /// 13 on amd64, 13 on arm64.
    Fentry,
    /// At the tracepoint `sys_enter`: costs every system call of the machine something.
    RawTracepoint,
}

impl Attachment {
    /// All, the one to be preferred first.
    pub const ALL: [Self; 3] = [Self::Kprobe, Self::Fentry, Self::RawTracepoint];

    /// Its name in messages, in the kernel's words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::RawTracepoint => "raw tracepoint sys_enter",
        }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program that the kernel has taken, and where it belongs.
#[derive(Debug)]
pub struct Program {
    program: OwnedFd,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The function that it was loaded for.
    Function,
    /// A function by its name, and the number of the source of kprobes.
    Kprobe(u32, CString),
    Tracepoint,
}

/// Loads what an attachment needs: a program for each rename, or one for all.
///
/// # Errors
/// Why the kernel does not take it.
pub fn load(attachment: Attachment, parameters: &Parameters<'_>) -> Result<Vec<Program>, Reason> {
    let machine = parameters.machine;
    let places = match attachment {
        Attachment::Fentry => functions(machine)?,
        Attachment::Kprobe => kprobes(machine)?,
        Attachment::RawTracepoint => vec![(&machine.renames[0], Kind::RawTracepoint, Place::Tracepoint)],
    };
    let load = |(rename, kind, place)| {
        let code = program::assemble(attachment, rename, parameters)?;
        Ok(Program { program: load_code(kind, &code)?, place })
    };
    places.into_iter().map(load).collect()
}

/// A program to be made: for which rename, what kind, where it belongs.
type Planned = (&'static Rename, Kind, Place);

fn functions(machine: &'static Machine) -> Result<Vec<Planned>, Reason> {
    let bytes = std::fs::read(btf::VMLINUX)
        .map_err(|error| Reason(format!("{}: {error} (CONFIG_DEBUG_INFO_BTF)", btf::VMLINUX)))?;
    let btf = Btf::new(&bytes)?;
    let plan = |rename: &'static Rename| match btf.function(rename.function)? {
        Some(id) => Ok((rename, Kind::Fentry(id), Place::Function)),
        None => Err(Reason(format!("{} has no function {}", btf::VMLINUX, rename.function))),
    };
    machine.renames.iter().map(plan).collect()
}

fn kprobes(machine: &'static Machine) -> Result<Vec<Planned>, Reason> {
    let source = std::fs::read_to_string(KPROBE_SOURCE)
        .map_err(|error| Reason(format!("{KPROBE_SOURCE}: {error} (CONFIG_KPROBE_EVENTS)")))?;
    let source = source.trim().parse().map_err(|error| Reason(format!("{KPROBE_SOURCE}: {error}")))?;
    let plan = |rename: &'static Rename| {
        let function = CString::new(rename.function).map_err(|error| Reason(error.to_string()))?;
        Ok((rename, Kind::Kprobe, Place::Kprobe(source, function)))
    };
    machine.renames.iter().map(plan).collect()
}

/// Loads a program; if the kernel refuses it, once more to hear why.
fn load_code(kind: Kind, code: &[u8]) -> Result<OwnedFd, Reason> {
    kernel::load(kind, code, &mut []).or_else(|_| {
        let mut log = vec![0; LOG_ROOM];
        kernel::load(kind, code, &mut log).map_err(|error| rejected(&error, &log))
    })
}

impl Program {
    /// Whether the kernel has forgotten where an attached program belongs: it says so
    /// instead of "busy" (Linux: kernel/bpf/syscall.c, `bpf_tracing_prog_attach`).
    pub fn attaches_only_once(&self) -> bool {
        let again = || kernel::attach(self.program.as_fd(), None);
        matches!(self.place, Place::Function)
            && again().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Attaches it, until the descriptor is closed.
    ///
    /// # Errors
    /// Why the kernel does not.
    pub fn attach(&self) -> Result<OwnedFd, Reason> {
        let program = self.program.as_fd();
        match &self.place {
            Place::Function => kernel::attach(program, None).map_err(|error| refused("bpf(2)", &error)),
            Place::Tracepoint => {
                kernel::attach(program, Some(c"sys_enter")).map_err(|error| refused("bpf(2)", &error))
            }
            Place::Kprobe(source, function) => {
                let result: io::Result<_> = kernel::attach_kprobe(*source, function, program);
                result.map_err(|error| refused("perf_event_open(2)", &error))
            }
        }
    }
}
