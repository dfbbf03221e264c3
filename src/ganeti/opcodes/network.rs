//! Opcodes on networks. None of them has an `OP_TARGET`.

use super::entry::{Hooks, Nodes, Opcode, Target, Variables};
use super::moment::Moment;
use super::params::joined;
use super::python;
use super::subject::Subject;
use super::variables::Environment;
use crate::ganeti::config::{Network, Parameters};

pub(super) const OPCODES: &[Opcode] = &[
    Opcode {
        code: "OP_NETWORK_ADD",
        source: "cmdlib/network.py, LUNetworkAdd",
        subject: Subject::NETWORK,
        hooks: Some(Hooks {
            path: "network-add",
            object: "NETWORK",
            variables: &[
                Variables::InputIfTrue("NETWORK_NAME", "network_name"),
                Variables::InputIfTrue("NETWORK_SUBNET", "network"),
                Variables::InputIfTrue("NETWORK_GATEWAY", "gateway"),
                Variables::InputIfTrue("NETWORK_SUBNET6", "network6"),
                Variables::InputIfTrue("NETWORK_GATEWAY6", "gateway6"),
                Variables::InputIfTrue("NETWORK_MAC_PREFIX", "mac_prefix"),
                Variables::One("NETWORK_TAGS", new_tags),
            ],
            nodes: Nodes::Both(&[]),
        }),
    },
    Opcode {
        code: "OP_NETWORK_CONNECT",
        source: "cmdlib/network.py, LUNetworkConnect",
        subject: Subject::NETWORK,
        hooks: Some(Hooks {
            path: "network-connect",
            object: "NETWORK",
            variables: &[
                Variables::Input("GROUP_NAME", "group_name"),
                Variables::Input("GROUP_NETWORK_MODE", "network_mode"),
                Variables::Input("GROUP_NETWORK_LINK", "network_link"),
                Variables::Input("GROUP_NETWORK_VLAN", "network_vlan"),
            ],
            nodes: Nodes::Both(&[Target::GroupMembers("group_name")]),
        }),
    },
    Opcode {
        code: "OP_NETWORK_DISCONNECT",
        source: "cmdlib/network.py, LUNetworkDisconnect",
        subject: Subject::NETWORK,
        hooks: Some(Hooks {
            path: "network-disconnect",
            object: "NETWORK",
            variables: &[Variables::Input("GROUP_NAME", "group_name"), Variables::Many(connection)],
            nodes: Nodes::Both(&[Target::GroupMembers("group_name")]),
        }),
    },
    Opcode {
        code: "OP_NETWORK_REMOVE",
        source: "cmdlib/network.py, LUNetworkRemove",
        subject: Subject::NETWORK,
        hooks: Some(Hooks {
            path: "network-remove",
            object: "NETWORK",
            variables: &[Variables::Input("NETWORK_NAME", "network_name")],
            nodes: Nodes::Both(&[]),
        }),
    },
    // Since Ganeti 3.1.
    Opcode {
        code: "OP_NETWORK_RENAME",
        source: "cmdlib/network.py, LUNetworkRename",
        subject: Subject::NETWORK,
        hooks: Some(Hooks {
            path: "network-rename",
            object: "NETWORK",
            variables: &[
                Variables::Input("OLD_NAME", "network_name"),
                Variables::Input("NEW_NAME", "new_name"),
            ],
            nodes: Nodes::Both(&[Target::Computed(connected_nodes)]),
        }),
    },
    Opcode {
        code: "OP_NETWORK_SET_PARAMS",
        source: "cmdlib/network.py, LUNetworkSetParams",
        subject: Subject::NETWORK,
        hooks: Some(Hooks {
            path: "network-modify",
            object: "NETWORK",
            variables: &[Variables::InputIfTrue("NETWORK_NAME", "network_name"), Variables::Many(modified)],
            nodes: Nodes::Both(&[]),
        }),
    },
];

fn new_tags(moment: &Moment) -> Option<String> {
    let tags = moment.input_list("tags").iter().map(serde_json::Value::as_str);
    let tags = tags.collect::<Option<Vec<_>>>()?;
    (!tags.is_empty()).then(|| joined(tags))
}

/// How the network was connected to the group, if it was.
fn connection(moment: &Moment, environment: &mut Environment) {
    let Some(params) = connection_params(moment) else {
        return;
    };
    for (name, key) in
        [("GROUP_NETWORK_MODE", "mode"), ("GROUP_NETWORK_LINK", "link"), ("GROUP_NETWORK_VLAN", "vlan")]
    {
        environment.set_known(name, params.get(key).map(|value| python::text(Some(value))));
    }
}

fn connection_params<'a>(moment: &Moment<'a>) -> Option<&'a Parameters> {
    let before = moment.scene.before?;
    let (network, _) = before.network(moment.input_text("network_name")?)?;
    let (_, group) = before.group(moment.input_text("group_name")?)?;
    group.networks.get(network)
}

/// Nodes of all groups that the network is connected to.
fn connected_nodes(moment: &Moment) -> Vec<String> {
    let found = moment
        .base()
        .zip(moment.input_text("network_name"))
        .and_then(|(config, name)| Some((config, config.network(name)?.0)));
    let Some((config, network)) = found else {
        return Vec::new();
    };
    let connected = config.groups().filter(|(_, group)| group.networks.contains_key(network));
    connected.flat_map(|(uuid, _)| moment.group_members(uuid)).collect()
}

/// The network's fields with the opcode's changes; the same before and after.
fn modified(moment: &Moment, environment: &mut Environment) {
    let found = moment
        .scene
        .before
        .zip(moment.input_text("network_name"))
        .and_then(|(config, name)| config.network(name));
    let Some((_, network)) = found else {
        return;
    };
    let mut set = |name: &str, value: Option<&str>| {
        environment.set_known(name, value.filter(|value| !value.is_empty()));
    };
    set("NETWORK_SUBNET", network.network.as_deref());
    set("NETWORK_GATEWAY", changed(moment, "gateway", network.gateway.as_deref()));
    set("NETWORK_SUBNET6", changed(moment, "network6", network.network6.as_deref()));
    set("NETWORK_GATEWAY6", changed(moment, "gateway6", network.gateway6.as_deref()));
    let prefix = changed(moment, "mac_prefix", network.mac_prefix.as_deref());
    set("NETWORK_MAC_PREFIX", prefix.map(str::to_lowercase).as_deref());
    set("NETWORK_TAGS", Some(&joined(&network.tags)));
}

/// The input's value, `none` for none, else the present one.
fn changed<'a>(moment: &Moment<'a>, field: &str, present: Option<&'a str>) -> Option<&'a str> {
    match moment.input_text(field) {
        None | Some("") => present,
        Some("none") => None,
        new => new,
    }
}

/// What a NIC in this network adds (Ganeti: `objects.py, Network.HooksDict`).
pub(super) fn describe(environment: &mut Environment, prefix: &str, uuid: &str, network: &Network) {
    environment.set(format_args!("{prefix}NETWORK_NAME"), &network.name);
    environment.set(format_args!("{prefix}NETWORK_UUID"), uuid);
    environment.set(format_args!("{prefix}NETWORK_TAGS"), joined(&network.tags));
    for (name, value) in [
        ("SUBNET", &network.network),
        ("GATEWAY", &network.gateway),
        ("SUBNET6", &network.network6),
        ("GATEWAY6", &network.gateway6),
        ("MAC_PREFIX", &network.mac_prefix),
    ] {
        let value = value.as_ref().filter(|value| !value.is_empty());
        environment.set_known(format_args!("{prefix}NETWORK_{name}"), value);
    }
}
