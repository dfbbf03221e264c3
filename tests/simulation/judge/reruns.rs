//! What runs again: only as asked, marked, behind all that its job has to deliver.

use std::collections::BTreeSet;

use ganeti_hookd::engine::change::EventState;
use ganeti_hookd::engine::environment::Environment;

use super::{Broken, Judge};
use crate::journal::Journal;
use crate::recipe::HERE;
use crate::world::World;

/// What an event that runs again has to come after.
#[derive(Debug)]
pub struct Behind {
    events: BTreeSet<i64>,
    /// Its plan is being made: what comes meanwhile may come after it.
    is_planned: bool,
}

/// An event that runs again.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    from: i64,
    is_over: bool,
}

impl Judge {
    /// Somebody is told whether an event runs again.
    pub(super) fn answers_rerun(
        &self,
        world: &mut World,
        journal: &Journal,
        asked: u64,
        accepted: bool,
    ) -> Result<(), Broken> {
        if !accepted {
            world.story.reach("a rerun that is refused");
            return Ok(());
        }
        let seq = self.asked_for.get(&asked);
        match seq.and_then(|seq| journal.events.get(seq)) {
            Some(row) if row.rerun.is_some() => Ok(()),
            // It was over at once; of what is over nothing is in a journal that is written anew.
            None if seq.is_some_and(|seq| self.over_unwritten.contains(seq)) => Ok(()),
            _ => Err(self.broken("written before it begins", None, "a rerun is promised and not written")),
        }
    }

    /// An event begins to be delivered: all that its job has to deliver comes before a rerun.
    pub(super) fn has_its_turn(&mut self, seq: i64, world: &mut World, journal: &Journal, is_planned: bool) {
        // One that was given up while it was planned has its turn again.
        let was_planned = |behind: &mut Behind| std::mem::take(&mut behind.is_planned);
        if !is_planned && self.behind.get_mut(&seq).is_some_and(was_planned) {
            return;
        }
        let Some(job) = journal.events.get(&seq).map(|row| row.event.key.job) else { return };
        let is_before = |row: &crate::journal::Row| {
            row.event.key.job == job && row.state == EventState::Pending && row.rerun.is_none()
        };
        let rows = journal.events.iter().filter(|(of, row)| **of != seq && is_before(row));
        let events: BTreeSet<i64> = rows.map(|(seq, _)| *seq).collect();
        if !events.is_empty() && journal.events[&seq].rerun.is_some() {
            world.story.reach("a rerun that waits for its job");
        }
        self.behind.insert(seq, Behind { events, is_planned });
    }

    /// It is written that an event runs again.
    pub(super) fn is_to_run_again(&mut self, seq: i64) -> Result<(), Broken> {
        if !self.asked_for.values().any(|asked| *asked == seq) {
            return Err(self.broken("only what is asked for runs again", None, &format!("event {seq}")));
        }
        // Written anew it is the same rerun.
        if self.again.get(&seq).is_none_or(|again| again.is_over) {
            let of_it = self.attempts.iter().filter(|((of, ..), _)| *of == seq);
            let last = of_it.flat_map(|(_, attempts)| attempts).map(|attempt| attempt.run).max();
            self.again.insert(seq, Again { from: last.map_or(1, |last| last + 1), is_over: false });
        }
        Ok(())
    }

    /// All of an event has ended.
    pub(super) fn has_run_again(&mut self, seq: i64) {
        if let Some(again) = self.again.get_mut(&seq) {
            again.is_over = true;
        }
    }

    /// The number from which on an event's runs count.
    pub(super) fn counts_from(&self, seq: i64) -> i64 {
        self.again.get(&seq).map_or(i64::MIN, |again| again.from)
    }

    /// Whether this run of an event that runs again has begun since somebody wanted that.
    pub(super) fn has_begun_again(&self, seq: i64, run: i64) -> bool {
        let from = self.counts_from(seq);
        let of_it = self.attempts.iter().filter(|((of, ..), _)| *of == seq);
        of_it.flat_map(|(_, attempts)| attempts).any(|attempt| attempt.run == run && run >= from)
    }

    /// A run is about to begin: it says whether it is one that somebody wanted once more.
    pub(super) fn says_that_it_runs_again(
        &mut self,
        world: &mut World,
        journal: &Journal,
        (seq, run): (i64, i64),
        env: &Environment,
    ) -> Result<(), Broken> {
        let (row, start) = (&journal.events[&seq], &journal.runs[&(seq, run)].start);
        let broken = |promise, what: &str| {
            let what = format!("{} (event {seq}, {}): {what}", row.event, start.script);
            Err(Broken { promise, job: Some(row.event.key.job.get()), what })
        };
        let says = env.get("GANETI_HOOKD_RERUN").map(String::as_str);
        if says != row.rerun.as_ref().map(|_| "yes") {
            return broken("what runs again says so", &format!("{says:?}"));
        }
        let Some((_, rerun)) = &row.rerun else { return Ok(()) };
        world.story.reach("an event that runs again");
        if env.get("GANETI_HOOKD_LATE").is_none_or(|late| late != "yes") {
            return broken("late is said where it is late", "it runs again");
        }
        if let Some(only) = &rerun.script {
            world.story.reach("a script that runs again alone");
            if start.node != HERE || start.script != *only {
                return broken("only what is asked for runs again", only);
            }
        }
        let same = journal.runs.range((seq, i64::MIN)..=(seq, i64::MAX)).map(|(_, run)| &run.start);
        let mut others = same.filter(|other| other.id != run && other.key() == start.key());
        if let Some(other) = others.find(|other| other.attempt >= start.attempt) {
            return broken("at most once", &format!("attempts {} and {}", other.attempt, start.attempt));
        }
        let from = self.counts_from(seq);
        let attempts = self.attempts.iter().filter(|((of, ..), _)| *of == seq);
        if attempts.flat_map(|(_, all)| all).any(|before| before.run >= from && before.life < world.life) {
            world.story.reach("a rerun that goes on after a crash");
        }
        let behind = self.behind.get_mut(&seq).map(|behind| std::mem::take(&mut behind.events));
        let is_pending = |seq: &i64| {
            journal.events.get(seq).is_some_and(|row| row.state == EventState::Pending && row.rerun.is_none())
        };
        match behind.into_iter().flatten().find(is_pending) {
            Some(before) => broken("in order", &format!("event {before} of its job is to be delivered")),
            None => Ok(()),
        }
    }
}
