//! Nodes and groups that an instance leaves or may go to.

use super::super::group;
use super::super::moment::Moment;

/// The one secondary node of this side; empty if there is none.
pub(super) fn old_secondary(moment: &Moment) -> Option<String> {
    let names = moment.secondaries_of(moment.instance()?);
    names.into_iter().next()
}

/// UUIDs of the groups that an instance may change to.
pub(super) fn change_targets(moment: &Moment) -> Option<String> {
    let found = moment.base_instance()?;
    let nodes = found.config.secondaries(found.instance);
    let used: Vec<&str> = nodes
        .iter()
        .map(String::as_str)
        .chain([found.instance.primary_node.as_str()])
        .filter_map(|uuid| Some(found.config.node(uuid)?.group.as_str()))
        .collect();
    group::target_groups(moment, &used)
}
