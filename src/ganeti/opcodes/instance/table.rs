//! The table of opcodes on instances.

use super::super::entry::{Hooks, Nodes, Opcode, Target, Variables};
use super::super::subject::Subject;
use super::describe::{object, object_kept};
use super::nodes::{change_targets, old_secondary};
use super::{create, migrate, modify};

/// `GetInstanceNodes`.
const INSTANCE: Nodes = Nodes::Both(&[Target::Primary, Target::Secondaries]);

pub(in crate::ganeti::opcodes) const OPCODES: &[Opcode] = &[
    Opcode {
        code: "OP_BACKUP_EXPORT",
        source: "cmdlib/backup.py, LUBackupExport",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-export",
            object: "INSTANCE",
            variables: &[
                Variables::Input("EXPORT_MODE", "mode"),
                Variables::Input("EXPORT_NODE", "target_node"),
                Variables::Input("EXPORT_DO_SHUTDOWN", "shutdown"),
                Variables::Input("SHUTDOWN_TIMEOUT", "shutdown_timeout"),
                Variables::Flag("REMOVE_INSTANCE", "remove_instance"),
                Variables::Many(object),
            ],
            // A remote export's target is a list, which names no node.
            nodes: Nodes::Both(&[Target::Primary, Target::Input("target_node")]),
        }),
    },
    Opcode {
        code: "OP_INSTANCE_CHANGE_GROUP",
        source: "cmdlib/instance.py, LUInstanceChangeGroup",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-change-group",
            object: "INSTANCE",
            variables: &[Variables::One("TARGET_GROUPS", change_targets), Variables::Many(object)],
            nodes: Nodes::Both(&[]),
        }),
    },
    Opcode {
        code: "OP_INSTANCE_CREATE",
        source: "cmdlib/instance_create.py, LUInstanceCreate",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-add",
            object: "INSTANCE",
            variables: &[
                Variables::Input("ADD_MODE", "mode"),
                Variables::Many(create::import_source),
                Variables::Many(create::instance),
            ],
            nodes: Nodes::Both(&[Target::Computed(create::nodes)]),
        }),
    },
    Opcode {
        code: "OP_INSTANCE_FAILOVER",
        source: "cmdlib/instance_migration.py, LUInstanceFailover",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-failover",
            object: "INSTANCE",
            variables: &[
                Variables::Input("IGNORE_CONSISTENCY", "ignore_consistency"),
                Variables::Input("SHUTDOWN_TIMEOUT", "shutdown_timeout"),
                Variables::Input("FAILOVER_CLEANUP", "cleanup"),
                Variables::Many(migrate::roles),
                Variables::Many(object),
            ],
            // The node that may have failed runs no pre hooks.
            nodes: Nodes::Differ {
                pre: &[Target::Secondaries, Target::Computed(migrate::target)],
                post: &[Target::Primary, Target::Secondaries, Target::Computed(migrate::target)],
            },
        }),
    },
    Opcode {
        code: "OP_INSTANCE_GROW_DISK",
        source: "cmdlib/instance_storage.py, LUInstanceGrowDisk",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "disk-grow",
            object: "INSTANCE",
            variables: &[
                Variables::Input("DISK", "disk"),
                Variables::Input("AMOUNT", "amount"),
                Variables::Input("ABSOLUTE", "absolute"),
                Variables::Many(object),
            ],
            nodes: INSTANCE,
        }),
    },
    Opcode {
        code: "OP_INSTANCE_MIGRATE",
        source: "cmdlib/instance_migration.py, LUInstanceMigrate",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-migrate",
            object: "INSTANCE",
            variables: &[
                Variables::One("MIGRATE_LIVE", migrate::live),
                Variables::Input("MIGRATE_CLEANUP", "cleanup"),
                Variables::Input("ALLOW_RUNTIME_CHANGES", "allow_runtime_changes"),
                Variables::Many(migrate::roles),
                Variables::Many(object),
            ],
            nodes: Nodes::Both(&[Target::Primary, Target::Secondaries, Target::Computed(migrate::target)]),
        }),
    },
    Opcode {
        code: "OP_INSTANCE_MOVE",
        source: "cmdlib/instance.py, LUInstanceMove",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-move",
            object: "INSTANCE",
            variables: &[
                Variables::Input("TARGET_NODE", "target_node"),
                Variables::Input("SHUTDOWN_TIMEOUT", "shutdown_timeout"),
                Variables::Many(object),
            ],
            nodes: Nodes::Both(&[Target::Primary, Target::Input("target_node")]),
        }),
    },
    Opcode {
        code: "OP_INSTANCE_REBOOT",
        source: "cmdlib/instance_operation.py, LUInstanceReboot",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-reboot",
            object: "INSTANCE",
            variables: &[
                Variables::Input("IGNORE_SECONDARIES", "ignore_secondaries"),
                Variables::Input("REBOOT_TYPE", "reboot_type"),
                Variables::Input("SHUTDOWN_TIMEOUT", "shutdown_timeout"),
                Variables::Many(object_kept),
            ],
            nodes: INSTANCE,
        }),
    },
    Opcode {
        code: "OP_INSTANCE_RECREATE_DISKS",
        source: "cmdlib/instance_storage.py, LUInstanceRecreateDisks",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-recreate-disks",
            object: "INSTANCE",
            variables: &[Variables::Many(object)],
            nodes: INSTANCE,
        }),
    },
    Opcode {
        code: "OP_INSTANCE_REINSTALL",
        source: "cmdlib/instance_operation.py, LUInstanceReinstall",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-reinstall",
            object: "INSTANCE",
            variables: &[Variables::Many(object)],
            nodes: INSTANCE,
        }),
    },
    Opcode {
        code: "OP_INSTANCE_REMOVE",
        source: "cmdlib/instance.py, LUInstanceRemove",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-remove",
            object: "INSTANCE",
            variables: &[Variables::Input("SHUTDOWN_TIMEOUT", "shutdown_timeout"), Variables::Many(object)],
            nodes: Nodes::Differ { pre: &[], post: &[Target::Primary, Target::Secondaries] },
        }),
    },
    Opcode {
        code: "OP_INSTANCE_RENAME",
        source: "cmdlib/instance.py, LUInstanceRename",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-rename",
            object: "INSTANCE",
            variables: &[Variables::Input("INSTANCE_NEW_NAME", "new_name"), Variables::Many(object_kept)],
            nodes: INSTANCE,
        }),
    },
    Opcode {
        code: "OP_INSTANCE_REPLACE_DISKS",
        source: "cmdlib/instance_storage.py, LUInstanceReplaceDisks",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "mirrors-replace",
            object: "INSTANCE",
            variables: &[
                Variables::Input("MODE", "mode"),
                Variables::Input("NEW_SECONDARY", "remote_node"),
                Variables::One("OLD_SECONDARY", old_secondary),
                Variables::Many(object),
            ],
            nodes: Nodes::Both(&[Target::Primary, Target::Input("remote_node")]),
        }),
    },
    Opcode {
        code: "OP_INSTANCE_SET_PARAMS",
        source: "cmdlib/instance_set_params.py, LUInstanceSetParams",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-modify",
            object: "INSTANCE",
            variables: &[
                Variables::Many(modify::instance),
                Variables::InputIfTrue("NEW_DISK_TEMPLATE", "disk_template"),
                Variables::InputIfTrue("RUNTIME_MEMORY", "runtime_mem"),
            ],
            nodes: INSTANCE,
        }),
    },
    Opcode {
        code: "OP_INSTANCE_SHUTDOWN",
        source: "cmdlib/instance_operation.py, LUInstanceShutdown",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-stop",
            object: "INSTANCE",
            variables: &[Variables::Input("TIMEOUT", "timeout"), Variables::Many(object)],
            nodes: INSTANCE,
        }),
    },
    Opcode {
        code: "OP_INSTANCE_STARTUP",
        source: "cmdlib/instance_operation.py, LUInstanceStartup",
        subject: Subject::INSTANCE,
        hooks: Some(Hooks {
            path: "instance-start",
            object: "INSTANCE",
            variables: &[Variables::Input("FORCE", "force"), Variables::Many(object)],
            nodes: INSTANCE,
        }),
    },
];
