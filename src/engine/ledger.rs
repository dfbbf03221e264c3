//! What is to be written, and what has to wait for that.
//!
//! Changes are written in the order in which they were recorded, all of a batch or none. An
//! effect that was handed in by [`Ledger::after`] comes out again only when everything that
//! was recorded before it is in the journal: nothing else can release it. What a restart would find
//! again by looking waits a moment for a change that is to be written at once. When a batch cannot
//! be written, what happened stays to be written, and what had only been begun is handed back:
//! nobody else takes anything back.

use std::sync::Arc;
use std::time::Duration;

use super::change::{Change, EventState};
use super::effect::Effect;
use super::retry;
use super::transitions::Progress;
use crate::ganeti::job::{JobId, Timestamp};

/// So long a change that can be found again waits for one that cannot: a job is often waiting, running
/// and over within this.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many changes wait at most: a live job waits for the commit that writes them.
const PATIENT: usize = 256;

/// Among so many of the last changes one is looked for that the next makes needless.
const LAST: usize = 8;

/// What is to be written, and what waits for it.
#[derive(Debug)]
pub struct Ledger {
    /// Changes that the journal does not hold.
    changes: Vec<Change>,
    /// They are to be written at once.
    is_urgent: bool,
    /// When they are if nothing else is, by the steady clock.
    due: Option<Duration>,
    /// Those of them that are being written.
    writing: Option<Arc<Vec<Change>>>,
    /// What may be done once it holds them.
    gated: Vec<Effect>,
    next_seq: i64,
    next_run: i64,
    /// The journal cannot be written; when that is tried again.
    stalled: Option<Duration>,
    /// When it could be written again after it could not, the last time.
    stall_over: Option<Timestamp>,
    /// It is damaged, and is being written anew.
    is_writing_anew: bool,
}

/// What became of changes that were to be written.
#[derive(Debug, PartialEq)]
#[must_use]
pub struct Outgoing {
    /// What may be done now.
    pub effects: Vec<Effect>,
    /// The changes that have been written.
    pub written: Arc<Vec<Change>>,
    /// The journal could not be written before.
    pub was_stalled: bool,
}

impl Ledger {
    /// Nothing is to be written; numbers are given out from these on.
    pub fn new(next_seq: i64, next_run: i64) -> Self {
        Self {
            changes: Vec::new(),
            is_urgent: false,
            due: None,
            writing: None,
            gated: Vec::new(),
            next_seq: next_seq.max(1),
            next_run: next_run.max(1),
            stalled: None,
            stall_over: None,
            is_writing_anew: false,
        }
    }

    /// The number of the next event.
    pub fn next_seq(&mut self) -> i64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// The number of the next run.
    pub fn next_run(&mut self) -> i64 {
        self.next_run += 1;
        self.next_run - 1
    }

    /// Runs from now on have higher numbers than this.
    pub fn runs_follow(&mut self, run: i64) {
        self.next_run = self.next_run.max(run.saturating_add(1));
    }

    /// It is this time, by the steady clock.
    pub fn it_is(&mut self, steady: Duration) {
        self.is_urgent |= self.due.is_some_and(|due| due <= steady);
    }

    /// Something is to be written.
    pub fn record(&mut self, change: Change) {
        self.push(change);
        self.is_urgent = true;
    }

    /// How far a job has been told need not be written when it has got further.
    fn push(&mut self, change: Change) {
        if let Change::Job(id, tracked) = &change {
            let is_about_it = |change: &&mut Change| match change {
                Change::Job(of, _) | Change::Forget(of) => of == id,
                _ => false,
            };
            let earlier = self.changes.iter_mut().rev().take(LAST).find(is_about_it);
            if let Some(Change::Job(_, earlier)) = earlier {
                return earlier.clone_from(tracked);
            }
        }
        self.changes.push(change);
    }

    /// Something is to be written that would be found again were it lost: with what is to be written
    /// next, or in a moment.
    pub fn record_in_time(&mut self, change: Change, steady: Duration) {
        self.push(change);
        self.due.get_or_insert(steady + PATIENCE);
        self.is_urgent |= self.changes.len() >= PATIENT;
    }

    /// Something is to be written before all that is: what it is about is not forgotten by that.
    pub fn record_first(&mut self, change: Change) {
        self.changes.insert(0, change);
        self.is_urgent = true;
    }

    /// How far a job has been told by events that are not written.
    pub fn told(&self, id: JobId, received: Timestamp) -> Option<Progress> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Event(_, event, _) if event.key.job == id && event.received == received => {
                Some(Progress::after(event.key))
            }
            _ => None,
        })
    }

    /// Whether it is to be written what becomes of an event.
    pub fn changes_state(&self, seq: i64) -> bool {
        self.changes.iter().any(|change| match change {
            Change::EventState(of, _) | Change::Event(of, _, EventState::Done) => *of == seq,
            _ => false,
        })
    }

    /// An event is delivered: it is written so, or changed where it has been written, or where something is
    /// forgotten before. The feed tells only the last change of what is written at once.
    pub fn record_done(&mut self, seq: i64) {
        let last = self.changes.iter_mut().rev().find(|change| match change {
            Change::Prune(..) => true,
            Change::Event(of, ..) | Change::EventState(of, _) | Change::Adopt(of) | Change::Rerun(of, _) => {
                *of == seq
            }
            _ => false,
        });
        match last {
            Some(Change::Event(_, _, state)) => *state = EventState::Done,
            _ => self.record(Change::EventState(seq, EventState::Done)),
        }
    }

    /// The effect may be done when everything that has been recorded is written.
    pub fn after(&mut self, effect: Effect) {
        self.gated.push(effect);
    }

    /// An event is late: it is written so, or changed where it has been written.
    pub fn record_late(&mut self, seq: i64) {
        let unwritten = self.changes.iter_mut().rev().find_map(|change| match change {
            Change::Event(number, event, _) if *number == seq => Some(event),
            _ => None,
        });
        match unwritten {
            Some(event) => event.late = true,
            None => self.record(Change::Late(seq)),
        }
    }

    /// Whether something begins when what there is has been written.
    pub fn has_begun(&self) -> bool {
        !self.gated.is_empty()
    }

    /// Whether something is to be written at once, or to be done when all is written.
    pub fn must_write(&self) -> bool {
        self.is_urgent && !self.changes.is_empty() || !self.gated.is_empty()
    }

    /// Whether something is to be written, however soon, or to be done.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty() || !self.gated.is_empty()
    }

    /// Whether the journal cannot be written.
    pub fn is_stalled(&self) -> bool {
        self.stalled.is_some()
    }

    /// Whether it is too early to try that again.
    pub fn must_wait(&self, steady: Duration) -> bool {
        self.stalled.is_some_and(|time| steady < time)
    }

    /// When what there is is to be written, or it is tried again.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.stalled.or(self.due.filter(|_| !self.is_urgent))
    }

    /// Has everything written that is to be.
    pub fn commit(&mut self) -> Effect {
        let batch = Arc::new(std::mem::take(&mut self.changes));
        (self.is_urgent, self.due) = (false, None);
        self.writing = Some(Arc::clone(&batch));
        Effect::Commit(batch)
    }

    /// The journal is to be written anew. Returns whether that has not just been tried.
    pub fn begin_anew(&mut self) -> bool {
        !std::mem::replace(&mut self.is_writing_anew, true)
    }

    /// Whether the journal is being written anew.
    pub fn is_writing_anew(&self) -> bool {
        self.is_writing_anew
    }

    /// Whether what happened at this time waited for a journal that could not be written.
    pub fn had_stalled(&self, time: Timestamp) -> bool {
        Some(time) <= self.stall_over
    }

    /// The last batch has been written.
    pub fn committed(&mut self, now: Timestamp) -> Outgoing {
        self.is_writing_anew = false;
        let was_stalled = self.stalled.take().is_some();
        if was_stalled {
            self.stall_over = Some(now);
        }
        let written = self.writing.take().unwrap_or_default();
        Outgoing { effects: std::mem::take(&mut self.gated), written, was_stalled }
    }

    /// The last batch has not been written. What happened stays to be written; the beginnings
    /// of runs are struck, and what was to begin is handed back. Returns whether this is new.
    pub fn failed(&mut self, steady: Duration) -> (bool, Vec<Effect>) {
        self.is_writing_anew = false;
        let batch = self.writing.take().unwrap_or_default();
        let mut changes = Arc::unwrap_or_clone(batch);
        changes.append(&mut self.changes);
        self.changes = changes;
        self.is_urgent = !self.changes.is_empty();
        let is_new = self.stalled.replace(steady + retry::WRITE).is_none();
        (is_new, self.strike_begun())
    }

    /// Strikes the beginnings of runs that are not written, and hands back what was to begin.
    pub fn strike_begun(&mut self) -> Vec<Effect> {
        let begun = std::mem::take(&mut self.gated);
        let runs: Vec<i64> = begun.iter().filter_map(run_of).collect();
        self.changes.retain(|change| !matches!(change, Change::RunStart(run) if runs.contains(&run.id)));
        begun
    }
}

/// The run that an effect begins.
fn run_of(effect: &Effect) -> Option<i64> {
    match effect {
        Effect::Start(script) => Some(script.run),
        Effect::Ask(node) => Some(node.run),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tracker::Tracked;
    use crate::ganeti::event::{Event, EventKey, Phase};

    fn event(job: i64) -> Event {
        Event {
            key: EventKey { job: job.try_into().unwrap(), op: 0, phase: Phase::Pre },
            received: Timestamp::from_micros(1),
            op_count: 1,
            op_code: "OP_TEST_DELAY".to_owned(),
            status: None,
            executed: true,
            late: false,
            time: Timestamp::from_micros(2),
            about: Default::default(),
        }
    }

    #[test]
    fn the_event_that_is_late_is_written_so_and_no_other() {
        let mut ledger = Ledger::new(1, 1);
        let record = |seq| Change::Event(seq, event(seq), EventState::Pending);
        (1..=3).for_each(|seq| ledger.record(record(seq)));
        ledger.record_late(2);
        let late = Change::Event(2, Event { late: true, ..event(2) }, EventState::Pending);
        let Effect::Commit(batch) = ledger.commit() else { panic!("nothing is written") };
        assert_eq!(*batch, [record(1), late, record(3)]);
        // What is being written does not change any more.
        ledger.record_late(3);
        let outgoing = ledger.committed(Timestamp::from_micros(3));
        assert_eq!(outgoing.written, batch);
        let Effect::Commit(batch) = ledger.commit() else { panic!("nothing is written") };
        assert_eq!(*batch, [Change::Late(3)]);
    }

    #[test]
    fn what_is_delivered_before_it_is_written_is_written_so() {
        let mut ledger = Ledger::new(1, 1);
        let of_state = |seq, state| Change::Event(seq, event(seq), state);
        let done = |seq| Change::EventState(seq, EventState::Done);
        ledger.record(of_state(1, EventState::Pending));
        ledger.record(of_state(2, EventState::Standby));
        // It became ours since.
        ledger.record(Change::Adopt(2));
        (1..=3).for_each(|seq| ledger.record_done(seq));
        ledger.record(of_state(4, EventState::Pending));
        // It would go at once.
        let prune = Change::Prune(Timestamp::from_micros(9), 1);
        ledger.record(prune.clone());
        ledger.record_done(4);
        let Effect::Commit(batch) = ledger.commit() else { panic!("nothing is written") };
        let standby = of_state(2, EventState::Standby);
        assert_eq!(batch[..5], [of_state(1, EventState::Done), standby, Change::Adopt(2), done(2), done(3)]);
        assert_eq!(batch[5..], [of_state(4, EventState::Pending), prune, done(4)]);
    }

    #[test]
    fn what_can_be_found_again_is_written_with_the_next_or_a_second_later() {
        let steady = Duration::from_secs(100);
        let mut ledger = Ledger::new(1, 1);
        assert!(!ledger.must_write());
        ledger.record_in_time(Change::Late(1), steady);
        ledger.record_in_time(Change::Late(2), steady + PATIENCE / 2);
        assert_eq!(ledger.next_deadline(), Some(steady + PATIENCE));
        ledger.it_is(steady + PATIENCE / 2);
        assert!(!ledger.must_write() && ledger.has_changes());
        ledger.it_is(steady + PATIENCE);
        assert!(ledger.must_write());
        assert_eq!(ledger.next_deadline(), None, "now");
        let _ = ledger.commit();
        let _ = ledger.committed(Timestamp::from_micros(1));
        assert!(!ledger.must_write() && ledger.next_deadline().is_none());
        ledger.record_in_time(Change::Late(3), steady + 2 * PATIENCE);
        ledger.record(Change::Late(4));
        assert!(ledger.must_write());
        let _ = ledger.commit();
        (1..PATIENT).for_each(|_| ledger.record_in_time(Change::Late(5), steady));
        assert!(!ledger.must_write());
        ledger.record_in_time(Change::Late(5), steady);
        assert!(ledger.must_write(), "they are many");
    }

    #[test]
    fn how_far_a_job_was_told_is_written_once_unless_it_was_forgotten_meanwhile() {
        let tracked = |op_count| Tracked {
            received: Timestamp::from_micros(1),
            progress: Progress::default(),
            executed: None,
            op_count,
            process: None,
            seen: Timestamp::from_micros(2),
        };
        let (one, two): (JobId, JobId) = (1.try_into().unwrap(), 2.try_into().unwrap());
        let mut ledger = Ledger::new(1, 1);
        ledger.record_in_time(Change::Job(one, tracked(1)), Duration::ZERO);
        ledger.record(Change::Job(two, tracked(2)));
        ledger.record(Change::Job(one, tracked(3)));
        ledger.record(Change::Forget(two));
        ledger.record(Change::Job(two, tracked(4)));
        let Effect::Commit(batch) = ledger.commit() else { panic!("nothing is written") };
        let job = |id, op_count| Change::Job(id, tracked(op_count));
        assert_eq!(*batch, [job(one, 3), job(two, 2), Change::Forget(two), job(two, 4)]);
    }
}
