//! The parts of the configuration's objects that hooks need.
//!
//! Every field may be missing or null. Ganeti: `lib/objects.py`, the classes of
//! the same names.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::disk::{Disk, DiskRef};
use super::lenient::{Table, list, node_name, or_default, table};

/// Parameters of a hypervisor, backend or NIC: names to scalars of any type.
pub(crate) type Parameters = BTreeMap<String, Value>;

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Root {
    #[serde(default, deserialize_with = "or_default")]
    pub serial_no: u64,
    pub cluster: Cluster,
    #[serde(default, deserialize_with = "table")]
    pub nodes: Table<Node>,
    #[serde(default, deserialize_with = "table")]
    pub nodegroups: Table<Group>,
    #[serde(default, deserialize_with = "table")]
    pub instances: Table<Instance>,
    #[serde(default, deserialize_with = "table")]
    pub networks: Table<Network>,
    #[serde(default, deserialize_with = "table")]
    pub disks: Table<Disk>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Cluster {
    #[serde(default, deserialize_with = "or_default")]
    pub cluster_name: String,
    /// UUID of the master node.
    #[serde(default, deserialize_with = "or_default")]
    pub master_node: String,
    #[serde(default, deserialize_with = "or_default")]
    pub enabled_hypervisors: Vec<String>,
    /// By hypervisor.
    #[serde(default, deserialize_with = "table")]
    pub hvparams: Table<Parameters>,
    /// By operating system, then hypervisor.
    #[serde(default, deserialize_with = "table")]
    pub os_hvp: Table<HashMap<String, Parameters>>,
    /// By profile; only `default` exists.
    #[serde(default, deserialize_with = "table")]
    pub beparams: Table<Parameters>,
    #[serde(default, deserialize_with = "table")]
    pub nicparams: Table<Parameters>,
    #[serde(default, deserialize_with = "list")]
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Node {
    #[serde(deserialize_with = "node_name")]
    pub name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub primary_ip: String,
    /// UUID of the node group.
    #[serde(default, deserialize_with = "or_default")]
    pub group: String,
    #[serde(default, deserialize_with = "or_default")]
    pub offline: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub drained: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub master_candidate: bool,
    #[serde(default = "yes")]
    pub master_capable: Option<bool>,
    #[serde(default = "yes")]
    pub vm_capable: Option<bool>,
    #[serde(default, deserialize_with = "list")]
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Group {
    pub name: String,
    /// NIC parameters of each connected network, by the network's UUID.
    #[serde(default, deserialize_with = "table")]
    pub networks: Table<Parameters>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Network {
    pub name: String,
    pub network: Option<String>,
    pub gateway: Option<String>,
    pub network6: Option<String>,
    pub gateway6: Option<String>,
    pub mac_prefix: Option<String>,
    #[serde(default, deserialize_with = "list")]
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Instance {
    pub name: String,
    /// UUID of the primary node.
    #[serde(default, deserialize_with = "or_default")]
    pub primary_node: String,
    pub os: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub hypervisor: String,
    #[serde(default, deserialize_with = "or_default")]
    pub hvparams: Parameters,
    #[serde(default, deserialize_with = "or_default")]
    pub beparams: Parameters,
    /// `up`, `down` or `offline`.
    #[serde(default, deserialize_with = "or_default")]
    pub admin_state: String,
    #[serde(default, deserialize_with = "list")]
    pub nics: Vec<Nic>,
    #[serde(default, deserialize_with = "list")]
    pub disks: Vec<DiskRef>,
    /// Until 2.15; later the template follows from the disks.
    pub disk_template: Option<String>,
    #[serde(default, deserialize_with = "list")]
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Nic {
    pub name: Option<String>,
    pub uuid: Option<String>,
    pub mac: Option<String>,
    pub ip: Option<String>,
    /// UUID of the network.
    pub network: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub nicparams: Parameters,
}

/// An object that is found by name.
pub(super) trait Named {
    fn name(&self) -> &str;
}

impl Named for Node {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Group {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Network {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Instance {
    fn name(&self) -> &str {
        &self.name
    }
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn yes() -> Option<bool> {
    Some(true)
}
