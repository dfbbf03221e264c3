//! Looking at jobs: what changed, is the process there, what follows.

use crate::engine::agenda::Cause;
use crate::engine::change::{Change, EventState};
use crate::engine::deliveries::Delivery;
use crate::engine::effect::{Effect, Level, Token};
use crate::engine::input::{Landing, Now, Presence, Stamp, Version};
use crate::engine::jobs::{Kind, Start};
use crate::engine::numbers::NumbersChange;
use crate::engine::report::Problem;
use crate::engine::settings::PreMode;
use crate::engine::tracker::{Lateness, Look};
use crate::engine::transitions::Progress;
use crate::engine::{Engine, Role};
use crate::ganeti::event::{Event, EventKey, Phase};
use crate::ganeti::job::{Job, JobId, Liveness, Status, Timestamp};
use crate::ganeti::opcodes;

/// A larger job file, in bytes, is read by a thread of its own. One of this size takes
/// about half a millisecond.
pub const LARGE_FILE: u64 = 1024 * 1024;

/// An opcode that began to execute longer ago than this, in seconds, is not stopped any more.
const AGE_LIMIT: f64 = 2.0;

/// Events of a job that may be under way when it is held for the next one.
const BEFORE_A_HOLD: usize = 2;

impl Engine {
    pub(in crate::engine) fn overflow(&mut self) {
        self.report.count(|counters| counters.overflows += 1);
        self.agenda.want_scan();
    }

    pub(in crate::engine) fn watch_lost(&mut self) {
        self.report.say(Level::Warning, "a watched directory was removed or replaced; watching again");
        self.agenda.watch_lost();
    }

    pub(in crate::engine) fn watched(&mut self, now: Now, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.report.solved(Problem::Watch);
                self.agenda.is_watched_now();
                self.jobs.watch_stands(now.time);
                // Those that may bring events come first.
                let open: Vec<JobId> = self.jobs.open().collect();
                open.into_iter().for_each(|id| self.agenda.hint(id));
                self.effects.push(Effect::ReadSerial);
            }
            Err(error) => {
                self.report.problem_once(Problem::Watch, &error, "trying again every second");
                self.agenda.cannot_watch(now.steady);
            }
        }
    }

    pub(in crate::engine) fn listed(&mut self, scan: u64, files: Vec<(JobId, Option<Stamp>)>) {
        if self.agenda.is_scanning(scan) {
            for (id, stamp) in files {
                if self.jobs.is_listed(id, scan, stamp) {
                    self.agenda.found(id, self.jobs.is_closed(id));
                }
            }
        }
    }

    pub(in crate::engine) fn scan_ended(&mut self, now: Now, scan: u64, result: Result<Option<i64>, String>) {
        if !self.agenda.is_scanning(scan) {
            return;
        }
        let serial = match result {
            Ok(serial) => serial,
            Err(error) => {
                self.report.problem_once(Problem::Queue, &error, "trying again every second");
                return self.agenda.scan_failed(now.steady);
            }
        };
        self.report.solved(Problem::Queue);
        self.report.count(|counters| counters.scans += 1);
        self.agenda.scan_ended();
        if self.jobs.is_first_ever() && self.jobs.begun().is_none() {
            let numbers = self.jobs.begin(serial, self.agenda.scanned());
            self.ledger.record(Change::Numbers(numbers));
            self.ledger.record(Change::Begun(self.jobs.begun().unwrap_or(now.time)));
        } else {
            self.serial(serial);
        }
        // Jobs that left the queue, and jobs that came and were archived unseen.
        let missing: Vec<JobId> = self.jobs.not_listed(scan).chain(self.jobs.numbers().holes()).collect();
        missing.into_iter().for_each(|id| self.agenda.found(id, self.jobs.is_closed(id)));
        self.turn.wants.pre_hooks = true;
        self.turn.wants.nodes = true;
    }

    /// Job numbers up to this one have been given out.
    pub(in crate::engine) fn serial(&mut self, serial: Option<i64>) {
        let Some(serial) = serial else { return };
        let (changes, again) = self.jobs.serial(serial);
        self.record_numbers(changes);
        if again {
            let text = format!("job numbers begin again at {serial}: the cluster was re-created");
            self.report.say(Level::Info, &text);
            if let Some(begun) = self.jobs.trust_the_history() {
                self.ledger.record(Change::Begun(begun));
            }
            if self.agenda.has_listed() {
                self.agenda.want_scan();
            }
        }
    }

    fn record_numbers(&mut self, changes: impl IntoIterator<Item = NumbersChange>) {
        changes.into_iter().for_each(|change| self.ledger.record(Change::Numbers(change)));
    }

    /// Has the job's file read.
    pub(in crate::engine) fn read(&mut self, id: JobId) {
        let archive = self.jobs.is_wanted(id);
        self.effects.push(Effect::Read { id, limit: LARGE_FILE, archive });
    }

    /// What is there of a job's file.
    pub(in crate::engine) fn version(&mut self, now: Now, id: JobId, version: Version<'_>) {
        let cause = self.agenda.answered(id);
        match version {
            Version::Large(_) => {
                let reading = self.agenda.read_large(id, cause);
                return self.effects.extend(reading.map(|reading| Effect::ReadLarge { reading, id }));
            }
            Version::Queued(job, stamp) => self.look(now, job, Kind::Queued, cause, stamp),
            Version::Archived(job) => self.look(now, job, Kind::Archived, cause, None),
            Version::Gone => self.gone(now, id),
            Version::Bad(what, stamp) => self.bad_file(id, &what, stamp),
            Version::Failed(what) => self.look_again(now, id, &what),
        }
        self.agenda.is_small(id);
    }

    /// A large file has been read.
    pub(in crate::engine) fn large_read(&mut self, now: Now, reading: u64, id: JobId, version: Version<'_>) {
        let Some(overtaken) = self.agenda.large_read(reading, id) else { return };
        let cause = self.agenda.answered(id);
        match version {
            Version::Queued(job, _) if overtaken => self.look(now, job, Kind::Overtaken, cause, None),
            Version::Queued(job, stamp) => self.look(now, job, Kind::Queued, cause, stamp),
            // It is looked at again, which tells more than an old answer.
            _ if overtaken => {}
            Version::Bad(what, stamp) => self.bad_file(id, &what, stamp),
            Version::Failed(what) => self.look_again(now, id, &what),
            Version::Gone | Version::Archived(_) | Version::Large(_) => self.agenda.hint(id),
        }
    }

    fn bad_file(&mut self, id: JobId, what: &str, stamp: Option<Stamp>) {
        self.report.bad_file(id, what);
        let change = self.jobs.is_unfit(id, stamp);
        self.record_numbers(change);
    }

    /// A job that cannot be read or judged now, but may be in a while.
    fn look_again(&mut self, now: Now, id: JobId, what: &str) {
        self.report.cannot_judge(id, what);
        let change = self.jobs.is_unfit(id, None);
        self.record_numbers(change);
        self.agenda.again(id, now.steady);
    }

    /// A job that is not in the queue, nor in the archive if it is wanted: removed, or not
    /// written yet.
    fn gone(&mut self, now: Now, id: JobId) {
        self.report.good_file(id);
        let is_backlog = self.jobs.is_backlog(id);
        if let Some((tracked, mut event)) = self.jobs.died_unseen(id, now.time) {
            event.late = is_backlog;
            self.ledger.record(Change::Job(id, tracked));
            self.effects.extend(self.holds.let_go(id));
            self.effects.extend(self.jobs.processes.forget(id));
            return self.new_event(now, event);
        }
        let Some(tracked) = self.jobs.tracker().get(id) else { return };
        let process = tracked.process.clone().filter(|_| self.place.is_master());
        if !tracked.is_open() || self.jobs.has_expired(id) {
            return self.forget(id);
        }
        self.report.vanished(id);
        if let Some(process) = process.filter(|_| !self.jobs.processes.has_dead(id)) {
            self.effects.extend(self.jobs.processes.meet(id, &process));
        }
    }

    fn forget(&mut self, id: JobId) {
        self.jobs.forget(id);
        self.agenda.forget(id);
        self.report.not_vanished(id);
        self.effects.extend(self.holds.let_go(id));
        self.effects.extend(self.jobs.processes.forget(id));
        self.ledger.record(Change::Forget(id));
    }

    pub(in crate::engine) fn recalled(
        &mut self,
        id: JobId,
        received: Timestamp,
        told: Result<Option<Progress>, String>,
    ) {
        let told = told.unwrap_or_else(|error| {
            self.report.say(Level::Error, &format!("{error}; job {id} is taken for a new one"));
            None
        });
        self.jobs.recall(id, received, told);
        self.read(id);
    }

    /// Compares one version of a job with what is known.
    fn look(&mut self, now: Now, job: &Job<'_>, kind: Kind, cause: Cause, stamp: Option<Stamp>) {
        let start = match self.jobs.start_of(job, kind, cause) {
            Start::At(start) => start,
            Start::AskHistory => {
                self.agenda.ask_again(job.id, cause);
                if self.ledger.has_changes() && !self.ledger.is_stalled() {
                    // The history has what was told just now.
                    self.effects.push(self.ledger.commit());
                }
                return self.effects.push(Effect::Recall { id: job.id, received: job.received });
            }
        };
        self.report.count(|counters| counters.versions_read += 1);
        self.report.good_file(job.id);
        self.report.not_vanished(job.id);
        let is_backlog = self.jobs.is_backlog(job.id);
        let liveness = self.liveness(job, kind);
        let lateness = self.lateness(is_backlog);
        let mut look = self.jobs.tracker().look(job, liveness, start, lateness, now.time);
        if !is_backlog {
            self.hold(now, job, kind, &mut look.events);
        }
        self.turn.wants.pre_hooks |= tells_of_wait(job);
        self.keep(now, job, look, stamp);
    }

    /// What counts as late now.
    fn lateness(&self, is_backlog: bool) -> Lateness {
        match self.settings.hooks.pre {
            _ if is_backlog => Lateness::Everything,
            PreMode::Hold => Lateness::PassedPres,
            PreMode::Notify | PreMode::Off => Lateness::Nothing,
        }
    }

    /// Whether the job's process is there, as far as it matters. Only the master's own machine
    /// can tell.
    fn liveness(&mut self, job: &Job<'_>, kind: Kind) -> Liveness {
        let processes = &mut self.jobs.processes;
        if kind == Kind::Archived || job.is_final() {
            processes.is_judged(job.id);
            return Liveness::Unknown;
        }
        // From before the end of its process nothing can be told about what it left.
        let is_older = kind == Kind::Overtaken && processes.has_dead(job.id);
        let Some(process) = job.process().filter(|_| self.place.is_master() && !is_older) else {
            return Liveness::Unknown;
        };
        if processes.is_dead(job.id, &process) {
            processes.is_judged(job.id);
            return Liveness::Dead;
        }
        self.effects.extend(processes.meet(job.id, &process));
        Liveness::Unknown
    }

    /// Takes over the outcome of a look.
    fn keep(&mut self, now: Now, job: &Job<'_>, look: Look, stamp: Option<Stamp>) {
        let Look { id, tracked, events, changed } = look;
        if changed {
            self.ledger.record(Change::Job(id, tracked.clone()));
        }
        if !tracked.is_open() {
            self.effects.extend(self.holds.let_go(id));
            self.effects.extend(self.jobs.processes.forget(id));
        }
        if self.jobs.is_beyond(id) {
            self.effects.push(Effect::ReadSerial);
        }
        let change = self.jobs.keep(job, tracked, stamp);
        self.record_numbers(change);
        events.into_iter().for_each(|event| self.new_event(now, event));
    }

    fn new_event(&mut self, now: Now, event: Event) {
        self.report.count(|counters| {
            counters.events += 1;
            counters.events_late += u64::from(event.late);
        });
        let seq = self.ledger.next_seq();
        self.jobs.is_told(event.key.job);
        match self.place.role() {
            Role::Master => {
                self.ledger.record(Change::Event(seq, event.clone(), EventState::Pending));
                self.deliveries.add(seq, Delivery::new(event));
            }
            Role::Standby => {
                self.ledger.record(Change::Event(seq, event.clone(), EventState::Standby));
                let age = self.age(now);
                self.deliveries.stand_by(seq, event, Default::default(), None, age);
            }
        }
    }

    /// Whether jobs are held before opcodes of this kind.
    fn may_hold(&self, op_code: &str) -> bool {
        let elsewhere = || self.has_other_nodes() && opcodes::hook_path(op_code).is_some();
        self.holds_jobs()
            && self.place.is_master()
            && !self.turn.is_stopping()
            && (self.holds.has_scripts() || elsewhere())
            && !self.settings.hooks.skips(op_code)
    }

    /// Stops the job's process if its next opcode has just begun to execute and there are pre
    /// hooks to run before it. Nothing is written, planned or looked up before the signal.
    fn hold(&mut self, now: Now, job: &Job<'_>, kind: Kind, events: &mut [Event]) {
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
                self.missed(event.key, why);
            }
        }
    }

    fn try_hold(&mut self, now: Now, event: &Event, executed: Timestamp, kind: Kind) -> Result<(), String> {
        let id = event.key.job;
        if kind == Kind::Overtaken {
            return Err("it went on while its file was read".to_owned());
        }
        if self.ledger.is_stalled() || Some(executed) <= self.turn.stall_over {
            return Err("the journal could not be written when its opcode began".to_owned());
        }
        let age = now.time.as_secs_f64() - executed.as_secs_f64();
        if age > AGE_LIMIT {
            return Err(format!("its opcode began {age:.1} s ago"));
        }
        if !self.deliveries.may_follow_soon(id, BEFORE_A_HOLD) {
            return Err("hooks of its earlier opcodes have yet to run".to_owned());
        }
        let token =
            self.jobs.processes.of(id).ok_or_else(|| "its process is not known to be alive".to_owned())?;
        // Should somebody have let it go on behind our back.
        self.effects.extend(self.holds.let_go(id));
        let limit = self.settings.hooks.hold_limit;
        self.effects.push(self.holds.stop(event.key, token, now.steady, limit));
        Ok(())
    }

    /// A job should have been held for this and was not.
    fn missed(&mut self, key: EventKey, why: Option<String>) {
        self.report.count(|counters| counters.holds_missed += 1);
        if let Some(why) = why {
            let text = format!("job {} is not held: {why}; its pre hooks run late", key.job);
            self.report.say(Level::Warning, &text);
        }
    }

    /// A process was told to stop.
    pub(in crate::engine) fn stopped(&mut self, now: Now, token: Token, result: Result<Landing, String>) {
        match result {
            Ok(landing) => {
                let (key, effects) = self.holds.stands(token, now.steady, landing);
                self.effects.extend(effects);
                let Some(key) = key else {
                    // Nobody wants it to stand still any more.
                    let job = self.jobs.processes.get(token).map(|watched| watched.job);
                    return self.effects.extend(job.map(|job| Effect::Continue { token, job }));
                };
                self.report.count(|counters| counters.holds += 1);
                if landing == Landing::Late {
                    self.report.count(|counters| counters.holds_late += 1);
                    let text = format!(
                        "job {} had got further when it was stopped; it is held for 3 s at most",
                        key.job
                    );
                    self.report.say(Level::Warning, &text);
                    self.is_late(key);
                }
            }
            Err(why) => {
                if let Some(key) = self.holds.not_stopped(token) {
                    self.missed(key, Some(why));
                    self.is_late(key);
                }
            }
        }
    }

    fn is_late(&mut self, key: EventKey) {
        if let Some(seq) = self.deliveries.find(key) {
            self.has_passed(seq);
        }
    }

    /// Whether a process is there.
    pub(in crate::engine) fn found(&mut self, now: Now, token: Token, presence: Presence) {
        match presence {
            Presence::Alive => self.jobs.processes.is_alive(token),
            // The process writes its last version and then ends: what has been read may be
            // older. It is read again.
            Presence::Dead => {
                if let Some(id) = self.jobs.processes.ended(token) {
                    self.jobs.died_before(id);
                    self.agenda.ask_again(id, Cause::Hinted);
                    self.read(id);
                }
            }
            Presence::Unknown(why) => {
                if let Some(id) = self.jobs.processes.not_found(token) {
                    self.report.say(Level::Debug, &format!("job {id}: {why}"));
                }
            }
            Presence::Shortage(why) => {
                if let Some(id) = self.jobs.processes.not_found(token) {
                    self.look_again(now, id, &why);
                }
            }
        }
    }

    /// A process that was watched has ended.
    pub(in crate::engine) fn exited(&mut self, token: Token) {
        if let Some(id) = self.jobs.processes.ended(token) {
            self.effects.extend(self.holds.let_go(id));
            self.agenda.hint(id);
        }
    }

    pub(in crate::engine) fn guard_started(&mut self, now: Now, result: Result<(), String>) {
        self.holds.guard_is(result.is_ok(), now.steady);
        match result {
            Ok(()) => self.report.solved(Problem::Guard),
            Err(error) => {
                let what = format!("it cannot be started: {error}; no job is held, pre hooks run late");
                if self.report.problem(Problem::Guard, &what) {
                    self.report.say(Level::Error, &format!("the guard: {what}"));
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
}

/// Whether an opcode of the job will execute soon.
fn tells_of_wait(job: &Job<'_>) -> bool {
    job.ops.iter().any(|op| matches!(op.status, Status::Waiting | Status::Queued))
}
