//! A kind of line that comes too often: the first ones are said, then one every ten seconds,
//! which has the last of them and says how many there were.
//!
//! Time is an argument: whoever asks has a clock.

use std::time::Duration;

/// Lines of a kind that are said one by one.
const BURST: u32 = 20;

/// From the first line of a kind on, those are counted that come within this time.
const PERIOD: Duration = Duration::from_secs(10);

/// How one kind of line is coming.
#[derive(Clone, Debug, Default)]
pub struct Flood {
    /// When this period ends; `None` when none has begun.
    ends: Option<Duration>,
    /// Lines of it that were said.
    said: u32,
    /// Lines of it that were not.
    more: u64,
    /// The last of those.
    last: String,
}

impl Flood {
    /// Nothing has come.
    pub const fn new() -> Self {
        Self { ends: None, said: 0, more: 0, last: String::new() }
    }

    /// A line comes; returns what is to be said now.
    pub fn comes(&mut self, now: Duration, line: String) -> Vec<String> {
        let mut lines: Vec<String> = self.passes(now).into_iter().collect();
        self.ends.get_or_insert(now + PERIOD);
        if self.said < BURST {
            self.said += 1;
            lines.push(line);
        } else {
            self.more += 1;
            self.last = line;
        }
        lines
    }

    /// Time passes; returns what is to be said now of lines that were not.
    pub fn passes(&mut self, now: Duration) -> Option<String> {
        if self.ends.is_none_or(|ends| now < ends) {
            return None;
        }
        self.end(now)
    }

    /// Nothing more comes; returns what is to be said of lines that were not.
    pub fn end(&mut self, now: Duration) -> Option<String> {
        let line = match std::mem::take(&mut self.more) {
            // It is over: the next ones are the first again.
            0 => {
                (self.ends, self.said) = (None, 0);
                return None;
            }
            1 => std::mem::take(&mut self.last),
            count => format!("{} (the last of {count} lines like it)", std::mem::take(&mut self.last)),
        };
        self.ends = Some(now + PERIOD);
        Some(line)
    }

    /// When there is something to say even though nothing comes.
    pub fn deadline(&self) -> Option<Duration> {
        self.ends.filter(|_| self.more > 0)
    }

    /// Whether nothing has come for a while.
    pub fn is_over(&self) -> bool {
        self.ends.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_comes_now_and_then_is_said_as_it_comes() {
        let mut flood = Flood::new();
        for second in 0..1000 {
            assert_eq!(flood.comes(at(second), second.to_string()), [second.to_string()]);
            assert_eq!(flood.deadline(), None);
        }
        assert_eq!((flood.passes(at(2000)), flood.is_over()), (None, true));
    }

    #[test]
    fn a_flood_is_said_once_with_a_count_and_nothing_of_it_is_lost() {
        let mut flood = Flood::new();
        let mut said = Vec::new();
        // A hundred a second, for half a minute.
        for line in 0..3000_u64 {
            said.extend(flood.comes(Duration::from_millis(10 * line), line.to_string()));
        }
        assert_eq!(flood.deadline(), Some(at(30)));
        assert_eq!((flood.passes(at(29)), said.len()), (None, 22));
        said.extend(flood.passes(at(30)));
        assert_eq!(said[20], "999 (the last of 980 lines like it)");
        assert_eq!(
            said[21..],
            ["1999 (the last of 1000 lines like it)", "2999 (the last of 1000 lines like it)",]
        );
        // A last one, long after: not one of the first, but soon.
        assert_eq!(flood.comes(at(31), "x".to_owned()), [""; 0]);
        assert_eq!(flood.passes(at(40)), Some("x".to_owned()));
        assert_eq!((flood.passes(at(50)), flood.is_over()), (None, true));
        assert_eq!(flood.comes(at(51), "y".to_owned()), ["y"]);
    }

    #[test]
    fn at_the_end_all_is_said() {
        let mut flood = Flood::new();
        (0..22).for_each(|line| drop(flood.comes(at(1), line.to_string())));
        assert_eq!(flood.end(at(1)), Some("21 (the last of 2 lines like it)".to_owned()));
        assert_eq!(flood.end(at(1)), None);
    }
}
