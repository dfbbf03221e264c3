//! What Ganeti gives to an opcode's own hooks: hook path, object type,
//! variables and target nodes, worked out again from the opcode's input in the
//! job file and the cluster configuration before and after it.
//!
//! [`table`] holds one entry for each opcode and is the place to look things up;
//! the files beside it hold what cannot be written as a table. Nothing here
//! reads a file or a clock, and no input panics. What cannot be known from
//! outside is left out, never guessed: `docs/variables.md` lists it for users.
//!
//! Facts are those of Ganeti 3.0.2 and 3.1.0~rc2; a source such as
//! `cmdlib/node.py, LUNodeAdd` names the file below Ganeti's `lib/`.

mod cluster;
mod entry;
mod group;
mod instance;
mod moment;
mod network;
mod node;
mod params;
mod python;
mod subject;
mod table;
mod variables;
mod without_hooks;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ganeti::event::Phase;
use crate::ganeti::object::Object;
use entry::Hooks;
use moment::{Moment, Side};
use variables::Environment;

pub use moment::{Scene, is_name};

/// The object type of opcodes that have no hooks of their own.
pub const NOT_APPLICABLE: &str = "NOT_APPLICABLE";

/// What the hooks of one phase are given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// `GANETI_X`, and `GANETI_POST_X` too in the post phase. Variables that all
    /// hooks have (`GANETI_CLUSTER`, `GANETI_OP_CODE`...) are not in here.
    pub variables: BTreeMap<String, String>,
    /// Names of the nodes to run on: the master first, the others sorted. Empty
    /// when no configuration is known. Offline nodes are among them.
    pub nodes: Vec<String>,
    /// The nodes on which Ganeti would have run the opcode's own post hooks if it had succeeded, the
    /// master first: only for the post of an opcode that executed and did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Vec<String>>,
}

/// The variables and target nodes of an opcode in one phase.
pub fn view(scene: &Scene, phase: Phase) -> View {
    let hooks = table::hooks(scene.op_code);
    View {
        variables: hooks
            .map_or_else(BTreeMap::new, |hooks| export(scene, phase, hooks, std::convert::identity)),
        nodes: nodes(scene, phase, hooks),
        native: None,
    }
}

/// The variables and target nodes of the post of an opcode that never executed. Ganeti may have
/// refused what its input says: of that there are only names that can be names, and what the
/// configuration says of whom they name.
pub fn view_of_refused(scene: &Scene) -> View {
    let hooks = table::hooks(scene.op_code);
    let variables = hooks.map_or_else(BTreeMap::new, |hooks| {
        export(scene, Phase::Post, hooks, |moment| Moment { refused: true, ..moment })
    });
    View { variables, nodes: nodes(scene, Phase::Post, hooks), native: None }
}

/// `INSTANCE`, `NODE`, `CLUSTER`, `GROUP`, `NETWORK`, or [`NOT_APPLICABLE`].
pub fn object_type(op_code: &str) -> &'static str {
    table::hooks(op_code).map_or(NOT_APPLICABLE, |hooks| hooks.object)
}

/// What the opcode is about, by its input as the job file has it. `cluster` is the cluster's name, as
/// far as it is known. `None` for what is about no object, and for opcodes that are not in the table.
pub fn object(op_code: &str, input: &RawValue, cluster: Option<&str>) -> Option<Object> {
    table::find(op_code)?.subject.object(input, cluster)
}

/// `instance-start`; `None` for opcodes without hooks of their own.
pub fn hook_path(op_code: &str) -> Option<&'static str> {
    table::hooks(op_code).map(|hooks| hooks.path)
}

/// The cluster's name as the opcode's own hooks are told it, where its variables say so: the one
/// that it had before, also when it was renamed or destroyed since (Ganeti: `hooksmaster.py`,
/// `HooksMaster.__init__`).
pub fn cluster_name<'a>(op_code: &str, variables: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let is_about_it = object_type(op_code) == cluster::OBJECT;
    variables.get("GANETI_OP_TARGET").filter(|_| is_about_it).map(String::as_str)
}

/// Every opcode that is in the table.
pub fn codes() -> impl Iterator<Item = &'static str> {
    table::opcodes().map(|opcode| opcode.code)
}

/// Whether the opcode is in the table; a newer Ganeti's need not be.
pub fn is_known(op_code: &str) -> bool {
    table::find(op_code).is_some()
}

/// A post hook gets the variables of its pre hook and those of the time after
/// (Ganeti: `hooksmaster.py, HooksMaster._BuildEnv`).
fn export<'a>(
    scene: &'a Scene<'a>,
    phase: Phase,
    hooks: &Hooks,
    seen: fn(Moment<'a>) -> Moment<'a>,
) -> BTreeMap<String, String> {
    let mut environment = Environment::new("GANETI_");
    let before = seen(Moment::new(scene, phase, Side::Before));
    hooks.export(&before, &mut environment);
    if phase == Phase::Post {
        environment = environment.prefixed("GANETI_POST_");
        let after = seen(Moment::new(scene, phase, Side::After));
        hooks.export(&after, &mut environment);
    }
    environment.into_variables()
}

fn nodes(scene: &Scene, phase: Phase, hooks: Option<&Hooks>) -> Vec<String> {
    let moment = Moment::new(scene, phase, Side::Before);
    let mut names = BTreeSet::new();
    if let Some(hooks) = hooks {
        for target in hooks.targets(phase) {
            names.extend(target.nodes(&moment));
        }
    }
    let Some(master) = moment.master() else {
        return names.into_iter().collect();
    };
    names.remove(&master);
    std::iter::once(master).chain(names).collect()
}

#[cfg(test)]
mod tests;
