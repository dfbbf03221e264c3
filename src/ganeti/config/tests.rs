use super::*;

const NODES: &str = r#""nodes":{
  "n1":{"name":"node1.example.com","uuid":"n1","primary_ip":"192.0.2.1","group":"g","offline":false},
  "n2":{"name":"node2.example.com","uuid":"n2","primary_ip":"192.0.2.2","group":"g","offline":true}}"#;

fn parse(rest: &str) -> ClusterConfig {
    let text = format!(
        r#"{{"serial_no":7,"cluster":{{"cluster_name":"c.example.com","master_node":"n1"}},{NODES}{rest}}}"#
    );
    ClusterConfig::parse(text.as_bytes()).unwrap()
}

#[test]
fn answers_by_name_and_by_uuid() {
    let config = parse("");
    assert_eq!(config.serial(), 7);
    assert_eq!(config.cluster_name(), "c.example.com");
    assert_eq!(config.master_name(), Some("node1.example.com"));
    assert_eq!(config.node_address("n2"), Some("192.0.2.2"));
    assert!(config.is_offline("node2.example.com"));
    assert!(!config.is_offline("node9.example.com"));
}

#[test]
fn what_no_node_can_be_called_costs_that_node() {
    for bad in ["".to_owned(), "a\\u0000b".to_owned(), "a\\u001b[2J".to_owned(), "x".repeat(256)] {
        let nodes = format!(r#"{{"n1":{{"name":"{bad}"}},"n2":{{"name":"node2"}}}}"#);
        let text = format!(r#"{{"cluster":{{"master_node":"n1"}},"nodes":{nodes}}}"#);
        let config = ClusterConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.node_names().collect::<Vec<_>>(), ["node2"], "{bad}");
        assert_eq!(config.master_name(), None);
    }
}

#[test]
fn a_cluster_is_known_by_its_uuid_whatever_it_is_called() {
    const UUID: &str = "7c3fd7f6-0a3c-4d0f-9c0a-0123456789ab";
    let name = |name: &str| {
        let text = format!(r#"{{"cluster":{{"uuid":"{UUID}","cluster_name":"{name}"}}}}"#);
        let (uuid, name) = cluster_id(text.as_bytes()).unwrap();
        assert_eq!(uuid, UUID);
        name
    };
    assert_eq!(name("c.example.com"), "c.example.com");
    assert_eq!(name("caf\\udce9"), "caf\u{fffd}");
    assert_eq!(name(&"x".repeat(100_000)), "x".repeat(255));
}

#[test]
fn of_what_stands_twice_the_last_counts() {
    let node = |rest: &str| parse(&format!(r#","instances":{{"i":{{"name":"old"}},"i":{rest}}}"#));
    assert_eq!(node(r#"{"name":"a","name":"b"}"#).instance("i").unwrap().1.name, "b");
    assert!(node("7").instance("i").is_none());
}

#[test]
fn short_names_are_expanded_as_ganeti_does() {
    let config = parse("");
    for short in ["node1", "NODE1", "node1.example", "node1.example.com"] {
        assert_eq!(config.node_name(short), Some("node1.example.com"), "{short}");
    }
    for unknown in ["", "node", "node1.ex", "example.com"] {
        assert_eq!(config.node_name(unknown), None, "{unknown}");
    }
}

/// The same DRBD instance as Ganeti 2.12 and as later versions write it.
#[test]
fn disks_inside_instances_and_in_a_table() {
    let disk = r#"{"dev_type":"drbd8","logical_id":["n1","n2",11000,0,1,"x"],"children":[
        {"dev_type":"lvm","logical_id":["xenvg","a.data"]},
        {"dev_type":"lvm","logical_id":["xenvg","a.meta"]}],"size":1024,"mode":"rw"}"#;
    let instance =
        |disks: &str| format!(r#","instances":{{"i":{{"name":"web","primary_node":"n1","disks":{disks}}}}}"#);
    let inside = parse(&instance(&format!("[{disk}]")));
    let table = parse(&format!(r#"{},"disks":{{"d":{disk}}}"#, instance(r#"["d"]"#)));
    for config in [inside, table] {
        let (_, web) = config.instance("web").unwrap();
        let disks = config.disks(web);
        assert_eq!(disks[0].kind(), "drbd");
        assert_eq!(config.children(disks[0])[1].kind(), "plain");
        assert_eq!(config.secondaries(web), ["n2"]);
    }
}

#[test]
fn a_strange_entry_costs_that_entry() {
    let config = parse(r#","instances":{"i":{"name":5},"j":{"name":"ok","nics":[7,{"ip":null}]}}"#);
    assert!(config.instance("i").is_none());
    assert_eq!(config.instance("ok").unwrap().1.nics.len(), 1);
}

#[test]
fn not_a_configuration() {
    for text in ["", "{", "[]", r#"{"serial_no":1}"#, "\u{feff}{}"] {
        assert!(ClusterConfig::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn depth_does_not_overflow_the_stack() {
    let deep = |open: &str, close: &str| open.repeat(200_000) + "null" + &close.repeat(200_000);
    let disk = format!(r#"{{"children":{}}}"#, deep(r#"[{"children":"#, "}]"));
    let config = parse(&format!(r#","disks":{{"d":{disk},"e":{{"dev_type":"file"}}}}"#));
    assert_eq!(config.root.disks.len(), 1);
    let config = parse(&format!(r#","instances":{{"i":{}}}"#, deep("[", "]")));
    assert!(config.root.instances.is_empty());
}

#[test]
fn what_is_not_utf8_costs_itself() {
    let config = parse(
        r#","instances":{"i":{"name":"web","primary_node":"n1","os":"caf\udce9","tags":["a","\udc80"],
            "hvparams":{"kernel_args":"\udc80","acpi":true}}},"networks":{"\udc80":{"name":"lan"}}"#,
    );
    let (_, web) = config.instance("web").unwrap();
    assert_eq!((web.primary_node.as_str(), web.os.as_deref()), ("n1", Some("caf\u{fffd}")));
    assert_eq!((&web.hvparams["acpi"], web.tags.len()), (&serde_json::Value::Bool(true), 2));
    assert!(config.network("lan").is_some());
}
