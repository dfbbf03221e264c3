//! The engine on a desk: its effects are done in memory, at once where the daemon does them
//! at once, and when the test says so where others do them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ganeti_hookd::engine::change::{Change, FirstLook, Past, Remembered};
use ganeti_hookd::engine::directories::HooksPath;
use ganeti_hookd::engine::effect::{Effect, Level, NodeRun, PlanRequest, ScriptRun, Token};
use ganeti_hookd::engine::input::{
    ClusterId, CommitError, Input, Landing, Now, Presence, Script, Stamp, Version, Written,
};
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::engine::plan::{Plan, Target};
use ganeti_hookd::engine::settings::Settings;
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::engine::{Engine, environment::ClusterFacts};
use ganeti_hookd::ganeti::event::Phase;
use ganeti_hookd::ganeti::job::{Job, JobId, Opcode, ProcessRef, Status, Timestamp};
use ganeti_hookd::ganeti::opcodes::View;

use crate::journal::Journal;

/// This node.
pub const HERE: &str = "node1.example.com";

/// Another node.
pub const THERE: &str = "node2.example.com";

/// When everything begins, in seconds since the epoch.
pub const EPOCH: i64 = 1_795_000_000;

/// A first look that was begun so many seconds after, in a queue that was there.
pub fn first_look(after: i64) -> FirstLook {
    FirstLook { since: Timestamp::from((EPOCH + after, 0)), is_before_the_queue: false }
}

/// A job of this number.
pub fn id(id: i64) -> JobId {
    id.try_into().unwrap()
}

/// The engine, and what it believes to be the world.
pub struct Desk {
    pub engine: Engine,
    pub now: Now,
    pub queue: BTreeMap<JobId, Job<'static>>,
    pub archive: BTreeMap<JobId, Job<'static>>,
    /// The queue cannot be read.
    pub queue_is_lost: bool,
    pub serial: Option<i64>,
    pub master: Option<&'static str>,
    pub master_error: bool,
    pub large: BTreeSet<JobId>,
    pub unreadable: BTreeSet<JobId>,
    /// Names of the scripts of both phases.
    pub scripts: Vec<&'static str>,
    /// Scripts of other hooks paths: the path's name, and theirs.
    pub others: Vec<(&'static str, &'static str)>,
    /// Directories that must not be used.
    pub refused: Vec<&'static str>,
    /// Processes that are there, by ID.
    pub alive: BTreeSet<u32>,
    pub tokens: BTreeMap<Token, ProcessRef>,
    pub stopped: BTreeSet<Token>,
    pub armed: BTreeSet<Token>,
    /// The queue cannot be watched.
    pub watch_fails: bool,
    /// Who is stopped by a signal has gone on meanwhile.
    pub stops_land_late: bool,
    /// Whether the kernel can stop processes.
    pub kernel_stops: Result<String, String>,
    /// What the history tells of jobs, besides what is written.
    pub history: BTreeMap<JobId, (Timestamp, Progress)>,
    /// It cannot be asked.
    pub history_fails: bool,
    /// Commits fail.
    pub disk_is_full: bool,
    /// They fail until the journal has been written anew.
    pub journal_is_damaged: bool,
    /// What of `written` is not in the history any more: all that was written before, and events
    /// that are no newer.
    lost: usize,
    forgotten: Option<Timestamp>,
    /// So many commits find the journal damaged.
    pub damaged_commits: u32,
    /// How many events the journal has that could be forgotten.
    pub old_events: u32,

    /// Everything that was to be done, in order.
    pub done: Vec<Effect>,
    /// All that the journal was given and holds.
    pub written: Vec<Change>,
    /// What earlier daemons gave it.
    earlier: Vec<Change>,
    /// Plans that were asked for.
    pub plans: Vec<PlanRequest>,
    /// Scripts that run.
    pub running: Vec<ScriptRun>,
    /// Requests to other nodes that are not answered.
    pub asked: Vec<NodeRun>,
    /// Everything that ever ran: event, script, `late`, attempt.
    pub ran: Vec<String>,
    /// Those who wanted something to run again, and what they were answered.
    pub answers: Vec<(u64, Result<(), String>)>,
    /// Scans that have not been answered.
    pub scans: Vec<u64>,
    pub log: Vec<String>,
    pub is_ready: bool,
}

impl Desk {
    /// A master that has just started for the first time, with a script `10-a`.
    pub fn new() -> Self {
        let mut desk = Self::before_start(Settings::default(), Remembered::default());
        desk.settle();
        desk
    }

    /// One that was started before, has seen the numbers up to `highest`, and is not started.
    pub fn again(remembered: Remembered) -> Self {
        let begun = Some(Timestamp::from((EPOCH - 1000, 0)));
        let past = Past { begun, ..remembered.past };
        Self::before_start(Settings::default(), Remembered { past, ..remembered })
    }

    /// The next daemon, which knows what this one has written, and finds the same.
    pub fn restarted(self) -> Self {
        let earlier = if self.lost == 0 { &self.earlier[..] } else { &[] };
        let earlier = [earlier, &self.written[self.lost..]].concat();
        let (journal, _) = Journal::default().with(&earlier).unwrap();
        let told = journal.events.values().map(|row| (row.event.received, row.event.key));
        let history = told.map(|(received, key)| (key.job, (received, Progress::after(key)))).collect();
        let (last_written, now) = (Some(self.now.time), self.now);
        let remembered = journal.load(now.time);
        let past = Past { last_written, ..remembered.past };
        let remembered = Remembered { past, next_seq: 1000, next_run: 1000, ..remembered };
        let engine = Engine::new(Settings::default(), HERE.to_owned(), remembered, now);
        let Self { queue, archive, serial, scripts, large, unreadable, .. } = self;
        let next = Self::before_start(Settings::default(), Remembered::default());
        Self { engine, now, queue, archive, serial, scripts, large, unreadable, history, earlier, ..next }
    }

    pub fn before_start(settings: Settings, remembered: Remembered) -> Self {
        let now = Now { time: Timestamp::from((EPOCH, 0)), steady: Duration::from_secs(100) };
        Self {
            engine: Engine::new(settings, HERE.to_owned(), remembered, now),
            now,
            queue: BTreeMap::new(),
            archive: BTreeMap::new(),
            queue_is_lost: false,
            serial: Some(0),
            master: Some(HERE),
            master_error: false,
            large: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            scripts: vec!["10-a"],
            others: Vec::new(),
            refused: Vec::new(),
            alive: BTreeSet::new(),
            tokens: BTreeMap::new(),
            stopped: BTreeSet::new(),
            armed: BTreeSet::new(),
            watch_fails: false,
            stops_land_late: false,
            kernel_stops: Err("not here".to_owned()),
            history: BTreeMap::new(),
            history_fails: false,
            disk_is_full: false,
            journal_is_damaged: false,
            lost: 0,
            earlier: Vec::new(),
            forgotten: None,
            damaged_commits: 0,
            old_events: 0,
            done: Vec::new(),
            written: Vec::new(),
            plans: Vec::new(),
            running: Vec::new(),
            asked: Vec::new(),
            ran: Vec::new(),
            answers: Vec::new(),
            scans: Vec::new(),
            log: Vec::new(),
            is_ready: false,
        }
    }

    /// So many jobs at once are compared with what a scan has found.
    pub fn in_pieces_of(self, jobs: usize) -> Self {
        Self { engine: self.engine.in_pieces_of(jobs), ..self }
    }

    /// Gives an input, and does what follows from it.
    pub fn give(&mut self, input: Input<'_>) {
        let effects = self.engine.take(self.now, input);
        effects.into_iter().for_each(|effect| self.perform(effect));
    }

    /// Goes on until there is nothing more to do at once, and answers scans.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.give(Input::Quiet);
            if self.engine.has_more() {
                continue;
            }
            match self.scans.pop() {
                Some(scan) => self.answer_scan(scan),
                None => return,
            }
        }
        panic!("it does not come to rest: {:#?}", &self.done[self.done.len() - 50..]);
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: f64) {
        self.pass(seconds);
        self.settle();
    }

    /// Lets time pass in which the engine is told nothing.
    pub fn pass(&mut self, seconds: f64) {
        self.now.steady += Duration::from_secs_f64(seconds);
        let micros = self.now.time.as_micros() + (seconds * 1e6) as i64;
        self.now.time = Timestamp::from_micros(micros);
    }

    fn answer_scan(&mut self, scan: u64) {
        if self.queue_is_lost {
            let result = Err("the queue cannot be read: Input/output error".to_owned());
            return self.give(Input::ScanEnded { scan, result });
        }
        let files = self.queue.iter().map(|(id, job)| (*id, stamp(job))).collect();
        self.give(Input::Listed { scan, files });
        self.give(Input::ScanEnded { scan, result: Ok(self.serial) });
    }

    fn perform(&mut self, effect: Effect) {
        self.done.push(effect.clone());
        match effect {
            Effect::Watch if self.watch_fails => self.give(Input::Watched(Err("ENOSPC".to_owned()))),
            Effect::Watch => self.give(Input::Watched(Ok(()))),
            Effect::Scan { scan } => self.scans.push(scan),
            Effect::Read { id, archive, .. } => self.read(id, archive),
            Effect::LoadKernelStop => self.give(Input::KernelStop(self.kernel_stops.clone())),
            Effect::Arm { token, .. } => {
                self.armed.insert(token);
                self.give(Input::Armed { token, result: Ok(()) });
            }
            Effect::Disarm { token, .. } => {
                self.armed.remove(&token);
                self.stopped.remove(&token);
            }
            Effect::Attach | Effect::Detach => {}
            Effect::ReadLarge { .. } | Effect::Unwatch(_) | Effect::Shorten { .. } => {}
            // The test answers it.
            Effect::TellGaneti(_) => {}
            Effect::Ask(request) => self.asked.push(request),
            Effect::ReadSerial => self.give(Input::Serial(self.serial)),
            Effect::Recall { id, received } => {
                let told = match self.history_fails {
                    true => Err("disk I/O error".to_owned()),
                    false => Ok(self.recall(id, received)),
                };
                self.give(Input::Recalled { id, received, told });
            }
            Effect::AskMaster if self.master_error => self.give(Input::Master(Err("EIO".to_owned()))),
            Effect::AskMaster => self.give(Input::Master(Ok(self.master.map(str::to_owned)))),
            Effect::AskCluster => {
                let (uuid, name) = (CLUSTER.into(), "cluster.example.com".to_owned());
                self.give(Input::Cluster(Some(ClusterId { uuid, name })))
            }
            Effect::CountNodes => self.give(Input::OnlineNodes(1)),
            Effect::LookForPreHooks => self.give(Input::PreHooks(self.pre_hooks())),
            Effect::StartGuard => self.give(Input::GuardStarted(Ok(()))),
            Effect::Find { token, process } => self.find(token, process),
            Effect::Stop { token, job, .. } => {
                let known = self.tokens.get(&token).is_some_and(|process| self.alive.contains(&process.pid));
                let landing = match (self.armed.remove(&token), self.stops_land_late) {
                    (true, _) => Landing::Exact,
                    (false, false) => Landing::Early,
                    (false, true) => Landing::Late,
                };
                let result = if known { Ok(landing) } else { Err("it is not there".to_owned()) };
                if known {
                    self.stopped.insert(token);
                }
                self.give(Input::Stopped { token, job, result });
            }
            Effect::Continue { token, .. } => drop(self.stopped.remove(&token)),
            Effect::Commit(changes) => self.commit(&changes),
            Effect::WriteAnew(changes) => {
                self.journal_is_damaged = false;
                self.lost = self.written.len();
                self.history.clear();
                self.commit(&changes);
            }
            Effect::Plan(request) => self.plans.push(request),
            Effect::Prepare { seq, phase, paths } => self.prepare(seq, phase, &paths),
            Effect::Start(ScriptRun { run, seq, while_stopped: Some(token), .. })
                if !self.stopped.contains(&token) =>
            {
                self.give(Input::GoneOn { run, seq });
            }
            Effect::Start(run) => self.start(run),
            Effect::EndRuns
            | Effect::Recollect
            | Effect::Outboxes { .. }
            | Effect::Announce
            | Effect::JobEnded(_)
            | Effect::Summary(_) => {}
            Effect::AnswerRerun { asked, result } => {
                self.answers.push((asked, result.map_err(|why| why.to_string())));
            }
            Effect::Ready => self.is_ready = true,
            Effect::Log(level, text, _) => {
                if level != Level::Debug {
                    self.log.push(text);
                }
            }
        }
    }

    fn read(&mut self, id: JobId, archive: bool) {
        if self.queue_is_lost {
            let version = Version::Failed("the queue is not where it was".to_owned());
            return self.give(Input::Version { id, version });
        }
        if self.unreadable.contains(&id) {
            let version = Version::Failed("EIO".to_owned());
            return self.give(Input::Version { id, version });
        }
        if self.large.contains(&id) {
            return self.give(Input::Version { id, version: Version::Large(5_000_000) });
        }
        let (queued, archived) = (self.queue.get(&id).cloned(), self.archive.get(&id).cloned());
        let version = match (&queued, &archived) {
            (Some(job), _) => Version::Queued(job, stamp(job)),
            (None, Some(job)) if archive => Version::Archived(job),
            _ => Version::Gone,
        };
        self.give(Input::Version { id, version });
    }

    fn find(&mut self, token: Token, process: ProcessRef) {
        let presence = if self.alive.contains(&process.pid) { Presence::Alive } else { Presence::Dead };
        self.tokens.insert(token, process);
        self.give(Input::Found { token, presence });
    }

    fn commit(&mut self, changes: &Arc<Vec<Change>>) {
        if self.damaged_commits > 0 {
            self.damaged_commits -= 1;
            let error = CommitError { text: "database disk image is malformed".to_owned(), damaged: true };
            return self.give(Input::Committed(Err(error)));
        }
        if self.disk_is_full || self.journal_is_damaged {
            let error =
                CommitError { text: "it cannot be written".to_owned(), damaged: self.journal_is_damaged };
            return self.give(Input::Committed(Err(error)));
        }
        self.written.extend(changes.iter().cloned());
        let (mut more_to_prune, mut forgotten) = (false, None);
        for change in changes.iter() {
            if let Change::Prune(before, limit) = change {
                // Of what the desk has written all that is older.
                let old = self.written.iter().filter_map(|change| match change {
                    Change::Event(_, event, _) if event.time < *before => Some(event.time),
                    _ => None,
                });
                forgotten = old.max().max(forgotten);
                more_to_prune = self.old_events > *limit;
                self.old_events = self.old_events.saturating_sub(*limit);
            }
        }
        self.forgotten = self.forgotten.max(forgotten);
        self.give(Input::Committed(Ok(Written { more_to_prune, forgotten })));
    }

    fn recall(&self, id: JobId, received: Timestamp) -> Option<Progress> {
        if let Some((_, told)) = self.history.get(&id).filter(|(of, _)| *of == received) {
            return Some(*told);
        }
        let of_it = |change: &Change| match change {
            Change::Event(_, event, _) if event.key.job == id && event.received == received => {
                (Some(event.time) > self.forgotten).then_some(event.key)
            }
            _ => None,
        };
        self.written[self.lost..].iter().filter_map(of_it).next_back().map(Progress::after)
    }

    /// The scripts of a hooks path.
    fn list(&self, path: &HooksPath) -> Vec<&'static str> {
        let others = self.others.iter().filter(|(name, _)| *name == path.name()).map(|(_, script)| *script);
        if *path == HooksPath::Global { self.scripts.clone() } else { others.collect() }
    }

    fn pre_hooks(&self) -> BTreeSet<HooksPath> {
        let others =
            self.others.iter().filter_map(|(name, _)| HooksPath::of_directory(&format!("{name}-pre.d")));
        let paths = others.map(|(path, _)| path).chain([HooksPath::Global]);
        paths.filter(|path| !self.list(path).is_empty()).collect()
    }

    fn prepare(&mut self, seq: i64, phase: Phase, paths: &[HooksPath]) {
        let scripts = paths.iter().flat_map(|hooks| {
            let directory = hooks.directory(phase);
            let is_refused = self.refused.contains(&directory.as_str());
            let names = if is_refused { vec![directory.as_str()] } else { self.list(hooks) };
            let script = |name: &str| Script {
                hooks: hooks.clone(),
                name: name.to_owned(),
                path: format!("/hooks/{directory}/{name}").into(),
                refusal: is_refused.then(|| "others may write to it".to_owned()),
            };
            names.into_iter().map(script).collect::<Vec<_>>()
        });
        let scripts = scripts.collect();
        self.give(Input::Prepared { seq, scripts: Ok(scripts), facts: ClusterFacts::default() });
    }

    fn start(&mut self, run: ScriptRun) {
        let env = &run.env;
        let name = run.script.file_name().unwrap().to_str().unwrap();
        let words = ["GANETI_HOOKD_EVENT", "GANETI_HOOKD_LATE", "GANETI_HOOKD_ATTEMPT"]
            .map(|name| env[name].as_str());
        let status = env.get("GANETI_POST_STATUS").map_or("-", String::as_str);
        let again = env.get("GANETI_HOOKD_RERUN").map(|again| format!(" rerun={again}")).unwrap_or_default();
        self.ran.push(format!("{name} {} {status} late={} attempt={}{again}", words[0], words[1], words[2]));
        self.running.push(run);
    }

    /// A file of the queue changed, and inotify tells of it.
    pub fn put(&mut self, job: Job<'static>) {
        let id = job.id;
        self.queue.insert(id, job);
        self.give(Input::Hint(id));
        self.settle();
    }

    /// The oldest running script of an event ends well.
    pub fn end(&mut self, event: &str) {
        self.end_with(event, Outcome { code: Some(0), ..Outcome::default() });
    }

    pub fn end_with(&mut self, event: &str, outcome: Outcome) {
        let place = self.running.iter().position(|run| run.env["GANETI_HOOKD_EVENT"] == event);
        let ScriptRun { run, seq, .. } = self.running.remove(place.unwrap());
        self.give(Input::RunEnded { run, seq, outcome });
        self.settle();
    }

    /// Answers all plans that were asked for.
    pub fn plan_all(&mut self) {
        for request in std::mem::take(&mut self.plans) {
            self.give(Input::Planned { seq: request.seq, plan: Plan::default(), problem: None });
        }
        self.settle();
    }

    /// Answers the plan that was asked for: these are its nodes, and those of Ganeti's own hooks.
    pub fn plan_on(&mut self, nodes: &[&str], native: Option<&[&str]>) {
        let names = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect::<Vec<_>>();
        let view = View { nodes: names(nodes), native: native.map(names), ..View::default() };
        let all: BTreeSet<&str> = nodes.iter().chain(native.into_iter().flatten()).copied().collect();
        let address = Some(([198, 51, 100, 1], 1811).into());
        let target = |node: &str| Target { node: node.to_owned(), address };
        let plan = Plan { view, targets: all.into_iter().map(target).collect() };
        let seq = self.plans.remove(0).seq;
        self.give(Input::Planned { seq, plan, problem: None });
        self.settle();
    }

    /// The oldest request to another node is answered: so many scripts ran, well.
    pub fn answer(&mut self, scripts: &[&str]) {
        let NodeRun { run, seq, .. } = self.asked.remove(0);
        let outcome = Outcome { code: Some(0), ..Outcome::default() };
        let scripts = scripts.iter().map(|script| ((*script).to_owned(), outcome.clone())).collect();
        self.give(Input::NodeEnded { run, seq, outcome, scripts });
        self.settle();
    }

    /// What it tells Prometheus.
    pub fn metrics(&self) -> String {
        self.engine.metrics(self.now, self.engine.status(self.now)).text()
    }

    /// The token of a process.
    pub fn token(&self, pid: u32) -> Token {
        *self.tokens.iter().rev().find(|(_, process)| process.pid == pid).unwrap().0
    }

    /// Whether a process stands still.
    pub fn stands(&self, pid: u32) -> bool {
        self.tokens.iter().any(|(token, process)| process.pid == pid && self.stopped.contains(token))
    }

    /// A process ends, and that is told.
    pub fn dies(&mut self, pid: u32) {
        self.alive.remove(&pid);
        let token = self.token(pid);
        self.give(Input::Exited(token));
        self.settle();
    }

    /// What the journal has of events: number, event, status, `late`.
    pub fn events(&self) -> Vec<String> {
        let event = |change: &Change| match change {
            Change::Event(_, event, state) => Some(format!("{event} {}", state.as_str())),
            _ => None,
        };
        self.written.iter().filter_map(event).collect()
    }

    /// Jobs that were read since so many effects, in order.
    pub fn reads_since(&self, effects: usize) -> Vec<i64> {
        let read = |effect: &Effect| match effect {
            Effect::Read { id, .. } => Some(id.get()),
            _ => None,
        };
        self.done[effects..].iter().filter_map(read).collect()
    }
}

/// What tells a version of a job from others.
pub fn stamp(job: &Job<'_>) -> Option<Stamp> {
    let changed = job.ops.iter().flat_map(|op| [op.started, op.executed, op.ended]).flatten();
    let changed = changed.map(Timestamp::as_micros).max().unwrap_or(0);
    Some(Stamp { inode: job.id.get().unsigned_abs(), size: 1, changed })
}

/// The cluster's UUID.
pub const CLUSTER: &str = "6c65ae12-8d72-4c41-8e0b-5f1b57a3e6f1";

/// A job of these opcodes that was received `after` seconds.
pub fn job(id: i64, codes: &[&str], after: i64) -> Job<'static> {
    let op = |code: &&str| Opcode {
        code: (*code).to_owned().into(),
        status: Status::Queued,
        started: None,
        executed: None,
        ended: None,
        death_detected: false,
        text: Default::default(),
    };
    Job {
        id: id.try_into().unwrap(),
        received: Timestamp::from((EPOCH + after, id)),
        livelock: None,
        process_id: None,
        started: None,
        ops: codes.iter().map(op).collect(),
    }
}

/// What becomes of a job.
pub trait Life: Sized {
    /// This process runs it.
    fn by(self, pid: u32) -> Self;
    /// An opcode waits for locks.
    fn waits(self, op: usize, after: i64) -> Self;
    /// It executes.
    fn runs(self, op: usize, after: i64) -> Self;
    /// It ends.
    fn ends(self, op: usize, status: Status, after: i64) -> Self;
}

impl Life for Job<'static> {
    fn by(mut self, pid: u32) -> Self {
        self.process_id = Some(pid);
        self.livelock = Some(format!("/run/ganeti/livelocks/job_{pid}").into());
        self
    }

    fn waits(mut self, op: usize, after: i64) -> Self {
        let time = Timestamp::from((EPOCH + after, 0));
        self.started.get_or_insert(time);
        self.ops[op].status = Status::Waiting;
        self.ops[op].started.get_or_insert(time);
        self
    }

    fn runs(self, op: usize, after: i64) -> Self {
        let mut job = self.waits(op, after);
        job.ops[op].status = Status::Running;
        job.ops[op].executed = Some(Timestamp::from((EPOCH + after, 0)));
        job
    }

    fn ends(mut self, op: usize, status: Status, after: i64) -> Self {
        self.ops[op].status = status;
        self.ops[op].ended = Some(Timestamp::from((EPOCH + after, 0)));
        self
    }
}

/// A job of one delay.
pub fn delay(id: i64, after: i64) -> Job<'static> {
    job(id, &["OP_TEST_DELAY"], after)
}

/// One that has ended well.
pub fn ended(id: i64, after: i64) -> Job<'static> {
    delay(id, after).runs(0, after).ends(0, Status::Success, after)
}
