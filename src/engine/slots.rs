//! How many events may be under way at a time (`hooks.workers`), and which.

/// For which events there are slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// For none but those of jobs that stand still.
    None,
    /// For what has just happened.
    ForLive,
    /// For all.
    ForAll,
}

/// Events that may wait for other nodes alone: a node that hangs takes no worker, but what it is
/// sent is in memory.
const WAITING_MAX: usize = 256;

impl Slots {
    /// What is left of so many workers when so many slots are taken, and so many events wait
    /// for other nodes alone. A quarter, one at least, is kept for what has just happened: a
    /// backlog of hooks that hang does not take it.
    pub fn left(workers: usize, taken: usize, waiting: usize) -> Self {
        let kept = (workers / 4).max(usize::from(workers > 1));
        if taken >= workers || waiting >= 2 * WAITING_MAX {
            Self::None
        } else if taken >= workers - kept || waiting >= WAITING_MAX {
            Self::ForLive
        } else {
            Self::ForAll
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_for_what_has_just_happened() {
        use Slots::{ForAll, ForLive, None};
        let left = [0, 11, 12, 15, 16, 99].map(|taken| Slots::left(16, taken, 0));
        assert_eq!(left, [ForAll, ForAll, ForLive, ForLive, None, None]);
        assert_eq!([0, 1].map(|taken| Slots::left(1, taken, 0)), [ForAll, None], "one is for all");
        assert_eq!([0, 1, 2].map(|taken| Slots::left(2, taken, 0)), [ForAll, ForLive, None]);
        assert_eq!([0, 256, 512].map(|waiting| Slots::left(16, 0, waiting)), [ForAll, ForLive, None]);
    }
}
