//! Where the daemon can be asked besides by root: who may use the socket, and metrics over TCP. What
//! the configuration says of it applies at once when that is read again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Who is let in, or is being looked up.
    group: String,
    /// How often that was said. Whose look-up ends when more has been said changes nothing.
    said: Arc<Mutex<u64>>,
}

impl Doors {
    /// Nothing is, but for root.
    pub fn new(paths: &Paths, inbox: Sender<Message>) -> Self {
        let (run_dir, state_dir) = (paths.run_dir.clone(), paths.state_dir.clone());
        Self { run_dir, state_dir, inbox, metrics: None, group: String::new(), said: Arc::default() }
    }

    /// Opens what is to be open, and nothing else. What cannot be is told.
    pub fn open(&mut self, api: &Api) {
        let listens = self.listen(api);
        let group = api.group.clone();
        self.let_in(&api.group, listens, move || {
            failpoints::defect("group");
            access::look_up(&group)
        });
    }

    /// Lets a group in, once it has been looked up; whoever else was let in is so no more at once.
    fn let_in(
        &mut self,
        group: &str,
        listens: Result<(), String>,
        look_up: impl FnOnce() -> Result<u32, String> + Send + 'static,
    ) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        *said += 1;
        let turn = *said;
        let is_other = std::mem::replace(&mut self.group, group.to_owned()) != group;
        let shut = if is_other || group.is_empty() { access::shut(&self.run_dir) } else { Ok(()) };
        if group.is_empty() || shut.is_err() {
            return tell(&self.inbox, [shut, listens]);
        }
        drop(said);
        let (run_dir, inbox, said) = (self.run_dir.clone(), self.inbox.clone(), Arc::clone(&self.said));
        let beside = listens.clone();
        // To look a group up may take long.
        let let_in = move || {
            let looked_up = caught(look_up).unwrap_or_else(|what| Err(format!("api.group: {what}")));
            let said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if *said == turn {
                let result = match looked_up {
                    Ok(gid) => access::let_in(&run_dir, gid),
                    Err(error) => access::shut(&run_dir).and(Err(error)),
                };
                tell(&inbox, [result, listens]);
            }
        };
        if let Err(error) = thread::Builder::new().name("group".to_owned()).spawn(let_in) {
            tell(&self.inbox, [Err(format!("api.group: it cannot be looked up: {error}")), beside]);
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

/// Tells what cannot be, or that all is well.
fn tell(inbox: &Sender<Message>, results: impl IntoIterator<Item = Result<(), String>>) {
    let problems: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    let result = if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) };
    let _ = inbox.send(Message::Input(Input::Api(result)));
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use crossbeam_channel::{Receiver, bounded, unbounded};

    use super::*;
    use crate::engine::settings::Settings;
    use crate::world::api::SOCKET;

    fn told(inbox: &Receiver<Message>) -> Result<(), String> {
        match inbox.recv().unwrap() {
            Message::Input(Input::Api(result)) => result,
            _ => panic!("something else is told"),
        }
    }

    #[test]
    fn who_is_looked_up_slowly_and_not_wanted_any_more_is_not_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(SOCKET);
        fs::write(&socket, "").unwrap();
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).unwrap();
        let mode = || fs::metadata(&socket).unwrap().mode() & 0o777;
        let gid = fs::metadata(&socket).unwrap().gid();
        let (sender, inbox) = unbounded();
        let mut doors =
            Doors::new(&Paths { run_dir: dir.path().to_owned(), ..Settings::default().paths }, sender);

        doors.let_in("first", Ok(()), move || Ok(gid));
        assert_eq!((told(&inbox), mode()), (Ok(()), 0o660));
        let (go_on, wait) = bounded::<()>(0);
        doors.let_in("slow", Ok(()), move || {
            let _ = wait.recv();
            Ok(gid)
        });
        assert_eq!(mode(), 0o600, "the first is wanted no more");
        doors.let_in("", Ok(()), || Err("nobody is looked up".to_owned()));
        assert_eq!(told(&inbox), Ok(()));
        go_on.send(()).unwrap();
        // Its thread has the other end of what it tells with: it is over when that is gone.
        drop(doors);
        assert!(inbox.recv().is_err(), "nothing is told of it");
        assert_eq!(mode(), 0o600);
    }
}
