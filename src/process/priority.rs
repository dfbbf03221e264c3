//! How soon a thread runs when it has something to do (setpriority(2), sched(7)).
//!
//! Between the rename that publishes `running` and the stop lie two threads that have to
//! be scheduled, the watcher's and the owner's, and on a busy master each of them may
//! wait several milliseconds for that. They do little and sleep most of the time, so
//! they may go first. On Linux a priority is a thread's own, and what a thread starts
//! inherits it: the threads that run hooks go back to what the daemon was given.

use std::sync::OnceLock;

use rustix::process::{Pid, getpriority_process, setpriority_process};
use rustix::thread::gettid;

/// The nice value of threads that may go first.
const FIRST: i32 = -15;

/// The nice value that the daemon was given.
static GIVEN: OnceLock<i32> = OnceLock::new();

/// Lets this thread, and those that it starts, go first. Without the right to
/// (`CAP_SYS_NICE`) everything stays as it is.
pub fn raise() {
    let given = *GIVEN.get_or_init(|| getpriority_process(None).unwrap_or_default());
    if let Err(errno) = setpriority_process(None, given.min(FIRST)) {
        log::info!("no higher priority: {errno}; on a busy machine jobs are stopped later");
    }
}

/// Gives this thread the priority that the daemon was given.
pub fn reset() {
    if let Some(given) = GIVEN.get() {
        // To be nicer than before is always allowed.
        let _ = setpriority_process(None, *given);
    }
}

/// A thread of this program whose work takes long and can wait.
#[derive(Clone, Copy, Debug)]
pub struct PatientThread(Pid);

impl PatientThread {
    /// This thread.
    pub fn this() -> Self {
        Self(gettid())
    }

    /// Has it give way to whatever else wants to run, at once: another policy lets it finish
    /// a slice of some milliseconds first. On a machine that is never idle it hardly runs.
    pub fn give_way(self) {
        self.set_policy(libc::SCHED_IDLE);
    }

    /// Has it run like any other program.
    pub fn hurry(self) {
        self.set_policy(libc::SCHED_OTHER);
    }

    fn set_policy(self, policy: libc::c_int) {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the kernel reads the parameters, which are there, and nothing else. Should
        // it refuse, the thread goes on as it did.
        #[expect(unsafe_code, reason = "no crate here sets a thread's scheduling policy")]
        unsafe {
            libc::sched_setscheduler(self.0.as_raw_nonzero().get(), policy, &parameters);
        }
    }
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
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(None).unwrap(), given, "other threads stay as they are");
    }
}
