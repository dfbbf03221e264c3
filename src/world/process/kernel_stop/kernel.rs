//! The calls to the kernel: bpf(2) and perf_event_open(2), which no crate here makes.
//!
//! All that is unsafe about exact hold is in this file.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_long};

// Commands of bpf(2) (Linux: include/uapi/linux/bpf.h, `enum bpf_cmd`).
const MAP_CREATE: c_int = 0;
const MAP_LOOKUP_ELEM: c_int = 1;
const MAP_UPDATE_ELEM: c_int = 2;
const MAP_DELETE_ELEM: c_int = 3;
const PROG_LOAD: c_int = 5;
const RAW_TRACEPOINT_OPEN: c_int = 17;

/// `BPF_MAP_TYPE_HASH`
const HASH: u32 = 1;

/// What the kernel shows of the program and its maps (`bpftool prog`), at most 15 bytes.
const NAME: &[u8] = b"hookd_hold";

/// What the program may call depends on its licence, which is this package's; the kernel
/// asks for the words in which the GPL is the other choice (Linux: include/linux/license.h).
const LICENSE: &CStr = c"Dual BSD/GPL";

/// `PERF_EVENT_IOC_SET_BPF` and `PERF_EVENT_IOC_ENABLE` (Linux:
/// include/uapi/linux/perf_event.h).
const SET_BPF: libc::Ioctl = 0x4004_2408;
const ENABLE: libc::Ioctl = 0x2400;

/// `PERF_FLAG_FD_CLOEXEC`
const CLOSE_ON_EXEC: u64 = 8;

/// What kind of program it is (`enum bpf_prog_type`, `enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `BPF_PROG_TYPE_KPROBE`
    Kprobe,
    /// `BPF_PROG_TYPE_RAW_TRACEPOINT`
    RawTracepoint,
    /// `BPF_PROG_TYPE_TRACING` with `BPF_TRACE_FENTRY` and the function's ID in the
    /// kernel's own BTF
    Fentry(u32),
}

/// The part of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct CreateMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` for `BPF_MAP_*_ELEM`.
#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kern_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
    btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_count: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_count: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    padding: u32,
}

/// The part of `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct OpenRawTracepoint {
    name: u64,
    program: u32,
    padding: u32,
}

/// `struct perf_event_attr` up to `config2` (`PERF_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    event_type: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
}

/// An entry of a map: three numbers.
pub type Value = [u64; 3];

/// Makes a hash map from a word to three numbers.
///
/// # Errors
/// What bpf(2) says.
pub fn create_map(max_entries: u32) -> io::Result<OwnedFd> {
    let (map_type, key_size, value_size, name) = (HASH, 4, size_of::<Value>() as u32, name());
    let mut attr = CreateMap { map_type, key_size, value_size, max_entries, name, ..CreateMap::default() };
    own(bpf(MAP_CREATE, &mut attr)?)
}

/// Writes an entry.
///
/// # Errors
/// What bpf(2) says; `E2BIG` when the map is full.
pub fn insert(map: BorrowedFd<'_>, key: u32, mut value: Value) -> io::Result<()> {
    element(MAP_UPDATE_ELEM, map, key, &mut value)
}

/// Deletes an entry; whether there was one. Of two who try, one is told so.
///
/// # Errors
/// What bpf(2) says.
pub fn remove(map: BorrowedFd<'_>, key: u32) -> io::Result<bool> {
    found(element(MAP_DELETE_ELEM, map, key, &mut Value::default()))
}

/// Reads an entry.
///
/// # Errors
/// What bpf(2) says.
pub fn get(map: BorrowedFd<'_>, key: u32) -> io::Result<Option<Value>> {
    let mut value = Value::default();
    let is_there = found(element(MAP_LOOKUP_ELEM, map, key, &mut value))?;
    Ok(is_there.then_some(value))
}

/// Hands a program to the kernel. With room in `log` the verifier writes there what it
/// thinks; without, the kernel is faster.
///
/// # Errors
/// What bpf(2) says.
pub fn load(kind: Kind, code: &[u8], log: &mut [u8]) -> io::Result<OwnedFd> {
    let (prog_type, expected_attach_type, attach_btf_id) = match kind {
        Kind::Kprobe => (2, 0, 0),
        Kind::RawTracepoint => (17, 0, 0),
        Kind::Fentry(function) => (26, 24, function),
    };
    let mut attr = LoadProgram {
        prog_type,
        insn_count: (code.len() / 8) as u32,
        insns: code.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        name: name(),
        expected_attach_type,
        attach_btf_id,
        ..LoadProgram::default()
    };
    if !log.is_empty() {
        (attr.log_level, attr.log_size, attr.log) = (1, log.len() as u32, log.as_mut_ptr() as u64);
    }
    own(bpf(PROG_LOAD, &mut attr)?)
}

/// Attaches a program: to the tracepoint of that name, or without one to the function that
/// it was loaded for. It is detached when the descriptor is closed.
///
/// # Errors
/// What bpf(2) says.
pub fn attach(program: BorrowedFd<'_>, tracepoint: Option<&CStr>) -> io::Result<OwnedFd> {
    let name = tracepoint.map_or(0, |name| name.as_ptr() as u64);
    let mut attr = OpenRawTracepoint { name, program: number(program), padding: 0 };
    own(bpf(RAW_TRACEPOINT_OPEN, &mut attr)?)
}

/// Attaches a program to a kernel function by a kprobe, until the descriptor is closed.
/// `source` is the number of the kernel's source of such events. The event is one of
/// processor 0, yet its program runs on all (Linux: kernel/trace/trace_kprobe.c,
/// `kprobe_perf_func`).
///
/// # Errors
/// What perf_event_open(2) says.
pub fn attach_kprobe(source: u32, function: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let size = size_of::<PerfEvent>() as u32;
    let attr =
        PerfEvent { event_type: source, size, config1: function.as_ptr() as u64, ..PerfEvent::default() };
    // SAFETY: the structure is initialised, has the length that it says and outlives the
    // call, as the function's name does, which ends with a zero. The kernel only reads both.
    #[expect(unsafe_code, reason = "no crate here opens perf events")]
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, CLOSE_ON_EXEC) };
    let event = own(fd)?;
    for (request, argument) in [(SET_BPF, number(program)), (ENABLE, 0)] {
        // SAFETY: both requests take a number, so no memory is involved.
        #[expect(unsafe_code, reason = "no crate here knows these requests")]
        let result = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}

/// Does something with an entry of a map; the value is read or written or neither.
fn element(command: c_int, map: BorrowedFd<'_>, key: u32, value: &mut Value) -> io::Result<()> {
    // The kernel wants no value where it deletes.
    let value = if command == MAP_DELETE_ELEM { 0 } else { &raw mut *value as u64 };
    let mut attr = MapElement { map: number(map), padding: 0, key: &raw const key as u64, value, flags: 0 };
    bpf(command, &mut attr).map(|_| ())
}

/// bpf(2). Private: each caller above sees to it that every address in `attr` is one of
/// something that lives during the call and has the length that the command takes.
fn bpf<T>(command: c_int, attr: &mut T) -> io::Result<c_long> {
    // SAFETY: the structures are `repr(C)` without hidden padding, initialised, and passed
    // with their length; for what they point to, see above.
    #[expect(unsafe_code, reason = "no crate here calls bpf(2)")]
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes what a system call that makes a descriptor has returned.
fn own(result: c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
            #[expect(unsafe_code, reason = "the descriptor comes from a raw system call")]
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            Ok(fd)
        }
        _ => Err(io::Error::last_os_error()),
    }
}

fn found(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A descriptor as the kernel's structures have it.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn name() -> [u8; 16] {
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME);
    name
}
