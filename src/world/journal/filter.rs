//! Which events somebody wants to read.

use rusqlite::types::Value;

use super::history::{HistoryEvent, RunRecord};
use crate::ganeti::about::{Reason, Trail};
use crate::ganeti::event::{EventKey, PostStatus};
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::object::ObjectPattern;

/// Which events to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only those after this number.
    pub after: i64,
    /// Only those of this job.
    pub job: Option<JobId>,
    /// Only those of this name.
    pub key: Option<EventKey>,
    /// Only those about such objects.
    pub object: Option<ObjectPattern>,
    /// Only those of opcodes of this type; `*` stands for any text.
    pub op_code: Option<String>,
    /// Only those of opcodes that ended so.
    pub status: Option<PostStatus>,
    /// Only those noticed then or later.
    pub since: Option<Timestamp>,
    /// Only those noticed before then.
    pub until: Option<Timestamp>,
    /// Only those in whose reason trail some text has this part, in upper or lower case.
    pub reason: Option<String>,
    /// Only those with a failed run.
    pub failed: bool,
    /// At most this many.
    pub limit: Option<u32>,
    /// Of each at most so many bytes of output; of what is left out is told how much it is.
    pub output: Option<usize>,
}

/// A run that failed.
const FAILED_RUN: &str = "EXISTS (SELECT 1 FROM runs WHERE runs.seq = events.seq AND runs.ended IS NOT NULL
    AND (runs.code IS NULL OR runs.code <> 0 OR runs.error IS NOT NULL))";

/// A text of the trail; what stands beside it are its author and its time.
const REASON: &str = "EXISTS (SELECT 1 FROM json_each(reason)
    WHERE instr(lower(json_extract(value, '$[1]')), lower(?)))";

/// A full name, or its first labels.
const OBJECT: &str = "object IS NOT NULL AND substr(object || '.', 1, length(?) + 1) = ? || '.'";

impl Filter {
    /// What has to be true of a row of `events`, as SQL, and the values in it; neither where it
    /// begins nor how many there are.
    pub(super) fn conditions(&self) -> (String, Vec<Value>) {
        let (mut sql, mut values) = ("TRUE".to_owned(), Vec::new());
        let mut only = |condition: &str, with: Vec<Value>| {
            sql += " AND ";
            sql += condition;
            values.extend(with);
        };
        if let Some(job) = self.job {
            only("job = ?", vec![job.get().into()]);
        }
        if let Some(EventKey { job, op, phase }) = self.key {
            let key = vec![job.get().into(), i64::from(op).into(), phase.as_str().to_owned().into()];
            only("job = ? AND op = ? AND phase = ?", key);
        }
        if let Some(kind) = self.object.as_ref().and_then(|object| object.kind) {
            only("object_type = ?", vec![kind.as_str().to_owned().into()]);
        }
        if let Some(name) = self.object.as_ref().and_then(|object| object.name.as_ref()) {
            only(OBJECT, vec![name.clone().into(), name.clone().into()]);
        }
        if let Some(op_code) = &self.op_code {
            only("op_code GLOB ?", vec![glob(op_code).into()]);
        }
        if let Some(status) = self.status {
            only("status = ?", vec![status.as_str().to_owned().into()]);
        }
        if let Some(since) = self.since {
            only("time >= ?", vec![since.as_micros().into()]);
        }
        if let Some(until) = self.until {
            only("time < ?", vec![until.as_micros().into()]);
        }
        if let Some(reason) = &self.reason {
            only(REASON, vec![reason.clone().into()]);
        }
        if self.failed {
            only(FAILED_RUN, vec![]);
        }
        (sql, values)
    }

    /// Whether an event that has been read is wanted: the same as [`Self::conditions`].
    pub fn wants(&self, HistoryEvent { event, runs, .. }: &HistoryEvent) -> bool {
        let Filter { key, since, until, .. } = self;
        let object = event.about.object.as_ref();
        self.job.is_none_or(|job| event.key.job == job)
            && key.is_none_or(|key| event.key == key)
            && self.object.as_ref().is_none_or(|pattern| object.is_some_and(|object| pattern.means(object)))
            && self.op_code.as_ref().is_none_or(|pattern| is_like(&event.op_code, pattern))
            && self.status.is_none_or(|status| event.status == Some(status))
            && since.is_none_or(|since| event.time >= since)
            && until.is_none_or(|until| event.time < until)
            && self.reason.as_ref().is_none_or(|text| has_reason(&event.about.reason, text))
            && (!self.failed || runs.iter().any(RunRecord::has_failed))
    }
}

/// Whether a text is of a pattern in which `*` stands for any text.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return text == pattern };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut text) = text.strip_prefix(begin).and_then(|text| text.strip_suffix(end)) else {
        return false;
    };
    middle.split('*').all(|part| match text.split_once(part) {
        Some((_, after)) => {
            text = after;
            true
        }
        None => false,
    })
}

/// Whether some text of the trail has this part, in upper or lower case of ASCII.
fn has_reason(trail: &Trail, part: &str) -> bool {
    let part = part.to_ascii_lowercase();
    trail.0.iter().any(|Reason(_, text, _)| text.to_ascii_lowercase().contains(&part))
}

/// A pattern for SQLite, in which `?` and `[` are special besides.
fn glob(pattern: &str) -> String {
    pattern.replace('[', "[[]").replace('?', "[?]")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::engine::change::{Change, EventState, RunStart};
    use crate::engine::outcome::Outcome;
    use crate::ganeti::about::About;
    use crate::ganeti::event::{Event, Phase};
    use crate::ganeti::object::{Object, ObjectKind};
    use crate::world::journal::{History, Journal};

    /// Texts in which what is looked for is, or is not quite.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            select(vec!["OP_INSTANCE_STARTUP", "OP_INSTANCE_*", "web1.example.com", "web1", "Kernel Update"])
                .prop_map(str::to_owned),
            "[aAbÄä.*?\\[\\]_%\\\\\"]{0,6}",
        ]
    }

    fn kind() -> impl Strategy<Value = ObjectKind> {
        select(vec![ObjectKind::Instance, ObjectKind::Node, ObjectKind::Cluster])
    }

    fn status() -> impl Strategy<Value = PostStatus> {
        select(PostStatus::ALL.to_vec())
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        (1..6_i64).prop_map(Timestamp::from_micros)
    }

    fn job() -> impl Strategy<Value = JobId> {
        (1..4_i64).prop_map(|id| id.try_into().unwrap())
    }

    fn key() -> impl Strategy<Value = EventKey> {
        (job(), 0..2_u32, select(vec![Phase::Pre, Phase::Post])).prop_map(|(job, op, phase)| EventKey {
            job,
            op,
            phase,
        })
    }

    fn about() -> impl Strategy<Value = About> {
        let object = (kind(), option::of(text())).prop_map(|(kind, name)| Object { kind, name });
        let trail = vec(text().prop_map(|text| Reason("gnt:user".to_owned(), text, 1.5)), 0..3);
        (option::of(object), trail).prop_map(|(object, trail)| About {
            object,
            reason: Trail(trail),
            ..About::default()
        })
    }

    fn event() -> impl Strategy<Value = Event> {
        (key(), text(), option::of(status()), time(), about()).prop_map(
            |(key, op_code, status, time, about)| {
                let (received, about) = (Timestamp::from_micros(1), Arc::new(about));
                Event {
                    key,
                    received,
                    op_count: 2,
                    op_code,
                    status,
                    executed: true,
                    late: false,
                    time,
                    about,
                }
            },
        )
    }

    /// How a run of an event ended; one that did not is under way.
    fn run() -> impl Strategy<Value = Option<Outcome>> {
        let outcome = (option::of(0..2), option::of(text()));
        option::of(outcome.prop_map(|(code, error)| Outcome { code, error, ..Outcome::default() }))
    }

    /// Most filters are to find something.
    fn rarely<T: std::fmt::Debug>(what: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
        option::weighted(0.15, what)
    }

    fn filter() -> impl Strategy<Value = Filter> {
        let texts = [text(), text()].map(rarely);
        let object = (option::of(kind()), option::of(text()));
        let is_one = |(kind, name): &(Option<ObjectKind>, Option<String>)| kind.is_some() || name.is_some();
        let object = object.prop_filter("it means something", is_one);
        let object = object.prop_map(|(kind, name)| ObjectPattern { kind, name });
        let whats = (rarely(job()), rarely(key()), rarely(object), rarely(status()));
        (whats, texts, rarely(time()), rarely(time()), prop::bool::weighted(0.1)).prop_map(
            |((job, key, object, status), [op_code, reason], since, until, failed)| Filter {
                job,
                key,
                object,
                op_code,
                status,
                since,
                until,
                reason,
                failed,
                ..Filter::default()
            },
        )
    }

    fn changes(events: Vec<(Event, Option<Option<Outcome>>)>) -> Vec<Change> {
        let changes = (1..).zip(events).flat_map(|(seq, (event, run))| {
            let time = event.time;
            let [node, directory, script] = ["node1", "global-post.d", "10-a"].map(str::to_owned);
            let start = RunStart { id: 1, seq, node, directory, script, attempt: 1, started: time };
            let start = run.is_some().then_some(Change::RunStart(start));
            let end = run.flatten().map(|outcome| Change::RunEnd(seq, 1, time, outcome));
            [Some(Change::Event(seq, event, EventState::Done)), start, end]
        });
        changes.flatten().collect()
    }

    fn found(history: &History, filter: &Filter) -> Vec<HistoryEvent> {
        let mut found = Vec::new();
        history
            .events(filter, |event| {
                found.push(event);
                true
            })
            .unwrap();
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_wanted_is_what_sqlite_finds(
            events in vec((event(), option::of(run())), 1..20),
            filters in vec(filter(), 100),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = Journal::open(dir.path()).unwrap();
            journal.commit(&changes(events)).unwrap();
            let history = History::open(dir.path()).unwrap().unwrap();
            let all = found(&history, &Filter::default());
            for filter in filters {
                let by_sqlite: Vec<i64> = found(&history, &filter).iter().map(|event| event.seq).collect();
                let wanted: Vec<i64> =
                    all.iter().filter(|event| filter.wants(event)).map(|event| event.seq).collect();
                prop_assert_eq!(by_sqlite, wanted, "{:?}", filter);
            }
        }
    }
}
