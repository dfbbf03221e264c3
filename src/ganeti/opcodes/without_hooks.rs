//! Opcodes without hooks of their own, `NoHooksLU` in Ganeti.

use super::entry::{Opcode, no_hooks};
use super::subject::Subject;
use crate::ganeti::object::ObjectKind;

pub(super) const OPCODES: &[Opcode] = &[
    no_hooks("OP_BACKUP_PREPARE", Subject::INSTANCE, "cmdlib/backup.py, LUBackupPrepare"),
    no_hooks("OP_BACKUP_REMOVE", Subject::INSTANCE, "cmdlib/backup.py, LUBackupRemove"),
    no_hooks(
        "OP_CLUSTER_ACTIVATE_MASTER_IP",
        Subject::Cluster,
        "cmdlib/cluster/__init__.py, LUClusterActivateMasterIp",
    ),
    no_hooks("OP_CLUSTER_CONFIG_QUERY", Subject::Cluster, "cmdlib/cluster/__init__.py, LUClusterConfigQuery"),
    no_hooks(
        "OP_CLUSTER_DEACTIVATE_MASTER_IP",
        Subject::Cluster,
        "cmdlib/cluster/__init__.py, LUClusterDeactivateMasterIp",
    ),
    no_hooks("OP_CLUSTER_QUERY", Subject::Cluster, "cmdlib/cluster/__init__.py, LUClusterQuery"),
    no_hooks("OP_CLUSTER_REDIST_CONF", Subject::Cluster, "cmdlib/cluster/__init__.py, LUClusterRedistConf"),
    no_hooks("OP_CLUSTER_RENEW_CRYPTO", Subject::Cluster, "cmdlib/cluster/__init__.py, LUClusterRenewCrypto"),
    no_hooks(
        "OP_CLUSTER_REPAIR_DISK_SIZES",
        Subject::Cluster,
        "cmdlib/cluster/__init__.py, LUClusterRepairDiskSizes",
    ),
    no_hooks("OP_CLUSTER_VERIFY", Subject::Cluster, "cmdlib/cluster/verify.py, LUClusterVerify"),
    no_hooks("OP_CLUSTER_VERIFY_CONFIG", Subject::Cluster, "cmdlib/cluster/verify.py, LUClusterVerifyConfig"),
    no_hooks("OP_CLUSTER_VERIFY_DISKS", Subject::Cluster, "cmdlib/cluster/verify.py, LUClusterVerifyDisks"),
    no_hooks("OP_EXT_STORAGE_DIAGNOSE", Subject::None, "cmdlib/misc.py, LUExtStorageDiagnose"),
    no_hooks("OP_GROUP_ASSIGN_NODES", Subject::GROUP, "cmdlib/group.py, LUGroupAssignNodes"),
    no_hooks("OP_GROUP_VERIFY_DISKS", Subject::GROUP, "cmdlib/group.py, LUGroupVerifyDisks"),
    no_hooks(
        "OP_INSTANCE_ACTIVATE_DISKS",
        Subject::INSTANCE,
        "cmdlib/instance_storage.py, LUInstanceActivateDisks",
    ),
    no_hooks("OP_INSTANCE_CONSOLE", Subject::INSTANCE, "cmdlib/instance_operation.py, LUInstanceConsole"),
    no_hooks(
        "OP_INSTANCE_DEACTIVATE_DISKS",
        Subject::INSTANCE,
        "cmdlib/instance_storage.py, LUInstanceDeactivateDisks",
    ),
    no_hooks(
        "OP_INSTANCE_MULTI_ALLOC",
        Subject::Inputs(ObjectKind::Instance, "instances", "instance_name"),
        "cmdlib/instance.py, LUInstanceMultiAlloc",
    ),
    no_hooks(
        "OP_INSTANCE_QUERY_DATA",
        Subject::Query(ObjectKind::Instance, "instances"),
        "cmdlib/instance_query.py, LUInstanceQueryData",
    ),
    no_hooks("OP_NODE_EVACUATE", Subject::NODE, "cmdlib/node.py, LUNodeEvacuate"),
    no_hooks("OP_NODE_MODIFY_STORAGE", Subject::NODE, "cmdlib/node.py, LUNodeModifyStorage"),
    no_hooks("OP_NODE_POWERCYCLE", Subject::NODE, "cmdlib/node.py, LUNodePowercycle"),
    no_hooks(
        "OP_NODE_QUERYVOLS",
        Subject::Query(ObjectKind::Node, "nodes"),
        "cmdlib/node.py, LUNodeQueryvols",
    ),
    no_hooks(
        "OP_NODE_QUERY_STORAGE",
        Subject::Query(ObjectKind::Node, "nodes"),
        "cmdlib/node.py, LUNodeQueryStorage",
    ),
    no_hooks("OP_OOB_COMMAND", Subject::List(ObjectKind::Node, "node_names"), "cmdlib/misc.py, LUOobCommand"),
    no_hooks("OP_OS_DIAGNOSE", Subject::None, "cmdlib/operating_system.py, LUOsDiagnose"),
    no_hooks("OP_QUERY", Subject::None, "cmdlib/query.py, LUQuery"),
    no_hooks("OP_QUERY_FIELDS", Subject::None, "cmdlib/query.py, LUQueryFields"),
    no_hooks("OP_REPAIR_NODE_STORAGE", Subject::NODE, "cmdlib/node.py, LURepairNodeStorage"),
    no_hooks(
        "OP_RESTRICTED_COMMAND",
        Subject::List(ObjectKind::Node, "nodes"),
        "cmdlib/misc.py, LURestrictedCommand",
    ),
    no_hooks("OP_TAGS_DEL", Subject::Tags, "cmdlib/tags.py, LUTagsDel"),
    no_hooks("OP_TAGS_GET", Subject::Tags, "cmdlib/tags.py, LUTagsGet"),
    no_hooks("OP_TAGS_SEARCH", Subject::None, "cmdlib/tags.py, LUTagsSearch"),
    no_hooks("OP_TAGS_SET", Subject::Tags, "cmdlib/tags.py, LUTagsSet"),
    no_hooks("OP_TEST_ALLOCATOR", Subject::None, "cmdlib/test.py, LUTestAllocator"),
    no_hooks("OP_TEST_DELAY", Subject::None, "cmdlib/test.py, LUTestDelay"),
    // Has no logical unit: Ganeti fails it.
    no_hooks("OP_TEST_DUMMY", Subject::None, "opcodes.py, OpTestDummy"),
    no_hooks("OP_TEST_JQUEUE", Subject::None, "cmdlib/test.py, LUTestJqueue"),
    no_hooks("OP_TEST_OS_PARAMS", Subject::None, "cmdlib/test.py, LUTestOsParams"),
];
