//! Secrets: whatever the text, blanking it twice is blanking it once; and in a good document no
//! value of a secret is left, and every other one is.
#![no_main]

use ganeti_hookd::ganeti::secrets::blanked;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Whether what stands here holds no value.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Object(pairs) => pairs.values().all(is_blank),
        Value::Array(items) => items.iter().all(is_blank),
        Value::String(text) => text.is_empty(),
        value => value.is_null(),
    }
}

fn check(before: &Value, after: &Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            assert!(before.keys().eq(after.keys()));
            for (key, value) in after {
                match key.as_str() {
                    "osparams_private" | "osparams_secret" => assert!(is_blank(value), "{key}"),
                    "ops" | "input" | "instances" => check(&before[key], value),
                    _ => {}
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len());
            before.iter().zip(after).for_each(|(before, after)| check(before, after));
        }
        (before, after) => assert_eq!(before, after),
    }
}

fuzz_target!(|data: &str| {
    let once = blanked(data);
    assert_eq!(blanked(&once), once);
    if let Ok(before) = serde_json::from_str::<Value>(data) {
        check(&before, &serde_json::from_str(&once).expect("still JSON"));
    }
});
