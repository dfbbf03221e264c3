//! The object that an opcode is about, by its input.
//!
//! The table says which field of the input names it. Only those fields are read: an input may
//! be large, and a pre hook waits for this.

use serde_json::value::RawValue;

use crate::ganeti::object::{Object, ObjectKind};
use crate::ganeti::python_json::{self, Lossy};
use crate::ganeti::ssconf::NAME_MAX;
use crate::ganeti::text::cut;

/// Where an opcode's input says what it is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Subject {
    /// It is about no object, or about all there are.
    None,
    /// The cluster, whatever the input says.
    Cluster,
    /// This field names it.
    Field(ObjectKind, &'static str),
    /// This field lists names: of several, only the kind is said.
    List(ObjectKind, &'static str),
    /// This field lists the inputs of other opcodes, in which the second field names it: of
    /// several, only the kind is said.
    Inputs(ObjectKind, &'static str, &'static str),
    /// This field lists what is asked for: nothing is said of several.
    Query(ObjectKind, &'static str),
    /// The fields `kind` and `name`.
    Tags,
}

impl Subject {
    pub(super) const INSTANCE: Subject = Subject::Field(ObjectKind::Instance, "instance_name");
    pub(super) const NODE: Subject = Subject::Field(ObjectKind::Node, "node_name");
    pub(super) const GROUP: Subject = Subject::Field(ObjectKind::Group, "group_name");
    pub(super) const NETWORK: Subject = Subject::Field(ObjectKind::Network, "network_name");

    /// The object, by the opcode's input and the cluster's name.
    pub(super) fn object(self, input: &RawValue, cluster: Option<&str>) -> Option<Object> {
        match self {
            Subject::None => None,
            Subject::Cluster => Some(the_cluster(cluster)),
            Subject::Field(kind, field) => named(kind, text_at(input, field)),
            Subject::List(kind, field) => one_or_several(kind, &items(input, field), text),
            Subject::Inputs(kind, field, inner) => {
                one_or_several(kind, &items(input, field), |only| text_at(only, inner))
            }
            Subject::Query(kind, field) => {
                one_or_several(kind, &items(input, field), text).filter(|object| object.name.is_some())
            }
            Subject::Tags => {
                let [kind, name] = python_json::fields(input, ["kind", "name"]);
                match tagged(&text(kind?)?)? {
                    ObjectKind::Cluster => Some(the_cluster(cluster)),
                    kind => named(kind, text(name?)),
                }
            }
        }
    }
}

/// The kind of an object with tags (Ganeti: `constants.TAG_*`).
fn tagged(kind: &str) -> Option<ObjectKind> {
    match kind {
        "cluster" => Some(ObjectKind::Cluster),
        "instance" => Some(ObjectKind::Instance),
        "network" => Some(ObjectKind::Network),
        "node" => Some(ObjectKind::Node),
        "nodegroup" => Some(ObjectKind::Group),
        _ => None,
    }
}

fn one_or_several(
    kind: ObjectKind,
    items: &[&RawValue],
    name: impl Fn(&RawValue) -> Option<String>,
) -> Option<Object> {
    match items {
        [] => None,
        [only] => named(kind, name(only)),
        _ => Some(Object { kind, name: None }),
    }
}

fn the_cluster(name: Option<&str>) -> Object {
    Object { kind: ObjectKind::Cluster, name: name.map(str::to_owned).and_then(kept) }
}

fn named(kind: ObjectKind, name: Option<String>) -> Option<Object> {
    Some(Object { kind, name: Some(kept(name?)?) })
}

/// A name as it is kept; an empty one is none.
fn kept(mut name: String) -> Option<String> {
    cut(&mut name, NAME_MAX);
    (!name.is_empty()).then_some(name)
}

fn text_at(input: &RawValue, field: &str) -> Option<String> {
    let [value] = python_json::fields(input, [field]);
    text(value?)
}

/// The items of the list in a field; none where there is no list.
fn items<'a>(input: &'a RawValue, field: &str) -> Vec<&'a RawValue> {
    let [list] = python_json::fields(input, [field]);
    list.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}

/// A text; what in it is not UTF-8 is replaced.
fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok().map(|Lossy(text)| text)
}
