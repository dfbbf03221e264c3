//! What a world is made of. A seed gives a recipe; a failing one is made smaller piece by
//! piece, and the same promise must still be broken.

use std::time::Duration;

use ganeti_hookd::engine::settings::{Hooks, Nodes, PreMode, Settings};
use ganeti_hookd::ganeti::event::PostStatus;

use crate::dice::Dice;
use crate::outbox;
use crate::sabotage::Sabotage;

macro_rules! faults {
    ($($name:ident $word:literal $percent:literal,)*) => {
        /// What may go wrong, or at least not as usual.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($name,)* }

        impl Fault {
            /// Each, what it is called, and in how many of a hundred worlds it may happen.
            pub const ALL: &[(Fault, &'static str, u64)] = &[$((Fault::$name, $word, $percent),)*];
        }
    };
}

faults! {
    Crash "a crash" 35,
    GuardDiesToo "the guard dies with the daemon" 30,
    ScriptsLiveOn "scripts live on after a crash" 50,
    Terminate "SIGTERM" 25,
    Overflow "inotify overflows" 25,
    WatchLost "the watch is lost" 15,
    WatchRefused "the queue cannot be watched" 10,
    Kill "a job process is killed" 40,
    LateExit "an exit is told late" 20,
    PidReuse "a process ID is used again" 20,
    StopFails "a stop fails" 15,
    LateLanding "a stop lands late" 25,
    NoKernelStop "the kernel stops nobody" 30,
    ArmFails "a process cannot be armed" 10,
    GuardEnds "the guard ends" 15,
    NoGuard "no guard can be started" 10,
    Admin "an administrator stops and continues" 12,
    CommitFails "commits fail" 25,
    Damage "the journal is damaged" 12,
    SetAside "the journal is set aside at the start" 5,
    SlowPlan "the planner is slow" 25,
    PlanProblem "a plan has a problem" 10,
    NodeSlow "a node daemon is slow" 20,
    NodeRefuses "a node daemon refuses" 15,
    NodeSilent "a node daemon is silent" 12,
    Postponed "a run is postponed" 20,
    ScriptFails "a script fails" 25,
    ScriptHangs "a script hangs" 15,
    ScriptRefused "a script is refused" 15,
    DirRefused "a hooks directory is refused" 6,
    DirShortage "a hooks directory cannot be read" 10,
    ClockStep "the clock is set" 15,
    Reload "the configuration is read again" 20,
    BadReload "the configuration is bad" 8,
    Failover "a failover" 25,
    MasterUnknown "the master is unknown" 12,
    Recreate "the cluster is made again" 6,
    Leftovers "many jobs are left over" 4,
    Stray "a stray job file" 12,
    Large "a large job file" 15,
    TooLarge "a job file that is too large" 6,
    BadFile "a bad job file" 15,
    ReadFails "a job file cannot be read" 15,
    ScanFails "the queue cannot be listed" 10,
    PeopleRemove "people remove a job file" 12,
    Cleaner "the archive is cleaned" 15,
    ProcessUnknown "whether a process lives cannot be told" 10,
    ProcessShortage "a process cannot be watched now" 10,
    RecallFails "the history cannot be read" 8,
    SerialUnknown "the serial cannot be read" 8,
    QuickPrune "history is kept for a moment" 12,
    Rerun "people have events run again" 30,
}

impl Fault {
    /// What it is called.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The name of this node.
pub const HERE: &str = "node1.example.com";
/// The name of the node that the master may fail over to.
pub const THERE: &str = "node2.example.com";

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub seed: u64,
    pub faults: Vec<Fault>,
    /// Jobs that people submit.
    pub jobs: u64,
    /// The most opcodes that a job has.
    pub ops: u64,
    /// Jobs that had ended before the daemon first started.
    pub leftovers: u64,
    /// When everything that goes wrong has gone wrong, in microseconds.
    pub calm: u64,
    /// So many jobs are compared at once with what a scan has found, and up to so many microseconds
    /// pass until the next are.
    pub pieces: (usize, u64),
    /// How the daemon is configured.
    pub settings: Settings,
    /// How many pre and post scripts this node has.
    pub scripts: (u64, u64),
    /// The nodes that are online.
    pub online: usize,
    /// How the engine is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Recipe {
    /// The world of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, "recipe");
        // Some worlds have one fault at most: what it does is seen best alone.
        let only = dice.one_in(4).then(|| dice.below(2 * Fault::ALL.len() as u64) as usize);
        let is_in = |(at, percent): (usize, u64), dice: &mut Dice| match only {
            Some(only) => only == at,
            None => dice.percent(percent),
        };
        let faults: Vec<Fault> = Fault::ALL
            .iter()
            .enumerate()
            .filter(|(at, (.., percent))| is_in((*at, *percent), &mut dice))
            .map(|(_, (fault, ..))| *fault)
            .collect();
        let leftovers = match faults.contains(&Fault::Leftovers) {
            true => dice.spread(100, 3000),
            false => dice.below(4),
        };
        let quick = faults.contains(&Fault::QuickPrune);
        let mut settings = settings(&mut dice);
        if quick {
            settings.history.keep = Duration::from_secs(dice.between(1, 60));
        }
        directories(&mut settings.hooks, seed);
        settings.deaths.tell_ganeti = Dice::of(seed, "deaths").one_in(2);
        if !quick {
            settings.outboxes = outbox::settings(seed);
        }
        Self {
            seed,
            jobs: dice.spread(1, 8),
            ops: dice.between(1, 4),
            leftovers,
            calm: dice.spread(5_000_000, 120_000_000),
            scripts: (*dice.pick(&[0, 1, 1, 2, 3]), *dice.pick(&[0, 1, 1, 2, 3])),
            pieces: pieces(seed, leftovers),
            online: dice.between(1, 3) as usize,
            settings,
            faults,
            sabotage: None,
        }
    }

    /// Whether this may go wrong.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Smaller worlds, of which each lacks one thing.
    pub fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        for fault in &self.faults {
            let faults = self.faults.iter().copied().filter(|other| other != fault).collect();
            smaller.push(Self { faults, ..self.clone() });
        }
        if self.leftovers > 0 {
            smaller.push(Self { leftovers: self.leftovers / 2, ..self.clone() });
        }
        for jobs in [1, self.jobs / 2, self.jobs - 1] {
            if jobs > 0 && jobs < self.jobs {
                smaller.push(Self { jobs, ..self.clone() });
            }
        }
        if self.ops > 1 {
            smaller.push(Self { ops: self.ops - 1, ..self.clone() });
        }
        if self.pieces.1 > 0 {
            smaller.push(Self { pieces: (self.pieces.0, 0), ..self.clone() });
        }
        if self.calm > 1_000_000 {
            smaller.push(Self { calm: self.calm / 2, ..self.clone() });
        }
        smaller
    }
}

/// In small worlds, too, much is to happen between two pieces of what is compared.
fn pieces(seed: u64, leftovers: u64) -> (usize, u64) {
    let mut dice = Dice::of(seed, "pieces");
    let jobs = *dice.pick(&[1, 1, 2, 5, 128]);
    (jobs.max(leftovers / 20) as usize, *dice.pick(&[0, 1_000, 50_000, 50_000]))
}

/// Some have directories of opcodes on other nodes, and Ganeti's own post hooks after failures.
fn directories(hooks: &mut Hooks, seed: u64) {
    let mut dice = Dice::of(seed, "directories");
    if dice.one_in(3) {
        hooks.opcode_directories = Nodes::Targets;
    }
    if dice.one_in(3) {
        let posts = [&[PostStatus::Disappeared][..], &[PostStatus::Disappeared, PostStatus::Failed]];
        hooks.native_post = dice.pick(&posts).to_vec();
        hooks.native_paths = vec![dice.pick(&["*", "instance-*"]).to_string()];
    }
}

/// Settings that an administrator may have chosen.
pub fn settings(dice: &mut Dice) -> Settings {
    let mut settings = Settings::default();
    let hooks = &mut settings.hooks;
    hooks.pre = *dice.pick(&[
        PreMode::Hold,
        PreMode::Hold,
        PreMode::Hold,
        PreMode::Hold,
        PreMode::Notify,
        PreMode::Off,
    ]);
    hooks.workers = *dice.pick(&[1, 2, 4, 16]);
    hooks.hold_limit = Duration::from_millis(*dice.pick(&[500, 5_000, 60_000]));
    hooks.timeout = Duration::from_secs(*dice.pick(&[2, 30, 300]));
    hooks.nodes = *dice.pick(&[Nodes::Targets, Nodes::Master]);
    if dice.one_in(4) {
        hooks.skip_opcodes = vec!["OP_CLUSTER_*".to_owned()];
    }
    settings
}
