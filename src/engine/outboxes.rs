//! How far each outbox is, as its thread told last; and when that is written.
//!
//! It is written with whatever is written next, and if nothing is, a little later: to send an event
//! costs no commit of its own. What was sent since then is sent again after a crash, with the same
//! ids.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::change::Change;
use super::effect::Effect;
use super::outbox_progress::{Assignment, Progress, Report};
use super::settings::Outbox;
use super::status::OutboxStatus;

/// How long a place may not be written if nothing else is.
const REST: Duration = Duration::from_secs(1);

/// All that have been heard of, also those that are in no configuration now.
#[derive(Debug, Default)]
pub struct Outboxes {
    all: BTreeMap<String, Report>,
    /// Those whose place is to be written.
    unwritten: BTreeSet<String>,
    /// When that is done if nothing else is written.
    write_at: Option<Duration>,
    /// Threads know of some.
    are_assigned: bool,
}

impl Outboxes {
    /// What the journal has of them.
    pub fn new(remembered: BTreeMap<String, Progress>) -> Self {
        let report = |progress| Report { progress, ..Report::default() };
        let all = remembered.into_iter().map(|(name, progress)| (name, report(progress))).collect();
        Self { all, ..Self::default() }
    }

    /// An outbox says how far it is.
    pub fn reported(&mut self, name: String, report: Report, steady: Duration) {
        let known = self.all.get(&name).map(|known| &known.progress);
        if known != Some(&report.progress) {
            let rest = if known.is_some_and(|known| is_only_further(known, &report.progress)) {
                REST
            } else {
                Duration::ZERO
            };
            self.unwritten.insert(name.clone());
            let at = steady + rest;
            self.write_at = Some(self.write_at.map_or(at, |time| time.min(at)));
        }
        self.all.insert(name, report);
    }

    /// Has threads send for these outboxes, or for none in standby. Nothing where there never
    /// were any.
    pub fn assign(&mut self, settings: &[Outbox], sends: bool) -> Option<Effect> {
        if settings.is_empty() && !self.are_assigned {
            return None;
        }
        self.are_assigned = true;
        let known = |outbox: &Outbox| self.all.get(&outbox.name).map(|report| report.progress.clone());
        let assigned = settings
            .iter()
            .map(|settings| Assignment { progress: known(settings), settings: settings.clone() });
        Some(Effect::Outboxes { outboxes: assigned.collect(), sends })
    }

    /// When a place is to be written if nothing else is.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.write_at
    }

    /// Whether it is time to write places though nothing else is to be written.
    pub fn must_write(&self, steady: Duration) -> bool {
        self.write_at.is_some_and(|time| steady >= time)
    }

    /// What is to be written of them.
    pub fn changes(&mut self) -> Vec<Change> {
        self.write_at = None;
        let unwritten = std::mem::take(&mut self.unwritten);
        unwritten.into_iter().filter_map(|name| self.change(&name)).collect()
    }

    /// All of them, for a new journal.
    pub fn all(&self) -> Vec<Change> {
        self.all.keys().filter_map(|name| self.change(name)).collect()
    }

    fn change(&self, name: &str) -> Option<Change> {
        let progress = self.all.get(name)?.progress.clone();
        Some(Change::Outbox(name.to_owned(), Box::new(progress)))
    }

    /// What an operator must see to.
    pub fn problem(&self, settings: &[Outbox]) -> Option<String> {
        let of = |outbox: &Outbox| {
            let report = self.all.get(&outbox.name).filter(|report| report.is_problem)?;
            Some(format!("{}: {}", outbox.name, report.trouble.as_deref()?))
        };
        let problems: Vec<String> = settings.iter().filter_map(of).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// How they are; what is still to be sent only the history knows.
    pub fn status(&self, settings: &[Outbox], sends: bool) -> Vec<OutboxStatus> {
        settings.iter().map(|outbox| self.status_of(outbox, sends)).collect()
    }

    fn status_of(&self, outbox: &Outbox, sends: bool) -> OutboxStatus {
        let report = self.all.get(&outbox.name).cloned().unwrap_or_default();
        let Report { progress, state, trouble, .. } = report;
        let last_success = progress.last_success.map(|micros| micros as f64 / 1e6);
        OutboxStatus {
            name: outbox.name.clone(),
            url: outbox.url.clone(),
            state: match (sends, state.as_str()) {
                (false, _) => "standby".to_owned(),
                (true, "") => "starting".to_owned(),
                (true, _) => state,
            },
            pending: None,
            last_success,
            refused: progress.parked.len(),
            trouble,
            progress: Some(Box::new((outbox.clone(), progress))),
        }
    }
}

/// Whether an outbox has only come further: that need not be written at once. Where a new one begins,
/// or that the receiver has refused something, is not to be forgotten.
fn is_only_further(before: &Progress, now: &Progress) -> bool {
    (&before.ended, &before.gap) == (&now.ended, &now.gap) && before.parked == now.parked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cursor: i64) -> Report {
        Report { progress: Progress { cursor, ..Progress::default() }, ..Report::default() }
    }

    #[test]
    fn a_place_is_written_with_what_is_written_anyway_or_a_second_later() {
        let seconds = Duration::from_secs;
        let mut outboxes = Outboxes::new(BTreeMap::from([("a".to_owned(), report(1).progress)]));
        outboxes.reported("a".to_owned(), report(1), seconds(1));
        assert_eq!(outboxes.next_deadline(), None, "nothing is new");
        (2..9).for_each(|cursor| outboxes.reported("a".to_owned(), report(cursor), seconds(cursor as u64)));
        assert_eq!(outboxes.next_deadline(), Some(seconds(3)));
        assert!(!outboxes.must_write(seconds(2)) && outboxes.must_write(seconds(3)));
        let written = outboxes.changes();
        assert_eq!(written, [Change::Outbox("a".to_owned(), Box::new(report(8).progress))]);
        assert_eq!((outboxes.next_deadline(), outboxes.changes().len(), outboxes.all().len()), (None, 0, 1));
    }

    #[test]
    fn who_has_no_outbox_has_no_thread() {
        let mut outboxes = Outboxes::default();
        assert_eq!(outboxes.assign(&[], true), None);
        let text = "[[outbox]]\nname = \"a\"\nurl = \"https://a/\"\nsecret-file = \"/key\"\n";
        let some = crate::engine::settings::Settings::parse(text).unwrap().outboxes;
        outboxes.reported("a".to_owned(), report(4), Duration::ZERO);
        let Some(Effect::Outboxes { outboxes: assigned, sends: true }) = outboxes.assign(&some, true) else {
            panic!()
        };
        assert_eq!(assigned[0].progress, Some(report(4).progress));
        let none = outboxes.assign(&[], true);
        assert_eq!(none, Some(Effect::Outboxes { outboxes: vec![], sends: true }), "the last one ends");
    }
}
