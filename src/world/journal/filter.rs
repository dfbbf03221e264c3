//! Which events somebody wants to read.

use rusqlite::types::Value;

use crate::ganeti::event::{EventKey, PostStatus};
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::object::ObjectKind;

/// Which events to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only those after this number.
    pub after: i64,
    /// Only those of this job.
    pub job: Option<JobId>,
    /// Only those of this name.
    pub key: Option<EventKey>,
    /// Only those about objects of this kind.
    pub object_kind: Option<ObjectKind>,
    /// Only those about the object of this name, which may be the first labels of its full name.
    pub object: Option<String>,
    /// Only those of opcodes of this type; `*` stands for any text.
    pub op_code: Option<String>,
    /// Only those of opcodes that ended so.
    pub status: Option<PostStatus>,
    /// Only those noticed then or later.
    pub since: Option<Timestamp>,
    /// Only those noticed before then.
    pub until: Option<Timestamp>,
    /// Only those in whose reason trail some text has this part, in upper or lower case.
    pub reason: Option<String>,
    /// Only those with a failed run.
    pub failed: bool,
    /// At most this many.
    pub limit: Option<u32>,
    /// Of each at most so many bytes of output; of what is left out is told how much it is.
    pub output: Option<usize>,
}

/// A run that failed.
const FAILED_RUN: &str = "EXISTS (SELECT 1 FROM runs WHERE runs.seq = events.seq AND runs.ended IS NOT NULL
    AND (runs.code IS NULL OR runs.code <> 0 OR runs.error IS NOT NULL))";

/// A text of the trail; what stands beside it are its author and its time.
const REASON: &str = "EXISTS (SELECT 1 FROM json_each(reason)
    WHERE instr(lower(json_extract(value, '$[1]')), lower(?)))";

/// A full name, or its first labels.
const OBJECT: &str = "object IS NOT NULL AND substr(object || '.', 1, length(?) + 1) = ? || '.'";

impl Filter {
    /// What has to be true of a row of `events`, as SQL, and the values in it; neither where it
    /// begins nor how many there are.
    pub(super) fn conditions(&self) -> (String, Vec<Value>) {
        let (mut sql, mut values) = ("TRUE".to_owned(), Vec::new());
        let mut only = |condition: &str, with: Vec<Value>| {
            sql += " AND ";
            sql += condition;
            values.extend(with);
        };
        if let Some(job) = self.job {
            only("job = ?", vec![job.get().into()]);
        }
        if let Some(EventKey { job, op, phase }) = self.key {
            let key = vec![job.get().into(), i64::from(op).into(), phase.as_str().to_owned().into()];
            only("job = ? AND op = ? AND phase = ?", key);
        }
        if let Some(kind) = self.object_kind {
            only("object_type = ?", vec![kind.as_str().to_owned().into()]);
        }
        if let Some(object) = &self.object {
            only(OBJECT, vec![object.clone().into(), object.clone().into()]);
        }
        if let Some(op_code) = &self.op_code {
            only("op_code GLOB ?", vec![glob(op_code).into()]);
        }
        if let Some(status) = self.status {
            only("status = ?", vec![status.as_str().to_owned().into()]);
        }
        if let Some(since) = self.since {
            only("time >= ?", vec![since.as_micros().into()]);
        }
        if let Some(until) = self.until {
            only("time < ?", vec![until.as_micros().into()]);
        }
        if let Some(reason) = &self.reason {
            only(REASON, vec![reason.clone().into()]);
        }
        if self.failed {
            only(FAILED_RUN, vec![]);
        }
        (sql, values)
    }
}

/// A pattern for SQLite, in which `?` and `[` are special besides.
fn glob(pattern: &str) -> String {
    pattern.replace('[', "[[]").replace('?', "[?]")
}
