//! What a journal holds: exactly what the changes mean, all of a batch or nothing.

use std::collections::{BTreeMap, BTreeSet};

use ganeti_hookd::engine::change::{Change, EventState, Remembered, RunStart, Undelivered};
use ganeti_hookd::engine::input::Written;
use ganeti_hookd::engine::numbers::{Numbers, NumbersChange};
use ganeti_hookd::engine::tracker::Tracked;
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::ganeti::event::{Event, Phase};
use ganeti_hookd::ganeti::job::{JobId, Timestamp};
use ganeti_hookd::ganeti::opcodes::View;

/// An event as it is kept.
#[derive(Clone, Debug)]
pub struct Row {
    pub event: Event,
    pub state: EventState,
    plan: Option<View>,
}

/// A run as it is kept.
#[derive(Clone, Debug)]
pub struct Run {
    pub start: RunStart,
    pub ended: bool,
}

/// The journal's file.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    pub begun: Option<Timestamp>,
    first_look: Option<Timestamp>,
    jobs: BTreeMap<JobId, Tracked>,
    /// The highest job number that was given out, as far as is known.
    pub highest: i64,
    holes: BTreeSet<i64>,
    pub events: BTreeMap<i64, Row>,
    /// By event and number.
    pub runs: BTreeMap<(i64, i64), Run>,
    last_seq: i64,
    /// Events have been forgotten.
    pub pruned: bool,
    /// Nothing can be written to it any more.
    pub damaged: bool,
}

impl Journal {
    /// What the changes make of it, and what that tells besides; or which constraint
    /// of the database they break.
    pub fn with(mut self, changes: &[Change]) -> Result<(Self, Written), String> {
        let mut written = Written::default();
        for change in changes {
            let Written { more_to_prune, forgotten } = self.apply(change)?;
            written.more_to_prune |= more_to_prune;
            written.forgotten = written.forgotten.max(forgotten);
        }
        Ok((self, written))
    }

    fn apply(&mut self, change: &Change) -> Result<Written, String> {
        match change {
            Change::Job(id, tracked) => drop(self.jobs.insert(*id, tracked.clone())),
            Change::Forget(id) => drop(self.jobs.remove(id)),
            Change::Event(seq, event, state) => {
                let row = Row { event: event.clone(), state: *state, plan: None };
                self.last_seq = self.last_seq.max(*seq);
                if self.events.insert(*seq, row).is_some() {
                    return Err(format!("two events have the number {seq}"));
                }
            }
            Change::EventState(seq, state) => self.row(*seq, |row| row.state = *state),
            Change::Adopt(seq) => self.row(*seq, |row| {
                (row.state, row.event.late) = (EventState::Pending, true);
            }),
            Change::Late(seq) => self.row(*seq, |row| row.event.late = true),
            Change::Plan(seq, view) => self.row(*seq, |row| row.plan = Some(view.clone())),
            Change::RunStart(start) => {
                if !self.events.contains_key(&start.seq) {
                    return Err(format!("a run begins of event {}, which there is not", start.seq));
                }
                let run = Run { start: start.clone(), ended: false };
                if self.runs.insert((start.seq, start.id), run).is_some() {
                    return Err(format!("two runs of event {} have the number {}", start.seq, start.id));
                }
            }
            Change::RunEnd(seq, id, ..) => {
                if let Some(run) = self.runs.get_mut(&(*seq, *id)) {
                    run.ended = true;
                }
            }
            Change::Numbers(change) => self.number(change),
            Change::Begun(time) => self.begun = Some(*time),
            Change::FirstLook(time) => self.first_look = Some(*time),
            Change::Prune(before, most) => return Ok(self.prune(*before, *most)),
        }
        Ok(Written::default())
    }

    fn row(&mut self, seq: i64, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.events.get_mut(&seq) {
            change(row);
        }
    }

    fn number(&mut self, change: &NumbersChange) {
        match change {
            NumbersChange::All(highest, holes) => {
                (self.highest, self.holes) = (*highest, holes.iter().copied().collect());
            }
            NumbersChange::GivenOut(first, last, seen) => {
                self.holes.extend((*first..=*last).filter(|id| !seen.contains(id)));
                self.highest = *last;
            }
            NumbersChange::Filled(id) => drop(self.holes.remove(id)),
            NumbersChange::GivenUpBelow(oldest) => self.holes = self.holes.split_off(oldest),
        }
    }

    /// Forgets the oldest, up to the first that is to be kept.
    fn prune(&mut self, before: Timestamp, most: u32) -> Written {
        let old = self.events.iter().take_while(|(_, row)| row.event.time < before);
        let old = old.filter(|(_, row)| row.state != EventState::Pending);
        let mut old: Vec<(i64, Timestamp)> = old.map(|(seq, row)| (*seq, row.event.time)).collect();
        let more_to_prune = old.len() > most as usize;
        old.truncate(most as usize);
        self.pruned |= !old.is_empty();
        for (seq, _) in &old {
            self.events.remove(seq);
            self.runs.retain(|(of, _), _| of != seq);
        }
        Written { more_to_prune, forgotten: old.into_iter().map(|(_, time)| time).max() }
    }

    /// How far the history tells a job.
    pub fn recall(&self, id: JobId, received: Timestamp) -> Option<Progress> {
        let of_it = |row: &&Row| row.event.key.job == id && row.event.received == received;
        let last = self.events.values().rev().find(of_it)?.event.key;
        let pre = last.phase == Phase::Pre;
        Some(Progress { next: if pre { last.op } else { last.op + 1 }, pre })
    }

    /// What a daemon finds when it starts. `since`: of the events that were another node's to
    /// deliver those noticed since then.
    pub fn load(&self, since: Timestamp) -> Remembered {
        let pending = self.events.iter().filter(|(_, row)| row.state == EventState::Pending);
        let undelivered: Vec<Undelivered> = pending.map(|(seq, row)| self.undelivered(*seq, row)).collect();
        let recent = self.events.iter().rev().take_while(|(_, row)| row.event.time >= since);
        let standby = recent.filter(|(_, row)| row.state == EventState::Standby);
        let mut standby: Vec<Undelivered> = standby.map(|(seq, row)| self.undelivered(*seq, row)).collect();
        standby.reverse();
        let of_those = |seq: i64| undelivered.iter().chain(&standby).any(|event| event.seq == seq);
        let runs = self.runs.keys().filter(|(seq, _)| of_those(*seq));
        Remembered {
            begun: self.begun,
            first_look: self.first_look,
            jobs: self.jobs.iter().map(|(id, tracked)| (*id, tracked.clone())).collect(),
            numbers: Numbers::new(self.highest, self.holes.iter().copied()),
            next_seq: self.last_seq + 1,
            next_run: runs.map(|(_, run)| *run).max().unwrap_or(0) + 1,
            highest_job: self.events.values().map(|row| row.event.key.job.get()).max().unwrap_or(0),
            history_since: self.events.values().next().map(|row| row.event.time),
            undelivered,
            standby,
        }
    }

    fn undelivered(&self, seq: i64, row: &Row) -> Undelivered {
        let runs = self.runs.range((seq, i64::MIN)..=(seq, i64::MAX)).map(|(_, run)| {
            let Run { start, ended } = run;
            ((start.node.clone(), start.script.clone()), (start.attempt, *ended))
        });
        Undelivered { seq, event: row.event.clone(), runs: runs.collect(), plan: row.plan.clone() }
    }

    /// An empty journal in the place of this one: no number is given out twice.
    pub fn anew(self) -> Self {
        Self { last_seq: self.last_seq, ..Self::default() }
    }

    /// A new journal after one was set aside: no number is given out twice.
    pub fn set_aside(time: Timestamp) -> Self {
        Self { last_seq: time.as_micros() / 1_000_000, ..Self::default() }
    }
}
