//! Opcodes on node groups. None of them has an `OP_TARGET`.

use super::entry::{Hooks, Nodes, Opcode, Target, Variables};
use super::moment::Moment;
use super::subject::Subject;

pub(super) const OPCODES: &[Opcode] = &[
    Opcode {
        code: "OP_GROUP_ADD",
        source: "cmdlib/group.py, LUGroupAdd",
        subject: Subject::GROUP,
        hooks: Some(Hooks {
            path: "group-add",
            object: "GROUP",
            variables: &[Variables::Input("GROUP_NAME", "group_name")],
            nodes: Nodes::Both(&[]),
        }),
    },
    Opcode {
        code: "OP_GROUP_EVACUATE",
        source: "cmdlib/group.py, LUGroupEvacuate",
        subject: Subject::GROUP,
        hooks: Some(Hooks {
            path: "group-evacuate",
            object: "GROUP",
            variables: &[
                Variables::Input("GROUP_NAME", "group_name"),
                Variables::One("TARGET_GROUPS", evacuation_targets),
            ],
            nodes: Nodes::Both(&[Target::GroupMembers("group_name")]),
        }),
    },
    Opcode {
        code: "OP_GROUP_REMOVE",
        source: "cmdlib/group.py, LUGroupRemove",
        subject: Subject::GROUP,
        hooks: Some(Hooks {
            path: "group-remove",
            object: "GROUP",
            variables: &[Variables::Input("GROUP_NAME", "group_name")],
            nodes: Nodes::Both(&[]),
        }),
    },
    Opcode {
        code: "OP_GROUP_RENAME",
        source: "cmdlib/group.py, LUGroupRename",
        subject: Subject::GROUP,
        hooks: Some(Hooks {
            path: "group-rename",
            object: "GROUP",
            variables: &[
                Variables::Input("OLD_NAME", "group_name"),
                Variables::Input("NEW_NAME", "new_name"),
            ],
            nodes: Nodes::Both(&[Target::GroupMembers("group_name")]),
        }),
    },
    Opcode {
        code: "OP_GROUP_SET_PARAMS",
        source: "cmdlib/group.py, LUGroupSetParams",
        subject: Subject::GROUP,
        hooks: Some(Hooks {
            path: "group-modify",
            object: "GROUP",
            variables: &[
                Variables::Input("GROUP_NAME", "group_name"),
                Variables::Input("NEW_ALLOC_POLICY", "alloc_policy"),
            ],
            nodes: Nodes::Both(&[]),
        }),
    },
];

/// UUIDs of the groups to evacuate to.
fn evacuation_targets(moment: &Moment) -> Option<String> {
    let (source, _) = moment.base()?.group(moment.input_text("group_name")?)?;
    target_groups(moment, &[source])
}

/// UUIDs of the groups that the input asks for, else of all but `used`. Ganeti
/// lists them in no stable order; here they are sorted.
pub(super) fn target_groups(moment: &Moment, used: &[&str]) -> Option<String> {
    let config = moment.base().filter(|_| !moment.refused)?;
    let requested = moment.input_list("target_groups");
    let mut uuids: Vec<&str> = if requested.is_empty() {
        config.group_uuids().filter(|uuid| !used.contains(uuid)).collect()
    } else {
        requested.iter().map(|group| Some(config.group(group.as_str()?)?.0)).collect::<Option<_>>()?
    };
    uuids.sort_unstable();
    uuids.dedup();
    Some(uuids.join(" "))
}
