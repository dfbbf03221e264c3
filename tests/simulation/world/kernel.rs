//! Processes, signals and the guard.

use std::collections::BTreeMap;

use ganeti_hookd::engine::effect::Token;
use ganeti_hookd::engine::input::{Input, Landing, Presence};
use ganeti_hookd::ganeti::job::{JobId, ProcessRef, Timestamp};

use super::arming::Arming;
use super::{Happening, World};
use crate::recipe::Fault;

/// A job process.
#[derive(Clone, Debug)]
pub struct Process {
    pub job: usize,
    pub pid: u32,
    pub livelock: String,
    /// Whether it runs on this node.
    pub here: bool,
    pub alive: bool,
    /// We have stopped it.
    pub held: Option<Held>,
    /// It ended or was continued while we held it: in which life of the daemon, which has not let it go, and as whom.
    unheard: Option<(u64, Token)>,
    /// Whether the kernel stops it, and in which life of the daemon that was wanted.
    pub arming: Arming,
    pub armed_by: u64,
    /// Somebody else has stopped it.
    pub by_admin: bool,
    /// Its next step is due and waits until it goes on.
    pub owes_a_step: bool,
    /// Until then it is in the rename that publishes `running`.
    pub gone_on_at: u64,
}

impl Process {
    /// Whether it stands still.
    pub fn stands(&self) -> bool {
        self.held.is_some() || self.by_admin || self.arming.stands_since().is_some()
    }

    /// What held it holds it no more, and nobody tells the daemon. Returns whether anything did.
    pub fn goes_unheard(&mut self) -> bool {
        self.unheard = self.held.as_ref().map(|held| (held.life, held.token));
        self.unheard.is_some()
    }
}

/// A stop of ours.
#[derive(Clone, Debug)]
pub struct Held {
    pub life: u64,
    pub token: Token,
    pub since: u64,
    /// By when it must go on.
    pub until: u64,
    pub landing: Landing,
    /// Whether a pre script of it has begun.
    pub begun: bool,
}

/// The processes of this node, and of the other.
#[derive(Debug, Default)]
pub struct Kernel {
    pub processes: Vec<Process>,
    /// What the daemon watches.
    watched: BTreeMap<Token, usize>,
    /// Whether the kernel stops processes in the rename.
    pub stops: bool,
    /// Whether there is a guard.
    pub guard: bool,
    next_pid: u32,
}

impl Kernel {
    /// A new job process; its number may be one that was used before.
    fn spawn(&mut self, job: usize, here: bool, used_before: Option<u32>) -> usize {
        self.next_pid += 1;
        let pid = used_before.unwrap_or(4000 + self.next_pid);
        let livelock = format!("/var/run/ganeti/livelocks/job_{job}_{}", self.next_pid);
        self.processes.push(Process {
            job,
            pid,
            livelock,
            here,
            alive: true,
            held: None,
            unheard: None,
            arming: Arming::Not,
            armed_by: 0,
            by_admin: false,
            owes_a_step: false,
            gone_on_at: 0,
        });
        self.processes.len() - 1
    }

    /// Looks at the same processes from the other node.
    pub(super) fn turn(&mut self, far: &mut Self) {
        std::mem::swap(self, far);
        std::mem::swap(&mut self.processes, &mut far.processes);
        std::mem::swap(&mut self.next_pid, &mut far.next_pid);
        self.processes.iter_mut().for_each(|process| process.here = !process.here);
    }

    /// The processes that are watched, and by which name.
    pub fn all_watched(&self) -> impl Iterator<Item = (Token, usize)> {
        self.watched.iter().map(|(token, at)| (*token, *at))
    }

    /// The process of a token that is watched.
    pub fn watched(&self, token: Token) -> Option<usize> {
        self.watched.get(&token).copied()
    }
}

impl World {
    /// Luxid starts a job process; its number may be one that was used before.
    pub fn spawn(&mut self, job: usize) -> usize {
        let mut used_before = None;
        if self.fails(Fault::PidReuse, 1) {
            let ended: Vec<u32> = self.kernel.processes.iter().filter(|p| !p.alive).map(|p| p.pid).collect();
            used_before = (!ended.is_empty()).then(|| *self.of(Fault::PidReuse).pick(&ended));
        }
        let here = !self.ganeti.away;
        self.kernel.spawn(job, here, used_before)
    }

    /// A process ends by itself.
    pub fn exit(&mut self, at: usize) {
        let process = &mut self.kernel.processes[at];
        if !std::mem::replace(&mut process.alive, false) {
            return;
        }
        process.goes_unheard();
        (process.held, process.arming) = (None, Arming::Not);
        let job = process.job;
        let tokens: Vec<Token> = self
            .kernel
            .watched
            .iter()
            .filter(|(_, watched)| **watched == at)
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            let delay = match self.fails(Fault::LateExit, 3) {
                true => self.of(Fault::LateExit).spread(1_000, 3_000_000),
                false => self.dice.spread(20, 300),
            };
            self.later(delay, Happening::ExitTold(self.life, token));
        }
        self.process_gone(job);
    }

    /// A process is killed.
    pub fn killed(&mut self, at: usize) {
        if self.kernel.processes[at].alive {
            let id = self.ganeti.jobs[self.kernel.processes[at].job].id;
            self.story.say(|| format!("the process of job {id} is killed"));
            self.beside(at, |world| world.exit(at));
        }
    }

    pub(super) fn exit_told(&mut self, life: u64, token: Token) {
        if life == self.life && self.up && self.kernel.watched.remove(&token).is_some() {
            self.inbox.push_back(super::Message::Plain(Input::Exited(token)));
        }
    }

    /// `Effect::Find`.
    pub fn find(&mut self, token: Token, process: &ProcessRef) -> Presence {
        if self.fails(Fault::ProcessUnknown, 4) {
            return Presence::Unknown("/proc is hidden".to_owned());
        }
        if self.fails(Fault::ProcessShortage, 4) {
            return Presence::Shortage("too many open files".to_owned());
        }
        let is_it = |p: &Process| p.here && p.alive && p.pid == process.pid && p.livelock == process.livelock;
        match self.kernel.processes.iter().position(is_it) {
            Some(at) => {
                self.kernel.watched.insert(token, at);
                Presence::Alive
            }
            None => Presence::Dead,
        }
    }

    /// `Effect::Unwatch`.
    pub fn unwatch(&mut self, token: Token) {
        self.kernel.watched.remove(&token);
    }

    /// `Effect::Stop`.
    pub fn stop(&mut self, token: Token, limit: u64, by_signal: bool) -> Result<Landing, String> {
        if !self.kernel.guard {
            return Err("there is no guard".to_owned());
        }
        let armed = self.kernel.watched(token).filter(|at| self.kernel.processes[*at].arming != Arming::Not);
        if let Some(at) = armed {
            let before = std::mem::take(&mut self.kernel.processes[at].arming);
            if before.stands_since().is_some() {
                self.hold_at(at, token, limit, Landing::Exact);
                return Ok(Landing::Exact);
            }
        }
        if !by_signal {
            return Err("the kernel has not stopped it".to_owned());
        }
        if self.fails(Fault::StopFails, 3) {
            return Err("it cannot be stopped: Operation not permitted".to_owned());
        }
        let delay = match self.fails(Fault::LateLanding, 2) {
            true => self.of(Fault::LateLanding).spread(1_000, 30_000),
            false => self.dice.below(40),
        };
        self.pass(delay);
        let now = self.now;
        let Some(at) = self.kernel.watched(token).filter(|at| self.kernel.processes[*at].alive) else {
            return Err("it has ended".to_owned());
        };
        if !self.kernel.guard {
            return Err("the guard does not answer".to_owned());
        }
        let in_rename = now < self.kernel.processes[at].gone_on_at;
        let landing = if in_rename { Landing::Early } else { Landing::Late };
        self.hold_at(at, token, limit, landing);
        Ok(landing)
    }

    fn hold_at(&mut self, at: usize, token: Token, limit: u64, landing: Landing) {
        let (since, life) = (self.now, self.life);
        self.kernel.processes[at].held =
            Some(Held { life, token, since, until: since + limit, landing, begun: false });
        self.later(limit + 1_000_000, Happening::GuardLimit(at, since));
        self.story.reach(match landing {
            Landing::Exact => "an exact stop",
            Landing::Early => "a stop in time",
            Landing::Late => "a stop too late",
        });
    }

    /// `Effect::Shorten`.
    pub fn shorten(&mut self, token: Token, limit: u64) {
        let until = self.now + limit;
        if let Some((at, held)) = self.held_by(token) {
            held.until = held.until.min(until);
            let since = held.since;
            self.later(limit + 1_000_000, Happening::GuardLimit(at, since));
        }
    }

    fn held_by(&mut self, token: Token) -> Option<(usize, &mut Held)> {
        let life = self.life;
        let held = self.kernel.processes.iter_mut().enumerate();
        held.filter_map(|(at, p)| Some((at, p.held.as_mut()?)))
            .find(|(_, held)| held.life == life && held.token == token)
    }

    /// The process of this job that stands still in this life of the daemon.
    pub fn stands_for(&self, id: JobId, received: Timestamp) -> Option<&Held> {
        self.kernel.processes.iter().find_map(|process| {
            let job = &self.ganeti.jobs[process.job].job;
            let held = process.held.as_ref().filter(|held| held.life == self.life);
            held.filter(|_| job.id == id && job.received == received)
        })
    }

    /// Whether a process of a job of this number stands still by our will, as far as the daemon has
    /// been told.
    pub fn stands(&self, id: JobId) -> bool {
        let held = |process: &Process| {
            let held = process.held.as_ref().map(|held| held.life);
            held.or(process.unheard.map(|(life, _)| life)) == Some(self.life)
        };
        let of_it = |process: &&Process| self.ganeti.jobs[process.job].job.id == id;
        self.kernel.processes.iter().filter(of_it).any(held)
    }

    /// `Effect::Continue`.
    pub fn let_go(&mut self, token: Token) {
        let of_this = Some((self.life, token));
        for process in self.kernel.processes.iter_mut().filter(|process| process.unheard == of_this) {
            process.unheard = None;
        }
        if let Some((at, _)) = self.held_by(token) {
            self.go_on(at);
        }
    }

    /// SIGCONT, from whomever.
    pub fn go_on(&mut self, at: usize) {
        let process = &mut self.kernel.processes[at];
        (process.held, process.by_admin) = (None, false);
        if let Arming::Stopped(token, _) = process.arming {
            process.arming = Arming::Spent(token);
        }
        self.steps_on(at);
    }

    /// A process that nothing stops any more does what it was about to.
    pub(super) fn steps_on(&mut self, at: usize) {
        let process = &mut self.kernel.processes[at];
        if process.alive && !process.stands() && std::mem::take(&mut process.owes_a_step) {
            let delay = self.dice.spread(20, 2_000);
            self.later(delay, Happening::Step(at));
        }
    }

    /// `Effect::StartGuard`.
    pub fn start_guard(&mut self) -> Result<(), String> {
        if self.fails(Fault::NoGuard, 2) {
            return Err("Cannot allocate memory".to_owned());
        }
        self.kernel.guard = true;
        if self.fails(Fault::GuardEnds, 3) {
            let delay = self.of(Fault::GuardEnds).spread(1_000, 20_000_000);
            self.later(delay, Happening::GuardEnds);
        }
        Ok(())
    }

    /// The guard ends, and lets everything go as it does.
    pub(super) fn guard_ends(&mut self) {
        if self.kernel.guard && self.up {
            self.story.say(|| "** the guard ends".to_owned());
            self.kernel.guard = false;
            self.guard_lets_go(self.life);
            let delay = self.dice.spread(20, 2_000);
            self.tell_later(delay, Input::GuardEnded);
        }
    }

    /// What was stopped up to this life of the daemon goes on.
    pub(super) fn guard_lets_go(&mut self, life: u64) {
        for at in 0..self.kernel.processes.len() {
            let process = &self.kernel.processes[at];
            if !process.here {
                continue;
            }
            let armed = process.arming.stands_since().is_some() && process.armed_by <= life;
            if armed || process.held.as_ref().is_some_and(|held| held.life <= life) {
                self.go_on(at);
            }
        }
    }

    /// The guard's own limit is a second later than what the daemon promises.
    pub(super) fn guard_limit(&mut self, at: usize, since: u64) {
        let now = self.now;
        let is_due = |held: &Held| held.since == since && held.until + 1_000_000 <= now;
        if self.kernel.processes[at].held.as_ref().is_some_and(is_due) {
            self.story.say(|| "the guard lets a process go that was held too long".to_owned());
            self.go_on(at);
        }
    }

    /// The daemon is gone: the guard notices, unless it went as well.
    pub(super) fn kernel_without_daemon(&mut self, crashed: bool) {
        self.unwatch_all();
        self.kernel.watched.clear();
        self.kernel.guard = false;
        self.kernel.stops = false;
        for process in &mut self.kernel.processes {
            if process.here && process.arming.stands_since().is_none() {
                process.arming = Arming::Not;
            }
        }
        if !crashed || !self.fails(Fault::GuardDiesToo, 2) {
            self.later(5_000, Happening::GuardLetsGo(self.life));
        }
    }

    /// What an earlier daemon left stopped goes on when the next one starts.
    pub(super) fn release_leftovers(&mut self) {
        self.guard_lets_go(self.life);
    }
}
