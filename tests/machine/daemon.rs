//! A daemon as far as the core can tell: what it knows of one job, and what it has told.

use ganeti_hookd::engine::tracker::{Lateness, Tracked, Tracker};
use ganeti_hookd::engine::transitions::{self, Progress};
use ganeti_hookd::ganeti::event::{Event, Phase, PostStatus};
use ganeti_hookd::ganeti::job::{Job, Liveness, Timestamp};

use crate::ganeti::Moment;
use crate::model::{self, Told};

/// What a daemon knows, and the events that follow from it. Both are saved in one
/// commit, so a crash takes the daemon back to an earlier one of these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knowledge {
    tracked: Option<Tracked>,
    /// The events told.
    pub told: Vec<Told>,
    /// The last moment looked at.
    seen: Option<usize>,
    /// What was history when the daemon first started, by the model.
    history: Vec<Told>,
    /// The opcode whose success can never be known.
    lost: Option<usize>,
}

impl Knowledge {
    /// What a daemon knows that starts for the first time at moment `at`.
    pub fn adopted(life: &[Moment], at: usize) -> Self {
        let Some(job) = life[at].version() else { return Self::default() };
        let mut knowledge = Self { seen: Some(at), ..Self::default() };
        knowledge.history = model::events(&life[..=at]);
        knowledge.look_at(job, transitions::adopt(job), Liveness::Unknown);
        assert!(knowledge.told.is_empty(), "history was told: {:?}", knowledge.told);
        knowledge
    }

    /// Looks at moment `at` of a life: `job` is the file by then.
    ///
    /// # Panics
    /// Unless exactly what has happened by then has been told.
    pub fn look(&mut self, life: &[Moment], at: usize, job: &Job<'_>, liveness: Liveness) {
        let lost = model::lost_success(&life[..=at], self.seen);
        if self.seen.is_none_or(|seen| seen < at) {
            self.lost = self.lost.or(lost);
        }
        self.look_at(job, Progress::default(), liveness);
        self.seen = Some(at);
        let expected = self.expected(&life[..=at]);
        assert_eq!(self.told, expected, "told (left) and happened (right) at moment {at} of {life:#?}");
    }

    fn look_at(&mut self, job: &Job<'_>, start: Progress, liveness: Liveness) {
        let mut tracker = Tracker::default();
        if let Some(tracked) = self.tracked.take() {
            tracker.keep(job.id, tracked);
        }
        let look = tracker.look(job, liveness, start, Lateness::Nothing, Timestamp::default());
        self.told.extend(look.events.iter().map(told));
        self.tracked = Some(look.tracked);
    }

    /// What the model says, without history, and with what cannot be known.
    fn expected(&self, life: &[Moment]) -> Vec<Told> {
        let is_history =
            |told: &Told| self.history.iter().any(|old| (old.op, old.phase) == (told.op, told.phase));
        let mut events = model::events(life);
        events.retain(|told| !is_history(told));
        for told in &mut events {
            if Some(told.op) == self.lost && told.phase == Phase::Post {
                told.status = Some(PostStatus::Disappeared);
            }
        }
        events
    }
}

/// What can be known of the job process when the file is read.
pub fn livenesses(moment: &Moment) -> &'static [Liveness] {
    match moment {
        Moment::Died => &[Liveness::Dead],
        // The process writes its last version and ends.
        Moment::Written(job) if job.is_final() => &[Liveness::Unknown, Liveness::Dead],
        // In standby, or where /proc is hidden, nothing is known.
        Moment::Written(_) => &[Liveness::Alive, Liveness::Unknown],
    }
}

/// The file at moment `at`.
pub fn file_at(life: &[Moment], at: usize) -> &Job<'static> {
    life[..=at].iter().rev().find_map(Moment::version).expect("a life begins with a version")
}

fn told(event: &Event) -> Told {
    Told { op: event.key.op as usize, phase: event.key.phase, status: event.status, executed: event.executed }
}
