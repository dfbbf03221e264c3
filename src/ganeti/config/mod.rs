//! The cluster configuration, as wconfd answers it or `config.data` holds it,
//! reduced to what hooks need.
//!
//! Promises: no input panics, and a strange entry costs that entry, not the
//! configuration. Read are the schemas of Ganeti 2.12 to 3.1, where objects are
//! keyed by UUID; disks may stand in a table of their own (2.13 and later) or
//! inside the instance.
//!
//! Ganeti: `lib/objects.py`, `lib/config/__init__.py`.

mod disk;
mod lenient;
mod schema;

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::python_json::Lossy;
use super::ssconf::NAME_MAX;
use super::text::{cut, plain};
pub(crate) use disk::Disk;
use lenient::Table;
pub(crate) use schema::{Group, Instance, Network, Nic, Node, Parameters};
use schema::{Named, Root};

/// Bytes of a bad configuration that an error quotes.
const QUOTE_MAX: usize = 256;

/// Why a configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or not the shape of a Ganeti configuration.
    #[error("cluster configuration is not readable: {}", plain(&.0.to_string(), QUOTE_MAX))]
    Unreadable(#[from] serde_json::Error),
}

/// The cluster's UUID and name, which tell it from others; `None` when the text of `config.data`
/// does not say them. Of a name as long as none is, its beginning. Nothing behind the cluster is
/// read: the beginning of the text will do, and wconfd writes the cluster first (Ganeti:
/// `src/Ganeti/Objects.hs`, `ConfigData`).
pub fn cluster_id(json: &[u8]) -> Option<(String, String)> {
    let mut found = None;
    // That it is found ends the reading as an error would.
    let _ = serde_json::Deserializer::from_slice(json).deserialize_map(IdVisitor(&mut found));
    let Id { uuid, cluster_name: Lossy(mut cluster_name) } = found?;
    cut(&mut cluster_name, NAME_MAX);
    let is_uuid = uuid.len() == UUID_LENGTH && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    is_uuid.then_some((uuid, cluster_name))
}

#[derive(Deserialize)]
struct Id {
    uuid: String,
    cluster_name: Lossy,
}

/// Reads as far as the first cluster.
struct IdVisitor<'a>(&'a mut Option<Id>);

impl<'de> Visitor<'de> for IdVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cluster configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Lossy>()? {
            if key.0 == "cluster" {
                *self.0 = Some(map.next_value()?);
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// The length of a UUID as text (RFC 9562).
const UUID_LENGTH: usize = 36;

/// A cluster configuration at one moment.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    root: Root,
}

impl ClusterConfig {
    /// Reads the JSON text of `config.data`, or of the configuration inside
    /// wconfd's answer to `readConfig`.
    ///
    /// # Errors
    ///
    /// When the text is not JSON or has no `cluster` object.
    pub fn parse(json: &[u8]) -> Result<ClusterConfig, ConfigError> {
        Ok(ClusterConfig { root: serde_json::from_slice(json)? })
    }

    /// Ganeti counts every write of the configuration.
    pub fn serial(&self) -> u64 {
        self.root.serial_no
    }

    /// `cluster.example.com`.
    pub fn cluster_name(&self) -> &str {
        &self.root.cluster.cluster_name
    }

    /// The master node's name.
    pub fn master_name(&self) -> Option<&str> {
        self.node_name(&self.root.cluster.master_node)
    }

    /// Whether a node (by name or UUID) is marked offline; unknown nodes are not.
    pub fn is_offline(&self, node: &str) -> bool {
        self.node(node).is_some_and(|node| node.offline)
    }

    /// A node's primary IP address, by name or UUID.
    pub fn node_address(&self, node: &str) -> Option<&str> {
        self.node(node).map(|node| node.primary_ip.as_str()).filter(|address| !address.is_empty())
    }

    /// The names of all nodes, in no particular order.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        self.root.nodes.values().map(|node| node.name.as_str())
    }
}

/// Lookups for `opcodes`.
impl ClusterConfig {
    pub(crate) fn cluster(&self) -> &schema::Cluster {
        &self.root.cluster
    }

    /// A node by UUID, full name or unambiguous short name.
    pub(crate) fn node(&self, spec: &str) -> Option<&Node> {
        find(&self.root.nodes, spec).map(|(_, node)| node)
    }

    pub(crate) fn node_name(&self, spec: &str) -> Option<&str> {
        self.node(spec).map(|node| node.name.as_str())
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.root.nodes.values()
    }

    /// An instance by UUID, full name or unambiguous short name, with its UUID.
    pub(crate) fn instance(&self, spec: &str) -> Option<(&str, &Instance)> {
        find(&self.root.instances, spec)
    }

    /// A node group by UUID or exact name (`_UnlockedLookupNodeGroup`), with its UUID.
    pub(crate) fn group(&self, spec: &str) -> Option<(&str, &Group)> {
        exact(&self.root.nodegroups, spec)
    }

    pub(crate) fn group_uuids(&self) -> impl Iterator<Item = &str> {
        self.root.nodegroups.keys().map(String::as_str)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.root.nodegroups.iter().map(|(uuid, group)| (uuid.as_str(), group))
    }

    /// A network by UUID or exact name (`_UnlockedLookupNetwork`), with its UUID.
    pub(crate) fn network(&self, spec: &str) -> Option<(&str, &Network)> {
        exact(&self.root.networks, spec)
    }

    /// An instance's disks in order; those that the configuration lacks are left out.
    pub(crate) fn disks<'a>(&'a self, instance: &'a Instance) -> Vec<&'a Disk> {
        instance.disks.iter().filter_map(|disk| disk.resolve(&self.root.disks)).collect()
    }

    /// Node UUIDs of an instance's DRBD disks without its primary node, sorted
    /// (`GetInstanceSecondaryNodes`).
    pub(crate) fn secondaries(&self, instance: &Instance) -> Vec<String> {
        let mut nodes = BTreeSet::new();
        for disk in self.disks(instance) {
            disk.collect_nodes(&self.root.disks, &mut nodes);
        }
        nodes.remove(instance.primary_node.as_str());
        nodes.into_iter().map(str::to_owned).collect()
    }

    /// The two logical volumes of a DRBD disk: data, then metadata.
    pub(crate) fn children<'a>(&'a self, disk: &'a Disk) -> Vec<&'a Disk> {
        disk.children(&self.root.disks)
    }
}

fn exact<'a, T: Named>(table: &'a Table<T>, spec: &str) -> Option<(&'a str, &'a T)> {
    let found = table.get_key_value(spec).or_else(|| table.iter().find(|(_, item)| item.name() == spec))?;
    Some((found.0.as_str(), found.1))
}

fn find<'a, T: Named>(table: &'a Table<T>, spec: &str) -> Option<(&'a str, &'a T)> {
    if let Some(found) = exact(table, spec) {
        return Some(found);
    }
    let wanted = spec.to_lowercase();
    let candidates = || {
        table
            .iter()
            .map(|(uuid, item)| (uuid.as_str(), item, item.name().to_lowercase()))
            .filter(|(_, _, name)| short_for(&wanted, name))
    };
    only(candidates().filter(|(_, _, name)| *name == wanted))
        .or_else(|| only(candidates()))
        .map(|(uuid, item, _)| (uuid, item))
}

/// `node1` and `node1.example` are short for `node1.example.com`; `node1.ex` is
/// not (Ganeti: `lib/utils/text.py`, `MatchNameComponent`).
fn short_for(wanted: &str, name: &str) -> bool {
    !wanted.is_empty()
        && name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The item of an iterator that has exactly one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests;
