//! Hooks: which there are, what they are given, and running them, here or by asking the node
//! daemons of other nodes.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::daemon::hands::own_name::OwnName;
use crate::daemon::inbox::Inbox;
use crate::daemon::threads::planner::Planner;
use crate::daemon::threads::workers::{Task, Work, Workers};
use crate::engine::directories::HooksPath;
use crate::engine::effect::{NodeRun, PlanRequest, ScriptRun};
use crate::engine::input::{ClusterId, Input, Script};
use crate::engine::settings::Paths;
use crate::ganeti::event::Phase;
use crate::ganeti::opcodes;
use crate::world::cluster::Cluster;
use crate::world::failpoints;
use crate::world::hook::run::{Limits, MOMENT, Seen, Starter};
use crate::world::hook::scripts::{self, Hooks, Refusal};
use crate::world::noded::{NodeDaemons, Request};
use crate::world::process::guard::Claim;

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
    /// The events whose scripts have been looked at in the last moment.
    prepared: VecDeque<Prepared>,
    /// Run scripts.
    workers: Workers,
    /// Ask node daemons: nodes that hang take no worker from the scripts of this one.
    callers: Workers,
}

/// An event whose scripts have been looked at.
#[derive(Debug)]
struct Prepared {
    seq: i64,
    at: Instant,
    /// Those that are links, and the files that they lead to.
    links: Vec<(PathBuf, PathBuf)>,
    /// Whether one of them has begun.
    has_begun: bool,
}

impl Runs {
    /// Nothing runs; what becomes of what will is told to `inbox`. To be made when all signal
    /// handlers are set.
    ///
    /// # Errors
    /// When there is no descriptor or thread to be had.
    pub fn new(paths: &Paths, name: OwnName, inbox: &Inbox) -> io::Result<Self> {
        Ok(Self {
            cluster: Cluster::new(&paths.data_dir),
            name,
            hooks: Hooks::new(&paths.hooks_dir),
            starter: Arc::new(Starter::new()?),
            planner: Planner::start(paths, inbox.sender())?,
            daemons: NodeDaemons::new(&paths.data_dir),
            prepared: VecDeque::new(),
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

    /// The hooks paths that have a pre hook on this node which would run.
    pub fn pre_hooks(&mut self) -> BTreeSet<HooksPath> {
        self.hooks.with_pre_hooks()
    }

    /// What an event can begin with.
    pub fn prepare(&mut self, seq: i64, phase: Phase, paths: Vec<HooksPath>) -> Input<'static> {
        // They wait from now on: to look at all of them may take long.
        let at = Instant::now();
        let mut links = Vec::new();
        let mut list = |path| self.list(path, phase, &mut links);
        let lists: Result<Vec<_>, String> = paths.into_iter().map(&mut list).collect();
        let scripts = lists.map(|lists| lists.into_iter().flatten().collect());
        let old = self.prepared.partition_point(|event| event.at.elapsed() >= MOMENT);
        self.prepared.drain(..old);
        self.prepared.push_back(Prepared { seq, at, links, has_begun: false });
        Input::Prepared { seq, scripts, facts: self.cluster.facts(None) }
    }

    /// The scripts of a directory, or what is short that may come back; and which are links.
    fn list(
        &mut self,
        hooks: HooksPath,
        phase: Phase,
        links: &mut Vec<(PathBuf, PathBuf)>,
    ) -> Result<Vec<Script>, String> {
        let name = hooks.directory(phase);
        let found = self.hooks.list(&name).unwrap_or_else(|refusal| {
            let path = self.hooks.path_of(&name);
            vec![scripts::Script { name, file: path.clone(), path, refusal: Some(refusal) }]
        });
        let is_link = |found: &&scripts::Script| found.file != found.path;
        links.extend(found.iter().filter(is_link).map(|link| (link.path.clone(), link.file.clone())));
        found.into_iter().map(|found| script(&hooks, found)).collect()
    }

    /// The names of this node's scripts for an opcode, as far as they can be read.
    pub fn script_names(&mut self, op_code: &str, phase: Phase) -> Vec<String> {
        let native = opcodes::hook_path(op_code).map(HooksPath::Native);
        let paths = [Some(HooksPath::Global), HooksPath::of_opcode(op_code), native];
        let lists = paths.into_iter().flatten().map(|path| self.hooks.list(&path.directory(phase)));
        lists.flat_map(Result::unwrap_or_default).map(|script| script.name).collect()
    }

    /// Has the planner plan an event.
    pub fn plan(&self, request: PlanRequest) {
        self.planner.ask(request);
    }

    /// Has a script run, if its job stands still then should it. Tells if it could not begin.
    pub fn start(
        &mut self,
        ScriptRun { run, seq, script, env, timeout, output, .. }: ScriptRun,
        claim: Option<Claim>,
    ) -> Option<Input<'static>> {
        failpoints::point("run.before-submit");
        let (starter, limits) = (Arc::clone(&self.starter), Limits { timeout, output });
        let seen = self.look_back(seq, &script);
        let task = Task::Script { starter, script, seen, env, limits, begun: None };
        let work = Work { run, seq, task, claim };
        self.workers.submit(work).err().map(|error| Input::Postponed { run, seq, error })
    }

    /// How this event's next script was judged, if it is the first and that was a moment ago: it has not waited, and
    /// its file system did not hang. When a later one begins, it may; and the journal may have had to wait for
    /// room meanwhile.
    fn look_back(&mut self, seq: i64, script: &Path) -> Option<Seen> {
        let event = self.prepared.iter_mut().rev().find(|event| event.seq == seq)?;
        if std::mem::replace(&mut event.has_begun, true) || event.at.elapsed() >= MOMENT {
            return None;
        }
        let link = event.links.iter().find(|(path, _)| path == script);
        let file = link.map_or(script, |(_, file)| file.as_path()).to_owned();
        Some(Seen { file, at: event.at })
    }

    /// Has a node daemon asked. Tells if that could not begin.
    pub fn ask(
        &mut self,
        NodeRun { run, seq, address, path, phase, env, timeout, output, while_stopped }: NodeRun,
        claim: Option<Claim>,
    ) -> Option<Input<'static>> {
        failpoints::point("run.before-submit");
        let request = Request { address, path, phase, env, timeout, output };
        let task = Task::Node { daemons: self.daemons.clone(), request };
        let work = Work { run, seq, task, claim };
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
fn script(
    hooks: &HooksPath,
    scripts::Script { name, path, refusal, .. }: scripts::Script,
) -> Result<Script, String> {
    match refusal {
        Some(shortage @ Refusal::Shortage { .. }) => Err(shortage.to_string()),
        refusal => {
            let refusal = refusal.map(|refusal| refusal.to_string());
            Ok(Script { hooks: hooks.clone(), name, path, refusal })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine::settings::Settings;

    fn runs(dir: &Path) -> Runs {
        let mut paths = Settings::default().paths;
        for path in [&mut paths.hooks_dir, &mut paths.data_dir, &mut paths.queue_dir, &mut paths.state_dir] {
            *path = dir.to_owned();
        }
        let (inbox, _) = Inbox::new();
        let name = OwnName::new(
            &Settings { paths: paths.clone(), ..Settings::default() },
            "node".to_owned(),
            inbox.sender(),
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
        assert!(runs.pre_hooks().is_empty());
        put(&dir.path().join("global-pre.d/10-open"), 0o757);
        assert!(runs.pre_hooks().is_empty());
        put(&dir.path().join("global-pre.d/20-closed"), 0o755);
        put(&dir.path().join("global-test-delay-pre.d/10-delay"), 0o755);
        let paths = [HooksPath::Global, HooksPath::of_opcode("OP_TEST_DELAY").unwrap()];
        assert_eq!(runs.pre_hooks(), paths.clone().into());
        fs::write(dir.path().join("ssconf_cluster_name"), "cluster\n").unwrap();
        let mut prepare = || match runs.prepare(7, Phase::Pre, paths.to_vec()) {
            Input::Prepared { seq: 7, scripts: Ok(scripts), facts } => (scripts, facts),
            other => panic!("{other:?}"),
        };
        let (scripts, facts) = prepare();
        assert_eq!((facts.name.as_deref(), facts.master), (Some("cluster"), None));
        assert!(scripts[0].refusal.as_ref().unwrap().contains("may be written by others"));
        assert_eq!((scripts[1].name.as_str(), &scripts[1].refusal), ("20-closed", &None));
        assert_eq!((scripts[2].name.as_str(), &scripts[2].hooks), ("10-delay", &paths[1]));
        fs::set_permissions(dir.path().join("global-pre.d"), fs::Permissions::from_mode(0o777)).unwrap();
        let (scripts, _) = prepare();
        assert_eq!((scripts[0].name.as_str(), scripts.len()), ("global-pre.d", 2));
        assert!(scripts[0].refusal.is_some() && scripts[1].refusal.is_none());
    }

    #[test]
    fn the_first_script_of_an_event_is_begun_at_once_and_later_ones_by_threads_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut runs = runs(dir.path());
        let look_back = |runs: &mut Runs, seq| runs.look_back(seq, Path::new("/script")).is_some();
        assert!(!look_back(&mut runs, 7));
        runs.prepare(7, Phase::Pre, Vec::new());
        assert!(look_back(&mut runs, 7));
        runs.prepare(8, Phase::Post, Vec::new());
        assert!(!look_back(&mut runs, 7));
        runs.prepare(7, Phase::Pre, Vec::new());
        assert!([7, 8].iter().all(|seq| look_back(&mut runs, *seq)), "it was looked at anew");
        for event in &mut runs.prepared {
            event.at = Instant::now().checked_sub(MOMENT).unwrap();
            event.has_begun = false;
        }
        assert!(!look_back(&mut runs, 7), "that was long ago");
        runs.prepare(9, Phase::Pre, Vec::new());
        assert_eq!(runs.prepared.len(), 1);
    }

    #[test]
    fn what_a_link_led_to_when_it_was_judged_is_what_begins() {
        let dir = tempfile::tempdir().unwrap();
        let hooks = dir.path().canonicalize().unwrap().join("global-pre.d");
        let mut runs = runs(dir.path());
        put(&hooks.join("10-file"), 0o755);
        std::os::unix::fs::symlink("10-file", hooks.join("20-link")).unwrap();
        for name in ["10-file", "20-link"] {
            runs.prepare(1, Phase::Pre, vec![HooksPath::Global]);
            assert_eq!(runs.look_back(1, &hooks.join(name)).unwrap().file, hooks.join("10-file"));
        }
    }

    #[test]
    fn a_script_has_waited_while_those_after_it_were_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let mut runs = runs(&dir);
        let first = dir.join("global-pre.d/10-first");
        put(&first, 0o755);
        let paths = [HooksPath::Global, HooksPath::of_opcode("OP_TEST_DELAY").unwrap()];
        // Until to look at the others takes so long.
        for count in 0.. {
            put(&dir.join(format!("global-test-delay-pre.d/{count}")), 0o755);
            if count % 1000 != 0 {
                continue;
            }
            let begin = Instant::now();
            runs.prepare(1, Phase::Pre, paths.to_vec());
            if begin.elapsed() >= 2 * MOMENT {
                break;
            }
        }
        assert_eq!(runs.look_back(1, &first), None);
    }

    #[test]
    fn a_shortage_is_not_a_refusal() {
        let (path, error) = ("/x".to_owned(), "no more".to_owned());
        let shortage = Refusal::Shortage { path, error };
        let refusal = Some(shortage);
        let short = scripts::Script { name: "x".to_owned(), path: "/x".into(), file: "/x".into(), refusal };
        let shortage = script(&HooksPath::Global, short).unwrap_err();
        assert_eq!(shortage, "/x cannot be read: no more");
    }
}
