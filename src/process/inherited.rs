//! What whoever started us left to us: open descriptors, ignored and blocked signals.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// The signals that may be given another meaning, up to the last real-time one, but
/// SIGPIPE: the standard library ignores it in us and not in what it starts.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// Makes sure that no program that we start inherits a descriptor besides 0, 1 and 2.
/// Our own are close-on-exec from birth; a shell or a service manager may have left
/// others to us.
///
/// # Errors
/// When `/proc` does not show our descriptors.
pub fn keep_from_children() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            set_close_on_exec(number)?;
        }
    }
    Ok(())
}

/// Sets the flag; a descriptor that has been closed since it was listed is left alone.
fn set_close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: the number is not negative, and it is only borrowed for a call that neither
    // reads nor closes: if it names nothing any more the kernel says EBADF, and if it
    // names a new descriptor of ours that one has the flag already.
    #[expect(unsafe_code, reason = "there is no other way to name a descriptor that was inherited")]
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    match fcntl_setfd(fd, FdFlags::CLOEXEC) {
        Ok(()) | Err(Errno::BADF) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives every signal its usual meaning again, and blocks none. Whoever started us may
/// have had some ignored (`nohup`, a shell's `&`) or blocked; what we start would inherit
/// that, and with SIGCHLD ignored no exit status of a hook would ever be known.
///
/// To be called before there are other threads and handlers.
pub fn reset_signals() {
    for signal in SIGNALS.filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: the default action is no function of ours, so nothing can be called
        // that must not be; the kernel refuses numbers and signals that cannot be set.
        #[expect(unsafe_code, reason = "no crate here sets a signal's default action")]
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    // SAFETY: the set is made by sigemptyset before it is read, and the mask is this
    // thread's own.
    #[expect(unsafe_code, reason = "no crate here sets the signal mask")]
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}
