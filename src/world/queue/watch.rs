//! Watching directories with inotify.
//!
//! inotify is a hint where to look, never the truth: what a file says is read from the
//! file. Opens and reads are masked out in the kernel, so that reading wakes nobody.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use notify::event::{EventKind, EventKindMask, ModifyKind, RenameMode};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::mounts::Place;
use crate::world::panics::caught;
use crate::world::{failpoints, shortage};

/// What inotify hints at.
#[derive(Debug)]
pub enum Hint<'a> {
    /// A file of this name was put into the directory, written or removed.
    Changed(&'a Path, &'a OsStr),
    /// Hints were lost (the kernel's queue overflowed): look at everything.
    Overflow,
    /// The directory itself was removed, renamed or unmounted: watch again.
    Lost(&'a Path),
}

/// Directories that are being watched, until dropped.
#[derive(Debug)]
pub struct Watch {
    /// Taken when dropped.
    watcher: Option<RecommendedWatcher>,
    /// Somebody must hear of it when the watching ends.
    relied_on: Arc<AtomicBool>,
    /// Where the directories were.
    places: Vec<Place>,
}

impl Watch {
    /// Whether the directories' paths still lead to what is watched.
    pub fn is_current(&self) -> bool {
        self.places.iter().all(Place::is_current)
    }

    /// Where this directory was when the watching began.
    pub fn place(&self, dir: &Path) -> Option<&Place> {
        self.places.iter().find(|place| place.path() == dir)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.relied_on.store(false, Ordering::Release);
        let watcher = self.watcher.take();
        // Where its thread is gone notify's own drop panics.
        if caught(|| drop(watcher)).is_err() {
            log::error!("the thread that reads inotify was gone");
        }
    }
}

/// Tells of a loss when the thread that reads inotify ends, by a panic say, while
/// somebody still relies on it.
struct OnEnd<H: FnMut(Hint<'_>)> {
    handler: H,
    dir: PathBuf,
    relied_on: Arc<AtomicBool>,
}

impl<H: FnMut(Hint<'_>)> Drop for OnEnd<H> {
    fn drop(&mut self) {
        if self.relied_on.load(Ordering::Acquire) {
            (self.handler)(Hint::Lost(&self.dir));
        }
    }
}

/// What cannot be watched, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {path}: {error}{hint}")]
pub struct WatchError {
    path: String,
    error: notify::Error,
    hint: String,
}

/// Watches directories (not what is below them) and hands every hint to `handler`, on a
/// thread of its own.
///
/// # Errors
/// When inotify is not to be had, or a directory cannot be watched.
pub fn watch(dirs: &[PathBuf], handler: impl FnMut(Hint<'_>) + Send + 'static) -> Result<Watch, WatchError> {
    let kinds = EventKindMask::CREATE
        | EventKindMask::REMOVE
        | EventKindMask::MODIFY_NAME
        | EventKindMask::ACCESS_CLOSE;
    let config = Config::default().with_event_kinds(kinds);
    let first = dirs.first().map(PathBuf::as_path).unwrap_or(Path::new("/"));
    try_thread().map_err(|error| explain(first, error.into()))?;
    let relied_on = Arc::new(AtomicBool::new(false));
    let mut on_end = OnEnd { handler, dir: first.to_owned(), relied_on: Arc::clone(&relied_on) };
    let watched = dirs.to_vec();
    let dispatch = move |event: notify::Result<Event>| {
        let heard = caught(|| {
            failpoints::defect("inotify");
            hints(&watched, &event.ok()?, &mut on_end.handler);
            Some(())
        });
        // What was not understood may have been any change.
        if heard != Ok(Some(())) {
            (on_end.handler)(Hint::Overflow);
        }
    };
    // From here on a failure drops the watcher by way of `Watch`, which can bear it.
    let watcher = RecommendedWatcher::new(dispatch, config).map_err(|error| explain(first, error))?;
    // First where they are: should one be replaced now, that shows.
    let places = dirs.iter().map(|dir| Place::of(dir)).collect();
    let mut watch = Watch { watcher: Some(watcher), relied_on, places };
    for dir in dirs {
        if let Some(watcher) = &mut watch.watcher {
            watcher.watch(dir, RecursiveMode::NonRecursive).map_err(|error| explain(dir, error))?;
        }
    }
    watch.relied_on.store(true, Ordering::Release);
    Ok(watch)
}

/// Starts a thread that does nothing: notify does not say when its own cannot start.
fn try_thread() -> io::Result<()> {
    failpoints::refused("thread.inotify")?;
    let thread = thread::Builder::new().spawn(|| {})?;
    let _ = thread.join();
    Ok(())
}

/// Takes one event apart.
fn hints(dirs: &[PathBuf], event: &Event, handler: &mut impl FnMut(Hint<'_>)) {
    if event.need_rescan() {
        return handler(Hint::Overflow);
    }
    if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
        // The rename's two ends have been hinted at one by one.
        return;
    }
    for path in &event.paths {
        if dirs.contains(path) {
            handler(Hint::Lost(path));
        } else if let (Some(dir), Some(name)) = (path.parent(), path.file_name()) {
            handler(Hint::Changed(dir, name));
        }
    }
}

fn explain(path: &Path, error: notify::Error) -> WatchError {
    const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
    let hint = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => "; raise sysctl fs.inotify.max_user_watches".to_owned(),
        notify::ErrorKind::Io(io) if io.raw_os_error() == Some(EMFILE) => {
            "; raise sysctl fs.inotify.max_user_instances, or the limit on open files (LimitNOFILE=)"
                .to_owned()
        }
        notify::ErrorKind::Io(io) => shortage::hint(io).to_owned(),
        notify::ErrorKind::PathNotFound => "; is paths.queue-dir or paths.data-dir right?".to_owned(),
        _ => String::new(),
    };
    WatchError { path: path.display().to_string(), error, hint }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    fn next(hints: &Receiver<String>) -> String {
        hints.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn renames_writes_and_removals_are_hinted_at_and_reads_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (sender, hints) = channel();
        let _watch = watch(&[dir.path().to_owned()], move |hint| {
            let _ = sender.send(match hint {
                Hint::Changed(_, name) => name.to_string_lossy().into_owned(),
                Hint::Overflow => "overflow".to_owned(),
                Hint::Lost(_) => "lost".to_owned(),
            });
        })
        .unwrap();
        fs::write(path("new"), "").unwrap();
        assert_eq!((next(&hints), next(&hints)), ("new".to_owned(), "new".to_owned()), "made, written");
        fs::rename(path("new"), path("job-1")).unwrap();
        assert_eq!((next(&hints), next(&hints)), ("new".to_owned(), "job-1".to_owned()), "from, to");
        fs::read(path("job-1")).unwrap();
        fs::remove_file(path("job-1")).unwrap();
        assert_eq!(next(&hints), "job-1", "removed; the read was not hinted at");
        fs::remove_dir(dir.path()).unwrap();
        assert_eq!(next(&hints), "lost");
    }
}
