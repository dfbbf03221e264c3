//! Shortages: what the system refuses now and may grant later, and which limit to raise.

use std::io;

use rustix::io::Errno;

/// Whether an error is one that passes by itself when others give something back.
pub fn is_shortage(error: &io::Error) -> bool {
    [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The limit that an error comes from, as the end of a sentence.
pub fn hint(error: &io::Error) -> &'static str {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    if is(Errno::AGAIN) {
        "; the limit on processes is reached (ulimit -u, TasksMax=)"
    } else if is(Errno::MFILE) || is(Errno::NFILE) {
        "; the limit on open files is reached (ulimit -n, LimitNOFILE=, sysctl fs.file-max)"
    } else if is(Errno::NOMEM) {
        "; memory is short (MemoryMax=, ulimit -v)"
    } else {
        ""
    }
}

/// The error, and the limit that it comes from.
pub fn explain(error: &io::Error) -> String {
    format!("{error}{}", hint(error))
}
