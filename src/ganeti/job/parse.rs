//! Reading a job file: what both of Ganeti's writers, Python and Haskell, produce.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Job, JobId, Opcode, Status, Timestamp};

/// The last source of the reason trail of a job that luxid found dead
/// (Ganeti: `Ganeti.Constants.opcodeReasonSrcLuxid` and `Ganeti.JQScheduler`).
const DEATH_DETECTION: &str = "gnt:daemon:luxid:deathdetection";

/// The parameters of one opcode, as in the job file's `input`.
pub type OpInput = serde_json::Map<String, serde_json::Value>;

/// Why a file is not a job.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not of a job's shape.
    #[error("not a job: {0}")]
    Json(#[from] serde_json::Error),
    /// The file's name and its content speak of different jobs.
    #[error("the file is named after job {name} but holds job {content}")]
    OtherJob {
        /// The number in the file's name.
        name: JobId,
        /// The number in the file.
        content: JobId,
    },
}

/// Reads the job that `bytes`, the content of the file of job `id`, holds.
///
/// # Errors
/// When the content is not a job of that number.
pub fn parse(id: JobId, bytes: &[u8]) -> Result<Job<'_>, ParseError> {
    let raw: RawJob<'_> = serde_json::from_slice(bytes)?;
    if raw.id != id {
        return Err(ParseError::OtherJob { name: id, content: raw.id });
    }
    Ok(Job {
        id,
        received: raw.received_timestamp.unwrap_or_default(),
        livelock: raw.livelock.map(|Text(path)| path),
        process_id: raw.process_id.filter(|pid| *pid > 0),
        started: raw.start_timestamp,
        ops: raw.ops.into_iter().map(Opcode::from).collect(),
    })
}

/// The parameters of opcode `op` of a job file, in full.
///
/// # Errors
/// When the content is not a job; `None` when the job has no such opcode.
pub fn op_input(bytes: &[u8], op: usize) -> Result<Option<OpInput>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Inputs<'a> {
        #[serde(borrow)]
        ops: Vec<Input<'a>>,
    }
    #[derive(Deserialize)]
    struct Input<'a> {
        #[serde(borrow)]
        input: &'a RawValue,
    }
    let job: Inputs<'_> = serde_json::from_slice(bytes)?;
    job.ops.get(op).map(|op| serde_json::from_str(op.input.get())).transpose()
}

#[derive(Deserialize)]
struct RawJob<'a> {
    id: JobId,
    received_timestamp: Option<Timestamp>,
    start_timestamp: Option<Timestamp>,
    #[serde(borrow)]
    livelock: Option<Text<'a>>,
    process_id: Option<u32>,
    #[serde(borrow)]
    ops: Vec<RawOpcode<'a>>,
}

#[derive(Deserialize)]
struct RawOpcode<'a> {
    #[serde(borrow)]
    input: RawInput<'a>,
    status: Status,
    start_timestamp: Option<Timestamp>,
    exec_timestamp: Option<Timestamp>,
    end_timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
struct RawInput<'a> {
    #[serde(borrow, rename = "OP_ID")]
    op_id: Text<'a>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
}

impl<'a> From<RawOpcode<'a>> for Opcode<'a> {
    fn from(raw: RawOpcode<'a>) -> Self {
        Self {
            code: raw.input.op_id.0,
            status: raw.status,
            started: raw.start_timestamp,
            executed: raw.exec_timestamp,
            ended: raw.end_timestamp,
            death_detected: raw.input.reason.is_some_and(ends_in_death_detection),
        }
    }
}

/// A string that is borrowed wherever it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a reason trail, a list of `[source, reason, time]`, ends in luxid's death
/// detection. A trail of another shape is no evidence of a death and no error either.
fn ends_in_death_detection(trail: &RawValue) -> bool {
    trail.get().contains(DEATH_DETECTION)
        && serde_json::from_str::<Vec<serde_json::Value>>(trail.get())
            .is_ok_and(|trail| trail.last().is_some_and(|entry| entry[0] == DEATH_DETECTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: i64) -> JobId {
        id.try_into().unwrap()
    }

    #[test]
    fn both_writers_are_understood() {
        let haskell = br#"{"id":7,"ops":[{"input":{"OP_ID":"OP_TEST_DELAY","duration":1},"status":"queued","result":null,"log":[],"priority":0}],"received_timestamp":[1,5]}"#;
        let python = b"{\"received_timestamp\": [1, 5], \"ops\": [{\"log\": [], \"status\": \"queued\", \"start_timestamp\": null, \"input\": {\"reason\": null, \"OP_ID\": \"OP_TEST_DELAY\"}}], \"id\": 7, \"livelock\": null, \"process_id\": null}\n";
        let (haskell, python) = (parse(id(7), haskell).unwrap(), parse(id(7), python).unwrap());
        assert_eq!(haskell, python);
        assert_eq!(haskell.received, Timestamp::from((1, 5)));
        assert!(matches!(haskell.ops[0].code, Cow::Borrowed(_)));
    }

    #[test]
    fn a_death_is_only_the_end_of_the_trail() {
        let job = |reason: &str| {
            format!(r#"{{"id":1,"ops":[{{"input":{{"OP_ID":"X","reason":{reason}}},"status":"error"}}]}}"#)
        };
        let death = |reason: &str| parse(id(1), job(reason).as_bytes()).unwrap().ops[0].death_detected;
        assert!(death(r#"[["a","b",1],["gnt:daemon:luxid:deathdetection","x",2]]"#));
        for other in [
            r#"[["gnt:daemon:luxid:deathdetection","x",2],["a","b",1]]"#,
            r#"[["a","gnt:daemon:luxid:deathdetection",2]]"#,
            r#"["gnt:daemon:luxid:deathdetection"]"#,
            r#"{"gnt:daemon:luxid:deathdetection":1}"#,
            r#""gnt:daemon:luxid:deathdetection""#,
            "null",
            "[]",
            "17",
        ] {
            assert!(!death(other), "{other}");
        }
    }

    #[test]
    fn logs_and_results_may_hold_anything() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let job =
            format!(r#"{{"id":1,"ops":[{{"result":{deep},"input":{{"OP_ID":"X"}},"status":"success"}}]}}"#);
        assert_eq!(parse(id(1), job.as_bytes()).unwrap().ops.len(), 1);
    }

    #[test]
    fn what_is_not_a_job_says_why() {
        for (text, why) in [
            ("", "EOF"),
            ("[]", "invalid length"),
            (r#"{"id":2,"ops":[]}"#, "named after job 1 but holds job 2"),
            (r#"{"id":"1","ops":[]}"#, "invalid type"),
            (r#"{"id":1,"ops":[{"input":{"OP_ID":"X"},"status":"lost"}]}"#, "unknown variant `lost`"),
            (r#"{"id":1,"ops":[{"input":{},"status":"queued"}]}"#, "missing field `OP_ID`"),
            (r#"{"id":1,"ops":[{"input":{"OP_ID":"X"},"status":"queued"}]"#, "EOF"),
        ] {
            let error = parse(id(1), text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
