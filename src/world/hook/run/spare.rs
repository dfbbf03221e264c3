//! A process that is made ahead and waits to become a script.
//!
//! On a master at rest half of what passes before a script's first instruction is that one sleeping
//! thread is woken to start it, that a process is made, and that this is scheduled. Here the process is
//! there already, with its pipes, its signals and its directory: who has a script run writes down
//! what it is to become and wakes it, and need not wait until it has: an `execve` that hangs
//! hangs in the child.
//!
//! The child shares our memory (clone(2), `CLONE_VM`), so that nothing is copied, and has descriptors
//! of its own: the three of a script and no other. It dies with us (`PR_SET_PDEATHSIG`). What it does
//! after it has said that it is ready it does by system calls that leave errno alone, since that is
//! our thread's. Until then it leaves signals pending, and becomes nothing if there is one: before Linux 5.16 one that
//! dumps core would end all who share its memory, and us.

use std::ffi::{c_char, c_int, c_void};
use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::thread::futex;
use rustix::time::Timespec;
use syscalls::{Sysno, raw_syscall};

use super::spawn::{Manners, Process, Starter, Words, clone};
use super::stack::Stack;
use crate::world::failpoints;
use crate::world::signals;

/// What a spare process is doing.
mod state {
    /// It makes itself ready.
    pub const MAKING: u32 = 0;
    /// It waits.
    pub const READY: u32 = 1;
    /// It has been told what to become.
    pub const CALLED: u32 = 2;
    /// It becomes that, or has.
    pub const BECOMING: u32 = 3;
    /// It could not.
    pub const FAILED: u32 = 4;
}

/// How long a spare process that makes itself ready is waited for before one looks whether it lives.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How long it is waited for at all: a script whose time limit nobody looks after meanwhile may run.
const MAKING_PATIENCE: Duration = Duration::from_secs(1);

/// What both sides know.
#[derive(Debug)]
struct Call {
    state: AtomicU32,
    /// The program's file, its arguments and its environment.
    words: [AtomicPtr<c_char>; 3],
}

impl Call {
    /// Returns whether it was `from`, and then it is `to`.
    fn replace(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Processes that wait to become scripts: one, or none.
#[derive(Debug, Default)]
pub struct Spares(Mutex<Option<Spare>>);

impl Spares {
    /// Whether one waits that can be taken now.
    pub fn has_one(&self) -> bool {
        self.place().is_some_and(|spare| spare.is_some())
    }

    /// Takes the one that waits, if there is one.
    pub fn take(&self) -> Option<Spare> {
        self.place()?.take()
    }

    /// Makes one if none waits and nobody else makes one. The thread that does so is to live as long as
    /// this process does: the one that it has made ends with it. What the system refuses is refused: scripts
    /// are started without, too.
    pub fn fill(&self, starter: &Starter) {
        if let Some(mut spare) = self.place().filter(|spare| spare.is_none()) {
            failpoints::point("hook.make-ready");
            failpoints::defect("make-ready");
            *spare = Spare::new(starter).ok();
        }
    }

    /// Where it waits; `None` while one is being made. That a thread has panicked there spoils nothing.
    fn place(&self) -> Option<MutexGuard<'_, Option<Spare>>> {
        match self.0.try_lock() {
            Ok(place) => Some(place),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A process that waits. The order of the fields is that in which they go: the process first.
#[derive(Debug)]
pub struct Spare {
    process: Process,
    output: PipeReader,
    call: Arc<Call>,
    stack: Stack,
}

/// What a process uses until it has become a script.
#[derive(Debug)]
pub struct Called {
    call: Arc<Call>,
    _words: Words,
    _stack: Stack,
}

impl Called {
    /// Takes it back if the process has not begun to become the script: it never will.
    pub fn revoke(&self) -> bool {
        self.call.replace(state::CALLED, state::FAILED)
    }

    /// Whether the process, which has ended, had become the script.
    pub fn has_become(&self) -> bool {
        self.call.state.load(Ordering::Acquire) == state::BECOMING
    }
}

impl Spare {
    /// Makes one, and waits until it is ready.
    ///
    /// # Errors
    /// When the kernel says no to any part of it, or it takes too long.
    fn new(starter: &Starter) -> io::Result<Self> {
        Self::that_does(wait_to_become, starter)
    }

    fn that_does(work: extern "C" fn(*mut c_void) -> c_int, starter: &Starter) -> io::Result<Self> {
        let (output, input) = io::pipe()?;
        rustix::io::ioctl_fionbio(&output, true)?;
        let stack = Stack::new()?;
        let call = Arc::new(Call {
            state: AtomicU32::new(state::MAKING),
            words: [const { AtomicPtr::new(null_mut()) }; 3],
        });
        let child = Child { call: &call, manners: starter.manners(input.as_fd()), parent: getpid() };
        // What is lent to the child stays where it is: `child` until it says that it is ready, which is
        // waited for; the rest until it has become a script or has ended, since `process`
        // is dropped before them.
        let argument = std::ptr::from_ref(&child).cast_mut().cast();
        let process = clone(work, stack.top(), argument, 0)?;
        let start = Instant::now();
        while call.state.load(Ordering::Acquire) == state::MAKING
            && !process.has_ended()
            && start.elapsed() < MAKING_PATIENCE
        {
            let _ = futex::wait(&call.state, futex::Flags::PRIVATE, state::MAKING, Some(&LOOK));
        }
        match call.state.load(Ordering::Acquire) {
            state::READY => Ok(Self { process, output, call, stack }),
            _ => Err(io::Error::other("a process that was made ahead did not become ready")),
        }
    }

    /// Has it become a program, and does not wait for that.
    pub fn become_script(self, words: Words) -> (Process, PipeReader, Called) {
        let Self { process, output, call, stack } = self;
        for (place, pointer) in call.words.iter().zip(words.pointers()) {
            place.store(pointer.cast_mut(), Ordering::Relaxed);
        }
        call.state.store(state::CALLED, Ordering::Release);
        let _ = futex::wake(&call.state, futex::Flags::PRIVATE, 1);
        (process, output, Called { call, _words: words, _stack: stack })
    }
}

/// What the child has to know. It takes a copy: this is gone when it has become ready.
#[derive(Clone, Copy)]
struct Child<'a> {
    call: &'a Call,
    manners: Manners<'a>,
    parent: Pid,
}

/// What the child does.
extern "C" fn wait_to_become(child: *mut c_void) -> c_int {
    // SAFETY: it is the argument of `clone`, and who called that waits until we are ready.
    #[expect(unsafe_code, reason = "a C function's argument")]
    let Child { call, manners, parent } = unsafe { *child.cast::<Child<'_>>() };
    let is_ready = manners.adopt()
        && closes_all_others()
        && set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
        // It may have died before that.
        && getppid() == Some(parent);
    let said = if is_ready { state::READY } else { state::FAILED };
    call.state.store(said, Ordering::Release);
    wake(&call.state);
    while call.state.load(Ordering::Acquire) == state::READY {
        wait(&call.state, state::READY);
    }
    if said == state::READY && !has_signal() {
        signals::block_none();
        execute(call);
    }
    call.state.store(state::FAILED, Ordering::Release);
    exit()
}

/// Closes what is no script's: this process holds none of our files open while it waits.
fn closes_all_others() -> bool {
    // SAFETY: this process's descriptors are its own (no CLONE_FILES), and nothing in it uses one
    // above 2 any more.
    #[expect(unsafe_code, reason = "no crate here closes a range")]
    let closed = unsafe { raw_syscall!(Sysno::close_range, 3, u32::MAX, 0) };
    closed == 0
}

/// Whether somebody has sent it a signal while it waited.
fn has_signal() -> bool {
    let mut pending = 0_u64;
    // SAFETY: the kernel's sets of signals have 64 bits; it refuses to write one of another size.
    #[expect(unsafe_code, reason = "errno is another thread's")]
    unsafe {
        raw_syscall!(Sysno::rt_sigpending, &raw mut pending, size_of::<u64>());
    }
    pending != 0
}

fn wait(word: &AtomicU32, value: u32) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is there as long as we are.
    #[expect(unsafe_code, reason = "errno is another thread's")]
    unsafe {
        raw_syscall!(Sysno::futex, word.as_ptr(), operation, value, 0);
    }
}

fn wake(word: &AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is there as long as we are.
    #[expect(unsafe_code, reason = "errno is another thread's")]
    unsafe {
        raw_syscall!(Sysno::futex, word.as_ptr(), operation, 1);
    }
}

/// Becomes what it was told to. Returns if it cannot.
fn execute(call: &Call) {
    let [file, argv, envp] = [0, 1, 2].map(|word: usize| call.words[word].load(Ordering::Relaxed));
    // SAFETY: who told us keeps the strings and the lists of pointers to them, ended as execve(2)
    // wants them, until we are gone or another program.
    #[expect(unsafe_code, reason = "errno is another thread's")]
    unsafe {
        raw_syscall!(Sysno::prctl, libc::PR_SET_PDEATHSIG, 0);
        // Who told us may have thought better of it.
        if call.replace(state::CALLED, state::BECOMING) {
            raw_syscall!(Sysno::execve, file, argv, envp);
        }
    }
}

fn exit() -> ! {
    loop {
        // SAFETY: nothing of ours is left to be done.
        #[expect(unsafe_code, reason = "errno is another thread's")]
        unsafe {
            raw_syscall!(Sysno::exit_group, 127);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, write};
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::pidfd_send_signal;

    use super::super::{Limits, Seen, begin};
    use super::*;
    use crate::engine::environment::Environment;
    use crate::engine::outcome::Outcome;

    /// What becomes of a text that is made a script, by a process that was made ahead.
    fn run(text: &str, env: &Environment) -> Option<Outcome> {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().canonicalize().unwrap().join("script");
        write(&script, text).unwrap();
        std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let starter = Starter::new().unwrap();
        starter.spares().fill(&starter);
        run_with(&starter, &script, env)
    }

    fn seen(script: &Path) -> Seen {
        Seen { file: script.to_owned(), at: Instant::now() }
    }

    fn run_with(starter: &Starter, script: &Path, env: &Environment) -> Option<Outcome> {
        let limits = Limits { timeout: Duration::from_secs(60), output: 4096 };
        begin(starter, script, &seen(script), env, || true).expect("one waits").finish(limits, None)
    }

    /// The same, repeated while another test has just been starting a program when ours was written.
    fn outcome(text: &str, env: &Environment) -> Outcome {
        (0..100).find_map(|_| run(text, env)).expect("it begins")
    }

    fn variables(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Waits for its end.
    fn ends(process: &Process) -> bool {
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 60, tv_nsec: 0 })) == Ok(1)
    }

    fn children() -> String {
        std::fs::read_to_string("/proc/thread-self/children").unwrap()
    }

    #[test]
    fn what_was_made_ahead_becomes_a_script_as_any_other() {
        const SCRIPT: &str = "#!/bin/cat /proc/self/environ\n";
        let env = variables(&[("A", "b=c\nd"), ("EMPTY", "")]);
        let ended = outcome(SCRIPT, &env);
        assert_eq!((ended.output, ended.code), (format!("A=b=c\nd\0EMPTY=\0{SCRIPT}"), Some(0)));
        let ended = outcome("#!/bin/sh\necho err >&2\nls -x /proc/self/fd\npwd\nexit 7\n", &variables(&[]));
        // The last one is that of who lists them.
        assert_eq!((ended.output.as_str(), ended.code), ("err\n0  1  2  3\n/\n", Some(7)));
        let status = outcome("#!/bin/cat /proc/self/status\n", &variables(&[])).output;
        for name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            // 32 and 33 are the C library's own.
            assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap() & !(0b11 << 31), 0, "{name} {line}");
        }
        assert_eq!(children(), "");
    }

    #[test]
    fn of_one_that_does_not_become_it_nothing_came() {
        let none = variables(&[]);
        assert_eq!(run("no program", &none), None);
        assert_eq!(run("#!/no/such/interpreter\n", &none), None);
        let starter = Starter::new().unwrap();
        starter.spares().fill(&starter);
        let spare = starter.spares().take().unwrap();
        pidfd_send_signal(&spare.process, Signal::KILL).unwrap();
        assert!(ends(&spare.process));
        *starter.spares().0.lock().unwrap() = Some(spare);
        assert_eq!(run_with(&starter, Path::new("/bin/true"), &none), None);
        assert_eq!(children(), "");
        starter.spares().fill(&starter);
        assert_eq!(run_with(&starter, Path::new("/bin/true"), &none).unwrap().code, Some(0));
        let script = Path::new("/bin/true");
        assert!(begin(&starter, script, &seen(script), &none, || true).is_none(), "one was made, not two");
    }

    #[test]
    fn one_that_stands_still_is_not_waited_for() {
        let starter = Starter::new().unwrap();
        starter.spares().fill(&starter);
        let spare = starter.spares().take().unwrap();
        pidfd_send_signal(&spare.process, Signal::STOP).unwrap();
        *starter.spares().0.lock().unwrap() = Some(spare);
        let start = Instant::now();
        assert_eq!(run_with(&starter, Path::new("/bin/true"), &variables(&[])), None);
        assert!(start.elapsed() < Duration::from_secs(30), "not for as long as the script may run");
        assert_eq!(children(), "");
    }

    #[test]
    fn one_that_gets_a_signal_waits_on_and_becomes_nothing() {
        for signal in [Signal::TERM, Signal::QUIT, Signal::ABORT, Signal::SEGV] {
            let starter = Starter::new().unwrap();
            starter.spares().fill(&starter);
            let spare = starter.spares().take().unwrap();
            pidfd_send_signal(&spare.process, signal).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            assert!(!spare.process.has_ended(), "{signal:?}");
            *starter.spares().0.lock().unwrap() = Some(spare);
            assert_eq!(run_with(&starter, Path::new("/bin/true"), &variables(&[])), None);
            assert_eq!(children(), "");
        }
    }

    extern "C" fn stand_still(_: *mut c_void) -> c_int {
        let word = AtomicU32::new(0);
        loop {
            wait(&word, 0);
        }
    }

    #[test]
    fn one_that_does_not_become_ready_is_not_waited_for() {
        let starter = Starter::new().unwrap();
        assert!(Spare::that_does(stand_still, &starter).is_err());
        assert_eq!(children(), "");
    }

    #[test]
    fn a_script_that_runs_is_not_taken_back() {
        let ended = outcome("#!/bin/sh\nsleep 2\necho ran\n", &variables(&[("PATH", "/bin")]));
        assert_eq!((ended.output.as_str(), ended.code), ("ran\n", Some(0)));
    }

    #[test]
    fn while_it_waits_it_holds_none_of_our_files() {
        let starter = Starter::new().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        starter.spares().fill(&starter);
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert_ne!(children(), "");
        drop(starter);
        assert_eq!(children(), "");
    }

    #[test]
    fn it_dies_with_the_thread_that_made_it() {
        let starter = Starter::new().unwrap();
        std::thread::scope(|scope| drop(scope.spawn(|| starter.spares().fill(&starter)).join()));
        assert!(ends(&starter.spares().take().unwrap().process));
    }
}
