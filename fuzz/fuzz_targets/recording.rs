//! A line of a recording: what is read of it is what it says, and writing it loses nothing.
#![no_main]

use ganeti_hookd::ganeti::recording::{Change, Line, parse_line};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn naive(value: &Value) -> Change<'_> {
    let text = |key: &str| value[key].as_str();
    let pid = value["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    match (text("path"), text("content"), text("moved_to"), value["removed"] == true) {
        (Some(path), Some(content), _, _) => Change::Content(path, content),
        (Some(path), None, Some(to), _) => Change::Moved(path, to),
        (Some(path), None, None, true) => Change::Removed(path),
        _ => match (pid, text("event")) {
            (Some(pid), Some("exit")) => Change::Exit(pid),
            _ => Change::Other,
        },
    }
}

fuzz_target!(|data: &[u8]| {
    for (number, text) in data.split(|byte| *byte == b'\n').enumerate() {
        let Ok(Some(line)) = parse_line(number + 1, text) else { continue };
        let Ok(value) = serde_json::from_slice::<Value>(text) else { continue };
        if !value.is_object() {
            continue;
        }
        assert_eq!(line.change(), naive(&value));
        assert_eq!(Some(line.t), value["t"].as_f64());
        let Ok(written) = serde_json::to_vec(&line) else { panic!("{line:?} cannot be written") };
        match parse_line(1, &written) {
            Ok(Some(again)) => {
                // Far from any date a number may come back as its neighbour.
                assert!((again.t - line.t).abs() <= line.t.abs() * 1e-15, "{} {}", again.t, line.t);
                assert_eq!(Line { t: line.t, ..again }, line);
            }
            other => panic!("{line:?} cannot be read again: {other:?}"),
        }
    }
});
