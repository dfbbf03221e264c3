//! Hooks: which there are, what they are given, and running them, here or by asking the node
//! daemons of other nodes.

use std::io;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::daemon::hands::own_name::OwnName;
use crate::daemon::message::Message;
use crate::daemon::threads::planner::Planner;
use crate::daemon::threads::workers::{Task, Work, Workers};
use crate::engine::effect::{NodeRun, PlanRequest, ScriptRun};
use crate::engine::input::{ClusterId, Input, NoScripts, Script};
use crate::engine::settings::Paths;
use crate::ganeti::event::Phase;
use crate::world::cluster::Cluster;
use crate::world::failpoints;
use crate::world::hook::run::{Limits, Starter};
use crate::world::hook::scripts::{self, Hooks, Refusal};
use crate::world::noded::{NodeDaemons, Request};

/// Node daemons that are asked at the same time.
const CALLERS_MAX: usize = 64;

/// What is done about hooks.
#[derive(Debug)]
pub struct Runs {
    cluster: Cluster,
    name: OwnName,
    hooks: Hooks,
    planner: Planner,
    starter: Arc<Starter>,
    daemons: NodeDaemons,
    /// Run scripts.
    workers: Workers,
    /// Ask node daemons: nodes that hang take no worker from the scripts of this one.
    callers: Workers,
}

impl Runs {
    /// Nothing runs; what becomes of what will is told to `inbox`. To be made when all signal
    /// handlers are set.
    ///
    /// # Errors
    /// When there is no descriptor or thread to be had.
    pub fn new(paths: &Paths, name: OwnName, inbox: &Sender<Message>) -> io::Result<Self> {
        Ok(Self {
            cluster: Cluster::new(&paths.data_dir),
            name,
            hooks: Hooks::new(&paths.hooks_dir),
            starter: Arc::new(Starter::new()?),
            planner: Planner::start(paths, inbox.clone())?,
            daemons: NodeDaemons::new(&paths.data_dir),
            workers: Workers::new(inbox.clone(), usize::MAX)?,
            callers: Workers::new(inbox.clone(), CALLERS_MAX)?,
        })
    }

    /// Who is master; `None` when this node belongs to no cluster.
    ///
    /// # Errors
    /// Why that is not known, or not whether it is this node.
    pub fn master(&mut self) -> Result<Option<String>, String> {
        let master = self.cluster.master().map_err(|error| error.to_string())?;
        match master.as_deref().and_then(|master| self.name.doubt(master)) {
            Some(doubt) => Err(doubt),
            None => Ok(master),
        }
    }

    /// This node's name.
    pub fn name(&mut self) -> &mut OwnName {
        &mut self.name
    }

    /// The system tells this name. Returns whether it is one to go by.
    pub fn named(&mut self, name: String) -> bool {
        let master = self.cluster.master().unwrap_or_default();
        self.name.told(name, master.as_deref())
    }

    /// Which cluster it is.
    pub fn cluster(&mut self) -> Option<ClusterId> {
        self.cluster.id()
    }

    /// How many nodes are not marked offline.
    pub fn online_nodes(&self) -> usize {
        self.cluster.online_nodes()
    }

    /// Whether there is a pre hook on this node that would run.
    pub fn has_pre_hooks(&mut self) -> bool {
        let runnable = |script: &scripts::Script| script.refusal.is_none();
        self.hooks.of(Phase::Pre).list().is_ok_and(|scripts| scripts.iter().any(runnable))
    }

    /// What an event can begin with.
    pub fn prepare(&mut self, seq: i64, phase: Phase) -> Input<'static> {
        let scripts = self.hooks.of(phase).list();
        let scripts = scripts.and_then(|scripts| scripts.into_iter().map(script).collect());
        Input::Prepared { seq, scripts: scripts.map_err(no_scripts), facts: self.cluster.facts(None) }
    }

    /// The names of this node's scripts of a phase, as far as they can be read.
    pub fn script_names(&mut self, phase: Phase) -> Vec<String> {
        let scripts = self.hooks.of(phase).list().unwrap_or_default();
        scripts.into_iter().map(|script| script.name).collect()
    }

    /// Has the planner plan an event.
    pub fn plan(&self, request: PlanRequest) {
        self.planner.ask(request);
    }

    /// Has a script run. Tells if it could not begin.
    pub fn start(
        &mut self,
        ScriptRun { run, seq, script, env, timeout, output, .. }: ScriptRun,
    ) -> Option<Input<'static>> {
        failpoints::point("run.before-submit");
        let (starter, limits) = (Arc::clone(&self.starter), Limits { timeout, output });
        let work = Work { run, seq, task: Task::Script { starter, script, env, limits } };
        self.workers.submit(work).err().map(|error| Input::Postponed { run, seq, error })
    }

    /// Has a node daemon asked. Tells if that could not begin.
    pub fn ask(
        &mut self,
        NodeRun { run, seq, address, phase, env, timeout, output, while_stopped }: NodeRun,
    ) -> Option<Input<'static>> {
        failpoints::point("run.before-submit");
        let request = Request { address, phase, env, timeout, output };
        let work = Work { run, seq, task: Task::Node { daemons: self.daemons.clone(), request } };
        // A job that stands still does not wait for nodes that hang.
        let threads = if while_stopped.is_some() { &mut self.workers } else { &mut self.callers };
        threads.submit(work).err().map(|error| Input::Postponed { run, seq, error })
    }

    /// Ends the scripts that still run.
    pub fn end_scripts(&self) {
        self.workers.end_scripts();
        self.callers.end_scripts();
    }

    /// Ends the scripts that still run, and waits for that.
    pub fn end(&mut self) {
        self.end_scripts();
        self.workers.join();
        self.callers.join();
    }
}

/// A script as the engine knows it. One that could not be looked at for want of something is
/// not refused: it is looked at again.
fn script(scripts::Script { name, path, refusal }: scripts::Script) -> Result<Script, Refusal> {
    match refusal {
        Some(shortage @ Refusal::Shortage { .. }) => Err(shortage),
        refusal => Ok(Script { name, path, refusal: refusal.map(|refusal| refusal.to_string()) }),
    }
}

fn no_scripts(refusal: Refusal) -> NoScripts {
    match refusal {
        Refusal::Shortage { .. } => NoScripts::Shortage(refusal.to_string()),
        refusal => NoScripts::Refused(refusal.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::engine::settings::Settings;

    fn runs(dir: &Path) -> Runs {
        let mut paths = Settings::default().paths;
        for path in [&mut paths.hooks_dir, &mut paths.data_dir, &mut paths.queue_dir, &mut paths.state_dir] {
            *path = dir.to_owned();
        }
        let inbox = unbounded().0;
        let name = OwnName::new(
            &Settings { paths: paths.clone(), ..Settings::default() },
            "node".to_owned(),
            inbox.clone(),
        );
        Runs::new(&paths, name, &inbox).unwrap()
    }

    fn put(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_event_is_prepared_with_scripts_and_what_refusals_say() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = runs(dir.path());
        assert!(!runs.has_pre_hooks());
        put(&dir.path().join("global-pre.d/10-open"), 0o757);
        assert!(!runs.has_pre_hooks());
        put(&dir.path().join("global-pre.d/20-closed"), 0o755);
        assert!(runs.has_pre_hooks());
        fs::write(dir.path().join("ssconf_cluster_name"), "cluster\n").unwrap();
        let Input::Prepared { seq: 7, scripts: Ok(scripts), facts } = runs.prepare(7, Phase::Pre) else {
            panic!()
        };
        assert_eq!((facts.name.as_deref(), facts.master), (Some("cluster"), None));
        assert!(scripts[0].refusal.as_ref().unwrap().contains("may be written by others"));
        assert_eq!((scripts[1].name.as_str(), &scripts[1].refusal), ("20-closed", &None));
        fs::set_permissions(dir.path().join("global-pre.d"), fs::Permissions::from_mode(0o777)).unwrap();
        let Input::Prepared { scripts: Err(NoScripts::Refused(_)), .. } = runs.prepare(7, Phase::Pre) else {
            panic!()
        };
    }

    #[test]
    fn a_shortage_is_not_a_refusal() {
        let (path, error) = ("/x".to_owned(), "no more".to_owned());
        let shortage = Refusal::Shortage { path, error };
        let short = scripts::Script { name: "x".to_owned(), path: "/x".into(), refusal: Some(shortage) };
        let shortage = script(short).unwrap_err();
        assert_eq!(no_scripts(shortage), NoScripts::Shortage("/x cannot be read: no more".to_owned()));
    }
}
