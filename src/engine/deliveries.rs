//! Events on their way to the scripts.
//!
//! For one job the scripts of an event end before the next event's begin, in the order of the
//! events' numbers, whatever was in standby meanwhile; what is run again begins when nothing else
//! of its job is left, and holds nobody. Different jobs go side by side. An event
//! takes a slot when its turn comes, and only then is it planned: plans are in memory for as
//! many events as have slots. Jobs that stand still need no slot and come first; then what has
//! just happened; then what is late, which leaves some slots to the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::change::{Earlier, Rerun, RunKey, RunStart, Undelivered};
use super::directories::Request;
use super::effect::Effect;
use super::environment::Environment;
use super::input::{Now, Script};
use super::slots::Slots;
use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::opcodes::View;

/// How far an event has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun.
    Waiting,
    /// Its plan is being made.
    Planning,
    /// Its scripts are being looked for.
    Preparing,
    /// Its scripts run, or are to.
    UnderWay,
}

/// A run that is under way.
#[derive(Clone, Debug)]
pub struct Running {
    /// What the journal has of it.
    pub start: RunStart,
    /// What began it, to begin it again should it not have begun after all.
    pub effect: Effect,
    /// It could not begin, and is tried again.
    pub is_postponed: bool,
}

/// When an event was noticed: how long ago that is does not follow a clock that is set.
#[derive(Clone, Copy, Debug)]
pub struct Notice {
    at: Duration,
    /// How long before that, in an earlier life.
    before: Duration,
}

impl Notice {
    /// Just now, by the steady clock.
    pub fn now(steady: Duration) -> Self {
        Self { at: steady, before: Duration::ZERO }
    }

    /// In an earlier life, of which nothing but the time of the system's clock is known.
    pub fn earlier(event: &Event, now: Now) -> Self {
        let before = now.time.as_micros().saturating_sub(event.time.as_micros());
        Self { at: now.steady, before: Duration::from_micros(u64::try_from(before).unwrap_or(0)) }
    }

    fn elapsed(self, steady: Duration) -> Duration {
        steady.saturating_sub(self.at).saturating_add(self.before)
    }
}

/// An event on its way to the scripts.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// When it was noticed.
    pub noticed: Notice,
    /// It was there before the daemon was, or before this node was master: what has just
    /// happened comes before it.
    pub is_old: bool,
    /// It was this node's to deliver when another became master: nobody else knows of it for
    /// certain.
    pub is_owed: bool,
    /// Its scripts run again because somebody wants it; its moment has passed.
    pub rerun: Option<Rerun>,
    /// Its runs so far, in an earlier life too.
    pub earlier: Earlier,
    /// What it was given in an earlier life.
    pub given: Option<View>,
    /// How far it has come.
    pub stage: Stage,
    /// What is special about it, once that is known.
    pub plan: Option<View>,
    /// What all its scripts get.
    pub common: Environment,
    /// This node's scripts that have not begun.
    pub scripts: VecDeque<Script>,
    /// Requests to other nodes that have not been made; for each node in order.
    pub requests: Vec<Request>,
    /// Runs under way, by number.
    pub running: BTreeMap<i64, Running>,
    /// A run was interrupted: the next start delivers the event again.
    pub interrupted: bool,
}

impl Delivery {
    /// A new event.
    pub fn new(event: Event, noticed: Notice) -> Self {
        Self {
            event,
            noticed,
            is_old: false,
            is_owed: false,
            rerun: None,
            earlier: Earlier::new(),
            given: None,
            stage: Stage::Waiting,
            plan: None,
            common: Environment::new(),
            scripts: VecDeque::new(),
            requests: Vec::new(),
            running: BTreeMap::new(),
            interrupted: false,
        }
    }

    /// An event that an earlier life noticed.
    pub fn resumed(Undelivered { event, runs, plan, rerun, .. }: Undelivered, now: Now) -> Self {
        let noticed = Notice::earlier(&event, now);
        Self { earlier: runs, given: plan, rerun, ..Self::new(event, noticed) }
    }

    /// An event of the history that is to run again: its runs so far count no more.
    pub fn again(Undelivered { event, mut runs, plan, .. }: Undelivered, rerun: Rerun, now: Now) -> Self {
        runs.values_mut().for_each(|(_, counts)| *counts = false);
        let new = Self::new(event, Notice::now(now.steady));
        Self { is_old: true, rerun: Some(rerun), earlier: runs, given: plan, ..new }
    }

    /// The same from the start, as far as it has not ended.
    pub fn anew(self) -> Self {
        let given = self.view().cloned();
        let Self { is_old, is_owed, rerun, earlier, .. } = self;
        Self { is_old, is_owed, rerun, earlier, given, ..Self::new(self.event, self.noticed) }
    }

    /// Whether its moment has passed for the scripts to come.
    pub fn is_late(&self) -> bool {
        self.event.late || self.rerun.is_some()
    }

    /// Whether this script of this node is to run.
    pub fn wants(&self, script: &str) -> bool {
        self.only_script().is_none_or(|only| only == script)
    }

    /// The one script of this node that is to run, and nothing else.
    pub fn only_script(&self) -> Option<&str> {
        self.rerun.as_ref()?.script.as_deref()
    }

    /// The attempt that the next run of a script is; `None` when it need not run again.
    pub fn next_attempt(&self, run: &RunKey) -> Option<u32> {
        match self.earlier.get(run) {
            Some((_, true)) => None,
            Some((attempt, false)) => Some(attempt.saturating_add(1)),
            None => Some(1),
        }
    }

    /// A run of it has ended, or was begun and has not: then it is to be run again.
    pub fn remember(&mut self, run: &RunStart, ended: bool) {
        self.earlier.insert(run.key(), (run.attempt, ended));
    }

    /// Whether no run of it has ended or was cut short, and nobody wants it again.
    pub fn is_untried(&self) -> bool {
        self.earlier.is_empty() && self.rerun.is_none()
    }

    /// Whether a run of it has ended, or is under way.
    pub fn has_run(&self) -> bool {
        let is_under_way = |run: &Running| !run.is_postponed;
        self.earlier.values().any(|(_, ended)| *ended) || self.running.values().any(is_under_way)
    }

    /// What it is given, if that is known.
    pub fn view(&self) -> Option<&View> {
        self.plan.as_ref().or(self.given.as_ref())
    }

    /// Whether nothing of it runs or is to run.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::UnderWay
            && self.scripts.is_empty()
            && self.running.is_empty()
            && self.requests.is_empty()
            && !self.interrupted
    }

    /// Takes the next request of each node on which nothing of it is under way.
    pub fn take_requests(&mut self) -> Vec<Request> {
        let mut busy: BTreeSet<String> = self.running.values().map(|run| run.start.node.clone()).collect();
        let free = |request: &mut Request| busy.insert(request.target.node.clone());
        self.requests.extract_if(.., free).collect()
    }

    /// Whether it is another node's for good.
    fn is_over_for(&self, steady: Duration, window: Duration) -> bool {
        !self.is_owed && self.noticed.elapsed(steady) > window
    }

    /// Whether it takes a slot: it is being prepared, or a script of it runs on this node.
    fn takes_slot(&self, node: &str) -> bool {
        matches!(self.stage, Stage::Planning | Stage::Preparing)
            || self.running.values().any(|run| run.start.node == node)
    }
}

/// When an event's turn comes among those of its job: in the order of their numbers, and behind
/// all of them what is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    again: bool,
    seq: i64,
}

fn turn(seq: i64, delivery: &Delivery) -> Turn {
    Turn { again: delivery.rerun.is_some(), seq }
}

/// Events that are to be delivered, and those that may have to be.
#[derive(Debug, Default)]
pub struct Deliveries {
    events: BTreeMap<i64, Delivery>,
    /// For each job its undelivered events. Only the first may begin.
    queues: BTreeMap<JobId, BTreeSet<Turn>>,
    /// Events that may begin: the first of their jobs, not begun; what is old comes last.
    ready: BTreeSet<(bool, Turn)>,
    /// Events that have begun.
    begun: BTreeSet<Turn>,
    /// Another node's to deliver, unless this one becomes master soon.
    standby: BTreeMap<i64, Delivery>,
    /// Something that scripts need is short; when it is tried again.
    short: Option<Duration>,
}

impl Deliveries {
    /// Puts an event on its way, behind those of its job that have lower numbers; one that is
    /// run again behind all of them.
    pub fn add(&mut self, seq: i64, delivery: Delivery) {
        let (job, turn) = (delivery.event.key.job, turn(seq, &delivery));
        self.events.insert(seq, delivery);
        self.queues.entry(job).or_default().insert(turn);
        self.settle(job);
    }

    /// The first event of a job may begin if none of it has.
    fn settle(&mut self, job: JobId) {
        let Some(queue) = self.queues.get(&job) else { return };
        for turn in queue.iter().take(2) {
            let old = self.events.get(&turn.seq).is_some_and(|delivery| delivery.is_old);
            self.ready.remove(&(old, *turn));
        }
        if queue.is_disjoint(&self.begun)
            && let Some(first) = queue.first()
            && let Some(delivery) = self.events.get(&first.seq)
        {
            self.ready.insert((delivery.is_old, *first));
        }
    }

    /// Takes the next event that may begin. `held` are the jobs that stand still: their first
    /// events need no slot. `late` says whether what is late may begin.
    pub fn begin(&mut self, held: impl IntoIterator<Item = JobId>, slots: Slots) -> Option<i64> {
        let firsts = held.into_iter().filter_map(|job| self.queues.get(&job)?.first());
        let entry = |turn: &Turn| {
            [false, true].map(|old| (old, *turn)).into_iter().find(|entry| self.ready.contains(entry))
        };
        let urgent = firsts.filter_map(entry).min();
        let next = || match slots {
            Slots::None => None,
            Slots::ForLive => self.ready.first().filter(|(old, _)| !old).copied(),
            Slots::ForAll => self.ready.first().copied(),
        };
        let (old, turn) = urgent.or_else(next)?;
        self.ready.remove(&(old, turn));
        self.begun.insert(turn);
        Some(turn.seq)
    }

    /// Whether some event may begin, given these slots.
    pub fn may_begin(&self, held: impl IntoIterator<Item = JobId>, slots: Slots) -> bool {
        let is_ready = |turn: &Turn| [false, true].iter().any(|old| self.ready.contains(&(*old, *turn)));
        let urgent = || {
            held.into_iter().any(|job| self.queues.get(&job).and_then(BTreeSet::first).is_some_and(is_ready))
        };
        match slots {
            Slots::ForAll if !self.ready.is_empty() => true,
            Slots::ForLive if self.ready.first().is_some_and(|(old, _)| !old) => true,
            _ => !self.ready.is_empty() && urgent(),
        }
    }

    /// The slots that are left of so many.
    pub fn slots(&self, workers: usize, node: &str) -> Slots {
        let begun = || self.begun.iter().filter_map(|turn| self.events.get(&turn.seq));
        let taken = begun().filter(|delivery| delivery.takes_slot(node)).count();
        let waiting = begun().count() - taken;
        Slots::left(workers, taken, waiting)
    }

    /// What was taken could not begin yet; it may again.
    pub fn put_back(&mut self, seq: i64) {
        let Some(delivery) = self.events.get_mut(&seq) else { return };
        delivery.stage = Stage::Waiting;
        delivery.scripts.clear();
        let (job, turn) = (delivery.event.key.job, turn(seq, delivery));
        self.begun.remove(&turn);
        self.settle(job);
    }

    /// The event is over, or not this node's any more; the job's next may begin.
    pub fn remove(&mut self, seq: i64) -> Option<Delivery> {
        let delivery = self.events.remove(&seq)?;
        let (job, turn) = (delivery.event.key.job, turn(seq, &delivery));
        self.begun.remove(&turn);
        self.ready.remove(&(false, turn));
        self.ready.remove(&(true, turn));
        if let Some(queue) = self.queues.get_mut(&job) {
            queue.remove(&turn);
            if queue.is_empty() {
                self.queues.remove(&job);
            }
        }
        self.settle(job);
        Some(delivery)
    }

    /// The event's moment has passed.
    pub fn set_late(&mut self, seq: i64) -> bool {
        let Some(delivery) = self.events.get_mut(&seq).filter(|delivery| !delivery.event.late) else {
            return false;
        };
        delivery.event.late = true;
        true
    }

    /// An event.
    pub fn get(&self, seq: i64) -> Option<&Delivery> {
        self.events.get(&seq)
    }

    /// An event.
    pub fn get_mut(&mut self, seq: i64) -> Option<&mut Delivery> {
        self.events.get_mut(&seq)
    }

    /// All events, by number.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Delivery)> {
        self.events.iter().map(|(seq, delivery)| (*seq, delivery))
    }

    /// Whether another event of the job could begin soon: nothing is old of what is before it,
    /// and no more than so many events. What is to run again and has not begun comes after it.
    pub fn may_follow_soon(&self, job: JobId, most: usize) -> bool {
        let Some(queue) = self.queues.get(&job) else { return true };
        let is_before = |turn: &&Turn| !turn.again || self.begun.contains(turn);
        let mut before = queue.iter().filter(is_before);
        before.clone().nth(most).is_none()
            && before.all(|turn| self.events.get(&turn.seq).is_some_and(|d| !d.is_old))
    }

    /// The number of an event that is delivered for the first time.
    pub fn find(&self, key: EventKey, received: Timestamp) -> Option<i64> {
        let firsts = self.queues.get(&key.job)?.iter().filter(|turn| !turn.again).map(|turn| turn.seq);
        let is_it = |event: &Event| (event.key, event.received) == (key, received);
        firsts.into_iter().find(|seq| self.events.get(seq).is_some_and(|d| is_it(&d.event)))
    }

    /// Events that are under way here but have nothing running: they go on.
    pub fn idle(&self, node: &str) -> Vec<i64> {
        let is_idle = |turn: &&Turn| {
            self.events.get(&turn.seq).is_some_and(|d| {
                d.stage == Stage::UnderWay
                    && !d.interrupted
                    && !d.running.values().any(|run| run.start.node == node)
            })
        };
        self.begun.iter().filter(is_idle).map(|turn| turn.seq).collect()
    }

    /// This node is called otherwise now: what ran here ran here.
    pub fn rename_node(&mut self, old: &str, new: &str) {
        for delivery in self.events.values_mut().chain(self.standby.values_mut()) {
            let earlier = std::mem::take(&mut delivery.earlier).into_iter();
            let renamed = |key: RunKey| match key.node == old {
                true => RunKey { node: new.to_owned(), ..key },
                false => key,
            };
            delivery.earlier = earlier.map(|(key, run)| (renamed(key), run)).collect();
            for run in delivery.running.values_mut().filter(|run| run.start.node == old) {
                run.start.node = new.to_owned();
            }
        }
    }

    /// How many events are undelivered.
    pub fn undelivered(&self) -> usize {
        self.events.len()
    }

    /// Whether anything runs.
    pub fn is_anything_running(&self) -> bool {
        self.begun.iter().any(|turn| self.events.get(&turn.seq).is_some_and(|d| !d.running.is_empty()))
    }

    /// Runs that could not begin.
    pub fn postponed(&self) -> Vec<(i64, i64)> {
        let runs = |Turn { seq, .. }: &Turn| {
            let running = self.events.get(seq).map(|delivery| &delivery.running);
            running
                .into_iter()
                .flatten()
                .filter(|(_, run)| run.is_postponed)
                .map(|(run, _)| (*seq, *run))
                .collect::<Vec<_>>()
        };
        self.begun.iter().flat_map(runs).collect()
    }

    /// Something that scripts need is short.
    pub fn fall_short(&mut self, until: Duration) {
        self.short.get_or_insert(until);
    }

    /// Whether something that scripts need is short.
    pub fn is_short(&self) -> bool {
        self.short.is_some()
    }

    /// What was short is tried again, when it is time. Returns whether it is.
    pub fn take_up(&mut self, steady: Duration) -> bool {
        let due = self.short.is_some_and(|time| time <= steady);
        if due {
            self.short = None;
        }
        due
    }

    /// When what is short is tried again.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.short
    }

    /// Keeps an event for the case that this node becomes master within the window.
    pub fn stand_by(&mut self, seq: i64, delivery: Delivery, steady: Duration, window: Duration) {
        while self.standby.first_key_value().is_some_and(|(_, first)| first.is_over_for(steady, window)) {
            self.standby.pop_first();
        }
        self.standby.insert(seq, delivery);
    }

    /// What has not begun is another node's to deliver now.
    pub fn give_up(&mut self) -> Vec<(i64, Delivery)> {
        let waiting: Vec<i64> =
            self.events.iter().filter(|(_, d)| d.running.is_empty()).map(|(seq, _)| *seq).collect();
        waiting.into_iter().filter_map(|seq| Some((seq, self.remove(seq)?))).collect()
    }

    /// Events in standby that were noticed within the window; the others are another node's
    /// for good.
    pub fn take_over(&mut self, steady: Duration, window: Duration) -> Vec<(i64, Delivery)> {
        let standby = std::mem::take(&mut self.standby).into_iter();
        standby.filter(|(_, delivery)| !delivery.is_over_for(steady, window)).collect()
    }

    /// The events in standby, by number.
    pub fn in_standby(&self) -> impl Iterator<Item = (i64, &Delivery)> {
        self.standby.iter().map(|(seq, standby)| (*seq, standby))
    }

    /// Events in standby from before this time are forgotten.
    pub fn forget_before(&mut self, before: Timestamp) {
        self.standby.retain(|_, standby| standby.event.time >= before);
    }
}
