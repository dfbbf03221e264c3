//! The judge: knows what the world really did, and what the daemon promises (design, sections
//! 3, 5, 7 and 10). It looks at every input, every effect, every commit, and the end.

mod deaths;
mod directories;
mod end;
mod events;
mod holds;
mod reads;
mod reruns;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ganeti_hookd::engine::change::{Change, EventState};
use ganeti_hookd::engine::effect::{Effect, Token};
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::settings::Settings;
use ganeti_hookd::ganeti::event::{Event, EventKey, Phase};
use ganeti_hookd::ganeti::job::{Job, JobId, Timestamp};
use ganeti_hookd::ganeti::opcodes::View;

use crate::journal::Journal;
use crate::recipe::{HERE, Recipe};
use crate::world::World;

/// Plans that may be outstanding.
const PLANS: usize = 100;

/// Effects of one input: of each of 1,024 jobs that a commit tells of its end, and a line of the log
/// for a pre and a post of four opcodes; and what begins.
const EFFECTS: usize = 1024 * (1 + 2 * 4) + 1000;

/// Changes of one commit, besides whose each event is to deliver: of each of 1,024 jobs how far it
/// was told, its number, and a pre and a post of four opcodes; and what runs change.
const CHANGES: usize = 1024 * (2 + 2 * 4) + 1000;

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct Broken {
    pub promise: &'static str,
    pub job: Option<i64>,
    pub what: String,
}

/// An event that was told.
#[derive(Clone, Debug)]
struct Told {
    seq: i64,
    /// The daemon's life in which it was noticed, and when.
    life: u64,
    at: u64,
}

/// A job by number and time of receipt, as [`ganeti_hookd`] does.
type Name = (JobId, i64);

/// What the judge remembers.
#[derive(Debug)]
pub struct Judge {
    /// The settings, and all that this life had.
    settings: Settings,
    settings_of_life: Vec<Settings>,
    told: BTreeMap<(Name, u32, Phase), Told>,
    names: BTreeMap<i64, (Name, EventKey)>,
    /// When this life first tried to write an event.
    noticed: BTreeMap<i64, u64>,
    /// Since when what happens is not history.
    required_since: Option<u64>,
    /// When there was no queue on the first start; and whether a later start knows that.
    no_queue_at: Option<u64>,
    no_queue_is_written: Option<u64>,
    /// When a journal was written anew last, without the history.
    history_lost_at: Option<u64>,
    /// Up to when jobs may have been told whose numbers are not accounted for, by the clock.
    began_again: Option<Timestamp>,
    /// What the engine was told last of who is master, and when it asked.
    is_master: bool,
    asked_at: Option<u64>,
    /// Of how many failovers it has been told, and when it was told in this life to take over.
    told_of: u64,
    takes_over_at: Option<u64>,
    /// How often what is undone has changed hands since something was written.
    hands: usize,
    /// When it took over after each; what a life has not written is nothing.
    takeovers: BTreeMap<u64, u64>,
    /// When it was told to stop.
    stopping: Option<u64>,
    versions: BTreeMap<JobId, Rc<Job<'static>>>,
    tokens: BTreeMap<Token, usize>,
    /// Hints that have not been taken up, and how many other reads there had been.
    hinted: BTreeMap<JobId, u64>,
    other_reads: u64,
    /// How often each file's version was read.
    reads: BTreeMap<i64, (u64, u64)>,
    restless: Option<i64>,
    plans: BTreeSet<i64>,
    /// The scripts that this life prepared for an event, and the nodes it planned.
    prepared: BTreeMap<i64, Vec<String>>,
    targets: BTreeMap<i64, Vec<(String, String)>>,
    /// What this life had planned: the event, and what it was given.
    planned: BTreeMap<i64, (Event, View)>,
    looked: BTreeMap<i64, directories::Looked>,
    /// Of these scripts those that will run, and have not ended.
    to_run: BTreeMap<i64, BTreeSet<String>>,
    /// The last commit failed.
    stalled: bool,
    /// When a job that stands still last waited for something that it may wait for.
    waited_at: BTreeMap<Token, u64>,
    /// When something that anybody may have waited for came.
    eased_at: u64,
    /// When something was short that scripts need.
    short_at: Option<u64>,
    /// Events that are this node's to deliver, as far as that is written.
    pending: BTreeMap<i64, JobId>,
    /// Events that began while their jobs stood still for them.
    begun_held: BTreeSet<i64>,
    attempts: BTreeMap<(i64, String, String), Vec<runs::Attempt>>,
    /// Runs that began by event and number, and what has ended of each event, on which node.
    started: BTreeMap<(i64, i64), (String, String)>,
    ended: BTreeSet<(i64, String, String)>,
    /// Events of which a script was told that it is late.
    said_late: BTreeSet<i64>,
    /// Events that have been delivered.
    done: BTreeSet<(EventKey, i64)>,
    /// Events that were done when the journal that was to hold them proved damaged.
    passed_over: BTreeSet<(EventKey, i64)>,
    /// Before which opcode a process is to be stopped, and has been.
    to_stop: BTreeMap<Token, (usize, usize)>,
    stopped: BTreeSet<(usize, usize)>,
    /// Events in standby that a takeover makes ours.
    to_be_adopted: BTreeSet<i64>,
    roles_changed: u64,
    /// Events that somebody wanted to run again, by what the asking is called.
    asked_for: BTreeMap<u64, i64>,
    /// Events that run again: their runs with lower numbers count no more; and whether that is over.
    again: BTreeMap<i64, reruns::Again>,
    /// Events that were over when the journal that was to hold that proved damaged.
    over_unwritten: BTreeSet<i64>,
    /// What events that run again have to come after, and whether their plans are being made.
    behind: BTreeMap<i64, reruns::Behind>,
    /// Deaths that Ganeti was told of, by the livelock.
    told_dead: BTreeSet<String>,
    /// The most there was of each bounded thing.
    pub most: BTreeMap<&'static str, u64>,
}

impl Judge {
    pub fn new(recipe: &Recipe) -> Self {
        Self {
            settings: recipe.settings.clone(),
            settings_of_life: Vec::new(),
            told: BTreeMap::new(),
            names: BTreeMap::new(),
            noticed: BTreeMap::new(),
            required_since: None,
            no_queue_at: None,
            no_queue_is_written: None,
            history_lost_at: None,
            began_again: None,
            is_master: false,
            asked_at: None,
            told_of: 0,
            takes_over_at: None,
            hands: 0,
            takeovers: BTreeMap::new(),
            stopping: None,
            versions: BTreeMap::new(),
            tokens: BTreeMap::new(),
            hinted: BTreeMap::new(),
            other_reads: 0,
            reads: BTreeMap::new(),
            restless: None,
            plans: BTreeSet::new(),
            prepared: BTreeMap::new(),
            targets: BTreeMap::new(),
            planned: BTreeMap::new(),
            looked: BTreeMap::new(),
            to_run: BTreeMap::new(),
            stalled: false,
            waited_at: BTreeMap::new(),
            eased_at: 0,
            short_at: None,
            pending: BTreeMap::new(),
            begun_held: BTreeSet::new(),
            attempts: BTreeMap::new(),
            started: BTreeMap::new(),
            ended: BTreeSet::new(),
            said_late: BTreeSet::new(),
            done: BTreeSet::new(),
            passed_over: BTreeSet::new(),
            to_stop: BTreeMap::new(),
            stopped: BTreeSet::new(),
            to_be_adopted: BTreeSet::new(),
            roles_changed: 0,
            asked_for: BTreeMap::new(),
            again: BTreeMap::new(),
            over_unwritten: BTreeSet::new(),
            behind: BTreeMap::new(),
            told_dead: BTreeSet::new(),
            most: BTreeMap::new(),
        }
    }

    pub fn broken(&self, promise: &'static str, job: Option<i64>, what: &str) -> Broken {
        Broken { promise, job, what: what.to_owned() }
    }

    /// Something is bounded.
    pub fn at_most(&mut self, thing: &'static str, n: u64, bound: u64) -> Result<(), Broken> {
        let most = self.most.entry(thing).or_default();
        *most = (*most).max(n);
        if n > bound {
            return Err(self.broken("everything is bounded", None, &format!("{thing}: {n}")));
        }
        Ok(())
    }

    /// A new life of the daemon begins.
    pub fn life_begins(&mut self, world: &World, settings: Settings) {
        self.settings_of_life = vec![settings.clone()];
        self.settings = settings;
        (self.is_master, self.asked_at, self.stopping) = (false, None, None);
        // What an earlier life left is taken up.
        (self.takes_over_at, self.hands) = (None, 1);
        self.no_queue_at = self.no_queue_is_written;
        self.noticed.clear();
        self.versions.clear();
        self.tokens.clear();
        self.hinted.clear();
        self.plans.clear();
        self.prepared.clear();
        self.targets.clear();
        self.planned.clear();
        self.looked.clear();
        self.to_run.clear();
        (self.stalled, self.short_at) = (false, None);
        self.begun_held.clear();
        self.waited_at.clear();
        self.to_be_adopted.clear();
        self.behind.clear();
        self.roles_changed = world.people.roles_changed;
    }

    /// The journal was set aside: what happened up to now is history again.
    pub fn journal_is_lost(&mut self, world: &mut World) {
        (self.required_since, self.no_queue_at, self.no_queue_is_written) = (None, None, None);
        self.began_again = None;
        // What was told is forgotten: it is told as on a first start.
        self.told.clear();
        self.attempts.clear();
        self.pending.clear();
        // Numbers come again if more events were told than seconds have passed since the last time.
        self.said_late.clear();
        for job in &mut world.ganeti.jobs {
            job.truth.first_read = None;
        }
    }

    /// The journal was written anew: what was told before that, only the engine's memory tells.
    pub fn history_is_lost(&mut self, world: &mut World) {
        self.history_lost_at = Some(world.now);
        world.ganeti.jobs.iter_mut().for_each(|job| job.truth.history_is_lost());
    }

    /// Whether the daemon has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The engine is about to be given this.
    pub fn given(&mut self, world: &mut World, input: &Input<'_>) -> Result<(), Broken> {
        match input {
            Input::Hint(id) if self.stopping.is_none() => {
                let since = world.files.hinted_at(id.get()).unwrap_or(self.other_reads);
                self.hinted.entry(*id).or_insert(since);
            }
            Input::NoQueue if self.required_since.is_none() && self.no_queue_is_written.is_none() => {
                self.no_queue_at = Some(world.now);
            }
            Input::Stop => drop(self.stopping.get_or_insert(world.now)),
            Input::Reloaded(Ok((settings, _))) => {
                self.settings = (**settings).clone();
                self.settings_of_life.push(self.settings.clone());
            }
            Input::Planned { seq, plan, .. } => {
                self.plans.remove(seq);
                self.eased_at = world.now;
                if let Some((event, view)) = self.planned.get_mut(seq) {
                    *view = plan.view.clone();
                    let targets = directories::elsewhere(event, view, &self.settings.hooks);
                    self.targets.insert(*seq, targets);
                }
            }
            Input::Prepared { seq, scripts, .. } => {
                if let Ok(scripts) = scripts {
                    let run = scripts.iter().filter(|script| script.refusal.is_none());
                    let left = run.map(|script| self.name_of(*seq, script));
                    let is_over = |name: &String| self.ended.contains(&(*seq, HERE.to_owned(), name.clone()));
                    self.to_run.insert(*seq, left.filter(|name| !is_over(name)).collect());
                    self.prepared
                        .insert(*seq, scripts.iter().map(|script| self.name_of(*seq, script)).collect());
                } else {
                    self.short_at = Some(world.now);
                    self.prepared.entry(*seq).or_default();
                }
            }
            Input::Committed(result) => {
                self.stalled = result.is_err();
                self.eased_at = world.now;
            }
            Input::RunEnded { run, seq, .. } => self.has_ended(*seq, *run),
            Input::Rerun { asked, found: Ok(Some(found)), .. } => {
                self.asked_for.insert(*asked, found.event.seq);
            }
            Input::Stopped { token, result: Ok(_), .. } => self.stopped.extend(self.to_stop.get(token)),
            Input::Postponed { run, seq, .. } => {
                self.short_at = Some(world.now);
                self.postponed(*seq, *run, world);
            }
            _ => {}
        }
        Ok(())
    }

    /// The engine has answered with so many effects.
    pub fn took(&mut self, effects: usize) -> Result<(), Broken> {
        self.at_most("effects of an input", effects as u64, EFFECTS as u64)
    }

    /// An effect is about to be done.
    pub fn is_to_be_done(
        &mut self,
        effect: &Effect,
        world: &mut World,
        journal: &Journal,
    ) -> Result<(), Broken> {
        match effect {
            Effect::Read { id, .. } | Effect::ReadLarge { id, .. } => self.comes_first(*id, world),
            Effect::Commit(changes) | Effect::WriteAnew(changes) => {
                self.is_to_be_written(changes, world.now);
                Ok(())
            }
            Effect::AskMaster => {
                self.asks_master(world, journal);
                Ok(())
            }
            Effect::Find { token, process } => self.finds(world, *token, process),
            Effect::Stop { token, job, limit, .. } => self.stops(world, *token, *job, *limit),
            Effect::Arm { token, job } => self.arms(world, *token, *job),
            Effect::Continue { token, .. } => self.lets_go(world, *token),
            Effect::Plan(request) => {
                self.hurries(world, request)?;
                if request.urgent {
                    self.begun_held.insert(request.seq);
                }
                self.plans.insert(request.seq);
                self.planned.insert(request.seq, (request.event.clone(), View::default()));
                self.has_its_turn(request.seq, world, journal, true);
                self.at_most("outstanding plans", self.plans.len() as u64, PLANS as u64)
            }
            Effect::Start(run) => {
                let script = run.script.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.begins(world, journal, (run.seq, run.run), &script, &run.env)
            }
            Effect::Ask(run) => {
                self.asks(world, (run.seq, run.run), &run.path)?;
                self.begins(world, journal, (run.seq, run.run), "", &run.env)
            }
            Effect::Prepare { seq, phase, paths } => {
                self.has_its_turn(*seq, world, journal, false);
                self.prepares(*seq, *phase, paths);
                Ok(())
            }
            Effect::TellGaneti(death) => self.tells_ganeti(world, journal, death),
            Effect::AnswerRerun { asked, result } => {
                self.answers_rerun(world, journal, *asked, result.is_ok())
            }
            _ => Ok(()),
        }
    }

    /// The engine asks who is master, and will now be told.
    fn asks_master(&mut self, world: &mut World, journal: &Journal) {
        self.asked_at = Some(world.now);
        if world.people.roles_changed != self.roles_changed {
            self.roles_changed = world.people.roles_changed;
            self.to_be_adopted.clear();
        }
        if let Ok(master) = world.master() {
            let is_master = master.as_deref() == Some(HERE);
            if is_master && !self.is_master {
                self.takes_over(world, journal);
            }
            self.hands += usize::from(is_master != self.is_master);
            self.is_master = is_master;
            if self.told_of != world.people.heard_of || self.takes_over_at.is_none() {
                if let Some(at) = self.takes_over_at {
                    self.takeovers.entry(self.told_of).or_insert(at);
                }
                self.told_of = world.people.heard_of;
                self.takes_over_at = is_master.then_some(world.now);
            }
        }
    }

    /// This is in the journal now.
    pub fn is_written(
        &mut self,
        changes: &[Change],
        world: &mut World,
        journal: &Journal,
    ) -> Result<(), Broken> {
        let changes_hands = |change: &&Change| {
            matches!(change, Change::Adopt(_) | Change::EventState(_, EventState::Standby))
        };
        let (hands, events) = (changes.iter().filter(changes_hands).count(), journal.events.len());
        self.at_most("changes of a commit", (changes.len() - hands) as u64, CHANGES as u64)?;
        let most = events * (1 + std::mem::take(&mut self.hands));
        if hands > most {
            let what = format!("{hands} times one of {events} events changes hands");
            return Err(self.broken("everything is bounded", None, &what));
        }
        if let Some(at) = self.takes_over_at {
            self.takeovers.entry(self.told_of).or_insert(at);
        }
        for change in changes {
            self.is_changed(change, world, journal)?;
        }
        // With all that was written with it.
        for change in changes {
            if let Change::Event(seq, _, EventState::Done) = change {
                self.is_written_done(*seq, journal)?;
            }
        }
        Ok(())
    }

    /// Nothing more is to be done now.
    pub fn turn_is_over(&mut self, world: &World) -> Result<(), Broken> {
        self.rests()?;
        if self.stopping.is_some() {
            self.hinted.clear();
            return self.nobody_stands(world, "it was told to stop");
        }
        // A large file is read beside the rest, and one that just failed a second later; nothing is
        // read while the journal cannot be written.
        if !self.stalled {
            self.hinted.clear();
        }
        Ok(())
    }

    /// The daemon says that it may end.
    pub fn is_done(&mut self, world: &World) -> Result<(), Broken> {
        let took = world.now - self.stopping.unwrap_or(world.now);
        let life = world.life;
        if world.hooks.running.keys().any(|(of, ..)| *of == life) {
            return Err(self.broken("nothing of ours is left running", None, "it ends while scripts run"));
        }
        if took > 15_000_000 {
            let what = format!("it took {} s", took / 1_000_000);
            return Err(self.broken("SIGTERM ends the daemon within 15 s", None, &what));
        }
        Ok(())
    }
}
