//! What begins, when it may begin, and what it is told.

use std::collections::BTreeSet;

use ganeti_hookd::engine::change::EventState;
use ganeti_hookd::engine::environment::Environment;
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::settings::PreMode;
use ganeti_hookd::ganeti::event::{Event, Phase};

use super::directories::in_directory;
use super::{Broken, Judge};
use crate::journal::Journal;
use crate::recipe::HERE;
use crate::world::World;
use crate::world::sides::Begun;

/// How long ago the engine may have asked who is master when something begins: it asks again
/// after a second when that could not be told.
const FRESH: u64 = 1_100_000;

/// A run that has begun.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub(super) run: i64,
    pub(super) life: u64,
    /// It could not begin after all.
    postponed: bool,
}

impl Attempt {
    /// Whether it could not begin after all.
    pub(super) fn is_postponed(&self) -> bool {
        self.postponed
    }
}

impl Judge {
    /// A run is about to begin; `script` is empty for another node's.
    pub(super) fn begins(
        &mut self,
        world: &mut World,
        journal: &Journal,
        (seq, run): (i64, i64),
        script: &str,
        env: &Environment,
    ) -> Result<(), Broken> {
        let (Some(row), Some(written)) = (journal.events.get(&seq), journal.runs.get(&(seq, run))) else {
            return Err(self.broken("written before it begins", None, &format!("event {seq}, run {run}")));
        };
        let (event, id) = (row.event.clone(), row.event.key.job.get());
        let broken = |promise, what: String| Broken { promise, job: Some(id), what };
        if row.state != EventState::Pending || written.ended {
            let what = format!("{event}: {} {}", row.state.as_str(), written.ended);
            return Err(broken("written before it begins", what));
        }
        let begun = Begun { life: world.life, run: (seq, run), told_of: self.told_of };
        let runs = world.begun.entry((event.key, event.received)).or_default();
        let anothers = |other: &Begun| other.is_there() != begun.is_there() && other.told_of == begun.told_of;
        if runs.iter().any(anothers) {
            return Err(broken("one master begins", format!("{event}: the other knows the same master")));
        }
        runs.push(begun);
        if self.stopping.is_some() {
            return Err(broken("nothing begins while it stops", event.to_string()));
        }
        // Nobody can ask while ssconf cannot be read.
        let fresh = self.asked_at.is_some_and(|at| at + FRESH >= world.now) || world.master().is_err();
        if !self.is_master || !world.is_master() && !fresh {
            return Err(broken("nothing begins in standby", event.to_string()));
        }
        self.says_that_it_runs_again(world, journal, (seq, run), env)?;
        let again = row.rerun.is_some();
        let before = journal.events.range(..seq).find(|(_, row)| {
            row.event.key.job == event.key.job && row.state == EventState::Pending && row.rerun.is_none()
        });
        if let Some((before, _)) = before.filter(|_| !again) {
            return Err(broken("in order", format!("{event} begins before event {before} is done")));
        }
        let running = world.hooks.running.keys().find(|(life, other, _)| {
            *life == world.life
                && *other != seq
                && self.names.get(other).is_some_and(|(name, _)| name.0 == event.key.job)
        });
        if let Some((_, other, _)) = running {
            return Err(broken("in order", format!("{event} begins while event {other} runs")));
        }
        if world.stands(event.key.job) && !again {
            // Its own pre, or an event of that number that has to be delivered first.
            self.begun_held.insert(seq);
            mark_begun(world, &event);
        }
        if written.start.node == HERE {
            self.is_within_workers(world, seq)?;
        }
        self.counts(world, journal, (seq, run), env)?;
        if again {
            return Ok(());
        }
        if env.get("GANETI_HOOKD_LATE").is_some_and(|late| late == "yes") {
            self.said_late.insert(seq);
        }
        self.is_told_truly(world, &event, env, script)
    }

    /// Events whose scripts run here, but for those that jobs stood still for.
    fn is_within_workers(&self, world: &World, seq: i64) -> Result<(), Broken> {
        let here = |(life, seq, run): &(u64, i64, i64)| {
            let run = self.started.get(&(*seq, *run));
            (*life == world.life && run.is_some_and(|(node, _)| node == HERE)).then_some(*seq)
        };
        let mut events: BTreeSet<i64> = world.hooks.running.keys().filter_map(here).collect();
        events.insert(seq);
        let events = events.difference(&self.begun_held).count();
        let workers = self.settings_of_life.iter().map(|settings| settings.hooks.workers).max();
        if events > workers.unwrap_or(1) && !self.begun_held.contains(&seq) {
            let what = format!("scripts of {events} events run");
            return Err(self.broken("no more scripts than workers", None, &what));
        }
        Ok(())
    }

    /// At most once, unless it was under way when the daemon ended: then it says so.
    fn counts(
        &mut self,
        world: &mut World,
        journal: &Journal,
        (seq, run): (i64, i64),
        env: &Environment,
    ) -> Result<(), Broken> {
        let start = &journal.runs[&(seq, run)].start;
        let job = self.names.get(&seq).map(|(name, _)| name.0.get());
        let key = (seq, start.node.clone(), in_directory(&start.directory, &start.script));
        let counts_from = self.counts_from(seq);
        let attempts = self.attempts.entry(key).or_default();
        let attempt = env.get("GANETI_HOOKD_ATTEMPT").and_then(|attempt| attempt.parse::<u32>().ok());
        let broken = |what: String| Err(Broken { promise: "at most once", job, what });
        let what = format!("event {seq}, {} on {}, run {run}", start.script, start.node);
        if attempt != Some(start.attempt) {
            return broken(format!("{what}: attempt {attempt:?} is {} in the journal", start.attempt));
        }
        let begun: Vec<&Attempt> = attempts.iter().filter(|attempt| !attempt.postponed).collect();
        // What had run before somebody wanted it once more counts no more.
        for before in begun.iter().filter(|before| before.run >= counts_from) {
            if journal.runs.get(&(seq, before.run)).is_some_and(|run| run.ended) {
                return broken(format!("{what}: run {} of it has ended", before.run));
            }
            if before.life == world.life {
                return broken(format!("{what}: run {} of it has begun", before.run));
            }
        }
        if !begun.is_empty() && start.attempt < 2 {
            return broken(format!("{what}: it was under way before, and says it is the first attempt"));
        }
        if start.attempt > 1 {
            world.story.reach("a run that is made again after a crash");
        }
        attempts.push(Attempt { run, life: world.life, postponed: false });
        Ok(())
    }

    /// A run has ended: its script is none that a job stands still for any more.
    pub(super) fn has_ended(&mut self, seq: i64, run: i64) {
        if let Some((_, script)) = self.started.get(&(seq, run))
            && let Some(left) = self.to_run.get_mut(&seq)
        {
            left.remove(script);
        }
    }

    /// Its job has gone on behind the engine's back, which gave it no slot.
    pub fn has_gone_on(&mut self, input: &Input<'_>) {
        if let Input::GoneOn { seq, .. } = input {
            self.begun_held.insert(*seq);
        }
    }

    /// A run could not begin after all.
    pub(super) fn postponed(&mut self, seq: i64, run: i64, world: &mut World) {
        let (life, run_of) = (world.life, (seq, run));
        for runs in world.begun.values_mut() {
            runs.retain(|begun| (begun.life, begun.run) != (life, run_of));
        }
        let of_it = self.attempts.iter_mut().filter(|((of, ..), _)| *of == seq);
        for attempt in of_it.flat_map(|(_, attempts)| attempts).filter(|attempt| attempt.run == run) {
            attempt.postponed = true;
        }
    }

    /// What a script is told of its lateness.
    fn is_told_truly(
        &self,
        world: &mut World,
        event: &Event,
        env: &Environment,
        script: &str,
    ) -> Result<(), Broken> {
        let id = event.key.job.get();
        let broken =
            |what: String| Err(Broken { promise: "late is said where it is late", job: Some(id), what });
        let late = match env.get("GANETI_HOOKD_LATE").map(String::as_str) {
            Some("yes") => true,
            Some("no") => false,
            other => return broken(format!("{event} {script}: {other:?}")),
        };
        let name = (event.key.job, event.received.as_micros());
        let told = self.told.get(&(name, event.key.op, event.key.phase));
        if !late && told.is_some_and(|told| told.life < world.life) {
            return broken(format!("{event} {script}: it was noticed in an earlier life"));
        }
        // A run may be put together while nobody is promised anything, and begin later.
        let held = self.settings_of_life.iter().all(|settings| settings.hooks.pre == PreMode::Hold);
        if event.key.phase == Phase::Post || !held {
            return Ok(());
        }
        let mark = if late { "a pre that is told it is late" } else { "a pre that is told it is in time" };
        world.story.reach(mark);
        if late {
            return Ok(());
        }
        let Some(at) = world.ganeti.of(event.key.job, event.received).and_then(|job| job.process) else {
            return broken(format!("{event} {script}: it has no process"));
        };
        let process = &world.kernel.processes[at];
        if process.held.as_ref().is_some_and(|held| held.landing.is_in_time()) {
            return Ok(());
        }
        broken(format!("{event} {script} is told that it is in time, but its job does not stand still"))
    }
}

/// The job that stands still for this pre does not do so for nothing.
fn mark_begun(world: &mut World, event: &Event) {
    if event.key.phase == Phase::Post {
        return;
    }
    for process in &mut world.kernel.processes {
        let job = &world.ganeti.jobs[process.job];
        if job.id == event.key.job.get()
            && job.job.received == event.received
            && let Some(held) = &mut process.held
        {
            held.begun = true;
        }
    }
}
