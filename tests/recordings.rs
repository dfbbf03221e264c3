//! Recordings of real clusters: `fixtures/recordings/*/events.jsonl`.
//!
//! `expected-events.jsonl` beside each holds the events that it must give; `expect.py`,
//! which shares nothing with the engine, made them. `native-hooks.jsonl` holds what
//! Ganeti's own hooks saw at the same time: the second witness.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ganeti_hookd::engine::replay::Replay;
use ganeti_hookd::ganeti::event::{Event, Phase, PostStatus};
use ganeti_hookd::ganeti::job::{JobId, Timestamp, op_input, parse};
use ganeti_hookd::ganeti::object::{Object, ObjectKind};
use ganeti_hookd::ganeti::opcodes::object;
use ganeti_hookd::ganeti::recording::{Change, Line, parse_line};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// Every directory with a recording.
fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings");
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries.filter(|dir| dir.join("events.jsonl").is_file()).collect();
    found.sort();
    assert!(found.len() >= 8, "{} recordings: some have been lost", found.len());
    found
}

fn lines(recording: &Path) -> Vec<Line> {
    let text = fs::read(recording.join("events.jsonl")).unwrap();
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines.filter_map(|(number, line)| parse_line(number + 1, line).unwrap()).collect()
}

fn json_lines<T: DeserializeOwned>(file: &Path) -> Vec<T> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the engine makes of a recording.
fn replayed(recording: &Path) -> Vec<Event> {
    let mut replay = Replay::default();
    let lines = lines(recording);
    lines.iter().flat_map(|line| replay.line(line).unwrap()).map(|(_, event)| event).collect()
}

/// An event as `expected-events.jsonl` has it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    job: JobId,
    op: u32,
    phase: Phase,
    status: Option<PostStatus>,
    executed: bool,
}

impl From<&Event> for Expected {
    fn from(event: &Event) -> Self {
        let Event { key, status, executed, .. } = *event;
        Self { job: key.job, op: key.op, phase: key.phase, status, executed }
    }
}

#[test]
fn every_recording_gives_the_events_beside_it() {
    let mut count = 0;
    for recording in recordings() {
        let expected: Vec<Expected> = json_lines(&recording.join("expected-events.jsonl"));
        let replayed: Vec<Expected> = replayed(&recording).iter().map(Expected::from).collect();
        let differs = expected.iter().zip(&replayed).position(|(expected, event)| expected != event);
        if let Some(n) = differs {
            panic!("{}, event {n}: {:?}, not {:?}", recording.display(), replayed[n], expected[n]);
        }
        assert_eq!(expected.len(), replayed.len(), "number of events of {}", recording.display());
        count += expected.len();
    }
    println!("{count} events");
}

/// Whether each line may be missed: a version of a job that is followed by another one,
/// with nothing in between at which the file is read again (a move, the process' end).
fn may_be_missed(lines: &[Line]) -> Vec<bool> {
    let (mut followed, mut ends) = (BTreeSet::new(), BTreeSet::new());
    let mut missable = Vec::new();
    for line in lines.iter().rev() {
        missable.push(match line.change() {
            Change::Content(path, content) => JobId::from_file_name(path.as_bytes()).is_some_and(|id| {
                let job = parse(id, content.as_bytes()).unwrap();
                let ends = job.process_id.is_some_and(|pid| ends.remove(&pid));
                !followed.insert(path) && !ends && !line.initial
            }),
            Change::Moved(path, _) | Change::Removed(path) => {
                followed.remove(path);
                false
            }
            Change::Exit(pid) => {
                ends.insert(pid);
                false
            }
            Change::Other => false,
        });
    }
    missable.reverse();
    missable
}

/// The events of each job.
fn by_job<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeMap<(JobId, Timestamp), Vec<Expected>> {
    let mut jobs: BTreeMap<_, Vec<Expected>> = BTreeMap::new();
    for event in events {
        jobs.entry((event.key.job, event.received)).or_default().push(event.into());
    }
    jobs
}

#[test]
fn versions_that_were_missed_change_nothing() {
    for recording in recordings() {
        let (expected, lines) = (replayed(&recording), lines(&recording));
        let missable = may_be_missed(&lines);
        for (seen_of, name) in [(usize::MAX, "none"), (2, "every second"), (3, "every third")] {
            let is_seen = |n: usize| !missable[n] || n % seen_of == seen_of - 1;
            let mut replay = Replay::default();
            let seen = lines.iter().enumerate().filter(|(n, _)| is_seen(*n));
            let events: Vec<(i64, Event)> = seen.flat_map(|(_, line)| replay.line(line).unwrap()).collect();
            assert!(events.iter().map(|(seq, _)| *seq).eq(1..=events.len() as i64), "they are numbered");
            let events = by_job(events.iter().map(|(_, event)| event));
            assert_eq!(events, by_job(&expected), "{}, {name} of the rest seen", recording.display());
        }
    }
}

/// One run of Ganeti's own hooks on one node.
#[derive(Deserialize)]
struct NativeRun {
    t: f64,
    phase: Phase,
    env: BTreeMap<String, String>,
}

/// An opcode, as the last version of its job file tells of it.
struct Executed {
    job: JobId,
    op: u32,
    code: String,
    input: String,
    from: Timestamp,
    /// None while it executes, and when it never ended by itself.
    to: Option<Timestamp>,
}

impl NativeRun {
    /// Whether it was for this opcode: the same code and target, while it executed.
    fn is_of(&self, op: &Executed) -> bool {
        let t = Timestamp::from_secs_f64(self.t);
        let target = self.env.get("GANETI_OP_TARGET");
        self.env["GANETI_OP_CODE"] == op.code
            && op.from <= t
            && op.to.is_none_or(|to| t <= to)
            // Opcodes on the cluster do not name it.
            && (self.env["GANETI_OBJECT_TYPE"] == "CLUSTER"
                || target.is_none_or(|target| op.input.contains(&format!("\"{target}\""))))
    }
}

/// Every opcode of a recording that executed, with the last version before luxid's rewrite.
fn executed(recording: &Path) -> Vec<Executed> {
    let mut found = BTreeMap::new();
    for line in lines(recording) {
        let Change::Content(path, content) = line.change() else { continue };
        let Some(id) = JobId::from_file_name(path.as_bytes()) else { continue };
        let job = parse(id, content.as_bytes()).unwrap();
        for (n, op) in job.ops.iter().enumerate().filter(|(_, op)| !op.death_detected) {
            let Some(from) = op.executed else { continue };
            let input = Value::from(op_input(content.as_bytes(), n).unwrap().unwrap().input).to_string();
            let (n, code) = (u32::try_from(n).unwrap(), op.code.to_string());
            let known = Executed { job: id, op: n, code, input, from, to: op.ended };
            found.insert((id, job.received, n), known);
        }
    }
    found.into_values().collect()
}

/// Whether our events tell of it too: a pre, and with a post hook a post that says
/// `succeeded`, since Ganeti runs its own post hooks only then.
fn is_told(run: &NativeRun, op: &Executed, events: &[Event]) -> bool {
    events.iter().any(|event| {
        (event.key.job, event.key.op, event.key.phase) == (op.job, op.op, run.phase)
            && event.op_code == op.code
            && (run.phase == Phase::Pre || event.status == Some(PostStatus::Succeeded))
    })
}

/// `fixtures/situations/surrogate.jsonl`: job 1 has a plain reason, jobs 2 and 12 one that was
/// not UTF-8; the process of job 12 died.
#[test]
fn a_reason_that_is_not_utf8_costs_no_other_variable() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/situations/surrogate.jsonl");
    let (mut replay, mut warnings) = (Replay::default(), Vec::new());
    let mut seen = BTreeMap::new();
    for line in json_lines::<Line>(&file) {
        for (_, event) in replay.line(&line).unwrap() {
            let view = replay.view(&event);
            warnings.extend(replay.take_warnings());
            seen.insert(event.key.to_string(), (event.status, view));
        }
    }
    for phase in ["pre", "post"] {
        let (plain, not_utf8) = (&seen[&format!("1.0.{phase}")].1, &seen[&format!("2.0.{phase}")].1);
        assert!(plain.variables.len() >= 20 && !plain.nodes.is_empty(), "{plain:?}");
        assert_eq!(plain, not_utf8, "{phase}");
    }
    assert_eq!(seen["12.0.post"].0, Some(PostStatus::Disappeared));
    let about = |job: &str| warnings.iter().filter(|warning| warning.starts_with(job)).count();
    assert_eq!((about("1.0."), about("2.0."), about("12.0.")), (0, 1, 1), "{warnings:?}");
    assert!(warnings[0].contains("input holds in reason is not all UTF-8"), "{warnings:?}");
}

#[test]
fn what_ganetis_own_hooks_saw_is_told() {
    let mut count = 0;
    for recording in recordings() {
        let native = recording.join("native-hooks.jsonl");
        // No opcode with hooks of its own ran while archiving was recorded.
        if recording.ends_with("archive") {
            assert!(!native.exists());
            continue;
        }
        let (events, ops) = (replayed(&recording), executed(&recording));
        for run in json_lines::<NativeRun>(&native) {
            let name = || format!("{}: {:?} of {:?} at {}", recording.display(), run.phase, run.env, run.t);
            let candidates: Vec<&Executed> = ops.iter().filter(|op| run.is_of(op)).collect();
            assert!(!candidates.is_empty(), "no opcode executed for {}", name());
            for op in candidates {
                assert!(is_told(&run, op, &events), "{}.{} lacks {}", op.job, op.op, name());
            }
            count += 1;
        }
    }
    assert!(count >= 457, "only {count} runs of Ganeti's own hooks");
}

/// A job file, as far as its opcodes' inputs.
#[derive(Deserialize)]
struct Inputs {
    ops: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    input: Box<RawValue>,
}

/// The object of an opcode by the fields that its input has, whatever table there is.
fn naive_object(code: &str, input: &Value, cluster: &str) -> Option<Object> {
    let named = |kind, name: &Value| {
        let name = name.as_str().filter(|name| !name.is_empty())?;
        Some(Object { kind, name: Some(name.to_owned()) })
    };
    let the_cluster = || named(ObjectKind::Cluster, &Value::from(cluster));
    if code.starts_with("OP_TEST_") {
        return None;
    }
    if code.starts_with("OP_CLUSTER_") && code != "OP_CLUSTER_VERIFY_GROUP" {
        return the_cluster();
    }
    let kinds = [
        ("instance", ObjectKind::Instance),
        ("node", ObjectKind::Node),
        ("network", ObjectKind::Network),
        ("group", ObjectKind::Group),
    ];
    if code.starts_with("OP_TAGS_") && input["kind"] == "cluster" {
        return the_cluster();
    }
    let by_kind = kinds.iter().filter(|(word, _)| input["kind"].as_str().is_some_and(|k| k.ends_with(word)));
    let by_name = kinds.iter().map(|(word, kind)| (*kind, &input[format!("{word}_name")]));
    let mut fields = by_kind.map(|(_, kind)| (*kind, &input["name"])).chain(by_name);
    if let Some(found) = fields.find_map(|(kind, name)| named(kind, name)) {
        return Some(found);
    }
    let lists = [
        (ObjectKind::Instance, &input["instances"]),
        (ObjectKind::Node, &input["nodes"]),
        (ObjectKind::Node, &input["node_names"]),
    ];
    let (kind, items) = lists.iter().find_map(|(kind, list)| Some((*kind, list.as_array()?)))?;
    match items.as_slice() {
        [] => None,
        [only] => named(kind, only.get("instance_name").unwrap_or(only)),
        _ => (!code.contains("QUERY")).then_some(Object { kind, name: None }),
    }
}

#[test]
fn objects_are_those_that_the_inputs_name() {
    let (mut codes, mut count) = (BTreeSet::new(), 0);
    for recording in recordings() {
        for line in lines(&recording) {
            let Change::Content(path, content) = line.change() else { continue };
            if JobId::from_file_name(path.as_bytes()).is_none() {
                continue;
            }
            let job: Inputs = serde_json::from_str(content).unwrap();
            for Input { input: raw } in job.ops {
                let input: Value = serde_json::from_str(raw.get()).unwrap();
                let code = input["OP_ID"].as_str().unwrap();
                let expected = naive_object(code, &input, "lab.example");
                assert_eq!(object(code, &raw, Some("lab.example")), expected, "{code} of {path}: {input}");
                codes.insert(code.to_owned());
                count += 1;
            }
        }
    }
    assert!(codes.len() >= 65 && count >= 4000, "only {} opcodes, {count} inputs", codes.len());
    println!("{count} inputs of {} opcodes", codes.len());
}
