//! Master or standby (design, section 7): only the master runs hooks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::deliver::{Delivery, Earlier};
use super::{Daemon, now};
use crate::engine::dispatch::Dispatch;
use crate::ganeti::event::Event;
use crate::ganeti::opcodes::View;
use crate::world::cluster::{MASTER_NODE, ONLINE_NODES};
use crate::world::failpoints;
use crate::world::journal::{Change, EventState};
use crate::world::queue::watch::{Hint, watch};

use super::message::Message;
use crate::ganeti::job::JobId;
use std::os::unix::ffi::OsStrExt;

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

/// An event noticed in standby, or left by a master that is one no more.
#[derive(Debug)]
pub struct StandbyEvent {
    /// Its number.
    pub seq: i64,
    /// The event.
    pub event: Event,
    /// Its runs so far, as far as this node began them.
    earlier: Earlier,
    /// What its scripts were given, if that is known.
    given: Option<View>,
    /// When, by the clock that nobody sets; `None` for before that began.
    noticed: Option<Instant>,
}

impl StandbyEvent {
    /// A new event, which was noticed when it says.
    pub fn new(seq: i64, event: Event) -> Self {
        Self::resumed(seq, event, Earlier::new(), None)
    }

    /// An event that this node has begun to deliver when it was master.
    pub fn resumed(seq: i64, event: Event, earlier: Earlier, given: Option<View>) -> Self {
        let age = now().as_micros().saturating_sub(event.time.as_micros());
        let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        Self { seq, event, earlier, given, noticed: Instant::now().checked_sub(age) }
    }
}

impl Daemon {
    /// Asks ssconf who is master, before anything is dispatched.
    pub(super) fn update_role(&mut self) {
        match self.cluster.master() {
            // The cluster was destroyed under its master. Nobody else can run the hooks of
            // its last opcodes, so this node does.
            Ok(None) if self.role == Role::Master => {
                self.problems.remove("master");
            }
            Ok(master) => {
                self.problems.remove("master");
                if self.master != master {
                    self.master = master;
                    self.watchdog.status(&self.summary());
                }
            }
            Err(error) => {
                self.problems.insert("master", error.to_string());
            }
        }
        let role =
            if self.master.as_deref() == Some(self.node.as_str()) { Role::Master } else { Role::Standby };
        if role != self.role {
            self.change_role(role);
        } else if self.is_anothers() && self.deliveries.values().any(|d| d.running.is_empty()) {
            // They were left to this node before anybody knew whose they are.
            self.stand_by();
        }
    }

    /// Whether another node is known to be master. Where nobody is, it may be this one.
    pub(super) fn is_anothers(&self) -> bool {
        self.role == Role::Standby && self.master.is_some()
    }

    fn change_role(&mut self, role: Role) {
        let master = self.master.as_deref().unwrap_or("unknown");
        log::info!("{} is {} now (the master is {master})", self.node, role.as_str());
        self.role = role;
        match role {
            Role::Master => self.take_over(),
            Role::Standby => self.stand_by(),
        }
        self.watchdog.status(&self.summary());
    }

    /// The events of the last moments before the failover may not have been delivered
    /// by the old master; and whose process has ended can be told only now.
    fn take_over(&mut self) {
        failpoints::point("role.take-over");
        let window = self.settings.master.failover_window;
        for standby in std::mem::take(&mut self.standby) {
            let StandbyEvent { seq, event, earlier, given, noticed } = standby;
            if noticed.is_some_and(|noticed| noticed.elapsed() <= window) {
                self.adopt(seq, event, earlier, given);
            }
        }
        // What is found now, a death for instance, happened before.
        self.starting = true;
        self.rescan = true;
    }

    /// Delivers, late, an event that has been known for a while.
    pub(super) fn adopt(&mut self, seq: i64, mut event: Event, earlier: Earlier, given: Option<View>) {
        event.late = true;
        self.changes.push(Change::Adopt(seq));
        self.deliver(seq, Delivery::resumed(event, earlier, given));
    }

    /// Puts an event that has its number on its way.
    pub(super) fn deliver(&mut self, seq: i64, delivery: Delivery) {
        self.dispatch.push(delivery.event.key.job, seq);
        self.deliveries.insert(seq, delivery);
        self.ask_for_plan(seq);
    }

    /// What has not begun is the new master's to deliver.
    fn stand_by(&mut self) {
        let waiting: Vec<i64> =
            self.deliveries.iter().filter(|(_, d)| d.running.is_empty()).map(|(seq, _)| *seq).collect();
        for seq in waiting {
            if let Some(Delivery { event, earlier, given, plan, .. }) = self.deliveries.remove(&seq) {
                self.changes.push(Change::EventState(seq, EventState::Standby));
                let given = plan.map(|plan| plan.view).or(given);
                self.remember_in_standby(StandbyEvent::resumed(seq, event, earlier, given));
            }
        }
        self.let_all_go();
        self.dispatch = self.what_runs();
        self.processes.clear();
        self.dead.clear();
    }

    /// Only the events whose scripts run: should this node be master again before they
    /// end, their jobs' next events wait for them.
    fn what_runs(&self) -> Dispatch {
        let mut dispatch = Dispatch::default();
        for (seq, delivery) in self.deliveries.iter().filter(|(_, d)| !d.running.is_empty()) {
            dispatch.push(delivery.event.key.job, *seq);
        }
        while dispatch.begin([]).is_some() {}
        dispatch
    }

    /// Keeps an event for the case that this node becomes master within the window.
    pub(super) fn remember_in_standby(&mut self, standby: StandbyEvent) {
        let window = self.settings.master.failover_window;
        let is_old = |event: &StandbyEvent| event.noticed.is_none_or(|noticed| noticed.elapsed() > window);
        while self.standby.front().is_some_and(is_old) {
            self.standby.pop_front();
        }
        self.standby.push_back(standby);
    }

    /// Looks whether the watched directories are still where they were.
    pub(super) fn check_watch(&mut self) {
        if self.watch.as_ref().is_some_and(|watch| !watch.is_current()) {
            self.take(Message::WatchLost);
        }
    }

    /// Watches the queue and the cluster's files, where that is not done or was lost.
    pub(super) fn watch_again(&mut self) {
        if self.watch.is_some() || self.retry_at.is_some() {
            return;
        }
        let (queue_dir, data_dir) =
            (self.settings.paths.queue_dir.clone(), self.settings.paths.data_dir.clone());
        let handler = tell(self.sender.clone(), queue_dir.clone(), data_dir.clone());
        let mut dirs = vec![queue_dir];
        if !dirs.contains(&data_dir) {
            dirs.push(data_dir);
        }
        match watch(&dirs, handler) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.rescan = true;
                self.problems.remove("watch");
            }
            Err(error) => {
                if !self.problems.contains_key("watch") {
                    log::error!("{error}; trying again every second");
                }
                self.problems.insert("watch", error.to_string());
                self.retry_later();
            }
        }
    }
}

/// Tells the daemon what it has to look at.
fn tell(inbox: Sender<Message>, queue_dir: PathBuf, data_dir: PathBuf) -> impl FnMut(Hint<'_>) + Send {
    move |hint| {
        let message = match hint {
            Hint::Changed(dir, name) if dir == data_dir && (name == MASTER_NODE || name == ONLINE_NODES) => {
                Some(Message::Cluster)
            }
            Hint::Changed(dir, name) if dir == queue_dir => {
                JobId::from_file_name(name.as_bytes()).map(Message::Job)
            }
            Hint::Changed(..) => None,
            Hint::Overflow => Some(Message::Overflow),
            Hint::Lost(_) => Some(Message::WatchLost),
        };
        if let Some(message) = message {
            let _ = inbox.send(message);
        }
    }
}
