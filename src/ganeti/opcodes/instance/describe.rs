//! The variables that describe an instance.
//!
//! Ganeti: `cmdlib/instance_utils.py`, `BuildInstanceHookEnv`, `BuildDiskEnv`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::moment::{Found, Moment, Side};
use super::super::params::joined;
use super::super::variables::Environment;
use super::super::{params, python};
use super::nic::{self, NicView};
use crate::ganeti::config::{ClusterConfig, Disk, Instance, Parameters};

/// The instance as the configuration of this side has it
/// (Ganeti: `BuildInstanceHookEnvByObject`).
pub(super) fn object(moment: &Moment, environment: &mut Environment) {
    if let Some(found) = moment.instance() {
        Description::of(moment, found).export(environment);
    }
}

/// The instance's own fields as they were before, its disks and the cluster as
/// they are: these opcodes keep the object they began with.
pub(super) fn object_kept(moment: &Moment, environment: &mut Environment) {
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

/// What is known of an instance; `None` is left out of the environment.
pub(super) struct Description<'a> {
    /// Where networks and defaults are looked up.
    pub config: &'a ClusterConfig,
    pub name: Option<String>,
    pub primary: Option<String>,
    /// Names in one text.
    pub secondaries: Option<String>,
    pub os: Option<String>,
    pub status: Option<String>,
    pub hypervisor: Option<String>,
    pub disk_template: Option<String>,
    /// `MINMEM`, `MAXMEM` and `VCPUS` where they are not those in `backend`.
    pub new_backend: Option<Parameters>,
    pub backend: Parameters,
    pub hypervisor_params: Parameters,
    pub nics: Option<Vec<NicView>>,
    /// For each disk, its variables without prefix.
    pub disks: Option<Vec<DiskVariables>>,
    pub tags: Option<String>,
}

pub(super) type DiskVariables = Vec<(&'static str, String)>;

impl<'a> Description<'a> {
    /// An instance of the configuration.
    pub(super) fn of(moment: &Moment<'a>, found: Found<'a>) -> Description<'a> {
        Description::of_kept(moment, found, found.instance)
    }

    /// The same, with the fields of an older object of the instance; disks are
    /// looked up anew, and so is the cluster.
    pub(super) fn of_kept(moment: &Moment<'a>, found: Found<'a>, instance: &Instance) -> Description<'a> {
        let config = moment.config().unwrap_or(found.config);
        let disks = found.config.disks(found.instance);
        let (hypervisor, os) = (&instance.hypervisor, instance.os.as_deref());
        Description {
            config,
            name: Some(instance.name.clone()),
            primary: moment.node_name(&instance.primary_node),
            secondaries: Some(moment.secondaries_of(found).join(" ")),
            os: Some(os.unwrap_or("None").to_owned()),
            status: Some(instance.admin_state.clone()),
            hypervisor: Some(hypervisor.clone()),
            disk_template: Some(disk_template(found.instance, &disks)),
            new_backend: None,
            backend: params::backend(config, &instance.beparams),
            hypervisor_params: params::hypervisor(config, hypervisor, os, &instance.hvparams),
            nics: Some(nic::views(&instance.nics)),
            disks: Some(disks.iter().map(|disk| disk_variables(found.config, disk)).collect()),
            tags: Some(joined(&instance.tags)),
        }
    }

    pub(super) fn export(&self, environment: &mut Environment) {
        for (name, value) in [
            ("OP_TARGET", &self.name),
            ("INSTANCE_NAME", &self.name),
            ("INSTANCE_PRIMARY", &self.primary),
            ("INSTANCE_SECONDARIES", &self.secondaries),
            ("INSTANCE_OS_TYPE", &self.os),
            ("INSTANCE_STATUS", &self.status),
            ("INSTANCE_DISK_TEMPLATE", &self.disk_template),
            ("INSTANCE_HYPERVISOR", &self.hypervisor),
            ("INSTANCE_TAGS", &self.tags),
        ] {
            environment.set_known(name, value.as_ref());
        }
        self.export_params(environment);
        self.export_nics(environment);
        self.export_disks(environment);
    }

    fn export_params(&self, environment: &mut Environment) {
        let backend = self.new_backend.as_ref().unwrap_or(&self.backend);
        for (name, key) in [
            ("INSTANCE_MINMEM", "minmem"),
            ("INSTANCE_MAXMEM", "maxmem"),
            ("INSTANCE_MEMORY", "maxmem"),
            ("INSTANCE_VCPUS", "vcpus"),
        ] {
            let value = backend.get(key).map(|value| python::text(Some(value)));
            environment.set_known(name, value);
        }
        for (kind, params) in [("BE", &self.backend), ("HV", &self.hypervisor_params)] {
            for (key, value) in params {
                let name = format_args!("INSTANCE_{kind}_{key}");
                environment.set(name, python::text(Some(value)));
            }
        }
    }

    fn export_nics(&self, environment: &mut Environment) {
        let Some(nics) = &self.nics else {
            return;
        };
        environment.set("INSTANCE_NIC_COUNT", nics.len().to_string());
        for (index, nic) in nics.iter().enumerate() {
            nic.export(index, self.config, environment);
        }
    }

    fn export_disks(&self, environment: &mut Environment) {
        let Some(disks) = &self.disks else {
            return;
        };
        environment.set("INSTANCE_DISK_COUNT", disks.len().to_string());
        for (index, disk) in disks.iter().enumerate() {
            for (name, value) in disk {
                environment.set(format_args!("INSTANCE_DISK{index}_{name}"), value);
            }
        }
    }
}

/// Ganeti: `utils/__init__.py, GetDiskTemplate`; a field of the instance until 2.15.
fn disk_template(instance: &Instance, disks: &[&Disk]) -> String {
    if let Some(template) = &instance.disk_template {
        return template.clone();
    }
    let kinds: BTreeSet<&str> = disks.iter().map(|disk| disk.kind()).collect();
    match kinds.len() {
        0 => "diskless".to_owned(),
        1 => kinds.into_iter().collect(),
        _ => "mixed".to_owned(),
    }
}

fn disk_variables(config: &ClusterConfig, disk: &Disk) -> DiskVariables {
    let mut variables = logical_id(config, disk);
    variables.push(("DEV_TYPE", disk.kind().to_owned()));
    let name = disk.name.clone().filter(|name| !name.is_empty());
    variables.extend(name.map(|name| ("NAME", name)));
    variables.extend(disk.uuid.clone().map(|uuid| ("UUID", uuid)));
    variables.push(("SIZE", python::text(disk.size.as_ref())));
    variables.extend(disk.mode.clone().map(|mode| ("MODE", mode)));
    variables
}

/// Names for the parts of a disk's `logical_id`
/// (Ganeti: `instance_utils.py, BuildDiskLogicalIDEnv`).
fn logical_id(config: &ClusterConfig, disk: &Disk) -> DiskVariables {
    match disk.kind() {
        "plain" => parts(&["VG", "ID"], disk),
        "file" | "sharedfile" | "gluster" | "blockdev" | "rbd" => parts(&["DRIVER", "ID"], disk),
        "ext" => parts(&["PROVIDER", "ID"], disk),
        "drbd" => {
            let mut variables = parts(&["PNODE", "SNODE", "PORT", "PMINOR", "SMINOR"], disk);
            if let [data, meta] = config.children(disk)[..] {
                variables.extend(parts(&["DATA_VG", "DATA_ID"], data));
                variables.extend(parts(&["META_VG", "META_ID"], meta));
            }
            variables
        }
        _ => Vec::new(),
    }
}

fn parts(names: &[&'static str], disk: &Disk) -> DiskVariables {
    let value = |value: &Value| python::text(Some(value));
    names.iter().copied().zip(disk.logical_id.iter().map(value)).collect()
}
