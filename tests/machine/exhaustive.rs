//! Every life of jobs of up to three opcodes, every part of it that a daemon can see, and
//! every point at which the daemon can crash.
//!
//! At each moment of a life the daemon may look or not (and find the process alive, or
//! not know), may commit what it knows or not, may crash or not, and may then, started
//! again, look again. Two daemons that know and have saved the same go on the same, so
//! equal ones are followed once and counted: this walks through all ways without walking
//! each of them.

use ganeti_hookd::ganeti::job::Liveness;

use crate::daemon::{Knowledge, file_at, livenesses};
use crate::ganeti::{Moment, every_life};

/// A daemon: what it knows, and what of that survives a crash.
#[derive(Clone, Debug, PartialEq)]
struct Daemon {
    memory: Knowledge,
    disk: Knowledge,
}

impl Daemon {
    fn new(knowledge: Knowledge) -> Self {
        Self { memory: knowledge.clone(), disk: knowledge }
    }

    fn looking(&self, life: &[Moment], at: usize, liveness: Liveness) -> Self {
        let mut daemon = self.clone();
        daemon.memory.look(life, at, file_at(life, at), liveness);
        daemon
    }

    fn committed(&self) -> Self {
        Self::new(self.memory.clone())
    }

    fn crashed(&self) -> Self {
        Self::new(self.disk.clone())
    }
}

/// Different daemons, each with the number of ways that lead to it.
#[derive(Default)]
struct Daemons(Vec<(Daemon, u128)>);

impl Daemons {
    fn add(&mut self, daemon: Daemon, ways: u128) {
        match self.0.iter_mut().find(|(known, _)| *known == daemon) {
            Some((_, known)) => *known += ways,
            None => self.0.push((daemon, ways)),
        }
    }

    fn ways(&self) -> u128 {
        self.0.iter().map(|(_, ways)| ways).sum()
    }

    /// All that these can do at one moment.
    fn step(self, life: &[Moment], at: usize) -> Self {
        let mut after = Self::default();
        for (daemon, ways) in self.0 {
            let committed = daemon.committed();
            for daemon in looks(&daemon, life, at).into_iter().chain([daemon, committed]) {
                // It goes on, or crashes; and when it is started again, it looks again.
                let crashed = daemon.crashed();
                for daemon in looks(&crashed, life, at).into_iter().chain([daemon, crashed]) {
                    after.add(daemon, ways);
                }
            }
        }
        after
    }

    /// The last look, which nothing prevents for ever.
    fn last_look(self, life: &[Moment]) -> Self {
        let mut after = Self::default();
        for (daemon, ways) in self.0 {
            for daemon in looks(&daemon, life, life.len() - 1) {
                after.add(daemon, ways);
            }
        }
        after
    }
}

/// A daemon that looks at a moment, and then commits or has yet to.
fn looks(daemon: &Daemon, life: &[Moment], at: usize) -> Vec<Daemon> {
    livenesses(&life[at])
        .iter()
        .map(|liveness| daemon.looking(life, at, *liveness))
        .flat_map(|daemon| [daemon.committed(), daemon])
        .collect()
}

/// How much has been followed.
#[derive(Default)]
struct Tally {
    lives: usize,
    daemons: usize,
    ways: u128,
}

impl Tally {
    /// Follows every way from `start` on; the looks themselves compare with the model.
    fn follow(&mut self, life: &[Moment], start: Knowledge, from: usize) {
        let mut daemons = Daemons(vec![(Daemon::new(start), 1)]);
        for at in from..life.len() {
            daemons = daemons.step(life, at);
            self.daemons += daemons.0.len();
        }
        self.ways += daemons.last_look(life).ways();
    }
}

/// With `HOOKD_TEST_ALL` set, also lives with up to three retries in a job.
#[test]
fn every_life_every_part_of_it_every_crash() {
    let retries = if std::env::var_os("HOOKD_TEST_ALL").is_some() { 3 } else { 1 };
    let mut tally = Tally::default();
    for life in (1..=3).flat_map(|ops| every_life(ops, retries)) {
        tally.lives += 1;
        tally.follow(&life, Knowledge::default(), 0);
        for first in (0..life.len()).filter(|first| life[*first].version().is_some()) {
            tally.follow(&life, Knowledge::adopted(&life, first), first);
        }
    }
    let Tally { lives, daemons, ways } = tally;
    println!("{lives} lives of jobs; {daemons} different daemons in {ways} ways to see them and crash");
    assert!(lives > 150, "only {lives} lives: the model of Ganeti has lost some");
}
