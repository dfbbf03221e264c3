//! Versions that Ganeti never writes: the engine still tells each event at most once, in
//! order, and does not panic.

use std::collections::BTreeSet;

use ganeti_hookd::engine::tracker::{Lateness, Tracker};
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::ganeti::event::EventKey;
use ganeti_hookd::ganeti::job::{Job, JobId, Liveness, Opcode, Status, Timestamp};
use proptest::prelude::*;

fn any_time() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(any::<i64>().prop_map(Timestamp::from_micros))
}

fn any_status() -> impl Strategy<Value = Status> {
    use Status::{Canceled, Canceling, Error, Queued, Running, Success, Waiting};
    prop::sample::select(vec![Queued, Waiting, Canceling, Running, Canceled, Success, Error])
}

fn any_op() -> impl Strategy<Value = Opcode<'static>> {
    (any_status(), any_time(), any_time(), any_time(), any::<bool>()).prop_map(
        |(status, started, executed, ended, death_detected)| Opcode {
            code: "OP_TEST_DELAY".into(),
            status,
            started,
            executed,
            ended,
            death_detected,
            text: Default::default(),
        },
    )
}

/// A version; now and then with more or fewer opcodes than the one before.
fn any_version() -> impl Strategy<Value = Job<'static>> {
    prop::collection::vec(any_op(), 0..5).prop_map(|ops| Job {
        id: JobId::try_from(1).unwrap(),
        received: Timestamp::from((1, 0)),
        livelock: Some("lock".into()),
        process_id: Some(1),
        started: None,
        ops,
    })
}

fn any_liveness() -> impl Strategy<Value = Liveness> {
    prop::sample::select(vec![Liveness::Alive, Liveness::Dead, Liveness::Unknown])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_is_told_once_and_in_order(
        versions in prop::collection::vec((any_version(), any_liveness()), 1..8),
    ) {
        let mut tracker = Tracker::default();
        let mut told: Vec<EventKey> = Vec::new();
        for (job, liveness) in &versions {
            let look = tracker.look(job, *liveness, Progress::default(), Lateness::Nothing, Timestamp::default());
            told.extend(look.events.iter().map(|event| event.key));
            tracker.keep(look.id, look.tracked);
        }
        prop_assert!(told.is_sorted(), "out of order: {told:?}");
        prop_assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len(), "twice: {:?}", told);
    }

    #[test]
    fn a_second_look_at_the_same_brings_nothing(job in any_version(), liveness in any_liveness()) {
        let mut tracker = Tracker::default();
        let look = tracker.look(&job, liveness, Progress::default(), Lateness::Nothing, Timestamp::default());
        tracker.keep(look.id, look.tracked);
        let again = tracker.look(&job, liveness, Progress::default(), Lateness::Nothing, Timestamp::default());
        prop_assert!(again.events.is_empty() && !again.changed, "{:?}", again);
    }
}
