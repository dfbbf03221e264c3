//! The object of each opcode.

use super::*;
use crate::ganeti::object::ObjectKind;
use subject::Subject;

const NAME: &str = "cluster.example.com";

/// The object as it is shown, and `-` for none.
fn shown(op_code: &str, input: &str) -> String {
    let input: &RawValue = serde_json::from_str(input).unwrap();
    object(op_code, input, Some(NAME)).map_or("-".to_owned(), |object| object.to_string())
}

/// One input for each opcode: beside what names the object stands what might be taken for it.
const OPCODES: &[(&str, &str, &str)] = &[
    (
        "OP_BACKUP_EXPORT",
        r#"{"instance_name": "web", "target_node": "node3", "mode": "local"}"#,
        "instance/web",
    ),
    ("OP_BACKUP_PREPARE", r#"{"instance_name": "web", "mode": "remote"}"#, "instance/web"),
    ("OP_BACKUP_REMOVE", r#"{"instance_name": "web"}"#, "instance/web"),
    ("OP_CLUSTER_ACTIVATE_MASTER_IP", "{}", "cluster/cluster.example.com"),
    ("OP_CLUSTER_CONFIG_QUERY", r#"{"output_fields": ["cluster_name"]}"#, "cluster/cluster.example.com"),
    ("OP_CLUSTER_DEACTIVATE_MASTER_IP", "{}", "cluster/cluster.example.com"),
    ("OP_CLUSTER_DESTROY", "{}", "cluster/cluster.example.com"),
    ("OP_CLUSTER_POST_INIT", "{}", "cluster/cluster.example.com"),
    ("OP_CLUSTER_QUERY", "{}", "cluster/cluster.example.com"),
    ("OP_CLUSTER_REDIST_CONF", "{}", "cluster/cluster.example.com"),
    ("OP_CLUSTER_RENAME", r#"{"name": "new.example.com"}"#, "cluster/cluster.example.com"),
    ("OP_CLUSTER_RENEW_CRYPTO", r#"{"node_certificates": true}"#, "cluster/cluster.example.com"),
    ("OP_CLUSTER_REPAIR_DISK_SIZES", r#"{"instances": ["web"]}"#, "cluster/cluster.example.com"),
    ("OP_CLUSTER_SET_PARAMS", r#"{"vg_name": "xenvg"}"#, "cluster/cluster.example.com"),
    ("OP_CLUSTER_VERIFY", r#"{"group_name": "default"}"#, "cluster/cluster.example.com"),
    ("OP_CLUSTER_VERIFY_CONFIG", r#"{"verbose": false}"#, "cluster/cluster.example.com"),
    ("OP_CLUSTER_VERIFY_DISKS", r#"{"group_name": "default"}"#, "cluster/cluster.example.com"),
    ("OP_CLUSTER_VERIFY_GROUP", r#"{"group_name": "278969e9"}"#, "group/278969e9"),
    ("OP_EXT_STORAGE_DIAGNOSE", r#"{"names": ["one"]}"#, "-"),
    ("OP_GROUP_ADD", r#"{"group_name": "rack2"}"#, "group/rack2"),
    ("OP_GROUP_ASSIGN_NODES", r#"{"nodes": ["node2"], "group_name": "rack2"}"#, "group/rack2"),
    ("OP_GROUP_EVACUATE", r#"{"group_name": "rack2", "target_groups": ["rack3"]}"#, "group/rack2"),
    ("OP_GROUP_REMOVE", r#"{"group_name": "rack2"}"#, "group/rack2"),
    ("OP_GROUP_RENAME", r#"{"group_name": "rack2", "new_name": "rack3"}"#, "group/rack2"),
    ("OP_GROUP_SET_PARAMS", r#"{"group_name": "rack2"}"#, "group/rack2"),
    ("OP_GROUP_VERIFY_DISKS", r#"{"group_name": "b173d697"}"#, "group/b173d697"),
    ("OP_INSTANCE_ACTIVATE_DISKS", r#"{"instance_name": "web"}"#, "instance/web"),
    ("OP_INSTANCE_CHANGE_GROUP", r#"{"instance_name": "web", "target_groups": ["r"]}"#, "instance/web"),
    ("OP_INSTANCE_CONSOLE", r#"{"instance_name": "web"}"#, "instance/web"),
    (
        "OP_INSTANCE_CREATE",
        r#"{"pnode": "node2", "instance_name": "web", "group_name": "rack2", "nics": [{"name": "x"}]}"#,
        "instance/web",
    ),
    ("OP_INSTANCE_DEACTIVATE_DISKS", r#"{"instance_name": "web"}"#, "instance/web"),
    ("OP_INSTANCE_FAILOVER", r#"{"instance_name": "web", "target_node": "node3"}"#, "instance/web"),
    ("OP_INSTANCE_GROW_DISK", r#"{"instance_name": "web", "disk": 0}"#, "instance/web"),
    ("OP_INSTANCE_MIGRATE", r#"{"target_node": "node3", "instance_name": "web"}"#, "instance/web"),
    ("OP_INSTANCE_MOVE", r#"{"instance_name": "web", "target_node": "node3"}"#, "instance/web"),
    (
        "OP_INSTANCE_MULTI_ALLOC",
        r#"{"instances": [{"pnode": "node2", "instance_name": "web"}], "iallocator": "hail"}"#,
        "instance/web",
    ),
    ("OP_INSTANCE_QUERY_DATA", r#"{"instances": ["web"], "static": true}"#, "instance/web"),
    ("OP_INSTANCE_REBOOT", r#"{"instance_name": "web"}"#, "instance/web"),
    ("OP_INSTANCE_RECREATE_DISKS", r#"{"instance_name": "web", "nodes": ["node2"]}"#, "instance/web"),
    ("OP_INSTANCE_REINSTALL", r#"{"instance_name": "web"}"#, "instance/web"),
    ("OP_INSTANCE_REMOVE", r#"{"instance_name": "web"}"#, "instance/web"),
    ("OP_INSTANCE_RENAME", r#"{"new_name": "www", "instance_name": "web"}"#, "instance/web"),
    ("OP_INSTANCE_REPLACE_DISKS", r#"{"instance_name": "web", "remote_node": "n"}"#, "instance/web"),
    ("OP_INSTANCE_SET_PARAMS", r#"{"instance_name": "web", "pnode": null}"#, "instance/web"),
    ("OP_INSTANCE_SHUTDOWN", r#"{"instance_name": "web"}"#, "instance/web"),
    ("OP_INSTANCE_STARTUP", r#"{"instance_name": "web", "instance_uuid": "4ff1c07c"}"#, "instance/web"),
    ("OP_NETWORK_ADD", r#"{"network_name": "lan", "network": "10.9.0.0/24"}"#, "network/lan"),
    ("OP_NETWORK_CONNECT", r#"{"group_name": "rack2", "network_name": "lan"}"#, "network/lan"),
    ("OP_NETWORK_DISCONNECT", r#"{"group_name": "rack2", "network_name": "lan"}"#, "network/lan"),
    ("OP_NETWORK_REMOVE", r#"{"network_name": "lan"}"#, "network/lan"),
    ("OP_NETWORK_RENAME", r#"{"network_name": "lan", "new_name": "wan"}"#, "network/lan"),
    ("OP_NETWORK_SET_PARAMS", r#"{"network_name": "lan", "gateway": null}"#, "network/lan"),
    ("OP_NODE_ADD", r#"{"node_name": "node2", "group": "rack2"}"#, "node/node2"),
    ("OP_NODE_EVACUATE", r#"{"remote_node": "node3", "node_name": "node2"}"#, "node/node2"),
    ("OP_NODE_MIGRATE", r#"{"node_name": "node2", "target_node": "node3"}"#, "node/node2"),
    ("OP_NODE_MODIFY_STORAGE", r#"{"node_name": "node2", "name": "xenvg"}"#, "node/node2"),
    ("OP_NODE_POWERCYCLE", r#"{"node_name": "node2", "force": false}"#, "node/node2"),
    ("OP_NODE_QUERYVOLS", r#"{"nodes": ["node2"], "output_fields": ["node"]}"#, "node/node2"),
    ("OP_NODE_QUERY_STORAGE", r#"{"nodes": ["node2"], "name": "xenvg"}"#, "node/node2"),
    ("OP_NODE_REMOVE", r#"{"node_name": "node2"}"#, "node/node2"),
    ("OP_NODE_SET_PARAMS", r#"{"node_name": "node2", "offline": true}"#, "node/node2"),
    ("OP_OOB_COMMAND", r#"{"node_names": ["node2"], "command": "power-off"}"#, "node/node2"),
    ("OP_OS_DIAGNOSE", r#"{"names": ["debian"]}"#, "-"),
    ("OP_QUERY", r#"{"what": "instance", "qfilter": ["=", "name", "web"]}"#, "-"),
    ("OP_QUERY_FIELDS", r#"{"what": "node"}"#, "-"),
    ("OP_REPAIR_NODE_STORAGE", r#"{"node_name": "node2", "name": "xenvg"}"#, "node/node2"),
    ("OP_RESTRICTED_COMMAND", r#"{"nodes": ["node2"], "command": "look"}"#, "node/node2"),
    ("OP_TAGS_DEL", r#"{"kind": "node", "tags": ["ssd"], "name": "node2"}"#, "node/node2"),
    ("OP_TAGS_GET", r#"{"kind": "instance", "name": "web"}"#, "instance/web"),
    ("OP_TAGS_SEARCH", r#"{"pattern": "^site"}"#, "-"),
    ("OP_TAGS_SET", r#"{"name": "rack2", "tags": ["a"], "kind": "nodegroup"}"#, "group/rack2"),
    ("OP_TEST_ALLOCATOR", r#"{"name": "probe", "instances": ["probe"]}"#, "-"),
    ("OP_TEST_DELAY", r#"{"duration": 0.2, "on_nodes": ["node2"]}"#, "-"),
    ("OP_TEST_DUMMY", r#"{"messages": "x"}"#, "-"),
    ("OP_TEST_JQUEUE", r#"{"log_messages": ["x"]}"#, "-"),
    ("OP_TEST_OS_PARAMS", "{}", "-"),
];

#[test]
fn the_object_of_each_opcode() {
    let tried: BTreeSet<&str> = OPCODES.iter().map(|(code, ..)| *code).collect();
    let all: BTreeSet<&str> = table::opcodes().map(|opcode| opcode.code).collect();
    assert_eq!(tried, all);
    for (code, input, expected) in OPCODES {
        assert_eq!(shown(code, input), *expected, "{code}");
    }
}

#[test]
fn several_objects_have_no_name() {
    for (code, input, expected) in [
        ("OP_OOB_COMMAND", r#"{"node_names": ["node1", "node2"]}"#, "node"),
        ("OP_OOB_COMMAND", r#"{"node_names": []}"#, "-"),
        ("OP_OOB_COMMAND", r#"{"node_names": "node1"}"#, "-"),
        ("OP_OOB_COMMAND", r#"{"node_names": [""]}"#, "-"),
        ("OP_RESTRICTED_COMMAND", r#"{"nodes": ["node1", "node2"]}"#, "node"),
        ("OP_INSTANCE_MULTI_ALLOC", r#"{"instances": [{}, {"instance_name": "web"}]}"#, "instance"),
        ("OP_INSTANCE_MULTI_ALLOC", r#"{"instances": [{}]}"#, "-"),
        ("OP_INSTANCE_QUERY_DATA", r#"{"instances": ["web", "www"]}"#, "-"),
        ("OP_INSTANCE_QUERY_DATA", r#"{"instances": []}"#, "-"),
        ("OP_NODE_QUERYVOLS", r#"{"nodes": ["node1", "node2"]}"#, "-"),
    ] {
        assert_eq!(shown(code, input), expected, "{code} {input}");
    }
}

#[test]
fn tags_are_of_the_object_that_has_them() {
    for (input, expected) in [
        (r#"{"kind": "cluster", "name": null}"#, "cluster/cluster.example.com"),
        (r#"{"kind": "cluster"}"#, "cluster/cluster.example.com"),
        (r#"{"kind": "network", "name": "lan"}"#, "network/lan"),
        (r#"{"kind": "node", "name": null}"#, "-"),
        (r#"{"kind": "node"}"#, "-"),
        (r#"{"kind": "planet", "name": "earth"}"#, "-"),
        (r#"{"kind": null, "name": "web"}"#, "-"),
        (r#"{"name": "web"}"#, "-"),
    ] {
        assert_eq!(shown("OP_TAGS_SET", input), expected, "{input}");
    }
}

#[test]
fn a_cluster_may_have_no_name() {
    let input: &RawValue = serde_json::from_str("17").unwrap();
    for cluster in [None, Some("")] {
        let expected = Some(Object { kind: ObjectKind::Cluster, name: None });
        assert_eq!(object("OP_CLUSTER_VERIFY", input, cluster), expected);
    }
}

#[test]
fn names_are_any_text() {
    let named = |name: &str| shown("OP_INSTANCE_STARTUP", &format!(r#"{{"instance_name": {name}}}"#));
    for (name, expected) in [
        (r#""\u0000\n/../$(x)""#, "instance/\0\n/../$(x)"),
        (r#""caf\udce9 \ud83d\ude00""#, "instance/caf\u{fffd} 😀"),
        (r#""""#, "-"),
        ("null", "-"),
        ("17", "-"),
        ("true", "-"),
        (r#"["web"]"#, "-"),
        (r#"{"web": 1}"#, "-"),
    ] {
        assert_eq!(named(name), expected, "{name}");
    }
    // The 255th byte is within the last character.
    let long = format!("{}é{}", "x".repeat(254), "y".repeat(1_000_000));
    assert_eq!(named(&json!(long).to_string()), format!("instance/{}", "x".repeat(254)));
    let longest = "x".repeat(255);
    assert_eq!(named(&json!(longest).to_string()), format!("instance/{longest}"));
}

#[test]
fn what_else_the_input_holds_costs_nothing() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let input = format!(
        r#"{{"instance_name": "old", "a": {deep}, "\udc80": 1e400, "reason": ["\udc80"], "instance_name": "web"}}"#
    );
    assert_eq!(shown("OP_INSTANCE_STARTUP", &input), "instance/web", "of two the last, as in Python");
    assert_eq!(shown("OP_INSTANCE_STARTUP", r#"{"x": {"instance_name": "web"}}"#), "-");
    for other in ["null", "[]", r#""instance_name""#, "{}"] {
        assert_eq!(shown("OP_INSTANCE_STARTUP", other), "-", "{other}");
    }
}

#[test]
fn an_unknown_opcode_is_about_nothing() {
    for code in ["OP_INSTANCE_FROM_THE_FUTURE", "OP_CLUSTER_FROM_THE_FUTURE", ""] {
        assert_eq!(shown(code, r#"{"instance_name": "web"}"#), "-");
    }
}

/// The columns of the documentation's table: the object, and where its name is from.
fn columns(subject: Subject) -> (String, String) {
    match subject {
        Subject::None => ("none".to_owned(), "-".to_owned()),
        Subject::Cluster => ("`CLUSTER`".to_owned(), "the cluster's name".to_owned()),
        Subject::Field(kind, field) => (format!("`{}`", kind.as_str()), format!("`{field}`")),
        Subject::List(kind, field) => {
            (format!("`{}`", kind.as_str()), format!("`{field}`; no name if there are several"))
        }
        Subject::Inputs(kind, field, inner) => {
            (format!("`{}`", kind.as_str()), format!("`{inner}` of `{field}`; no name if there are several"))
        }
        Subject::Query(kind, field) => {
            (format!("`{}`", kind.as_str()), format!("`{field}`; no object if there are several"))
        }
        Subject::Tags => ("by `kind`".to_owned(), "`name`".to_owned()),
    }
}

/// The documentation's table of objects, the opcodes of one object in one line.
fn documented() -> String {
    let mut rows: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for opcode in table::opcodes() {
        rows.entry(columns(opcode.subject)).or_default().insert(opcode.code);
    }
    let row = |((object, name), codes): (&(String, String), &BTreeSet<&str>)| {
        let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        format!("| {object} | {name} | {} |\n", codes.join(", "))
    };
    let rows: String = rows.iter().map(row).collect();
    format!("| object | its name | opcodes |\n|---|---|---|\n{rows}")
}

#[test]
fn the_documentation_names_the_object_of_each_opcode() {
    let page = include_str!("../../../../docs/variables.md");
    assert!(page.contains(&documented()), "docs/variables.md should have:\n{}", documented());
}
