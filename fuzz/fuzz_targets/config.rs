//! A cluster configuration: nothing panics, and what is found is in it.
#![no_main]

use ganeti_hookd::ganeti::config::ClusterConfig;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(config) = ClusterConfig::parse(data) else { return };
    let Ok(naive) = serde_json::from_slice::<Value>(data) else { return };
    if let Some(name) = naive["cluster"]["cluster_name"].as_str() {
        assert_eq!(config.cluster_name(), name);
    }
    if let Some(serial) = naive["serial_no"].as_u64() {
        assert_eq!(config.serial(), serial);
    }
    let nodes = naive["nodes"].as_object();
    // A list of a node's values, in order, is a node, too, to serde.
    if nodes.is_some_and(|nodes| nodes.values().any(Value::is_array)) {
        return;
    }
    let named = |name: &str| nodes.is_some_and(|nodes| nodes.values().any(|node| node["name"] == name));
    for name in config.node_names().chain(config.master_name()) {
        assert!(name.is_empty() || named(name) || nodes.is_none(), "{name}");
        let _ = (config.is_offline(name), config.node_address(name));
    }
    for uuid in nodes.into_iter().flatten().map(|(uuid, _)| uuid) {
        let _ = (config.is_offline(uuid), config.node_address(uuid));
    }
});
