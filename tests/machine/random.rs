//! Any part of a job's versions that holds the last one (and the death, where luxid does
//! not tell of it) gives the same events in the same order.

use ganeti_hookd::event::Phase;
use ganeti_hookd::job;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::daemon::{Knowledge, file_at, livenesses};
use crate::ganeti::{Life, Moment, file};
use crate::model::Told;

/// Ten thousand jobs take a few seconds; `PROPTEST_CASES` asks for more or fewer.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12_000);
    ProptestConfig { cases, ..ProptestConfig::default() }
}

/// What the daemon does about one moment.
#[derive(Clone, Debug)]
struct Look {
    /// Whether it looks at all.
    looks: bool,
    /// Which of the possible livenesses it finds.
    liveness: Index,
    /// Whether it reads a file that Python wrote, or Haskell.
    python: bool,
}

fn any_look() -> impl Strategy<Value = Look> {
    (any::<bool>(), any::<Index>(), any::<bool>()).prop_map(|(looks, liveness, python)| Look {
        looks,
        liveness,
        python,
    })
}

/// The life of a job of 1 to 4 opcodes. Usually the usual happens; it ends where the
/// choices end, wherever the job is then.
fn any_life() -> impl Strategy<Value = Vec<Moment>> {
    (1..=4usize, prop::collection::vec(0..12usize, 0..30)).prop_map(|(ops, choices)| {
        let mut life = Life::submitted(ops, 3, 3);
        for choice in choices {
            let mut next = life.next();
            if next.is_empty() {
                break;
            }
            let choice = if choice < next.len() { choice } else { 0 };
            life = next.swap_remove(choice);
        }
        life.moments
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_part_of_the_versions_gives_the_same_events(
        life in any_life(),
        looks in prop::collection::vec(any_look(), 40),
    ) {
        let mut daemon = Knowledge::default();
        for (at, (moment, look)) in life.iter().zip(&looks).enumerate() {
            // Every look compares what has been told with what has happened.
            if look.looks || at + 1 == life.len() {
                let text = file(file_at(&life, at), look.python);
                let job = job::parse(file_at(&life, at).id, text.as_bytes()).unwrap();
                daemon.look(&life, at, &job, *look.liveness.get(livenesses(moment)));
            }
        }
        well_formed(&daemon.told)?;
    }

    #[test]
    fn a_first_start_tells_only_what_comes_after_it(
        life in any_life(),
        start in any::<Index>(),
        looks in prop::collection::vec(any_look(), 40),
    ) {
        let start = start.index(life.len());
        prop_assume!(life[start].version().is_some());
        let mut daemon = Knowledge::adopted(&life, start);
        for (at, look) in looks.iter().enumerate().take(life.len()).skip(start) {
            if look.looks || at + 1 == life.len() {
                daemon.look(&life, at, file_at(&life, at), *look.liveness.get(livenesses(&life[at])));
            }
        }
        well_formed(&daemon.told)?;
    }
}

/// Opcode after opcode, each pre and post once, and the post says whether there was a pre.
fn well_formed(told: &[Told]) -> Result<(), TestCaseError> {
    for pair in told.windows(2) {
        let [first, second] = pair else { unreachable!() };
        prop_assert!((first.op, first.phase) < (second.op, second.phase), "order: {told:?}");
    }
    for event in told {
        prop_assert_eq!(event.status.is_some(), event.phase == Phase::Post);
        prop_assert!(event.phase == Phase::Post || event.executed, "a pre without execution: {:?}", told);
    }
    Ok(())
}
