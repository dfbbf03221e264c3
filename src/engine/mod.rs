//! What decides. Given versions of job files, ends of processes and the time, it says what
//! happened and what is to be done. It knows no file, process, clock, thread or database.
//!
//! [`Engine::take`] takes one [`Input`] and returns [`Effect`]s. They are to be done in order;
//! what one brings at once is taken, and what follows from that done, before the next one is.
//! When nothing else has happened, [`Input::Quiet`] has the engine go on with what is next.
//!
//! Each thing has one owner, and each owner holds its own invariant:
//!
//! | owner | has |
//! |---|---|
//! | [`agenda::Agenda`] | what to look at, and when to try again |
//! | [`jobs::Jobs`] | how far each job was told, numbers, what the history knows |
//! | [`processes::Processes`] | job processes, looked for, watched and ended |
//! | [`deliveries::Deliveries`] | events undelivered, in standby, under way |
//! | [`holds::Holds`] | who stands still |
//! | [`ledger::Ledger`] | changes to write, effects that wait for them |
//! | [`outboxes::Outboxes`] | how far each outbox is |
//! | [`place::Place`] | node, master, role |
//! | [`report::Report`] | counters, figures, problems, failures, the log's lines |

pub mod agenda;
pub mod change;
pub mod deliveries;
pub mod directories;
pub mod effect;
pub mod environment;
pub mod flood;
pub mod holds;
pub mod input;
pub mod jobs;
pub mod ledger;
pub mod life;
pub mod metrics;
pub mod numbers;
pub mod outbox;
pub mod outbox_progress;
pub mod outboxes;
pub mod outcome;
pub mod place;
pub mod plan;
pub mod processes;
pub mod pruning;
pub mod replay;
pub mod report;
pub mod retry;
pub mod settings;
pub mod slots;
pub mod status;
mod steps;
pub mod topic;
pub mod tracker;
pub mod transitions;
pub mod views;
pub mod waiting;

use std::time::Duration;

use agenda::Agenda;
use change::Remembered;
use deliveries::{Deliveries, Delivery};
use effect::{Effect, Level};
use holds::Holds;
use input::{Input, Now};
use jobs::Jobs;
use ledger::Ledger;
use life::Life;
use outboxes::Outboxes;
use place::Place;
use processes::Processes;
use pruning::Pruning;
use report::Report;
use settings::{Nodes, PreMode, Settings};
use steps::round::Round;

/// What this node is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Events are delivered.
    Master,
    /// Events are noticed, and delivered only if this node becomes master soon.
    Standby,
}

impl Role {
    /// `master` or `standby`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Standby => "standby",
        }
    }
}

/// Everything that decides, in one value.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    agenda: Agenda,
    jobs: Jobs,
    processes: Processes,
    deliveries: Deliveries,
    holds: Holds,
    ledger: Ledger,
    outboxes: Outboxes,
    place: Place,
    report: Report,
    life: Life,
    pruning: Pruning,
    round: Round,
    /// The number of nodes that are not marked offline, as last looked.
    online_nodes: usize,
    /// What is to be done, in order.
    effects: Vec<Effect>,
}

impl Engine {
    /// An engine that goes on from what an earlier one left.
    pub fn new(settings: Settings, node: String, remembered: Remembered, now: Now) -> Self {
        let Remembered { past, jobs, numbers, undelivered, standby, .. } = remembered;
        let queue_dir = settings.paths.queue_dir.display().to_string();
        let mut engine = Self {
            agenda: Agenda::new(),
            jobs: Jobs::new(jobs, numbers, past, now.time),
            processes: Processes::default(),
            deliveries: Deliveries::default(),
            holds: Holds::default(),
            ledger: Ledger::new(remembered.next_seq, remembered.next_run),
            outboxes: Outboxes::new(remembered.outboxes),
            place: Place::new(node),
            report: Report::new(now.time, queue_dir),
            life: Life::default(),
            pruning: Pruning::new(now.steady),
            round: Round::default(),
            online_nodes: 0,
            effects: Vec::new(),
            settings,
        };
        match past.begun.or(past.first_look.map(|look| look.since)) {
            None => engine.report.say(Level::Info, "first start: jobs that have ended are history"),
            Some(_) => engine.tell_of_gap(now, past.last_written),
        }
        for event in standby {
            engine.keep_in_standby(now, event.seq, Delivery::resumed(event, now));
        }
        for event in undelivered {
            engine.adopt(event.seq, Delivery::resumed(event, now));
        }
        engine
    }

    /// So many jobs at once are compared with what a scan has found, instead of as many as are worth a
    /// live job's time: in a small world, too, things happen between two pieces then.
    pub fn in_pieces_of(mut self, jobs: usize) -> Self {
        self.agenda.take_pieces_of(jobs);
        self
    }

    /// The queue has been listed, and what was known is being compared with that.
    pub fn is_comparing(&self) -> bool {
        self.agenda.is_comparing()
    }

    /// Takes what happened; says what is to be done, in order.
    pub fn take(&mut self, now: Now, input: Input<'_>) -> Vec<Effect> {
        self.report.it_is(now.steady);
        self.holds.it_is(now.steady);
        self.ledger.it_is(now.steady);
        match input {
            Input::Hint(id) => self.agenda.hint(id),
            Input::Overflow => self.overflow(),
            Input::WatchLost => self.watch_lost(),
            Input::NoQueue => self.jobs.is_without_queue(now.time),
            Input::Watched(result) => self.watched(now, result),
            Input::Listed { scan, files } => self.listed(scan, files),
            Input::ScanEnded { scan, result } => self.scan_ended(now, scan, result),
            Input::Serial(serial) => self.serial(now, serial),
            Input::Version { id, version } => self.version(now, id, version),
            Input::LargeRead { reading, id, version } => self.large_read(now, reading, id, version),
            Input::Recalled { id, received, told } => self.recalled(now, id, received, told),
            Input::Found { token, presence } => self.found(now, token, presence),
            Input::Exited(token) => self.exited(now, token),
            Input::Stopped { token, job, result } => self.stopped(now, token, job, result),
            Input::KernelStop(result) => self.kernel_stops(result),
            Input::Armed { token, result } => self.armed(token, result),
            Input::GanetiTold { seq, job, result } => self.told_ganeti(seq, job, result),
            Input::GoneOn { run, seq } => self.gone_on(now, run, seq),
            Input::GuardStarted(result) => self.guard_started(now, result),
            Input::GuardEnded => self.guard_ended(now),
            Input::Committed(result) => self.committed(now, result),
            Input::JournalLog(size) => self.journal_log(size),
            Input::Planned { seq, plan, problem } => self.planned(seq, plan, problem),
            Input::Prepared { seq, scripts, facts } => self.prepared(now, seq, scripts, facts),
            Input::RunEnded { run, seq, outcome } => self.run_ended(now, run, seq, outcome),
            Input::NodeEnded { run, seq, outcome, scripts } => {
                self.node_ended(now, run, seq, outcome, scripts);
            }
            Input::Postponed { run, seq, error } => self.postponed(now, run, seq, &error),
            Input::Rerun { asked, found, rerun, scripts } => self.rerun(now, asked, found, rerun, &scripts),
            Input::ClusterChanged => {
                self.effects.extend([Effect::AskMaster, Effect::CountNodes, Effect::AskCluster]);
            }
            Input::Cluster(cluster) => self.place.cluster_is(cluster),
            Input::Named(node) => self.named(now, node),
            Input::Master(result) => self.master_is(now, result),
            Input::OnlineNodes(nodes) => self.online_nodes = nodes,
            Input::Recollected(past) => self.report.recall(&past),
            Input::PreHooks(scripts) => self.pre_hooks_are(scripts),
            Input::Reloaded(result) => self.reloaded(now, result),
            Input::Api(result) => self.api_is(result),
            Input::Outbox { name, report } => self.outbox_reports(now, name, *report),
            Input::Panicked(what) => self.panicked(&what),
            Input::Quiet => self.quiet(now),
            Input::Stop => self.stop(now),
        }
        self.record_holds();
        let mut effects = std::mem::take(&mut self.effects);
        // Jobs may stand still until effects are done; who reads the log comes after them.
        effects.append(&mut self.report.take_lines());
        effects
    }

    /// Nothing is under way but hooks and holds, and nothing is due: what happens now can be taken
    /// without another word from the queue, and watches stay as they are.
    pub fn is_at_rest(&self) -> bool {
        !self.life.is_stopping() && !self.ledger.is_stalled() && self.agenda.has_listed() && !self.has_more()
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        self.place.role()
    }

    /// Whether hooks of any opcode may have to run on other nodes.
    fn has_other_nodes(&self) -> bool {
        self.settings.hooks.nodes == Nodes::Targets && self.online_nodes > 1
    }

    /// When [`Input::Quiet`] is to be given even though nothing happened, by the steady clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        let always = [self.ledger.next_deadline(), self.life.next_deadline(), self.holds.next_deadline()];
        let looks = [
            self.agenda.next_deadline(),
            self.place.next_deadline(),
            self.holds.next_guard().filter(|_| self.holds_jobs()),
        ];
        let looks = looks.into_iter().chain([self.holds.next_detach()]);
        let runs = [self.deliveries.next_deadline(), self.outboxes.next_deadline()];
        let lines = [self.report.next_deadline()];
        let (stops, stalls) = (self.life.is_stopping(), self.ledger.is_stalled());
        let looks = looks.filter(|_| !stops);
        let runs = runs.into_iter().filter(|_| !stops && !stalls);
        always.into_iter().chain(lines).chain(looks).chain(runs).flatten().min()
    }

    /// The daemon may end.
    pub fn is_done(&self) -> bool {
        self.life.is_stopping() && !self.deliveries.is_anything_running()
    }

    /// Whether pre hooks end before their opcode begins.
    fn holds_jobs(&self) -> bool {
        self.settings.hooks.pre == PreMode::Hold
    }
}
