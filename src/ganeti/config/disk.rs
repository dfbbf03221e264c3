//! Disks: a table of their own since Ganeti 2.13, inside the instance before.
//!
//! Ganeti: `lib/objects.py`, `Disk`.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::lenient::{Table, list, or_default};

/// DRBD disks hold two logical volumes; nothing nests deeper.
const MAX_DEPTH: usize = 4;

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Disk {
    #[serde(default, deserialize_with = "or_default")]
    dev_type: String,
    #[serde(default, deserialize_with = "list")]
    pub logical_id: Vec<Value>,
    /// Not a lenient list: those begin to count the depth anew.
    #[serde(default, deserialize_with = "or_default")]
    children: Vec<DiskRef>,
    pub name: Option<String>,
    pub uuid: Option<String>,
    pub size: Option<Value>,
    pub mode: Option<String>,
}

/// A disk itself, or the UUID of one in the table.
#[derive(Debug, Clone)]
pub(crate) enum DiskRef {
    Uuid(String),
    Inline(Disk),
}

impl<'de> Deserialize<'de> for DiskRef {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(DiskRefVisitor)
    }
}

struct DiskRefVisitor;

impl<'de> Visitor<'de> for DiskRefVisitor {
    type Value = DiskRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk or its UUID")
    }

    fn visit_str<E>(self, uuid: &str) -> Result<DiskRef, E> {
        Ok(DiskRef::Uuid(uuid.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DiskRef, A::Error> {
        Disk::deserialize(MapAccessDeserializer::new(map)).map(DiskRef::Inline)
    }
}

impl DiskRef {
    pub(super) fn resolve<'a>(&'a self, disks: &'a Table<Disk>) -> Option<&'a Disk> {
        match self {
            DiskRef::Uuid(uuid) => disks.get(uuid),
            DiskRef::Inline(disk) => Some(disk),
        }
    }
}

impl Disk {
    /// `plain`, `drbd`, `file`...; `lvm` and `drbd8` of old configurations are
    /// given their present names, as Ganeti does on loading.
    pub(crate) fn kind(&self) -> &str {
        match self.dev_type.as_str() {
            "lvm" => "plain",
            "drbd8" => "drbd",
            kind => kind,
        }
    }

    pub(super) fn children<'a>(&'a self, disks: &'a Table<Disk>) -> Vec<&'a Disk> {
        self.children.iter().filter_map(|child| child.resolve(disks)).collect()
    }

    /// UUIDs of the nodes that DRBD disks in this tree live on (`all_nodes`).
    pub(super) fn collect_nodes<'a>(&'a self, disks: &'a Table<Disk>, nodes: &mut BTreeSet<&'a str>) {
        self.collect(disks, nodes, MAX_DEPTH);
    }

    fn collect<'a>(&'a self, disks: &'a Table<Disk>, nodes: &mut BTreeSet<&'a str>, depth: usize) {
        if self.kind() == "drbd" {
            nodes.extend(self.logical_id.iter().take(2).filter_map(Value::as_str));
        }
        if depth > 0 {
            for child in self.children(disks) {
                child.collect(disks, nodes, depth - 1);
            }
        }
    }
}
