//! An instance that does not exist yet, from the opcode's input.
//!
//! Ganeti fills in the rest while it checks prerequisites, that is after our pre
//! hooks: nodes from the instance allocator, MAC addresses, UUIDs, and on import
//! all that the opcode leaves to the export. Afterwards the newest input and the
//! created instance tell it.
//!
//! Ganeti: `cmdlib/instance_create.py`, `cmdlib/instance_utils.py` (`ComputeNics`,
//! `ComputeFullBeParams`), `cmdlib/instance_storage.py` (`ComputeDisks`).

use serde_json::{Map, Value};

use super::super::moment::{Found, Moment};
use super::super::params::{self, joined};
use super::super::python;
use super::super::variables::Environment;
use super::describe::{Description, DiskVariables};
use super::nic::{self, NicView};
use crate::ganeti::config::{ClusterConfig, Parameters};
use crate::ganeti::event::Phase;

/// `SRC_NODE` and `SRC_PATH` of an import; `SRC_IMAGES` stands in the export only.
pub(super) fn import_source(moment: &Moment, environment: &mut Environment) {
    // Without a node, Ganeti looks for the export and completes the path.
    if imports(moment) && moment.input("src_node").is_some() {
        environment.set("SRC_NODE", python::text(moment.input("src_node")));
        environment.set("SRC_PATH", python::text(moment.input("src_path")));
    }
}

pub(super) fn instance(moment: &Moment, environment: &mut Environment) {
    if moment.refused {
        for name in ["OP_TARGET", "INSTANCE_NAME"] {
            environment.set_known(name, moment.input_text("instance_name"));
        }
    } else if let Some(config) = moment.base() {
        Creation::new(moment, config).describe().export(environment);
    }
}

/// The primary and, for DRBD, the secondary node.
pub(super) fn nodes(moment: &Moment) -> Vec<String> {
    let secondary = mirrored(moment).then(|| secondary(moment)).flatten();
    primary(moment).into_iter().chain(secondary).collect()
}

fn imports(moment: &Moment) -> bool {
    moment.input_text("mode") == Some("import")
}

fn mirrored(moment: &Moment) -> bool {
    moment.input_text("disk_template") == Some("drbd")
}

fn primary(moment: &Moment) -> Option<String> {
    moment.input_node("pnode")
}

fn secondary(moment: &Moment) -> Option<String> {
    moment.input_node("snode")
}

/// The instance as the opcode made it, if it did.
fn created<'a>(moment: &Moment<'a>) -> Option<Found<'a>> {
    let new = moment.instance_before().is_none() || moment.input_true("commit");
    (moment.phase == Phase::Post && new).then(|| moment.instance_after()).flatten()
}

struct Creation<'a> {
    moment: Moment<'a>,
    config: &'a ClusterConfig,
    created: Option<Found<'a>>,
    /// The export may still add what the opcode leaves out.
    open: bool,
}

impl<'a> Creation<'a> {
    fn new(moment: &Moment<'a>, config: &'a ClusterConfig) -> Creation<'a> {
        let created = created(moment);
        Creation { moment: *moment, config, created, open: imports(moment) && created.is_none() }
    }

    fn describe(&self) -> Description<'a> {
        let (moment, hypervisor) = (&self.moment, self.hypervisor());
        let os = moment.input_text("os_type");
        Description {
            config: self.config,
            name: moment.input_text("instance_name").map(str::to_owned),
            primary: primary(moment),
            secondaries: if mirrored(moment) { secondary(moment) } else { Some(String::new()) },
            os: (!self.open).then(|| python::text(moment.input("os_type"))),
            status: Some(python::text(moment.input("start"))),
            disk_template: moment.input_text("disk_template").map(str::to_owned),
            new_backend: None,
            backend: self.backend(),
            hypervisor_params: hypervisor
                .as_deref()
                .map(|hypervisor| self.hypervisor_params(hypervisor, os))
                .unwrap_or_default(),
            hypervisor,
            nics: self.nics(),
            disks: self.disks(),
            tags: self.tags(),
        }
    }

    fn hypervisor(&self) -> Option<String> {
        match self.moment.input_text("hypervisor") {
            Some(given) if given != "auto" => Some(given.to_owned()),
            None if self.open => None,
            _ => self.config.cluster().enabled_hypervisors.first().cloned(),
        }
    }

    fn backend(&self) -> Parameters {
        let defaults = params::backend_defaults(self.config);
        let mut own = self.given("beparams");
        for (key, value) in &mut own {
            if value == "auto"
                && let Some(default) = defaults.and_then(|defaults| defaults.get(key))
            {
                *value = default.clone();
            }
        }
        params::force_types(&mut own, defaults);
        if self.open { own } else { params::backend(self.config, &own) }
    }

    fn hypervisor_params(&self, hypervisor: &str, os: Option<&str>) -> Parameters {
        let mut own = self.given("hvparams");
        params::force_types(&mut own, self.config.cluster().hvparams.get(hypervisor));
        if self.open { own } else { params::hypervisor(self.config, hypervisor, os, &own) }
    }

    fn given(&self, field: &str) -> Parameters {
        let given = self.moment.input(field).and_then(Value::as_object);
        given.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Tags, unless the export may add some.
    fn tags(&self) -> Option<String> {
        let tags = self.moment.input_list("tags");
        (!self.open || !tags.is_empty()).then(|| joined(tags.iter().filter_map(Value::as_str)))
    }

    fn nics(&self) -> Option<Vec<NicView>> {
        if let Some(created) = self.created {
            return Some(nic::views(&created.instance.nics));
        }
        self.items("nics")?.iter().map(|nic| Some(self.nic(nic.as_object()?))).collect()
    }

    /// The elements of a list, unless the export may be what gives them.
    fn items(&self, field: &str) -> Option<&'a [Value]> {
        let items = self.moment.input_list(field);
        (!self.open || !items.is_empty()).then_some(items)
    }

    fn nic(&self, nic: &Map<String, Value>) -> NicView {
        let text = |key| nic.get(key).and_then(Value::as_str);
        let network = nic::unless_none(text("network"));
        let network = network.and_then(|spec| self.config.network(spec));
        NicView {
            name: nic::unless_none(text("name")).map(str::to_owned),
            uuid: None,
            ip: given_ip(text("ip")),
            mac: nic::given_mac(text("mac")),
            params: match network {
                Some((uuid, _)) => {
                    primary(&self.moment).and_then(|node| nic::connection(self.config, uuid, &node))
                }
                None => Some(nic_params(nic)),
            },
            network: network.map(|(uuid, _)| uuid.to_owned()),
        }
    }

    fn disks(&self) -> Option<Vec<DiskVariables>> {
        self.items("disks")?
            .iter()
            .enumerate()
            .map(|(index, disk)| Some(self.disk(index, disk.as_object()?)))
            .collect()
    }

    /// A disk to be: without UUID and kind, even after it was made.
    fn disk(&self, index: usize, disk: &Map<String, Value>) -> DiskVariables {
        let text = |key| disk.get(key).and_then(Value::as_str);
        let mut variables = vec![("UUID", String::new()), ("MODE", text("mode").unwrap_or("rw").to_owned())];
        let name = nic::unless_none(text("name")).filter(|name| !name.is_empty());
        variables.extend(name.map(|name| ("NAME", name.to_owned())));
        let size = if disk.contains_key("adopt") {
            self.created_size(index)
        } else {
            disk.get("size").and_then(params::integer).map(|size| size.to_string())
        };
        variables.extend(size.map(|size| ("SIZE", size)));
        variables
    }

    /// An adopted disk has the size that it is found to have.
    fn created_size(&self, index: usize) -> Option<String> {
        let created = self.created?;
        let disks = created.config.disks(created.instance);
        Some(python::text(disks.get(index)?.size.as_ref()))
    }
}

/// An address; empty for none, `None` when Ganeti finds one.
fn given_ip(ip: Option<&str>) -> Option<String> {
    match nic::unless_none(ip) {
        None => Some(String::new()),
        Some(ip) if ip.eq_ignore_ascii_case("auto") || ip.eq_ignore_ascii_case("pool") => None,
        Some(ip) => Some(ip.to_owned()),
    }
}

/// A NIC's own parameters, those that it asks for.
fn nic_params(nic: &Map<String, Value>) -> Parameters {
    let mut params: Parameters = ["mode", "link", "vlan"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), nic.get(key)?.clone())))
        .filter(|(_, value)| python::truthy(Some(value)))
        .collect();
    if params.get("mode").is_some_and(|mode| mode == "auto") {
        params.remove("mode");
    }
    params
}
