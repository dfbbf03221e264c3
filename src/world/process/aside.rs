//! Letting a process have this thread's processor for a moment.
//!
//! A process that is to stop, or to go on, may wait for the very processor that this thread runs on, and this
//! thread goes first ([`super::priority`]): sched_yield(2) lets it have that after a tenth of a millisecond at best. To
//! sleep does at once.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::{current_timer_slack, set_current_timer_slack};

/// Long enough for the kernel to change to another process, and for that to come to stand.
const MOMENT: Duration = Duration::from_micros(25);

/// Sleeps for a moment, and not for the 50 us longer that the kernel else lets it take (prctl(2),
/// `PR_SET_TIMERSLACK`).
pub fn step_aside() {
    let slack = current_timer_slack().ok().and_then(NonZeroU64::new);
    let is_set = set_current_timer_slack(NonZeroU64::new(1)).is_ok();
    std::thread::sleep(MOMENT);
    if is_set {
        let _ = set_current_timer_slack(slack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timers_of_the_thread_are_as_before() {
        let before = current_timer_slack().unwrap();
        step_aside();
        assert_eq!(current_timer_slack().unwrap(), before);
    }
}
