//! The differences that there may be between our view and Ganeti's.

use std::collections::{BTreeMap, BTreeSet};

use ganeti_hookd::ganeti::event::Phase;

use crate::recording::Run;

struct Allowed {
    reason: &'static str,
    applies: fn(&Run, &str) -> bool,
    /// What our value may be.
    ours: Ours,
}

#[derive(PartialEq)]
enum Ours {
    Missing,
    /// The same words in another order.
    Reordered,
}

/// Ganeti chooses where to only after our pre hooks.
const ALLOCATOR: &str = "pre: the instance allocator has not chosen a node yet";
const CLEANUP: &str = "a migration's clean-up: the allocator's node is in no file, and nothing moves";

const VARIABLES: &[Allowed] = &[
    Allowed {
        reason: "words in no stable order in Ganeti",
        applies: |_, name| name.contains("TAGS") || name.ends_with("TARGET_GROUPS"),
        ours: Ours::Reordered,
    },
    Allowed {
        reason: "pre of a new NIC: its MAC address and UUID are not generated yet",
        applies: |run, name| {
            (run.is("OP_INSTANCE_CREATE", Phase::Pre) || adds_nic(run))
                && name.contains("_NIC")
                && (name.ends_with("_MAC") || name.ends_with("_UUID"))
        },
        ours: Ours::Missing,
    },
    Allowed {
        reason: ALLOCATOR,
        applies: |run, name| {
            run.phase == Phase::Pre
                && (name == "GANETI_INSTANCE_PRIMARY" && !run.gives("pnode")
                    || name == "GANETI_NEW_PRIMARY" && !run.gives("target_node"))
        },
        ours: Ours::Missing,
    },
    Allowed {
        reason: CLEANUP,
        applies: |run, name| {
            run.is("OP_INSTANCE_MIGRATE", Phase::Post)
                && run.opcode.input()["cleanup"] == true
                && name.ends_with("NEW_PRIMARY")
        },
        ours: Ours::Missing,
    },
    Allowed {
        reason: "pre with allow_failover: the node has not said yet whether it can migrate",
        applies: |run, name| {
            run.is("OP_INSTANCE_MIGRATE", Phase::Pre)
                && run.opcode.input()["allow_failover"] == true
                && name == "GANETI_MIGRATE_LIVE"
        },
        ours: Ours::Missing,
    },
    Allowed {
        reason: "pre of a new node: its address is not resolved yet",
        applies: |run, name| run.is("OP_NODE_ADD", Phase::Pre) && name == "GANETI_NODE_PIP",
        ours: Ours::Missing,
    },
    Allowed {
        reason: "an import's images are named only in the export on the source node",
        applies: |run, name| imports(run) && name.ends_with("SRC_IMAGES"),
        ours: Ours::Missing,
    },
    Allowed {
        reason: "pre of an import: the export is not read yet and fills in what the opcode leaves out",
        applies: |run, name| {
            run.phase == Phase::Pre && imports(run) && FROM_EXPORT.iter().any(|part| name.contains(part))
        },
        ours: Ours::Missing,
    },
];

const FROM_EXPORT: &[&str] = &["_BE_", "_HV_", "_HYPERVISOR", "MEM", "_OS_TYPE", "_TAGS", "_VCPUS"];

type NodesApply = fn(&Run, &BTreeSet<String>) -> bool;

const NODES: &[(&str, NodesApply)] = &[
    (ALLOCATOR, |run, ours| {
        let open = !run.gives("pnode") && !run.gives("target_node");
        run.phase == Phase::Pre && open && ours.is_subset(&run.nodes)
    }),
    (CLEANUP, |run, ours| {
        run.is("OP_INSTANCE_MIGRATE", Phase::Post)
            && run.opcode.input()["cleanup"] == true
            && ours.is_subset(&run.nodes)
    }),
    ("the master is always among our nodes; it is in another group here", |run, ours| {
        let others = ours.iter().filter(|node| **node != run.master());
        run.is("OP_CLUSTER_VERIFY_GROUP", Phase::Post) && others.eq(run.nodes.iter())
    }),
];

fn adds_nic(run: &Run) -> bool {
    run.is("OP_INSTANCE_SET_PARAMS", Phase::Pre) && run.opcode.input()["nics"][0][0] == "add"
}

fn imports(run: &Run) -> bool {
    run.opcode.code() == "OP_INSTANCE_CREATE" && run.opcode.input()["mode"] == "import"
}

pub fn reason(run: &Run, name: &str, theirs: Option<&String>, ours: Option<&String>) -> Option<&'static str> {
    let kind = match (theirs, ours) {
        (Some(_), None) => Ours::Missing,
        (Some(theirs), Some(ours)) if words(theirs) == words(ours) => Ours::Reordered,
        _ => return None,
    };
    VARIABLES
        .iter()
        .find(|allowed| allowed.ours == kind && (allowed.applies)(run, name))
        .map(|allowed| allowed.reason)
}

pub fn nodes_reason(run: &Run, ours: &BTreeSet<String>) -> Option<&'static str> {
    NODES.iter().find(|(_, applies)| applies(run, ours)).map(|(reason, _)| *reason)
}

/// Entries of the lists that no recording needs.
pub fn unused(met: &BTreeMap<&'static str, usize>) -> Vec<&'static str> {
    let reasons = VARIABLES.iter().map(|allowed| allowed.reason);
    reasons
        .chain(NODES.iter().map(|(reason, _)| *reason))
        .filter(|reason| !met.contains_key(reason))
        .collect()
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(' ').collect()
}
