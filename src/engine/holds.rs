//! Who stands still (design, section 5).
//!
//! Whoever is held was told to stop by us, or by the kernel for us, and has not been told to go
//! on. A job is held before one opcode, by one stop. Who may begin an opcode soon is *armed*: the
//! kernel stops it in the rename that publishes the next version of its job. Whether its pre is in
//! time is asked here at the moment a script begins, never remembered. It goes on when its pre hooks
//! have ended, when it has stood still for as long as it may, and when none of its hooks has begun
//! within [`VAIN_LIMIT`]: nobody stands still for nothing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::directories::HooksPath;
use super::effect::{Effect, Token};
use super::input::Landing;
use super::retry;
use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::job::{JobId, Timestamp};

/// The longest hold of a process that may be in a conversation with a node daemon.
pub const LATE_LIMIT: Duration = Duration::from_secs(3);

/// How long a process stands still for hooks that have not begun.
pub const VAIN_LIMIT: Duration = Duration::from_secs(3);

/// How long what stops processes stays in the kernel when nobody is armed: a job whose file has
/// just come may be armed within milliseconds.
const LINGER: Duration = Duration::from_secs(2);

/// A job process that stands still, or was told to.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// What it stands still for.
    pub key: EventKey,
    /// When its job was received: an older job of the same number may have the same key.
    pub received: Timestamp,
    /// The process.
    pub token: Token,
    /// Since when.
    pub since: Duration,
    /// Until when at most.
    pub until: Duration,
    /// Where it was; `None` until it is known to stand still.
    pub landing: Option<Landing>,
    /// A hook that it stands still for has begun.
    pub has_begun: bool,
}

impl Hold {
    /// Whether it stands still for this event.
    pub fn is_for(&self, event: &Event) -> bool {
        (self.key, self.received) == (event.key, event.received)
    }

    fn deadline(&self) -> Duration {
        if self.has_begun { self.until } else { self.until.min(self.since + VAIN_LIMIT) }
    }
}

/// A hold that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What somebody stood still for.
    pub key: EventKey,
    /// When luxid received its job.
    pub received: Timestamp,
    /// Where.
    pub landing: Landing,
    /// How long.
    pub held: Duration,
}

/// Why a hold ended by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUp {
    /// It stood still for as long as it may.
    Limit,
    /// None of its hooks had begun.
    InVain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Guard {
    #[default]
    None,
    Asked,
    Alive,
    /// It ended, and is started again at this time.
    After(Duration),
}

/// Whether the kernel stops processes in the rename.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Exactness {
    /// That has not been asked.
    #[default]
    Unknown,
    /// It does, by these means.
    Exact(String),
    /// It does not, and why: processes are stopped when inotify has told of their version.
    BestEffort(String),
}

/// All that stand still, and those that the kernel will stop.
#[derive(Debug, Default)]
pub struct Holds {
    exactness: Exactness,
    /// The kernel stops these in their next rename, or has done so.
    armed: BTreeMap<JobId, Token>,
    /// What arming takes is ready in the kernel.
    is_attached: bool,
    /// Nobody is armed; when that is taken away.
    detach_at: Option<Duration>,
    guard: Guard,
    guard_started: Duration,
    /// A guard has ended soon after it was started.
    has_lost_one: bool,
    /// What has a pre hook on this node, as last looked.
    scripts: BTreeSet<HooksPath>,
    held: BTreeMap<JobId, Hold>,
    /// What time it is.
    steady: Duration,
    /// Holds that have ended; not told yet.
    ended: Vec<Ended>,
}

impl Holds {
    /// What time it is now.
    pub fn it_is(&mut self, steady: Duration) {
        self.steady = steady;
    }

    /// Holds that have ended since the last time.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// A hold has ended: whoever it was goes on.
    fn end(&mut self, hold: &Hold) -> Effect {
        if let Some(landing) = hold.landing {
            let held = self.steady.saturating_sub(hold.since);
            self.ended.push(Ended { key: hold.key, received: hold.received, landing, held });
        }
        Effect::Continue { token: hold.token, job: hold.key.job }
    }

    /// Whether there is a pre hook for this opcode on this node, as last looked.
    pub fn has_scripts(&self, op_code: &str) -> bool {
        let has = |path: &HooksPath| self.scripts.contains(path);
        has(&HooksPath::Global)
            || !self.scripts.is_empty() && HooksPath::of_opcode(op_code).as_ref().is_some_and(has)
    }

    /// There are pre hooks of these hooks paths. Returns whether that is news.
    pub fn scripts_are(&mut self, scripts: BTreeSet<HooksPath>) -> bool {
        let is_news = scripts != self.scripts;
        self.scripts = scripts;
        is_news
    }

    /// Whether the kernel stops processes.
    pub fn exactness(&self) -> &Exactness {
        &self.exactness
    }

    /// The kernel does, or does not.
    pub fn exactness_is(&mut self, exactness: Exactness) {
        self.exactness = exactness;
    }

    /// Has a process armed that may soon begin an opcode, anew if it was, so that it goes on if
    /// it was stopped.
    pub fn arm(&mut self, job: JobId, token: Token) -> Vec<Effect> {
        let can = matches!(self.exactness, Exactness::Exact(_)) && self.guard == Guard::Alive;
        if !can || self.held.contains_key(&job) {
            return Vec::new();
        }
        self.is_attached = true;
        // Another process may have run the job before.
        let other = self.armed.insert(job, token).filter(|other| *other != token);
        let disarm = other.map(|token| Effect::Disarm { token, job });
        disarm.into_iter().chain([Effect::Arm { token, job }]).collect()
    }

    /// Has ready what arming takes: a job is about to begin.
    pub fn attach(&mut self) -> Option<Effect> {
        let wanted = matches!(self.exactness, Exactness::Exact(_)) && !self.is_attached;
        self.is_attached |= wanted;
        self.detach_at = None;
        wanted.then_some(Effect::Attach)
    }

    /// Has it taken away when nobody has been armed for a while.
    pub fn detach(&mut self, steady: Duration) -> Option<Effect> {
        if !self.armed.is_empty() || !self.is_attached {
            self.detach_at = None;
            return None;
        }
        let due = *self.detach_at.get_or_insert(steady + LINGER) <= steady;
        if due {
            (self.is_attached, self.detach_at) = (false, None);
        }
        due.then_some(Effect::Detach)
    }

    /// When it is taken away.
    pub fn next_detach(&self) -> Option<Duration> {
        self.detach_at
    }

    /// The process could not be armed. Should an earlier arming have stopped it, it goes on.
    pub fn not_armed(&mut self, token: Token) -> Option<Effect> {
        let job = self.armed.iter().find(|(_, armed)| **armed == token).map(|(job, _)| *job)?;
        self.disarm(job)
    }

    /// Has a process stopped by nobody any more.
    pub fn disarm(&mut self, job: JobId) -> Option<Effect> {
        self.armed.remove(&job).map(|token| Effect::Disarm { token, job })
    }

    /// The same for all.
    pub fn disarm_all(&mut self) -> Vec<Effect> {
        let armed = std::mem::take(&mut self.armed);
        armed.into_iter().map(|(job, token)| Effect::Disarm { token, job }).collect()
    }

    /// Whether the job's process is armed, or has been stopped by the kernel.
    pub fn is_armed(&self, job: JobId) -> bool {
        self.armed.contains_key(&job)
    }

    /// Those that are.
    pub fn armed(&self) -> impl Iterator<Item = (JobId, Token)> {
        self.armed.iter().map(|(job, token)| (*job, *token))
    }

    /// Whether what arming takes is in the kernel.
    pub fn is_attached(&self) -> bool {
        self.is_attached
    }

    /// Has a guard alive before anything is held.
    pub fn want_guard(&mut self, steady: Duration) -> Option<Effect> {
        let due = match self.guard {
            Guard::None => true,
            Guard::After(time) => time <= steady,
            Guard::Asked | Guard::Alive => false,
        };
        due.then(|| {
            self.guard = Guard::Asked;
            self.guard_started = steady;
            Effect::StartGuard
        })
    }

    /// The same when a job will soon have to be held, however the last guard fared.
    pub fn need_guard(&mut self, steady: Duration) -> Option<Effect> {
        if matches!(self.guard, Guard::After(_)) {
            self.guard = Guard::None;
        }
        self.want_guard(steady)
    }

    /// Whether there is a guard now.
    pub fn guard_is(&mut self, alive: bool, steady: Duration) {
        self.guard = if alive { Guard::Alive } else { Guard::After(steady + retry::GUARD) };
    }

    /// The guard has ended, and has let everything go. The next is started at once, or after
    /// a while where guards do not live.
    pub fn guard_ended(&mut self, steady: Duration) {
        let lived = steady.saturating_sub(self.guard_started) > retry::GUARD;
        let at_once = lived || !std::mem::replace(&mut self.has_lost_one, !lived);
        self.guard = if at_once { Guard::None } else { Guard::After(steady + retry::GUARD) };
    }

    /// Tells a job's process to stop before an opcode that began at this time, unless `by_signal` only if the kernel has
    /// stopped it.
    pub fn stop(
        &mut self,
        event: &Event,
        token: Token,
        steady: Duration,
        limit: Duration,
        executed: Timestamp,
        by_signal: bool,
    ) -> Vec<Effect> {
        let (until, key, received) = (steady + limit, event.key, event.received);
        let hold = Hold { key, received, token, since: steady, until, landing: None, has_begun: false };
        self.held.insert(key.job, hold);
        // Another process may have run the job before.
        let other = self.armed.remove(&key.job).filter(|other| *other != token);
        let disarm = other.map(|token| Effect::Disarm { token, job: key.job });
        disarm.into_iter().chain([Effect::Stop { token, job: key.job, limit, executed, by_signal }]).collect()
    }

    /// The process stands still. It may do so from now on, for less long where it may be in a
    /// conversation.
    pub fn stands(
        &mut self,
        token: Token,
        steady: Duration,
        landing: Landing,
    ) -> (Option<Hold>, Vec<Effect>) {
        let Some(hold) = self.held.values_mut().find(|hold| hold.token == token) else {
            return (None, Vec::new());
        };
        hold.landing = Some(landing);
        hold.since = steady;
        let mut effects = Vec::new();
        if landing == Landing::Late {
            let limit = LATE_LIMIT.min(hold.until.saturating_sub(steady));
            hold.until = steady + limit;
            effects.push(Effect::Shorten { token, limit });
        }
        (Some(*hold), effects)
    }

    /// The process was not stopped.
    pub fn not_stopped(&mut self, token: Token) -> Option<Hold> {
        let job = self.held.iter().find(|(_, hold)| hold.token == token).map(|(job, _)| *job)?;
        self.held.remove(&job)
    }

    /// The process that stands still for this pre, where it published its opcode.
    pub fn in_time(&self, event: &Event) -> Option<Token> {
        let hold = self.held.get(&event.key.job).filter(|hold| hold.is_for(event))?;
        hold.landing.is_some_and(Landing::is_in_time).then_some(hold.token)
    }

    /// A hook of this event begins.
    pub fn begins(&mut self, event: &Event) {
        if let Some(hold) = self.held.get_mut(&event.key.job).filter(|hold| hold.is_for(event)) {
            hold.has_begun = true;
        }
    }

    /// No hook of this event has begun after all.
    pub fn have_not_begun(&mut self, event: &Event) {
        if let Some(hold) = self.held.get_mut(&event.key.job).filter(|hold| hold.is_for(event)) {
            hold.has_begun = false;
        }
    }

    /// The jobs that stand still.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.held.keys().copied()
    }

    /// Whether the job stands still.
    pub fn holds(&self, job: JobId) -> bool {
        self.held.contains_key(&job)
    }

    /// All that stand still.
    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.held.values()
    }

    /// Lets a job go on, if it stands still.
    pub fn let_go(&mut self, job: JobId) -> Option<Effect> {
        let hold = self.held.remove(&job)?;
        Some(self.end(&hold))
    }

    /// Lets the job go on if this is what it stands still for.
    pub fn let_go_for(&mut self, event: &Event) -> Option<Effect> {
        let stands = self.held.get(&event.key.job).is_some_and(|hold| hold.is_for(event));
        if stands { self.let_go(event.key.job) } else { None }
    }

    /// Lets every job go on, and has none stopped by the kernel.
    pub fn let_all_go(&mut self) -> Vec<Effect> {
        let held = std::mem::take(&mut self.held);
        let mut effects: Vec<Effect> = held.values().map(|hold| self.end(hold)).collect();
        effects.append(&mut self.disarm_all());
        effects
    }

    /// Lets those go on whose time is up.
    pub fn end_in_time(&mut self, steady: Duration) -> Vec<(Hold, TimeUp, Effect)> {
        let due: Vec<Hold> = self.held.values().filter(|hold| hold.deadline() <= steady).copied().collect();
        due.into_iter()
            .filter_map(|hold| {
                let why = if hold.until <= steady { TimeUp::Limit } else { TimeUp::InVain };
                Some((hold, why, self.let_go(hold.key.job)?))
            })
            .collect()
    }

    /// When the next hold must end.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.held.values().map(Hold::deadline).min()
    }

    /// When a guard is to be started.
    pub fn next_guard(&self) -> Option<Duration> {
        match self.guard {
            Guard::After(time) => Some(time),
            _ => None,
        }
    }
}
