//! Values by a label, of which there are never too many.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ganeti::text::{is_plain, plain};

/// So many values of a label are told apart.
pub const LABELS_MAX: usize = 150;

/// The most bytes of a label that are told.
const LABEL_MAX: usize = 256;

/// What all others are under.
pub const OTHER: &str = "other";

/// A value for each of the first [`LABELS_MAX`] labels that come, and one for all others.
#[derive(Clone, Debug)]
pub struct Labelled<V>(BTreeMap<Arc<str>, V>);

impl<V> Default for Labelled<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V: Default> Labelled<V> {
    /// Does something to the value of a label; to look it up needs no memory once it is known. Labels
    /// that are told alike are one: a series that comes twice has a scrape refused.
    pub fn with(&mut self, label: &str, change: impl FnOnce(&mut V)) {
        let label = told(label);
        let is_told = self.0.len() < LABELS_MAX || self.0.contains_key(&*label);
        let label = if is_told { &*label } else { OTHER };
        match self.0.get_mut(label) {
            Some(value) => change(value),
            None => change(self.0.entry(label.into()).or_default()),
        }
    }

    /// All that there are, by label.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(label, value)| (&**label, value))
    }
}

/// A label as it is told: nothing for a terminal in it, and not too long.
fn told(label: &str) -> Cow<'_, str> {
    match label.len() <= LABEL_MAX && label.chars().all(is_plain) {
        true => label.into(),
        false => plain(label, LABEL_MAX).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_so_many_labels_all_are_other() {
        let mut labelled: Labelled<u64> = Labelled::default();
        for _ in 0..2 {
            for n in 0..1000 {
                labelled.with(&format!("OP_{n:03}"), |count| *count += 1);
            }
        }
        let counts: Vec<(&str, u64)> = labelled.iter().map(|(label, count)| (label, *count)).collect();
        assert_eq!(counts.len(), LABELS_MAX + 1);
        assert_eq!((counts[0], counts[LABELS_MAX - 1]), (("OP_000", 2), ("OP_149", 2)));
        assert_eq!(counts[LABELS_MAX], (OTHER, 2 * (1000 - LABELS_MAX as u64)));
    }
}
