//! What whoever started us left to us: open descriptors.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd};

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
