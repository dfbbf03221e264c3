//! The course of an opcode: what it did when, from what its pre and its post tell.

use crate::ganeti::event::{Event, Phase, PostStatus};
use crate::ganeti::job::Timestamp;
use crate::world::journal::{HistoryEvent, RunRecord};

/// An opcode, as far as its events are in the history.
#[derive(Debug, Default)]
pub struct Opcode {
    pre: Option<HistoryEvent>,
    post: Option<HistoryEvent>,
}

/// What an opcode did for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waited for its turn.
    Queued,
    /// It waited for locks.
    Locks,
    /// Its job stood still for its pre hooks.
    Held,
    /// It executed.
    Executing,
}

impl Opcode {
    /// One of its events.
    pub fn add(&mut self, event: HistoryEvent) {
        match event.event.key.phase {
            Phase::Pre => self.pre = Some(event),
            Phase::Post => self.post = Some(event),
        }
    }

    /// Its events, the one that tells most first.
    fn events(&self) -> impl Iterator<Item = &HistoryEvent> {
        self.post.iter().chain(&self.pre)
    }

    /// The event that tells most.
    pub fn last(&self) -> Option<&HistoryEvent> {
        self.events().next()
    }

    /// How it ended; none while it has not.
    pub fn status(&self) -> Option<PostStatus> {
        self.post.as_ref()?.event.status
    }

    /// A time that one of its events tells, in seconds since the epoch.
    fn time(&self, time: impl Fn(&Event) -> Option<Timestamp>) -> Option<f64> {
        self.events().find_map(|event| time(&event.event)).map(Timestamp::as_secs_f64)
    }

    /// For how long it was held, in seconds.
    pub fn held(&self) -> Option<f64> {
        self.events().find_map(|event| event.held).map(|held| held.as_secs_f64())
    }

    /// From when on it waited for its turn.
    pub fn begin(&self) -> Option<f64> {
        self.time(|event| if event.key.op == 0 { Some(event.received) } else { event.about.previous_end })
            .or_else(|| self.time(|event| event.about.started))
            .or_else(|| self.time(|event| Some(event.received)))
    }

    /// When it was over: for one that disappeared when that was noticed, for one that has not
    /// ended now.
    pub fn end(&self, now: f64) -> f64 {
        let told = self.time(|event| event.about.ended);
        let noticed = self.post.as_ref().map(|post| post.event.time.as_secs_f64());
        told.or(noticed).unwrap_or(now)
    }

    /// What it did when, in order.
    pub fn stages(&self, now: f64) -> Vec<(Stage, f64, f64)> {
        let end = self.end(now);
        let (begin, started) = (self.begin(), self.time(|event| event.about.started));
        let executed = started.and(self.time(|event| event.about.executed));
        let released =
            executed.map(|executed| (executed + self.held().unwrap_or(0.0)).min(end.max(executed)));
        let stages = [
            (Stage::Queued, begin, started.or(Some(end))),
            (Stage::Locks, started, executed.or(Some(end))),
            (Stage::Held, executed, released),
            (Stage::Executing, released, Some(end)),
        ];
        let known = stages.into_iter().filter_map(|(stage, from, to)| Some((stage, from?, to?)));
        known.filter(|(_, from, to)| to >= from).collect()
    }

    /// The runs of its hooks, in the order in which they began; a request to another node that went
    /// well is none.
    pub fn runs(&self) -> impl Iterator<Item = (&HistoryEvent, &RunRecord)> {
        let events = self.pre.iter().chain(&self.post);
        let all = events.flat_map(|event| event.runs.iter().map(move |run| (event, run)));
        all.filter(|(_, run)| run.is_told())
    }
}
