//! JSON with what only Python writes: what a strict reader reads is read as it is, all else costs
//! itself.
#![no_main]

use ganeti_hookd::ganeti::python_json::{as_json, members, read};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    if let Some(json) = as_json(data) {
        assert!(json.starts_with(b"\xef\xbb\xbf") || as_json(&json).is_none(), "once is enough");
        assert!(serde_json::from_slice::<&RawValue>(data).is_err(), "JSON is left as it is");
    }
    let Ok(raw) = serde_json::from_slice::<&RawValue>(data) else { return };
    let reading = read(raw);
    let strictly = serde_json::from_slice::<Value>(data).ok();
    assert_eq!(reading.is_damaged, strictly.is_none());
    if strictly.is_some() {
        assert_eq!(reading.value, strictly);
    }
    let is_object = raw.get().starts_with('{');
    assert_eq!(members(raw).is_ok(), is_object);
    if is_object {
        // Whatever is in it, an object is one.
        assert!(reading.value.is_some_and(|value| value.is_object()));
    }
});
