//! Nothing lost: when all has calmed down, everything that happened has been delivered.

use ganeti_hookd::engine::change::EventState;
use ganeti_hookd::ganeti::event::{EventKey, Phase};
use ganeti_hookd::ganeti::job::Timestamp;

use super::{Broken, Judge};
use crate::journal::Journal;
use crate::world::World;
use crate::world::ganeti::SimJob;

impl Judge {
    /// The world has come to its end.
    pub fn at_the_end(&mut self, world: &World, journal: &Journal) -> Result<(), Broken> {
        if !world.up {
            return Err(self.broken("the simulation is sound", None, "the daemon does not run at the end"));
        }
        self.nothing_is_left(world, journal)?;
        for job in &world.ganeti.jobs {
            self.nothing_lost(world, journal, job)?;
        }
        Ok(())
    }

    /// Nobody stands still, and what was this node's to deliver is delivered.
    pub fn nothing_is_left(&self, world: &World, journal: &Journal) -> Result<(), Broken> {
        self.nobody_stands(world, "at the end of all things")?;
        if let Some((seq, row)) = journal.events.iter().find(|(_, row)| row.state == EventState::Pending) {
            let job = Some(row.event.key.job.get());
            return Err(self.broken("everything is delivered", job, &format!("event {seq}, {}", row.event)));
        }
        if self.roles_changed == world.people.roles_changed {
            let left = self
                .to_be_adopted
                .iter()
                .find(|seq| journal.events.get(seq).is_some_and(|row| row.state == EventState::Standby));
            if let Some(seq) = left {
                let what = format!("event {seq} was noticed within the failover window");
                return Err(self.broken("nothing lost", None, &what));
            }
        }
        Ok(())
    }

    /// Since when what happens is not history.
    pub fn required_since(&self) -> Option<u64> {
        self.required_since
    }

    /// When it took over from the other node.
    pub fn takeovers(&self) -> impl Iterator<Item = u64> {
        let now = self.takes_over_at.map(|at| (self.told_of, at));
        // The first time that one is told to be master is no takeover.
        let all = self.takeovers.iter().map(|(told_of, at)| (*told_of, *at)).chain(now);
        all.filter(|(told_of, _)| *told_of > 0).map(|(_, at)| at)
    }

    /// Whether this has been delivered.
    pub fn has_delivered(&self, key: EventKey, received: Timestamp) -> bool {
        let event = (key, received.as_micros());
        self.done.contains(&event) || self.passed_over.contains(&event)
    }

    /// Whether this has been told.
    pub fn has_told(&self, key: EventKey, received: Timestamp) -> bool {
        self.told.contains_key(&((key.job, received.as_micros()), key.op, key.phase))
    }

    fn nothing_lost(&self, world: &World, journal: &Journal, job: &SimJob) -> Result<(), Broken> {
        let Some(since) = self.required_since else {
            return Err(self.broken("the first start ends", None, "nothing has begun"));
        };
        let truth = &job.truth;
        let since = since.max(world.people.last_role_change);
        if truth.history || truth.removed || truth.unreadable {
            return Ok(());
        }
        // What was there before the first start ended is history up to where it was first read.
        let was_before = truth.since.is_none_or(|written| written <= since);
        let since = match self.no_queue_at.filter(|_| !world.people.clock_was_set) {
            // There was nothing to be history.
            Some(at) => at.max(world.people.last_role_change),
            None if was_before => truth.first_read.map_or(u64::MAX, |read| read.max(since)),
            None => since,
        };
        let name = (job.job.id, job.job.received.as_micros());
        for (op, truth) in truth.ops.iter().enumerate() {
            let is_required = |at: u64| at > since && !self.cannot_be_known(world, journal, job, at);
            for (phase, at) in [(Phase::Pre, truth.pre), (Phase::Post, truth.post.map(|(_, at)| at))] {
                let Some(at) = at.filter(|at| is_required(*at)) else { continue };
                let key = EventKey { job: name.0, op: op as u32, phase };
                let is_told = self.told.contains_key(&(name, key.op, phase))
                    || self.passed_over.contains(&(key, name.1));
                if !is_told {
                    let what = format!("{}.{op}.{phase}, which happened at {:.6}", job.id, at as f64 / 1e6);
                    return Err(self.broken("nothing lost", Some(job.id), &what));
                }
            }
        }
        Ok(())
    }

    /// What nobody can know any more (design, section 3): it happened unseen.
    fn cannot_be_known(&self, world: &World, journal: &Journal, job: &SimJob, at: u64) -> bool {
        let truth = &job.truth;
        // Its file had gone, and the history was lost or forgotten before it came back: that had been told,
        // perhaps.
        if truth.back_since.is_some_and(|back| at <= back) {
            return true;
        }
        if truth.known_since.is_some_and(|since| at > since) {
            return false;
        }
        // Its number was given out before, by another cluster.
        let before = world.people.highest_before;
        let again = job.cluster > 0 && job.id <= before;
        // By the clock, which people have set back, it was received before the daemon was ever
        // started; and nothing else tells it from what was there then.
        // Nor, when the history was lost, from what had been told before the cluster was made again.
        let began_again = self.began_again.filter(|_| self.history_lost_at.is_some());
        let is_old = Some(job.job.received) <= journal.begun.max(began_again);
        let by_the_clock = world.people.clock_was_set && is_old;
        // It came and went while nobody listened, and the numbers have come as far as they were.
        let was_unheard = truth.since.is_some_and(|since| since <= world.files.listens_since());
        let as_far = world.files.serial.is_some_and(|serial| serial >= before);
        // Nobody had looked at it when the history was lost, nor knew that its cluster is another one
        // when it was received: it may have been told.
        let was_unsure = self.began_again.is_none_or(|time| job.job.received <= time);
        let was_lost = truth.since <= self.history_lost_at && was_unsure;
        by_the_clock && (again || !world.files.queue.contains_key(&job.id))
            || again && as_far && was_unheard
            || job.cluster > 0 && was_lost
    }
}
