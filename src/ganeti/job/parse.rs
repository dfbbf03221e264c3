//! Reading a job file: what both of Ganeti's writers, Python and Haskell, produce.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::old::is_old;
use super::{Job, JobId, OpText, Opcode, Status, Timestamp};
use crate::ganeti::python_json;
use crate::ganeti::text::plain;

/// The last source of the reason trail of a job that luxid found dead
/// (Ganeti: `Ganeti.Constants.opcodeReasonSrcLuxid` and `Ganeti.JQScheduler`).
const DEATH_DETECTION: &str = "gnt:daemon:luxid:deathdetection";

/// The longest name of an opcode, in bytes; Ganeti's longest has 34.
const OP_ID_MAX: usize = 64;

/// No path is longer, in bytes (Linux: `PATH_MAX` less the NUL).
const PATH_MAX: usize = 4095;

/// Bytes of a bad file's content that an error quotes.
const QUOTE_MAX: usize = 256;

/// The parameters of one opcode, as in the job file's `input`.
pub type OpInput = serde_json::Map<String, serde_json::Value>;

/// The most names of bad fields that are kept.
const BAD_FIELDS_MAX: usize = 8;

/// The parameters of one opcode, as far as they can be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputReading {
    /// What can be read.
    pub input: OpInput,
    /// The first fields of which that is not all, or nothing: plain text.
    pub bad_fields: Vec<String>,
}

/// Why a file is not a job.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not of a job's shape.
    #[error("not a job: {}", plain(&.0.to_string(), QUOTE_MAX))]
    Json(#[from] serde_json::Error),
    /// An opcode has a name that is none.
    #[error(
        "not a job: the OP_ID of opcode {op} is \"{code}\"; an OP_ID is OP_ and then capital letters, digits and \
         underscores, {OP_ID_MAX} bytes at most"
    )]
    OpId {
        /// The opcode's place in the job, from 0.
        op: usize,
        /// What stands there, cut.
        code: String,
    },
    /// The file's name and its content speak of different jobs.
    #[error("the file is named after job {name} but holds job {content}")]
    OtherJob {
        /// The number in the file's name.
        name: JobId,
        /// The number in the file.
        content: JobId,
    },
}

/// Reads the job that `bytes`, the content of the file of job `id`, holds. Of an old one
/// ([`is_old`]) nothing is told: it has no opcodes.
///
/// # Errors
/// When the content is not a job of that number.
pub fn parse(id: JobId, bytes: &[u8]) -> Result<Job<'_>, ParseError> {
    let error = match parse_json(id, bytes) {
        Err(ParseError::Json(error)) => error,
        parsed => return parsed,
    };
    if is_old(id, bytes) {
        return Ok(without_opcodes(id));
    }
    let json = python_json::as_json(bytes).ok_or(error)?;
    parse_json(id, &json).map(Job::into_owned)
}

fn parse_json(id: JobId, bytes: &[u8]) -> Result<Job<'_>, ParseError> {
    let raw: RawJob<'_> = serde_json::from_slice(bytes)?;
    if raw.id != id {
        return Err(ParseError::OtherJob { name: id, content: raw.id });
    }
    Ok(Job {
        id,
        received: raw.received_timestamp.unwrap_or_default(),
        livelock: raw.livelock.map(|Text(path)| path).filter(|path| is_path(path)),
        process_id: raw.process_id.filter(|pid| *pid > 0),
        started: raw.start_timestamp,
        ops: raw.ops.into_iter().enumerate().map(opcode).collect::<Result<_, _>>()?,
    })
}

fn without_opcodes(id: JobId) -> Job<'static> {
    let received = Timestamp::default();
    Job { id, received, livelock: None, process_id: None, started: None, ops: Vec::new() }
}

/// What is no path proves nothing and is not carried along.
fn is_path(text: &str) -> bool {
    text.len() <= PATH_MAX && !text.contains('\0')
}

/// Whether this names an opcode (Ganeti: `opcodes.py`, `OpCode.OP_ID`).
fn is_op_id(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    text.len() <= OP_ID_MAX
        && text.strip_prefix("OP_").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_part))
}

/// The parameters of opcode `op` of a job file. A field that cannot be read costs that field.
///
/// # Errors
/// When the content is not a job; `None` when the job has no such opcode.
pub fn op_input(bytes: &[u8], op: usize) -> Result<Option<InputReading>, serde_json::Error> {
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
    let input = |bytes: &[u8]| {
        let job: Inputs<'_> = serde_json::from_slice(bytes)?;
        job.ops.get(op).map(|op| input_of(op.input)).transpose()
    };
    input(bytes).or_else(|error| input(&python_json::as_json(bytes).ok_or(error)?))
}

fn input_of(raw: &RawValue) -> Result<InputReading, serde_json::Error> {
    if let Ok(input) = serde_json::from_str(raw.get()) {
        return Ok(InputReading { input, bad_fields: Vec::new() });
    }
    let mut reading = InputReading::default();
    for (name, raw) in python_json::members(raw)? {
        let field = python_json::read(raw);
        if field.is_damaged && reading.bad_fields.len() < BAD_FIELDS_MAX {
            reading.bad_fields.push(plain(&name, OP_ID_MAX));
        }
        reading.input.extend(field.value.map(|value| (name, value)));
    }
    Ok(reading)
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
    input: &'a RawValue,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
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

/// The opcode at place `op` of a job.
fn opcode<'a>((op, raw): (usize, RawOpcode<'a>)) -> Result<Opcode<'a>, ParseError> {
    let RawInput { op_id: Text(code), reason } = serde_json::from_str(raw.input.get())?;
    if !is_op_id(&code) {
        return Err(ParseError::OpId { op, code: plain(&code, OP_ID_MAX) });
    }
    Ok(Opcode {
        code,
        status: raw.status,
        started: raw.start_timestamp,
        executed: raw.exec_timestamp,
        ended: raw.end_timestamp,
        death_detected: reason.is_some_and(ends_in_death_detection),
        text: OpText {
            input: Cow::Borrowed(raw.input.get()),
            reason: reason.map(text).unwrap_or_default(),
            result: raw.result.filter(|_| is_bad_end(raw.status)).map(text).unwrap_or_default(),
        },
    })
}

fn text(raw: &RawValue) -> Cow<'_, str> {
    Cow::Borrowed(raw.get())
}

fn is_bad_end(status: Status) -> bool {
    matches!(status, Status::Error | Status::Canceled)
}

/// A string that is borrowed wherever it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a reason trail, a list of `[source, reason, time]`, ends in luxid's death
/// detection. A trail of another shape is no evidence of a death and no error either.
fn ends_in_death_detection(trail: &RawValue) -> bool {
    fn items(raw: &RawValue) -> Option<Vec<&RawValue>> {
        serde_json::from_str(raw.get()).ok()
    }
    // What somebody typed into an earlier entry need not be text.
    let source = || serde_json::from_str(items(items(trail)?.last()?)?.first()?.get()).ok();
    trail.get().contains(DEATH_DETECTION) && source() == Some(Cow::Borrowed(DEATH_DETECTION))
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
        let without_text = |bytes| {
            let mut job = parse(id(7), bytes).unwrap();
            job.ops[0].text = OpText::default();
            job
        };
        let (haskell, python) = (without_text(&haskell[..]), without_text(&python[..]));
        assert_eq!(haskell, python);
        assert_eq!(haskell.received, Timestamp::from((1, 5)));
        assert!(matches!(haskell.ops[0].code, Cow::Borrowed(_)));
    }

    #[test]
    fn a_death_is_only_the_end_of_the_trail() {
        let job = |reason: &str| {
            format!(r#"{{"id":1,"ops":[{{"input":{{"OP_ID":"OP_X","reason":{reason}}},"status":"error"}}]}}"#)
        };
        let death = |reason: &str| parse(id(1), job(reason).as_bytes()).unwrap().ops[0].death_detected;
        assert!(death(r#"[["a","b",1],["gnt:daemon:luxid:deathdetection","x",2]]"#));
        assert!(death(r#"[["gnt:user","caf\udce9",1e400],["gnt:daemon:luxid:deathdetection","\udc80",2]]"#));
        for other in [
            r#"[["gnt:daemon:luxid:deathdetection","x",2],["a","b",1]]"#,
            r#"[["a","gnt:daemon:luxid:deathdetection",2]]"#,
            r#"["gnt:daemon:luxid:deathdetection"]"#,
            r#"[["gnt:daemon:luxid:deathdetection","x",2],"\udc80"]"#,
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
        let job = format!(
            r#"{{"id":1,"ops":[{{"result":{deep},"input":{{"OP_ID":"OP_X"}},"status":"success"}}]}}"#
        );
        assert_eq!(parse(id(1), job.as_bytes()).unwrap().ops.len(), 1);
    }

    #[test]
    fn of_an_old_job_nothing_is_told() {
        for rest in [
            r#""ops":[{"input":{"OP_ID":"OP_X"},"status":"waitlock","start_timestamp":[1290000000,1]}]"#,
            r#""ops":[{"input":{"OP_ID":"OP_X"},"status":"success"}],"received_timestamp":[1290000000,0]"#,
        ] {
            let job = format!(r#"{{"id":"1",{rest}}}"#);
            let job = parse(id(1), job.as_bytes()).unwrap();
            assert_eq!((job.id, job.ops.len(), job.process()), (id(1), 0, None));
        }
    }

    #[test]
    fn only_names_of_opcodes_are_opcodes() {
        let job =
            |code: &str| format!(r#"{{"id":1,"ops":[{{"input":{{"OP_ID":"{code}"}},"status":"queued"}}]}}"#);
        let longest = format!("OP_{}", "A".repeat(61));
        for good in ["OP_TEST_DELAY", "OP_X", "OP_QUERY2", &longest] {
            assert_eq!(parse(id(1), job(good).as_bytes()).unwrap().ops[0].code, good);
        }
        let (too_long, huge) = (format!("{longest}A"), format!("OP_{}", "A".repeat(1_000_000)));
        for bad in [
            "",
            "X",
            "OP_",
            "op_x",
            "OP_x",
            "OP_X-Y",
            "OP_X.d",
            "OP_../X",
            "OP_X\\u0000",
            "OP_X\\nOP_Y",
            "OP_\u{dc}",
            &too_long,
            &huge,
        ] {
            let error = parse(id(1), job(bad).as_bytes()).expect_err(bad).to_string();
            assert!(
                error.starts_with("not a job: the OP_ID of opcode 0 is \"") && error.len() < 250,
                "{error}"
            );
            assert!(!error.contains(['\0', '\n']), "{error}");
        }
    }

    #[test]
    fn what_is_no_path_is_no_livelock() {
        let livelock = |path: &str| {
            let text = format!(r#"{{"id":1,"ops":[],"livelock":"{path}"}}"#);
            parse(id(1), text.as_bytes()).unwrap().livelock.map(Cow::into_owned)
        };
        assert_eq!(livelock("/run/job_1").as_deref(), Some("/run/job_1"));
        assert_eq!(livelock(&"x".repeat(PATH_MAX)).map(|path| path.len()), Some(PATH_MAX));
        assert_eq!(livelock(&"x".repeat(PATH_MAX + 1)), None);
        assert_eq!(livelock("/run/job_1\\u0000"), None);
    }

    #[test]
    fn an_error_quotes_a_line_of_the_file_and_no_more() {
        let op = |status: &str| {
            format!(r#"{{"id":1,"ops":[{{"input":{{"OP_ID":"OP_X"}},"status":"{status}"}}]}}"#)
        };
        for text in
            [op(&"x".repeat(1_000_000)), format!(r#"{{"id":"{}","ops":[]}}"#, "\\n".repeat(1_000_000))]
        {
            let error = parse(id(1), text.as_bytes()).unwrap_err().to_string();
            assert!(error.len() < QUOTE_MAX + 50 && !error.contains('\n'), "{} bytes", error.len());
        }
        let error = parse(id(1), op("\\u001b[2J").as_bytes()).unwrap_err().to_string();
        assert!(error.contains("unknown variant `\\u{1b}[2J`"), "{error}");
    }

    #[test]
    fn what_is_not_a_job_says_why() {
        for (text, why) in [
            ("", "EOF"),
            ("[]", "invalid length"),
            (r#"{"id":2,"ops":[]}"#, "named after job 1 but holds job 2"),
            (r#"{"id":"2","ops":[]}"#, "invalid type"),
            (r#"{"id":"01","ops":[]}"#, "invalid type"),
            (r#"{"id":"1"}"#, "invalid type"),
            (r#"{"id":1,"ops":[{"input":{"OP_ID":"OP_X"},"status":"lost"}]}"#, "unknown variant `lost`"),
            (r#"{"id":1,"ops":[{"input":{},"status":"queued"}]}"#, "missing field `OP_ID`"),
            (r#"{"id":1,"ops":[{"input":{"OP_ID":"OP_X"},"status":"queued"}]"#, "EOF"),
        ] {
            let error = parse(id(1), text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
