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

impl Slots {
    /// What is left of so many workers when so many slots are taken. A quarter is kept for
    /// what has just happened: a backlog of hooks that hang does not take it.
    pub fn left(workers: usize, taken: usize) -> Self {
        if taken >= workers {
            Self::None
        } else if taken >= workers - workers / 4 {
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
        let left = [0, 11, 12, 15, 16, 99].map(|taken| Slots::left(16, taken));
        use Slots::{ForAll, ForLive, None};
        assert_eq!(left, [ForAll, ForAll, ForLive, ForLive, None, None]);
        assert_eq!([0, 1].map(|taken| Slots::left(1, taken)), [ForAll, None], "one is for all");
    }
}
