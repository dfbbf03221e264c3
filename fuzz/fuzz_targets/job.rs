//! A job file: what the reader understands is what a naive one makes of the whole value.
#![no_main]

use ganeti_hookd::ganeti::job::{self, JobId, Opcode, Status, Timestamp};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const DEATH: &str = "gnt:daemon:luxid:deathdetection";

fn time(value: &Value) -> Option<Timestamp> {
    let pair = value.as_array()?;
    Some(Timestamp::from((pair.first()?.as_i64()?, pair.get(1)?.as_i64()?)))
}

fn status(value: &Value) -> Status {
    match value.as_str().expect("a status is a string") {
        "queued" => Status::Queued,
        "waiting" => Status::Waiting,
        "canceling" => Status::Canceling,
        "running" => Status::Running,
        "canceled" => Status::Canceled,
        "success" => Status::Success,
        "error" => Status::Error,
        other => panic!("{other} is no status"),
    }
}

/// Compares an opcode with its value, unless it is written in another way than Ganeti's
/// (serde also reads structures from lists).
fn compare(op: &Opcode<'_>, value: &Value) {
    let (Some(fields), Some(input)) = (value.as_object(), value["input"].as_object()) else { return };
    assert_eq!(Some(&*op.code), input["OP_ID"].as_str());
    assert!(op.code.starts_with("OP_") && op.code.len() <= 64);
    assert!(op.code.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_')));
    assert_eq!(op.status, status(&fields["status"]));
    assert_eq!(op.started, time(&value["start_timestamp"]));
    assert_eq!(op.executed, time(&value["exec_timestamp"]));
    assert_eq!(op.ended, time(&value["end_timestamp"]));
    let trail = input.get("reason").and_then(Value::as_array);
    let dead = trail.and_then(|trail| trail.last()?.get(0)?.as_str()) == Some(DEATH);
    assert_eq!(op.death_detected, dead);
}

fuzz_target!(|data: &[u8]| {
    let Ok(id) = JobId::try_from(1) else { return };
    let naive = serde_json::from_slice::<Value>(data);
    let Ok(job) = job::parse(id, data) else { return };
    // Numbers and depths that a whole value cannot hold are passed over where they do not matter.
    let Ok(naive) = naive else { return };
    if !naive.is_object() {
        return;
    }
    if naive["id"] == "1" {
        // An old one.
        assert!(job.ops.is_empty());
        return;
    }
    assert_eq!(naive["id"].as_i64(), Some(1));
    assert_eq!(job.received, time(&naive["received_timestamp"]).unwrap_or_default());
    let is_path = |path: &&str| path.len() < 4096 && !path.contains('\0');
    assert_eq!(job.livelock.as_deref(), naive["livelock"].as_str().filter(is_path));
    assert_eq!(job.process_id, naive["process_id"].as_u64().filter(|pid| *pid > 0).map(|pid| pid as u32));
    let ops = naive["ops"].as_array().expect("a job has opcodes");
    assert_eq!(job.ops.len(), ops.len());
    for (index, (op, value)) in job.ops.iter().zip(ops).enumerate() {
        compare(op, value);
        if let Ok(input) = job::op_input(data, index) {
            // What a whole value can hold costs nothing.
            assert_eq!(input.as_ref().map(|reading| &reading.input), value["input"].as_object());
            assert!(input.is_none_or(|reading| reading.bad_fields.is_empty()));
        }
    }
});
