//! A world with a daemon on two nodes. It is seen from one of them at a time: `here` is that
//! node, and what it has of its own is where a world with one daemon has it.

use std::collections::{BTreeMap, VecDeque};

use super::files::Files;
use super::hooks::Hooks;
use super::kernel::Kernel;
use super::people::{Deed, People};
use super::{Happening, Message, World};

/// Lives of the second node's daemon are counted from here: no life is both nodes'.
const LIVES_THERE: u64 = 1_000;

/// What a node has of its own.
#[derive(Debug)]
pub struct Side {
    agenda: BTreeMap<(u64, u64), Happening>,
    inbox: VecDeque<Message>,
    life: u64,
    up: bool,
    start: bool,
    files: Files,
    kernel: Kernel,
    hooks: Hooks,
    people: People,
    /// What stands before each line of the story.
    name: &'static str,
}

/// A run that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The daemon's life.
    pub life: u64,
    /// By event and run.
    pub run: (i64, i64),
    /// How many failovers the daemon had been told of.
    pub told_of: u64,
}

impl Begun {
    /// Whether it was the second node's.
    pub fn is_there(&self) -> bool {
        self.life > LIVES_THERE
    }
}

impl World {
    /// Gives the other node a daemon, too, which starts after so many microseconds.
    pub fn add_side(&mut self, start: u64) {
        self.story.name = "1 ";
        self.far = Some(Box::new(Side {
            agenda: BTreeMap::new(),
            inbox: VecDeque::new(),
            life: LIVES_THERE,
            up: false,
            start: false,
            files: Files::default(),
            kernel: Kernel::default(),
            hooks: Hooks::new(&self.recipe),
            people: People { is_away: true, ..People::default() },
            name: "2 ",
        }));
        let calm = self.recipe.calm;
        self.from(true, |world| {
            world.later(start, Happening::People(Deed::Start));
            world.arrange_deeds(calm);
        });
    }

    /// What happens next, and whether it is in the other node's agenda.
    pub(super) fn first(&self) -> Option<((u64, u64), bool)> {
        let here = self.agenda.first_key_value().map(|(at, _)| (*at, false));
        let far = self.far.as_ref().and_then(|far| far.agenda.first_key_value());
        here.into_iter().chain(far.map(|(at, _)| (*at, true))).min()
    }

    /// Looks at the world from the other node.
    pub fn turn(&mut self) {
        let Some(far) = &mut self.far else { return };
        let far = &mut **far;
        std::mem::swap(&mut self.agenda, &mut far.agenda);
        std::mem::swap(&mut self.inbox, &mut far.inbox);
        std::mem::swap(&mut self.life, &mut far.life);
        std::mem::swap(&mut self.up, &mut far.up);
        std::mem::swap(&mut self.start, &mut far.start);
        std::mem::swap(&mut self.hooks, &mut far.hooks);
        std::mem::swap(&mut self.people, &mut far.people);
        std::mem::swap(&mut self.story.name, &mut far.name);
        self.files.turn(&mut far.files);
        self.kernel.turn(&mut far.kernel);
        self.ganeti.away = !self.ganeti.away;
    }

    /// Does this here, or as seen from the other node.
    pub fn from<T>(&mut self, far: bool, deed: impl FnOnce(&mut Self) -> T) -> T {
        if !far {
            return deed(self);
        }
        self.turn();
        let done = deed(self);
        self.turn();
        done
    }

    /// Does this where a process runs.
    pub fn beside(&mut self, process: usize, deed: impl FnOnce(&mut Self)) {
        let far = self.far.is_some() && !self.kernel.processes[process].here;
        self.from(far, deed);
    }

    /// Does this on each node there is a daemon on.
    pub fn everywhere(&mut self, mut deed: impl FnMut(&mut Self)) {
        deed(self);
        if self.far.is_some() {
            self.from(true, deed);
        }
    }

    /// Whether something waits for a daemon on either node.
    pub fn has_messages(&self) -> bool {
        !self.inbox.is_empty() || self.far.as_ref().is_some_and(|far| !far.inbox.is_empty())
    }
}
