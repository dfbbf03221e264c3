//! The table of opcodes, and how an entry of it is read.
//!
//! An entry with hooks stands in the file of its object (`instance`, `node`,
//! `group`, `network`, `cluster`); opcodes without hooks of their own stand here.

use super::moment::Moment;
use super::variables::Environment;
use super::{Phase, cluster, group, instance, network, node, python};
use crate::ganeti::config::ClusterConfig;

/// One opcode.
pub(super) struct Opcode {
    pub code: &'static str,
    /// Where Ganeti defines it, below `lib/`.
    #[cfg_attr(not(test), expect(dead_code, reason = "documentation"))]
    pub source: &'static str,
    /// `None`: no hooks of its own.
    pub hooks: Option<Hooks>,
}

/// What an opcode's own hooks are given.
pub(super) struct Hooks {
    /// `HPATH`: the directory is `PATH-pre.d` or `PATH-post.d`.
    pub path: &'static str,
    /// `HTYPE`.
    pub object: &'static str,
    /// `BuildHooksEnv`.
    pub variables: &'static [Variables],
    /// `BuildHooksNodes`; the master is always added.
    pub nodes: Nodes,
}

/// One variable or several, without prefix.
pub(super) enum Variables {
    /// The variable of this name is this field of the opcode's input.
    Input(&'static str, &'static str),
    /// The same, but only if Python takes the value for true.
    InputIfTrue(&'static str, &'static str),
    /// `True` or `False`: whether Python takes this field for true.
    Flag(&'static str, &'static str),
    /// Computed; `None` when it cannot be known.
    One(&'static str, fn(&Moment) -> Option<String>),
    /// Several, computed.
    Many(fn(&Moment, &mut Environment)),
}

/// The nodes that hooks run on, beside the master.
pub(super) enum Nodes {
    /// The same before and after.
    Both(&'static [Target]),
    Differ {
        pre: &'static [Target],
        post: &'static [Target],
    },
}

pub(super) enum Target {
    /// The instance's primary node.
    Primary,
    /// Nodes of the instance's DRBD disks, without the primary.
    Secondaries,
    /// The node that this field of the input names.
    Input(&'static str),
    /// All nodes of the cluster before the opcode.
    Every,
    /// The same without the one that this field of the input names.
    EveryBut(&'static str),
    /// The members of the group that this field of the input names.
    GroupMembers(&'static str),
    /// Computed.
    Computed(fn(&Moment) -> Vec<String>),
}

/// An opcode without hooks of its own.
const fn no_hooks(code: &'static str, source: &'static str) -> Opcode {
    Opcode { code, source, hooks: None }
}

/// `NoHooksLU` in Ganeti.
const WITHOUT_HOOKS: &[Opcode] = &[
    no_hooks("OP_BACKUP_PREPARE", "cmdlib/backup.py, LUBackupPrepare"),
    no_hooks("OP_BACKUP_REMOVE", "cmdlib/backup.py, LUBackupRemove"),
    no_hooks("OP_CLUSTER_ACTIVATE_MASTER_IP", "cmdlib/cluster/__init__.py, LUClusterActivateMasterIp"),
    no_hooks("OP_CLUSTER_CONFIG_QUERY", "cmdlib/cluster/__init__.py, LUClusterConfigQuery"),
    no_hooks("OP_CLUSTER_DEACTIVATE_MASTER_IP", "cmdlib/cluster/__init__.py, LUClusterDeactivateMasterIp"),
    no_hooks("OP_CLUSTER_QUERY", "cmdlib/cluster/__init__.py, LUClusterQuery"),
    no_hooks("OP_CLUSTER_REDIST_CONF", "cmdlib/cluster/__init__.py, LUClusterRedistConf"),
    no_hooks("OP_CLUSTER_RENEW_CRYPTO", "cmdlib/cluster/__init__.py, LUClusterRenewCrypto"),
    no_hooks("OP_CLUSTER_REPAIR_DISK_SIZES", "cmdlib/cluster/__init__.py, LUClusterRepairDiskSizes"),
    no_hooks("OP_CLUSTER_VERIFY", "cmdlib/cluster/verify.py, LUClusterVerify"),
    no_hooks("OP_CLUSTER_VERIFY_CONFIG", "cmdlib/cluster/verify.py, LUClusterVerifyConfig"),
    no_hooks("OP_CLUSTER_VERIFY_DISKS", "cmdlib/cluster/verify.py, LUClusterVerifyDisks"),
    no_hooks("OP_EXT_STORAGE_DIAGNOSE", "cmdlib/misc.py, LUExtStorageDiagnose"),
    no_hooks("OP_GROUP_ASSIGN_NODES", "cmdlib/group.py, LUGroupAssignNodes"),
    no_hooks("OP_GROUP_VERIFY_DISKS", "cmdlib/group.py, LUGroupVerifyDisks"),
    no_hooks("OP_INSTANCE_ACTIVATE_DISKS", "cmdlib/instance_storage.py, LUInstanceActivateDisks"),
    no_hooks("OP_INSTANCE_CONSOLE", "cmdlib/instance_operation.py, LUInstanceConsole"),
    no_hooks("OP_INSTANCE_DEACTIVATE_DISKS", "cmdlib/instance_storage.py, LUInstanceDeactivateDisks"),
    no_hooks("OP_INSTANCE_MULTI_ALLOC", "cmdlib/instance.py, LUInstanceMultiAlloc"),
    no_hooks("OP_INSTANCE_QUERY_DATA", "cmdlib/instance_query.py, LUInstanceQueryData"),
    no_hooks("OP_NODE_EVACUATE", "cmdlib/node.py, LUNodeEvacuate"),
    no_hooks("OP_NODE_MODIFY_STORAGE", "cmdlib/node.py, LUNodeModifyStorage"),
    no_hooks("OP_NODE_POWERCYCLE", "cmdlib/node.py, LUNodePowercycle"),
    no_hooks("OP_NODE_QUERYVOLS", "cmdlib/node.py, LUNodeQueryvols"),
    no_hooks("OP_NODE_QUERY_STORAGE", "cmdlib/node.py, LUNodeQueryStorage"),
    no_hooks("OP_OOB_COMMAND", "cmdlib/misc.py, LUOobCommand"),
    no_hooks("OP_OS_DIAGNOSE", "cmdlib/operating_system.py, LUOsDiagnose"),
    no_hooks("OP_QUERY", "cmdlib/query.py, LUQuery"),
    no_hooks("OP_QUERY_FIELDS", "cmdlib/query.py, LUQueryFields"),
    no_hooks("OP_REPAIR_NODE_STORAGE", "cmdlib/node.py, LURepairNodeStorage"),
    no_hooks("OP_RESTRICTED_COMMAND", "cmdlib/misc.py, LURestrictedCommand"),
    no_hooks("OP_TAGS_DEL", "cmdlib/tags.py, LUTagsDel"),
    no_hooks("OP_TAGS_GET", "cmdlib/tags.py, LUTagsGet"),
    no_hooks("OP_TAGS_SEARCH", "cmdlib/tags.py, LUTagsSearch"),
    no_hooks("OP_TAGS_SET", "cmdlib/tags.py, LUTagsSet"),
    no_hooks("OP_TEST_ALLOCATOR", "cmdlib/test.py, LUTestAllocator"),
    no_hooks("OP_TEST_DELAY", "cmdlib/test.py, LUTestDelay"),
    // Has no logical unit: Ganeti fails it.
    no_hooks("OP_TEST_DUMMY", "opcodes.py, OpTestDummy"),
    no_hooks("OP_TEST_JQUEUE", "cmdlib/test.py, LUTestJqueue"),
    no_hooks("OP_TEST_OS_PARAMS", "cmdlib/test.py, LUTestOsParams"),
];

/// All opcodes of Ganeti 3.0.2 and 3.1.
pub(super) fn opcodes() -> impl Iterator<Item = &'static Opcode> {
    [instance::OPCODES, node::OPCODES, group::OPCODES, network::OPCODES, cluster::OPCODES, WITHOUT_HOOKS]
        .into_iter()
        .flatten()
}

pub(super) fn find(code: &str) -> Option<&'static Opcode> {
    opcodes().find(|opcode| opcode.code == code)
}

pub(super) fn hooks(code: &str) -> Option<&'static Hooks> {
    find(code)?.hooks.as_ref()
}

impl Hooks {
    pub(super) fn targets(&self, phase: Phase) -> &'static [Target] {
        match (&self.nodes, phase) {
            (Nodes::Both(nodes), _) => nodes,
            (Nodes::Differ { pre, .. }, Phase::Pre) => pre,
            (Nodes::Differ { post, .. }, Phase::Post) => post,
        }
    }
}

/// Adds the variables of one side.
pub(super) fn export(hooks: &Hooks, moment: &Moment, environment: &mut Environment) {
    for variables in hooks.variables {
        match variables {
            Variables::Input(name, field) => {
                environment.set(name, python::text(moment.input(field)));
            }
            Variables::InputIfTrue(name, field) => {
                if moment.input_true(field) {
                    environment.set(name, python::text(moment.input(field)));
                }
            }
            Variables::Flag(name, field) => {
                environment.set(name, python::boolean(moment.input_true(field)));
            }
            Variables::One(name, value) => environment.set_known(name, value(moment)),
            Variables::Many(add) => add(moment, environment),
        }
    }
}

/// Names of nodes. Ganeti picks the nodes of both phases before the opcode runs.
pub(super) fn target_nodes(target: &Target, moment: &Moment) -> Vec<String> {
    match target {
        Target::Primary => instance::primary(moment).into_iter().collect(),
        Target::Secondaries => instance::secondaries(moment),
        Target::Input(field) => moment.input_node(field).into_iter().collect(),
        Target::Every => names(moment.base(), |_| true),
        Target::EveryBut(field) => {
            let left_out = moment.input_node(field);
            names(moment.base(), |name| Some(name) != left_out.as_deref())
        }
        Target::GroupMembers(field) => {
            moment.input_text(field).map(|group| group::members(moment, group)).unwrap_or_default()
        }
        Target::Computed(nodes) => nodes(moment),
    }
}

fn names(config: Option<&ClusterConfig>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    config
        .into_iter()
        .flat_map(ClusterConfig::node_names)
        .filter(|name| wanted(name))
        .map(str::to_owned)
        .collect()
}
