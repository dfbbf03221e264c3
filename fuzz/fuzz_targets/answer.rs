//! A node daemon's answer: the scripts that a naive reader finds in it, no more than the
//! limit of their output.
#![no_main]

use ganeti_hookd::world::noded::answer::{QUOTE_MAX, SCRIPTS_MAX, Told, readable, result, scripts};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;

const LIMIT: usize = 64;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let plain = readable(text);
        assert!(plain.len() <= text.len());
        if !text.contains('\\') {
            assert_eq!(plain, text);
        }
    }
    match result(data) {
        Ok(found) => compare(found, data),
        Err(what) => assert!(what.len() < 2 * QUOTE_MAX && !what.contains('\n')),
    }
});

/// Compares what is made of a result with what a naive reader finds in the whole answer.
fn compare(result: &RawValue, data: &[u8]) {
    let Ok(Told { scripts, complaint }) = scripts(result, LIMIT) else { return };
    assert!(scripts.len() <= SCRIPTS_MAX);
    for (name, outcome) in &scripts {
        assert!((1..256).contains(&name.len()) && outcome.output.len() <= LIMIT);
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
    }
    let Ok(naive) = serde_json::from_slice::<Value>(data) else { return };
    assert_eq!(naive[0], true);
    let entries: Vec<&Value> =
        naive[1].as_array().into_iter().flatten().filter(|entry| entry[1].as_i64() != Some(0)).collect();
    if complaint.is_some() {
        assert!(entries.len() > scripts.len() || naive[1].as_array().is_some_and(|all| all.len() > scripts.len()));
        return;
    }
    assert_eq!(entries.len(), scripts.len());
    for (entry, (name, outcome)) in entries.iter().zip(&scripts) {
        assert_eq!(entry[0].as_str().and_then(|path| path.rsplit('/').next()), Some(name.as_str()));
        assert_eq!(outcome.succeeded(), entry[1] == 2);
        let output = readable(entry[2].as_str().unwrap_or_default());
        assert!(output.starts_with(&outcome.output));
        assert_eq!(outcome.output.len() as u64 + outcome.dropped, output.len() as u64);
    }
}
