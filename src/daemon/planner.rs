//! The planner: works out what an event's scripts are given and where they run.
//!
//! A thread of its own, because it waits for wconfd and reads configurations of
//! megabytes, which the owner of the state never does. It plans one event after the
//! other, in the order they are asked for, so that a post finds what its pre left.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::message::Message;
use crate::engine::settings::Paths;
use crate::engine::views::{Views, limit};
use crate::ganeti::config::ClusterConfig;
use crate::ganeti::event::Event;
use crate::ganeti::job::{self, OpInput};
use crate::ganeti::opcodes::View;
use crate::world::cluster::Configuration;
use crate::world::journal::History;
use crate::world::noded;
use crate::world::queue::read::{JOB_SIZE_LIMIT, JobReader};

/// What the scripts of an event are given, and where they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Variables and nodes.
    pub view: View,
    /// The nodes, with the addresses of their daemons.
    pub targets: Vec<Target>,
}

/// A node that hooks run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub node: String,
    /// Its daemon's address; `None` when the configuration has none.
    pub address: Option<SocketAddr>,
}

/// An event to plan.
#[derive(Debug)]
struct Request {
    seq: i64,
    event: Event,
    /// What it was given in an earlier life.
    given: Option<View>,
}

/// The way to the planner's thread.
#[derive(Debug)]
pub struct Planner {
    requests: Sender<Request>,
}

impl Planner {
    /// Starts the thread; its answers go to `owner`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(paths: &Paths, owner: Sender<Message>) -> io::Result<Self> {
        let (requests, inbox) = unbounded();
        let desk = Desk::new(paths);
        thread::Builder::new().name("planner".to_owned()).spawn(move || desk.work(&inbox, &owner))?;
        Ok(Self { requests })
    }

    /// Asks for the plan of an event; the answer is a [`Message::Planned`]. `given` is the
    /// view it was given in an earlier life, if it was: that does not change.
    pub fn ask(&self, seq: i64, event: &Event, given: Option<View>) {
        // The thread ends with the daemon, not before.
        let _ = self.requests.send(Request { seq, event: event.clone(), given });
    }
}

/// What the thread works with.
struct Desk {
    state_dir: PathBuf,
    reader: JobReader,
    configuration: Configuration,
    views: Views,
}

impl Desk {
    fn new(paths: &Paths) -> Self {
        Self {
            state_dir: paths.state_dir.clone(),
            reader: JobReader::new(&paths.queue_dir),
            configuration: Configuration::new(paths),
            views: Views::default(),
        }
    }

    fn work(mut self, inbox: &Receiver<Request>, owner: &Sender<Message>) {
        for Request { seq, event, given } in inbox {
            // Not even a defect of ours may keep an event from its scripts.
            let planned = catch_unwind(AssertUnwindSafe(|| self.plan(&event, given)));
            let (plan, problem) = planned.unwrap_or_else(|_| {
                log::error!("{}: a defect of ganeti-hookd; it gets no specialised variables", event.key);
                (Plan::default(), None)
            });
            if owner.send(Message::Planned { seq, plan, problem }).is_err() {
                return;
            }
        }
    }

    /// The plan of an event, and what an operator must see to.
    fn plan(&mut self, event: &Event, given: Option<View>) -> (Plan, Option<String>) {
        let found = self.configuration.read();
        let view = match given {
            Some(view) => view,
            None => self.view(event, found.config.clone()),
        };
        let targets = targets(&view, found.config.as_deref());
        (Plan { view, targets }, found.problem)
    }

    fn view(&mut self, event: &Event, config: Option<std::sync::Arc<ClusterConfig>>) -> View {
        let input = self.input(event);
        let state_dir = &self.state_dir;
        let pre_view = || match History::open(state_dir).and_then(|history| match history {
            Some(history) => history.pre_plan(event),
            None => Ok(None),
        }) {
            Ok(view) => view,
            Err(error) => {
                log::warn!("{}: {error}; it lacks what its pre was given", event.key);
                None
            }
        };
        let mut view = self.views.view(event, input, config, pre_view);
        let dropped = limit(&mut view);
        if !dropped.is_empty() {
            let dropped = dropped.join(", ");
            log::warn!(
                "{}: too large for an environment, or with a NUL, left out: {}",
                event.key,
                dropped.escape_debug()
            );
        }
        view
    }

    /// The opcode's input in the newest version of the job's file.
    fn input(&mut self, event: &Event) -> Option<OpInput> {
        let id = event.key.job;
        for archived in [false, true] {
            let bytes =
                if archived { self.reader.archived(id) } else { self.reader.queued(id, JOB_SIZE_LIMIT) };
            match bytes {
                Ok(Some(bytes)) => return input_in(bytes, event),
                Ok(None) => {}
                Err(error) => log::warn!("{}: the job's file {error}", event.key),
            }
        }
        None
    }
}

fn targets(view: &View, config: Option<&ClusterConfig>) -> Vec<Target> {
    let address = |node: &str| config.and_then(|config| daemon_address(config, node));
    view.nodes.iter().map(|node| Target { node: node.clone(), address: address(node) }).collect()
}

/// The view of an event as it would be planned now; what its pre was given is taken from
/// the history.
pub fn view_now(paths: &Paths, event: &Event) -> View {
    Desk::new(paths).plan(event, None).0.view
}

/// The event's opcode's input in a job file; none if it is another job of that number.
fn input_in(bytes: &[u8], event: &Event) -> Option<OpInput> {
    let job = job::parse(event.key.job, bytes).ok()?;
    let of_this = job.received == event.received;
    let input = of_this.then(|| job::op_input(bytes, event.key.op as usize).ok().flatten());
    input.flatten()
}

/// Where a node's daemon listens.
pub fn daemon_address(config: &ClusterConfig, node: &str) -> Option<SocketAddr> {
    let address: IpAddr = config.node_address(node)?.parse().ok()?;
    Some(SocketAddr::new(address, noded::PORT))
}

#[cfg(test)]
mod tests;
