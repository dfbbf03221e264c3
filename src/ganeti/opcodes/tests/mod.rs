//! The table as a whole, and opcodes that the recordings do not hold.

mod objects;
mod robust;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::*;
use crate::ganeti::config::ClusterConfig;

const CLUSTER: &str = include_str!("cluster.json");

/// The cluster, with some of its objects' fields changed.
fn cluster(changes: &Value) -> ClusterConfig {
    let mut config: Value = serde_json::from_str(CLUSTER).unwrap();
    merge(&mut config, changes);
    ClusterConfig::parse(config.to_string().as_bytes()).unwrap()
}

fn merge(target: &mut Value, changes: &Value) {
    match (target, changes) {
        (Value::Object(target), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(target.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        (target, change) => *target = change.clone(),
    }
}

fn view_of(op_code: &str, input: &Value, phase: Phase, after: &Value) -> View {
    let (before, after) = (cluster(&json!({})), cluster(after));
    let input = input.as_object().unwrap();
    let scene = Scene {
        op_code,
        input_before: input,
        input,
        before: Some(&before),
        after: (phase == Phase::Post).then_some(&after),
    };
    view(&scene, phase)
}

fn pre(op_code: &str, input: &Value) -> View {
    view_of(op_code, input, Phase::Pre, &json!({}))
}

/// The variables without prefix, one a line, of those whose name has a part.
fn listed(view: &View, part: &str) -> String {
    let lines = view.variables.iter().filter(|(name, _)| name.contains(part));
    let lines: Vec<String> =
        lines.map(|(name, value)| format!("{}={value}", name.strip_prefix("GANETI_").unwrap())).collect();
    lines.join("\n")
}

fn short(nodes: &[String]) -> String {
    let names: Vec<&str> = nodes.iter().map(|name| name.strip_suffix(".example.com").unwrap()).collect();
    names.join(" ")
}

#[test]
fn the_table_is_complete() {
    let codes: BTreeSet<&str> = table::opcodes().map(|opcode| opcode.code).collect();
    assert_eq!(codes.len(), table::opcodes().count(), "a code stands twice");
    assert_eq!(codes.len(), 76, "Ganeti 3.1 has 76, 3.0.2 all but OP_NETWORK_RENAME");
    let hooks = || table::opcodes().filter_map(|opcode| opcode.hooks.as_ref());
    let paths: BTreeSet<&str> = hooks().map(|hooks| hooks.path).collect();
    assert_eq!((paths.len(), hooks().count()), (36, 36));
    for hooks in hooks() {
        let objects = ["INSTANCE", "NODE", "CLUSTER", "GROUP", "NETWORK"];
        assert!(objects.contains(&hooks.object), "{}", hooks.path);
    }
    for opcode in table::opcodes() {
        assert!(opcode.source.contains(".py, "), "{}", opcode.code);
    }
}

#[test]
fn opcodes_without_hooks_and_unknown_ones() {
    for (code, known) in [("OP_TEST_DELAY", true), ("OP_FROM_THE_FUTURE", false), ("", false)] {
        assert_eq!(is_known(code), known);
        assert_eq!((object_type(code), hook_path(code)), (NOT_APPLICABLE, None));
        let view = pre(code, &json!({"instance_name": "web"}));
        assert!(view.variables.is_empty());
        assert_eq!(short(&view.nodes), "node1");
    }
}

#[test]
fn without_a_configuration_the_input_still_speaks() {
    let input = json!({"instance_name": "web", "force": true});
    let input = input.as_object().unwrap();
    let scene =
        Scene { op_code: "OP_INSTANCE_STARTUP", input_before: input, input, before: None, after: None };
    let view = view(&scene, Phase::Post);
    assert_eq!(listed(&view, ""), "FORCE=True\nPOST_FORCE=True");
    assert!(view.nodes.is_empty());
}

#[test]
fn an_instance_on_drbd() {
    let view = pre("OP_INSTANCE_STARTUP", &json!({"instance_name": "web", "force": false}));
    assert_eq!(short(&view.nodes), "node1 node2");
    let expected = "\
FORCE=False
INSTANCE_BE_always_failover=False
INSTANCE_BE_auto_balance=True
INSTANCE_BE_maxmem=128
INSTANCE_BE_minmem=128
INSTANCE_BE_spindle_use=1
INSTANCE_BE_vcpus=2
INSTANCE_DISK0_DATA_ID=x.data
INSTANCE_DISK0_DATA_VG=xenvg
INSTANCE_DISK0_DEV_TYPE=drbd
INSTANCE_DISK0_META_ID=x.meta
INSTANCE_DISK0_META_VG=xenvg
INSTANCE_DISK0_MODE=rw
INSTANCE_DISK0_NAME=root
INSTANCE_DISK0_PMINOR=0
INSTANCE_DISK0_PNODE=u1
INSTANCE_DISK0_PORT=11000
INSTANCE_DISK0_SIZE=1024
INSTANCE_DISK0_SMINOR=1
INSTANCE_DISK0_SNODE=u2
INSTANCE_DISK0_UUID=d1
INSTANCE_DISK_COUNT=1
INSTANCE_DISK_TEMPLATE=drbd
INSTANCE_HV_acpi=False
INSTANCE_HV_boot_order=cdrom
INSTANCE_HV_cpu_cores=0
INSTANCE_HV_migration_mode=live
INSTANCE_HYPERVISOR=kvm
INSTANCE_MAXMEM=128
INSTANCE_MEMORY=128
INSTANCE_MINMEM=128
INSTANCE_NAME=web.example.com
INSTANCE_NIC0_BRIDGE=br0
INSTANCE_NIC0_IP=
INSTANCE_NIC0_LINK=br0
INSTANCE_NIC0_MAC=aa:00:00:00:00:01
INSTANCE_NIC0_MODE=bridged
INSTANCE_NIC0_NAME=eth0
INSTANCE_NIC0_UUID=nic0
INSTANCE_NIC0_VLAN=
INSTANCE_NIC1_IP=192.0.2.9
INSTANCE_NIC1_LINK=rt
INSTANCE_NIC1_MAC=aa:bb:cc:00:00:02
INSTANCE_NIC1_MODE=routed
INSTANCE_NIC1_NETWORK_GATEWAY=192.0.2.254
INSTANCE_NIC1_NETWORK_MAC_PREFIX=aa:bb:cc
INSTANCE_NIC1_NETWORK_NAME=lan
INSTANCE_NIC1_NETWORK_SUBNET=192.0.2.0/24
INSTANCE_NIC1_NETWORK_TAGS=dmz
INSTANCE_NIC1_NETWORK_UUID=nw
INSTANCE_NIC1_UUID=nic1
INSTANCE_NIC1_VLAN=.5
INSTANCE_NIC_COUNT=2
INSTANCE_OS_TYPE=debian
INSTANCE_PRIMARY=node1.example.com
INSTANCE_SECONDARIES=node2.example.com
INSTANCE_STATUS=up
INSTANCE_TAGS=
INSTANCE_VCPUS=2
OP_TARGET=web.example.com";
    assert_eq!(listed(&view, ""), expected);
}

#[test]
fn secrets_stay_inside() {
    let input = json!({
        "instance_name": "new", "mode": "create", "disk_template": "plain", "os_type": "debian",
        "osparams": {"a": "open"}, "osparams_private": {"b": "hidden"},
        "osparams_secret": {"c": "hidden"}, "disks": [], "nics": [],
    });
    for code in ["OP_INSTANCE_CREATE", "OP_INSTANCE_REINSTALL", "OP_INSTANCE_SET_PARAMS"] {
        for name in ["new", "web"] {
            let mut input = input.clone();
            input["instance_name"] = json!(name);
            let view = view_of(code, &input, Phase::Post, &json!({}));
            let mut values = view.variables.values();
            assert!(!values.any(|value| value.contains("hidden")), "{code}");
        }
    }
}

#[test]
fn migration_to_the_secondary() {
    let input = json!({"instance_name": "web", "cleanup": false, "allow_failover": false});
    let moved = json!({"instances": {"i1": {"primary_node": "u2"}}});
    let view = view_of("OP_INSTANCE_MIGRATE", &input, Phase::Post, &moved);
    assert_eq!(short(&view.nodes), "node1 node2");
    let expected = "\
NEW_SECONDARY=node1.example.com
OLD_SECONDARY=node2.example.com
POST_NEW_SECONDARY=node2.example.com
POST_OLD_SECONDARY=node1.example.com";
    assert_eq!(listed(&view, "_SECONDARY"), expected);
    let expected = "\
NEW_PRIMARY=node2.example.com
OLD_PRIMARY=node1.example.com
POST_NEW_PRIMARY=node2.example.com
POST_OLD_PRIMARY=node2.example.com";
    let primaries = listed(&view, "_PRIMARY");
    let roles: Vec<&str> = primaries.lines().filter(|line| !line.contains("INSTANCE")).collect();
    assert_eq!(roles.join("\n"), expected);
    assert_eq!(listed(&view, "LIVE"), "MIGRATE_LIVE=True\nPOST_MIGRATE_LIVE=True");
}

#[test]
fn replacing_the_secondary() {
    let input = json!({"instance_name": "web", "mode": "replace_new_secondary",
        "remote_node": "node3", "remote_node_uuid": "u3"});
    let replaced = json!({"disks": {"d1": {"logical_id": ["u1", "u3", 11000, 0, 1, "x"]}}});
    let view = view_of("OP_INSTANCE_REPLACE_DISKS", &input, Phase::Post, &replaced);
    assert_eq!(short(&view.nodes), "node1 node3");
    let expected = "OLD_SECONDARY=node2.example.com\nPOST_OLD_SECONDARY=node3.example.com";
    assert_eq!(listed(&view, "OLD_SECONDARY"), expected);
    assert_eq!(hook_path("OP_INSTANCE_REPLACE_DISKS"), Some("mirrors-replace"));
}

#[test]
fn changed_nics_are_shown_before_they_are_there() {
    let input = json!({"instance_name": "web", "beparams": {"vcpus": "default", "memory": "130"},
    "nics": [
        ["modify", "eth0", {"mac": "AA:00:00:00:00:77", "ip": "192.0.2.7", "link": "br1"}],
        ["remove", 1, {}],
        ["add", -1, {"network": "lan", "ip": "pool", "mac": "auto", "name": "none"}],
    ]});
    let view = pre("OP_INSTANCE_SET_PARAMS", &input);
    let nics = listed(&view, "NIC0") + "\n" + &listed(&view, "NIC1");
    let expected = "\
INSTANCE_NIC0_BRIDGE=br1
INSTANCE_NIC0_IP=192.0.2.7
INSTANCE_NIC0_LINK=br1
INSTANCE_NIC0_MAC=aa:00:00:00:00:77
INSTANCE_NIC0_MODE=bridged
INSTANCE_NIC0_NAME=eth0
INSTANCE_NIC0_UUID=nic0
INSTANCE_NIC0_VLAN=
INSTANCE_NIC1_LINK=rt
INSTANCE_NIC1_MODE=routed
INSTANCE_NIC1_NETWORK_GATEWAY=192.0.2.254
INSTANCE_NIC1_NETWORK_MAC_PREFIX=aa:bb:cc
INSTANCE_NIC1_NETWORK_NAME=lan
INSTANCE_NIC1_NETWORK_SUBNET=192.0.2.0/24
INSTANCE_NIC1_NETWORK_TAGS=dmz
INSTANCE_NIC1_NETWORK_UUID=nw
INSTANCE_NIC1_VLAN=.5";
    assert_eq!(nics, expected);
    assert_eq!(listed(&view, "MAXMEM"), "INSTANCE_MAXMEM=132");
    assert_eq!(listed(&view, "VCPUS"), "INSTANCE_VCPUS=1");
    assert_eq!(listed(&view, "BE_vcpus"), "INSTANCE_BE_vcpus=2");
}

#[test]
fn node_flags_that_change_nothing() {
    let flags = |input: Value| {
        let view = pre("OP_NODE_SET_PARAMS", &input);
        let text = listed(&view, "");
        let lines = text.lines().filter(|line| !line.contains("OP_TARGET"));
        lines.collect::<Vec<_>>().join(" ")
    };
    let unset = flags(json!({"node_name": "node1", "drained": false, "offline": true}));
    assert_eq!(unset, "DRAINED=None MASTER_CANDIDATE=None MASTER_CAPABLE=None OFFLINE=True VM_CAPABLE=None");
    // Whether node2 becomes a candidate again, Ganeti decides later.
    let back = flags(json!({"node_name": "node2", "offline": false}));
    assert_eq!(back, "DRAINED=None MASTER_CAPABLE=None OFFLINE=False VM_CAPABLE=None");
    let demoted = flags(json!({"node_name": "node3", "master_capable": false}));
    assert_eq!(
        demoted,
        "DRAINED=None MASTER_CANDIDATE=False MASTER_CAPABLE=False OFFLINE=None VM_CAPABLE=None"
    );
}

#[test]
fn networks() {
    let modified = pre(
        "OP_NETWORK_SET_PARAMS",
        &json!({"network_name": "lan", "gateway": "none", "network6": "2001:db8::/64"}),
    );
    let expected = "\
NETWORK_MAC_PREFIX=aa:bb:cc
NETWORK_NAME=lan
NETWORK_SUBNET=192.0.2.0/24
NETWORK_SUBNET6=2001:db8::/64
NETWORK_TAGS=dmz";
    assert_eq!(listed(&modified, ""), expected);

    let input = json!({"network_name": "lan", "group_name": "alpha"});
    let gone = json!({"nodegroups": {"ga": {"networks": null}}});
    let left = view_of("OP_NETWORK_DISCONNECT", &input, Phase::Post, &gone);
    assert_eq!(short(&left.nodes), "node1 node2");
    assert_eq!(listed(&left, "_LINK"), "GROUP_NETWORK_LINK=rt\nPOST_GROUP_NETWORK_LINK=rt");

    let input = json!({"network_name": "lan", "group_name": "beta"});
    let never = pre("OP_NETWORK_DISCONNECT", &input);
    assert_eq!(listed(&never, ""), "GROUP_NAME=beta");
    assert_eq!(short(&never.nodes), "node1 node3");

    let renamed = pre("OP_NETWORK_RENAME", &json!({"network_name": "lan", "new_name": "wan"}));
    assert_eq!(listed(&renamed, ""), "NEW_NAME=wan\nOLD_NAME=lan");
    assert_eq!(short(&renamed.nodes), "node1 node2");
}

#[test]
fn target_groups() {
    let all = pre("OP_GROUP_EVACUATE", &json!({"group_name": "alpha"}));
    assert_eq!(listed(&all, ""), "GROUP_NAME=alpha\nTARGET_GROUPS=gb gc");
    let asked = json!({"group_name": "alpha", "target_groups": ["beta"]});
    assert_eq!(listed(&pre("OP_GROUP_EVACUATE", &asked), "TARGET"), "TARGET_GROUPS=gb");
    let instance = pre("OP_INSTANCE_CHANGE_GROUP", &json!({"instance_name": "web"}));
    assert_eq!(listed(&instance, "TARGET_GROUPS"), "TARGET_GROUPS=gb gc");
}

#[test]
fn names_and_values_that_no_environment_holds() {
    let input = json!({"instance_name": "new\u{0}", "mode": "create", "disk_template": "plain",
        "hvparams": {"a=b": "c", "d\u{0}": "e"}, "beparams": {"": "x"}});
    let view = pre("OP_INSTANCE_CREATE", &input);
    for (name, value) in &view.variables {
        assert!(!name.contains(['=', '\0']) && !value.contains('\0'), "{name}");
    }
    assert!(!view.variables.contains_key("GANETI_OP_TARGET"));
}

/// All variables of the post of an opcode that never executed.
fn refused(op_code: &str, input: &Value) -> String {
    let (input, after) = (input.as_object().unwrap(), cluster(&json!({})));
    let scene = Scene { op_code, input_before: input, input, before: None, after: Some(&after) };
    listed(&view_of_refused(&scene), "")
}

#[test]
fn an_opcode_that_was_refused_has_names_and_what_they_name() {
    let create = |name: &str| {
        let input = json!({
            "instance_name": name, "mode": "create", "os_type": "`reboot`", "pnode": "node1.example.com",
            "disks": [{"size": "$(reboot)"}], "nics": [{"mac": ";"}], "hvparams": {"a;b": "c"},
            "beparams": {"vcpus": 7}, "tags": ["x y"], "start": true, "disk_template": "../drbd",
        });
        refused("OP_INSTANCE_CREATE", &input)
    };
    let expected = "INSTANCE_NAME=new.example.com\nOP_TARGET=new.example.com\n\
        POST_INSTANCE_NAME=new.example.com\nPOST_OP_TARGET=new.example.com";
    assert_eq!(create("new.example.com"), expected);
    assert_eq!(create("../cron.d-evil"), "");
    assert_eq!(create(&"x".repeat(256)), "");
    let started = refused("OP_INSTANCE_STARTUP", &json!({"instance_name": "web.example.com", "force": true}));
    assert!(started.contains("POST_INSTANCE_PRIMARY=node1.example.com"), "{started}");
    assert!(!started.contains("FORCE"), "{started}");
    for (op_code, input, expected) in [
        (
            "OP_NODE_ADD",
            json!({"node_name": "n", "primary_ip": "x", "vm_capable": true}),
            "NODE_NAME=n OP_TARGET=n",
        ),
        ("OP_CLUSTER_RENAME", json!({"name": "new.example.com"}), "NEW_NAME=new.example.com"),
        ("OP_CLUSTER_RENAME", json!({"name": "a\nb"}), ""),
        ("OP_GROUP_RENAME", json!({"group_name": "a", "new_name": "-b"}), "OLD_NAME=a"),
        (
            "OP_NETWORK_ADD",
            json!({"network_name": "n", "network": "192.0.2.0/24", "tags": ["t"]}),
            "NETWORK_NAME=n",
        ),
        ("OP_GROUP_EVACUATE", json!({"group_name": "default", "target_groups": ["x"]}), "GROUP_NAME=default"),
    ] {
        let all = refused(op_code, &input);
        let own: Vec<&str> = all.lines().filter(|line| !line.starts_with("POST_")).collect();
        assert_eq!(own.join(" "), expected, "{op_code}");
    }
}
