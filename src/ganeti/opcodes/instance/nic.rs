//! NICs as hooks see them, from the configuration or from an opcode's input.
//!
//! Ganeti: `cmdlib/instance_utils.py`, `NICToTuple` and `BuildInstanceHookEnv`.

use super::super::variables::Environment;
use super::super::{network, params, python};
use crate::ganeti::config::{ClusterConfig, Nic, Parameters};

/// A NIC; `None` in `uuid`, `ip`, `mac` and `params` is not known.
#[derive(Debug, Clone, Default)]
pub(super) struct NicView {
    /// The one optional variable: absent from hooks when the NIC has no name.
    pub name: Option<String>,
    pub uuid: Option<String>,
    /// Empty when the NIC has no address.
    pub ip: Option<String>,
    pub mac: Option<String>,
    /// Its own parameters, without the cluster's defaults.
    pub params: Option<Parameters>,
    /// UUID of its network.
    pub network: Option<String>,
}

impl From<&Nic> for NicView {
    fn from(nic: &Nic) -> NicView {
        NicView {
            name: nic.name.clone(),
            uuid: nic.uuid.clone(),
            ip: Some(nic.ip.clone().unwrap_or_default()),
            mac: nic.mac.clone(),
            params: Some(nic.nicparams.clone()),
            network: nic.network.clone(),
        }
    }
}

/// The NICs of an instance.
pub(super) fn views(nics: &[Nic]) -> Vec<NicView> {
    nics.iter().map(NicView::from).collect()
}

impl NicView {
    pub(super) fn export(&self, index: usize, config: &ClusterConfig, environment: &mut Environment) {
        let prefix = format!("INSTANCE_NIC{index}_");
        let mut set = |name: &str, value: Option<String>| {
            environment.set_known(format_args!("{prefix}{name}"), value);
        };
        set("NAME", self.name.clone().filter(|name| !name.is_empty()));
        set("UUID", self.uuid.clone());
        set("IP", self.ip.clone());
        set("MAC", self.mac.clone());
        let filled = self.params.as_ref().map(|own| params::nic(config, own));
        let param = |key| Some(python::text(Some(filled.as_ref()?.get(key)?)));
        let mode: Option<String> = param("mode");
        set("MODE", mode.clone());
        set("LINK", param("link"));
        set("VLAN", param("vlan"));
        if matches!(mode.as_deref(), Some("bridged" | "openvswitch")) {
            set("BRIDGE", param("link"));
        }
        if let Some(uuid) = &self.network {
            match config.network(uuid) {
                Some((uuid, found)) => network::describe(environment, &prefix, uuid, found),
                None => environment.set(format_args!("{prefix}NETWORK_NAME"), uuid),
            }
        }
    }
}

/// A NIC's parameters in a network: those of the connection to the node's group.
/// `None` when they are not known.
pub(super) fn connection(config: &ClusterConfig, network: &str, node: &str) -> Option<Parameters> {
    let (_, group) = config.group(&config.node(node)?.group)?;
    group.networks.get(network).cloned()
}

/// A MAC address given in an opcode; `None` when Ganeti generates one.
pub(super) fn given_mac(mac: Option<&str>) -> Option<String> {
    mac.filter(|mac| !matches!(*mac, "auto" | "generate")).map(str::to_lowercase)
}

/// `none` means none.
pub(super) fn unless_none(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.eq_ignore_ascii_case("none"))
}
