//! The system's clock, which people and NTP may set, and the boot's, which nobody does.
//!
//! Times that are shown or compared with Ganeti's come from the first. What has to be
//! measured is measured with `Instant`, which knows nothing of either.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::ganeti::job::Timestamp;
use crate::world::failpoints;

/// The time by the system's clock.
pub fn now() -> Timestamp {
    Timestamp::from_micros(micros(ClockId::Realtime).saturating_add(failpoints::clock_step_micros()))
}

/// A time as RFC 3339 has it, in UTC.
pub fn rfc3339(time: Timestamp) -> String {
    let shown = jiff::Timestamp::from_microsecond(time.as_micros());
    // Beyond the year 9999 there is none.
    shown.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// When the machine booted, by the slowest that the clock has been since this program
/// began to ask. A clock that was set forward makes everything that runs look younger
/// than it is; by this one a process never looks younger than it did before.
pub fn boot_time() -> Timestamp {
    static EARLIEST: AtomicI64 = AtomicI64::new(i64::MAX);
    let by_the_clock = now().as_micros().saturating_sub(micros(ClockId::Boottime));
    Timestamp::from_micros(EARLIEST.fetch_min(by_the_clock, Ordering::Relaxed).min(by_the_clock))
}

/// Time that nobody sets; since when is nobody's business.
pub fn steady() -> Duration {
    Duration::from_micros(u64::try_from(micros(ClockId::Monotonic)).unwrap_or(0))
}

fn micros(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}
