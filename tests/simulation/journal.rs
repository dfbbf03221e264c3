//! What a journal holds: exactly what the changes mean, all of a batch or nothing.

use std::collections::BTreeMap;

use ganeti_hookd::engine::change::{
    Change, EventState, FirstLook, Past, Remembered, Rerun, RunStart, Undelivered,
};
use ganeti_hookd::engine::input::{Recorded, Written};
use ganeti_hookd::engine::numbers::{Numbers, NumbersChange};
use ganeti_hookd::engine::outbox_progress::{Progress as OutboxProgress, Span};
use ganeti_hookd::engine::tracker::Tracked;
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::ganeti::event::Event;
use ganeti_hookd::ganeti::job::{JobId, Timestamp};
use ganeti_hookd::ganeti::opcodes::View;

/// An event as it is kept.
#[derive(Clone, Debug)]
pub struct Row {
    pub event: Event,
    pub state: EventState,
    plan: Option<View>,
    /// Its runs count from this number on; what somebody wants to run again.
    pub rerun: Option<(i64, Rerun)>,
    /// It was another node's when somebody wanted it to run again.
    pub was_anothers: bool,
    /// Its last change in the feed.
    change: i64,
}

impl Row {
    /// The number from which on its runs count.
    pub fn counts_from(&self) -> i64 {
        self.rerun.as_ref().map_or(i64::MIN, |(from, _)| *from)
    }
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
    first_look: Option<FirstLook>,
    began_again: Option<Timestamp>,
    history_lost: Option<Timestamp>,
    /// When the last event that was forgotten was noticed.
    pub forgotten: Option<Timestamp>,
    jobs: BTreeMap<JobId, Tracked>,
    /// The highest job number that was given out, as far as is known.
    pub highest: i64,
    /// The holes below it, what has been seen above it, and whether it was that.
    holes: BTreeMap<i64, bool>,
    are_of_old: bool,
    pub events: BTreeMap<i64, Row>,
    /// By event and number.
    pub runs: BTreeMap<(i64, i64), Run>,
    last_seq: i64,
    /// The event that each change in the feed is of, by the change's number.
    feed: BTreeMap<i64, Option<i64>>,
    last_change: i64,
    /// Events have been forgotten.
    pub pruned: bool,
    /// Nothing can be written to it any more.
    pub damaged: bool,
    /// When something was written last, as its file tells.
    pub last_written: Option<Timestamp>,
    /// How far each outbox is.
    outboxes: BTreeMap<String, OutboxProgress>,
    /// Which of several it is.
    id: i64,
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
                let change = self.tell(Some(*seq));
                let row = Row {
                    event: event.clone(),
                    state: *state,
                    plan: None,
                    rerun: None,
                    was_anothers: false,
                    change,
                };
                self.last_seq = self.last_seq.max(*seq);
                if self.events.insert(*seq, row).is_some() {
                    return Err(format!("two events have the number {seq}"));
                }
            }
            Change::EventState(seq, state) => {
                let change = self.tell(Some(*seq));
                self.row(*seq, |row| (row.state, row.change) = (*state, change));
            }
            Change::Adopt(seq) => {
                let change = self.tell(Some(*seq));
                self.row(*seq, |row| {
                    (row.state, row.event.late, row.change) = (EventState::Pending, true, change);
                });
            }
            Change::ToldGaneti(seq, _) => {
                let change = self.tell(Some(*seq));
                self.row(*seq, |row| row.change = change);
            }
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
            Change::Held(..) => {}
            Change::Notice(_) => drop(self.tell(None)),
            Change::Rerun(seq, rerun) => {
                let from = self.runs.keys().filter(|(of, _)| of == seq).map(|(_, id)| id + 1).max();
                let change = self.tell(Some(*seq));
                self.row(*seq, |row| {
                    row.was_anothers |= row.state == EventState::Standby;
                    (row.state, row.change) = (EventState::Pending, change);
                    row.rerun = Some((from.unwrap_or(1), rerun.clone()));
                });
            }
            Change::Outbox(name, progress) => {
                drop(self.outboxes.insert(name.clone(), *progress.clone()));
            }
            Change::Begun(time) => self.begun = Some(*time),
            Change::FirstLook(look) => self.first_look = Some(*look),
            Change::BeganAgain(time) => self.began_again = Some(*time),
            Change::HistoryLost(time) => self.history_lost = Some(*time),
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
            NumbersChange::All(highest, holes, seen) => {
                (self.highest, self.holes) = (*highest, BTreeMap::new());
                self.open(holes.iter().copied(), false);
                self.open(seen.iter().copied(), true);
                self.are_of_old = false;
            }
            NumbersChange::GivenOut(first, last, seen) => {
                self.holes.retain(|id, _| (*id <= self.highest || id >= first) && !seen.contains(id));
                self.open((*first..=*last).filter(|id| !seen.contains(id)), false);
                self.highest = *last;
            }
            NumbersChange::Filled(id) => drop(self.holes.remove(id)),
            NumbersChange::GivenUpBelow(oldest) => self.holes = self.holes.split_off(oldest),
            NumbersChange::SeenAbove(seen) => self.open(seen.iter().copied(), true),
            NumbersChange::GivenUpAbove(last) => self.holes.retain(|id, _| id <= last),
            NumbersChange::OfOld => self.are_of_old = true,
        }
    }

    fn open(&mut self, numbers: impl Iterator<Item = i64>, seen: bool) {
        numbers.for_each(|id| _ = self.holes.entry(id).or_insert(seen));
    }

    /// A change in the feed; returns its number.
    fn tell(&mut self, seq: Option<i64>) -> i64 {
        self.last_change += 1;
        self.feed.insert(self.last_change, seq);
        self.last_change
    }

    /// Forgets what the feed told first, up to the first event that is to be kept.
    fn prune(&mut self, before: Timestamp, most: u32) -> Written {
        let (mut gone, mut overtaken, mut last) = (Vec::new(), Vec::new(), 0);
        let mut more_to_prune = false;
        for (looked_at, (change, seq)) in self.feed.iter().enumerate() {
            let row = seq.and_then(|seq| self.events.get(&seq)).filter(|row| row.change == *change);
            if row.is_some_and(|row| row.event.time >= before) {
                break;
            }
            let goes = row.filter(|row| row.state != EventState::Pending);
            if goes.is_some() && gone.len() == most as usize {
                more_to_prune = true;
                break;
            }
            if looked_at == most as usize * 4 {
                more_to_prune = !gone.is_empty() || !overtaken.is_empty();
                break;
            }
            match (seq, row, goes) {
                (Some(seq), _, Some(row)) => {
                    gone.push((*seq, row.event.time));
                    last = *change;
                }
                (Some(_), None, _) => overtaken.push(*change),
                _ => {}
            }
        }
        self.feed.retain(|change, _| *change > last && !overtaken.contains(change));
        self.pruned |= !gone.is_empty();
        for (seq, _) in &gone {
            self.events.remove(seq);
            self.runs.retain(|(of, _), _| of != seq);
        }
        let forgotten = gone.into_iter().map(|(_, time)| time).max();
        self.forgotten = self.forgotten.max(forgotten);
        Written { more_to_prune, forgotten }
    }

    /// How far the history tells a job.
    pub fn recall(&self, id: JobId, received: Timestamp) -> Option<Progress> {
        let of_it = |row: &&Row| row.event.key.job == id && row.event.received == received;
        Some(Progress::after(self.events.values().rev().find(of_it)?.event.key))
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
        let seen = self.holes.iter().filter(|(_, seen)| **seen).map(|(id, _)| *id);
        let mut numbers = Numbers::new(self.highest, self.holes.keys().copied()).with_seen(seen);
        if self.are_of_old {
            numbers.are_of_old();
        }
        Remembered {
            past: Past {
                begun: self.begun,
                first_look: self.first_look,
                began_again: self.began_again,
                lost: self.history_lost,
                forgotten: self.forgotten,
                last_written: self.last_written,
                highest_told: self.events.values().map(|row| row.event.key.job.get()).max().unwrap_or(0),
            },
            jobs: self.jobs.iter().map(|(id, tracked)| (*id, tracked.clone())).collect(),
            numbers,
            next_seq: self.last_seq + 1,
            next_run: runs.map(|(_, run)| *run).max().unwrap_or(0) + 1,
            outboxes: self.outboxes.clone(),
            undelivered,
            standby,
        }
    }

    /// The event that a daemon finds when somebody asks for it.
    pub fn recorded(&self, seq: i64) -> Option<Recorded> {
        let row = self.events.get(&seq)?;
        let runs = self.runs.range((seq, i64::MIN)..=(seq, i64::MAX)).map(|((_, run), _)| *run);
        Some(Recorded {
            event: self.undelivered(seq, row),
            state: row.state,
            runs: runs.clone().count() as u32,
            last_run: runs.max().unwrap_or(0),
        })
    }

    fn undelivered(&self, seq: i64, row: &Row) -> Undelivered {
        let runs = self.runs.range((seq, i64::MIN)..=(seq, i64::MAX)).map(|(_, run)| {
            let Run { start, ended } = run;
            let counts = *ended && row.rerun.as_ref().is_none_or(|(from, _)| start.id >= *from);
            (start.key(), (start.attempt, counts))
        });
        let (runs, rerun) = (runs.collect(), row.rerun.as_ref().map(|(_, rerun)| rerun.clone()));
        Undelivered { seq, event: row.event.clone(), runs, plan: row.plan.clone(), rerun }
    }

    /// An empty journal in the place of this one: no number is given out twice.
    pub fn anew(self) -> Self {
        Self { last_seq: self.last_seq, id: self.id + 1, ..Self::default() }
    }

    /// A new journal after one was set aside: no number is given out twice.
    pub fn set_aside(time: Timestamp) -> Self {
        let seconds = time.as_micros() / 1_000_000;
        Self { last_seq: seconds, id: seconds, ..Self::default() }
    }

    /// Whether it has been written how far an outbox is.
    pub fn knows_outboxes(&self) -> bool {
        !self.outboxes.is_empty()
    }

    /// What it spans, as an outbox finds it.
    pub fn span(&self) -> Span {
        let first = self.events.keys().next().copied().unwrap_or(self.last_seq + 1);
        Span { journal: self.id, first, last: self.last_seq }
    }
}
