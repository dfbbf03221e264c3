//! Fault points: named places where a test has the daemon die, something fail, or the
//! clock step.
//!
//! They are there only with the feature `failpoints`, which this package's own tests
//! turn on (`Cargo.toml`, `dev-dependencies`), and only in a build with debug assertions: what
//! `cargo bench` and `cargo test --release` leave in `target/release`, where a package is built
//! from, has none. In every other build the functions here do nothing and are gone. What is to happen stands in the file that the variable
//! `GANETI_HOOKD_FAULTS` names, one thing a line: `die POINT N` (at the N-th visit),
//! `fail POINT`, `panic THREAD`, `pause POINT MILLISECONDS`, `clock SECONDS`.

use std::io;

#[cfg(not(all(feature = "failpoints", debug_assertions)))]
mod points {
    /// A place between the journal and an effect.
    #[inline(always)]
    pub fn point(_name: &str) {}

    /// Something that the system may refuse.
    ///
    /// # Errors
    /// Never.
    #[inline(always)]
    pub fn refused(_name: &str) -> super::io::Result<()> {
        Ok(())
    }

    /// A place where a thread may have a defect.
    #[inline(always)]
    pub fn defect(_thread: &str) {}

    /// By how much the clock is set wrong.
    #[inline(always)]
    pub fn clock_step_micros() -> i64 {
        0
    }
}

#[cfg(all(feature = "failpoints", debug_assertions))]
mod points {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    /// The file that says what is to happen.
    fn file() -> Option<&'static PathBuf> {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        FILE.get_or_init(|| std::env::var_os("GANETI_HOOKD_FAULTS").map(PathBuf::from)).as_ref()
    }

    /// The words of the first line that begins with these two.
    fn line(verb: &str, name: Option<&str>) -> Option<Vec<String>> {
        let text = std::fs::read_to_string(file()?).ok()?;
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        text.lines().map(words).find(|words| {
            words[0] == verb && name.is_none_or(|name| words.get(1).is_some_and(|word| word == name))
        })
    }

    /// A place between the journal and an effect; where the test says so the daemon dies
    /// here as by SIGKILL.
    pub fn point(name: &str) {
        static VISITS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
        if let Some(millis) = line("pause", Some(name)).and_then(|words| words.get(2)?.parse().ok()) {
            if let Some(file) = file() {
                let _ = std::fs::write(file.with_extension("paused"), name);
            }
            std::thread::sleep(std::time::Duration::from_millis(millis));
        }
        let Some(words) = line("die", Some(name)) else { return };
        let mut visits = VISITS.lock().unwrap_or_else(PoisonError::into_inner);
        let visit = visits.entry(name.to_owned()).or_default();
        *visit += 1;
        if words.get(2).and_then(|word| word.parse().ok()) == Some(*visit) {
            // Once is enough: the next life finds no fault.
            if let Some(file) = file() {
                let _ = std::fs::write(file.with_extension("died"), name);
                let _ = std::fs::remove_file(file);
            }
            // What other threads were told too early comes to pass meanwhile.
            std::thread::sleep(std::time::Duration::from_millis(30));
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }

    /// Something that the system may refuse, and does where the test says so.
    ///
    /// # Errors
    /// What the kernel says when there are too many processes.
    pub fn refused(name: &str) -> super::io::Result<()> {
        match line("fail", Some(name)) {
            Some(_) => Err(rustix::io::Errno::AGAIN.into()),
            None => Ok(()),
        }
    }

    /// A place where a thread may have a defect, and has where the test says so.
    #[track_caller]
    pub fn defect(thread: &str) {
        assert!(line("panic", Some(thread)).is_none(), "a test's {thread}\n\u{1b}[31mdefect");
    }

    /// By how much the clock is set wrong.
    pub fn clock_step_micros() -> i64 {
        let seconds = line("clock", None).and_then(|words| words.get(1)?.parse::<i64>().ok());
        seconds.unwrap_or(0).saturating_mul(1_000_000)
    }
}

pub use points::{clock_step_micros, defect, point, refused};
