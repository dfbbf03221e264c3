//! Job files of shapes that differ in what they cost.

use std::fmt::Write;

use ganeti_hookd::ganeti::job::JobId;

/// The number of the job in every file of this module.
pub fn id() -> JobId {
    JobId::try_from(1).expect("1 is a job number")
}

/// An opcode as Python writes it, with this log and result.
fn opcode(log: &str, result: &str) -> String {
    format!(
        r#"{{"input": {{"duration": 1.0, "on_master": true, "on_nodes": [], "on_node_uuids": ["2fb1d56a-4480-486c-9932-09b1416d38ec"], "repeat": 0, "interruptible": false, "no_locks": false, "dry_run": false, "debug_level": 0, "priority": 0, "depends": null, "comment": null, "reason": [["gnt:client:gnt-debug", "delay", 1795366284600645000], ["gnt:opcode:test_delay", "job=1;index=0", 1795366284600645000]], "OP_ID": "OP_TEST_DELAY"}}, "status": "success", "result": {result}, "log": [{log}], "start_timestamp": [1795366285, 188271], "exec_timestamp": [1795366310, 570160], "end_timestamp": [1795366388, 649511], "priority": 0}}"#
    )
}

fn job(ops: &[String]) -> Vec<u8> {
    format!(
        r#"{{"id": 1, "ops": [{}], "start_timestamp": [1795366285, 188271], "end_timestamp": null, "received_timestamp": [1795366284, 600645], "livelock": "/var/run/ganeti/livelocks/job_000001_1795366285", "process_id": 2905}}"#,
        ops.join(", ")
    )
    .into_bytes()
}

fn log(bytes: usize) -> String {
    let mut log = String::new();
    let mut serial = 0;
    while log.len() < bytes {
        serial += 1;
        let separator = if serial == 1 { "" } else { ", " };
        let _ = write!(
            log,
            r#"{separator}[{serial}, [1795366285, {serial}], "message", " - INFO: \"disk/{serial}\" of instance inst{serial}.example.com is being synced, {serial}% done"]"#
        );
    }
    log
}

/// A job file of the named shape.
pub fn file(shape: &str) -> Vec<u8> {
    const MIB: usize = 1024 * 1024;
    match shape {
        "small" => job(&[opcode("", "null")]),
        "500 opcodes" => job(&vec![opcode("", "null"); 500]),
        "10,000 opcodes" => job(&vec![opcode("", "null"); 10_000]),
        "10 MiB of log" => job(&[opcode(&log(10 * MIB), "null")]),
        "64 MiB in a string" => job(&[opcode("", &format!("\"{}\"", "x".repeat(64 * MIB)))]),
        "64 MiB in a list" => job(&[opcode("", &format!("[{}]", log(64 * MIB)))]),
        _ => unreachable!("{shape} is no shape"),
    }
}
