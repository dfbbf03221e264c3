//! The table of all opcodes.
//!
//! An entry stands in the file of its object (`instance`, `node`, `group`, `network`,
//! `cluster`), one without hooks of its own in `without_hooks`; `entry` says what it holds.
//! None of those files knows the table: it stands on them.

use super::entry::{Hooks, Opcode};
use super::{cluster, group, instance, network, node, without_hooks};

/// All opcodes of Ganeti 3.0.2 and 3.1.
pub(super) fn opcodes() -> impl Iterator<Item = &'static Opcode> {
    [
        instance::OPCODES,
        node::OPCODES,
        group::OPCODES,
        network::OPCODES,
        cluster::OPCODES,
        without_hooks::OPCODES,
    ]
    .into_iter()
    .flatten()
}

pub(super) fn find(code: &str) -> Option<&'static Opcode> {
    opcodes().find(|opcode| opcode.code == code)
}

pub(super) fn hooks(code: &str) -> Option<&'static Hooks> {
    find(code)?.hooks.as_ref()
}
