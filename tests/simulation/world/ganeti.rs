//! Ganeti: luxid and the job processes, and what they write.
//!
//! As seen on 3.0.2 and read from `lib/jqueue/__init__.py` and `src/Ganeti/JQScheduler.hs`;
//! `tests/machine/ganeti.rs` has every way that a job can go, this the time that it takes.

use std::collections::BTreeMap;
use std::rc::Rc;

use ganeti_hookd::engine::effect::Death;
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::ganeti::job::{Job, JobId, Opcode, Status, Timestamp};

use super::files::{Content, job_id};
use super::kernel::Process;
use super::{Happening, World};
use crate::dice::Dice;
use crate::names::words;
use crate::recipe::Fault;
use crate::truth::Truth;

/// The opcodes that people submit: with hooks of their own, without, and one unknown to us.
const CODES: [&str; 5] =
    ["OP_TEST_DELAY", "OP_INSTANCE_STARTUP", "OP_INSTANCE_CREATE", "OP_CLUSTER_VERIFY", "OP_NEVER_HEARD_OF"];

/// Luxid's own livelock stands in the file until the job process takes over.
const LUXID_LIVELOCK: &str = "/var/run/ganeti/livelocks/luxi-daemon_1";

/// One job, as only Ganeti knows it.
#[derive(Debug)]
pub struct SimJob {
    pub id: i64,
    /// The cluster that it is of.
    pub cluster: u64,
    /// What its writer has in memory.
    pub job: Job<'static>,
    pub process: Option<usize>,
    pub truth: Truth,
    retries: u64,
    messages: u64,
    size: u64,
    dice: Dice,
    bad_left: u64,
}

/// Every job there ever was, and the cluster.
#[derive(Debug, Default)]
pub struct Ganeti {
    pub jobs: Vec<SimJob>,
    /// Grows when the cluster is made again.
    pub cluster: u64,
    /// Whether the other node is master.
    pub away: bool,
    pub failovers: u64,
    /// Luxid starts no job before: first each node is told who is master.
    pub luxid_starts_at: u64,
    received: i64,
    /// The jobs as the daemon tells them apart.
    names: BTreeMap<(JobId, Timestamp), usize>,
}

impl Ganeti {
    /// The job of this number that was received then.
    pub fn of(&self, id: JobId, received: Timestamp) -> Option<&SimJob> {
        self.names.get(&(id, received)).map(|at| &self.jobs[*at])
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, id: JobId, received: Timestamp) -> Option<&mut SimJob> {
        self.names.get(&(id, received)).map(|at| &mut self.jobs[*at])
    }
}

impl World {
    /// Somebody submits a job: its number is given out, its file follows.
    pub fn submit(&mut self) {
        if self.is_without_queue() {
            return self.later(self.until_queue(), Happening::Submit);
        }
        let Some(serial) = self.files.serial else { return };
        let at = self.new_job(serial + 1, 0);
        self.files.serial = Some(serial + 1);
        self.story.say(|| format!("luxid gives out job {}", serial + 1));
        let mut dice = self.ganeti.jobs[at].dice.clone();
        let delay = if dice.one_in(8) { dice.spread(1_000, 3_000_000) } else { dice.spread(50, 2_000) };
        self.ganeti.jobs[at].dice = dice;
        self.later(delay, Happening::Write(at));
    }

    /// A job that nobody has written yet, received so many microseconds ago.
    pub fn new_job(&mut self, id: i64, ago: i64) -> usize {
        let at = self.ganeti.jobs.len();
        let mut dice = Dice::of(self.recipe.seed, &format!("job {at}"));
        // Two jobs of one number never have the same time.
        self.ganeti.received = self.time().as_micros().max(self.ganeti.received + 1);
        let queued = |dice: &mut Dice| Opcode {
            code: (*dice.pick(&CODES)).into(),
            status: Status::Queued,
            started: None,
            executed: None,
            ended: None,
            death_detected: false,
            text: Default::default(),
        };
        let ops = if dice.one_in(40) { 0 } else { dice.between(1, self.recipe.ops) };
        let job = Job {
            id: job_id(id),
            received: Timestamp::from_micros(self.ganeti.received - ago),
            livelock: None,
            process_id: None,
            started: None,
            ops: (0..ops).map(|_| queued(&mut dice)).collect(),
        };
        let size = match () {
            () if self.fails(Fault::Large, 2) => 2 * 1024 * 1024,
            () if self.fails(Fault::TooLarge, 4) => 257 * 1024 * 1024,
            () => 2000,
        };
        let bad_left = if self.fails(Fault::BadFile, 2) { dice.between(1, 3) } else { 0 };
        let truth = Truth::new(ops as usize, size <= 256 * 1024 * 1024);
        let (retries, messages) = (dice.below(2), dice.below(3));
        let cluster = self.ganeti.cluster;
        self.ganeti.names.insert((job.id, job.received), at);
        let job = SimJob { id, cluster, job, process: None, truth, retries, messages, size, dice, bad_left };
        self.ganeti.jobs.push(job);
        at
    }

    /// Writes what the writer has in memory. Ganeti replaces files by rename.
    pub fn write(&mut self, at: usize) {
        let now = self.now;
        let job = &mut self.ganeti.jobs[at];
        if job.cluster != self.ganeti.cluster {
            return;
        }
        job.truth.written(&job.job, now);
        let (id, size, version) = (job.id, job.size + job.job.ops.len() as u64, Rc::new(job.job.clone()));
        let is_bad = job.bad_left > 0 && !version.is_final() && job.dice.one_in(3);
        self.story.say(|| {
            format!("job {id} is written: {}{}", words(&version), if is_bad { " (badly)" } else { "" })
        });
        if is_bad {
            self.ganeti.jobs[at].bad_left -= 1;
            self.put(id, Content::Bad("not a job: EOF while parsing"), size);
            // Whoever wrote it does so again.
            self.later(300, Happening::Write(at));
            return;
        }
        self.put(id, Content::Job(version), size);
    }

    /// Luxid writes the job, for the first time or again what was written badly.
    pub(super) fn write_queued(&mut self, at: usize) {
        let is_new = !self.ganeti.jobs[at].truth.was_written();
        self.write(at);
        let job = &mut self.ganeti.jobs[at];
        if !is_new {
            return;
        }
        if job.job.ops.is_empty() {
            return self.over(at);
        }
        let delay = if job.dice.one_in(4) {
            job.dice.spread(1_000, 10_000_000)
        } else {
            job.dice.spread(300, 20_000)
        };
        self.later(delay, Happening::Luxid(at));
    }

    /// Luxid starts the job, or does not.
    pub(super) fn luxid_starts(&mut self, at: usize) {
        let time = self.time();
        let job = &mut self.ganeti.jobs[at];
        if job.cluster != self.ganeti.cluster {
            return;
        }
        if self.now < self.ganeti.luxid_starts_at {
            let delay = self.ganeti.luxid_starts_at - self.now;
            return self.later(delay, Happening::Luxid(at));
        }
        let end = |job: &mut Job<'_>, status| {
            job.ops.iter_mut().for_each(|op| (op.status, op.ended) = (status, Some(time)));
        };
        match job.dice.below(40) {
            0 => end(&mut job.job, Status::Canceled),
            1 => end(&mut job.job, Status::Error),
            _ => {
                job.job.livelock = Some(LUXID_LIVELOCK.into());
                let delay = job.dice.spread(500, 100_000);
                let process = self.spawn(at);
                self.ganeti.jobs[at].process = Some(process);
                self.write(at);
                self.later(delay, Happening::Step(process));
                if self.fails(Fault::Kill, 2) {
                    let delay = self.of(Fault::Kill).spread(100, 20_000_000);
                    self.later(delay, Happening::Die(process));
                }
                return;
            }
        }
        self.write(at);
        self.over(at);
    }

    /// A job process goes on.
    pub(super) fn step(&mut self, at: usize) {
        let time = self.time();
        let process = &mut self.kernel.processes[at];
        if !process.alive {
            return;
        }
        if process.stands() {
            process.owes_a_step = true;
            return;
        }
        let Process { job: index, pid, livelock, .. } = process.clone();
        process.gone_on_at = 0;
        let sim = &mut self.ganeti.jobs[index];
        let (job, dice) = (&mut sim.job, &mut sim.dice);
        let Some(current) = job.ops.iter().position(|op| !op.status.is_final()) else {
            return self.exit(at);
        };
        let [op, rest @ ..] = &mut job.ops[current..] else { return };
        let mut cancel = |op: &mut Opcode<'_>| {
            op.status = Status::Canceled;
            rest.iter_mut().for_each(|op| op.status = Status::Canceled);
        };
        let delay = match op.status {
            Status::Queued if dice.one_in(30) => {
                cancel(op);
                200
            }
            Status::Queued => {
                op.status = Status::Waiting;
                op.started = Some(time);
                job.started = job.started.or(Some(time));
                (job.process_id, job.livelock) = (Some(pid), Some(livelock.into()));
                if dice.one_in(3) { dice.spread(1_000, 5_000_000) } else { dice.spread(500, 5_000) }
            }
            Status::Waiting if dice.one_in(25) => {
                cancel(op);
                200
            }
            Status::Waiting if dice.one_in(30) => {
                op.status = Status::Canceling;
                dice.spread(500, 1_000_000)
            }
            Status::Canceling => {
                cancel(op);
                200
            }
            Status::Waiting | Status::Running if dice.one_in(8) => {
                op.status = Status::Error;
                op.ended = Some(time);
                rest.iter_mut().for_each(|op| op.status = Status::Error);
                100
            }
            Status::Waiting => {
                op.status = Status::Running;
                op.executed = Some(time);
                let rename = dice.spread(200, 3_000);
                self.kernel.processes[at].gone_on_at = self.now + rename;
                if dice.one_in(3) {
                    rename + dice.spread(10, 500)
                } else {
                    rename + dice.spread(1_000, 20_000_000)
                }
            }
            _ if sim.retries > 0 && dice.one_in(4) => {
                sim.retries -= 1;
                op.status = Status::Waiting;
                dice.spread(500, 1_000_000)
            }
            _ if sim.messages > 0 => {
                sim.messages -= 1;
                dice.spread(500, 1_000_000)
            }
            _ => {
                op.status = Status::Success;
                op.ended = Some(time);
                dice.spread(50, 3_000)
            }
        };
        let is_over = job.is_final();
        self.write(index);
        self.is_in_rename(at);
        if is_over {
            self.over(index);
        }
        // The last version is written, and the process is gone as good as at once.
        self.later(delay, Happening::Step(at));
    }

    /// Nothing more will be written: people or Ganeti archive the job some time.
    pub fn over(&mut self, at: usize) {
        let dice = &mut self.ganeti.jobs[at].dice;
        if dice.percent(60) {
            let delay = dice.spread(500, 60_000_000);
            self.later(delay, Happening::Archive(at));
        }
    }

    /// A job's process is gone: if the job is not over, luxid will find out.
    pub fn process_gone(&mut self, at: usize) {
        let now = self.now;
        let job = &mut self.ganeti.jobs[at];
        if job.job.is_final() || job.cluster != self.ganeti.cluster {
            return;
        }
        job.truth.died(&job.job, now);
        let delay = job.dice.spread(20_000, 300_000_000);
        self.later(delay, Happening::Notice(at));
    }

    /// `Effect::TellGaneti`: its daemons may be slow.
    pub fn tell_ganeti(&mut self, death: Death) {
        let mut dice = Dice::of(self.recipe.seed, &death.process.livelock);
        let delay = if dice.one_in(4) { dice.spread(100_000, 8_000_000) } else { dice.spread(4_000, 60_000) };
        self.later(delay, Happening::Told(self.life, death));
    }

    /// Ganeti is told, unless somebody runs the job by now; its daemons look themselves, too.
    pub(super) fn told(&mut self, life: u64, death: Death) {
        if life != self.life || !self.up {
            return;
        }
        let Death { seq, job, received, process } = death;
        let at = self.ganeti.names.get(&(job, received)).copied();
        let lives = self.kernel.processes.iter().any(|p| p.livelock == process.livelock && p.alive);
        let result = match at {
            _ if lives => Err("its livelock is held".to_owned()),
            Some(at) if self.ganeti.jobs[at].job.is_final() => Ok(false),
            Some(at) if self.ganeti.jobs[at].job.process().as_ref() == Some(&process) => {
                self.luxid_notices(at);
                Ok(true)
            }
            _ => Err("another process runs it".to_owned()),
        };
        self.inbox.push_back(super::Message::Plain(Input::GanetiTold { seq, job, result }));
    }

    /// Luxid has found the process dead: every opcode, also those that had succeeded.
    pub(super) fn luxid_notices(&mut self, at: usize) {
        let time = self.time();
        let job = &mut self.ganeti.jobs[at];
        let is_known = job.job.is_final();
        if is_known || job.cluster != self.ganeti.cluster || !self.files.queue.contains_key(&job.id) {
            return;
        }
        job.truth.rewritten(&job.job);
        for op in &mut job.job.ops {
            (op.status, op.ended, op.death_detected) = (Status::Error, Some(time), true);
        }
        self.story.say(|| "luxid has found a job dead".to_owned());
        self.write(at);
        self.over(at);
    }

    /// A job goes to the archive.
    pub(super) fn archive_job(&mut self, at: usize) {
        let job = &self.ganeti.jobs[at];
        let (id, cluster) = (job.id, job.cluster);
        if cluster != self.ganeti.cluster {
            return;
        }
        if let Some(file) = self.take_out(id) {
            self.story.say(|| format!("job {id} is archived"));
            self.files.archive.insert(id, file);
            if self.fails(Fault::Cleaner, 2) {
                let delay = self.of(Fault::Cleaner).spread(1_000, 60_000_000);
                self.later(delay, Happening::Clean(at));
            }
        }
    }

    /// The cleaner removes a job from the archive.
    pub(super) fn clean(&mut self, at: usize) {
        let job = &self.ganeti.jobs[at];
        if job.cluster == self.ganeti.cluster && self.files.archive.remove(&job.id).is_some() {
            let id = job.id;
            self.story.say(|| format!("job {id} is removed from the archive"));
            self.ganeti.jobs[at].truth.removed();
        }
    }
}
