//! A scene seen from one side: when its pre hooks ran, or when its post hooks ran.

use serde_json::{Map, Value};

use super::python;
use crate::ganeti::config::{ClusterConfig, Instance};
use crate::ganeti::event::Phase;

/// One opcode and the configuration around it.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// `OP_INSTANCE_STARTUP`.
    pub op_code: &'a str,
    /// The opcode's input in the job file's version that first said `running`.
    pub input_before: &'a Map<String, Value>,
    /// The opcode's input in the newest version of the job file.
    pub input: &'a Map<String, Value>,
    /// The configuration as it was when the opcode began to execute.
    pub before: Option<&'a ClusterConfig>,
    /// The configuration after the opcode ended.
    pub after: Option<&'a ClusterConfig>,
}

/// Which configuration describes the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// `GANETI_X`: as the opcode's pre hooks saw it.
    Before,
    /// `GANETI_POST_X`: as the opcode's post hooks saw it.
    After,
}

/// An instance together with the configuration that describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub config: &'a ClusterConfig,
    pub uuid: &'a str,
    pub instance: &'a Instance,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    pub scene: &'a Scene<'a>,
    /// The event's phase: a post sees `Side::Before` with more knowledge than a pre.
    pub phase: Phase,
    pub side: Side,
    /// The opcode never executed: Ganeti may have refused any of what its input says. Then
    /// the input has nothing but names of objects.
    pub refused: bool,
}

/// Fields of opcodes' inputs that name an object, new or there already.
pub(super) const NAMES: &[&str] = &[
    "group_name",
    "instance_name",
    "instance_uuid",
    "name",
    "network_name",
    "new_name",
    "node_name",
    "node_uuid",
    "pnode",
    "pnode_uuid",
    "remote_node",
    "remote_node_uuid",
    "snode",
    "snode_uuid",
    "src_node",
    "src_node_uuid",
    "target_node",
    "target_node_uuid",
];

/// Whether a text can be the name of an object: no path, no option, nothing that a shell or a
/// terminal takes for more than text.
pub fn is_name(text: &str) -> bool {
    const LENGTH_MAX: usize = 255;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(is_plain)
        && bytes.all(|byte| is_plain(byte) || b"._:+@-".contains(&byte))
        && text.len() <= LENGTH_MAX
}

impl<'a> Moment<'a> {
    pub(super) fn new(scene: &'a Scene<'a>, phase: Phase, side: Side) -> Moment<'a> {
        Moment { scene, phase, side, refused: false }
    }

    /// The configuration of this side, if it is known.
    pub(super) fn config(&self) -> Option<&'a ClusterConfig> {
        match self.side {
            Side::Before => self.scene.before,
            Side::After => self.scene.after,
        }
    }

    /// The configuration that Ganeti decided on: the one before, else the other.
    pub(super) fn base(&self) -> Option<&'a ClusterConfig> {
        self.scene.before.or(self.scene.after)
    }

    /// A field of the opcode's input; null counts as missing, as in Python. Of one that was
    /// refused there are only names.
    pub(super) fn input(&self, field: &str) -> Option<&'a Value> {
        let value = self.scene.input.get(field).filter(|value| !value.is_null());
        let is_shown =
            |value: &&Value| !self.refused || NAMES.contains(&field) && value.as_str().is_some_and(is_name);
        value.filter(is_shown)
    }

    pub(super) fn input_text(&self, field: &str) -> Option<&'a str> {
        self.input(field)?.as_str()
    }

    pub(super) fn input_list(&self, field: &str) -> &'a [Value] {
        self.input(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn input_true(&self, field: &str) -> bool {
        python::truthy(self.input(field))
    }

    pub(super) fn master(&self) -> Option<String> {
        self.base()?.master_name().map(str::to_owned)
    }

    /// A node's name by UUID or name, in this side's configuration or the other's.
    pub(super) fn node_name(&self, spec: &str) -> Option<String> {
        let sides = [self.config(), self.scene.before, self.scene.after];
        sides.into_iter().flatten().find_map(|config| config.node_name(spec)).map(str::to_owned)
    }

    /// The node that an input field names, if the configuration knows it. Beside
    /// `pnode` stands `pnode_uuid`, beside `node_name` `node_uuid`.
    pub(super) fn input_node(&self, field: &str) -> Option<String> {
        let stem = field.strip_suffix("_name").unwrap_or(field);
        let uuid = self.input_text(&format!("{stem}_uuid"));
        [uuid, self.input_text(field)].into_iter().flatten().find_map(|spec| self.node_name(spec))
    }

    /// The opcode's instance as it was before the opcode.
    pub(super) fn instance_before(&self) -> Option<Found<'a>> {
        self.instance_in(self.scene.before?)
    }

    /// The opcode's instance as it is after the opcode.
    pub(super) fn instance_after(&self) -> Option<Found<'a>> {
        let after = self.scene.after?;
        // A rename keeps the UUID.
        self.instance_before()
            .and_then(|before| find_instance(after, before.uuid))
            .or_else(|| self.instance_in(after))
    }

    /// The opcode's instance on this side; one that is gone afterwards as it was
    /// before: Ganeti keeps the object.
    pub(super) fn instance(&self) -> Option<Found<'a>> {
        match self.side {
            Side::Before => self.instance_before(),
            Side::After => {
                self.scene.after?;
                self.instance_after().or_else(|| self.instance_before())
            }
        }
    }

    /// The instance that target nodes are computed for.
    pub(super) fn base_instance(&self) -> Option<Found<'a>> {
        if self.scene.before.is_some() { self.instance_before() } else { self.instance_after() }
    }

    /// Name of the instance's primary node before the opcode.
    pub(super) fn primary(&self) -> Option<String> {
        self.node_name(&self.base_instance()?.instance.primary_node)
    }

    /// Names of the instance's secondary nodes before the opcode.
    pub(super) fn secondaries(&self) -> Vec<String> {
        self.base_instance().map(|found| self.secondaries_of(found)).unwrap_or_default()
    }

    /// The same on one side.
    pub(super) fn secondaries_of(&self, found: Found) -> Vec<String> {
        let uuids = found.config.secondaries(found.instance);
        uuids.iter().filter_map(|uuid| self.node_name(uuid)).collect()
    }

    /// Names of a group's nodes.
    pub(super) fn group_members(&self, group: &str) -> Vec<String> {
        let Some(config) = self.base() else {
            return Vec::new();
        };
        let Some((uuid, _)) = config.group(group) else {
            return Vec::new();
        };
        config.nodes().filter(|node| node.group == uuid).map(|node| node.name.clone()).collect()
    }

    fn instance_in(&self, config: &'a ClusterConfig) -> Option<Found<'a>> {
        let uuid = self.input_text("instance_uuid");
        [uuid, self.input_text("instance_name")]
            .into_iter()
            .flatten()
            .find_map(|spec| find_instance(config, spec))
    }
}

fn find_instance<'a>(config: &'a ClusterConfig, spec: &str) -> Option<Found<'a>> {
    config.instance(spec).map(|(uuid, instance)| Found { config, uuid, instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let longest = "x".repeat(255);
        for name in ["web1.example.com", "_x", "7", "a+b@c:d-e_f", longest.as_str()] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(256);
        for other in [
            "", ".", "..", "../x", "a/b", "-x", "a b", "a\n", "$(x)", "a;b", "`x`", "\u{fc}", "a\u{1b}",
            &long,
        ] {
            assert!(!is_name(other), "{other:?}");
        }
    }
}
