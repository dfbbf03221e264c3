//! How soon a thread runs when it has something to do (setpriority(2)).
//!
//! Between the rename that publishes `running` and the stop lie threads that have to be
//! scheduled: the watcher's or the owner's, and whichever works for the owner just then, also the
//! one that waits for processes to end, and one that has waited for a hook. On a busy master each
//! of them may wait several milliseconds for that. They do little and sleep most of the time, so
//! they may go first. On Linux a priority is a thread's own, and what a thread starts inherits it:
//! the threads that run hooks go back to what the daemon was given, but for the while in which one
//! works for the owner.

use std::sync::{Once, OnceLock};

use rustix::process::{getpriority_process, setpriority_process};

/// The nice value of threads that may go first.
const FIRST: i32 = -15;

/// The nice value of threads that come last.
const LAST: i32 = 10;

/// The nice value that the daemon was given.
static GIVEN: OnceLock<i32> = OnceLock::new();

/// Lets this thread, and those that it starts, go first. Without the right to
/// (`CAP_SYS_NICE`) everything stays as it is.
pub fn raise() {
    let given = *GIVEN.get_or_init(|| getpriority_process(None).unwrap_or_default());
    if let Err(errno) = setpriority_process(None, given.min(FIRST)) {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            log::info!("no higher priority: {errno}; on a busy machine jobs are stopped later");
        });
    }
}

/// Gives this thread the priority that the daemon was given.
pub fn reset() {
    if let Some(given) = GIVEN.get() {
        // To be nicer than before is always allowed.
        let _ = setpriority_process(None, *given);
    }
}

/// Does something, such as starting a process, with the priority that the daemon was given.
pub fn as_given<T>(work: impl FnOnce() -> T) -> T {
    let before = getpriority_process(None).ok();
    reset();
    let done = work();
    if let Some(before) = before {
        let _ = setpriority_process(None, before);
    }
    done
}

/// Lets this thread come after all others: what it does takes long, and can wait.
pub fn come_last() {
    // To be nicer than before is always allowed.
    let _ = setpriority_process(None, LAST);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_raised_thread_starts_can_go_back() {
        let given = getpriority_process(None).unwrap();
        std::thread::spawn(move || {
            raise();
            let raised = getpriority_process(None).unwrap();
            let started = std::thread::spawn(|| {
                let inherited = getpriority_process(None).unwrap();
                reset();
                (inherited, getpriority_process(None).unwrap())
            });
            assert_eq!(started.join().unwrap(), (raised, given));
            assert_eq!(as_given(|| getpriority_process(None).unwrap()), given);
            assert_eq!(getpriority_process(None).unwrap(), raised);
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(None).unwrap(), given, "other threads stay as they are");
    }
}
