//! Drives the engine as the daemon does: one input after the other, effects in order and
//! depth first, until nothing more is to be done now.

use std::time::Duration;

use ganeti_hookd::engine::Engine;
use ganeti_hookd::engine::change::{Change, Rerun};
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::{CommitError, Input, Past};
use ganeti_hookd::ganeti::event::Phase;
use ganeti_hookd::ganeti::job::{JobId, Timestamp};

use crate::dice::Dice;
use crate::journal::Journal;
use crate::judge::{Broken, Judge};
use crate::names::{described, effect_name, input_name, is_new_cluster, while_comparing};
use crate::outbox::Sender;
use crate::recipe::{Fault, HERE, Recipe};
use crate::sabotage::Sabotage;
use crate::world::files::job_id;
use crate::world::hooks::micros;
use crate::world::{Message, World};

/// How long after everything has calmed down all is to be delivered: luxid takes five minutes
/// to notice the last death, and a script may hang as long as it may.
pub const PATIENCE: u64 = 3_600_000_000;

/// Why what was going on does not go on.
enum End {
    Crashed,
    Broken(Broken),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// How a world went.
pub struct Outcome {
    pub broken: Option<Broken>,
    pub world: World,
    pub judge: Judge,
}

/// A world with an engine in it.
pub struct Driver {
    pub world: World,
    pub journal: Journal,
    pub judge: Judge,
    pub engine: Option<Engine>,
    /// Commits fail until then.
    pub full_until: u64,
    pub crashes: u64,
    /// How often it woke up after everything had happened.
    wakes: u64,
    pub inputs: u64,
    /// Hints that an engine that is broken on purpose takes up last.
    kept: Vec<JobId>,
    /// Turns that were taken without time passing.
    busy: u64,
    pub outbox: Sender,
    /// How long it is until the next piece is compared.
    pauses: Dice,
    /// Effects that were done.
    performed: u64,
}

/// Plays a world from beginning to end.
pub fn play(recipe: Recipe, told: bool) -> Outcome {
    let mut driver = Driver::new(World::new(recipe, told));
    let broken = driver.play().err();
    Outcome { broken, world: driver.world, judge: driver.judge }
}

impl Driver {
    /// A world in which no engine has started.
    pub fn new(world: World) -> Self {
        Self {
            judge: Judge::new(&world.recipe),
            outbox: Sender::new(world.recipe.seed),
            pauses: Dice::of(world.recipe.seed, "pauses"),
            performed: 0,
            world,
            journal: Journal::default(),
            engine: None,
            full_until: 0,
            crashes: 0,
            busy: 0,
            wakes: 0,
            inputs: 0,
            kept: Vec::new(),
        }
    }

    fn play(&mut self) -> Result<(), Broken> {
        loop {
            if self.world.start && self.engine.is_none() {
                self.start();
            }
            if self.engine.is_some() {
                self.outbox.goes(&self.journal, &mut self.world);
                self.turns()?;
            }
            self.judge.look(&self.world)?;
            if !self.wait()? {
                break;
            }
        }
        self.judge.at_the_end(&self.world, &self.journal)?;
        let sent = self.outbox.judge(&self.journal, &mut self.world);
        sent.map_err(|what| self.judge.broken("what is done is sent", None, &what))
    }

    /// Waits for what comes next. Returns whether there is anything.
    fn wait(&mut self) -> Result<bool, Broken> {
        let deadline = self.engine.as_ref().and_then(Engine::next_deadline);
        let deadline = deadline.map(|at| micros(at.saturating_sub(Duration::from_secs(1000))));
        let deadline = match self.world.recipe.sabotage {
            Some(Sabotage::NeverRests) => Some(self.world.now),
            _ => deadline,
        };
        let idle = deadline.is_none_or(|at| at > self.world.now + 900_000_000);
        let calm = self.world.recipe.calm;
        if self.world.now > calm + PATIENCE || (self.world.next().is_none() && idle && self.world.now >= calm)
        {
            return Ok(false);
        }
        let Some(next) = self.world.next().into_iter().chain(deadline).min() else {
            return Ok(false);
        };
        // Only a death that luxid has not noticed, or a clock that is set, keeps it awake.
        if self.world.next().is_none() && self.world.now > calm {
            self.wakes += 1;
            if self.wakes > 100 {
                let what = "it wakes up again and again though all is done";
                return Err(self.judge.broken("it rests when there is nothing to do", None, what));
            }
        }
        self.busy = if next <= self.world.now { self.busy + 1 } else { 0 };
        if self.busy > 2000 {
            return Err(self.judge.broken(
                "it rests when there is nothing to do",
                None,
                "the deadline is always now",
            ));
        }
        self.world.pass(next.saturating_sub(self.world.now));
        Ok(true)
    }

    /// The daemon starts.
    pub fn start(&mut self) {
        let time = self.world.time();
        self.world.begin_life();
        let damaged = std::mem::take(&mut self.journal.damaged);
        if damaged || (self.world.life > 1 && self.world.fails(Fault::SetAside, 2)) {
            self.world.story.say(|| "** the journal is set aside as damaged".to_owned());
            self.journal = Journal::set_aside(time);
            self.judge.journal_is_lost(&mut self.world);
        }
        let settings =
            self.world.people.settings.clone().unwrap_or_else(|| self.world.recipe.settings.clone());
        let window = micros(settings.master.failover_window) as i64;
        let mut remembered = self.journal.load(Timestamp::from_micros(time.as_micros() - window));
        if self.world.recipe.sabotage == Some(Sabotage::ForgetsWhatItLeft) {
            remembered.standby.clear();
        }
        if self.world.recipe.sabotage == Some(Sabotage::ForgetsThatItRunsAgain) {
            remembered.undelivered.iter_mut().for_each(|event| event.rerun = None);
        }
        if self.world.recipe.sabotage == Some(Sabotage::ForgetsPlaces) {
            remembered.outboxes.clear();
        }
        let life = self.world.life;
        self.world.story.say(|| format!("** the daemon starts (life {life})"));
        self.judge.life_begins(&self.world, settings.clone());
        let engine = Engine::new(settings, HERE.to_owned(), remembered, self.world.clocks());
        self.engine = Some(engine.in_pieces_of(self.world.recipe.pieces.0));
    }

    /// The engine's turn, until nothing more is to be done now.
    pub fn turns(&mut self) -> Result<(), Broken> {
        match self.work() {
            Ok(()) => {}
            Err(End::Broken(broken)) => return Err(broken),
            Err(End::Crashed) => {
                self.end_life(true);
                return Ok(());
            }
        }
        self.judge.turn_is_over(&self.world)?;
        if self.engine.as_ref().is_some_and(Engine::is_done) && self.judge.is_stopping() {
            self.judge.is_done(&self.world)?;
            self.world.story.say(|| "** the daemon has ended".to_owned());
            self.end_life(false);
        }
        Ok(())
    }

    fn work(&mut self) -> Result<(), End> {
        for round in 0.. {
            if round > 3_000 {
                let broken = self.judge.broken("a turn ends", None, "there is always more to do at once");
                return Err(broken.into());
            }
            while let Some(message) = self.world.inbox.pop_front() {
                match message {
                    Message::Plain(input) => self.give(input)?,
                    Message::Large(reading, id, read) => {
                        self.judge.is_read(id, &read, &mut self.world);
                        let version = read.version();
                        self.give(Input::LargeRead { reading, id: job_id(id), version })?;
                    }
                    Message::Rerun(which, alone) => self.rerun(which, alone)?,
                }
            }
            let before = self.performed;
            self.give(Input::Quiet)?;
            // A piece was compared, and nothing else was to be done.
            if self.is_comparing() && self.performed == before {
                let pause = self.pauses.between(0, self.world.recipe.pieces.1);
                self.world.pass(pause);
            }
            let has_more = self.engine.as_ref().is_some_and(Engine::has_more);
            if !has_more && let Some(id) = self.kept.pop() {
                self.take(Input::Hint(id))?;
                continue;
            }
            if !has_more && self.world.inbox.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn is_comparing(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::is_comparing)
    }

    /// Somebody wants an event of the history to run again, or one script of it.
    fn rerun(&mut self, which: u64, alone: bool) -> Result<(), End> {
        self.world.story.reach(Fault::Rerun.name());
        let seqs: Vec<i64> = self.journal.events.keys().copied().collect();
        let seq = seqs.get(which as usize % seqs.len().max(1)).copied();
        let found = seq.and_then(|seq| self.journal.recorded(seq));
        let phase = found.as_ref().map_or(Phase::Post, |found| found.event.event.key.phase);
        let scripts = self.world.script_names(phase);
        let script = scripts.get(which as usize % scripts.len().max(1)).filter(|_| alone).cloned();
        self.world.story.say(|| format!("** somebody wants event {seq:?} to run again: {script:?}"));
        let (asked, rerun) = (self.inputs, Rerun { script });
        self.give(Input::Rerun { asked, found: Ok(found.map(Box::new)), rerun, scripts })
    }

    /// The daemon is gone.
    pub fn end_life(&mut self, crashed: bool) {
        if self.is_comparing() && crashed {
            self.world.story.reach("a crash while a scan is compared");
        }
        self.engine = None;
        self.outbox.dies();
        self.world.end_life(crashed);
    }

    /// Gives the engine an input, and does what it says.
    fn give(&mut self, input: Input<'_>) -> Result<(), End> {
        self.world.story.reach(input_name(&input));
        let is_comparing = self.is_comparing();
        if is_comparing && let Some(mark) = while_comparing(&input) {
            self.world.story.reach(mark);
        }
        self.judge.given(&mut self.world, &input)?;
        self.inputs += 1;
        let sabotage = self.world.recipe.sabotage;
        let input = match sabotage {
            Some(sabotage) => sabotage.tells(input, self.inputs, &self.world),
            None => Some(input),
        };
        let Some(input) = input else { return Ok(()) };
        let forgets = sabotage == Some(Sabotage::ForgetsWhatIsLostWhileItCompares);
        if forgets && is_comparing && matches!(input, Input::Overflow | Input::WatchLost) {
            return Ok(());
        }
        if let (Some(Sabotage::LooksAtOldJobsFirst), Input::Hint(id)) = (sabotage, &input) {
            self.kept.push(*id);
            return Ok(());
        }
        self.take(input)
    }

    /// What the engine says to an input.
    fn take(&mut self, input: Input<'_>) -> Result<(), End> {
        let sabotage = self.world.recipe.sabotage;
        let clocks = match sabotage {
            Some(sabotage) => sabotage.clocks(&input, &self.world),
            None => self.world.clocks(),
        };
        let Some(engine) = &mut self.engine else { return Err(End::Crashed) };
        let before = (engine.role(), engine.is_comparing());
        let effects = engine.take(clocks, input);
        if engine.role() != before.0 && before.1 {
            self.world.story.reach("the role changes while a scan is compared");
        }
        self.judge.took(effects.len())?;
        for effect in effects {
            match sabotage {
                None => self.perform(effect)?,
                Some(sabotage) => sabotage
                    .does(effect, self.inputs, &mut self.world)
                    .into_iter()
                    .try_for_each(|effect| self.perform(effect))?,
            }
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), End> {
        self.performed += 1;
        self.world.story.reach(effect_name(&effect));
        if self.is_comparing() && is_new_cluster(&effect) {
            self.world.story.reach("numbers begin again while a scan is compared");
        }
        self.world.story.say(|| described(&effect));
        let delay = self.world.dice.below(12);
        self.world.pass(delay);
        self.judge.look(&self.world)?;
        self.crash(&effect, 8)?;
        if let Some(input) = self.world.has_gone_on(&effect) {
            self.judge.has_gone_on(&input);
            return self.give(input);
        }
        self.judge.is_to_be_done(&effect, &mut self.world, &self.journal)?;
        let touchy = matches!(
            effect,
            Effect::Start(_)
                | Effect::Ask(_)
                | Effect::Stop { .. }
                | Effect::Arm { .. }
                | Effect::Continue { .. }
        );
        self.do_it(effect)?;
        if touchy { self.crash(&Effect::Ready, 4) } else { Ok(()) }
    }

    /// The daemon may be killed at any effect; rather where that hurts.
    fn crash(&mut self, effect: &Effect, hurts: u64) -> Result<(), End> {
        let odds = match effect {
            Effect::Log(..)
            | Effect::Summary(_)
            | Effect::Announce
            | Effect::JobEnded(_)
            | Effect::Recollect => return Ok(()),
            Effect::Commit(_) | Effect::WriteAnew(_) | Effect::Start(_) | Effect::Continue { .. } => {
                5 * hurts
            }
            _ => 30 * hurts,
        };
        if self.crashes < 3 && self.world.fails(Fault::Crash, odds) {
            self.crashes += 1;
            self.world.story.say(|| "** the daemon is killed".to_owned());
            return Err(End::Crashed);
        }
        Ok(())
    }

    fn do_it(&mut self, effect: Effect) -> Result<(), End> {
        let world = &mut self.world;
        let input = match effect {
            Effect::Watch => {
                let result = world.watch();
                if world.is_without_queue() {
                    self.give(Input::NoQueue)?;
                }
                Input::Watched(result)
            }
            Effect::ReadSerial => Input::Serial(world.serial()),
            Effect::AskMaster => Input::Master(world.master()),
            Effect::AskCluster => Input::Cluster(Some(world.cluster())),
            Effect::Recollect => Input::Recollected(Past::default()),
            Effect::CountNodes => Input::OnlineNodes(world.online_nodes()),
            Effect::LookForPreHooks => Input::PreHooks(world.pre_hooks()),
            Effect::StartGuard => Input::GuardStarted(world.start_guard()),
            Effect::Find { token, process } => Input::Found { token, presence: world.find(token, &process) },
            Effect::Stop { token, job, limit, by_signal, .. } => {
                let result = world.stop(token, micros(limit), by_signal);
                world.story.say(|| format!("  the stop: {result:?}"));
                Input::Stopped { token, job, result }
            }
            Effect::Arm { token, .. } => Input::Armed { token, result: world.arm(token) },
            Effect::Prepare { seq, phase, paths } => {
                let (scripts, facts) = world.prepare(phase, &paths);
                Input::Prepared { seq, scripts, facts }
            }
            Effect::Recall { id, received } => {
                let told = match world.fails(Fault::RecallFails, 2) {
                    true => Err("the journal: disk I/O error".to_owned()),
                    false => Ok(self.journal.recall(id, received)),
                };
                Input::Recalled { id, received, told }
            }
            Effect::Read { id, limit, archive } => {
                let read = world.read(id.get(), limit, archive);
                let read = match world.recipe.sabotage {
                    Some(sabotage) => sabotage.reads(read, self.judge.last_read(id), world),
                    None => read,
                };
                self.judge.is_read(id.get(), &read, world);
                return self.give(Input::Version { id, version: read.version() });
            }
            Effect::Commit(changes) => return self.commit(&changes, false),
            Effect::WriteAnew(changes) => return self.commit(&changes, true),
            effect => {
                self.do_silently(effect);
                return Ok(());
            }
        };
        self.give(input)
    }

    /// What brings its input later, or none.
    fn do_silently(&mut self, effect: Effect) {
        let world = &mut self.world;
        match effect {
            Effect::Scan { scan } => world.scan(scan),
            Effect::ReadLarge { reading, id } => world.read_large(reading, id.get()),
            Effect::LoadKernelStop => world.load_kernel_stop(),
            Effect::Disarm { token, .. } => world.disarm(token),
            Effect::Unwatch(token) => world.unwatch(token),
            Effect::Shorten { token, limit } => world.shorten(token, micros(limit)),
            Effect::Continue { token, .. } => world.let_go(token),
            Effect::Plan(request) => world.plan(request),
            Effect::Start(run) => world.start_script(&run),
            Effect::Ask(run) => world.ask_node(&run),
            Effect::TellGaneti(death) => world.tell_ganeti(death),
            Effect::EndRuns => world.end_runs(),
            Effect::Outboxes { outboxes, sends } => {
                self.outbox.assign(&outboxes, sends, &self.journal, world.clocks());
            }
            _ => {}
        }
    }

    fn commit(&mut self, changes: &[Change], anew: bool) -> Result<(), End> {
        if self.world.fails(Fault::CommitFails, 12) {
            self.full_until = self.world.now + self.world.of(Fault::CommitFails).spread(1, 8_000_000);
        }
        if !anew && self.world.fails(Fault::Damage, 20) {
            self.journal.damaged = true;
        }
        let damaged = self.journal.damaged && !anew;
        if damaged {
            self.judge.is_passed_over(changes);
        }
        if damaged || self.world.now < self.full_until {
            self.world.story.say(|| "  the journal cannot be written".to_owned());
            let text = if damaged { "database disk image is malformed" } else { "database or disk is full" };
            return self.give(Input::Committed(Err(CommitError { text: text.to_owned(), damaged })));
        }
        let old = std::mem::take(&mut self.journal);
        let old = match self.world.recipe.sabotage {
            _ if !anew => old,
            Some(sabotage) => sabotage.writes_anew(old),
            None => old.anew(),
        };
        let (new, written) = match old.with(changes) {
            Ok(new) => new,
            Err(what) => return Err(self.judge.broken("the journal can be written", None, &what).into()),
        };
        self.journal = new;
        self.journal.last_written = Some(self.world.time());
        if anew {
            self.judge.history_is_lost(&mut self.world);
        }
        self.judge.is_written(changes, &mut self.world, &self.journal)?;
        self.crash(&Effect::Ready, 2)?;
        self.give(Input::Committed(Ok(written)))
    }
}
