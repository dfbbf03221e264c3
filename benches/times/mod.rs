//! Times that are measured, and the rest between two of them.

use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::master::number;

/// The monotonic clock, in nanoseconds.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// How long lies between two transitions, in milliseconds.
#[derive(Clone, Copy)]
pub struct Pace {
    rest: u32,
    vary: u32,
}

impl Pace {
    pub fn of_environment() -> Self {
        Self { rest: number("REST", 10), vary: number("VARY", 0) }
    }

    pub fn rest(&self) {
        // As good as random: where the clock stands.
        let vary = now() / 1000 % (2000 * u64::from(self.vary) + 1);
        let rest = 1000 * u64::from(self.rest - self.vary.min(self.rest)) + vary;
        thread::sleep(Duration::from_micros(rest));
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms (give or take {}) between two transitions", self.rest, self.vary)
    }
}

/// Times in nanoseconds, by what they were measured of; the first is what the others are
/// compared with.
pub struct Table(pub Vec<(&'static str, Vec<u64>)>);

impl Table {
    pub fn new(columns: impl IntoIterator<Item = &'static str>) -> Self {
        Self(columns.into_iter().map(|column| (column, Vec::new())).collect())
    }

    pub fn add(&mut self, column: usize, time: u64) {
        self.0[column].1.push(time);
    }

    pub fn print(mut self, what: &str) {
        for (_, times) in &mut self.0 {
            times.sort_unstable();
        }
        for percent in [50, 90, 99] {
            let at = |times: &[u64]| times[(times.len() - 1) * percent / 100] as f64 / 1000.0;
            print!("{what:15} p{percent}:");
            let first = at(&self.0[0].1);
            for (column, times) in &self.0 {
                print!(" {column} {:.0} us ({:.2})", at(times), at(times) / first);
            }
            println!();
        }
    }
}
