//! The outboxes' threads: one for each, so that a receiver that is dead or slow costs nobody else
//! anything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_channel::Sender;

use super::outbox::Worker;
use crate::daemon::message::Message;
use crate::engine::input::Input;
use crate::engine::outbox_progress::{Assignment, Progress, Report};
use crate::engine::settings::{Outbox, Paths};
use crate::world::api::bell::Bell;
use crate::world::api::outbox::{Done, NotDone, Wanted, Wish};
use crate::world::journal::History;

/// Something that somebody wants of an outbox, and who is told what came of it.
pub type Asked = (Wish, Sender<Result<Done, NotDone>>);

/// What an outbox is to do.
#[derive(Debug)]
pub struct Order {
    /// Its settings.
    pub settings: Outbox,
    /// It is to send.
    pub sends: bool,
    /// It is in the configuration no more.
    pub is_over: bool,
    /// What is wanted of it.
    pub asked: Vec<Asked>,
    /// It has not seen this yet.
    pub is_new: bool,
}

impl Order {
    /// What its thread has seen by this.
    pub fn take(&mut self) -> Self {
        let (asked, is_new) = (std::mem::take(&mut self.asked), std::mem::take(&mut self.is_new));
        Self { settings: self.settings.clone(), sends: self.sends, is_over: self.is_over, asked, is_new }
    }
}

/// What one thread is told and another has not seen yet.
#[derive(Debug)]
pub struct Orders(Mutex<Order>);

impl Orders {
    /// What it is to do now.
    pub fn lock(&self) -> MutexGuard<'_, Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them.
#[derive(Debug)]
pub struct Outboxes {
    orders: BTreeMap<String, Arc<Orders>>,
    bell: Arc<Bell>,
    inbox: Sender<Message>,
    state_dir: PathBuf,
    data_dir: PathBuf,
}

impl Outboxes {
    /// None yet.
    pub fn new(paths: &Paths, bell: Arc<Bell>, inbox: Sender<Message>) -> Self {
        let (state_dir, data_dir) = (paths.state_dir.clone(), paths.data_dir.clone());
        Self { orders: BTreeMap::new(), bell, inbox, state_dir, data_dir }
    }

    /// These outboxes are to send, or not, and no others.
    pub fn assign(&mut self, assigned: Vec<Assignment>, sends: bool) {
        let is_over = |name: &String| !assigned.iter().any(|one| one.settings.name == *name);
        for (_, orders) in self.orders.iter().filter(|(name, _)| is_over(name)) {
            let mut order = orders.lock();
            // It stays, asleep: a request may be under way, and two would not know of each other
            // should it come back.
            (order.sends, order.is_over, order.is_new) = (false, true, true);
        }
        for Assignment { settings, progress } in assigned {
            match self.orders.get(&settings.name) {
                Some(orders) => {
                    let mut order = orders.lock();
                    (order.settings, order.sends) = (settings, sends);
                    (order.is_over, order.is_new) = (false, true);
                }
                // Also in standby: where a new one begins is settled now, not at a failover.
                None => self.start(settings, sends, progress),
            }
        }
        self.bell.outboxes_have_orders();
    }

    fn start(&mut self, settings: Outbox, sends: bool, progress: Option<Progress>) {
        let name = settings.name.clone();
        let progress = progress.or_else(|| self.begin());
        let kept = progress.clone().unwrap_or_default();
        let order = Order { settings, sends, is_over: false, asked: Vec::new(), is_new: true };
        let orders = Arc::new(Orders(Mutex::new(order)));
        let worker = Worker {
            orders: Arc::clone(&orders),
            bell: Arc::clone(&self.bell),
            inbox: self.inbox.clone(),
            state_dir: self.state_dir.clone(),
            data_dir: self.data_dir.clone(),
        };
        match thread::Builder::new().name("outbox".to_owned()).spawn(move || worker.work(progress)) {
            Ok(_) => drop(self.orders.insert(name, orders)),
            Err(error) => {
                let trouble = format!("it has no thread: {error}; systemctl reload ganeti-hookd tries again");
                let report = Report {
                    progress: kept,
                    state: "failing".to_owned(),
                    trouble: Some(trouble),
                    is_problem: true,
                };
                let _ = self.inbox.send(Message::Input(Input::Outbox { name, report: Box::new(report) }));
            }
        }
    }

    /// Where a new outbox begins: before anything that comes from now on, also before its thread
    /// has come to look. `None` where that cannot be read now; then the thread sees to it.
    fn begin(&self) -> Option<Progress> {
        let history = History::open(&self.state_dir).ok().flatten()?;
        history.outbox_span().ok().map(Progress::new)
    }

    /// Somebody wants something of an outbox.
    pub fn ask(&self, wanted: Wanted, reply: Sender<Result<Done, NotDone>>) {
        let order = self.orders.get(&wanted.outbox).map(|orders| orders.lock());
        let Some(mut order) = order.filter(|order| !order.is_over) else {
            let _ = reply.send(Err(NotDone::Unknown));
            return;
        };
        if !order.sends {
            let _ = reply.send(Err(NotDone::No("this node is in standby: the master sends".to_owned())));
            return;
        }
        order.asked.push((wanted.wish, reply));
        order.is_new = true;
        drop(order);
        self.bell.outboxes_have_orders();
    }
}
