//! The simulation's journal, a few maps in memory, holds what the real one does: after any
//! changes both remember the same, and refuse the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "simulation/journal.rs"]
#[expect(dead_code, reason = "the simulation uses the rest")]
mod journal;

use ganeti_hookd::engine::change::{Change, EventState, FirstLook, Notice, Rerun, RunStart};
use ganeti_hookd::engine::input::Recorded;
use ganeti_hookd::engine::numbers::NumbersChange;
use ganeti_hookd::engine::outbox_progress::Progress as OutboxProgress;
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::engine::tracker::Tracked;
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::ganeti::event::{Event, EventKey, Phase};
use ganeti_hookd::ganeti::job::{JobId, Timestamp};
use ganeti_hookd::ganeti::opcodes::View;
use ganeti_hookd::world::journal::Journal;
use proptest::prelude::*;

fn id(id: i64) -> JobId {
    id.try_into().unwrap()
}

fn event() -> impl Strategy<Value = Event> {
    (1..4i64, 0..2u32, any::<bool>(), 0..3i64, 0..9i64).prop_map(|(job, op, pre, received, time)| Event {
        key: EventKey { job: id(job), op, phase: if pre { Phase::Pre } else { Phase::Post } },
        received: Timestamp::from_micros(received),
        op_count: 2,
        op_code: "OP_TEST_DELAY".to_owned(),
        status: None,
        executed: true,
        late: false,
        time: Timestamp::from_micros(time),
        about: Default::default(),
    })
}

fn state() -> impl Strategy<Value = EventState> {
    prop_oneof![Just(EventState::Pending), Just(EventState::Done), Just(EventState::Standby)]
}

fn job() -> impl Strategy<Value = Change> {
    (1..4i64, 0..3i64, 0..3u32).prop_map(|(job, received, next)| {
        let progress = Progress { next, pre: false };
        let (received, seen) = (Timestamp::from_micros(received), Timestamp::from_micros(7));
        Change::Job(id(job), Tracked { received, progress, executed: None, op_count: 2, process: None, seen })
    })
}

fn run() -> impl Strategy<Value = Change> {
    (1..9i64, 1..7i64, 0..2usize, 1..3u32).prop_map(|(seq, id, script, attempt)| {
        let script = ["a", "b"][script].to_owned();
        Change::RunStart(RunStart {
            id,
            seq,
            node: "n".to_owned(),
            directory: "d".to_owned(),
            script,
            attempt,
            started: Timestamp::default(),
        })
    })
}

fn numbers() -> impl Strategy<Value = Change> {
    let change = prop_oneof![
        (1..9i64).prop_map(|n| NumbersChange::All(n, vec![1, n + 2], vec![n - 1, n + 1])),
        (1..9i64, 0..4i64).prop_map(|(n, more)| NumbersChange::GivenOut(n, n + more, vec![n])),
        (1..9i64).prop_map(NumbersChange::Filled),
        (1..9i64).prop_map(NumbersChange::GivenUpBelow),
        (1..20i64).prop_map(|n| NumbersChange::SeenAbove(vec![n, n + 3])),
        (1..20i64).prop_map(NumbersChange::GivenUpAbove),
        Just(NumbersChange::OfOld),
    ];
    change.prop_map(Change::Numbers)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (1..9i64, event(), state()).prop_map(|(seq, event, state)| Change::Event(seq, event, state)),
        2 => (1..9i64, state()).prop_map(|(seq, state)| Change::EventState(seq, state)),
        1 => (1..9i64).prop_map(Change::Adopt),
        1 => (1..9i64, any::<bool>()).prop_map(|(seq, all)| {
            Change::Rerun(seq, Rerun { script: (!all).then(|| "a".to_owned()) })
        }),
        1 => (0..2u32).prop_map(|_| Change::Notice(Notice::Gap { time: 1.0, since: None })),
        1 => (1..9i64).prop_map(Change::Late),
        1 => (1..9i64).prop_map(|seq| Change::Plan(seq, View::default())),
        3 => run(),
        2 => (1..9i64, 1..7i64)
            .prop_map(|(seq, run)| Change::RunEnd(seq, run, Timestamp::default(), Outcome::default())),
        2 => job(),
        1 => (1..4i64).prop_map(|job| Change::Forget(id(job))),
        2 => numbers(),
        1 => (0..9i64).prop_map(|time| Change::Begun(Timestamp::from_micros(time))),
        1 => (0..9i64, any::<bool>()).prop_map(|(time, is_before_the_queue)| {
            Change::FirstLook(FirstLook { since: Timestamp::from_micros(time), is_before_the_queue })
        }),
        1 => (0..9i64).prop_map(|time| Change::BeganAgain(Timestamp::from_micros(time))),
        1 => (0..9i64).prop_map(|time| Change::HistoryLost(Timestamp::from_micros(time))),
        1 => (0..9i64, any::<bool>()).prop_map(|(cursor, a)| {
            let name = if a { "a" } else { "b" };
            Change::Outbox(name.to_owned(), Box::new(OutboxProgress { cursor, ..OutboxProgress::default() }))
        }),
        1 => (0..9i64, 1..4u32).prop_map(|(time, most)| Change::Prune(Timestamp::from_micros(time), most)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn both_remember_the_same(
        batches in prop::collection::vec(prop::collection::vec(change(), 1..5), 1..8),
        since in 0..9i64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut real = Journal::open(dir.path()).unwrap();
        let mut model = journal::Journal::default();
        let since = Timestamp::from_micros(since);
        for batch in &batches {
            match (real.commit(batch), model.clone().with(batch)) {
                (Ok(written), Ok((new, told))) => {
                    prop_assert_eq!(written, told, "{:?}", batch);
                    model = new;
                }
                (Err(_), Err(_)) => {}
                (real, model) => prop_assert!(false, "{batch:?}: {real:?}, but the model {:?}", model.err()),
            }
            drop(real);
            real = Journal::open(dir.path()).unwrap();
            let (known, told) = (real.load(since).unwrap(), model.load(since));
            prop_assert_eq!(format!("{known:#?}"), format!("{told:#?}"));
            for (job, received) in (1..4).flat_map(|job| (0..3).map(move |received| (job, received))) {
                let received = Timestamp::from_micros(received);
                let told = model.recall(id(job), received);
                prop_assert_eq!(real.progress(id(job), received).unwrap(), told);
            }
            // The last event of each name, as somebody finds it who wants it to run again.
            for seq in 1..9i64 {
                let Some(recorded) = model.recorded(seq) else { continue };
                let name = recorded.event.event.id().parse().unwrap();
                let is_it = |found: &Recorded| found.event.event.id() == recorded.event.event.id();
                let last = (seq..9).rev().filter_map(|seq| model.recorded(seq)).find(is_it);
                prop_assert_eq!(real.recorded(&name).unwrap(), last);
            }
        }
    }
}
