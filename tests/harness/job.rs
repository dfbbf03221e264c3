//! Job files as Ganeti's Python code writes them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};

/// luxid's mark in the reason trail of a job whose process it found dead.
const DEATH_DETECTION: &str = "gnt:daemon:luxid:deathdetection";

/// A job, one version of it at a time.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: i64,
    pub file: Value,
}

/// The present, never the same one twice, as Ganeti writes times.
fn now() -> Value {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let micros = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64;
    let last = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(micros.max(last + 1)));
    let micros = micros.max(last.unwrap() + 1);
    json!([micros / 1_000_000, micros % 1_000_000])
}

impl Job {
    /// A job of these opcodes that has just been submitted.
    pub fn new(id: i64, op_codes: &[&str]) -> Self {
        let ops: Vec<Value> = op_codes.iter().map(|code| opcode(code)).collect();
        let file = json!({
            "id": id, "ops": ops, "received_timestamp": now(), "start_timestamp": null, "end_timestamp": null,
            "livelock": null, "process_id": null,
        });
        Self { id, file }
    }

    /// A job of one opcode.
    pub fn delay(id: i64) -> Self {
        Self::new(id, &["OP_TEST_DELAY"])
    }

    /// A job of one opcode that has ended well.
    pub fn ended(id: i64) -> Self {
        let mut job = Self::delay(id);
        job.succeeds(0);
        job
    }

    /// One of its opcodes.
    pub fn op(&mut self, op: usize) -> &mut Value {
        &mut self.file["ops"][op]
    }

    /// Names the process that runs the job.
    pub fn process(&mut self, livelock: impl ToString, pid: Option<u32>) -> &mut Self {
        self.file["livelock"] = json!(livelock.to_string());
        self.file["process_id"] = json!(pid);
        self
    }

    /// The opcode waits for locks.
    pub fn waits(&mut self, op: usize) -> &mut Self {
        let time = now();
        if self.file["start_timestamp"].is_null() {
            self.file["start_timestamp"] = time.clone();
        }
        let op = self.op(op);
        op["status"] = json!("waiting");
        if op["start_timestamp"].is_null() {
            op["start_timestamp"] = time;
        }
        self
    }

    /// The opcode executes.
    pub fn runs(&mut self, op: usize) -> &mut Self {
        self.waits(op);
        self.op(op)["status"] = json!("running");
        self.op(op)["exec_timestamp"] = now();
        self
    }

    /// The opcode writes a line into its log.
    pub fn logs(&mut self, op: usize, text: &str) -> &mut Self {
        let log = self.op(op)["log"].as_array_mut().unwrap();
        log.push(json!([log.len(), now(), "message", text]));
        self
    }

    /// The opcode ends.
    pub fn ends(&mut self, op: usize, status: &str, result: Value) -> &mut Self {
        self.op(op)["status"] = json!(status);
        self.op(op)["result"] = result;
        self.op(op)["end_timestamp"] = now();
        if self.file["ops"].as_array().unwrap().iter().rev().all(|op| !op["end_timestamp"].is_null()) {
            self.file["end_timestamp"] = now();
        }
        self
    }

    /// The opcode begins, if it has not, and ends well.
    pub fn succeeds(&mut self, op: usize) -> &mut Self {
        if self.op(op)["exec_timestamp"].is_null() {
            self.runs(op);
        }
        self.ends(op, "success", json!(true))
    }

    /// The opcode fails, and with it those after it.
    pub fn fails(&mut self, op: usize) -> &mut Self {
        self.ends(op, "error", json!(["OpExecError", ["it does not work"]]));
        for later in op + 1..self.file["ops"].as_array().unwrap().len() {
            self.ends(later, "error", json!(["OpPrereqError", ["Job was aborted"]]));
        }
        self
    }

    /// The job is canceled from this opcode on.
    pub fn is_canceled(&mut self, op: usize) -> &mut Self {
        for op in op..self.file["ops"].as_array().unwrap().len() {
            self.ends(op, "canceled", json!("Job canceled by request"));
        }
        self
    }

    /// luxid has found the process dead and writes what it writes then.
    pub fn death_is_detected(&mut self) -> &mut Self {
        let what = format!("detected death of job {}", self.id);
        for op in 0..self.file["ops"].as_array().unwrap().len() {
            self.ends(op, "error", json!(what));
            let reason = self.op(op)["input"]["reason"].as_array_mut().unwrap();
            reason.push(json!([DEATH_DETECTION, what, 1_795_366_308_030_596_000_i64]));
        }
        self
    }

    /// The file's text, as Python writes it.
    pub fn text(&self) -> String {
        format!("{}\n", self.file).replace("\":", "\": ")
    }
}

fn opcode(code: &str) -> Value {
    json!({
        "input": {
            "OP_ID": code, "priority": 0, "depends": null, "comment": null, "debug_level": 0, "dry_run": null,
            "reason": [["gnt:client:gnt-debug", "delay", 1_795_366_000_611_028_480_i64]],
            "duration": 0.2, "on_master": true, "on_nodes": [],
        },
        "status": "queued", "result": null, "log": [], "priority": 0,
        "start_timestamp": null, "exec_timestamp": null, "end_timestamp": null,
    })
}
