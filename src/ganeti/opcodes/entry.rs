//! What stands in the table for one opcode, and how it is read.
//!
//! It knows none of the opcodes: each stands in the file of its object, which names the
//! types here.

use super::moment::Moment;
use super::python;
use super::subject::Subject;
use super::variables::Environment;
use crate::ganeti::config::ClusterConfig;
use crate::ganeti::event::Phase;

/// One opcode.
pub(super) struct Opcode {
    pub code: &'static str,
    /// Where Ganeti defines it, below `lib/`.
    #[cfg_attr(not(test), expect(dead_code, reason = "documentation"))]
    pub source: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// `None`: no hooks of its own.
    pub hooks: Option<Hooks>,
}

/// What an opcode's own hooks are given.
pub(super) struct Hooks {
    /// `HPATH`: the directory is `PATH-pre.d` or `PATH-post.d`.
    pub path: &'static str,
    /// `HTYPE`.
    pub object: &'static str,
    /// `BuildHooksEnv`.
    pub variables: &'static [Variables],
    /// `BuildHooksNodes`; the master is always added.
    pub nodes: Nodes,
}

/// One variable or several, without prefix.
pub(super) enum Variables {
    /// The variable of this name is this field of the opcode's input.
    Input(&'static str, &'static str),
    /// The same, but only if Python takes the value for true.
    InputIfTrue(&'static str, &'static str),
    /// `True` or `False`: whether Python takes this field for true.
    Flag(&'static str, &'static str),
    /// Computed; `None` when it cannot be known.
    One(&'static str, fn(&Moment) -> Option<String>),
    /// Several, computed.
    Many(fn(&Moment, &mut Environment)),
}

/// The nodes that hooks run on, beside the master.
pub(super) enum Nodes {
    /// The same before and after.
    Both(&'static [Target]),
    Differ {
        pre: &'static [Target],
        post: &'static [Target],
    },
}

pub(super) enum Target {
    /// The instance's primary node.
    Primary,
    /// Nodes of the instance's DRBD disks, without the primary.
    Secondaries,
    /// The node that this field of the input names.
    Input(&'static str),
    /// All nodes of the cluster before the opcode.
    Every,
    /// The same without the one that this field of the input names.
    EveryBut(&'static str),
    /// The members of the group that this field of the input names.
    GroupMembers(&'static str),
    /// Computed.
    Computed(fn(&Moment) -> Vec<String>),
}

/// An opcode without hooks of its own.
pub(super) const fn no_hooks(code: &'static str, subject: Subject, source: &'static str) -> Opcode {
    Opcode { code, source, subject, hooks: None }
}

impl Hooks {
    pub(super) fn targets(&self, phase: Phase) -> &'static [Target] {
        match (&self.nodes, phase) {
            (Nodes::Both(nodes), _) => nodes,
            (Nodes::Differ { pre, .. }, Phase::Pre) => pre,
            (Nodes::Differ { post, .. }, Phase::Post) => post,
        }
    }

    /// Adds the variables of one side.
    pub(super) fn export(&self, moment: &Moment, environment: &mut Environment) {
        for variables in self.variables {
            match variables {
                // Refused, and no name: neither there nor `None` or `False`.
                Variables::Input(_, field) | Variables::InputIfTrue(_, field) | Variables::Flag(_, field)
                    if moment.refused && moment.input(field).is_none() => {}
                Variables::Input(name, field) => {
                    environment.set(name, python::text(moment.input(field)));
                }
                Variables::InputIfTrue(name, field) => {
                    if moment.input_true(field) {
                        environment.set(name, python::text(moment.input(field)));
                    }
                }
                Variables::Flag(name, field) => {
                    environment.set(name, python::boolean(moment.input_true(field)));
                }
                Variables::One(name, value) => environment.set_known(name, value(moment)),
                Variables::Many(add) => add(moment, environment),
            }
        }
    }
}

impl Target {
    /// Names of nodes. Ganeti picks the nodes of both phases before the opcode runs.
    pub(super) fn nodes(&self, moment: &Moment) -> Vec<String> {
        match self {
            Target::Primary => moment.primary().into_iter().collect(),
            Target::Secondaries => moment.secondaries(),
            Target::Input(field) => moment.input_node(field).into_iter().collect(),
            Target::Every => names(moment.base(), |_| true),
            Target::EveryBut(field) => {
                let left_out = moment.input_node(field);
                names(moment.base(), |name| Some(name) != left_out.as_deref())
            }
            Target::GroupMembers(field) => {
                moment.input_text(field).map(|group| moment.group_members(group)).unwrap_or_default()
            }
            Target::Computed(nodes) => nodes(moment),
        }
    }
}

fn names(config: Option<&ClusterConfig>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    config
        .into_iter()
        .flat_map(ClusterConfig::node_names)
        .filter(|name| wanted(name))
        .map(str::to_owned)
        .collect()
}
