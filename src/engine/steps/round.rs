//! What is next when nothing else has happened.
//!
//! A round has four stages: look at what inotify told of, begin what may begin, write, and the
//! rest (what a scan has found, a piece of the old history, questions nobody waits for). Each
//! call goes on until there is something to do; a hint takes the round back to its first stage,
//! but not for ever: after so many looks what they brought is begun and written.

use crate::engine::Engine;
use crate::engine::change::Change;
use crate::engine::effect::Effect;
use crate::engine::input::Now;

/// Jobs that are looked at before what was found is written.
const LOOKS_PER_ROUND: usize = 1024;

/// Of those that a scan has found so many are looked at in one go: live jobs wait for them.
const SCANNED_AT_ONCE: usize = 16;

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

/// Where the round is.
#[derive(Debug, Default)]
pub struct Round {
    stage: Stage,
    /// Jobs that were looked at in this round.
    looks: usize,
    /// This round has had something to do; the next may have, too.
    is_busy: bool,
    /// Questions that are to be asked.
    pub wants: Wants,
    /// Who is master has been asked for what is to begin in this round.
    has_asked: bool,
    /// The stage is not over.
    stays: bool,
    /// What could not begin is to be tried again.
    takes_up: bool,
}

impl Round {
    /// There may be more to do.
    pub fn goes_on(&mut self) {
        self.is_busy = true;
    }

    /// Has asked who is master, for what is to begin in this round.
    pub fn ask(&mut self, effects: &mut Vec<Effect>) {
        self.has_asked = true;
        effects.push(Effect::AskMaster);
    }
}

impl Engine {
    /// There is more to do at once: give [`Input::Quiet`](crate::engine::input::Input::Quiet) again
    /// without waiting.
    pub fn has_more(&self) -> bool {
        if self.life.is_stopping() {
            return false;
        }
        if self.ledger.is_stalled() {
            return self.round.is_busy;
        }
        let scanned = self.agenda.has_scanned() && self.may_look_at_scanned();
        let finds = self.agenda.is_comparing() || self.agenda.wants_more();
        let looks = self.agenda.has_hinted() || scanned || finds;
        let rest = self.pruning.is_under_way() && self.may_prune() || self.round.wants != Wants::default();
        self.round.is_busy || looks || self.may_begin() || self.ledger.must_write() || rest
    }

    /// Nothing else has happened.
    pub(in crate::engine) fn quiet(&mut self, now: Now) {
        self.end_holds_in_time(now);
        if self.life.is_stopping() {
            return self.stop_on(now);
        }
        self.keep_watch(now);
        self.round.is_busy |= !self.effects.is_empty();
        if self.ledger.is_stalled() {
            return self.try_to_write(now);
        }
        if self.agenda.has_hinted() && self.round.looks < LOOKS_PER_ROUND {
            self.round.stage = Stage::Look;
        }
        while self.effects.is_empty() {
            let stage = self.round.stage;
            self.go_through(stage, now);
            self.round.is_busy |= !self.effects.is_empty();
            if self.round.stays {
                self.round.stays = false;
                return;
            }
            self.round.stage = stage.next();
            if stage == Stage::Rest {
                self.round.looks = 0;
                self.round.has_asked = false;
                // A round in which there was nothing to do is the last for now.
                self.round.is_busy = !self.effects.is_empty();
                return;
            }
        }
    }

    fn go_through(&mut self, stage: Stage, now: Now) {
        if stage == Stage::Write && self.outboxes.must_write(now.steady) {
            self.record_outboxes();
        }
        match stage {
            Stage::Look => self.look_at_hinted(),
            Stage::Begin => self.begin_deliveries(),
            Stage::Write if self.ledger.must_write() => self.write(),
            Stage::Write => {}
            Stage::Rest => self.rest(now),
        }
    }

    /// Has written what there is. What begins when it is written asks who is master before.
    fn write(&mut self) {
        if self.ledger.has_begun() && !std::mem::replace(&mut self.round.has_asked, true) {
            self.round.stays = true;
            return self.effects.push(Effect::AskMaster);
        }
        self.record_outboxes();
        self.effects.push(self.ledger.commit());
    }

    /// No job is looked at and nothing begins before what there is has been written.
    fn try_to_write(&mut self, now: Now) {
        self.get_ready();
        if !self.effects.is_empty() {
            return;
        }
        self.round.is_busy = false;
        if !self.ledger.must_wait(now.steady) {
            self.write();
            self.round.is_busy = std::mem::take(&mut self.round.stays);
            // What it was asked for is over when it has been tried to write.
            self.round.has_asked &= self.round.is_busy;
        }
    }

    /// Watches, lists, and takes up again what failed, each when it is time.
    fn keep_watch(&mut self, now: Now) {
        if self.life.start() {
            self.effects.extend([Effect::AskMaster, Effect::CountNodes, Effect::AskCluster]);
            self.effects.extend([Effect::LookForPreHooks, Effect::LoadKernelStop]);
            self.assign_outboxes();
        }
        if self.place.wants_to_ask(now.steady) {
            self.effects.push(Effect::AskMaster);
        }
        if self.holds_jobs() {
            self.effects.extend(self.holds.want_guard(now.steady));
        }
        self.effects.extend(self.holds.detach(now.steady));
        if self.agenda.wants_watch(now.steady) {
            self.effects.push(Effect::Watch);
        }
        if let Some(scan) = self.agenda.next_scan(now.steady) {
            // The hint that the master changed may be among what was missed.
            self.effects.extend([Effect::AskMaster, Effect::Scan { scan }]);
        }
        if self.agenda.wants_serial(now.steady) {
            self.effects.push(Effect::ReadSerial);
        }
        self.agenda.take_up(now.steady);
        if std::mem::take(&mut self.round.takes_up) {
            self.take_up_postponed();
        }
        if !self.ledger.is_stalled() && self.deliveries.take_up(now.steady) {
            // In the next round, when it is known who is master.
            self.round.takes_up = true;
            self.effects.push(Effect::AskMaster);
        }
    }

    fn look_at_hinted(&mut self) {
        while self.round.looks < LOOKS_PER_ROUND
            && let Some(id) = self.agenda.next_hinted()
        {
            self.round.looks += 1;
            self.read(id);
        }
    }

    fn rest(&mut self, now: Now) {
        self.compare();
        // A first look waits for the history: nothing else tells what an earlier daemon told in it.
        let waits = self.jobs.is_first_ever() && self.jobs.has_unasked();
        if !self.jobs.is_pass_over() && !waits && self.agenda.is_through() {
            self.end_pass();
        }
        self.get_ready();
        self.ask(now);
        self.look_at_scanned();
        self.prune(now);
    }

    /// Everything that was there has been looked at.
    fn end_pass(&mut self) {
        if let Some(begun) = self.jobs.end_pass(self.agenda.failing()) {
            self.ledger.record(Change::Numbers(self.jobs.numbers().all()));
            self.ledger.record(Change::Begun(begun));
        }
    }

    fn ask(&mut self, now: Now) {
        let Wants { pre_hooks, nodes } = std::mem::take(&mut self.round.wants);
        self.effects.extend(nodes.then_some(Effect::CountNodes));
        self.effects.extend(pre_hooks.then_some(Effect::LookForPreHooks));
        if pre_hooks && self.holds_jobs() {
            // A job will soon have to be held.
            self.effects.extend(self.holds.need_guard(now.steady));
        }
    }

    /// On a first start what is there is accounted for as a whole, before any of it is looked
    /// at; and while something is being compared, what comes first may not have been found yet.
    fn may_look_at_scanned(&self) -> bool {
        self.jobs.has_begun() && !self.agenda.is_comparing()
    }

    fn look_at_scanned(&mut self) {
        if !self.may_look_at_scanned() {
            return;
        }
        for _ in 0..SCANNED_AT_ONCE {
            let Some(id) = self.agenda.next_scanned() else { return };
            self.life.look();
            self.read(id);
        }
        // Until it is ready they are looked at first, unless something else has its turn.
        let others = self.agenda.has_hinted() || self.may_begin() || self.ledger.has_begun();
        self.round.stays = !self.life.is_ready() && !self.life.has_looked_enough() && !others;
    }
}
