//! Looking at jobs: what changed, is the process there, what follows.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::deliver::Delivery;
use super::hold::owner_of;
use super::role::{Role, StandbyEvent};
use super::{Daemon, Watched, now};
use crate::engine::numbers::Numbers;
use crate::engine::settings::PreMode;
use crate::engine::tracker::{Lateness, Look};
use crate::engine::transitions::{self, Progress};
use crate::ganeti::event::Event;
use crate::ganeti::job::{self, Job, JobId, Liveness, Status, Timestamp};
use crate::world::journal::{Change, EventState};
use crate::world::process::{self, Presence, livelock};
use crate::world::queue::read::JOB_SIZE_LIMIT;
use crate::world::queue::scan;
use crate::world::regular_file::ReadError;
use crate::world::shortage::explain;

/// How many of the last numbers are searched on a first start for jobs whose number was
/// given out but which had not been written yet.
const FIRST_START_GAP: i64 = 100;

/// Which version of a job is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The newest one in the queue.
    Queued,
    /// One from the queue that has been replaced since.
    Overtaken,
    /// The one in the archive.
    Archived,
}

impl Daemon {
    /// Compares the whole queue, and looks for jobs that came and were archived unseen.
    pub(super) fn scan(&mut self) {
        // The hint that the master changed may be among what was missed.
        self.update_role();
        let queue_dir = &self.settings.paths.queue_dir;
        let jobs = match scan::jobs(queue_dir) {
            Ok(jobs) => jobs,
            Err(error) => {
                return self.cannot_scan(&format!("the queue cannot be read: {error}"));
            }
        };
        let serial = match scan::serial(queue_dir) {
            Ok(serial) => serial,
            Err(ReadError::Io(error)) => {
                return self.cannot_scan(&format!("the queue's serial file: {}", explain(&error)));
            }
            Err(error) => {
                log::warn!("the queue's serial file {error}");
                None
            }
        };
        self.problems.remove("queue");
        self.queue_owner = owner_of(&self.settings.paths.queue_dir);
        self.look_for_other_nodes();
        self.look_for_pre_hooks();
        self.counters.scans += 1;
        self.rescan = false;
        if let Some(serial) = serial {
            self.reach(serial);
        }
        self.dirty.extend(jobs);
        self.dirty.extend(self.tracker.iter().map(|(id, _)| id));
        self.dirty.extend(self.numbers.holes());
    }

    fn cannot_scan(&mut self, what: &str) {
        if !self.problems.contains_key("queue") {
            log::error!("{what}; trying again every second");
        }
        self.problems.insert("queue", what.to_owned());
        self.retry_later();
    }

    /// Job numbers up to this one have been given out.
    fn reach(&mut self, serial: i64) {
        if self.begun.is_none() {
            self.numbers = Numbers::new((serial - FIRST_START_GAP).max(0), []);
        } else if serial < self.numbers.highest() {
            log::info!("job numbers begin again at {serial}: the cluster was re-created");
            self.numbers = Numbers::default();
            self.trust_the_history();
        }
        self.numbers.reach(serial);
        self.numbers_changed = true;
    }

    /// Numbers of jobs in the archive are unaccounted for again. Of those that were told the
    /// history knows, as far back as it goes; what had ended before that is over.
    fn trust_the_history(&mut self) {
        match self.journal.first_event_time() {
            Ok(first) if first > self.begun => {
                self.begun = first;
                self.changes.extend(first.map(Change::Begun));
            }
            Ok(_) => {}
            Err(error) => log::error!("{error}; jobs in the archive may be told again"),
        }
    }

    /// Looks at one job.
    pub(super) fn observe(&mut self, id: JobId) {
        let mut reader = std::mem::take(&mut self.reader);
        let content = reader.queued(id, self.read_limit());
        if let Err(ReadError::TooLarge { size: ..=JOB_SIZE_LIMIT, .. }) = content {
            self.large.read(id);
        } else {
            self.large.forget(id);
            match content {
                Ok(Some(bytes)) => self.version(id, bytes, Version::Queued),
                Ok(None) => {
                    self.bad_files.remove(&id);
                    self.gone(id, &mut reader);
                }
                Err(error) => self.unreadable(id, &error),
            }
        }
        self.reader = reader;
    }

    /// A job's file is there but cannot be read.
    pub(super) fn unreadable(&mut self, id: JobId, error: &ReadError) {
        match error {
            ReadError::Io(error) => self.look_again(id, format!("cannot be read: {}", explain(error))),
            ReadError::TooLarge { size, .. } => {
                let limit = JOB_SIZE_LIMIT;
                self.bad_file(id, ReadError::TooLarge { size: *size, limit }.to_string());
            }
            error => self.bad_file(id, error.to_string()),
        }
    }

    /// A job that cannot be read or judged now, but may be in a while.
    fn look_again(&mut self, id: JobId, what: String) {
        if self.bad_files.get(&id) != Some(&what) {
            log::error!("{}: {what}; trying again every second", id.file_name());
        }
        self.bad_files.insert(id, what);
        if self.begun.is_none() {
            // It was there before us; should it prove to be over, it is history.
            self.numbers_changed |= self.numbers.see(id);
        }
        self.again.insert(id);
        self.retry_later();
    }

    /// A job that is not in the queue: archived, removed, or not written yet.
    fn gone(&mut self, id: JobId, reader: &mut crate::world::queue::read::JobReader) {
        let wanted = match self.tracker.get(id) {
            Some(known) => known.is_open(),
            None => !self.numbers.contains(id),
        };
        if wanted {
            match reader.archived(id) {
                Ok(Some(bytes)) => self.version(id, bytes, Version::Archived),
                Ok(None) => {}
                Err(ReadError::Io(error)) => {
                    return self.look_again(id, format!("(archived) cannot be read: {}", explain(&error)));
                }
                Err(error) => self.bad_file(id, format!("(archived) {error}")),
            }
        }
        match self.tracker.get(id) {
            Some(known) if known.is_open() => self.vanished(id),
            Some(_) => self.forget(id),
            None => {}
        }
    }

    fn vanished(&mut self, id: JobId) {
        let queue_dir = self.settings.paths.queue_dir.display();
        log::warn!(
            "job {id} has vanished from {queue_dir} and its archive before it ended; \
             if it does not come back, its outcome cannot be known and no post hook runs"
        );
    }

    fn forget(&mut self, id: JobId) {
        self.tracker.forget(id);
        self.let_go(id);
        self.processes.remove(&id);
        self.dead.remove(&id);
        self.changes.push(Change::Forget(id));
    }

    /// Forgets jobs that vanished long ago.
    pub(super) fn forget_vanished(&mut self, before: Timestamp) {
        let queue_dir = self.settings.paths.queue_dir.clone();
        let old: Vec<JobId> = self
            .tracker
            .iter()
            .filter(|(id, tracked)| tracked.seen < before && !queue_dir.join(id.file_name()).exists())
            .map(|(id, _)| id)
            .collect();
        for id in old {
            self.forget(id);
        }
        if let Some(before) = self.numbers.highest().checked_sub(crate::engine::numbers::WIDEST_GAP) {
            self.numbers.give_up_below(before);
        }
    }

    /// A file that is not a job: say so once, until it is one or has another fault.
    pub(super) fn bad_file(&mut self, id: JobId, what: String) {
        if self.bad_files.get(&id) == Some(&what) {
            return;
        }
        self.counters.bad_files += 1;
        let queue_dir = self.settings.paths.queue_dir.display();
        log::error!("{queue_dir}/{}: {what}; it is looked at again when it changes", id.file_name());
        self.bad_files.insert(id, what);
    }

    /// Compares one version of a job with what is known.
    fn version(&mut self, id: JobId, bytes: &[u8], version: Version) {
        match job::parse(id, bytes) {
            Ok(job) => self.look_at(&job, version),
            Err(error) => self.bad_file(id, error.to_string()),
        }
    }

    /// Compares one version of a job with what is known.
    pub(super) fn look_at(&mut self, job: &Job<'_>, version: Version) {
        self.counters.versions_read += 1;
        self.bad_files.remove(&job.id);
        // From before the end of its process nothing can be told about what it left.
        let unfit = version == Version::Archived
            || version == Version::Overtaken && self.dead.contains_key(&job.id)
            || job.is_final();
        let liveness = if unfit { Liveness::Unknown } else { self.liveness(job) };
        // Before everything that takes time.
        let attempt = self.hold(job, version);
        let start = self.start_of(job, version == Version::Archived);
        let mut look = self.tracker.look(job, liveness, start, self.lateness(), now());
        self.judge(attempt, &mut look);
        if tells_of_wait(job) {
            self.look_for_pre_hooks();
        }
        self.keep(look);
    }

    /// What counts as late now.
    fn lateness(&self) -> Lateness {
        match self.settings.hooks.pre {
            _ if self.starting => Lateness::Everything,
            PreMode::Hold => Lateness::PassedPres,
            PreMode::Notify | PreMode::Off => Lateness::Nothing,
        }
    }

    /// Where a job begins that is not tracked yet.
    fn start_of(&self, job: &Job<'_>, archived: bool) -> Progress {
        if self.tracker.known(job).is_some() {
            return Progress::default();
        }
        let Some(begun) = self.begun else { return transitions::adopt(job) };
        // It may have been told: it is back after it vanished, or was found in the archive
        // of an older cluster whose numbers are given out again.
        match self.journal.progress(job.id, job.received) {
            Ok(Some(progress)) => progress,
            // Times alone prove nothing, since the clock may have been set back: a number
            // in the queue that is new to us is a new job, whenever it says that it ended.
            Ok(None) if (archived || self.numbers.contains(job.id)) && is_over_by(job, begun) => {
                transitions::adopt(job)
            }
            Ok(None) => Progress::default(),
            Err(error) => {
                log::error!("{error}; job {} is taken for a new one", job.id);
                Progress::default()
            }
        }
    }

    /// Whether the job's process is there. Only the master's own machine can tell.
    fn liveness(&mut self, job: &Job<'_>) -> Liveness {
        let dead = self.dead.remove(&job.id);
        let (Some(process), Role::Master) = (job.process(), self.role) else { return Liveness::Unknown };
        if dead.as_ref() == Some(&process) {
            return Liveness::Dead;
        }
        if self.processes.get(&job.id).is_some_and(|watched| watched.process == process) {
            return Liveness::Alive;
        }
        let livelocks = self.settings.paths.ganeti_run_dir.join(livelock::DIRECTORY);
        let presence = process::find(&process, &livelocks);
        let liveness = presence.liveness();
        match presence {
            Presence::Alive(pidfd) => match self.exits.add(pidfd.as_fd(), job.id.get().unsigned_abs()) {
                Ok(()) => {
                    self.processes.insert(job.id, Watched { process, pidfd: Arc::new(pidfd) });
                }
                Err(error) => {
                    let hint = "fs.epoll.max_user_watches, or a limit below";
                    self.look_again(
                        job.id,
                        format!("its process cannot be watched: {} ({hint})", explain(&error)),
                    );
                }
            },
            Presence::Dead => {
                // The process writes its last version and then ends: what has been read
                // may be older. Read it again.
                self.dead.insert(job.id, process);
                self.dirty.insert(job.id);
                return Liveness::Unknown;
            }
            Presence::Unknown(why) => log::debug!("job {}: {why}", job.id),
            Presence::Shortage(why) => self.look_again(job.id, why),
        }
        liveness
    }

    /// Takes over the outcome of a look.
    fn keep(&mut self, look: Look) {
        let Look { id, tracked, events, changed } = look;
        if changed {
            self.changes.push(Change::Job(id, tracked.clone()));
        }
        self.numbers_changed |= self.numbers.see(id);
        if !tracked.is_open() {
            self.let_go(id);
            self.processes.remove(&id);
        }
        self.tracker.keep(id, tracked);
        for event in events {
            self.new_event(event);
        }
    }

    fn new_event(&mut self, event: Event) {
        self.counters.events += 1;
        self.counters.events_late += u64::from(event.late);
        let seq = self.journal.next_seq();
        let state = match self.role {
            Role::Master => EventState::Pending,
            Role::Standby => EventState::Standby,
        };
        self.changes.push(Change::Event(seq, event.clone(), state));
        match self.role {
            Role::Master => self.deliver(seq, Delivery::new(event)),
            Role::Standby => self.remember_in_standby(StandbyEvent::new(seq, event)),
        }
    }
}

/// Whether a job had ended by then.
fn is_over_by(job: &Job<'_>, time: Timestamp) -> bool {
    job.is_final() && job.ops.iter().all(|op| op.ended <= Some(time))
}

/// Whether an opcode of the job will execute soon.
fn tells_of_wait(job: &Job<'_>) -> bool {
    job.ops.iter().any(|op| matches!(op.status, Status::Waiting | Status::Queued))
}
