//! The whole engine against a made-up world (design, section 18): one thread, one seed, a
//! judge after each step.
//!
//! `SEEDS=100000` plays that many (from `FIRST=` on, until `FAILURES=` have failed); `SEED=7`
//! plays one and tells its story; `COVERAGE=1` shows what was reached. A failure prints its seed, the promise that was broken, and the story of
//! the smallest world made from that seed in which it still is.

#![expect(clippy::expect_used, reason = "a world that cannot go on is a fault of the simulation")]

mod dice;
mod driver;
mod journal;
mod judge;
mod names;
mod outbox;
mod recipe;
mod sabotage;
mod story;
mod truth;
mod two_masters;
mod world;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use driver::play;
use judge::Broken;
use recipe::{Fault, Recipe};
use sabotage::Sabotage;

/// How many worlds are played unless `SEEDS` says otherwise.
const SEEDS: u64 = 3000;

/// In so many worlds each engine that is broken on purpose must be noticed.
const BROKEN_SEEDS: u64 = 3000;

/// How many smaller worlds are tried to make a failing one small.
const TRIES: u64 = 400;

/// What came of all worlds.
#[derive(Default)]
struct Report {
    failures: Vec<String>,
    reached: BTreeMap<&'static str, u64>,
    most: BTreeMap<&'static str, u64>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// All worlds, played once for all tests.
fn report() -> &'static Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(|| {
        let mut report = Report::default();
        let seeds = number("SEEDS").unwrap_or(SEEDS);
        let first = number("FIRST").unwrap_or(0);
        let failures = number("FAILURES").unwrap_or(1) as usize;
        for seed in first..first + seeds {
            let outcome = play(Recipe::of(seed), false);
            for (thing, n) in outcome.world.story.reached {
                *report.reached.entry(thing).or_default() += n;
            }
            for (thing, n) in outcome.judge.most {
                let most = report.most.entry(thing).or_default();
                *most = (*most).max(n);
            }
            if let Some(broken) = outcome.broken {
                report.failures.push(match failures {
                    1 => explain(seed, &broken),
                    _ => {
                        format!("SEED={seed} breaks \"{}\": {}", broken.promise, broken.what)
                            + &format!(" {:?}", Recipe::of(seed).faults)
                    }
                });
                if report.failures.len() >= failures {
                    break;
                }
            }
        }
        report
    })
}

/// A broken promise in the smallest world in which it is broken.
fn explain(seed: u64, broken: &Broken) -> String {
    let mut small = Recipe::of(seed);
    let mut tries = 0;
    'smaller: loop {
        for recipe in small.smaller() {
            tries += 1;
            let again = play(recipe.clone(), false).broken;
            if again.is_some_and(|again| again.promise == broken.promise) {
                small = recipe;
                continue 'smaller;
            }
            if tries > TRIES {
                break 'smaller;
            }
        }
        break;
    }
    let faults: Vec<&str> = small.faults.iter().map(|fault| fault.name()).collect();
    let outcome = play(small.clone(), true);
    let again = outcome.broken.as_ref().unwrap_or(broken);
    let hooks = &small.settings.hooks;
    format!(
        "SEED={seed} breaks \"{}\": {}\nin a world of {} jobs with {faults:?}, pre {:?}, {} workers, \
         scripts {:?}:\n{}\n=> {}",
        broken.promise,
        broken.what,
        small.jobs,
        hooks.pre,
        hooks.workers,
        small.scripts,
        outcome.world.story.text(again.job, false),
        again.what,
    )
}

#[test]
fn every_promise_is_kept_in_every_world() {
    if let Some(seed) = number("SEED") {
        let outcome = play(Recipe::of(seed), true);
        println!("{:#?}\n{}", Recipe::of(seed).faults, outcome.world.story.text(None, true));
        if let Some(broken) = outcome.broken {
            panic!("{}", explain(seed, &broken));
        }
        return;
    }
    let failures = &report().failures;
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// A world in which something can never happen proves nothing of it.
#[test]
fn everything_happens_in_some_world() {
    if number("SEED").is_some() || number("SEEDS").is_some_and(|seeds| seeds < SEEDS) {
        return;
    }
    let Report { reached, most, failures } = report();
    let faults = Fault::ALL.iter().map(|(_, name, _)| name);
    let listed: Vec<&&str> =
        names::INPUTS.iter().chain(names::EFFECTS).chain(names::MARKS).chain(faults).collect();
    if number("COVERAGE").is_some() {
        for thing in &listed {
            println!("{:>10} {thing}", reached.get(**thing).unwrap_or(&0));
        }
        for (thing, n) in most {
            println!("{n:>10} {thing}, at most");
        }
    }
    let never: Vec<_> = listed.iter().filter(|thing| !reached.contains_key(***thing)).collect();
    assert!(!failures.is_empty() || never.is_empty(), "never reached: {never:?}");
}

/// The same seed tells the same story.
#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..20 {
        let tell = || play(Recipe::of(seed), true).world.story.text(None, true);
        assert_eq!(tell(), tell(), "seed {seed}");
    }
}

/// A judge who notices nothing is worth nothing.
#[test]
fn every_engine_that_is_broken_on_purpose_is_noticed() {
    let unnoticed: Vec<_> = Sabotage::ALL
        .iter()
        .filter(|(sabotage, promise)| {
            let first = sabotage
                .first_noticed(promise, BROKEN_SEEDS, Recipe::of, |recipe| play(recipe, false).broken);
            first.is_none()
        })
        .collect();
    assert!(unnoticed.is_empty(), "nobody notices that an engine {unnoticed:?}");
}
