//! Starting a script, as directly as the kernel allows.
//!
//! The way is that of `posix_spawn`: clone(2) with `CLONE_VM` and `CLONE_VFORK`. The child
//! runs in our memory, on a stack of its own, and the thread that started it waits until it
//! has become the script. Nothing is copied, however large this process is. By our own hand
//! it is done for two reasons (`docs/performance.md` has the times):
//!
//! * glibc up to 2.37 asks for and sets the action of each signal in the child, some 130
//!   system calls; here only those are set that this process has changed.
//! * `CLONE_PIDFD`: the child comes with its pidfd, or does not come. To find out afterwards
//!   that there is no descriptor for it would be too late.
//!
//! `spare.rs` has a child that is made ahead.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, kill_process, kill_process_group,
    pidfd_send_signal, waitid, waitpid,
};

use super::spare::Spares;
use super::stack::Stack;
use crate::engine::environment::Environment;
use crate::world::deadline::is_stopped;
use crate::world::signals;

/// What is the same for all scripts that this process starts.
#[derive(Debug)]
pub struct Starter {
    null: File,
    /// The signals whose action is to be reset.
    signals: Vec<c_int>,
    /// Processes that wait to become scripts.
    spares: Spares,
}

impl Starter {
    /// To be made when all signal handlers are set: the child resets those that are known, and
    /// no other can be set any more (`signals::handle`).
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened, or `/proc` does not show this process.
    pub fn new() -> io::Result<Self> {
        Ok(Self { null: File::open("/dev/null")?, signals: signals::seal()?, spares: Spares::default() })
    }

    /// Starts a script without arguments: with this environment and nothing else, `/dev/null`
    /// as standard input, `output` as standard output and error, no other descriptor (those
    /// of this process are close-on-exec), its own process group, the root as working
    /// directory, no blocked and no ignored signal. What is executed is `file`; `name` is what
    /// it is called.
    ///
    /// # Errors
    /// When the kernel says no, or a variable cannot be given to any program.
    pub fn start(
        &self,
        file: &Path,
        name: &Path,
        env: &Environment,
        output: BorrowedFd<'_>,
    ) -> io::Result<Process> {
        let words = Words::new(file, name, env)?;
        let mut child = Child { words: &words, manners: self.manners(output), errno: 0 };
        // CLONE_VFORK: this thread does not go on, and so what is lent to the child stays where it
        // is and nobody else uses it, until the child uses this memory no more. Of the memory that
        // it shares with our other threads it changes `child.errno`, which nobody else knows, and
        // this thread's errno.
        let top = Stack::of_this_thread()?;
        let mut process =
            clone(become_script, top, std::ptr::from_mut(&mut child).cast(), libc::CLONE_VFORK)?;
        match child.errno {
            0 => Ok(process),
            errno => {
                // It has ended, or is about to: it must not stay a zombie.
                process.wait()?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    /// The processes that wait to become scripts.
    pub(super) fn spares(&self) -> &Spares {
        &self.spares
    }

    /// What a child does before it becomes a script that writes to `output`.
    pub(super) fn manners(&self, output: BorrowedFd<'_>) -> Manners<'_> {
        Manners { input: self.null.as_raw_fd(), output: output.as_raw_fd(), signals: &self.signals }
    }
}

/// A process that was started and has to be waited for.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    /// It has been waited for.
    is_over: bool,
}

impl Process {
    /// Waits until it has ended, and tells how.
    ///
    /// # Errors
    /// When somebody else has waited for it.
    pub fn wait(&mut self) -> io::Result<WaitIdStatus> {
        loop {
            let waited = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
            self.is_over = !matches!(waited, Ok(None) | Err(Errno::INTR));
            match waited {
                Ok(Some(status)) => return Ok(status),
                Err(errno) if self.is_over => return Err(errno.into()),
                _ => {}
            }
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        is_stopped(Some(self.pidfd.as_fd()))
    }

    /// Signals its process group, and itself should it have left that. Not to be called when
    /// it has been waited for: its number may be another's then.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }
}

/// Whoever waits for it may panic.
impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_over {
            self.signal(Signal::KILL);
            let _ = self.wait();
        }
    }
}

impl AsFd for Process {
    /// The pidfd: readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// What execve(2) is given.
#[derive(Debug)]
pub(super) struct Words {
    file: CString,
    /// What it is called: what `argv` leads to.
    _name: CString,
    /// `NAME=value`, each ended by a NUL: what `envp` leads to.
    _variables: Vec<u8>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
}

// SAFETY: what its pointers lead to is its own, is not changed, and stays where it is when it is moved.
#[expect(unsafe_code, reason = "pointers are no thread's own")]
unsafe impl Send for Words {}

impl Words {
    /// The words for a program without arguments.
    ///
    /// # Errors
    /// When one of them has a NUL: it cannot be given to any program.
    pub fn new(file: &Path, name: &Path, env: &Environment) -> io::Result<Self> {
        let [file, name] = [file, name].map(|path| CString::new(path.as_os_str().as_bytes()));
        let (file, name) = (file?, name?);
        let (variables, begins) = variables(env)?;
        let begins = begins.into_iter().map(|begin| variables[begin..].as_ptr().cast());
        let envp = begins.chain([std::ptr::null()]).collect();
        let argv = vec![name.as_ptr(), std::ptr::null()];
        Ok(Self { file, _name: name, _variables: variables, argv, envp })
    }

    /// The program's file, its arguments and its environment, good as long as `self` is.
    pub fn pointers(&self) -> [*const c_char; 3] {
        [self.file.as_ptr(), self.argv.as_ptr().cast(), self.envp.as_ptr().cast()]
    }
}

/// An environment as one text, and where in it each variable begins.
fn variables(env: &Environment) -> io::Result<(Vec<u8>, Vec<usize>)> {
    let length = env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let (mut text, mut begins) = (Vec::with_capacity(length), Vec::with_capacity(env.len()));
    for (name, value) in env {
        if name.contains('\0') || value.contains('\0') {
            let what = format!("the variable {} has a NUL, which no program can get", name.escape_debug());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        begins.push(text.len());
        for part in [name.as_str(), "=", value, "\0"] {
            text.extend_from_slice(part.as_bytes());
        }
    }
    Ok((text, begins))
}

/// Starts a child that shares our memory. It does `work` with `argument`, on the stack that ends
/// at `top`, and has all signals blocked: no handler of ours may run in it.
///
/// # Errors
/// When the kernel says no.
pub(super) fn clone(
    work: extern "C" fn(*mut c_void) -> c_int,
    top: *mut c_void,
    argument: *mut c_void,
    flags: c_int,
) -> io::Result<Process> {
    let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD | flags;
    let mut pidfd: c_int = -1;
    // SAFETY: the child runs `work` on a stack for children, which grows downwards on every
    // architecture of Debian. Whoever calls this sees to it that stack and argument stay where they
    // are, and that the child makes system calls and nothing else, until it uses this memory no more.
    #[expect(unsafe_code, reason = "no crate here starts a process in this way")]
    let pid =
        signals::with_all_blocked(|| unsafe { libc::clone(work, top, flags, argument, &raw mut pidfd) });
    let Some(pid) = (pid > 0).then(|| Pid::from_raw(pid)).flatten() else {
        return Err(io::Error::last_os_error());
    };
    if pidfd < 0 {
        // Linux before 5.2 passes over the flag.
        kill_process(pid, Signal::KILL)?;
        waitpid(Some(pid), WaitOptions::empty())?;
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel has no pidfds; Linux 5.3 does"));
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    #[expect(unsafe_code, reason = "it comes as a number")]
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Process { pid, pidfd, is_over: false })
}

/// What the child does before it becomes a script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners<'a> {
    input: c_int,
    output: c_int,
    signals: &'a [c_int],
}

impl Manners<'_> {
    /// Does it. The child shares our memory and may have been started while another thread held any
    /// lock: it makes system calls and nothing else. Returns whether all was well; if not, errno
    /// says what was not. Signals stay blocked.
    pub fn adopt(&self) -> bool {
        self.signals.iter().for_each(|signal| signals::set_default(*signal));
        // SAFETY: descriptors 0 to 2 are open in us (the standard library sees to that when we
        // start), so that none of ours is one of them and dup2 makes copies without close-on-exec.
        #[expect(unsafe_code, reason = "no crate here makes these calls without allocating")]
        unsafe {
            libc::setpgid(0, 0) == 0
                && libc::dup2(self.input, 0) == 0
                && libc::dup2(self.output, 1) == 1
                && libc::dup2(self.output, 2) == 2
                && libc::chdir(c"/".as_ptr()) == 0
        }
    }
}

/// What the child has to know, and what became of it.
struct Child<'a> {
    words: &'a Words,
    manners: Manners<'a>,
    /// Why it could not become the script; 0 if it did.
    errno: c_int,
}

/// What the child does.
extern "C" fn become_script(child: *mut c_void) -> c_int {
    // SAFETY: it is the argument of `clone`, and who called that waits for us.
    #[expect(unsafe_code, reason = "a C function's argument")]
    let child = unsafe { &mut *child.cast::<Child<'_>>() };
    let [file, argv, envp] = child.words.pointers();
    let is_well = child.manners.adopt();
    // SAFETY: the strings and the lists of pointers to them are in the memory of the thread that
    // waits for us, ended as execve(2) wants them.
    #[expect(unsafe_code, reason = "no crate here makes these calls without allocating")]
    unsafe {
        if is_well {
            signals::block_none();
            libc::execve(file, argv.cast(), envp.cast());
        }
        child.errno = *libc::__errno_location();
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What a program that this is the text of said, and how it ended.
    fn run(text: &str, env: &Environment) -> io::Result<(String, WaitIdStatus)> {
        let dir = tempfile::tempdir()?;
        let script = dir.path().join("script");
        std::fs::write(&script, text)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let (mut output, input) = io::pipe()?;
        let starter = Starter::new()?;
        let mut process = loop {
            match starter.start(&script, &script, env, input.as_fd()) {
                // Another test has just been starting a program while ours was written.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                result => break result?,
            }
        };
        drop(input);
        let mut said = String::new();
        output.read_to_string(&mut said)?;
        Ok((said, process.wait()?))
    }

    fn variables(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_script_gets_its_environment_and_nothing_else() {
        const SCRIPT: &str = "#!/bin/cat /proc/self/environ\n";
        let env = variables(&[("A", "b=c\nd"), ("EMPTY", ""), ("GANETI_X", "ünï")]);
        let (said, status) = run(SCRIPT, &env).unwrap();
        // It prints itself as well.
        assert_eq!(said, format!("A=b=c\nd\0EMPTY=\0GANETI_X=ünï\0{SCRIPT}"));
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!(run(SCRIPT, &variables(&[])).unwrap().0, SCRIPT);
    }

    #[test]
    fn no_signal_is_blocked_or_ignored_or_caught() {
        let (status, _) = run("#!/bin/cat /proc/self/status\n", &variables(&[])).unwrap();
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            // 32 and 33 are the C library's own: nothing can set them by way of it.
            u64::from_str_radix(line.trim(), 16).unwrap() & !(0b11 << 31)
        };
        assert_eq!(["SigBlk:", "SigIgn:", "SigCgt:"].map(mask), [0, 0, 0], "{status}");
    }

    #[test]
    fn how_it_ends_is_known() {
        let end = |text: &str| run(&format!("#!/bin/sh\n{text}\n"), &variables(&[])).unwrap();
        assert_eq!(end("exit 7").1.exit_status(), Some(7));
        assert_eq!(end("kill -KILL $$").1.terminating_signal(), Some(9));
        assert_eq!(end("echo out; echo err >&2").0, "out\nerr\n");
    }

    #[test]
    fn what_cannot_be_started_says_why_and_leaves_no_zombie() {
        let none = variables(&[]);
        let errno = |text: &str| run(text, &none).unwrap_err().raw_os_error();
        assert_eq!(errno("no program"), Some(libc::ENOEXEC));
        assert_eq!(errno("#!/no/such/interpreter\n"), Some(libc::ENOENT));
        let error = run("#!/bin/sh\n", &variables(&[("A", "a\0b")])).unwrap_err();
        assert_eq!(error.to_string(), "the variable A has a NUL, which no program can get");
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
        assert_eq!(children, "");
    }

    #[test]
    fn one_that_nobody_waits_for_is_ended() {
        let (_output, input) = io::pipe().unwrap();
        let env = variables(&[("PATH", "/bin")]);
        let program = Path::new("/bin/cat");
        let (pipe, _writer) = io::pipe().unwrap();
        let starter = Starter { null: File::from(OwnedFd::from(pipe)), ..Starter::new().unwrap() };
        let process = starter.start(program, program, &env, input.as_fd()).unwrap();
        let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap();
        assert_ne!(children(), "");
        drop(process);
        assert_eq!(children(), "");
    }

    #[test]
    fn many_threads_start_scripts_at_once() {
        let starter = Starter::new().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let starter = &starter;
                scope.spawn(move || {
                    for turn in 0..25 {
                        let number = format!("{thread}.{turn}");
                        let (mut output, input) = io::pipe().unwrap();
                        let env = variables(&[("NUMBER", &number)]);
                        let program = Path::new("/usr/bin/env");
                        let mut process = starter.start(program, program, &env, input.as_fd()).unwrap();
                        drop(input);
                        let mut said = String::new();
                        output.read_to_string(&mut said).unwrap();
                        assert_eq!(said, format!("NUMBER={number}\n"));
                        assert_eq!(process.wait().unwrap().exit_status(), Some(0));
                    }
                });
            }
        });
    }
}
