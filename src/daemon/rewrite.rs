//! A journal that proves damaged while the daemon runs is written anew from memory: what
//! is to be done is all there, and only the history stays in the damaged one.

use super::{Daemon, now};
use crate::world::journal::{self, Change, EventState, Journal, JournalError};

impl Daemon {
    /// Writes what came to light; a damaged journal is replaced by a new one first.
    pub(super) fn write_changes(&mut self) -> Result<(), JournalError> {
        match self.journal.commit(&self.changes) {
            Err(error) if error.is_damaged() => self.write_anew(&error),
            result => result,
        }
    }

    fn write_anew(&mut self, error: &JournalError) -> Result<(), JournalError> {
        let state_dir = &self.settings.paths.state_dir;
        self.journal.write_anew(state_dir, &self.everything())?;
        let Some(aside) = journal::put_in_place(state_dir, now()) else {
            // The old one is still in our hands, and still damaged: all is done once more.
            let error = std::io::Error::other("the new journal cannot be put in place");
            return Err(JournalError::Io { path: state_dir.clone(), error });
        };
        let mut new = Journal::open(state_dir)?;
        new.checkpoint_aside(state_dir);
        self.journal = new;
        log::error!(
            "{error}; it is set aside as {aside} and was written anew: nothing that is to be done is lost, \
             the history up to now is in the old one only"
        );
        Ok(())
    }

    /// All that a later start must know.
    fn everything(&self) -> Vec<Change> {
        let mut all = vec![Change::Numbers(self.numbers.clone())];
        all.extend(self.begun.map(Change::Begun));
        all.extend(self.tracker.iter().map(|(id, tracked)| Change::Job(id, tracked.clone())));
        for (seq, delivery) in &self.deliveries {
            all.push(Change::Event(*seq, delivery.event.clone(), EventState::Pending));
            let view = delivery.plan.as_ref().map(|plan| &plan.view).or(delivery.given.as_ref());
            all.extend(view.map(|view| Change::Plan(*seq, view.clone())));
            all.extend(delivery.running.values().cloned().map(Change::RunStart));
        }
        for standby in &self.standby {
            all.push(Change::Event(standby.seq, standby.event.clone(), EventState::Standby));
        }
        all
    }
}
