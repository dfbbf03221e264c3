//! Which directories of hooks an event has.
//!
//! The rule once more, in other words than the engine's.

use ganeti_hookd::engine::directories::HooksPath;
use ganeti_hookd::engine::input::Script;
use ganeti_hookd::engine::settings::{Hooks, Nodes};
use ganeti_hookd::ganeti::event::{Event, Phase};
use ganeti_hookd::ganeti::opcodes::{self, View};

use super::{Broken, Judge};
use crate::recipe::HERE;
use crate::world::World;

/// A script of a directory; the directory once more for all of another node's.
pub(super) fn in_directory(directory: &str, script: &str) -> String {
    format!("{directory}/{script}")
}

/// Where scripts of an event were looked for, and what it went by.
#[derive(Debug)]
pub(super) struct Looked {
    phase: Phase,
    names: Vec<String>,
    view: View,
    hooks: Hooks,
}

impl Judge {
    /// A script that was found for an event.
    pub(super) fn name_of(&self, seq: i64, script: &Script) -> String {
        let phase = self.looked.get(&seq).map_or(Phase::Pre, |looked| looked.phase);
        in_directory(&script.hooks.directory(phase), &script.name)
    }

    /// The engine has the scripts of an event looked for.
    pub(super) fn prepares(&mut self, seq: i64, phase: Phase, paths: &[HooksPath]) {
        let names = paths.iter().map(|path| path.directory(phase)).collect();
        let view = self.planned.get(&seq).map(|(_, view)| view.clone()).unwrap_or_default();
        self.looked.insert(seq, Looked { phase, names, view, hooks: self.settings.hooks.clone() });
    }

    /// They were looked for where they are.
    pub(super) fn has_looked(&self, seq: i64, event: &Event) -> Result<(), Broken> {
        let Some(Looked { names, view, hooks, .. }) = self.looked.get(&seq) else { return Ok(()) };
        let expected = here(event, view, hooks);
        if *names == expected {
            return Ok(());
        }
        let what = format!("{event} has {names:?} and not {expected:?}");
        Err(Broken { promise: "each event has its directories", job: Some(event.key.job.get()), what })
    }

    /// Whether this is among what was planned and looked for last: a directory of this node's, or
    /// one that another is asked for.
    pub(super) fn is_wanted(&self, seq: i64, node: &str, script: &str) -> bool {
        let directory = script.split('/').next().unwrap_or_default();
        if node == HERE {
            let looked = self.looked.get(&seq);
            return looked.is_some_and(|looked| looked.names.iter().any(|name| name == directory));
        }
        let is_it = |(of, name): &(String, String)| (&**of, &**name) == (node, directory);
        self.targets.get(&seq).is_some_and(|targets| targets.iter().any(is_it))
    }

    /// Another node is asked for hooks: nothing else of the event is under way there.
    pub(super) fn asks(
        &self,
        world: &mut World,
        (seq, run): (i64, i64),
        path: &HooksPath,
    ) -> Result<(), Broken> {
        match path {
            HooksPath::Global => {}
            HooksPath::Opcode(_) => world.story.reach("a node that is asked for an opcode's"),
            HooksPath::Native(_) => world.story.reach("a node that is asked for Ganeti's own"),
        }
        let node = |run: i64| self.started.get(&(seq, run)).map(|(node, _)| node);
        let others = world.hooks.running.keys().filter(|(life, of, other)| {
            (*life, *of) == (world.life, seq) && *other != run && node(*other) == node(run)
        });
        match others.count() {
            0 => Ok(()),
            _ => Err(self.broken("in order", None, &format!("event {seq}: a node is asked twice at a time"))),
        }
    }
}

/// The directories of an event on this node.
fn here(event: &Event, view: &View, hooks: &Hooks) -> Vec<String> {
    let phase = event.key.phase;
    let mut names = vec![format!("global-{phase}.d"), of_opcode(event)];
    names.extend(native(event, view, hooks));
    names
}

/// What other nodes are asked for.
pub(super) fn elsewhere(event: &Event, view: &View, hooks: &Hooks) -> Vec<(String, String)> {
    let mut targets = Vec::new();
    if hooks.nodes == Nodes::Master {
        return targets;
    }
    for node in view.nodes.iter().filter(|node| *node != HERE) {
        targets.push((node.clone(), format!("global-{}.d", event.key.phase)));
        if hooks.opcode_directories == Nodes::Targets {
            targets.push((node.clone(), of_opcode(event)));
        }
    }
    if let Some(directory) = native(event, view, hooks) {
        let nodes = view.native.iter().flatten().filter(|node| *node != HERE);
        targets.extend(nodes.map(|node| (node.clone(), directory.clone())));
    }
    targets
}

fn of_opcode(event: &Event) -> String {
    let opcode = event.op_code.trim_start_matches("OP_").to_lowercase().replace('_', "-");
    format!("global-{opcode}-{}.d", event.key.phase)
}

/// Ganeti's own: only of what executed, and ended as somebody wants to hear of.
fn native(event: &Event, view: &View, hooks: &Hooks) -> Option<String> {
    let path = opcodes::hook_path(&event.op_code)?;
    let wanted = event.status.is_some_and(|status| hooks.native_post.contains(&status));
    let matches = hooks.native_paths == ["*"] || path.starts_with("instance-");
    (wanted && matches && event.executed && view.native.is_some()).then(|| format!("{path}-post.d"))
}
