//! Which deaths Ganeti is told of (design, section 17).

use ganeti_hookd::engine::effect::Death;

use super::{Broken, Judge};
use crate::journal::Journal;
use crate::world::World;

impl Judge {
    /// Ganeti is to be told of a death.
    pub(super) fn tells_ganeti(
        &mut self,
        world: &World,
        journal: &Journal,
        Death { seq, job, received, process }: &Death,
    ) -> Result<(), Broken> {
        let bad = |what: &str| Broken {
            promise: "Ganeti is told of deaths alone",
            job: Some(job.get()),
            what: what.to_owned(),
        };
        if !self.settings_of_life.iter().chain([&self.settings]).any(|settings| settings.deaths.tell_ganeti) {
            return Err(bad("nobody wants it"));
        }
        if !self.is_master {
            return Err(bad("in standby"));
        }
        let is_it =
            |p: &&crate::world::kernel::Process| p.livelock == process.livelock && p.pid == process.pid;
        let Some(dead) = world.kernel.processes.iter().find(is_it) else {
            return Err(bad("there is no such process"));
        };
        let of = &world.ganeti.jobs[dead.job].job;
        if dead.alive || !dead.here {
            return Err(bad("it lives, or is another node's"));
        }
        if (of.id, of.received) != (*job, *received) {
            return Err(bad("the process was another job's"));
        }
        // What was over when the journal proved damaged is in no journal.
        let is_written = |seq| journal.events.contains_key(&seq) || self.over_unwritten.contains(&seq);
        if seq.is_some_and(|seq| !is_written(seq)) {
            return Err(bad("what tells of it is not written"));
        }
        if !self.told_dead.insert(process.livelock.clone()) {
            return Err(bad("twice of one"));
        }
        Ok(())
    }
}
