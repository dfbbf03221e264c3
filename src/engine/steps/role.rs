//! Master or standby (design, section 7): what changes when the role does.

use crate::engine::agenda::Rank;
use crate::engine::change::{Change, EventState, Notice};
use crate::engine::deliveries::Delivery;
use crate::engine::effect::{Effect, Level};
use crate::engine::input::Now;
use crate::engine::report::Problem;
use crate::engine::topic::{MessageId, Topic};
use crate::engine::{Engine, Role};
use crate::ganeti::job::Timestamp;

impl Engine {
    /// What is heard of who is master.
    pub(in crate::engine) fn master_is(&mut self, now: Now, result: Result<Option<String>, String>) {
        match result {
            Ok(master) => {
                self.report.solved(Problem::Master);
                self.place.is_known_again();
                let before = self.place.role();
                if self.place.hear(master) {
                    self.place_changed(now, before);
                }
            }
            Err(error) => {
                self.report.problem(Problem::Master, &error);
                self.place.is_unknown(now.steady);
            }
        }
    }

    /// This node's name is told.
    pub(in crate::engine) fn named(&mut self, now: Now, node: String) {
        let before = self.place.role();
        if self.place.rename(node) {
            self.report.say(Level::Info, &format!("this node is {}", self.place.node()));
            self.place_changed(now, before);
        }
        self.effects.push(Effect::AskMaster);
    }

    /// The feed tells of a time in which nobody watched.
    pub(in crate::engine) fn tell_of_gap(&mut self, now: Now, since: Option<Timestamp>) {
        let (time, since) = (now.time.as_secs_f64(), since.map(Timestamp::as_secs_f64));
        self.ledger.record(Change::Notice(Notice::Gap { time, since }));
    }

    pub(in crate::engine) fn place_changed(&mut self, now: Now, before: Role) {
        let role = self.place.role();
        if role != before {
            let master = self.place.master().unwrap_or("unknown");
            let text = format!("{} is {} now (the master is {master})", self.place.node(), role.as_str());
            self.report.say_of(Topic::of(MessageId::RoleChanged), Level::Info, &text);
            match role {
                Role::Master => {
                    self.take_over(now);
                    self.assign_outboxes();
                }
                Role::Standby => {
                    // Before they find that what was ours is another node's.
                    self.assign_outboxes();
                    self.stand_by(now);
                }
            }
        } else if self.place.is_anothers() {
            // Events were left to this node before anybody knew whose they are.
            self.stand_by(now);
        }
        self.summarize();
    }

    /// The events of the last moments before the failover may not have been delivered by the
    /// old master; and whose process has ended can be told only now.
    pub(in crate::engine) fn take_over(&mut self, now: Now) {
        if self.place.was_anothers() {
            let (time, node) = (now.time.as_secs_f64(), self.place.node().to_owned());
            self.ledger.record(Change::Notice(Notice::Takeover { time, node }));
            self.report.took_over();
        }
        let window = self.settings.master.failover_window;
        for (seq, delivery) in self.deliveries.take_over(now.steady, window) {
            // What was this node's before has been counted.
            if !delivery.is_owed {
                self.report.event(&delivery.event);
            }
            self.adopt(seq, delivery);
        }
        // What is found now, a death for instance, happened before.
        self.jobs.begin_pass(now.time);
        let open: Vec<_> = self.jobs.open().collect();
        open.into_iter().for_each(|id| self.agenda.found(id, Rank::News));
        self.agenda.want_scan();
        self.effects.push(Effect::ReadSerial);
        // What was under way, and could not go on, goes on.
        self.resume(now);
    }

    /// What has not begun is the new master's to deliver.
    pub(in crate::engine) fn stand_by(&mut self, now: Now) {
        self.take_back_begun();
        for (seq, run) in self.deliveries.postponed() {
            self.take_back(seq, run);
        }
        for (seq, delivery) in self.deliveries.give_up() {
            self.leave_to_another(now, seq, delivery);
        }
        self.effects.extend(self.holds.let_all_go());
        self.effects.extend(self.processes.forget_all());
    }

    pub(in crate::engine) fn leave_to_another(&mut self, now: Now, seq: i64, delivery: Delivery) {
        self.ledger.record(Change::EventState(seq, EventState::Standby));
        self.keep_in_standby(now, seq, Delivery { is_owed: true, ..delivery.anew() });
    }

    /// Keeps an event for the case that this node becomes master soon.
    pub(in crate::engine) fn keep_in_standby(&mut self, now: Now, seq: i64, delivery: Delivery) {
        let window = self.settings.master.failover_window;
        self.deliveries.stand_by(seq, delivery, now.steady, window);
    }

    /// Delivers, late, an event that has been known for a while. Of one that is run again it stays
    /// written whether it was late the first time.
    pub(in crate::engine) fn adopt(&mut self, seq: i64, mut delivery: Delivery) {
        (delivery.is_old, delivery.is_owed) = (true, false);
        self.ledger.record(match delivery.rerun {
            Some(_) => Change::EventState(seq, EventState::Pending),
            None => Change::Adopt(seq),
        });
        delivery.event.late |= delivery.rerun.is_none();
        self.deliveries.add(seq, delivery);
    }
}
