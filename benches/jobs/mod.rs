//! Job files of one opcode, as Ganeti writes them.

use std::fs;
use std::path::Path;

use crate::master::Result;
use crate::times::now;

/// A job of one opcode.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub id: u32,
    pub op_code: &'a str,
    /// When it was received and begun, in seconds since the epoch. A job keeps that.
    pub begun: u64,
    /// Of its opcode.
    pub status: &'a str,
    pub livelock: Option<&'a str>,
    pub process: Option<u32>,
}

impl<'a> Job<'a> {
    /// A job that was received just now.
    pub fn new(id: u32, begun: u64) -> Self {
        Self { id, op_code: "OP_TEST_DELAY", begun, status: "queued", livelock: None, process: None }
    }

    /// The same, further on.
    pub fn is(self, status: &'a str) -> Self {
        Self { status, ..self }
    }

    /// What is in its file.
    pub fn text(self) -> String {
        let Self { id, op_code, begun, status, .. } = self;
        let time = |set: bool| if set { format!("[{begun}, 359866]") } else { "null".to_owned() };
        let (waits, runs, ended) =
            (status != "queued", status != "queued" && status != "waiting", status == "success");
        let livelock = self.livelock.map_or("null".to_owned(), |path| format!("\"{path}\""));
        let process = self.process.map_or("null".to_owned(), |pid| pid.to_string());
        format!(
            r#"{{"id": {id}, "ops": [{{"input": {{"duration": 1.0, "on_master": true, "on_nodes": [], "on_node_uuids": ["03360639-9249-4858-97eb-209c9e252cc0"], "repeat": 0, "interruptible": false, "no_locks": false, "dry_run": false, "debug_level": 0, "priority": 0, "depends": null, "comment": null, "reason": [["gnt:client:gnt-debug", "delay", {begun}853563392], ["gnt:opcode:test_delay", "job={id};index=0", {begun}991672000]], "OP_ID": "{op_code}"}}, "status": "{status}", "result": null, "log": [], "start_timestamp": {}, "exec_timestamp": {}, "end_timestamp": {}, "priority": 0}}], "start_timestamp": {}, "end_timestamp": {}, "received_timestamp": [{begun}, {}], "livelock": {livelock}, "process_id": {process}}}"#,
            time(waits),
            time(runs),
            time(ended),
            time(waits),
            time(ended),
            id % 1_000_000,
        )
    }

    /// Puts its file in place, and tells when.
    pub fn publish(self, dir: &Path) -> Result<u64> {
        put(dir, self.id, &self.text())
    }
}

/// Puts a job file in place by rename, and tells when.
pub fn put(dir: &Path, id: u32, text: &str) -> Result<u64> {
    let new = dir.with_file_name("new");
    fs::write(&new, text)?;
    let start = now();
    fs::rename(new, dir.join(format!("job-{id}")))?;
    Ok(start)
}
