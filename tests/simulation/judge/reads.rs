//! Which files are read, and how often: live before old, and nothing for ever.

use std::rc::Rc;

use ganeti_hookd::ganeti::job::{Job, JobId};

use super::{Broken, Judge};
use crate::world::World;
use crate::world::files::Read;

/// How far the daemon may look at what nobody hinted at before it takes up a hint.
const READS_BEFORE_A_HINT: u64 = 40;

/// How often one version of a file may be read: after each overflow, start and failover, each
/// second while it cannot be read, and as often as its job's process cannot be judged.
const READS_OF_A_VERSION: u64 = 400;

impl Judge {
    /// A file is read: whoever was hinted at comes first.
    pub(super) fn comes_first(&mut self, id: JobId, world: &mut World) -> Result<(), Broken> {
        let waited = self.hinted.remove(&id).map(|since| (id, since));
        // While the journal cannot be written no hint is taken up, and large files are read on.
        if waited.is_none() && !self.stalled {
            self.other_reads += 1;
            world.files.reads = self.other_reads;
        }
        let oldest = self.hinted.iter().map(|(id, since)| (*id, *since)).min_by_key(|(_, since)| *since);
        let Some((oldest, since)) = waited.or(oldest) else { return Ok(()) };
        let (waited, oldest) = (self.other_reads - since, oldest.get());
        let most = self.most.entry("reads before that of a hint").or_default();
        *most = (*most).max(waited);
        if waited > READS_BEFORE_A_HINT {
            let what = format!("job {oldest} was hinted at {waited} reads ago");
            return Err(self.broken("live before old", Some(oldest), &what));
        }
        Ok(())
    }

    /// A file was read, and the engine will be told what was there.
    pub fn is_read(&mut self, id: i64, read: &Read, world: &mut World) {
        let version = world.files.version_of(id);
        let reads = self.reads.entry(id).or_insert((version, 0));
        *reads = if reads.0 == version { (version, reads.1 + 1) } else { (version, 0) };
        if reads.1 > READS_OF_A_VERSION {
            self.restless = Some(id);
        }
        let (Read::Queued(job, _) | Read::Archived(job)) = read else { return };
        if matches!(read, Read::Queued(..)) {
            self.versions.insert(job.id, Rc::clone(job));
        }
        let now = world.now;
        if let Some(sim) = world.ganeti.of_mut(job.id, job.received) {
            sim.truth.first_read.get_or_insert(now);
        }
    }

    /// What was read of a job's file before.
    pub fn last_read(&self, id: JobId) -> Option<&Rc<Job<'static>>> {
        self.versions.get(&id)
    }

    /// Nothing is read again and again that does not change.
    pub(super) fn rests(&self) -> Result<(), Broken> {
        if self.restless.is_some() {
            let what = format!("the same version of a file was read {READS_OF_A_VERSION} times");
            return Err(self.broken("it rests when there is nothing to do", self.restless, &what));
        }
        Ok(())
    }
}
