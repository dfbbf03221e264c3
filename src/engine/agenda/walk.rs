//! Going through many jobs a piece at a time: live jobs come between two pieces.

use std::ops::RangeInclusive;

use crate::ganeti::job::JobId;

/// Job numbers that are still to be gone through, in their order. Where it ends is said when it begins:
/// of what comes later others tell, and it cannot go on for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk(RangeInclusive<JobId>);

impl Walk {
    /// From the first number to this one.
    pub fn to(last: JobId) -> Self {
        Self(JobId::FIRST..=last)
    }

    /// What is left, which is never nothing.
    pub fn left(&self) -> RangeInclusive<JobId> {
        self.0.clone()
    }

    /// What is left after this number, unless that was the last.
    pub fn after(&self, id: JobId) -> Option<Self> {
        let last = *self.0.end();
        id.next().filter(|next| *next <= last).map(|next| Self(next..=last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: i64) -> JobId {
        id.try_into().unwrap()
    }

    #[test]
    fn it_ends_where_it_was_to_end() {
        let walk = Walk::to(id(3)).after(id(1)).unwrap();
        assert_eq!(walk.left(), id(2)..=id(3));
        assert_eq!(walk.after(id(3)), None);
        assert_eq!(walk.after(id(7)), None);
        assert_eq!(Walk::to(id(i64::MAX)).after(id(i64::MAX)), None);
    }
}
