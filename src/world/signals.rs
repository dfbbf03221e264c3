//! Signals of this process: what they do, and which are blocked.
//!
//! What changes something is safe in a child that shares our memory and has not become
//! another program yet: nothing is allocated and no lock is taken (signal-safety(7)).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;
use signal_hook::iterator::Signals;

/// The signals that may be given another meaning, up to the last real-time one.
const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=64;

/// Gives every signal its default action but SIGPIPE, which the standard library ignores,
/// so that writing to who has gone is an error like others; and blocks none.
///
/// To be called before there are other threads and handlers.
pub fn reset() {
    SIGNALS.filter(|signal| *signal != libc::SIGPIPE).for_each(set_default);
    block_none();
}

/// Gives a signal its default action. Those that have no other, and the C library's own,
/// stay as they are.
pub fn set_default(signal: c_int) {
    // SAFETY: the default action is no function of ours, so nothing can be called that must
    // not be; the kernel refuses numbers and signals that cannot be set.
    #[expect(unsafe_code, reason = "no crate here sets a signal's default action")]
    #[expect(clippy::disallowed_methods, reason = "this sets no handler")]
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// Blocks no signal in this thread.
pub fn block_none() {
    // SAFETY: the set is made by sigemptyset before it is read, and the mask is this thread's
    // own.
    #[expect(unsafe_code, reason = "no crate here sets the signal mask")]
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Does something with all signals blocked in this thread; what it starts inherits that.
pub fn with_all_blocked<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the set is made by sigfillset before it is read, what was blocked is written by
    // the call before it is read, and the mask is this thread's own.
    #[expect(unsafe_code, reason = "no crate here sets the signal mask")]
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = work();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}

/// Whether a starter of scripts knows which signals its children have to reset.
static IS_SEALED: AtomicBool = AtomicBool::new(false);

/// Has these signals told instead of letting them end this process.
///
/// # Errors
/// When they cannot be, or when a starter was made: what it starts would run our handler, or
/// keep a signal that we ignore ignored.
pub fn handle(signals: &[c_int]) -> io::Result<Signals> {
    if IS_SEALED.load(Ordering::Acquire) {
        return Err(io::Error::other("a signal's handler was added after the starter of scripts was made"));
    }
    // The one place that may.
    #[expect(clippy::disallowed_methods, reason = "it is this one that is used instead")]
    Signals::new(signals)
}

/// From now on no signal is given another action. Returns those that have one.
///
/// # Errors
/// When `/proc` does not show this process.
pub fn seal() -> io::Result<Vec<c_int>> {
    IS_SEALED.store(true, Ordering::Release);
    not_default()
}

/// The signals that this process ignores or has a handler for.
///
/// # Errors
/// When `/proc` does not show this process.
fn not_default() -> io::Result<Vec<c_int>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let set = mask(&status, "SigIgn:")? | mask(&status, "SigCgt:")?;
    Ok(SIGNALS.filter(|signal| set >> (signal - 1) & 1 == 1).collect())
}

/// A set of signals in a process's status (proc(5)): in hexadecimal, signal 1 the lowest bit.
fn mask(status: &str, name: &str) -> io::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::Error::other(format!("/proc/self/status has no good line {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_caught_or_ignored_is_not_default() {
        let signals = not_default().unwrap();
        // The standard library ignores the first and handles the second.
        assert!(signals.contains(&libc::SIGPIPE) && signals.contains(&libc::SIGSEGV), "{signals:?}");
        assert!(!signals.contains(&libc::SIGKILL) && !signals.contains(&libc::SIGALRM), "{signals:?}");
    }

    #[test]
    fn no_handler_is_added_after_a_starter_was_made() {
        seal().unwrap();
        let error = handle(&[libc::SIGUSR2]).unwrap_err();
        assert!(error.to_string().contains("after the starter"), "{error}");
        assert!(!not_default().unwrap().contains(&libc::SIGUSR2));
    }

    #[test]
    fn a_mask_is_hexadecimal() {
        let status = "Name:\tx\nSigIgn:\t8000000000001000\nSigCgt:\tnonsense\n";
        assert_eq!(mask(status, "SigIgn:").unwrap(), 1 << 63 | 1 << 12);
        assert!(mask(status, "SigCgt:").is_err() && mask(status, "SigBlk:").is_err());
    }

    #[test]
    fn what_was_blocked_is_blocked_again() {
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            mask(&status, "SigBlk:").unwrap()
        };
        let before = blocked();
        let within = with_all_blocked(blocked);
        assert_eq!(within & 1 << (libc::SIGTERM - 1), 1 << (libc::SIGTERM - 1));
        assert_eq!(blocked(), before);
    }
}
