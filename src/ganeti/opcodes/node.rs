//! Opcodes on nodes.

use serde_json::Value;

use super::entry::{Hooks, Nodes, Opcode, Target, Variables};
use super::moment::Moment;
use super::python;
use super::subject::Subject;
use super::variables::Environment;
use crate::ganeti::config::Node;
use crate::ganeti::event::Phase;

pub(super) const OPCODES: &[Opcode] = &[
    Opcode {
        code: "OP_NODE_ADD",
        source: "cmdlib/node.py, LUNodeAdd",
        subject: Subject::NODE,
        hooks: Some(Hooks {
            path: "node-add",
            object: "NODE",
            variables: &[
                Variables::Input("OP_TARGET", "node_name"),
                Variables::Input("NODE_NAME", "node_name"),
                Variables::One("NODE_PIP", |moment| text(moment, "primary_ip")),
                Variables::One("NODE_SIP", |moment| text(moment, "secondary_ip")),
                Variables::One("MASTER_CAPABLE", |moment| {
                    capable(moment, "master_capable", |node| node.master_capable)
                }),
                Variables::One("VM_CAPABLE", |moment| capable(moment, "vm_capable", |node| node.vm_capable)),
            ],
            nodes: Nodes::Differ {
                pre: &[Target::EveryBut("node_name")],
                post: &[Target::Every, Target::Input("node_name")],
            },
        }),
    },
    Opcode {
        code: "OP_NODE_MIGRATE",
        source: "cmdlib/node.py, LUNodeMigrate",
        subject: Subject::NODE,
        hooks: Some(Hooks {
            path: "node-migrate",
            object: "NODE",
            variables: &[
                Variables::Input("NODE_NAME", "node_name"),
                Variables::Input("ALLOW_RUNTIME_CHANGES", "allow_runtime_changes"),
            ],
            nodes: Nodes::Both(&[]),
        }),
    },
    // The removed node runs its post hooks while the opcode executes.
    Opcode {
        code: "OP_NODE_REMOVE",
        source: "cmdlib/node.py, LUNodeRemove",
        subject: Subject::NODE,
        hooks: Some(Hooks {
            path: "node-remove",
            object: "NODE",
            variables: &[Variables::One("OP_TARGET", removed), Variables::One("NODE_NAME", removed)],
            nodes: Nodes::Differ { pre: &[Target::EveryBut("node_name")], post: &[Target::Every] },
        }),
    },
    Opcode {
        code: "OP_NODE_SET_PARAMS",
        source: "cmdlib/node.py, LUNodeSetParams",
        subject: Subject::NODE,
        hooks: Some(Hooks {
            path: "node-modify",
            object: "NODE",
            variables: &[
                Variables::Input("OP_TARGET", "node_name"),
                Variables::Many(flags),
                Variables::Input("MASTER_CAPABLE", "master_capable"),
                Variables::Input("VM_CAPABLE", "vm_capable"),
            ],
            nodes: Nodes::Both(&[Target::Input("node_name")]),
        }),
    },
];

fn text(moment: &Moment, field: &str) -> Option<String> {
    moment.input_text(field).map(str::to_owned)
}

/// A capability that the opcode leaves open is the node's own when it is added
/// again, and on for a new node.
fn capable(moment: &Moment, field: &str, present: fn(&Node) -> Option<bool>) -> Option<String> {
    if moment.refused {
        return None;
    }
    if let Some(given) = moment.input(field) {
        return Some(python::text(Some(given)));
    }
    let flag = if moment.input_true("readd") {
        present(moment.base()?.node(moment.input_text("node_name")?)?)?
    } else {
        true
    };
    Some(python::boolean(flag).to_owned())
}

/// Ganeti expands a short name while it checks prerequisites.
fn removed(moment: &Moment) -> Option<String> {
    moment.input_node("node_name").or_else(|| text(moment, "node_name"))
}

/// `MASTER_CANDIDATE`, `OFFLINE` and `DRAINED` as `LUNodeSetParams.CheckPrereq`
/// leaves them: what changes nothing becomes `None`, and a node may be promoted.
fn flags(moment: &Moment, environment: &mut Environment) {
    let node = moment
        .scene
        .before
        .zip(moment.input_text("node_uuid").or(moment.input_text("node_name")))
        .and_then(|(config, name)| config.node(name));
    let Some(node) = node else {
        return;
    };
    let offline = effective(moment.input("offline"), node.offline);
    let drained = effective(moment.input("drained"), node.drained);
    environment.set("OFFLINE", python::text(offline));
    environment.set("DRAINED", python::text(drained));
    let candidate = candidate(moment, node, [offline, drained]);
    environment.set_known("MASTER_CANDIDATE", candidate);
}

fn effective(asked: Option<&Value>, present: bool) -> Option<&Value> {
    asked.filter(|asked| present || **asked != Value::Bool(false))
}

/// `None` where the size of the candidate pool decides, which Ganeti asks later.
fn candidate(moment: &Moment, node: &Node, flags: [Option<&Value>; 2]) -> Option<String> {
    let asked = effective(moment.input("master_candidate"), node.master_candidate);
    let capable = moment.input("master_capable");
    let was_capable = node.master_capable.unwrap_or(true);
    if capable == Some(&Value::Bool(false)) && node.master_candidate {
        return Some(python::boolean(false).to_owned());
    }
    let freed = flags.contains(&Some(&Value::Bool(false)));
    let becomes_capable = python::truthy(capable) && !was_capable;
    let undecided =
        moment.phase == Phase::Pre && (freed || becomes_capable) && asked != Some(&Value::Bool(true));
    (!undecided).then(|| python::text(asked))
}
