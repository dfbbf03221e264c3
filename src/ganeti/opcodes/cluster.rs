//! Opcodes on the cluster.

use super::entry::{Hooks, Nodes, Opcode, Target, Variables};
use super::moment::Moment;
use super::params::joined;
use super::python;
use super::subject::Subject;
use super::variables::Environment;
use crate::ganeti::event::Phase;

/// The type of their object. Where one has an `OP_TARGET`, that is the cluster's name.
pub(super) const OBJECT: &str = "CLUSTER";

pub(super) const OPCODES: &[Opcode] = &[
    // No pre hooks in Ganeti.
    Opcode {
        code: "OP_CLUSTER_DESTROY",
        source: "cmdlib/cluster/__init__.py, LUClusterDestroy",
        subject: Subject::Cluster,
        hooks: Some(Hooks {
            path: "cluster-destroy",
            object: OBJECT,
            variables: &[Variables::One("OP_TARGET", last_name)],
            nodes: Nodes::Both(&[]),
        }),
    },
    // No pre hooks in Ganeti.
    Opcode {
        code: "OP_CLUSTER_POST_INIT",
        source: "cmdlib/cluster/__init__.py, LUClusterPostInit",
        subject: Subject::Cluster,
        hooks: Some(Hooks {
            path: "cluster-init",
            object: OBJECT,
            variables: &[Variables::One("OP_TARGET", name)],
            nodes: Nodes::Both(&[]),
        }),
    },
    Opcode {
        code: "OP_CLUSTER_RENAME",
        source: "cmdlib/cluster/__init__.py, LUClusterRename",
        subject: Subject::Cluster,
        hooks: Some(Hooks {
            path: "cluster-rename",
            object: OBJECT,
            variables: &[Variables::One("OP_TARGET", name), Variables::One("NEW_NAME", new_name)],
            nodes: Nodes::Differ { pre: &[], post: &[Target::Every] },
        }),
    },
    Opcode {
        code: "OP_CLUSTER_SET_PARAMS",
        source: "cmdlib/cluster/__init__.py, LUClusterSetParams",
        subject: Subject::Cluster,
        hooks: Some(Hooks {
            path: "cluster-modify",
            object: OBJECT,
            variables: &[Variables::One("OP_TARGET", name), Variables::Input("NEW_VG_NAME", "vg_name")],
            nodes: Nodes::Both(&[]),
        }),
    },
    // No pre hooks in Ganeti.
    Opcode {
        code: "OP_CLUSTER_VERIFY_GROUP",
        source: "cmdlib/cluster/verify.py, LUClusterVerifyGroup",
        subject: Subject::GROUP,
        hooks: Some(Hooks {
            path: "cluster-verify",
            object: OBJECT,
            variables: &[Variables::One("CLUSTER_TAGS", tags), Variables::Many(node_tags)],
            nodes: Nodes::Differ { pre: &[], post: &[Target::GroupMembers("group_name")] },
        }),
    },
];

fn name(moment: &Moment) -> Option<String> {
    Some(moment.config()?.cluster_name().to_owned())
}

/// The name of a cluster whose configuration may be gone by now.
fn last_name(moment: &Moment) -> Option<String> {
    name(moment).or_else(|| Some(moment.base()?.cluster_name().to_owned()))
}

/// Ganeti resolves the new name while it checks prerequisites: a short name is
/// not yet the name that hooks get.
fn new_name(moment: &Moment) -> Option<String> {
    if moment.refused {
        return moment.input_text("name").map(str::to_owned);
    }
    let name = python::text(moment.input("name"));
    (moment.phase == Phase::Post || name.contains('.')).then_some(name)
}

fn tags(moment: &Moment) -> Option<String> {
    Some(joined(&moment.config()?.cluster().tags))
}

/// `NODE_TAGS_name` for each node of the verified group.
fn node_tags(moment: &Moment, environment: &mut Environment) {
    let (Some(config), Some(group)) = (moment.config(), moment.input_text("group_name")) else {
        return;
    };
    for name in moment.group_members(group) {
        let tags = config.node(&name).map(|node| joined(&node.tags));
        environment.set_known(format_args!("NODE_TAGS_{name}"), tags);
    }
}
