//! An instance with the opcode's changes: hooks see the new memory, processors
//! and NICs before they are there.
//!
//! Ganeti: `cmdlib/instance_set_params.py`, `LUInstanceSetParams`.

use serde_json::{Map, Value};

use super::super::moment::{Found, Moment};
use super::super::params;
use super::super::variables::Environment;
use super::describe::Description;
use super::nic::{self, NicView};
use crate::ganeti::config::Parameters;
use crate::ganeti::event::Phase;

pub(super) fn instance(moment: &Moment, environment: &mut Environment) {
    let Some(found) = moment.instance() else {
        return;
    };
    let mut description = Description::of(moment, found);
    if let Some(before) = moment.instance_before() {
        description.new_backend = new_backend(moment, before);
    }
    if moment.input_true("nics") || communication_changes(moment) {
        description.nics = moment.instance_before().and_then(|before| new_nics(moment, before));
    }
    description.export(environment);
}

/// In a pre hook Ganeti has not yet added or removed the NIC for instance
/// communication; afterwards the change stands among the others.
fn communication_changes(moment: &Moment) -> bool {
    moment.phase == Phase::Pre && moment.input("instance_communication").is_some()
}

/// Backend parameters to be, if the opcode changes any.
fn new_backend(moment: &Moment, before: Found) -> Option<Parameters> {
    let changes = moment.input("beparams")?.as_object()?;
    if changes.is_empty() {
        return None;
    }
    let mut own = params::updated(&before.instance.beparams, changes, true);
    params::force_types(&mut own, params::backend_defaults(before.config));
    Some(params::backend(before.config, &own))
}

/// NICs to be; `None` when that cannot be told.
fn new_nics(moment: &Moment, before: Found) -> Option<Vec<NicView>> {
    if communication_changes(moment) {
        return None;
    }
    let mut nics = nic::views(&before.instance.nics);
    for change in moment.input_list("nics") {
        let [action, identifier, params] = change.as_array()?.as_slice() else {
            return None;
        };
        let params = params.as_object().cloned().unwrap_or_default();
        apply(action.as_str()?, identifier, &params, before, &mut nics)?;
    }
    if moment.phase == Phase::Post {
        add_generated(moment, &mut nics);
    }
    Some(nics)
}

/// Ganeti: `instance_utils.py, ApplyContainerMods`.
fn apply(
    action: &str,
    identifier: &Value,
    params: &Map<String, Value>,
    before: Found,
    nics: &mut Vec<NicView>,
) -> Option<()> {
    match action {
        "add" => {
            let index = match params::integer(identifier)? {
                -1 => nics.len(),
                index => usize::try_from(index).ok().filter(|index| *index <= nics.len())?,
            };
            let mut new =
                NicView { ip: Some(String::new()), params: Some(Parameters::new()), ..NicView::default() };
            change(&mut new, params, before)?;
            nics.insert(index, new);
        }
        "modify" => {
            let index = position(identifier, nics)?;
            change(nics.get_mut(index)?, params, before)?;
        }
        "remove" => {
            nics.remove(position(identifier, nics)?);
        }
        _ => return None,
    }
    Some(())
}

/// A NIC by index, -1 for the last, UUID or name.
fn position(identifier: &Value, nics: &[NicView]) -> Option<usize> {
    let index = match params::integer(identifier) {
        Some(-1) => nics.len().checked_sub(1)?,
        Some(index) => usize::try_from(index).ok()?,
        None => {
            let wanted = identifier.as_str();
            nics.iter().position(|nic| nic.uuid.as_deref() == wanted || nic.name.as_deref() == wanted)?
        }
    };
    (index < nics.len()).then_some(index)
}

/// Ganeti: `LUInstanceSetParams._PrepareNicModification`, `_ApplyNicMods`.
fn change(nic: &mut NicView, params: &Map<String, Value>, before: Found) -> Option<()> {
    let text = |key| params.get(key).and_then(Value::as_str);
    let old_network = nic.network.take();
    nic.network = match params.get("network") {
        None => old_network.clone(),
        Some(_) => match nic::unless_none(text("network")) {
            Some(spec) => Some(before.config.network(spec)?.0.to_owned()),
            None => None,
        },
    };
    if params.contains_key("name") {
        nic.name = nic::unless_none(text("name")).map(str::to_owned);
    }
    if params.contains_key("mac") {
        nic.mac = nic::given_mac(text("mac"));
    } else if mac_prefix(before, old_network.as_deref()) != mac_prefix(before, nic.network.as_deref()) {
        nic.mac = None;
    }
    if params.contains_key("ip") {
        nic.ip = Some(nic::unless_none(text("ip")).unwrap_or_default().to_owned());
    }
    // From the network's pool.
    if nic.ip.as_deref().is_some_and(|ip| ip.eq_ignore_ascii_case("pool")) {
        nic.ip = None;
    }
    nic.params = match &nic.network {
        Some(network) => nic::connection(before.config, network, &before.instance.primary_node),
        None => nic.params.take().map(|own| own_params(&own, params)),
    };
    Some(())
}

fn own_params(own: &Parameters, changes: &Map<String, Value>) -> Parameters {
    let changes = changes
        .iter()
        .filter(|(key, _)| matches!(key.as_str(), "mode" | "link" | "vlan"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    params::updated(own, &changes, false)
}

/// The address prefix that a network asks for.
fn mac_prefix<'a>(before: Found<'a>, network: Option<&str>) -> Option<&'a str> {
    let (_, network) = before.config.network(network?)?;
    network.mac_prefix.as_deref()
}

/// What Ganeti has generated meanwhile: the MAC address tells that it is the NIC.
fn add_generated(moment: &Moment, nics: &mut [NicView]) {
    let Some(after) = moment.instance_after() else {
        return;
    };
    let made = nic::views(&after.instance.nics);
    if made.len() != nics.len() {
        return;
    }
    for (nic, made) in nics.iter_mut().zip(made) {
        if nic.uuid.is_none() && nic.mac == made.mac {
            nic.uuid = made.uuid;
        }
    }
}
