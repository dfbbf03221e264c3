//! What the job file tells of an opcode beside what has to be decided: what it is about, when it
//! did what, who asked for it and why, what Ganeti says of its failure (design, section 13).
//!
//! All of it is foreign text and cut where it enters: [`REASONS_MAX`] entries of a reason trail,
//! [`TEXT_MAX`] bytes of each text.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::event_key::{EventKey, Phase, PostStatus};
use super::job::{Job, Opcode, Timestamp};
use super::object::{Object, ObjectKind};
use super::text::cut;
use super::{opcodes, python_json};

/// The most entries of a reason trail that are kept: the last ones.
const REASONS_MAX: usize = 16;

/// The most bytes of one text that are kept.
const TEXT_MAX: usize = 1024;

/// Who names the user's own reason in the trail (Ganeti: `constants.OPCODE_REASON_SRC_USER`).
const USER: &str = "gnt:user";

/// What the source of an opcode in the trail begins with (Ganeti:
/// `constants.OPCODE_REASON_SRC_OPCODE`).
const OPCODE: &str = "gnt:opcode:";

/// What is told of an opcode beside job, place, type and status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// The cluster's UUID, if it is known.
    pub cluster: Option<Arc<str>>,
    /// What it is about.
    pub object: Option<Object>,
    /// When the opcode before it in its job ended.
    pub previous_end: Option<Timestamp>,
    /// When it began to wait for locks.
    pub started: Option<Timestamp>,
    /// When it began to execute, for the first time.
    pub executed: Option<Timestamp>,
    /// When it ended; what has disappeared has no end.
    pub ended: Option<Timestamp>,
    /// Ganeti's reason trail.
    pub reason: Trail,
    /// The first line of what Ganeti says of its failure.
    pub error: Option<String>,
}

/// A reason trail (Ganeti: `opcodes_base.py`, `input.reason`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trail(pub Vec<Reason>);

/// One entry of a reason trail: who, what, and when, in seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason(pub String, pub String, pub f64);

/// The opcode that submitted a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parent {
    /// Its job.
    pub job: i64,
    /// Its place in that job.
    pub op: i64,
}

impl About {
    /// What this version of a job tells of one of its opcodes, for an event of this phase and
    /// status. Which cluster it is the job file does not say.
    pub fn of(job: &Job<'_>, op: usize, phase: Phase, status: Option<PostStatus>) -> Self {
        let Some(opcode) = job.ops.get(op) else { return Self::default() };
        let previous = op.checked_sub(1).and_then(|previous| end(job, previous));
        let has_ended = phase == Phase::Post && status != Some(PostStatus::Disappeared);
        let has_failed = status == Some(PostStatus::Failed);
        Self {
            cluster: None,
            object: object(&opcode.code, &opcode.text.input),
            previous_end: previous,
            started: opcode.started,
            executed: opcode.executed,
            ended: if has_ended { end(job, op) } else { None },
            reason: Trail::read(&opcode.text.reason),
            error: if has_failed { error(&opcode.text.result) } else { None },
        }
    }

    /// It is of this cluster, by UUID and name.
    pub fn place_in(&mut self, uuid: &Arc<str>, name: &str) {
        self.cluster = Some(Arc::clone(uuid));
        if let Some(object) = self.object.as_mut().filter(|object| object.kind == ObjectKind::Cluster) {
            object.name.get_or_insert_with(|| name.to_owned());
        }
    }

    /// From received to started for a job's first opcode, from the end of the one before for
    /// others.
    pub fn start_delay(&self, key: EventKey, received: Timestamp) -> Option<f64> {
        let since = if key.op == 0 { Some(received) } else { self.previous_end };
        seconds(since, self.started)
    }

    /// From started to executed.
    pub fn lock_wait(&self) -> Option<f64> {
        seconds(self.started, self.executed)
    }

    /// From executed to ended.
    pub fn execution(&self) -> Option<f64> {
        seconds(self.executed, self.ended)
    }
}

/// What an opcode with these parameters is about; of which cluster is said later.
fn object(op_code: &str, input: &str) -> Option<Object> {
    opcodes::object(op_code, serde_json::from_str(input).ok()?, None)
}

/// Seconds from one moment to another; `None` where one is not known, or a clock was set back in
/// between.
fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<f64> {
    let micros = to?.as_micros().checked_sub(from?.as_micros())?;
    (micros >= 0).then(|| Timestamp::from_micros(micros).as_secs_f64())
}

/// When an opcode ended. luxid gives each opcode of a dead job a new end: one that the next
/// opcode did not wait for is none.
fn end(job: &Job<'_>, op: usize) -> Option<Timestamp> {
    let next_started = job.ops.get(op + 1).and_then(|next: &Opcode<'_>| next.started);
    job.ops[op].ended.filter(|ended| next_started.is_none_or(|started| started >= *ended))
}

impl Trail {
    /// Reads a trail as the job file has it. What has another shape is left out.
    fn read(text: &str) -> Self {
        // As Ganeti writes it; else as much of it as can be read.
        let entries = serde_json::from_str(text).unwrap_or_else(|_| entries(text));
        let skipped = entries.len().saturating_sub(REASONS_MAX);
        Self(entries.into_iter().skip(skipped).map(Reason::of).collect())
    }

    /// What the user gave as the reason: the last one.
    pub fn users(&self) -> Option<&str> {
        self.0.iter().rev().find(|reason| reason.0 == USER).map(|reason| reason.1.as_str())
    }

    /// The text that says most: the user's own reason, else the last one.
    pub fn in_short(&self) -> Option<&str> {
        self.users().or_else(|| self.0.last().map(|reason| reason.1.as_str()))
    }

    /// The opcode that submitted the job: the last in the trail that is not of this job. Each job
    /// stands in its own trail (Ganeti: `Ganeti.JQueue`, `extendJobReasonTrail`).
    pub fn parent(&self, key: EventKey) -> Option<Parent> {
        let others = |parent: &Parent| parent.job != key.job.get();
        self.0.iter().rev().filter_map(Reason::opcode).find(others)
    }
}

impl Reason {
    /// An entry as Ganeti writes it: `[source, text, nanoseconds]`.
    fn of(Self(mut source, mut text, nanoseconds): Self) -> Self {
        cut(&mut source, TEXT_MAX);
        cut(&mut text, TEXT_MAX);
        Self(source, text, (nanoseconds / 1e3).round() / 1e6)
    }

    /// The opcode that this entry stands for.
    fn opcode(&self) -> Option<Parent> {
        self.0.strip_prefix(OPCODE)?;
        let (job, op) = self.1.strip_prefix("job=")?.split_once(";index=")?;
        Some(Parent { job: job.parse().ok()?, op: op.parse().ok()? })
    }
}

/// The entries of a trail that a strict reader refuses.
fn entries(text: &str) -> Vec<Reason> {
    let raw = serde_json::from_str::<&RawValue>(text);
    let Some(Value::Array(entries)) = raw.ok().and_then(|raw| python_json::read(raw).value) else {
        return Vec::new();
    };
    entries.into_iter().filter_map(entry).collect()
}

/// An entry, if it is one; what stands behind its time is passed over.
fn entry(entry: Value) -> Option<Reason> {
    let Value::Array(mut parts) = entry else { return None };
    parts.truncate(3);
    let [Value::String(source), Value::String(text), time] = <[Value; 3]>::try_from(parts).ok()? else {
        return None;
    };
    Some(Reason(source, text, time.as_f64()?))
}

/// The first line of what Ganeti says of a failure: the result of the opcode, which is a text, or
/// the class of an error and a list of what it says (Ganeti: `errors.EncodeException`).
fn error(result: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(result).ok()?;
    let text = match python_json::read(raw).value? {
        Value::String(text) => text,
        Value::Array(parts) => {
            let class = parts.first().and_then(Value::as_str)?;
            match parts.get(1).and_then(Value::as_array).and_then(|said| said.first()) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => format!("{class}: {other}"),
                None => class.to_owned(),
            }
        }
        _ => return None,
    };
    let mut line = text.lines().map(str::trim).find(|line| !line.is_empty())?.to_owned();
    cut(&mut line, TEXT_MAX);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ganeti::job;

    fn about(ops: &str, op: usize, status: PostStatus) -> About {
        let text = format!(r#"{{"id":7,"received_timestamp":[100,0],"ops":[{ops}]}}"#);
        let job = job::parse(7.try_into().unwrap(), text.as_bytes()).unwrap();
        About::of(&job, op, Phase::Post, Some(status))
    }

    fn key(op: u32) -> EventKey {
        EventKey { job: 7.try_into().unwrap(), op, phase: Phase::Post }
    }

    fn op(more: &str) -> String {
        format!(r#"{{"input":{{"OP_ID":"OP_INSTANCE_STARTUP","instance_name":"web1"}},{more}}}"#)
    }

    const ENDED: &str = r#""status":"error","start_timestamp":[101,500000],"exec_timestamp":[103,0],"end_timestamp":[107,250000]"#;

    #[test]
    fn times_are_ganetis_own() {
        let received = Timestamp::from((100, 0));
        let first = about(&op(ENDED), 0, PostStatus::Failed);
        assert_eq!(
            (first.start_delay(key(0), received), first.lock_wait(), first.execution()),
            (Some(1.5), Some(1.5), Some(4.25))
        );
        let dead = about(&op(ENDED), 0, PostStatus::Disappeared);
        assert_eq!((dead.ended, dead.execution(), dead.lock_wait()), (None, None, Some(1.5)));
    }

    #[test]
    fn an_end_that_the_next_opcode_did_not_wait_for_is_none() {
        let next = |started: u32| {
            format!(
                r#"{{"input":{{"OP_ID":"OP_TEST_DELAY"}},"status":"error","start_timestamp":[{started},0]}}"#
            )
        };
        let received = Timestamp::from((100, 0));
        let delay = |started| {
            let ops = format!("{},{}", op(ENDED), next(started));
            let first = about(&ops, 0, PostStatus::Succeeded);
            let second = about(&ops, 1, PostStatus::Disappeared);
            (first.ended.is_some(), second.start_delay(key(1), received))
        };
        assert_eq!(delay(108), (true, Some(0.75)));
        assert_eq!(delay(105), (false, None));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_time() {
        let text =
            r#""status":"success","start_timestamp":[90,0],"exec_timestamp":[80,0],"end_timestamp":[70,0]"#;
        let about = about(&op(text), 0, PostStatus::Succeeded);
        let received = Timestamp::from((100, 0));
        assert_eq!(
            (about.start_delay(key(0), received), about.lock_wait(), about.execution()),
            (None, None, None)
        );
    }

    fn trail(text: &str) -> Trail {
        Trail::read(text)
    }

    #[test]
    fn a_trail_tells_who_asked_and_which_job_submitted_this_one() {
        let read = trail(
            r#"[["gnt:client:gnt-cluster","verify",1795366412879889123],["gnt:user","kernel",1],
                ["gnt:opcode:cluster_verify","job=5;index=2",1],["gnt:opcode:group_verify_disks","job=7;index=0",1]]"#,
        );
        assert_eq!(
            read.0[0],
            Reason("gnt:client:gnt-cluster".to_owned(), "verify".to_owned(), 1_795_366_412.879_889)
        );
        assert_eq!((read.users(), read.in_short()), (Some("kernel"), Some("kernel")));
        assert_eq!(trail(r#"[["a","first",1],["b","last",2]]"#).in_short(), Some("last"));
        assert_eq!(read.parent(key(0)), Some(Parent { job: 5, op: 2 }));
        assert_eq!(
            serde_json::to_string(&read.0[0]).unwrap(),
            r#"["gnt:client:gnt-cluster","verify",1795366412.879889]"#
        );
        assert_eq!(trail(r#"[["gnt:opcode:test_delay","job=7;index=0",1]]"#).parent(key(0)), None);
    }

    #[test]
    fn a_trail_of_another_shape_costs_itself() {
        for bad in ["", "null", "17", "{}", "[1,null,[],[1,2,3],[\"a\"],[\"a\",\"b\",\"c\"]]"] {
            assert_eq!(trail(bad), Trail::default(), "{bad}");
        }
        let lossy = trail(r#"[["gnt:user","caf\udce9",1],["x","y",1e400]]"#);
        assert_eq!(lossy.0, [Reason("gnt:user".to_owned(), "caf\u{fffd}".to_owned(), 0.0)]);
        let entry = format!(r#"["gnt:user","{}",1]"#, "x".repeat(5000));
        let long = trail(&format!("[{}]", vec![entry; 40].join(",")));
        assert_eq!((long.0.len(), long.0[0].1.len()), (REASONS_MAX, TEXT_MAX));
    }

    #[test]
    fn the_first_line_of_what_ganeti_says_is_the_error() {
        for (result, line) in [
            (r#""Job canceled by request""#, Some("Job canceled by request")),
            (
                r#"["OpPrereqError",["Instance 'x' not known\nat all","unknown_entity"]]"#,
                Some("Instance 'x' not known"),
            ),
            (
                r#"["HooksAbort",[[["uuid","a-pre.d/50-fail","no way"]]]]"#,
                Some(r#"HooksAbort: [["uuid","a-pre.d/50-fail","no way"]]"#),
            ),
            (r#"["OpExecError",[]]"#, Some("OpExecError")),
            (r#"["OpExecError",["\n  \n x"]]"#, Some("x")),
            ("null", None),
            ("[]", None),
            ("{}", None),
            (r#""""#, None),
            ("", None),
        ] {
            assert_eq!(error(result).as_deref(), line, "{result}");
        }
        assert_eq!(error(&format!("\"{}\"", "x".repeat(5000))).unwrap().len(), TEXT_MAX);
    }

    #[test]
    fn only_what_has_failed_has_an_error() {
        let text = format!(r#"{ENDED},"result":["OpExecError",["no"]]"#);
        assert_eq!(about(&op(&text), 0, PostStatus::Failed).error.as_deref(), Some("no"));
        assert_eq!(about(&op(&text), 0, PostStatus::Disappeared).error, None);
    }
}
