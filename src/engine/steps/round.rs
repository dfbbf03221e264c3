//! What is next when nothing else has happened.
//!
//! A round has four stages: look at what inotify told of, begin what may begin, write, and the
//! rest (what a scan has found, a piece of the old history, questions nobody waits for). Each
//! call goes on until there is something to do; a hint takes the round back to its first stage,
//! but not for ever: after so many looks what they brought is begun and written.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::change::Change;
use crate::engine::effect::{Effect, Level};
use crate::engine::holds::TimeUp;
use crate::engine::input::Now;
use crate::ganeti::event::EventKey;
use crate::ganeti::job::Timestamp;

/// Jobs that are looked at before what was found is written.
const LOOKS_PER_ROUND: usize = 1024;

/// Of those that a scan has found so many are looked at in a round: live jobs wait for them.
const SCANNED_PER_ROUND: usize = 16;

/// As many of them, the last ones, are looked at before the daemon says that it is ready.
const LOOKS_BEFORE_READY: usize = 1024;

/// Events that are forgotten in one commit.
const PRUNED_PER_ROUND: u32 = 200;

/// How often history is forgotten, at most.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// How long scripts may go on after SIGTERM before they are ended.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// What a round does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Look,
    Begin,
    Write,
    Rest,
}

impl Stage {
    fn next(self) -> Self {
        match self {
            Self::Look => Self::Begin,
            Self::Begin => Self::Write,
            Self::Write => Self::Rest,
            Self::Rest => Self::Look,
        }
    }
}

/// Questions that nobody waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Is there a pre hook?
    pub pre_hooks: bool,
    /// How many nodes are online?
    pub nodes: bool,
}

/// Where the daemon is in its life, and in its round.
#[derive(Debug)]
pub struct Turn {
    stage: Stage,
    /// Jobs that were looked at in this round.
    looks: usize,
    /// This round has had something to do; the next may have, too.
    is_busy: bool,
    /// Questions that are to be asked.
    pub wants: Wants,
    /// The journal is being written anew.
    pub is_writing_anew: bool,
    /// When the journal could be written again after it could not.
    pub stall_over: Option<Timestamp>,
    has_started: bool,
    is_ready: bool,
    /// Jobs that a scan had found and that were looked at before the daemon was ready.
    looked_before_ready: usize,
    prune_at: Duration,
    pruning: Option<Timestamp>,
    /// When scripts are ended that still run.
    stopping: Option<Duration>,
}

impl Turn {
    /// Nothing has been done.
    pub fn new(steady: Duration) -> Self {
        Self {
            stage: Stage::Look,
            looks: 0,
            is_busy: false,
            wants: Wants::default(),
            is_writing_anew: false,
            stall_over: None,
            has_started: false,
            is_ready: false,
            looked_before_ready: 0,
            prune_at: steady,
            pruning: None,
            stopping: None,
        }
    }

    /// Begins to stop. Returns whether that is new.
    pub fn stop(&mut self, steady: Duration) -> bool {
        let is_new = self.stopping.is_none();
        self.stopping.get_or_insert(steady + STOP_PATIENCE);
        is_new
    }

    /// Whether the daemon stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// When scripts are ended that still run.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.stopping
    }

    /// A piece of the history was forgotten.
    pub fn pruned(&mut self, there_is_more: bool) {
        self.pruning = self.pruning.filter(|_| there_is_more);
    }
}

impl Engine {
    /// There is more to do at once: give [`Input::Quiet`](crate::engine::input::Input::Quiet) again
    /// without waiting.
    pub fn has_more(&self) -> bool {
        if self.ledger.is_stalled() || self.turn.is_stopping() {
            return false;
        }
        let looks = self.agenda.has_hinted() || self.agenda.has_scanned() || self.agenda.wants_more();
        let rest = self.turn.pruning.is_some() || self.turn.wants != Wants::default();
        self.turn.is_busy || looks || self.may_begin() || self.ledger.has_changes() || rest
    }

    /// Nothing else has happened.
    pub(in crate::engine) fn quiet(&mut self, now: Now) {
        self.end_holds_in_time(now);
        if self.turn.is_stopping() {
            return self.stop_on(now);
        }
        self.keep_watch(now);
        self.turn.is_busy |= !self.effects.is_empty();
        if self.ledger.is_stalled() {
            // No job is looked at and nothing begins before what there is has been written.
            if !self.ledger.must_wait(now.steady) {
                self.effects.push(self.ledger.commit());
            }
            return;
        }
        if self.agenda.has_hinted() && self.turn.looks < LOOKS_PER_ROUND {
            self.turn.stage = Stage::Look;
        }
        while self.effects.is_empty() {
            let stage = self.turn.stage;
            self.go_through(stage, now);
            self.turn.is_busy |= !self.effects.is_empty();
            self.turn.stage = stage.next();
            if stage == Stage::Rest {
                self.turn.looks = 0;
                // A round in which there was nothing to do is the last for now.
                self.turn.is_busy = !self.effects.is_empty();
                return;
            }
        }
    }

    fn go_through(&mut self, stage: Stage, now: Now) {
        match stage {
            Stage::Look => self.look_at_hinted(),
            Stage::Begin => self.begin_deliveries(),
            Stage::Write if self.ledger.has_changes() => self.effects.push(self.ledger.commit()),
            Stage::Write => {}
            Stage::Rest => self.rest(now),
        }
    }

    /// Watches, lists, and takes up again what failed, each when it is time.
    fn keep_watch(&mut self, now: Now) {
        if !std::mem::replace(&mut self.turn.has_started, true) {
            self.effects.extend([Effect::AskMaster, Effect::CountNodes, Effect::LookForPreHooks]);
        }
        if self.holds_jobs() {
            self.effects.extend(self.holds.want_guard(now.steady));
        }
        if self.agenda.wants_watch(now.steady) {
            self.effects.push(Effect::Watch);
        }
        if let Some(scan) = self.agenda.next_scan(now.steady) {
            // The hint that the master changed may be among what was missed.
            self.effects.extend([Effect::AskMaster, Effect::Scan { scan }]);
        }
        self.agenda.take_up(now.steady);
        if !self.ledger.is_stalled() && self.deliveries.take_up(now.steady) {
            self.take_up_postponed();
        }
    }

    fn look_at_hinted(&mut self) {
        while self.turn.looks < LOOKS_PER_ROUND
            && let Some(id) = self.agenda.next_hinted()
        {
            self.turn.looks += 1;
            self.read(id);
        }
    }

    fn rest(&mut self, now: Now) {
        if !self.jobs.is_pass_over() && self.agenda.is_through() {
            self.jobs.pass_is_over();
        }
        self.get_ready();
        self.ask(now);
        self.look_at_scanned();
        self.prune(now);
    }

    fn ask(&mut self, now: Now) {
        let Wants { pre_hooks, nodes } = std::mem::take(&mut self.turn.wants);
        self.effects.extend(nodes.then_some(Effect::CountNodes));
        self.effects.extend(pre_hooks.then_some(Effect::LookForPreHooks));
        if pre_hooks && self.holds_jobs() {
            // A job will soon have to be held.
            self.effects.extend(self.holds.need_guard(now.steady));
        }
    }

    fn look_at_scanned(&mut self) {
        let most = if self.turn.is_ready { SCANNED_PER_ROUND } else { LOOKS_BEFORE_READY };
        for _ in 0..most {
            let Some(id) = self.agenda.next_scanned() else { return };
            self.turn.looked_before_ready += usize::from(!self.turn.is_ready);
            self.read(id);
        }
    }

    /// The watch stands, open jobs have been looked at, and the last of the others; those that
    /// are left are looked at beside the work.
    fn get_ready(&mut self) {
        let most = self.turn.looked_before_ready >= LOOKS_BEFORE_READY;
        let looked = self.agenda.has_listed() && (most || !self.agenda.has_scanned());
        // What is supervised must not be taken for dead because the queue is not there.
        if !self.turn.is_ready && (looked || self.agenda.is_failing()) {
            self.turn.is_ready = true;
            self.summarize();
            self.effects.push(Effect::Ready);
        }
    }

    /// Forgets old history, at most once an hour, never for that alone, and a piece at a time.
    fn prune(&mut self, now: Now) {
        // A job that has not been looked at since the start may have ended meanwhile.
        if !self.turn.is_ready || !self.jobs.is_pass_over() {
            return;
        }
        if now.steady >= self.turn.prune_at && self.turn.pruning.is_none() {
            self.turn.prune_at = now.steady + PRUNE_EVERY;
            self.begin_to_prune(now);
        }
        if let Some(before) = self.turn.pruning {
            self.ledger.record(Change::Prune(before, PRUNED_PER_ROUND));
        }
    }

    fn begin_to_prune(&mut self, now: Now) {
        let keep = i64::try_from(self.settings.history.keep.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp::from_micros(now.time.as_micros().saturating_sub(keep));
        self.turn.pruning = Some(before);
        // What is not in the history any more is not told again.
        if self.jobs.history_begins(before) {
            self.ledger.record(Change::Begun(before));
        }
        self.deliveries.forget_before(before);
        let (vanished, numbers) = self.jobs.forget_before(before);
        vanished.into_iter().for_each(|id| self.agenda.found(id, false));
        numbers.into_iter().for_each(|change| self.ledger.record(Change::Numbers(change)));
    }

    /// Lets those go on that have been held as long as they may.
    fn end_holds_in_time(&mut self, now: Now) {
        for (key, why, effect) in self.holds.end_in_time(now.steady) {
            self.effects.push(effect);
            self.report.count(|counters| counters.holds_timed_out += 1);
            self.say_that_time_is_up(key, why);
        }
    }

    fn say_that_time_is_up(&mut self, key: EventKey, why: TimeUp) {
        let what = match why {
            TimeUp::Limit => "held as long as it may be; the job goes on, its pre hooks too",
            TimeUp::InVain => "none of its hooks could begin within 3 s; the job goes on, they run late",
        };
        self.report.say(Level::Warning, &format!("{key}: {what}"));
    }

    fn stop_on(&mut self, now: Now) {
        if self.turn.stopping.is_some_and(|at| now.steady >= at) {
            self.turn.stopping = Some(now.steady + STOP_PATIENCE);
            self.effects.push(Effect::EndRuns);
        }
        if self.ledger.has_changes() && (self.is_done() || !self.ledger.must_wait(now.steady)) {
            self.effects.push(self.ledger.commit());
        }
    }
}
