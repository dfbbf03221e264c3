//! A node daemon's answer: the scripts that a naive reader finds in it, no more than the
//! limit of their output.
#![no_main]

use ganeti_hookd::world::noded::answer::{readable, result, scripts};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const LIMIT: usize = 64;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let plain = readable(text);
        assert!(plain.len() <= text.len());
        if !text.contains('\\') {
            assert_eq!(plain, text);
        }
    }
    let Ok(result) = result(data) else { return };
    let Ok(scripts) = scripts(result, LIMIT) else { return };
    let Ok(naive) = serde_json::from_slice::<Value>(data) else { return };
    assert_eq!(naive[0], true);
    let entries: Vec<&Value> =
        naive[1].as_array().into_iter().flatten().filter(|entry| entry[1].as_i64() != Some(0)).collect();
    assert_eq!(entries.len(), scripts.len());
    for (entry, (name, outcome)) in entries.iter().zip(&scripts) {
        assert_eq!(entry[0].as_str().and_then(|path| path.rsplit('/').next()), Some(name.as_str()));
        assert_eq!(outcome.succeeded(), entry[1] == 2);
        assert!(outcome.output.len() <= LIMIT);
        let output = readable(entry[2].as_str().unwrap_or_default());
        assert!(output.starts_with(&outcome.output));
        assert_eq!(outcome.output.len() as u64 + outcome.dropped, output.len() as u64);
    }
});
