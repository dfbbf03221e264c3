//! What is worked out for an event before its scripts run.

use core::net::SocketAddr;

use crate::ganeti::opcodes::View;

/// What the scripts of an event are given, and where they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Variables and nodes.
    pub view: View,
    /// The nodes, with the addresses of their daemons.
    pub targets: Vec<Target>,
}

/// A node that hooks run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub node: String,
    /// Its daemon's address; `None` when the configuration has none.
    pub address: Option<SocketAddr>,
}
