//! No input panics: neither a strange opcode nor a strange configuration.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Fields that the table and its functions read.
const FIELDS: &[&str] = &[
    "allow_failover",
    "beparams",
    "cleanup",
    "commit",
    "disk_template",
    "disks",
    "drained",
    "group_name",
    "hvparams",
    "hypervisor",
    "instance_communication",
    "instance_name",
    "instance_uuid",
    "live",
    "mac_prefix",
    "master_candidate",
    "master_capable",
    "mode",
    "name",
    "network",
    "network_name",
    "nics",
    "node_name",
    "node_uuid",
    "offline",
    "os_type",
    "pnode",
    "readd",
    "remote_node",
    "snode",
    "src_node",
    "start",
    "tags",
    "target_groups",
    "target_node",
    "vg_name",
];

/// Words that mean something in one of those fields.
const WORDS: &[&str] = &[
    "",
    "web",
    "web.example.com",
    "node1",
    "u2",
    "alpha",
    "gb",
    "lan",
    "nw",
    "kvm",
    "auto",
    "none",
    "pool",
    "generate",
    "default",
    "drbd",
    "file",
    "import",
    "create",
    "live",
    "add",
    "modify",
    "remove",
    "-1",
    "0",
    "99",
    "18446744073709551616",
    "1.5G",
    "\0",
    "a=b",
    "eth0",
];

const KEYS: &[&str] = &[
    "mac", "ip", "name", "network", "link", "mode", "vlan", "size", "adopt", "memory", "maxmem", "vcpus",
    "acpi", "x=y",
];

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2i64..5).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(WORDS).prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((select(KEYS), inner), 0..5).prop_map(|pairs| Value::Object(object(pairs))),
        ]
    })
}

/// Changes to NICs and disks as the commands write them.
fn changes() -> impl Strategy<Value = Value> {
    let params = prop::collection::vec((select(KEYS), json()), 0..4);
    let change = (select(WORDS), json(), params)
        .prop_map(|(action, index, params)| json!([action, index, object(params)]));
    prop::collection::vec(change, 0..4).prop_map(Value::from)
}

fn object(pairs: Vec<(&'static str, Value)>) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn input() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![3 => json(), 2 => select(WORDS).prop_map(Value::from), 2 => changes()];
    prop::collection::vec((select(FIELDS), value), 0..12).prop_map(object)
}

fn op_code() -> impl Strategy<Value = &'static str> {
    select(table::opcodes().map(|opcode| opcode.code).collect::<Vec<_>>())
}

/// Puts something else at a random place of a document.
fn replace(document: &mut Value, path: &[Index], new: Value) {
    let Some((step, rest)) = path.split_first() else {
        *document = new;
        return;
    };
    let child = match document {
        Value::Object(items) if !items.is_empty() => {
            let at = step.index(items.len());
            items.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() => {
            let at = step.index(items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    match child {
        Some(child) => replace(child, rest, new),
        None => *document = new,
    }
}

fn configuration() -> impl Strategy<Value = Option<ClusterConfig>> {
    let path = prop::collection::vec(any::<Index>(), 1..6);
    prop::collection::vec((path, json()), 0..4).prop_map(|replacements| {
        let mut document: Value = serde_json::from_str(CLUSTER).unwrap();
        for (path, new) in replacements {
            replace(&mut document, &path, new);
        }
        ClusterConfig::parse(document.to_string().as_bytes()).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_opcode_in_any_cluster(
        op_code in op_code(),
        (input_before, input) in (input(), input()),
        (before, after) in (configuration(), configuration()),
    ) {
        let scene = Scene {
            op_code,
            input_before: &input_before,
            input: &input,
            before: before.as_ref(),
            after: after.as_ref(),
        };
        for phase in [Phase::Pre, Phase::Post] {
            let view = view(&scene, phase);
            let unique: BTreeSet<&String> = view.nodes.iter().collect();
            prop_assert_eq!(unique.len(), view.nodes.len());
            if let Some(master) = before.as_ref().or(after.as_ref()).and_then(ClusterConfig::master_name) {
                prop_assert_eq!(view.nodes.first().map(String::as_str), Some(master));
            }
            for (name, value) in &view.variables {
                prop_assert!(name.starts_with("GANETI_"));
                prop_assert!(phase == Phase::Post || !name.starts_with("GANETI_POST_"));
                prop_assert!(!name.contains(['=', '\0']) && !value.contains('\0'));
            }
        }
    }

    #[test]
    fn what_was_refused_says_nothing_but_names(
        op_code in op_code(),
        input in input(),
        (field, text) in (select(FIELDS), "[a-z]{0,2}[./;$ -][a-z\n/]{0,6}"),
    ) {
        let mut input = input;
        input.insert(field.to_owned(), Value::from(text));
        let config = cluster(&json!({}));
        let alone = Scene { op_code, input_before: &input, input: &input, before: None, after: None };
        for (name, value) in view_of_refused(&alone).variables {
            prop_assert!(moment::is_name(&value), "{}={:?}", name, value);
        }
        // What the configuration adds is the same for whatever else the input says.
        let names = input.iter().filter(|(field, _)| moment::NAMES.contains(&field.as_str()));
        let names = names.map(|(field, value)| (field.clone(), value.clone())).collect();
        let seen = |input| Scene { input, after: Some(&config), ..alone };
        prop_assert_eq!(
            view_of_refused(&seen(&input)).variables,
            view_of_refused(&seen(&names)).variables
        );
    }

    #[test]
    fn damaged_bytes(place in any::<Index>(), bytes in prop::collection::vec(any::<u8>(), 0..4)) {
        let mut text = CLUSTER.as_bytes().to_vec();
        let at = place.index(text.len());
        text.splice(at..(at + bytes.len()).min(text.len()), bytes);
        let _ = ClusterConfig::parse(&text);
        let _ = ClusterConfig::parse(&text[..at]);
    }
}
