//! Running one hook script: its own process group, a time limit, limited output.
//!
//! Promises: what is executed is what was judged a moment before ([`MOMENT`]), whatever its name led to when
//! its event began; the script gets the given environment and nothing else, descriptors 0, 1
//! and 2 and no others, no blocked signal; it is gone when the run is over, except for
//! what it deliberately left behind in the background; and the run is over soon after
//! its time limit, whatever the script does.

mod spare;
mod spawn;
mod stack;

pub use spawn::Starter;

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitIdStatus};

use super::trust::{Distrust, Refusal, follow};
use crate::engine::environment::Environment;
use crate::engine::outcome::Outcome;
use crate::world::deadline::is_stopped;
use crate::world::failpoints;
use crate::world::shortage::{self, is_shortage};
use spare::Called;
use spawn::{Process, Words};

/// Between SIGTERM and SIGKILL for a script that runs too long.
pub const GRACE: Duration = Duration::from_secs(5);

/// The same when the daemon stops.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long a script that is being written is waited for before the run fails.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a full process table, or a shortage of memory or descriptors, is waited out
/// before the run is postponed.
const SHORTAGE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a process that was made ahead may take until it begins to become a script. Somebody may
/// have stopped it.
const CALL_PATIENCE: Duration = Duration::from_secs(1);

/// How long what was judged has not waited: who may change it by then may change it just before it is executed,
/// too. What lies above it may have been looked at 5 ms earlier still (`scripts::BURST`).
pub const MOMENT: Duration = Duration::from_millis(20);

/// Between two attempts at something that is short.
const PAUSE: Duration = Duration::from_millis(20);

/// The limits of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// After this SIGTERM is sent, and [`GRACE`] later SIGKILL.
    pub timeout: Duration,
    /// Bytes of output that are kept; the rest is read and dropped.
    pub output: usize,
}

/// A script that is to run.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    script: &'a Path,
    seen: Option<&'a Seen>,
}

/// What a script's name led to, and when that was judged and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The file, without links.
    pub file: PathBuf,
    /// When.
    pub at: Instant,
}

impl Seen {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < MOMENT
    }
}

impl<'a> Judged<'a> {
    /// A script, and how it was judged if it was.
    pub fn new(script: &'a Path, seen: Option<&'a Seen>) -> Self {
        Self { script, seen }
    }

    /// What its name leads to now, without links: nobody else can change that any more.
    fn file(self) -> io::Result<PathBuf> {
        if let Some(seen) = self.seen.filter(|seen| seen.is_fresh()) {
            return Ok(seen.file.clone());
        }
        follow(self.script).map_err(|distrust| match distrust {
            Distrust::Refused(refusal) => io::Error::other(refusal),
            Distrust::Failed(error) => error,
        })
    }
}

/// Runs a script, if it is trusted at this moment, to its end, or to the moment `stop` becomes readable: then it is ended
/// as if its time were up, and the outcome says [`Outcome::interrupted`].
pub fn run(
    starter: &Starter,
    script: Judged<'_>,
    env: &Environment,
    limits: Limits,
    stop: Option<BorrowedFd<'_>>,
) -> Outcome {
    run_if(|| true, starter, script, env, limits, stop).unwrap_or_default()
}

/// The same, unless it may not begin any more, which is asked last of all: `None`, it has not begun.
pub fn run_if(
    may_begin: impl Fn() -> bool,
    starter: &Starter,
    script: Judged<'_>,
    env: &Environment,
    limits: Limits,
    stop: Option<BorrowedFd<'_>>,
) -> Option<Outcome> {
    let start = Instant::now();
    failpoints::point("hook.before-start");
    let outcome = match patiently(start, stop, || spawn(starter, script, env, &may_begin)) {
        Ok(None) => return None,
        Ok(Some(running)) => running.wait(Capture::new(limits.output), limits, start, stop),
        // What passes by itself might have passed: the next start tries again.
        Err(error) if patience_with(&error) > Duration::ZERO && is_stopped(stop) => {
            Outcome { interrupted: true, ..Outcome::default() }
        }
        Err(error) => Outcome { postponed: is_shortage(&error), ..Outcome::not_run(not_started(&error)) },
    };
    Some(ended(outcome, start))
}

fn ended(outcome: Outcome, start: Instant) -> Outcome {
    failpoints::point("hook.ended");
    Outcome { seconds: start.elapsed().as_secs_f64(), ..outcome }
}

/// A script that a process was told to become which was made ahead ([`begin`]). The process goes
/// before what it uses.
#[derive(Debug)]
pub struct Begun {
    running: Running,
    start: Instant,
    called: Called,
}

/// Has a process that was made ahead become a script, if one waits and the script was judged a moment ago: nothing is
/// looked at that could hang, and the process is not waited for.
pub fn begin(
    starter: &Starter,
    script: &Path,
    seen: &Seen,
    env: &Environment,
    may_begin: impl Fn() -> bool,
) -> Option<Begun> {
    if !starter.spares().has_one() || !seen.is_fresh() {
        return None;
    }
    let words = Words::new(&seen.file, script, env).ok()?;
    let spare = starter.spares().take()?;
    failpoints::point("hook.before-start");
    if !may_begin() {
        return None;
    }
    let start = Instant::now();
    let (process, output, called) = spare.become_script(words);
    failpoints::point("hook.started");
    Some(Begun { running: Running { process, output }, start, called })
}

impl Begun {
    /// Whether its process has ended.
    pub fn has_ended(&self) -> bool {
        self.running.process.has_ended()
    }

    /// The same as [`run`] for the rest of it; `None` if nothing came of it, and it is still to be run.
    pub fn finish(self, limits: Limits, stop: Option<BorrowedFd<'_>>) -> Option<Outcome> {
        let mut capture = Capture::new(limits.output);
        let patience = self.start + CALL_PATIENCE.min(limits.timeout);
        let woken = self.running.read_until(&mut capture, Some(patience), stop);
        // With all of `self` the process goes first, then what it uses.
        if woken != Woken::Ended && self.called.revoke() {
            return None;
        }
        let outcome = self.running.wait(capture, limits, self.start, stop);
        self.called.has_become().then(|| ended(outcome, self.start))
    }
}

/// Has a process wait to become a script. To be called by threads that live as long as we do.
pub fn make_ready(starter: &Starter) {
    starter.spares().fill(starter);
}

/// A script that runs.
#[derive(Debug)]
struct Running {
    process: Process,
    output: PipeReader,
}

fn spawn(
    starter: &Starter,
    script: Judged<'_>,
    env: &Environment,
    may_begin: impl Fn() -> bool,
) -> io::Result<Option<Running>> {
    failpoints::refused("hook.start")?;
    let (output, input) = io::pipe()?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let file = script.file()?;
    if !may_begin() {
        return Ok(None);
    }
    let process = starter.start(&file, script.script, env, input.as_fd())?;
    failpoints::point("hook.started");
    Ok(Some(Running { process, output }))
}

/// Repeats `attempt` for a while when what it needs is short, or until `stop`.
fn patiently<T>(
    start: Instant,
    stop: Option<BorrowedFd<'_>>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if start.elapsed() < patience_with(&error) && !stopped_within(stop, PAUSE) => {}
            result => return result,
        }
    }
}

fn patience_with(error: &io::Error) -> Duration {
    if error.raw_os_error() == Some(Errno::TXTBSY.raw_os_error()) {
        WRITER_PATIENCE
    } else if is_shortage(error) {
        SHORTAGE_PATIENCE
    } else {
        Duration::ZERO
    }
}

/// Lets some time pass, unless `stop` becomes readable.
fn stopped_within(stop: Option<BorrowedFd<'_>>, time: Duration) -> bool {
    let mut fds: Vec<PollFd<'_>> =
        stop.iter().map(|stop| PollFd::from_borrowed_fd(*stop, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(time).ok();
    poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Why a script has not been started.
fn not_started(error: &io::Error) -> String {
    match error.get_ref().and_then(|error| error.downcast_ref::<Refusal>()) {
        Some(refusal) => format!("refused: {refusal}"),
        None => format!("cannot be started: {}", explain(error)),
    }
}

/// The error, and what to do about it where that is not obvious.
fn explain(error: &io::Error) -> String {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    let hint = if is(Errno::NOEXEC) {
        "; a script begins with a line such as #!/bin/sh"
    } else if is(Errno::NOENT) {
        "; it was removed, or the interpreter in its first line does not exist"
    } else if is(Errno::TXTBSY) {
        "; somebody has it open for writing"
    } else {
        return shortage::explain(error);
    };
    format!("{error}{hint}")
}

/// Why waiting for a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// The script has ended.
    Ended,
    /// Its time is up.
    TimeUp,
    /// The daemon stops.
    Stop,
}

impl Running {
    fn wait(
        mut self,
        mut capture: Capture,
        limits: Limits,
        start: Instant,
        stop: Option<BorrowedFd<'_>>,
    ) -> Outcome {
        let woken = self.read_until(&mut capture, Some(start + limits.timeout), stop);
        if woken != Woken::Ended {
            self.end(&mut capture, if woken == Woken::Stop { STOP_GRACE } else { GRACE });
        }
        capture.take_all(&mut self.output);
        let status = self.process.wait();
        let error = (woken == Woken::TimeUp).then(|| {
            let limit = humantime::format_duration(limits.timeout);
            format!("ran longer than hooks.timeout ({limit}) and was ended")
        });
        Outcome { interrupted: woken == Woken::Stop, ..outcome(status, capture, error) }
    }

    /// Ends the script and all of its process group.
    fn end(&self, capture: &mut Capture, grace: Duration) {
        self.process.signal(Signal::TERM);
        self.read_until(capture, Some(Instant::now() + grace), None);
        self.process.signal(Signal::KILL);
        self.read_until(capture, None, None);
    }

    /// Reads output until the script has ended, `deadline`, or `stop` is readable.
    fn read_until(
        &self,
        capture: &mut Capture,
        deadline: Option<Instant>,
        stop: Option<BorrowedFd<'_>>,
    ) -> Woken {
        let mut output = Some(&self.output);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Woken::TimeUp;
            }
            let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
            // A descriptor that is not watched is replaced by one that is.
            let pidfd = self.process.as_fd();
            let mut fds = [
                watch(pidfd),
                watch(stop.unwrap_or(pidfd)),
                watch(output.map_or(pidfd, |output| output.as_fd())),
            ];
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            if poll(&mut fds, timeout.as_ref()).is_err() {
                continue;
            }
            let [ended, stopped, readable] = fds.map(|fd| !fd.revents().is_empty());
            if ended {
                return Woken::Ended;
            }
            if stopped {
                return Woken::Stop;
            }
            if readable {
                output = output.filter(|pipe| capture.take(&mut &**pipe));
            }
        }
    }
}

fn outcome(status: io::Result<WaitIdStatus>, capture: Capture, error: Option<String>) -> Outcome {
    let (code, signal, lost) = match status {
        Ok(status) => (status.exit_status(), status.terminating_signal(), None),
        Err(error) => (None, None, Some(format!("its exit status is unknown: {error}"))),
    };
    Outcome {
        code,
        signal,
        output: String::from_utf8_lossy(&capture.kept).into_owned(),
        dropped: capture.dropped,
        error: error.or(lost),
        ..Outcome::default()
    }
}

/// Output as it comes in.
struct Capture {
    kept: Vec<u8>,
    limit: usize,
    dropped: u64,
}

impl Capture {
    fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), limit, dropped: 0 }
    }

    /// Takes what is there, at most one buffer. Returns whether more may come.
    fn take(&mut self, output: &mut impl Read) -> bool {
        let mut buffer = [0; 16 * 1024];
        match output.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                let room = (self.limit - self.kept.len()).min(n);
                self.kept.extend_from_slice(&buffer[..room]);
                self.dropped += (n - room) as u64;
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock),
        }
    }

    /// Takes what the script left in the pipe when it ended: at most what a pipe holds,
    /// since something in the background may go on writing.
    fn take_all(&mut self, output: &mut PipeReader) {
        const PIPE_MAX: u64 = 1024 * 1024;
        let before = self.kept.len() as u64 + self.dropped;
        while rustix::io::ioctl_fionread(&*output).is_ok_and(|left| left > 0)
            && self.kept.len() as u64 + self.dropped - before < PIPE_MAX
            && self.take(output)
        {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn put(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    fn run_now(script: &Path) -> Outcome {
        let limits = Limits { timeout: Duration::from_secs(60), output: 1024 };
        run(&Starter::new().unwrap(), Judged::new(script, None), &Environment::new(), limits, None)
    }

    #[test]
    fn what_is_executed_is_what_was_judged() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        put(&dir.join("target"), "#!/bin/sh\necho $0\n");
        std::os::unix::fs::symlink("target", dir.join("10-link")).unwrap();
        assert_eq!(run_now(&dir.join("10-link")).output, format!("{}\n", dir.join("target").display()));
        std::fs::set_permissions(dir.join("target"), Permissions::from_mode(0o757)).unwrap();
        let error = run_now(&dir.join("10-link")).error.unwrap();
        assert!(error.starts_with("refused: ") && error.contains("may be written by others"), "{error}");
    }

    #[test]
    fn what_was_judged_a_moment_ago_is_not_judged_again() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().canonicalize().unwrap().join("script");
        put(&script, "#!/bin/sh\n");
        std::os::unix::fs::symlink("script", script.with_file_name("link")).unwrap();
        let link = script.with_file_name("link");
        let seen = |at| Seen { file: script.clone(), at };
        let (now, long_ago) = (seen(Instant::now()), seen(Instant::now().checked_sub(MOMENT).unwrap()));
        let file = |seen| Judged::new(&link, seen).file();
        for seen in [None, Some(&long_ago), Some(&now)] {
            assert_eq!(file(seen).unwrap(), script);
        }
        std::fs::set_permissions(&script, Permissions::from_mode(0o757)).unwrap();
        assert!(file(None).is_err() && file(Some(&long_ago)).is_err());
        assert_eq!(
            file(Some(&seen(Instant::now()))).unwrap(),
            script,
            "that nobody else could change it was seen"
        );
    }

    #[test]
    fn a_script_that_is_being_written_while_the_daemon_stops_runs_after_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("10-a");
        let mut writer = File::create(&script).unwrap();
        writer.write_all(b"#!/bin/sh\n").unwrap();
        writer.set_permissions(Permissions::from_mode(0o755)).unwrap();
        let stop = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
        let limits = Limits { timeout: Duration::from_secs(60), output: 1024 };
        let judged = Judged::new(&script, None);
        let outcome = run(&Starter::new().unwrap(), judged, &Environment::new(), limits, Some(stop.as_fd()));
        assert!(outcome.interrupted && outcome.error.is_none(), "{outcome:?}");
        // What no time heals has failed, also now.
        std::fs::remove_file(&script).unwrap();
        let outcome = run(&Starter::new().unwrap(), judged, &Environment::new(), limits, Some(stop.as_fd()));
        assert!(!outcome.interrupted && outcome.error.is_some(), "{outcome:?}");
    }
}
