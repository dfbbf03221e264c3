//! Where the daemon can be asked besides by root: who may use the socket, and metrics over TCP. What
//! the configuration says of it applies at once when that is read again.

use std::path::PathBuf;
use std::thread;

use crossbeam_channel::Sender;

use crate::daemon::clients::Owner;
use crate::daemon::message::Message;
use crate::engine::input::Input;
use crate::engine::settings::{Api, Paths};
use crate::world::api::access;
use crate::world::api::metrics::Metrics;
use crate::world::failpoints;
use crate::world::panics::caught;

/// What is open.
#[derive(Debug)]
pub struct Doors {
    run_dir: PathBuf,
    state_dir: PathBuf,
    inbox: Sender<Message>,
    metrics: Option<Metrics>,
}

impl Doors {
    /// Nothing is, but for root.
    pub fn new(paths: &Paths, inbox: Sender<Message>) -> Self {
        let (run_dir, state_dir) = (paths.run_dir.clone(), paths.state_dir.clone());
        Self { run_dir, state_dir, inbox, metrics: None }
    }

    /// Opens what is to be open, and nothing else. What cannot be is told.
    pub fn open(&mut self, api: &Api) {
        let listens = self.listen(api);
        let (run_dir, group, inbox) = (self.run_dir.clone(), api.group.clone(), self.inbox.clone());
        let tell = move |let_in: Result<(), String>| {
            let problems: Vec<String> = [let_in, listens].into_iter().filter_map(Result::err).collect();
            let result = if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) };
            let _ = inbox.send(Message::Input(Input::Api(result)));
        };
        if group.is_empty() {
            return tell(access::let_in(&run_dir, ""));
        }
        // To look a group up may take long.
        let let_in = move || {
            let result = caught(|| {
                failpoints::defect("group");
                access::let_in(&run_dir, &group)
            });
            tell(result.unwrap_or_else(|what| Err(format!("api.group: {what}"))));
        };
        if let Err(error) = thread::Builder::new().name("group".to_owned()).spawn(let_in) {
            let problem = format!("api.group: it cannot be looked up: {error}");
            let _ = self.inbox.send(Message::Input(Input::Api(Err(problem))));
        }
    }

    fn listen(&mut self, api: &Api) -> Result<(), String> {
        let wanted = api.metrics_listen;
        if self.metrics.as_ref().map(Metrics::address) == wanted {
            return Ok(());
        }
        self.metrics = None;
        let Some(address) = wanted else { return Ok(()) };
        match Metrics::listen(address, Owner(self.inbox.clone()), &self.state_dir) {
            Ok(metrics) => self.metrics = Some(metrics),
            Err(error) => {
                return Err(format!(
                    "api.metrics-listen: {address}: {error}; nobody can ask for metrics there. Mend it, and \
                     `systemctl reload ganeti-hookd`"
                ));
            }
        }
        Ok(())
    }
}
