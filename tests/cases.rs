//! Cases: the lives of small jobs, told in `fixtures/cases/*.toml`.
//!
//! A case says what it `shows`, the opcodes of its jobs, and step by step what appears in
//! the queue and which events that brings. Its steps are played as the lines of a
//! recording, through the parser, the machine, the tracker and the replay.
//!
//! `ops` gives each opcode's status and the timestamps that it has: `started`, `executed`
//! (or `executed-again`, a later one), `ended`; and `death` for luxid's reason. An event
//! is its key, the status of a post, and what is remarkable about it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use ganeti_hookd::engine::replay::Replay;
use ganeti_hookd::engine::settings::{Hooks, Settings};
use ganeti_hookd::ganeti::event::Event;
use ganeti_hookd::ganeti::recording::Line;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Case {
    /// What the case shows.
    shows: String,
    /// The opcodes of its jobs.
    job: Vec<String>,
    /// The setting of this name.
    #[serde(default)]
    skip_opcodes: Vec<String>,
    steps: Vec<Step>,
}

/// Something that happens, and the events it brings.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Step {
    /// The job's number.
    #[serde(default = "one")]
    job: i64,
    /// A version of the job's file.
    ops: Option<Vec<String>>,
    /// Whether it was there before us.
    #[serde(default)]
    initial: bool,
    /// When luxid received the job, in seconds.
    #[serde(default = "one")]
    received: i64,
    /// The process of the job.
    #[serde(default = "hundred")]
    process: u32,
    /// Luxid is still starting the job: its own livelock, and no process.
    #[serde(default)]
    luxid: bool,
    /// The process that ends.
    exit: Option<u32>,
    /// Where the job's file is moved to.
    moved_to: Option<String>,
    /// Whether the job's file is removed.
    #[serde(default)]
    removed: bool,
    /// It happens, but we do not look.
    #[serde(default)]
    unseen: bool,
    #[serde(default)]
    events: Vec<String>,
}

fn one() -> i64 {
    1
}

fn hundred() -> u32 {
    100
}

impl Step {
    /// The step as a line of a recording.
    fn line(&self, codes: &[String]) -> Line {
        let content = self.ops.as_ref().map(|ops| self.file(codes, ops).to_string());
        let path = self.exit.is_none().then(|| format!("job-{}", self.job));
        Line {
            t: 1.0,
            path,
            content,
            initial: self.initial,
            moved_to: self.moved_to.clone(),
            removed: self.removed,
            pid: self.exit,
            event: self.exit.map(|_| "exit".to_owned()),
        }
    }

    fn file(&self, codes: &[String], ops: &[String]) -> Value {
        assert_eq!(codes.len(), ops.len(), "a version has all opcodes of its job");
        let ops: Vec<Value> = codes.iter().zip(ops).map(|(code, op)| opcode(code, op)).collect();
        let begun = !self.luxid && ops.iter().any(|op| !op["start_timestamp"].is_null());
        let livelock = if begun { "livelocks/job_1" } else { "livelocks/luxi-daemon_1" };
        json!({
            "id": self.job,
            "received_timestamp": [self.received, 0],
            "start_timestamp": begun.then_some((10, 0)),
            "livelock": livelock,
            "process_id": begun.then_some(self.process),
            "ops": ops,
        })
    }
}

/// An opcode of a job file; `text` is its status and what else there is.
fn opcode(code: &str, text: &str) -> Value {
    let (status, marks) = text.split_once(' ').unwrap_or((text, ""));
    let mut op = json!({"input": {"OP_ID": code}, "status": status});
    for mark in marks.split_whitespace() {
        match mark {
            "started" => op["start_timestamp"] = json!([20, 0]),
            "executed" => op["exec_timestamp"] = json!([30, 0]),
            "executed-again" => op["exec_timestamp"] = json!([35, 0]),
            "ended" => op["end_timestamp"] = json!([40, 0]),
            "death" => op["input"]["reason"] = json!([["gnt:daemon:luxid:deathdetection", "", 1]]),
            _ => panic!("an opcode is not \"{mark}\""),
        }
    }
    op
}

/// The event as cases write it.
fn told(event: &Event, hooks: &Hooks) -> String {
    let mut text = event.key.to_string();
    if let Some(status) = event.status {
        text = format!("{text} {}", status.as_str());
    }
    for (holds, mark) in
        [(!event.executed, "not executed"), (event.late, "late"), (hooks.skips(&event.op_code), "skipped")]
    {
        if holds {
            text = format!("{text}, {mark}");
        }
    }
    text
}

/// Plays a case; the error says which step brought other events.
fn play(case: &Case) -> Result<(), String> {
    let skip = toml::to_string(&json!({"hooks": {"skip-opcodes": case.skip_opcodes}})).unwrap();
    let hooks = Settings::parse(&skip).unwrap().hooks;
    let mut replay = Replay::default();
    for (number, step) in case.steps.iter().enumerate().filter(|(_, step)| !step.unseen) {
        let events = replay.line(&step.line(&case.job)).map_err(|error| error.to_string())?;
        let events: Vec<String> = events.iter().map(|(_, event)| told(event, &hooks)).collect();
        if events != step.events {
            let number = number + 1;
            return Err(format!("step {number} should bring {:?} but brings {events:?}", step.events));
        }
    }
    Ok(())
}

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cases");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|e| e == "toml")).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_is_told_as_it_says() {
    let cases = cases();
    assert!(cases.len() >= 37, "{} cases: some have been lost", cases.len());
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|file| {
            let case: Case = toml::from_str(&fs::read_to_string(file).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let name = file.file_stem().expect("a file has a name").display();
            play(&case).err().map(|what| format!("{name}: {what}\n  ({})", case.shows))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
