//! Looking at jobs: what a version of a job tells, whether its process is there, and what follows.

use std::sync::Arc;

use crate::engine::agenda::Cause;
use crate::engine::change::{Change, EventState};
use crate::engine::deliveries::{Delivery, Notice};
use crate::engine::effect::{Effect, Level, Token};
use crate::engine::input::{Now, Presence, Stamp, Version};
use crate::engine::jobs::{Kind, Start};
use crate::engine::processes::Death;
use crate::engine::settings::PreMode;
use crate::engine::tracker::{Lateness, Look};
use crate::engine::transitions::Progress;
use crate::engine::{Engine, Role};
use crate::ganeti::event::{Event, PostStatus};
use crate::ganeti::job::{Job, JobId, Liveness, Status, Timestamp};

/// A larger job file, in bytes, is read by a thread of its own. One of this size takes
/// about half a millisecond.
pub const LARGE_FILE: u64 = 1024 * 1024;

impl Engine {
    /// Has the job's file read.
    pub(in crate::engine) fn read(&mut self, id: JobId) {
        let archive = self.agenda.may_have_gone(id) || self.jobs.is_wanted(id);
        self.read_with(id, archive);
    }

    fn read_with(&mut self, id: JobId, archive: bool) {
        self.effects.push(Effect::Read { id, limit: LARGE_FILE, archive });
    }

    /// What is there of a job's file.
    pub(in crate::engine) fn version(&mut self, now: Now, id: JobId, version: Version<'_>) {
        let cause = self.agenda.answered(id);
        if !matches!(version, Version::Queued(..)) {
            // It is not known what its process has published: that must not wait.
            self.effects.extend(self.holds.disarm(id));
        }
        match version {
            Version::Large(_) => {
                if self.jobs.is_strange(id) {
                    // Numbers may have begun again, and it may be archived before it is read.
                    self.effects.push(Effect::ReadSerial);
                }
                let next = self.agenda.read_large(id, cause);
                return self.read_large(next);
            }
            Version::Queued(job, stamp) => self.look(now, job, Kind::Queued, cause, stamp),
            Version::Archived(job) => self.archived(now, job, cause),
            Version::Gone => self.gone(now, id),
            Version::Bad(what, stamp) => self.bad_file(id, &what, stamp),
            Version::Failed(what) => self.look_again(now, id, &what),
        }
        self.agenda.is_small(id);
    }

    /// Has a large file read.
    fn read_large(&mut self, next: Option<(u64, JobId)>) {
        self.effects.extend(next.map(|(reading, id)| Effect::ReadLarge { reading, id }));
    }

    /// A large file has been read.
    pub(in crate::engine) fn large_read(&mut self, now: Now, reading: u64, id: JobId, version: Version<'_>) {
        let (overtaken, next) = self.agenda.large_read(reading, id);
        self.read_large(next);
        let Some(overtaken) = overtaken else { return };
        let cause = self.agenda.answered(id);
        match version {
            Version::Queued(job, _) if overtaken => self.look(now, job, Kind::Overtaken, cause, None),
            Version::Queued(job, stamp) => self.look(now, job, Kind::Queued, cause, stamp),
            // It is looked at again, which tells more than an old answer.
            _ if overtaken => {}
            Version::Archived(job) => self.archived(now, job, cause),
            Version::Bad(what, stamp) => self.bad_file(id, &what, stamp),
            Version::Failed(what) => self.look_again(now, id, &what),
            Version::Large(size) => self.bad_file(id, &format!("has {size} bytes, more than are read"), None),
            Version::Gone => self.agenda.hint(id),
        }
        // What it has published in the meantime cannot be read in a moment.
        self.effects.extend(self.holds.disarm(id));
    }

    /// A job has been found in the archive. That may have one of an older cluster by the number of
    /// one that is known, which is in neither place then.
    fn archived(&mut self, now: Now, job: &Job<'_>, cause: Cause) {
        match self.jobs.is_of_old(job) {
            true => self.gone(now, job.id),
            false => self.look(now, job, Kind::Archived, cause, None),
        }
    }

    fn bad_file(&mut self, id: JobId, what: &str, stamp: Option<Stamp>) {
        self.report.bad_file(id, what);
        let change = self.jobs.is_unfit(id, stamp);
        self.record_numbers(change);
    }

    /// A job that cannot be read or judged now, but may be in a while. That accounts for nothing.
    fn look_again(&mut self, now: Now, id: JobId, what: &str) {
        self.report.cannot_judge(id, what);
        self.jobs.is_not_judged(id);
        self.agenda.again(id, now.steady);
    }

    /// A job that is not in the queue, nor in the archive if it is wanted: removed, or not
    /// written yet.
    fn gone(&mut self, now: Now, id: JobId) {
        self.report.good_file(id);
        let is_backlog = self.jobs.is_backlog(id);
        if let Some(died_at) = self.processes.death(id).and_then(Death::watched_at)
            && let Some((tracked, mut event)) = self.jobs.died_unseen(id, now.time)
        {
            self.report.death_noticed(now.steady.saturating_sub(died_at));
            event.late = is_backlog;
            self.ledger.record(Change::Job(id, tracked));
            self.let_be(id);
            self.new_event(now, event, is_backlog);
            return;
        }
        self.jobs.is_nowhere(id);
        let Some(tracked) = self.jobs.tracker().get(id) else { return };
        let process = tracked.process.clone().filter(|_| self.place.is_master());
        if !tracked.is_open() || self.has_expired(now, tracked.seen) {
            return self.forget(id);
        }
        self.report.vanished(id);
        if let Some(process) = process.filter(|_| self.processes.death(id).is_none()) {
            self.effects.extend(self.processes.meet(id, &process));
        }
    }

    /// The job's process is of no interest any more.
    fn let_be(&mut self, id: JobId) {
        self.effects.extend(self.holds.let_go(id));
        self.effects.extend(self.holds.disarm(id));
        self.effects.extend(self.processes.forget(id));
    }

    fn forget(&mut self, id: JobId) {
        self.jobs.forget(id);
        self.agenda.forget(id);
        self.report.not_vanished(id);
        self.let_be(id);
        self.ledger.record(Change::Forget(id));
    }

    /// What the history says of a job. While it cannot be asked, the job waits: it may have
    /// been told.
    pub(in crate::engine) fn recalled(
        &mut self,
        now: Now,
        id: JobId,
        received: Timestamp,
        told: Result<Option<Progress>, String>,
    ) {
        match told {
            Ok(told) => {
                self.jobs.recall(id, received, told);
                // It was found, wherever that was.
                self.read_with(id, true);
            }
            Err(error) => {
                self.agenda.answered(id);
                self.jobs.cannot_recall(id);
                let what = format!("cannot be looked up in the history: {error}");
                self.look_again(now, id, &what);
            }
        }
    }

    /// Compares one version of a job with what is known.
    fn look(&mut self, now: Now, job: &Job<'_>, kind: Kind, cause: Cause, stamp: Option<Stamp>) {
        let start = match self.jobs.start_of(job, kind, cause) {
            Start::At(start) => start,
            // What was told just now, no history has.
            Start::AskHistory => match self.ledger.told(job.id, job.received) {
                Some(told) => told,
                None => {
                    self.agenda.ask_again(job.id, cause);
                    return self.effects.push(Effect::Recall { id: job.id, received: job.received });
                }
            },
        };
        if self.jobs.is_another(job) {
            let change = self.jobs.meet_another(job);
            self.record_numbers(change);
            self.effects.push(Effect::ReadSerial);
        }
        self.report.count(|counters| counters.versions_read += 1);
        self.report.good_file(job.id);
        match kind == Kind::Archived && !job.is_final() {
            true => self.report.archived_open(job.id),
            false => self.report.not_vanished(job.id),
        }
        let is_backlog = self.jobs.is_backlog(job.id);
        let death = self.death(now, job, kind);
        if let Some(died_at) = death.as_ref().and_then(Death::watched_at) {
            self.report.death_noticed(now.steady.saturating_sub(died_at));
        }
        let liveness = if death.is_some() { Liveness::Dead } else { Liveness::Unknown };
        let lateness = self.lateness(is_backlog);
        let mut look = self.jobs.tracker().look(job, liveness, start, lateness, now.time);
        if !is_backlog {
            self.hold(now, job, kind, &mut look.events);
        }
        self.round.wants.pre_hooks |= self.holds_jobs() && tells_of_wait(job);
        let seq = self.keep(now, job, kind, look, stamp);
        if let Some(death) = death {
            self.tell_ganeti(job, &death, seq);
        }
    }

    /// What counts as late now.
    fn lateness(&self, is_backlog: bool) -> Lateness {
        match self.settings.hooks.pre {
            _ if is_backlog => Lateness::Everything,
            PreMode::Hold => Lateness::PassedPres,
            PreMode::Notify | PreMode::Off => Lateness::Nothing,
        }
    }

    /// The death that this version of the job is judged by: its process has ended, and it was read
    /// after that. Only the master's own machine can tell. Has the process looked for if it is new.
    fn death(&mut self, now: Now, job: &Job<'_>, kind: Kind) -> Option<Death> {
        if kind == Kind::Archived || job.is_final() {
            self.processes.is_judged(job.id);
            return None;
        }
        let death = self.processes.death(job.id);
        // From before the end of its process nothing can be told about what it left.
        let is_older = kind == Kind::Overtaken && death.is_some();
        let process = job.process().filter(|_| self.place.is_master() && !is_older)?;
        match death.filter(|death| *death.process() == process) {
            None => self.effects.extend(self.processes.meet(job.id, &process)),
            Some(death) if death.watched_at().is_some() || self.place.is_surely_master() => {
                return self.processes.is_judged(job.id);
            }
            // It may be another node's; that will be known.
            Some(_) => self.agenda.again(job.id, now.steady),
        }
        None
    }

    /// Takes over the outcome of a look. Returns the number of the event that tells of a death.
    fn keep(&mut self, now: Now, job: &Job<'_>, kind: Kind, look: Look, stamp: Option<Stamp>) -> Option<i64> {
        let Look { id, tracked, events, changed } = look;
        let has_left = kind == Kind::Archived && !tracked.is_open();
        let was_known = self.jobs.tracker().get(id).is_some();
        // Nothing is told of it.
        let is_only_seen = tracked.is_open() && events.is_empty() && kind == Kind::Queued;
        let may_wait = is_only_seen && self.jobs.is_found_again(job) && !self.jobs.is_backlog(id);
        if !tracked.is_open() {
            self.let_be(id);
        }
        if self.jobs.is_beyond(id) {
            self.effects.push(Effect::ReadSerial);
        }
        let is_backlog = self.jobs.is_backlog(id);
        let change = (changed && !has_left).then(|| Change::Job(id, tracked.clone()));
        let number = self.jobs.keep(job, tracked, stamp);
        for change in change.into_iter().chain(number.map(Change::Numbers)) {
            self.record(now, change, may_wait);
        }
        let mut death = None;
        for event in events {
            let tells_of_death = event.status == Some(PostStatus::Disappeared);
            let seq = self.new_event(now, event, is_backlog);
            death = tells_of_death.then_some(seq).or(death);
        }
        if has_left && was_known {
            self.forget(id);
        } else if has_left {
            // Nothing is written of it that would tell so.
            self.effects.push(Effect::JobEnded(id));
            self.jobs.forget(id);
        }
        self.arm(job, kind);
        death
    }

    /// Has it written: at once, or in time where it would be found again.
    pub(in crate::engine) fn record(&mut self, now: Now, change: Change, may_wait: bool) {
        match may_wait {
            true => self.ledger.record_in_time(change, now.steady),
            false => self.ledger.record(change),
        }
    }

    /// Takes a new event. Returns its number.
    fn new_event(&mut self, now: Now, mut event: Event, is_backlog: bool) -> i64 {
        // It waits until it is known whose it is, however long that takes.
        let is_untold = self.place.is_untold();
        event.late |= is_untold;
        self.place_in_cluster(&mut event);
        self.report.noticed(&event);
        let seq = self.ledger.next_seq();
        self.jobs.is_told(event.key.job, now.time);
        match self.place.role() {
            Role::Standby if !is_untold => {
                self.ledger.record(Change::Event(seq, event.clone(), EventState::Standby));
                self.keep_in_standby(now, seq, Delivery::new(event, Notice::now(now.steady)));
            }
            _ => {
                self.report.event(&event);
                self.ledger.record(Change::Event(seq, event.clone(), EventState::Pending));
                let is_old = is_backlog || is_untold;
                let delivery = Delivery { is_old, ..Delivery::new(event, Notice::now(now.steady)) };
                self.deliveries.add(seq, delivery);
            }
        }
        seq
    }

    /// Adds which cluster the event is of.
    fn place_in_cluster(&self, event: &mut Event) {
        let Some(cluster) = self.place.cluster() else { return };
        Arc::make_mut(&mut event.about).place_in(&cluster.uuid, &cluster.name);
    }

    /// Whether a process is there.
    pub(in crate::engine) fn found(&mut self, now: Now, token: Token, presence: Presence) {
        match presence {
            Presence::Alive => {
                if let Some(id) = self.processes.is_alive(token) {
                    self.effects.extend(self.holds.arm(id, token));
                }
            }
            // The process writes its last version and then ends: what has been read may be
            // older. It is read again.
            Presence::Dead => {
                if let Some(id) = self.processes.ended(token, now.steady) {
                    self.jobs.died_before(id);
                    // Another node's process is not here; who is master may just have changed.
                    self.effects.push(Effect::AskMaster);
                    self.agenda.ask_again(id, Cause::Hinted);
                    self.read(id);
                }
            }
            Presence::Unknown(why) => {
                if let Some(id) = self.processes.not_found(token) {
                    self.report.say(Level::Debug, &format!("job {id}: {why}"));
                }
            }
            Presence::Shortage(why) => {
                if let Some(id) = self.processes.not_found(token) {
                    self.look_again(now, id, &why);
                }
            }
        }
    }

    /// A process that was watched has ended.
    pub(in crate::engine) fn exited(&mut self, now: Now, token: Token) {
        if let Some(id) = self.processes.ended(token, now.steady) {
            self.effects.extend(self.holds.let_go(id));
            self.effects.extend(self.holds.disarm(id));
            self.agenda.hint(id);
        }
    }
}
/// Whether an opcode of the job will execute soon.
fn tells_of_wait(job: &Job<'_>) -> bool {
    job.ops.iter().any(|op| matches!(op.status, Status::Waiting | Status::Queued))
}
