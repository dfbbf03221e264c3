//! Mounts: a file system that is mounted over a watched directory, or taken away from it,
//! leaves inotify watching something that nobody sees any more, and it does not say so.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::world::{failpoints, panics};

/// Calls `handler` whenever something was mounted or unmounted, on a thread of its own
/// (Linux: proc(5), `/proc/PID/mounts` can be polled).
///
/// # Errors
/// When there is no descriptor or thread to be had.
pub fn watch(mut handler: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mounts = File::open("/proc/self/mounts")?;
    thread::Builder::new().name("mounts".to_owned()).spawn(move || {
        loop {
            match poll(&mut [PollFd::new(&mounts, PollFlags::PRI)], None) {
                Ok(_) => panics::insist(|| {
                    failpoints::defect("mounts");
                    handler();
                }),
                Err(Errno::INTR) => {}
                Err(errno) => return log::error!("cannot wait for mounts: {errno}"),
            }
        }
    })?;
    Ok(())
}

/// Which directory a path leads to: the file system's and its own number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    numbers: Option<(u64, u64)>,
}

impl Place {
    /// Where the path leads to now.
    pub fn of(path: &Path) -> Self {
        let numbers = std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        Self { path: path.to_owned(), numbers }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads there.
    pub fn is_current(&self) -> bool {
        *self == Self::of(&self.path)
    }
}
