//! Any part of a job's versions that holds the last one (and the death, where luxid does
//! not tell of it) gives the same events in the same order.

use std::fmt;

use ganeti_hookd::ganeti::event::Phase;
use ganeti_hookd::ganeti::job::{self, Liveness};
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

/// A look at the job.
#[derive(Clone, Copy, Debug)]
struct Look {
    liveness: Liveness,
    /// Whether Python has written the file, or Haskell.
    python: bool,
}

/// A life, and at which of its moments the daemon looks.
#[derive(Clone)]
struct Scenario {
    life: Vec<Moment>,
    looks: Vec<Option<Look>>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut moments = self.life.iter().zip(&self.looks);
        moments.try_for_each(|(moment, look)| match look {
            Some(look) => write!(f, "\n    {moment:?}: {look:?}"),
            None => write!(f, "\n    {moment:?}: missed"),
        })
    }
}

/// The life of a job of 1 to 4 opcodes. Usually the usual happens; it ends where the
/// choices end, wherever the job is then.
fn any_life() -> impl Strategy<Value = Vec<Moment>> {
    (prop::collection::vec(0..12usize, 0..30), 1..=4usize).prop_map(|(choices, ops)| {
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

fn any_scenario() -> impl Strategy<Value = Scenario> {
    let look = (any::<bool>(), any::<Index>(), any::<bool>());
    (any_life(), prop::collection::vec(look, 40)).prop_map(|(life, mut looks)| {
        // The last look is never missed.
        looks[life.len() - 1].0 = true;
        let looks = life.iter().zip(looks).map(|(moment, (looks, liveness, python))| {
            looks.then(|| Look { liveness: *liveness.get(livenesses(moment)), python })
        });
        let looks = looks.collect();
        Scenario { life, looks }
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_part_of_the_versions_gives_the_same_events(scenario in any_scenario()) {
        let mut daemon = Knowledge::default();
        see(&mut daemon, &scenario, 0);
        well_formed(&daemon.told)?;
    }

    #[test]
    fn a_first_start_tells_only_what_comes_after_it(scenario in any_scenario(), start in any::<Index>()) {
        let versions: Vec<usize> =
            (0..scenario.life.len()).filter(|at| scenario.life[*at].version().is_some()).collect();
        let start = *start.get(&versions);
        let mut daemon = Knowledge::adopted(&scenario.life, start);
        see(&mut daemon, &scenario, start);
        well_formed(&daemon.told)?;
    }
}

/// Looks where the scenario says, from moment `from` on; every look compares what has been
/// told with what has happened.
fn see(daemon: &mut Knowledge, scenario: &Scenario, from: usize) {
    let Scenario { life, looks } = scenario;
    for (at, look) in looks.iter().enumerate().skip(from) {
        let Some(Look { liveness, python }) = *look else { continue };
        let job = file_at(life, at);
        let text = file(job, python);
        daemon.look(life, at, &job::parse(job.id, text.as_bytes()).unwrap(), liveness);
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
