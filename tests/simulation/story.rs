//! What happened, for people; and what has been tried, for [`LISTED`].

use std::collections::BTreeMap;

/// What a world tells.
#[derive(Debug, Default)]
pub struct Story {
    /// Whether anybody listens: most worlds are played for their outcome alone.
    pub told: bool,
    /// Microseconds since the world began.
    pub now: u64,
    /// What stands before each line.
    pub name: &'static str,
    lines: Vec<String>,
    /// How often each thing has happened.
    pub reached: BTreeMap<&'static str, u64>,
}

impl Story {
    /// A story of which nothing has happened yet.
    pub fn new(told: bool) -> Self {
        Self { told, ..Self::default() }
    }

    /// Tells one thing that happened.
    pub fn say(&mut self, what: impl FnOnce() -> String) {
        if self.told {
            let line = format!("{:>12.6} {}{}", self.now as f64 / 1e6, self.name, what());
            self.lines.push(line);
        }
    }

    /// Something that should be reached at least once in all worlds was.
    pub fn reach(&mut self, thing: &'static str) {
        *self.reached.entry(thing).or_default() += 1;
    }

    /// The lines; of a long story the end, and of that before it what names `job`.
    pub fn text(&self, job: Option<i64>, all: bool) -> String {
        const TAIL: usize = 60;
        let tail = self.lines.len().saturating_sub(TAIL);
        let name = job.map(|job| format!("job {job}")).unwrap_or_default();
        let named = |line: &str| {
            !name.is_empty()
                && line
                    .match_indices(&name)
                    .any(|(at, _)| !line[at + name.len()..].starts_with(|next: char| next.is_ascii_digit()))
        };
        let great = |line: &str| line.contains(" ** ");
        let kept = self.lines.iter().enumerate().filter(|(at, line)| {
            all || self.lines.len() <= 3 * TAIL || *at >= tail || named(line) || great(line)
        });
        kept.map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
    }
}
