//! Opcodes on instances: the table, and which nodes an instance has.

mod create;
mod describe;
mod migrate;
mod modify;
mod nic;
mod table;

use super::group;
use super::moment::{Found, Moment, Side};
use super::variables::Environment;
use describe::Description;

pub(super) use table::OPCODES;

/// The instance as the configuration of this side has it
/// (Ganeti: `BuildInstanceHookEnvByObject`).
fn object(moment: &Moment, environment: &mut Environment) {
    if let Some(found) = moment.instance() {
        Description::of(moment, found).export(environment);
    }
}

/// The instance's own fields as they were before, its disks and the cluster as
/// they are: these opcodes keep the object they began with.
fn object_kept(moment: &Moment, environment: &mut Environment) {
    let Some(found) = moment.instance() else {
        return;
    };
    if moment.side == Side::Before {
        return Description::of(moment, found).export(environment);
    }
    if let Some(kept) = moment.instance_before() {
        Description::of_kept(moment, found, kept.instance).export(environment);
    }
}

/// The instance that a target node is computed for.
fn base<'a>(moment: &Moment<'a>) -> Option<Found<'a>> {
    if moment.scene.before.is_some() { moment.instance_before() } else { moment.instance_after() }
}

/// Name of the primary node before the opcode.
pub(super) fn primary(moment: &Moment) -> Option<String> {
    moment.node_name(&base(moment)?.instance.primary_node)
}

/// Names of the secondary nodes before the opcode.
pub(super) fn secondaries(moment: &Moment) -> Vec<String> {
    base(moment).map(|found| secondary_names(moment, found)).unwrap_or_default()
}

/// The same on one side.
fn secondary_names(moment: &Moment, found: Found) -> Vec<String> {
    found.config.secondaries(found.instance).iter().filter_map(|uuid| moment.node_name(uuid)).collect()
}

/// The one secondary node of this side; empty if there is none.
fn old_secondary(moment: &Moment) -> Option<String> {
    let names = secondary_names(moment, moment.instance()?);
    names.into_iter().next()
}

/// UUIDs of the groups that an instance may change to.
fn change_targets(moment: &Moment) -> Option<String> {
    let found = base(moment)?;
    let nodes = found.config.secondaries(found.instance);
    let used: Vec<&str> = nodes
        .iter()
        .map(String::as_str)
        .chain([found.instance.primary_node.as_str()])
        .filter_map(|uuid| Some(found.config.node(uuid)?.group.as_str()))
        .collect();
    group::target_groups(moment, &used)
}
