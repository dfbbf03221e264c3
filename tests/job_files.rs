//! Job files: what both of Ganeti's writers produce is read, also by old versions and in
//! any order; what is no job is refused, and never more than that.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use ganeti_hookd::engine::transitions::{self, Progress};
use ganeti_hookd::ganeti::job::{Job, JobId, Liveness, OpText, Status, Timestamp, op_input, parse};
use ganeti_hookd::ganeti::recording::parse_line;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

fn id(id: i64) -> JobId {
    id.try_into().unwrap()
}

/// Reads job 1.
fn read(text: &str) -> Result<Job<'_>, String> {
    parse(id(1), text.as_bytes()).map_err(|error| error.to_string())
}

/// The job as it was understood: two texts may say the same.
fn without_text(mut job: Job<'_>) -> Job<'_> {
    job.ops.iter_mut().for_each(|op| op.text = OpText::default());
    job
}

#[test]
fn absent_keys_and_nulls_are_the_same() {
    let absent = r#"{"id":1,"ops":[{"input":{"OP_ID":"OP_X"},"status":"queued"}]}"#;
    let null = r#"{"received_timestamp": null, "start_timestamp": null, "end_timestamp": null,
        "livelock": null, "process_id": null, "id": 1, "ops": [{"status": "queued", "result": null,
        "start_timestamp": null, "exec_timestamp": null, "end_timestamp": null, "log": null,
        "priority": null, "input": {"reason": null, "comment": null, "OP_ID": "OP_X"}}]}
        "#;
    let job = read(absent).unwrap();
    assert_eq!(without_text(job.clone()), without_text(read(null).unwrap()));
    assert_eq!((job.received, job.livelock, job.process_id), (Timestamp::default(), None, None));
    assert_eq!(job.ops[0].status, Status::Queued);
}

#[test]
fn keys_come_in_any_order_and_unknown_ones_are_passed_over() {
    let one = read(
        r#"{"id":1,"process_id":7,"livelock":"l","received_timestamp":[1,2],"start_timestamp":[3,4],"ops":[
            {"input":{"OP_ID":"OP_X","reason":[]},"status":"running","start_timestamp":[5,6],"exec_timestamp":[7,8]}]}"#,
    );
    let other = read(
        r#"{"ops":[{"exec_timestamp":[7,8],"start_timestamp":[5,6],"colour":{"a":[1e999]},"status":"running",
            "input":{"reason":[],"depends":[[-1,["success"]]],"OP_ID":"OP_X"}}],"start_timestamp":[3,4],
            "serial_no":null,"received_timestamp":[1,2],"livelock":"l","process_id":7,"id":1}"#,
    );
    assert_eq!(without_text(one.unwrap()), without_text(other.unwrap()));
}

#[test]
fn numbers_that_do_not_matter_may_be_anything() {
    let job = read(
        r#"{"id":1,"ops":[{"input":{"OP_ID":"OP_X","duration":20.0,"n":-1e400},"priority":0.5,"status":"waiting",
            "log":[[1.5,[1.0,2.0],"message","x"]],"result":[1e308]}]}"#,
    );
    assert_eq!(job.unwrap().ops.len(), 1);
}

#[test]
fn numbers_that_only_python_knows_are_passed_over() {
    let text = "\u{feff}{\"id\":1,\"ops\":[{\"input\":{\"OP_ID\":\"OP_X\",\"a\":NaN,\"b\":\"NaN\\\"NaN\",\"c\":[-Infinity]},\
                \"status\":\"success\",\"log\":[[1,[1,2],\"message\",Infinity]],\"result\":[NaN,{\"x\":-Infinity}]}]}";
    let job = read(text).unwrap();
    assert_eq!((job.ops.len(), job.ops[0].status), (1, Status::Success));
    let input = op_input(text.as_bytes(), 0).unwrap().unwrap().input;
    assert_eq!(
        (&input["a"], &input["b"], &input["c"]),
        (&json!("nan"), &json!("NaN\"NaN"), &json!(["-inf"]))
    );
    for bad in
        ["{\"id\":NaN,\"ops\":[]}", "{\"id\":1,\"ops\":NaN}", "{\"id\":1,\"ops\":[],NaN}", "NaN", "\u{feff}"]
    {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn escapes_are_read() {
    let text = r#"{"id":1,"livelock":"\/run\/l\u00f6ck","ops":[{"input":{"OP_ID":"OP_\u0054EST\u005fDELAY"},"status":"queued"}]}"#;
    let job = read(text).unwrap();
    assert_eq!(job.ops[0].code, "OP_TEST_DELAY");
    assert_eq!(job.livelock.unwrap(), "/run/löck");
}

#[test]
fn output_that_was_no_text_is_passed_over() {
    // Python writes bytes that are not UTF-8 as lone surrogates.
    let text = r#"{"id":1,"ops":[{"input":{"OP_ID":"OP_X"},"status":"error","log":[[1,[1,2],"message","\udcff"]],"result":"\ud800"}]}"#;
    assert_eq!(read(text).unwrap().ops[0].status, Status::Error);
}

#[test]
fn timestamps_keep_their_microseconds() {
    let job = read(r#"{"id":1,"received_timestamp":[1795363318,594001],"ops":[]}"#).unwrap();
    assert_eq!(job.received.as_micros(), 1_795_363_318_594_001);
    assert_eq!(<(i64, i64)>::from(job.received), (1_795_363_318, 594_001));
}

#[test]
fn what_is_not_a_job_is_refused_with_a_reason() {
    let op = r#"{"input":{"OP_ID":"OP_X"},"status":"queued"}"#;
    for (text, reason) in [
        (format!(r#"{{"id":1,"id":1,"ops":[{op}]}}"#), "duplicate field `id`"),
        (format!(r#"{{"id":1,"ops":[{op}],"ops":[]}}"#), "duplicate field `ops`"),
        (
            r#"{"id":1,"ops":[{"input":{"OP_ID":"OP_X","OP_ID":"OP_Y"},"status":"queued"}]}"#.into(),
            "duplicate field `OP_ID`",
        ),
        (format!(r#"{{"id":1.0,"ops":[{op}]}}"#), "invalid type: floating point `1.0`"),
        (format!(r#"{{"id":0,"ops":[{op}]}}"#), "job numbers are whole numbers from 1"),
        (format!(r#"{{"id":9223372036854775808,"ops":[{op}]}}"#), "invalid value"),
        (format!(r#"{{"id":1,"received_timestamp":[1.5,0],"ops":[{op}]}}"#), "floating point `1.5`"),
        (format!(r#"{{"id":1,"received_timestamp":[1],"ops":[{op}]}}"#), "invalid length 1"),
        (format!(r#"{{"id":1,"process_id":-1,"ops":[{op}]}}"#), "invalid value: integer `-1`"),
        (format!(r#"{{"id":1,"ops":[{op}]}} trailing"#), "trailing characters"),
        (r#"{"id":1,"ops":null}"#.into(), "invalid type: null"),
        (r#"{"id":1,"ops":{}}"#.into(), "invalid type: map"),
        (r#"{"id":1,"ops":[{"input":null,"status":"queued"}]}"#.into(), "invalid type: null"),
        (r#"{"id":1,"ops":[{"input":{"OP_ID":"OP_X"},"status":null}]}"#.into(), "expected value"),
        (
            r#"{"id":1,"ops":[{"input":{"OP_ID":"\ud800"},"status":"queued"}]}"#.into(),
            "unexpected end of hex escape",
        ),
        (r#"{"id":1}"#.into(), "missing field `ops`"),
    ] {
        let error = read(&text).expect_err(&text);
        assert!(error.contains(reason), "{text}: {error}");
    }
    let not_utf8 =
        parse(id(1), b"{\"id\":1,\"ops\":[{\"input\":{\"OP_ID\":\"\xff\"},\"status\":\"queued\"}]}");
    assert!(not_utf8.is_err());
}

#[test]
fn deep_nesting_is_passed_over_where_it_does_not_matter() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let job = |result: &str, reason: &str| {
        format!(
            r#"{{"id":1,"ops":[{{"input":{{"OP_ID":"OP_X","reason":{reason}}},"status":"error","result":{result}}}]}}"#
        )
    };
    assert!(read(&job(&deep, "null")).is_ok());
    let trail = deep.replacen("[]", r#"["gnt:daemon:luxid:deathdetection"]"#, 1);
    assert!(!read(&job("null", &trail)).unwrap().ops[0].death_detected);
    // Its parameters are built, as far as that goes.
    let reading = op_input(job("null", &deep).as_bytes(), 0).unwrap().unwrap();
    assert_eq!(
        (&reading.input["OP_ID"], &reading.bad_fields[..]),
        (&json!("OP_X"), &["reason".to_owned()][..])
    );
}

#[test]
fn ten_thousand_opcodes_are_good_input() {
    let op = |n: usize| {
        json!({"input": {"OP_ID": format!("OP_{n}")}, "status": "success", "log": [[1, [1, 2], "message", "x"]],
            "start_timestamp": [n, 1], "exec_timestamp": [n, 2], "end_timestamp": [n, 3]})
    };
    let text = json!({"id": 1, "ops": (0..10_000).map(op).collect::<Vec<Value>>()}).to_string();
    let job = read(&text).unwrap();
    assert_eq!((job.ops.len(), job.ops[9_999].code.as_ref()), (10_000, "OP_9999"));
    let step = transitions::step(Progress::default(), &job, Liveness::Unknown);
    assert_eq!((step.transitions.len(), step.progress.next), (20_000, 10_000));
}

#[test]
fn parameters_are_read_in_full_from_the_opcode_asked_for() {
    let text =
        br#"{"id":1,"ops":[{"input":{"OP_ID":"A"}},{"input":{"OP_ID":"B","nics":[{"ip":null}],"n":20.0}}]}"#;
    let reading = op_input(text, 1).unwrap().unwrap();
    assert!(reading.bad_fields.is_empty());
    assert_eq!(Value::from(reading.input), json!({"OP_ID": "B", "nics": [{"ip": null}], "n": 20.0}));
    assert!(op_input(text, 2).unwrap().is_none());
}

#[test]
fn a_bad_field_of_an_input_costs_itself() {
    let text = br#"{"id":1,"ops":[{"input":{"OP_ID":"OP_A","reason":[["gnt:user","caf\udce9",1]],"n":1e400,
        "osparams":{"a":"\udc80","b":"c"},"instance_name":"web"}}]}"#;
    let reading = op_input(text, 0).unwrap().unwrap();
    let input = json!({"OP_ID": "OP_A", "reason": [["gnt:user", "caf\u{fffd}", 1]], "n": "inf",
        "osparams": {"a": "\u{fffd}", "b": "c"}, "instance_name": "web"});
    assert_eq!(
        (Value::from(reading.input), reading.bad_fields),
        (input, ["reason", "n", "osparams"].map(str::to_owned).into())
    );
}

/// Every version of every job in the recordings.
static VERSIONS: LazyLock<Vec<(JobId, String)>> = LazyLock::new(|| {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings");
    let dirs = fs::read_dir(recordings).unwrap().map(|dir| dir.unwrap().path());
    let texts = dirs.filter_map(|dir| fs::read(dir.join("events.jsonl")).ok());
    texts.flat_map(|text| text.split(|byte| *byte == b'\n').filter_map(version).collect::<Vec<_>>()).collect()
});

fn version(line: &[u8]) -> Option<(JobId, String)> {
    let line = parse_line(1, line).unwrap()?;
    Some((JobId::from_file_name(line.path?.as_bytes())?, line.content?))
}

/// Reads a version with a parser that knows nothing of jobs.
fn naively(text: &str) -> Vec<(String, String, [bool; 3])> {
    let job: Value = serde_json::from_str(text).unwrap();
    let is_set = |op: &Value, key: &str| op.get(key).is_some_and(|time| !time.is_null());
    let times = ["start_timestamp", "exec_timestamp", "end_timestamp"];
    let ops = job["ops"].as_array().unwrap().iter();
    ops.map(|op| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&op["input"]["OP_ID"]), text(&op["status"]), times.map(|key| is_set(op, key)))
    })
    .collect()
}

#[test]
fn every_recorded_version_is_read_as_it_is() {
    assert!(VERSIONS.len() > 3_000, "only {} versions", VERSIONS.len());
    for (id, text) in VERSIONS.iter() {
        let job = parse(*id, text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let ops = job.ops.iter().map(|op| {
            let times = [op.started, op.executed, op.ended].map(|time| time.is_some());
            (op.code.to_string(), format!("{:?}", op.status).to_lowercase(), times)
        });
        assert_eq!(ops.collect::<Vec<_>>(), naively(text), "{text}");
        assert_eq!(job.clone().into_owned(), job);
    }
}

/// A change to a file: bytes removed, overwritten or put in.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Overwrite(Index, u8),
    Insert(Index, &'static str),
    Remove(Index, usize),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let pieces =
        vec!["null", "[", "]", "{", "}", "\"", ",", "-1", "1e999", "\\u0000", "\"ops\":", "\"id\":1,"];
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Overwrite(at, byte)),
        (any::<Index>(), prop::sample::select(pieces)).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        (any::<Index>(), 1..40usize).prop_map(|(at, len)| Damage::Remove(at, len)),
    ]
}

fn damage(bytes: &mut Vec<u8>, damage: &Damage) {
    let len = bytes.len();
    match damage {
        _ if len == 0 => {}
        Damage::Cut(at) => bytes.truncate(at.index(len)),
        Damage::Overwrite(at, byte) => bytes[at.index(len)] = *byte,
        Damage::Insert(at, piece) => drop(bytes.splice(at.index(len)..at.index(len), piece.bytes())),
        Damage::Remove(at, n) => drop(bytes.drain(at.index(len)..(at.index(len) + n).min(len))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_refused_or_read_but_nothing_breaks(
        version in any::<Index>(),
        damages in prop::collection::vec(any_damage(), 1..4),
    ) {
        let (id, text) = version.get(&VERSIONS);
        let mut bytes = text.clone().into_bytes();
        damages.iter().for_each(|done| damage(&mut bytes, done));
        if let Ok(job) = parse(*id, &bytes) {
            // Whoever reads a job can also go on with it.
            let step = transitions::step(Progress::default(), &job, Liveness::Dead);
            prop_assert!(step.progress.next as usize <= job.ops.len());
            prop_assert_eq!(job.id, *id);
            for op in 0..job.ops.len() {
                let _ = op_input(&bytes, op);
            }
        } else {
            let _ = op_input(&bytes, 0);
        }
    }

    #[test]
    fn a_truncated_file_is_never_a_job(version in any::<Index>(), at in any::<Index>()) {
        let (id, text) = version.get(&VERSIONS);
        let end = at.index(text.trim_end().len());
        prop_assert!(parse(*id, &text.as_bytes()[..end]).is_err());
    }
}
