//! Holding a job process still before its opcode executes (design, section 5): whether, and
//! what came of it.

use std::collections::BTreeSet;

use crate::engine::Engine;
use crate::engine::change::Change;
use crate::engine::directories::HooksPath;
use crate::engine::effect::{Effect, Level, Token};
use crate::engine::holds::{Ended, Exactness, Hold, TimeUp};
use crate::engine::input::{Landing, Now};
use crate::engine::jobs::Kind;
use crate::engine::report::Problem;
use crate::engine::topic::{MessageId, Topic};
use crate::ganeti::event::{Event, EventKey, Phase};
use crate::ganeti::job::{Job, JobId, Status, Timestamp};
use crate::ganeti::opcodes;

/// An opcode that began to execute longer ago than this, in seconds, is not stopped any more.
const AGE_LIMIT: f64 = 2.0;

/// Events of a job that may be under way when it is held for the next one.
const BEFORE_A_HOLD: usize = 2;

impl Engine {
    /// Whether jobs are held before opcodes of this kind.
    fn may_hold(&self, op_code: &str) -> bool {
        let elsewhere = || self.has_other_nodes() && opcodes::hook_path(op_code).is_some();
        self.holds_jobs()
            && self.place.is_master()
            && !self.life.is_stopping()
            && (self.holds.has_scripts(op_code) || elsewhere())
            && !self.settings.hooks.skips(op_code)
    }

    /// Stops the job's process if its next opcode has just begun to execute and there are pre
    /// hooks to run before it. Nothing is written, planned or looked up before the signal.
    pub(in crate::engine) fn hold(&mut self, now: Now, job: &Job<'_>, kind: Kind, events: &mut [Event]) {
        for event in events.iter_mut().filter(|event| event.key.phase == Phase::Pre) {
            let op = &job.ops[event.key.op as usize];
            if !self.may_hold(&op.code) {
                continue;
            }
            let begins = op.status == Status::Running && job.last_started() == Some(event.key.op as usize);
            let outcome = if !begins {
                Err(None)
            } else {
                self.try_hold(now, event, op.executed.unwrap_or_default(), kind).map_err(Some)
            };
            if let Err(why) = outcome {
                event.late = true;
                self.missed(Topic::of(MessageId::NotHeld).event(event), event.key, why);
            }
        }
    }

    /// Has the process of a job armed that may begin an opcode with pre hooks next, so that the
    /// kernel stops it as it publishes that; one that has published something else goes on.
    pub(in crate::engine) fn arm(&mut self, job: &Job<'_>, kind: Kind) {
        let next = self.jobs.tracker().get(job.id).map(|tracked| tracked.progress);
        let next = next.filter(|progress| !progress.pre).map(|progress| progress.next as usize);
        let op = next.and_then(|next| job.ops.get(next));
        let may_begin = op.is_some_and(|op| {
            matches!(op.status, Status::Queued | Status::Waiting) && self.may_hold(&op.code)
        });
        // What is not looked at promptly must not be stopped.
        let is_prompt = kind == Kind::Queued && self.agenda.is_watching() && !self.ledger.is_stalled();
        let token = self.processes.of(job.id).filter(|_| may_begin && is_prompt);
        if may_begin && is_prompt && token.is_none() {
            self.effects.extend(self.holds.attach());
        }
        let now = token.filter(|token| self.processes.may_be_armed(*token));
        match now.map(|token| self.holds.arm(job.id, token)) {
            Some(effects) if !effects.is_empty() => self.effects.extend(effects),
            _ => self.effects.extend(self.holds.disarm(job.id)),
        }
    }

    /// Jobs may be held that could not before, or may not any more: those that run are looked at
    /// again, so that they are armed before they publish anything.
    pub(in crate::engine) fn look_at_those_that_run(&mut self) {
        let running: Vec<JobId> = self.processes.jobs().collect();
        running.into_iter().for_each(|id| self.agenda.hint(id));
    }

    /// There are pre hooks of these hooks paths.
    pub(in crate::engine) fn pre_hooks_are(&mut self, scripts: BTreeSet<HooksPath>) {
        if self.holds.scripts_are(scripts) {
            self.look_at_those_that_run();
        }
    }

    /// The configuration is another: who is held, and before what, may be, too.
    pub(in crate::engine) fn hold_anew(&mut self) {
        self.effects.extend(self.holds.disarm_all());
        self.look_at_those_that_run();
        self.ask_the_kernel_again();
    }

    /// What kept the kernel from stopping processes may be over: the queue was not there.
    pub(in crate::engine) fn ask_the_kernel_again(&mut self) {
        let could_not = matches!(self.holds.exactness(), Exactness::BestEffort(_));
        self.effects.extend(could_not.then_some(Effect::LoadKernelStop));
    }

    /// Whether the kernel stops processes in the rename.
    pub(in crate::engine) fn kernel_stops(&mut self, result: Result<String, String>) {
        match result {
            Ok(means) => {
                let text = format!("jobs are held exactly: the kernel stops them in the rename ({means})");
                self.report.say(Level::Info, &text);
                self.holds.exactness_is(Exactness::Exact(means));
                self.look_at_those_that_run();
            }
            Err(why) => {
                let text = format!("jobs are held as well as can be, not exactly: {why}");
                self.report.say_of(Topic::of(MessageId::HoldsBestEffort), Level::Warning, &text);
                self.holds.exactness_is(Exactness::BestEffort(why));
            }
        }
    }

    /// Whether a process is armed.
    pub(in crate::engine) fn armed(&mut self, token: Token, result: Result<(), String>) {
        if let Err(why) = result {
            self.effects.extend(self.holds.not_armed(token));
            let job = self.processes.get(token).map(|watched| watched.job.to_string());
            let text = format!("job {} is not armed: {why}", job.unwrap_or_default());
            self.report.say(Level::Debug, &text);
        }
    }

    /// A run was to begin while its job's process stands still, and that has gone on: somebody
    /// else let it, or its time was up before a thread of ours came to begin the run.
    pub(in crate::engine) fn gone_on(&mut self, now: Now, run: i64, seq: i64) {
        let Some(delivery) = self.deliveries.get(seq) else { return };
        if !delivery.is_late() {
            let (key, topic) = (delivery.event.key, Topic::of(MessageId::NotHeld).event(&delivery.event));
            self.effects.extend(self.holds.let_go_for(&delivery.event));
            let text = format!("{key}: its job has been let go on by somebody else; its hooks run late");
            self.report.say_of(topic, Level::Warning, &text);
            self.report.count(|counters| counters.holds_late += 1);
            self.has_passed(seq);
        }
        if self.may_go_on() {
            self.begin_again(seq, run);
        } else {
            self.postponed(now, run, seq, "its job has gone on");
        }
    }

    fn try_hold(&mut self, now: Now, event: &Event, executed: Timestamp, kind: Kind) -> Result<(), String> {
        let id = event.key.job;
        if kind == Kind::Overtaken {
            return Err("it went on while its file was read".to_owned());
        }
        if self.ledger.is_stalled() || self.ledger.had_stalled(executed) {
            return Err("the journal could not be written when its opcode began".to_owned());
        }
        let age = now.time.as_secs_f64() - executed.as_secs_f64();
        // One that is armed stands where it published its opcode, however long ago.
        if age > AGE_LIMIT && !self.holds.is_armed(id) {
            return Err(format!("its opcode began {age:.1} s ago"));
        }
        if !self.deliveries.may_follow_soon(id, BEFORE_A_HOLD) {
            return Err("hooks of its earlier opcodes have yet to run".to_owned());
        }
        let token = self.processes.of(id).ok_or_else(|| "its process is not known to be alive".to_owned())?;
        // Should somebody have let it go on behind our back.
        self.effects.extend(self.holds.let_go(id));
        let limit = self.settings.hooks.hold_limit;
        let is_young = age <= AGE_LIMIT;
        self.effects.extend(self.holds.stop(event, token, now.steady, limit, executed, is_young));
        Ok(())
    }

    /// A job should have been held for this and was not.
    fn missed(&mut self, topic: Topic, key: EventKey, why: Option<String>) {
        self.report.count(|counters| counters.holds_missed += 1);
        if let Some(why) = why {
            let text = format!("job {} is not held: {why}; its pre hooks run late", key.job);
            self.report.say_of(topic, Level::Warning, &text);
        }
    }

    /// A process was told to stop.
    pub(in crate::engine) fn stopped(
        &mut self,
        now: Now,
        token: Token,
        job: JobId,
        result: Result<Landing, String>,
    ) {
        match result {
            Ok(landing) => {
                let (hold, effects) = self.holds.stands(token, now.steady, landing);
                self.effects.extend(effects);
                let Some(hold) = hold else {
                    // Nobody wants it to stand still any more.
                    return self.effects.push(Effect::Continue { token, job });
                };
                self.report.count(|counters| {
                    counters.holds += 1;
                    counters.holds_exact += u64::from(landing == Landing::Exact);
                });
                if landing == Landing::Late {
                    self.report.count(|counters| counters.holds_late += 1);
                    let text = format!(
                        "job {} had got further when it was stopped; it is held for 3 s at most",
                        hold.key.job
                    );
                    self.report.say_of(self.topic(MessageId::NotHeld, &hold), Level::Warning, &text);
                    self.is_late(&hold);
                }
            }
            Err(why) => {
                // The kernel may have stopped it all the same.
                self.effects.push(Effect::Disarm { token, job });
                if let Some(hold) = self.holds.not_stopped(token) {
                    self.missed(self.topic(MessageId::NotHeld, &hold), hold.key, Some(why));
                    self.is_late(&hold);
                }
            }
        }
    }

    /// Writes down how long jobs stood still that have gone on.
    pub(in crate::engine) fn record_holds(&mut self) {
        for Ended { key, received, landing, held } in self.holds.take_ended() {
            self.report.held(landing, held);
            self.ledger.record(Change::Held(key, received, held));
        }
    }

    fn is_late(&mut self, hold: &Hold) {
        if let Some(seq) = self.deliveries.find(hold.key, hold.received) {
            self.has_passed(seq);
        }
    }

    pub(in crate::engine) fn guard_started(&mut self, now: Now, result: Result<(), String>) {
        self.holds.guard_is(result.is_ok(), now.steady);
        match result {
            Ok(()) => {
                self.report.solved(Problem::Guard);
                self.look_at_those_that_run();
            }
            Err(error) => {
                let what = format!("it cannot be started: {error}; no job is held, pre hooks run late");
                if self.report.problem(Problem::Guard, &what) {
                    let topic = Topic::of(MessageId::Problem);
                    self.report.say_of(topic, Level::Error, &format!("the guard: {what}"));
                }
            }
        }
    }

    /// Without a guard nothing stays held.
    pub(in crate::engine) fn guard_ended(&mut self, now: Now) {
        let text = "the guard has ended; what was held goes on, a new guard is started";
        self.report.say(Level::Warning, text);
        self.effects.extend(self.holds.let_all_go());
        self.holds.guard_ended(now.steady);
    }

    /// Lets those go on that have been held as long as they may.
    pub(in crate::engine) fn end_holds_in_time(&mut self, now: Now) {
        for (hold, why, effect) in self.holds.end_in_time(now.steady) {
            self.effects.push(effect);
            self.report.count(|counters| counters.holds_timed_out += 1);
            self.say_that_time_is_up(&hold, why);
        }
    }

    fn say_that_time_is_up(&mut self, hold: &Hold, why: TimeUp) {
        let what = match why {
            TimeUp::Limit => "held as long as it may be; the job goes on, its pre hooks too",
            TimeUp::InVain => "none of its hooks could begin within 3 s; the job goes on, they run late",
        };
        let topic = self.topic(MessageId::HoldTimedOut, hold);
        self.report.say_of(topic, Level::Warning, &format!("{}: {what}", hold.key));
    }

    /// What a line is about that is about a hold.
    fn topic(&self, id: MessageId, hold: &Hold) -> Topic {
        let seq = self.deliveries.find(hold.key, hold.received);
        let delivery = seq.and_then(|seq| self.deliveries.get(seq));
        delivery.map_or_else(|| Topic::of(id).key(hold.key), |delivery| Topic::of(id).event(&delivery.event))
    }
}
