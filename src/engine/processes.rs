//! Job processes as far as they are known (design, section 4).
//!
//! A [`Token`] stands for one process, never for a job: the end of a process that ran a job
//! once is not the end of the one that runs it now. A process is dead only when it was watched
//! and has ended, or was looked for and found dead; and even then its job's file is read once
//! more before anything follows, since a process writes its last version and then ends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::effect::{Effect, Token};
use crate::ganeti::job::{JobId, ProcessRef};

/// A process that is looked for, or watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The job that it runs.
    pub job: JobId,
    /// As its job names it.
    pub process: ProcessRef,
    /// It is known to be alive, and its end will be told.
    pub is_alive: bool,
    /// It is to be armed as soon as it is known to be alive.
    pub is_to_be_armed: bool,
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    process: ProcessRef,
    /// It was watched: it has ended while this daemon looked on.
    was_watched: bool,
    /// When that was, by the steady clock.
    at: Duration,
}

impl Death {
    /// The process.
    pub fn process(&self) -> &ProcessRef {
        &self.process
    }

    /// When it ended, if it was watched and not found dead.
    pub fn watched_at(&self) -> Option<Duration> {
        self.was_watched.then_some(self.at)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Processes {
    last: u64,
    watched: BTreeMap<Token, Watched>,
    /// The process that runs a job now, as far as its file has been read.
    by_job: BTreeMap<JobId, Token>,
    /// Processes that have ended, whose jobs have not been judged since.
    dead: BTreeMap<JobId, Death>,
}

impl Processes {
    /// The job's file names this process. Looks for it, unless that has been done.
    pub fn meet(&mut self, job: JobId, process: &ProcessRef) -> Vec<Effect> {
        if self.dead.get(&job).is_some_and(|death| death.process != *process) {
            // Another one runs the job now.
            self.dead.remove(&job);
        }
        let current = self.by_job.get(&job).and_then(|token| self.watched.get(token));
        if current.is_some_and(|current| current.process == *process) || self.dead.contains_key(&job) {
            return Vec::new();
        }
        let mut effects = self.leave(job);
        self.last += 1;
        let token = Token(self.last);
        self.by_job.insert(job, token);
        self.watched
            .insert(token, Watched { job, process: process.clone(), is_alive: false, is_to_be_armed: false });
        effects.push(Effect::Find { token, process: process.clone() });
        effects
    }

    /// The job's process is of no interest any more.
    pub fn leave(&mut self, job: JobId) -> Vec<Effect> {
        let Some(token) = self.by_job.remove(&job) else { return Vec::new() };
        self.watched.remove(&token);
        vec![Effect::Unwatch(token)]
    }

    /// The job's process is of no interest any more, dead or alive.
    pub fn forget(&mut self, job: JobId) -> Vec<Effect> {
        self.dead.remove(&job);
        self.leave(job)
    }

    /// No process is of any interest: this node is not the master.
    pub fn forget_all(&mut self) -> Vec<Effect> {
        self.dead.clear();
        self.by_job.clear();
        std::mem::take(&mut self.watched).into_keys().map(Effect::Unwatch).collect()
    }

    /// The process is there, and watched. Returns its job if it is to be armed.
    pub fn is_alive(&mut self, token: Token) -> Option<JobId> {
        let watched = self.watched.get_mut(&token)?;
        watched.is_alive = true;
        std::mem::take(&mut watched.is_to_be_armed).then_some(watched.job)
    }

    /// The process is to be armed. Returns whether that can be done now; else it is when it is
    /// known to be alive.
    pub fn may_be_armed(&mut self, token: Token) -> bool {
        let Some(watched) = self.watched.get_mut(&token) else { return false };
        watched.is_to_be_armed = !watched.is_alive;
        watched.is_alive
    }

    /// The process is not there, or cannot be told. Returns its job.
    pub fn not_found(&mut self, token: Token) -> Option<JobId> {
        let watched = self.watched.remove(&token)?;
        self.by_job.remove(&watched.job);
        Some(watched.job)
    }

    /// The process has ended. Returns its job, if it ran one that is of interest.
    pub fn ended(&mut self, token: Token, steady: Duration) -> Option<JobId> {
        let watched = self.watched.remove(&token)?;
        self.by_job.remove(&watched.job);
        let death = Death { process: watched.process, was_watched: watched.is_alive, at: steady };
        self.dead.insert(watched.job, death);
        Some(watched.job)
    }

    /// The process that runs the job, if it is looked for or known to be alive.
    pub fn of(&self, job: JobId) -> Option<Token> {
        self.by_job.get(&job).copied()
    }

    /// The jobs that have one.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.by_job.keys().copied()
    }

    /// What is known of a process.
    pub fn get(&self, token: Token) -> Option<&Watched> {
        self.watched.get(&token)
    }

    /// The end of the job's last process, if it has ended and the job has not been judged since.
    pub fn death(&self, job: JobId) -> Option<&Death> {
        self.dead.get(&job)
    }

    /// The job is judged by a version from after the end of its process, which is told here alone
    /// and once.
    pub fn is_judged(&mut self, job: JobId) -> Option<Death> {
        self.dead.remove(&job)
    }

    /// How many are watched.
    pub fn watched(&self) -> usize {
        self.watched.values().filter(|watched| watched.is_alive).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: i64) -> JobId {
        id.try_into().unwrap()
    }

    fn process(pid: u32) -> ProcessRef {
        ProcessRef { pid, livelock: format!("job_{pid}"), started: None }
    }

    /// The token in the effect that looks for a process.
    fn sought(effects: &[Effect]) -> Token {
        effects
            .iter()
            .find_map(|effect| match effect {
                Effect::Find { token, .. } => Some(*token),
                _ => None,
            })
            .unwrap()
    }

    #[test]
    fn the_end_of_an_old_process_is_not_that_of_the_one_the_job_names_now() {
        let mut processes = Processes::default();
        let old = sought(&processes.meet(id(1), &process(10)));
        processes.is_alive(old);
        let effects = processes.meet(id(1), &process(11));
        assert!(effects.contains(&Effect::Unwatch(old)));
        let new = sought(&effects);
        processes.is_alive(new);
        assert_eq!(
            processes.ended(old, Duration::ZERO),
            None,
            "told late, by a thread that knew of it before"
        );
        assert_eq!(processes.death(id(1)), None);
        assert_eq!(processes.ended(new, Duration::ZERO), Some(id(1)));
        let death = Death { process: process(11), was_watched: true, at: Duration::ZERO };
        assert_eq!(processes.death(id(1)), Some(&death));
        assert_eq!((processes.is_judged(id(1)), processes.is_judged(id(1))), (Some(death), None));
    }

    #[test]
    fn a_process_is_looked_for_once() {
        let mut processes = Processes::default();
        let token = sought(&processes.meet(id(1), &process(10)));
        assert!(processes.meet(id(1), &process(10)).is_empty());
        assert_eq!(processes.not_found(token), Some(id(1)));
        assert_ne!(sought(&processes.meet(id(1), &process(10))), token, "and again after that failed");
    }

    #[test]
    fn a_dead_process_is_not_looked_for_and_a_new_one_is_not_dead() {
        let mut processes = Processes::default();
        let token = sought(&processes.meet(id(1), &process(10)));
        processes.ended(token, Duration::ZERO);
        assert_eq!(processes.death(id(1)).map(Death::watched_at), Some(None), "it was found dead");
        assert!(processes.meet(id(1), &process(10)).is_empty());
        assert!(!processes.meet(id(1), &process(11)).is_empty());
        assert_eq!(processes.death(id(1)), None);
    }
}
