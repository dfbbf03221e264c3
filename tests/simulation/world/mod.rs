//! A made-up world around the engine: one thread, no clock but its own, no chance but its dice.

pub mod arming;
pub mod files;
pub mod ganeti;
pub mod hooks;
pub mod kernel;
pub mod people;
pub mod sides;

use std::collections::{BTreeMap, VecDeque};

use ganeti_hookd::engine::effect::{Death, Token};
use ganeti_hookd::engine::input::{Input, Now};
use ganeti_hookd::ganeti::event::EventKey;
use ganeti_hookd::ganeti::job::Timestamp;

use crate::dice::Dice;
use crate::recipe::{Fault, Recipe};
use crate::story::Story;
use files::{Files, Read};
use ganeti::Ganeti;
use hooks::Hooks;
use kernel::Kernel;
use sides::Side;

/// When the world begins, by its wall clock: seconds since the epoch.
const EPOCH: i64 = 1_795_363_318;

/// Something that is going to happen.
#[derive(Debug)]
pub enum Happening {
    Submit,
    Write(usize),
    Luxid(usize),
    Step(usize),
    Die(usize),
    Notice(usize),
    /// Ganeti is told of a death, by the daemon's life of this number.
    Told(u64, Death),
    Archive(usize),
    Clean(usize),
    /// A hint of the watch of this number.
    Hint(u64, i64),
    Tell(u64, Input<'static>),
    OverflowTold(u64),
    WatchLost,
    ExitTold(u64, Token),
    GuardLimit(usize, u64),
    GuardLetsGo(u64),
    GuardEnds,
    ScanPiece(u64, u64, u64, u64),
    LargeRead(u64, u64, i64),
    LargeTold(u64, u64, i64, Read),
    Ends(u64, i64, i64),
    People(people::Deed),
}

/// What waits for the engine.
#[derive(Debug)]
pub enum Message {
    /// As it is given.
    Plain(Input<'static>),
    /// A large file; the job is borrowed only while it is given.
    Large(u64, i64, Read),
    /// Somebody wants an event to run again, or one script of it; the journal tells what there is.
    Rerun(u64, bool),
}

/// All that is not the engine, and not its journal.
#[derive(Debug)]
pub struct World {
    pub recipe: Recipe,
    pub story: Story,
    /// The steady clock, in microseconds.
    pub now: u64,
    /// How far people have set the wall clock, in microseconds.
    pub clock: i64,
    agenda: BTreeMap<(u64, u64), Happening>,
    order: u64,
    pub inbox: VecDeque<Message>,
    pub dice: Dice,
    faults: Vec<Dice>,
    /// The daemon's life; what an earlier one asked for comes to nothing.
    pub life: u64,
    /// Whether the daemon runs.
    pub up: bool,
    /// It is to be started.
    pub start: bool,
    pub files: Files,
    pub ganeti: Ganeti,
    pub kernel: Kernel,
    pub hooks: Hooks,
    pub people: people::People,
    /// What the other node has of its own, in a world with a daemon on both.
    pub far: Option<Box<Side>>,
    /// What has begun of each event, on either node.
    pub begun: BTreeMap<(EventKey, Timestamp), Vec<sides::Begun>>,
}

impl World {
    /// The world of a recipe, before anything has happened.
    pub fn new(recipe: Recipe, told: bool) -> Self {
        let seed = recipe.seed;
        let mut world = Self {
            story: Story::new(told),
            now: 0,
            clock: 0,
            agenda: BTreeMap::new(),
            order: 0,
            inbox: VecDeque::new(),
            dice: Dice::of(seed, "world"),
            faults: Fault::ALL.iter().map(|(_, name, _)| Dice::of(seed, name)).collect(),
            life: 0,
            up: false,
            start: false,
            files: Files::default(),
            ganeti: Ganeti::default(),
            kernel: Kernel::default(),
            hooks: Hooks::new(&recipe),
            people: people::People::default(),
            far: None,
            begun: BTreeMap::new(),
            recipe,
        };
        world.arrange();
        world
    }

    /// What time it is, as the engine is told.
    pub fn clocks(&self) -> Now {
        Now { time: self.time(), steady: std::time::Duration::from_micros(self.now + 1_000_000_000) }
    }

    /// The wall clock.
    pub fn time(&self) -> Timestamp {
        Timestamp::from_micros(EPOCH * 1_000_000 + self.clock + self.now as i64)
    }

    /// Whether it is a time for faults.
    pub fn is_wild(&self) -> bool {
        self.now < self.recipe.calm
    }

    /// Whether this goes wrong now: once in `n` times where it may.
    pub fn fails(&mut self, fault: Fault, n: u64) -> bool {
        let fails = self.is_wild() && self.recipe.has(fault) && self.faults[fault as usize].one_in(n);
        if fails {
            self.story.reach(fault.name());
        }
        fails
    }

    /// The dice of a fault.
    pub fn of(&mut self, fault: Fault) -> &mut Dice {
        &mut self.faults[fault as usize]
    }

    /// Has this happen so many microseconds from now.
    pub fn later(&mut self, delay: u64, happening: Happening) {
        self.order += 1;
        self.agenda.insert((self.now + delay, self.order), happening);
    }

    /// Has the engine of this life told, so many microseconds from now.
    pub fn tell_later(&mut self, delay: u64, input: Input<'static>) {
        self.later(delay, Happening::Tell(self.life, input));
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<u64> {
        self.first().map(|((at, _), _)| at)
    }

    /// Time passes; what is due by then happens.
    pub fn pass(&mut self, micros: u64) {
        let until = self.now + micros;
        while let Some(((at, _), far)) = self.first().filter(|((at, _), _)| *at <= until) {
            self.set_now(at);
            self.from(far, |world| {
                if let Some((_, happening)) = world.agenda.pop_first() {
                    world.happen(happening);
                }
            });
        }
        self.set_now(until);
    }

    fn set_now(&mut self, now: u64) {
        // What happens may take time itself: then the rest is late.
        self.now = self.now.max(now);
        self.story.now = self.now;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit => self.submit(),
            Happening::Write(job) => self.write_queued(job),
            Happening::Luxid(job) => self.luxid_starts(job),
            Happening::Step(process) => self.beside(process, |world| world.step(process)),
            Happening::Die(process) => self.killed(process),
            Happening::Notice(job) => self.luxid_notices(job),
            Happening::Told(life, death) => self.told(life, death),
            Happening::Archive(job) => self.archive_job(job),
            Happening::Clean(job) => self.clean(job),
            Happening::Hint(watch, id) => self.hinted(watch, id),
            Happening::Tell(life, input) if life == self.life && self.up => {
                self.inbox.push_back(Message::Plain(input));
            }
            Happening::Tell(..) => {}
            Happening::OverflowTold(watch) => self.overflow_told(watch),
            Happening::WatchLost => self.lose_watch(),
            Happening::ExitTold(life, token) => self.exit_told(life, token),
            Happening::GuardLimit(process, since) => self.guard_limit(process, since),
            Happening::GuardLetsGo(life) => self.guard_lets_go(life),
            Happening::GuardEnds => self.guard_ends(),
            Happening::ScanPiece(life, scan, piece, pieces) => self.scan_piece(life, scan, piece, pieces),
            Happening::LargeRead(life, reading, id) => self.large_read(life, reading, id),
            Happening::LargeTold(life, reading, id, read) if life == self.life && self.up => {
                self.inbox.push_back(Message::Large(reading, id, read));
            }
            Happening::LargeTold(..) => {}
            Happening::Ends(life, seq, run) => self.run_ends(life, seq, run),
            Happening::People(deed) => self.people_do(deed),
        }
    }

    /// A new life of the daemon begins.
    pub fn begin_life(&mut self) {
        self.life += 1;
        self.up = true;
        self.start = false;
        self.inbox.clear();
        self.release_leftovers();
    }

    /// The daemon is gone, in whatever way; it is started again after a while.
    pub fn end_life(&mut self, crashed: bool) {
        self.up = false;
        self.inbox.clear();
        self.hooks_without_daemon(crashed);
        self.kernel_without_daemon(crashed);
        let delay = if self.is_wild() { self.dice.spread(2_000, 40_000_000) } else { 100_000 };
        self.later(delay, Happening::People(people::Deed::Start));
    }
}
