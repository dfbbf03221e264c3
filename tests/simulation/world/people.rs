//! What people do, and what befalls the machine: it is arranged before the world begins.

use ganeti_hookd::engine::input::{ClusterId, Input};
use ganeti_hookd::engine::settings::Settings;
use ganeti_hookd::ganeti::job::Timestamp;

use super::files::{Content, job_id};
use super::hooks::micros;
use super::{Happening, Message, World};
use crate::dice::Dice;
use crate::names::words;
use crate::recipe::{Fault, HERE, THERE, settings};

/// How long after a failover a node's ssconf tells of it, at most, in a world with two daemons.
const SSCONF_TAKES: u64 = 15_000_000;

/// What people do once.
#[derive(Debug)]
pub enum Deed {
    Start,
    Terminate,
    Reload(bool),
    FailOver,
    FailBack,
    /// This node's ssconf tells who is master since so many failovers.
    HearOfMaster(u64, bool),
    MakeQueue,
    Recreate,
    SetClock(i64),
    Remove,
    Stray(i64),
    AdminStop,
    AdminContinue(usize),
    MasterUnknown,
    MasterKnown,
    /// Somebody wants one of the events of the history to run again, or one script of it.
    Rerun(u64, bool),
    Calm,
}

/// What people have done that others must know.
#[derive(Debug, Default)]
pub struct People {
    /// Who is master cannot be told, until then.
    pub(super) master_unknown_until: u64,
    /// When this node became master, or another, or a cluster was made.
    pub last_role_change: u64,
    /// The highest number that the journal knows.
    pub highest_written: i64,
    /// The same when the last cluster was made again.
    pub highest_before: i64,
    /// The wall clock was set.
    pub clock_was_set: bool,
    pub roles_changed: u64,
    /// The other node is master, as far as this node's ssconf tells; and by how many failovers.
    pub is_away: bool,
    pub heard_of: u64,
    /// What the configuration file says, where that was changed.
    pub settings: Option<Settings>,
    /// Where an administrator let a process go behind our back.
    pub continued: Vec<usize>,
}

impl World {
    /// Arranges what is there from the beginning, and what will happen some time.
    pub(super) fn arrange(&mut self) {
        let recipe = self.recipe.clone();
        let calm = recipe.calm;
        self.files.serial = Some(0);
        self.leftovers();
        if recipe.has(Fault::WatchRefused) && recipe.leftovers == 0 {
            let at = self.of(Fault::WatchRefused).spread(1_000, calm / 2);
            self.make_queue_at(at);
        }
        let mut dice = Dice::of(recipe.seed, "people");
        for _ in 0..recipe.jobs {
            let at = dice.below(calm);
            self.later(at, Happening::Submit);
        }
        // A busy moment: jobs that come all at once.
        if dice.one_in(3) {
            let at = dice.below(calm);
            (0..recipe.jobs / 2).for_each(|_| self.later(at, Happening::Submit));
        }
        let start = if dice.one_in(2) { 0 } else { dice.spread(1_000, 10_000_000) };
        self.later(start, Happening::People(Deed::Start));
        self.arrange_deeds(calm);
        // So that the world comes to its calm, whatever else happens.
        self.later(calm, Happening::People(Deed::Calm));
    }

    /// Arranges what befalls the node that is looked at.
    pub(super) fn arrange_deeds(&mut self, calm: u64) {
        let mut deeds: Vec<(Fault, u64, Deed)> = Vec::new();
        let faults = self.recipe.faults.clone();
        for fault in faults {
            let dice = self.of(fault);
            let at = dice.below(calm);
            match fault {
                Fault::Terminate => deeds.push((fault, at, Deed::Terminate)),
                Fault::Reload => {
                    deeds.extend([(fault, at, Deed::Reload(true)), (fault, at / 2, Deed::Reload(true))])
                }
                Fault::BadReload => deeds.push((fault, at, Deed::Reload(false))),
                Fault::Failover => {
                    let back = at + dice.spread(10_000, 90_000_000);
                    deeds.push((fault, at, Deed::FailOver));
                    deeds.push((fault, back.min(calm), Deed::FailBack));
                    if dice.one_in(2) {
                        let again = (back + dice.spread(10_000, 60_000_000)).min(calm);
                        let back = again + dice.spread(10_000, 90_000_000);
                        deeds.push((fault, again, Deed::FailOver));
                        deeds.push((fault, back.min(calm), Deed::FailBack));
                    }
                }
                Fault::Recreate => deeds.push((fault, at, Deed::Recreate)),
                Fault::ClockStep => {
                    let step = dice.spread(1_000_000, 7_200_000_000) as i64;
                    let step = if dice.one_in(2) { step } else { -step };
                    deeds.push((fault, at, Deed::SetClock(step)));
                }
                Fault::PeopleRemove => deeds.push((fault, at, Deed::Remove)),
                Fault::Stray => {
                    let id = *dice.pick(&[999_999_999, i64::MAX, 4_000_000, 1_000]);
                    deeds.push((fault, at, Deed::Stray(id)));
                }
                Fault::Admin => {
                    for n in 1..=4 {
                        deeds.push((fault, at / n, Deed::AdminStop));
                    }
                }
                Fault::MasterUnknown => {
                    deeds.push((fault, at, Deed::MasterUnknown));
                    deeds.push((fault, at / 3, Deed::MasterUnknown));
                }
                Fault::Rerun => {
                    for n in 0..dice.between(1, 6) {
                        let at = dice.below(calm);
                        deeds.push((fault, at, Deed::Rerun(dice.below(1000), dice.one_in(4))));
                        // Twice at once, or nearly so.
                        if n == 0 {
                            deeds.push((fault, at + dice.below(500), Deed::Rerun(0, false)));
                            deeds.push((fault, at, Deed::Rerun(0, false)));
                        }
                    }
                }
                Fault::WatchLost => self.later(at, Happening::WatchLost),
                _ => {}
            }
        }
        for (_, at, deed) in deeds {
            self.later(at, Happening::People(deed));
        }
    }

    /// Jobs that had ended before anybody looked.
    fn leftovers(&mut self) {
        // An hour ago, by the clock.
        let hour = 3_600_000_000;
        for id in 1..=self.recipe.leftovers as i64 {
            let at = self.new_job(id, hour);
            let time = Timestamp::from_micros(self.time().as_micros() - hour);
            for op in &mut self.ganeti.jobs[at].job.ops {
                op.status = ganeti_hookd::ganeti::job::Status::Success;
                (op.started, op.executed, op.ended) = (Some(time), Some(time), Some(time));
            }
            self.write(at);
            self.ganeti.jobs[at].truth.history = true;
            self.files.serial = Some(id);
        }
        if self.recipe.leftovers > 50 {
            self.story.reach(Fault::Leftovers.name());
        }
    }

    pub(super) fn people_do(&mut self, deed: Deed) {
        match deed {
            Deed::Start => self.start = true,
            Deed::Terminate => {
                self.story.say(|| "** SIGTERM".to_owned());
                self.story.reach(Fault::Terminate.name());
                self.tell_later(0, Input::Stop);
            }
            Deed::Reload(good) => self.reload(good),
            Deed::FailOver => self.fail_over(true),
            Deed::FailBack => self.fail_over(false),
            Deed::HearOfMaster(heard_of, away) => self.hear_of_master(heard_of, away),
            Deed::MakeQueue => {
                self.story.say(|| "** the queue is made".to_owned());
                self.files.serial = Some(0);
            }
            Deed::Recreate => self.recreate(),
            Deed::SetClock(step) => {
                self.story.say(|| format!("** the clock is set by {} s", step / 1_000_000));
                self.story.reach(Fault::ClockStep.name());
                self.clock += step;
                self.people.clock_was_set = true;
            }
            Deed::Remove => self.remove(),
            Deed::Stray(id) => self.stray(id),
            Deed::AdminStop => self.admin_stop(),
            Deed::AdminContinue(process) => {
                if self.kernel.processes[process].goes_unheard() {
                    self.people.continued.push(process);
                }
                self.story.say(|| "an administrator continues a process".to_owned());
                self.go_on(process);
            }
            Deed::MasterUnknown => {
                self.story.reach(Fault::MasterUnknown.name());
                let time = self.of(Fault::MasterUnknown).spread(1_000, 12_000_000);
                self.people.master_unknown_until = (self.now + time).min(self.recipe.calm);
                self.story.say(|| format!("** ssconf cannot be read for {} s", time as f64 / 1e6));
                self.cluster_changed();
                // Nobody need tell that it can be read again.
                if self.of(Fault::MasterUnknown).one_in(2) {
                    self.later(time, Happening::People(Deed::MasterKnown));
                }
            }
            Deed::MasterKnown => self.cluster_changed(),
            Deed::Rerun(which, alone) => {
                if self.up {
                    self.inbox.push_back(Message::Rerun(which, alone));
                }
            }
            Deed::Calm => self.story.say(|| "** calm".to_owned()),
        }
    }

    /// `Effect::AskMaster`.
    pub fn master(&mut self) -> Result<Option<String>, String> {
        if self.now < self.people.master_unknown_until {
            return Err("ssconf_master_node: Input/output error".to_owned());
        }
        Ok(Some(if self.people.is_away { THERE } else { HERE }.to_owned()))
    }

    /// `Effect::AskCluster`.
    pub fn cluster(&self) -> ClusterId {
        let uuid = format!("00000000-0000-4000-8000-{:012}", self.ganeti.cluster);
        ClusterId { uuid: uuid.into(), name: "cluster.example.com".to_owned() }
    }

    /// Whether this node is master, and ssconf says so.
    pub fn is_master(&self) -> bool {
        !self.people.is_away
    }

    fn reload(&mut self, good: bool) {
        if !good {
            self.story.reach(Fault::BadReload.name());
            self.tell_later(0, Input::Named(HERE.to_owned()));
            self.tell_later(0, Input::Panicked("thread hook panicked".to_owned()));
            self.tell_later(0, Input::Api(Err("api.group: there is no group nagios".to_owned())));
            self.tell_later(1000, Input::Api(Ok(())));
            self.tell_later(0, Input::JournalLog(100 << 20));
            self.tell_later(1000, Input::JournalLog(0));
            return self.tell_later(0, Input::Reloaded(Err("hooks.pre: must be one of".to_owned())));
        }
        self.story.reach(Fault::Reload.name());
        let new = settings(self.of(Fault::Reload));
        let hooks = &new.hooks;
        self.story
            .say(|| format!("** reload: pre {:?}, hold-limit {} us", hooks.pre, micros(hooks.hold_limit)));
        let history = self.recipe.settings.history.clone();
        let outboxes = self.recipe.settings.outboxes.clone();
        let new = Settings { history, outboxes, ..new };
        self.people.settings = Some(new.clone());
        self.tell_later(0, Input::Reloaded(Ok((Box::new(new), HERE.to_owned()))));
    }

    /// The master moves; the old one's job processes end with it.
    fn fail_over(&mut self, away: bool) {
        if self.ganeti.away == away {
            return;
        }
        self.story.say(|| format!("** failover {}", if away { "away" } else { "back" }));
        self.story.reach(Fault::Failover.name());
        for at in 0..self.kernel.processes.len() {
            self.killed(at);
        }
        self.ganeti.away = away;
        self.ganeti.failovers += 1;
        let failovers = self.ganeti.failovers;
        if self.far.is_none() {
            return self.hear_of_master(failovers, away);
        }
        // Ganeti tells one node after the other.
        self.everywhere(|world| {
            let (delay, away) = (world.dice.spread(20, SSCONF_TAKES), world.ganeti.away);
            world.ganeti.luxid_starts_at = world.ganeti.luxid_starts_at.max(world.now + delay + 1);
            world.later(delay, Happening::People(Deed::HearOfMaster(failovers, away)));
        });
    }

    /// This node's ssconf is written.
    fn hear_of_master(&mut self, heard_of: u64, away: bool) {
        if heard_of < self.people.heard_of {
            return;
        }
        if self.far.is_some() {
            self.story.say(|| format!("** ssconf: the master is {}", if away { THERE } else { HERE }));
        }
        (self.people.heard_of, self.people.is_away) = (heard_of, away);
        self.people.last_role_change = self.now;
        self.people.roles_changed += 1;
        self.cluster_changed();
    }

    /// The cluster is destroyed and made again: an empty queue, and numbers from 1.
    fn recreate(&mut self) {
        if self.ganeti.away || self.is_without_queue() {
            return;
        }
        self.story.say(|| "** the cluster is made again".to_owned());
        self.story.reach(Fault::Recreate.name());
        for at in 0..self.kernel.processes.len() {
            self.killed(at);
        }
        let cluster = self.ganeti.cluster;
        let jobs = self.ganeti.jobs.iter_mut().filter(|job| job.cluster == cluster);
        jobs.for_each(|job| job.truth.removed());
        self.ganeti.cluster += 1;
        self.people.last_role_change = self.now;
        self.people.highest_before = self.people.highest_before.max(self.people.highest_written);
        let ids: Vec<i64> = self.files.queue.keys().copied().collect();
        for id in ids {
            self.take_out(id);
        }
        if self.dice.one_in(2) {
            self.files.archive.clear();
        }
        self.files.serial = Some(0);
        let jobs = self.recipe.jobs.min(4);
        for _ in 0..jobs {
            let delay = self.of(Fault::Recreate).spread(10_000, 30_000_000);
            self.later(delay, Happening::Submit);
        }
    }

    /// Somebody removes a job's file.
    fn remove(&mut self) {
        let ids: Vec<i64> = self.files.queue.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = *self.of(Fault::PeopleRemove).pick(&ids);
        let cluster = self.ganeti.cluster;
        self.story.say(|| format!("** somebody removes the file of job {id}"));
        self.story.reach(Fault::PeopleRemove.name());
        self.take_out(id);
        let job = self.ganeti.jobs.iter_mut().find(|job| job.id == id && job.cluster == cluster);
        if let Some(job) = job {
            job.truth.removed();
        }
    }

    /// A file that is no job of this queue.
    fn stray(&mut self, id: i64) {
        if self.is_without_queue() {
            return;
        }
        if self.files.queue.contains_key(&id) || self.files.serial.is_some_and(|serial| serial >= id) {
            return;
        }
        self.story.reach(Fault::Stray.name());
        if self.of(Fault::Stray).one_in(2) {
            return self.put(id, Content::Bad("the file is named after another job"), 1000);
        }
        let at = self.new_job(id, 0);
        self.story.say(|| format!("a stray job {}: {}", job_id(id), words(&self.ganeti.jobs[at].job)));
        self.write(at);
    }

    fn admin_stop(&mut self) {
        let here = |p: &super::kernel::Process| p.here && p.alive;
        let alive: Vec<usize> =
            (0..self.kernel.processes.len()).filter(|at| here(&self.kernel.processes[*at])).collect();
        if alive.is_empty() {
            return;
        }
        self.story.reach(Fault::Admin.name());
        let at = *self.of(Fault::Admin).pick(&alive);
        let delay = self.of(Fault::Admin).spread(1_000, 10_000_000);
        self.story.say(|| "an administrator stops a process".to_owned());
        self.kernel.processes[at].by_admin = true;
        self.later(delay, Happening::People(Deed::AdminContinue(at)));
    }
}
