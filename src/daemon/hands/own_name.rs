//! What this node is called: by the configuration, or as the system tells it, which is asked again
//! when it does not fit.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::daemon::message::Message;
use crate::engine::settings::Settings;
use crate::world::cluster::own_name;
use crate::world::flood::Flow;

/// Between an answer of the system that does not fit and the next question.
const PAUSE: Duration = Duration::from_secs(5);

/// This node's name as it was told last.
#[derive(Debug)]
pub struct OwnName {
    name: String,
    /// Whether the configuration says so; then nobody is asked.
    is_set: bool,
    data_dir: PathBuf,
    inbox: Sender<Message>,
    is_asking: bool,
    /// When the system told it last.
    told: Option<Instant>,
}

impl OwnName {
    /// This name, by these settings; what the system has to say later goes to `inbox`.
    pub fn new(settings: &Settings, name: String, inbox: Sender<Message>) -> Self {
        let (is_set, data_dir) = (!settings.master.name.is_empty(), settings.paths.data_dir.clone());
        Self { name, is_set, data_dir, inbox, is_asking: false, told: None }
    }

    /// Why it is not known whether this node is the master of this name, if so. Where it is not
    /// by the name that we know, the system is asked again.
    pub fn doubt(&mut self, master: &str) -> Option<String> {
        if self.is_set || self.name == master {
            return None;
        }
        if self.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            self.ask_now();
        }
        own_name::doubt(&self.data_dir, &self.name, master)
    }

    /// Asks the system, unless it is being asked.
    pub fn ask_now(&mut self) {
        if self.is_set || self.is_asking {
            return;
        }
        let inbox = self.inbox.clone();
        match own_name::ask(move |name| drop(inbox.send(Message::Named(name)))) {
            Ok(()) => self.is_asking = true,
            // It is asked again when it is needed again.
            Err(error) => {
                static FLOW: Flow = Flow::new();
                FLOW.warn(format_args!("this node's name cannot be asked for: {error}"));
            }
        }
    }

    /// The system tells this name. Returns whether it is one to go by with this master.
    pub fn told(&mut self, name: String, master: Option<&str>) -> bool {
        self.is_asking = false;
        self.told = Some(Instant::now());
        if self.is_set {
            return false;
        }
        self.name = name;
        master.is_none_or(|master| own_name::doubt(&self.data_dir, &self.name, master).is_none())
    }

    /// The name by other settings, as far as it is known at once.
    pub fn reloaded(&mut self, settings: &Settings) -> String {
        self.is_set = !settings.master.name.is_empty();
        if self.is_set {
            self.name.clone_from(&settings.master.name);
        } else {
            self.ask_now();
        }
        self.name.clone()
    }
}
