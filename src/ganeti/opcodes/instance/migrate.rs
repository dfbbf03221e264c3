//! Migration and failover: which node an instance goes to, and how.
//!
//! Ganeti: `cmdlib/instance_migration.py`, `TLMigrateInstance.CheckPrereq`.

use serde_json::Value;

use super::super::moment::{Moment, Side};
use super::super::variables::Environment;
use super::super::{params, python};
use super::nodes::old_secondary;
use crate::ganeti::event::Phase;

/// `OLD_PRIMARY` to `NEW_SECONDARY`. Ganeti fills them in anew for its post
/// hooks, so `POST_OLD_PRIMARY` is where the instance is then.
pub(super) fn roles(moment: &Moment, environment: &mut Environment) {
    let Some(found) = moment.instance() else {
        return;
    };
    let source = moment.node_name(&found.instance.primary_node);
    let disks = found.config.disks(found.instance);
    let mirrored = disks.iter().any(|disk| disk.kind() == "drbd");
    environment.set_known("OLD_PRIMARY", source.as_ref());
    environment.set_known("NEW_PRIMARY", target(moment).first());
    if mirrored {
        environment.set_known("OLD_SECONDARY", old_secondary(moment));
        environment.set_known("NEW_SECONDARY", source);
    } else {
        environment.set("OLD_SECONDARY", "");
        environment.set("NEW_SECONDARY", "");
    }
}

/// The node that the instance goes to: its secondary, the one asked for, or,
/// afterwards, the one that the instance allocator has chosen.
pub(super) fn target(moment: &Moment) -> Vec<String> {
    let moved = moved_to(moment);
    let node = if moment.side == Side::After && moved.is_some() {
        moved
    } else {
        let mirror = moment.secondaries().into_iter().next();
        // A clean-up puts the instance where it is found, not where the allocator said.
        let chosen = moved.filter(|_| !moment.input_true("cleanup"));
        mirror.or_else(|| moment.input_node("target_node")).or(chosen)
    };
    node.into_iter().collect()
}

/// The primary node afterwards, if it is another one.
fn moved_to(moment: &Moment) -> Option<String> {
    let before = moment.instance_before()?.instance;
    let after = moment.instance_after()?.instance;
    let moved = moment.phase == Phase::Post && after.primary_node != before.primary_node;
    moved.then(|| moment.node_name(&after.primary_node)).flatten()
}

/// `MIGRATE_LIVE`: false for what becomes a failover.
pub(super) fn live(moment: &Moment) -> Option<String> {
    if moment.refused {
        return None;
    }
    if becomes_failover(moment)? {
        return Some(python::boolean(false).to_owned());
    }
    let mode = match moment.input("live") {
        Some(live) if python::truthy(Some(live)) => "live".to_owned(),
        Some(_) => "non-live".to_owned(),
        None => match moment.input_text("mode") {
            Some(mode) => mode.to_owned(),
            None => default_mode(moment)?,
        },
    };
    Some(python::boolean(mode == "live").to_owned())
}

/// `None` where the node decides whether the instance can be migrated.
fn becomes_failover(moment: &Moment) -> Option<bool> {
    let found = moment.base_instance()?;
    if moment.input_true("cleanup") {
        return Some(false);
    }
    let backend = params::backend(found.config, &found.instance.beparams);
    if python::truthy(backend.get("always_failover")) {
        return Some(true);
    }
    if !moment.input_true("allow_failover") {
        return Some(false);
    }
    if found.instance.admin_state != "up" {
        return Some(true);
    }
    mode_was_set(moment).then_some(false)
}

/// Ganeti writes the mode into the input only when it does migrate.
fn mode_was_set(moment: &Moment) -> bool {
    let open = |field| moment.scene.input_before.get(field).is_none_or(Value::is_null);
    moment.phase == Phase::Post && open("mode") && moment.input_text("mode").is_some()
}

/// The hypervisor's parameter.
fn default_mode(moment: &Moment) -> Option<String> {
    let found = moment.base_instance()?;
    let instance = found.instance;
    let params =
        params::hypervisor(found.config, &instance.hypervisor, instance.os.as_deref(), &instance.hvparams);
    Some(params.get("migration_mode")?.as_str()?.to_owned())
}
