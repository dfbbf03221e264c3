//! The planner: works out what an event's scripts are given and where they run.
//!
//! A thread of its own, because it waits for wconfd and reads configurations of
//! megabytes, which the daemon's never does. It plans one event after the other: first those
//! that a job stands still for, else in the order they are asked for, so that a post finds
//! what its pre left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::daemon::message::Message;
use crate::engine::effect::PlanRequest;
use crate::engine::input::Input;
use crate::engine::plan::{Plan, Target};
use crate::engine::settings::Paths;
use crate::engine::views::{self, Views, limit};
use crate::ganeti::config::ClusterConfig;
use crate::ganeti::event::Event;
use crate::ganeti::job::{self, InputReading, JobId, OpInput};
use crate::ganeti::opcodes::View;
use crate::ganeti::text::plain;
use crate::world::cluster::{Configuration, Found, Source};
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::journal::History;
use crate::world::noded;
use crate::world::panics::caught;
use crate::world::queue::read::{JOB_SIZE_LIMIT, JobReader};
use crate::world::services;

/// Opcodes of which is remembered what was said of their input.
const SAID_MAX: usize = 1000;

/// Bytes of a list of names in a warning.
const NAMES_MAX: usize = 1024;

static WARNINGS: Flow = Flow::new();
static DEFECTS: Flow = Flow::new();

/// The way to the planner's thread.
#[derive(Debug)]
pub struct Planner {
    requests: Sender<PlanRequest>,
}

impl Planner {
    /// Starts the thread; its answers go to `owner`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(paths: &Paths, owner: Sender<Message>) -> io::Result<Self> {
        let (requests, inbox) = unbounded();
        let mut desk = Desk::new(paths);
        thread::Builder::new().name("planner".to_owned()).spawn(move || desk.work(&inbox, &owner))?;
        Ok(Self { requests })
    }

    /// Asks for the plan of an event; the answer is a [`Input::Planned`].
    pub fn ask(&self, request: PlanRequest) {
        // The thread ends with the daemon, not before.
        let _ = self.requests.send(request);
    }
}

/// Requests that wait, each with the number of readings of the configuration before it.
#[derive(Debug, Default)]
struct Waiting {
    urgent: VecDeque<(u64, PlanRequest)>,
    others: VecDeque<(u64, PlanRequest)>,
}

impl Waiting {
    /// Takes all requests that are there; waits for one if there is none at all. Returns
    /// `false` when none will come any more.
    fn take(&mut self, inbox: &Receiver<PlanRequest>, readings: u64) -> bool {
        if self.urgent.is_empty() && self.others.is_empty() {
            let Ok(request) = inbox.recv() else { return false };
            self.add(request, readings);
        }
        inbox.try_iter().for_each(|request| self.add(request, readings));
        true
    }

    fn add(&mut self, request: PlanRequest, readings: u64) {
        let queue = if request.urgent { &mut self.urgent } else { &mut self.others };
        queue.push_back((readings, request));
    }

    fn next(&mut self) -> Option<(u64, PlanRequest)> {
        self.urgent.pop_front().or_else(|| self.others.pop_front())
    }
}

/// What the thread works with.
struct Desk {
    state_dir: PathBuf,
    reader: JobReader,
    configuration: Configuration,
    views: Views,
    /// The configuration as it was read last.
    found: Found,
    /// How often it was read.
    readings: u64,
    /// What an operator should know of the event that was planned last.
    warnings: Vec<String>,
    /// What was said of the inputs of opcodes, so that it is said once.
    said: BTreeMap<(JobId, u32), String>,
}

impl Desk {
    fn new(paths: &Paths) -> Self {
        Self {
            state_dir: paths.state_dir.clone(),
            reader: JobReader::new(&paths.queue_dir),
            configuration: Configuration::new(paths),
            views: Views::default(),
            found: Found { config: None, source: Source::Nowhere, problem: None },
            readings: 0,
            warnings: Vec::new(),
            said: BTreeMap::new(),
        }
    }

    /// Answers one request after the other, urgent ones first. The configuration is read once
    /// for all that wait.
    fn work(&mut self, inbox: &Receiver<PlanRequest>, owner: &Sender<Message>) {
        let mut waiting = Waiting::default();
        while waiting.take(inbox, self.readings) {
            let Some((readings, PlanRequest { seq, event, given, .. })) = waiting.next() else { continue };
            // Not even a defect of ours may keep an event from its scripts.
            let planned = caught(|| {
                failpoints::defect("planner");
                self.read_after(readings);
                self.plan(&event, given)
            });
            let (plan, problem) = planned.unwrap_or_else(|what| {
                DEFECTS.error(format_args!("{}: {what}; it gets no specialised variables", event.key));
                (Plan::default(), None)
            });
            self.warnings.drain(..).for_each(|warning| WARNINGS.warn(warning));
            if owner.send(Message::Input(Input::Planned { seq, plan, problem })).is_err() {
                return;
            }
        }
    }

    /// Reads the configuration, if it was read no more often than this.
    fn read_after(&mut self, readings: u64) {
        if self.readings <= readings {
            self.readings += 1;
            self.found = self.configuration.read();
        }
    }

    /// The plan of an event, and what an operator must see to.
    fn plan(&mut self, event: &Event, given: Option<View>) -> (Plan, Option<String>) {
        let config = self.found.config.clone();
        let view = match given {
            Some(view) => view,
            None => self.view(event, config.clone()),
        };
        let targets = targets(&view, config.as_deref());
        (Plan { view, targets }, self.found.problem.clone())
    }

    fn view(&mut self, event: &Event, config: Option<Arc<ClusterConfig>>) -> View {
        let input = self.input(event);
        let (state_dir, warnings) = (&self.state_dir, &mut self.warnings);
        let pre_view = || match History::open(state_dir).and_then(|history| match history {
            Some(history) => history.pre_plan(event),
            None => Ok(None),
        }) {
            Ok(view) => view,
            Err(error) => {
                warnings.push(format!("{}: {error}; it lacks what its pre was given", event.key));
                None
            }
        };
        let mut view = self.views.view(event, input, config, pre_view);
        let dropped = limit(&mut view);
        if !dropped.is_empty() {
            let dropped = dropped.join(", ");
            let dropped = plain(&dropped, NAMES_MAX);
            let what = "too large for an environment, or with a NUL, left out";
            self.warnings.push(format!("{}: {what}: {dropped}", event.key));
        }
        view
    }

    /// The opcode's input in the newest version of the job's file.
    fn input(&mut self, event: &Event) -> Option<OpInput> {
        let id = event.key.job;
        for archived in [false, true] {
            let bytes = match archived {
                true => self.reader.archived(id, JOB_SIZE_LIMIT),
                false => self.reader.queued(id, JOB_SIZE_LIMIT),
            };
            match bytes {
                Ok(Some(bytes)) => {
                    let reading = input_in(bytes, event);
                    return self.taken(event, reading);
                }
                Ok(None) => {}
                Err(error) => self.warnings.push(format!("{}: the job's file {error}", event.key)),
            }
        }
        None
    }

    /// What can be read of an input; what cannot is said once.
    fn taken(&mut self, event: &Event, reading: Result<InputReading, String>) -> Option<OpInput> {
        let (input, warning) = match reading {
            Ok(InputReading { input, bad_fields }) if bad_fields.is_empty() => return Some(input),
            Ok(InputReading { input, bad_fields }) => {
                (Some(input), views::about_bad_fields(event.key, &bad_fields))
            }
            Err(why) => (None, format!("{}: the opcode's input is not known: {why}", event.key)),
        };
        let about = warning.split_once(' ').map_or_else(String::new, |(_, about)| about.to_owned());
        let opcode = (event.key.job, event.key.op);
        if self.said.insert(opcode, about.clone()) != Some(about) {
            self.warnings.push(warning);
        }
        if self.said.len() > SAID_MAX {
            self.said.pop_first();
        }
        input
    }
}

/// Every node that hooks of an event may run on.
fn targets(view: &View, config: Option<&ClusterConfig>) -> Vec<Target> {
    let port = noded_port();
    let address = |node: &str| config.and_then(|config| daemon_address(config, node, port));
    let of_both = view.nodes.iter().chain(view.native.iter().flatten());
    let nodes: BTreeSet<&String> = of_both.collect();
    nodes.into_iter().map(|node| Target { node: node.clone(), address: address(node) }).collect()
}

/// The view of an event as it would be planned now, and what there is to say about it; what its
/// pre was given is taken from the history.
pub fn view_now(paths: &Paths, event: &Event) -> (View, Vec<String>) {
    let mut desk = Desk::new(paths);
    desk.read_after(0);
    let (plan, problem) = desk.plan(event, None);
    (plan.view, problem.into_iter().chain(desk.warnings).collect())
}

/// The event's opcode's input in a job file, or why there is none.
fn input_in(bytes: &[u8], event: &Event) -> Result<InputReading, String> {
    let job = job::parse(event.key.job, bytes).map_err(|error| error.to_string())?;
    if job.received != event.received {
        return Err("the file of that number is another job's now".to_owned());
    }
    let input = job::op_input(bytes, event.key.op as usize).map_err(|error| error.to_string())?;
    input.ok_or_else(|| "the job's file has no such opcode".to_owned())
}

/// The port of all node daemons.
pub fn noded_port() -> u16 {
    services::tcp_port("ganeti-noded", noded::PORT)
}

/// Where a node's daemon listens, at this port.
pub fn daemon_address(config: &ClusterConfig, node: &str, port: u16) -> Option<SocketAddr> {
    let address: IpAddr = config.node_address(node)?.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests;
