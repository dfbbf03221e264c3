//! The record of an event (design, section 13), for every recording of a real cluster, against a
//! second reading of the job files that knows nothing of the first: JSON values and arithmetic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ganeti_hookd::engine::replay::Replay;
use ganeti_hookd::ganeti::event::{EventRecord, Fate};
use ganeti_hookd::ganeti::recording::{Line, parse_line};
use serde_json::{Value, json};

fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings");
    let mut dirs: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.retain(|dir| dir.join("events.jsonl").is_file());
    dirs.sort();
    assert!(dirs.len() >= 8, "{dirs:?}");
    dirs
}

fn lines(recording: &Path) -> Vec<Line> {
    let text = fs::read(recording.join("events.jsonl")).unwrap();
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines.filter_map(|(number, line)| parse_line(number + 1, line).unwrap()).collect()
}

/// `[seconds, microseconds]` in microseconds.
fn micros(time: &Value) -> Option<i64> {
    Some(time[0].as_i64()? * 1_000_000 + time[1].as_i64()?)
}

fn seconds(micros: i64) -> Value {
    json!(micros as f64 / 1e6)
}

fn between(from: Option<i64>, to: Option<i64>) -> Value {
    match (from, to) {
        (Some(from), Some(to)) if to >= from => seconds(to - from),
        _ => Value::Null,
    }
}

fn or_null(time: Option<i64>) -> Value {
    time.map_or(Value::Null, seconds)
}

/// What was read of the queue so far.
#[derive(Default)]
struct Reader {
    /// The last version of each job's file, and when each opcode was seen to execute first.
    jobs: BTreeMap<i64, (Value, BTreeMap<usize, i64>)>,
    cluster: Option<String>,
}

impl Reader {
    fn read(&mut self, line: &Line) {
        let (Some(path), Some(content)) = (&line.path, &line.content) else { return };
        if path == "config.data" {
            let config: Value = serde_json::from_str(content).unwrap();
            self.cluster = Some(config["cluster"]["uuid"].as_str().unwrap().to_owned());
        }
        let Some(id) = path.strip_prefix("job-").and_then(|id| id.parse().ok()) else { return };
        let job: Value = serde_json::from_str(content).unwrap();
        let known = self.jobs.remove(&id);
        let same = known.filter(|(known, _)| known["received_timestamp"] == job["received_timestamp"]);
        let mut executed = same.map(|(_, executed)| executed).unwrap_or_default();
        for (op, at) in job["ops"].as_array().unwrap().iter().enumerate() {
            if let Some(time) = micros(&at["exec_timestamp"]) {
                executed.entry(op).or_insert(time);
            }
        }
        self.jobs.insert(id, (job, executed));
    }

    /// The end of an opcode; luxid's rewrite of a dead job gives the earlier ones a new one.
    fn end(ops: &[Value], op: usize) -> Option<i64> {
        let next = ops.get(op + 1).and_then(|next| micros(&next["start_timestamp"]));
        micros(&ops[op]["end_timestamp"]).filter(|end| next.is_none_or(|next| next >= *end))
    }

    /// What the record of this event has to say.
    fn expected(&self, record: &Value) -> Value {
        let (id, n) = (record["job"].as_i64().unwrap(), record["op"].as_u64().unwrap());
        let (job, executed) = &self.jobs[&id];
        let ops = job["ops"].as_array().unwrap();
        let n = usize::try_from(n).unwrap();
        let op = &ops[n];
        let received = micros(&job["received_timestamp"]).unwrap();
        let (started, executed) = (micros(&op["start_timestamp"]), executed.get(&n).copied());
        let has_end = record["phase"] == "post" && record["status"] != "disappeared";
        let ended = if has_end { Self::end(ops, n) } else { None };
        let before = if n == 0 { Some(received) } else { Self::end(ops, n - 1) };
        let trail = op["input"]["reason"].as_array().cloned().unwrap_or_default();
        let reason: Vec<Value> = trail
            .iter()
            .map(|entry| json!([entry[0], entry[1], (entry[2].as_f64().unwrap() / 1e3).round() / 1e6]))
            .collect();
        let parents = trail.iter().rev().filter(|entry| entry[0].as_str().unwrap().starts_with("gnt:opcode"));
        let parents = parents.map(|entry| {
            let words: Vec<i64> = entry[1]
                .as_str()
                .unwrap()
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|word| word.parse().ok())
                .collect();
            json!({"job": words[0], "op": words[1]})
        });
        let parent = parents.into_iter().find(|parent| parent["job"] != id);
        let error = match (&record["status"], &op["result"]) {
            (status, Value::String(text)) if status == "failed" => json!(text.lines().next()),
            (status, Value::Array(parts)) if status == "failed" => match &parts[1][0] {
                Value::String(text) => json!(text.lines().next()),
                other => json!(format!("{}: {other}", parts[0].as_str().unwrap())),
            },
            _ => Value::Null,
        };
        let cluster = self.cluster.as_deref().unwrap_or("-");
        json!({
            "id": format!("{cluster}/{received}/{id}.{n}.{}", record["phase"].as_str().unwrap()),
            "received": seconds(received),
            "started": or_null(started),
            "executed_at": or_null(executed),
            "ended": or_null(ended),
            "start_delay": between(before, started),
            "lock_wait": between(started, executed),
            "held": null,
            "execution": between(executed, ended),
            "reason": reason,
            "parent": parent,
            "error": error,
            "state": "done",
        })
    }
}

#[test]
fn every_record_tells_what_the_job_file_says() {
    let (mut count, mut told) = (0, BTreeMap::<String, u32>::new());
    for recording in recordings() {
        let (mut replay, mut reader) = (Replay::default(), Reader::default());
        for line in lines(&recording) {
            reader.read(&line);
            for (seq, event) in replay.line(&line).unwrap() {
                let record = serde_json::to_value(EventRecord::new(
                    seq,
                    &event,
                    Fate { state: "done", ..Fate::default() },
                ))
                .unwrap();
                let expected = reader.expected(&record);
                for (key, value) in expected.as_object().unwrap() {
                    let name = format!("{}, {}, {key}", recording.display(), record["event"]);
                    assert_eq!(&record[key], value, "{name}");
                    *told.entry(key.clone()).or_default() += u32::from(!value.is_null());
                }
                count += 1;
            }
        }
    }
    // A test that compares nothing with nothing shows nothing.
    for key in ["ended", "start_delay", "lock_wait", "execution", "parent", "error"] {
        assert!(told[key] >= 20, "{key} is told {} times in {count} records", told[key]);
    }
    println!("{count} records: {told:?}");
}
