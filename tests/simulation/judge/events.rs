//! Nothing invented, nothing twice: what is written must have happened.

use std::collections::BTreeMap;

use ganeti_hookd::engine::change::{Change, EventState, RunStart};
use ganeti_hookd::engine::settings::PreMode;
use ganeti_hookd::ganeti::event::{Event, Phase, PostStatus};

use super::directories::in_directory;
use super::{Broken, Judge, Name, Told};
use crate::journal::Journal;
use crate::recipe::{Fault, HERE};
use crate::truth::OpTruth;
use crate::world::World;
use crate::world::ganeti::SimJob;

/// How long before a takeover an event may have been noticed and is still ours, less what the
/// judge and the engine may differ in.
const MARGIN: u64 = 2_000_000;

impl Judge {
    pub(super) fn is_changed(
        &mut self,
        change: &Change,
        world: &mut World,
        journal: &Journal,
    ) -> Result<(), Broken> {
        match change {
            Change::Event(seq, event, EventState::Pending) => {
                self.pending.insert(*seq, event.key.job);
            }
            Change::Adopt(seq) => {
                let job = journal.events.get(seq).map(|row| row.event.key.job);
                self.pending.extend(job.map(|job| (*seq, job)));
            }
            Change::EventState(seq, _) => drop(self.pending.remove(seq)),
            Change::Numbers(_) => world.people.highest_written = journal.highest,
            _ => {}
        }
        match change {
            Change::Rerun(seq, _) => self.is_to_run_again(*seq),
            Change::EventState(seq, EventState::Standby) => {
                if journal.events.get(seq).is_some_and(|row| row.rerun.is_some()) {
                    world.story.reach("a rerun that is left to the other master");
                }
                Ok(())
            }
            Change::Event(seq, event, state) => {
                if *state == EventState::Standby {
                    world.story.reach("an event that is left to the other master");
                }
                if event.status == Some(PostStatus::Disappeared) {
                    world.story.reach("a job that disappeared");
                }
                self.is_told(*seq, event, world)
            }
            Change::Adopt(seq) if self.to_be_adopted.contains(seq) => {
                world.story.reach("an event that is adopted after a failover");
                Ok(())
            }
            Change::Prune(before, _) => {
                if journal.pruned {
                    world.story.reach(Fault::QuickPrune.name());
                }
                let kept = self.settings_of_life.iter().map(|settings| settings.history.keep).min();
                let since = world.time().as_micros() - kept.map_or(0, |keep| keep.as_micros() as i64);
                // What was begun before people set the clock goes on.
                if before.as_micros() > since && !world.people.clock_was_set {
                    return Err(self.broken("history is kept", None, "what is forgotten is not old"));
                }
                let is_older = |job: &&mut SimJob| job.job.received < *before;
                world.ganeti.jobs.iter_mut().filter(is_older).for_each(|job| job.truth.history_is_lost());
                Ok(())
            }
            Change::EventState(seq, EventState::Done) => self.is_written_done(*seq, journal),
            Change::RunStart(_) | Change::RunEnd(..) => {
                self.run_is_written(change);
                Ok(())
            }
            Change::FirstLook(_) => {
                self.no_queue_is_written = self.no_queue_at;
                Ok(())
            }
            Change::BeganAgain(time) => {
                self.began_again = Some(*time);
                Ok(())
            }
            Change::Begun(_) => {
                self.required_since.get_or_insert(world.now);
                Ok(())
            }
            Change::Job(id, tracked) => {
                let now = world.now;
                if let Some(job) = world.ganeti.of_mut(*id, tracked.received) {
                    job.truth.known_since.get_or_insert(now);
                    job.truth.told_to_end |= !tracked.is_open();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An event is written as delivered.
    pub(super) fn is_written_done(&mut self, seq: i64, journal: &Journal) -> Result<(), Broken> {
        self.done.extend(self.names.get(&seq).map(|(name, key)| (*key, name.1)));
        self.is_delivered(seq, journal)?;
        self.has_run_again(seq);
        Ok(())
    }

    /// This is to be written, which may have to be tried again and again.
    pub(super) fn is_to_be_written(&mut self, changes: &[Change], now: u64) {
        for change in changes {
            if let Change::Event(seq, ..) = change {
                self.noticed.entry(*seq).or_insert(now);
            }
        }
    }

    /// The beginning or the end of a run is written.
    pub(super) fn run_is_written(&mut self, change: &Change) {
        match change {
            Change::RunStart(run) => {
                self.started
                    .insert((run.seq, run.id), (run.node.clone(), in_directory(&run.directory, &run.script)));
            }
            Change::RunEnd(seq, run, ..) => {
                if let Some((node, script)) = self.started.get(&(*seq, *run)) {
                    self.ended.insert((*seq, node.clone(), script.clone()));
                }
            }
            _ => {}
        }
    }

    /// The journal proved damaged as this was to be written: it is written anew without it,
    /// for only the history of what is over is in it.
    pub fn is_passed_over(&mut self, changes: &[Change]) {
        let mut new = BTreeMap::new();
        for change in changes {
            self.run_is_written(change);
            match change {
                Change::Event(seq, event, state) if *state != EventState::Done => {
                    new.insert(*seq, event);
                }
                Change::Event(seq, event, _) => {
                    self.over_unwritten.insert(*seq);
                    self.done.insert((event.key, event.received.as_micros()));
                    self.passed_over.insert((event.key, event.received.as_micros()));
                }
                Change::EventState(seq, EventState::Done) => {
                    self.over_unwritten.insert(*seq);
                    self.done.extend(self.names.get(seq).map(|(name, key)| (*key, name.1)));
                    if let Some(event) = new.remove(seq) {
                        self.passed_over.insert((event.key, event.received.as_micros()));
                    }
                }
                _ => {}
            }
        }
    }

    /// An event is told.
    fn is_told(&mut self, seq: i64, event: &Event, world: &World) -> Result<(), Broken> {
        let key = event.key;
        let (id, name): (i64, Name) = (key.job.get(), (key.job, event.received.as_micros()));
        let invented = |what: String| Broken { promise: "nothing invented", job: Some(id), what };
        let Some(job) = world.ganeti.of(key.job, event.received) else {
            return Err(invented(format!("{event}: there is no such job")));
        };
        // By a clock that was set back it may be newer than the first start.
        if job.truth.history && !world.people.clock_was_set {
            return Err(invented(format!("{event}: the job had ended before the daemon's first start")));
        }
        let Some(truth) = job.truth.ops.get(key.op as usize) else {
            return Err(invented(format!("{event}: there is no such opcode")));
        };
        // Its file went before its end was read, and its process is gone: it may have died.
        let may_have_died = job.truth.removed && event.status == Some(PostStatus::Disappeared);
        if !has_happened(event, truth) && !may_have_died {
            return Err(invented(format!("{event} executed {}: in truth {truth:?}", event.executed)));
        }
        if event.op_count as usize != job.job.ops.len() || event.op_code != job.job.ops[key.op as usize].code
        {
            return Err(invented(format!("{event}: another opcode")));
        }
        let at = self.noticed.get(&seq).copied().unwrap_or(world.now);
        let told = Told { seq, life: world.life, at };
        // One that is written anew was noticed when it was written first.
        let before = self.told.entry((name, key.op, key.phase)).or_insert(told);
        if before.seq != seq {
            let what = format!("{event} is event {} and event {seq}", before.seq);
            return Err(Broken { promise: "each (job, opcode, phase) once", job: Some(id), what });
        }
        let is_later = |told: &Told| told.seq > seq;
        let phase_after = (key.op, key.phase);
        let after = self.told.range((name, phase_after.0, phase_after.1)..).skip(1);
        if let Some(((_, op, phase), _)) =
            after.take_while(|((of, ..), _)| *of == name).find(|(_, told)| !is_later(told))
        {
            let what = format!("{event} is told after {op}.{phase}");
            return Err(Broken { promise: "in order", job: Some(id), what });
        }
        self.names.insert(seq, (name, key));
        Ok(())
    }

    /// All of an event's scripts have ended, says the engine.
    fn is_delivered(&mut self, seq: i64, journal: &Journal) -> Result<(), Broken> {
        let Some(row) = journal.events.get(&seq) else { return Ok(()) };
        let job = Some(row.event.key.job.get());
        let lost = |what: String| Broken { promise: "nothing lost", job, what };
        if self.said_late.contains(&seq) && !row.event.late {
            let what = format!("{} was told that it is late, and that is not written", row.event);
            return Err(Broken { promise: "late is said where it is late", job, what });
        }
        let from = row.counts_from();
        let only = row.rerun.as_ref().and_then(|(_, rerun)| rerun.script.as_deref());
        let all = journal.runs.range((seq, i64::MIN)..=(seq, i64::MAX)).map(|(_, run)| run);
        let has_ended_again = |node: &str, script: &str| {
            all.clone().any(|run| {
                let RunStart { id, node: on, directory, script: name, .. } = &run.start;
                *id >= from && run.ended && on == node && in_directory(directory, name) == script
            })
        };
        // The judge's own list: a journal that was written anew need not have those before.
        let has_ended = |node: &str, script: &str| {
            if row.rerun.is_some() {
                return has_ended_again(node, script);
            }
            self.ended.iter().any(|(of, on, name)| *of == seq && on == node && name == script)
        };
        let (pre, op_code) = (row.event.key.phase == Phase::Pre, &row.event.op_code);
        let may_skip = self
            .settings_of_life
            .iter()
            .any(|settings| settings.hooks.skips(op_code) || pre && settings.hooks.pre == PreMode::Off);
        if may_skip {
            return Ok(());
        }
        self.has_looked(seq, &row.event)?;
        // What was begun as another configuration wanted it need not be wanted any more.
        let is_wanted = |node: &str, script: &str| self.is_wanted(seq, node, script);
        let of_it = |(of, node, script): &(i64, String, String)| *of == seq && is_wanted(node, script);
        let postponed = self
            .attempts
            .iter()
            .filter(|(key, _)| of_it(key))
            // Another node that has no address any more is asked no more, and that ends it, by a run
            // of its own.
            .filter(|((_, node, script), attempts)| {
                let another = |run: &RunStart| attempts.iter().all(|attempt| attempt.run != run.id);
                let is_it = |run: &RunStart| {
                    run.node == *node && in_directory(&run.directory, &run.script) == *script
                };
                let mut ended = all.clone().filter(|run| run.ended).map(|run| &run.start);
                !(has_ended(node, script) && ended.any(|run| is_it(run) && another(run)))
            })
            // Where one script runs again the others need not.
            .filter(|((_, node, script), _)| {
                only.is_none_or(|only| node == HERE && script.rsplit('/').next() == Some(only))
            })
            .find(|(_, attempts)| attempts.iter().all(|attempt| attempt.is_postponed()));
        if let Some(((.., script), _)) = postponed {
            return Err(lost(format!("{} is done, but {script} could not begin", row.event)));
        }
        let is_again = |run: &&RunStart| row.rerun.is_none() || self.has_begun_again(seq, run.id);
        let runs = all.clone().map(|run| &run.start).filter(is_again);
        let to_end = |run: &&RunStart| is_wanted(&run.node, &in_directory(&run.directory, &run.script));
        if let Some(run) =
            runs.filter(to_end).find(|run| !has_ended(&run.node, &in_directory(&run.directory, &run.script)))
        {
            return Err(lost(format!("{} is done, but run {} has not ended", row.event, run.id)));
        }
        let Some(scripts) = self.prepared.get(&seq) else {
            return Err(lost(format!("{} is done, but nobody looked for its scripts", row.event)));
        };
        let is_wanted = |script: &&String| only.is_none_or(|only| script.rsplit('/').next() == Some(only));
        if let Some(script) = scripts.iter().filter(is_wanted).find(|script| !has_ended(HERE, script)) {
            return Err(lost(format!("{} is done without {script}", row.event)));
        }
        let nodes = self.targets.get(&seq).filter(|_| only.is_none()).into_iter().flatten();
        let not_asked =
            |(node, directory): &&(String, String)| !has_ended(node, &in_directory(directory, directory));
        if let Some((node, directory)) = nodes.into_iter().find(not_asked) {
            return Err(lost(format!("{} is done without {directory} on {node}", row.event)));
        }
        Ok(())
    }

    /// This node becomes master: what the old one may not have delivered is its own now.
    pub(super) fn takes_over(&mut self, world: &World, journal: &Journal) {
        let window = self.settings.master.failover_window.as_micros() as u64;
        for told in self.told.values().filter(|told| told.life == world.life) {
            let standby = |row: &crate::journal::Row| row.state == EventState::Standby;
            if world.now - told.at + MARGIN < window && journal.events.get(&told.seq).is_some_and(standby) {
                self.to_be_adopted.insert(told.seq);
            }
        }
    }
}

/// Whether an event is true, as far as that can be known.
fn has_happened(event: &Event, truth: &OpTruth) -> bool {
    match event.key.phase {
        Phase::Pre => truth.pre.is_some() && event.executed && event.status.is_none(),
        Phase::Post => {
            let status = truth.post.map(|(status, _)| status);
            let cannot_know = truth.success_lost && event.status == Some(PostStatus::Disappeared);
            status.is_some()
                && (event.status == status || cannot_know)
                && event.executed == truth.pre.is_some()
        }
    }
}
