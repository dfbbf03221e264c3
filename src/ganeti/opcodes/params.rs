//! Parameters of backends, hypervisors and NICs: defaults filled in, changes
//! applied, types forced.
//!
//! Ganeti: `lib/objects.py` (`FillDict`), `lib/cmdlib/common.py`
//! (`GetUpdatedParams`), `lib/utils/__init__.py` (`ForceDictType`).

use serde_json::{Map, Value};

use crate::ganeti::config::{ClusterConfig, Parameters};

/// The profile that all cluster-wide defaults stand under.
const PROFILE: &str = "default";

/// Tags in one text. Ganeti prints them in no stable order; here they are sorted.
pub(super) fn joined<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> String {
    let mut tags: Vec<T> = tags.into_iter().collect();
    tags.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    let tags: Vec<&str> = tags.iter().map(AsRef::as_ref).collect();
    tags.join(" ")
}

/// Backend parameters with the cluster's defaults.
pub(super) fn backend(config: &ClusterConfig, own: &Parameters) -> Parameters {
    let mut own = own.clone();
    // The one name of old versions.
    if let Some(memory) = own.remove("memory") {
        own.insert("maxmem".to_owned(), memory.clone());
        own.insert("minmem".to_owned(), memory);
    }
    let defaults = config.cluster().beparams.get(PROFILE);
    fill(defaults.into_iter().chain([&own]))
}

/// Hypervisor parameters with the defaults of the cluster and of the OS.
pub(super) fn hypervisor(
    config: &ClusterConfig,
    hypervisor: &str,
    os: Option<&str>,
    own: &Parameters,
) -> Parameters {
    let cluster = config.cluster();
    let by_os = os.and_then(|os| cluster.os_hvp.get(os)?.get(hypervisor));
    let defaults = cluster.hvparams.get(hypervisor);
    fill(defaults.into_iter().chain(by_os).chain([own]))
}

/// NIC parameters with the cluster's defaults.
pub(super) fn nic(config: &ClusterConfig, own: &Parameters) -> Parameters {
    let defaults = config.cluster().nicparams.get(PROFILE);
    fill(defaults.into_iter().chain([own]))
}

/// Later layers win.
fn fill<'a>(layers: impl Iterator<Item = &'a Parameters>) -> Parameters {
    let mut filled = Parameters::new();
    for layer in layers {
        filled.extend(layer.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    filled
}

/// `default` removes a parameter, and so does null where `null_removes`.
pub(super) fn updated(present: &Parameters, changes: &Map<String, Value>, null_removes: bool) -> Parameters {
    let mut params = present.clone();
    for (key, value) in changes {
        if value == PROFILE || (null_removes && value.is_null()) {
            params.remove(key);
        } else {
            params.insert(key.clone(), value.clone());
        }
    }
    params
}

/// Gives values the types of the cluster's defaults; jobs may hold them as text.
pub(super) fn force_types(params: &mut Parameters, defaults: Option<&Parameters>) {
    for (key, value) in params {
        let default = defaults.and_then(|defaults| defaults.get(key));
        if let Some(forced) = forced(key, default, value) {
            *value = forced;
        }
    }
}

/// The cluster's defaults for backend parameters.
pub(super) fn backend_defaults(config: &ClusterConfig) -> Option<&Parameters> {
    config.cluster().beparams.get(PROFILE)
}

fn forced(key: &str, default: Option<&Value>, value: &Value) -> Option<Value> {
    if matches!(key, "maxmem" | "minmem" | "memory") {
        return Some(Value::from(mebibytes(value)?));
    }
    match (default?, value) {
        (Value::Bool(_), Value::String(text)) if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        (Value::Bool(_), Value::String(text)) if text.eq_ignore_ascii_case("false") => {
            Some(Value::Bool(false))
        }
        (Value::Bool(_), Value::Number(number)) => Some(Value::Bool(number.as_f64() != Some(0.0))),
        (Value::Number(_), _) => integer(value).map(Value::from),
        (Value::String(_), Value::Bool(false)) => Some(Value::from("")),
        _ => None,
    }
}

/// `int(value)` in Python, for what appears in jobs.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Number(number) => number.as_i64().or_else(|| truncated(number.as_f64()?)),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "in range and meant to")]
fn truncated(float: f64) -> Option<i64> {
    (float.abs() < 9e15).then_some(float as i64)
}

/// A size in MiB, rounded up to a multiple of 4 (Ganeti: `utils/text.py, ParseUnit`).
fn mebibytes(value: &Value) -> Option<i64> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => 1.0,
        "g" | "gb" | "gib" => 1024.0,
        "t" | "tb" | "tib" => 1024.0 * 1024.0,
        _ => return None,
    };
    let size = truncated((number.parse::<f64>().ok()? * factor).ceil())?;
    Some((size + 3) / 4 * 4)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(value: Value) -> Parameters {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn sizes() {
        for (expected, value) in [
            (Some(128), json!(128)),
            (Some(132), json!("130")),
            (Some(1024), json!("1G")),
            (Some(1536), json!("1.5 gib")),
            (Some(2_097_152), json!("2T")),
            (None, json!("1X")),
            (None, json!("")),
            (None, json!(null)),
            (None, json!("9e99")),
        ] {
            assert_eq!(mebibytes(&value), expected, "{value}");
        }
    }

    #[test]
    fn types_follow_the_defaults() {
        let defaults = params(json!({"acpi": true, "cores": 1, "boot": "cd"}));
        let mut own = params(json!({"acpi": "False", "cores": "2", "boot": false, "new": "x"}));
        force_types(&mut own, Some(&defaults));
        let expected = params(json!({"acpi": false, "cores": 2, "boot": "", "new": "x"}));
        assert_eq!(own, expected);
    }

    #[test]
    fn changes() {
        let present = params(json!({"a": 1, "b": 2, "c": 3}));
        let changes = json!({"a": "default", "b": null, "d": 4});
        let changes = changes.as_object().unwrap();
        assert_eq!(updated(&present, changes, true), params(json!({"c": 3, "d": 4})));
        assert_eq!(updated(&present, changes, false), params(json!({"b": null, "c": 3, "d": 4})));
    }
}
