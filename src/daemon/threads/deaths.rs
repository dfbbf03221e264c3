//! Deaths are told to Ganeti by a thread of their own, one after the other: its daemons may be slow
//! or silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::daemon::message::Message;
use crate::engine::effect::Death;
use crate::engine::input::Input;
use crate::engine::settings::Paths;
use crate::world::cluster::deaths;
use crate::world::failpoints;
use crate::world::panics::caught;
use crate::world::process::priority;
use crate::world::shortage::explain;

/// The way to the thread, which is started when it is needed first.
#[derive(Debug)]
pub struct Deaths {
    paths: Paths,
    owner: Sender<Message>,
    /// Somebody wants it told.
    is_wanted: Arc<AtomicBool>,
    thread: Option<Sender<Death>>,
}

impl Deaths {
    /// There is no thread yet; what comes of a telling goes to `owner`.
    pub fn new(paths: &Paths, owner: Sender<Message>) -> Self {
        let is_wanted = Arc::new(AtomicBool::new(true));
        Self { paths: paths.clone(), owner, is_wanted, thread: None }
    }

    /// Whether Ganeti is to be told from now on, also of those that wait for that.
    pub fn want(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Release);
    }

    /// Has Ganeti told. Brings `Input::GanetiTold`.
    pub fn tell(&mut self, death: Death) {
        failpoints::point("death.before-telling");
        let Death { seq, job, .. } = death;
        let sent = self.thread().and_then(|thread| {
            // It ends with the daemon, not before.
            thread.send(death).map_err(|_| "the thread that tells it has ended".to_owned())
        });
        if let Err(error) = sent {
            let _ = self.owner.send(Message::Input(Input::GanetiTold { seq, job, result: Err(error) }));
        }
    }

    fn thread(&mut self) -> Result<&Sender<Death>, String> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => self.start()?,
        };
        Ok(self.thread.insert(thread))
    }

    fn start(&self) -> Result<Sender<Death>, String> {
        let (sender, deaths) = unbounded();
        let (paths, owner) = (self.paths.clone(), self.owner.clone());
        let is_wanted = Arc::clone(&self.is_wanted);
        let builder = thread::Builder::new().name("deaths".to_owned());
        let started = builder.spawn(move || {
            priority::reset();
            work(&paths, &is_wanted, &deaths, &owner);
        });
        started.map(|_| sender).map_err(|error| explain(&error))
    }
}

fn work(paths: &Paths, is_wanted: &AtomicBool, deaths: &Receiver<Death>, owner: &Sender<Message>) {
    for death in deaths {
        let Death { seq, job, .. } = death;
        let result = caught(|| {
            failpoints::defect("deaths");
            match is_wanted.load(Ordering::Acquire) {
                true => deaths::tell(paths, &death),
                false => Err("tell-ganeti was turned off".to_owned()),
            }
        });
        let result = result.and_then(std::convert::identity);
        if owner.send(Message::Input(Input::GanetiTold { seq, job, result })).is_err() {
            return;
        }
    }
}
