//! Ganeti as it really writes job files: which version may follow which.
//!
//! Seen on 3.0.2 (`fixtures/recordings`) and read from `lib/jqueue/__init__.py`
//! (`_JobProcessor`, `MarkUnfinishedOps`) and `src/Ganeti/JQScheduler.hs` (what luxid writes
//! about jobs that it cancels, cannot start or finds dead).

use std::borrow::Cow;
use std::fmt;

use ganeti_hookd::ganeti::job::{Job, JobId, Opcode, Status, Timestamp};

/// The process of every job here.
pub const PID: u32 = 4711;

/// What happens to a job.
#[derive(Clone, PartialEq)]
pub enum Moment {
    /// A version of its file appears.
    Written(Job<'static>),
    /// Its process dies; the file stays as it is.
    Died,
}

impl Moment {
    /// The version that appears, if one does.
    pub fn version(&self) -> Option<&Job<'static>> {
        match self {
            Self::Written(job) => Some(job),
            Self::Died => None,
        }
    }
}

/// As the cases in `fixtures/cases` write it.
impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Written(job) = self else { return f.write_str("died") };
        for (n, op) in job.ops.iter().enumerate() {
            let separator = if n == 0 { "" } else { " | " };
            write!(f, "{separator}{}", format!("{:?}", op.status).to_lowercase())?;
            for (is_set, mark) in [
                (op.started.is_some(), "started"),
                (op.executed.is_some(), "executed"),
                (op.ended.is_some(), "ended"),
                (op.death_detected, "death"),
            ] {
                if is_set {
                    write!(f, " {mark}")?;
                }
            }
        }
        Ok(())
    }
}

/// A job on its way through Ganeti.
#[derive(Clone, Debug)]
pub struct Life {
    /// What has happened so far; the first is the version that luxid queued.
    pub moments: Vec<Moment>,
    job: Job<'static>,
    retries: usize,
    logs: usize,
    dead: bool,
}

/// How a [`Life`] may go on; returns the life after it.
type Step = fn(&Life) -> Life;

impl Life {
    /// A job of `ops` opcodes that has been submitted. `retries` and `logs` bound how
    /// often, in the whole job, an opcode is put back to waiting or writes a log message.
    pub fn submitted(ops: usize, retries: usize, logs: usize) -> Self {
        let queued = |op| Opcode {
            code: Cow::Owned(format!("OP_TEST_{op}")),
            status: Status::Queued,
            started: None,
            executed: None,
            ended: None,
            death_detected: false,
            text: Default::default(),
        };
        let job = Job {
            id: JobId::try_from(7).unwrap(),
            received: Timestamp::from((1_795_363_318, 594_000)),
            livelock: Some("/var/run/ganeti/livelocks/luxi-daemon_1".into()),
            process_id: None,
            started: None,
            ops: (0..ops).map(queued).collect(),
        };
        let life = Self { moments: Vec::new(), job, retries, logs, dead: false };
        life.write(|_, _| ())
    }

    /// Everything that may happen next, the usual first; nothing when the job is over.
    pub fn next(&self) -> Vec<Self> {
        let steps: &[Step] = match self.current() {
            None => &[],
            Some(_) if self.dead => &[Self::rewritten],
            Some(0) if self.job.process_id.is_none() => {
                &[Self::waiting, Self::canceled_by_luxid, Self::not_started, Self::died_unseen]
            }
            Some(op) => match self.job.ops[op].status {
                Status::Queued => &[Self::waiting, Self::canceled, Self::died],
                Status::Waiting => {
                    &[Self::running, Self::failed, Self::canceled, Self::canceling, Self::died]
                }
                Status::Canceling => &[Self::canceled, Self::died],
                _ => &[Self::succeeded, Self::failed, Self::died, Self::retried, Self::logged],
            },
        };
        let fits = |life: &Self| life.retries <= self.retries && life.logs <= self.logs;
        steps.iter().map(|step| step(self)).filter(fits).collect()
    }

    /// Whether nothing needs to happen any more; a dead job may also wait for luxid for ever.
    pub fn may_end(&self) -> bool {
        self.current().is_none() || (self.dead && self.moments.last() == Some(&Moment::Died))
    }

    /// The first opcode that is not over.
    fn current(&self) -> Option<usize> {
        self.job.ops.iter().position(|op| !op.status.is_final())
    }

    /// Writes the next version: what `change` makes of the current opcode and the rest.
    fn write(&self, change: impl FnOnce(&mut [Opcode<'static>], Timestamp)) -> Self {
        let mut life = self.clone();
        let now = Timestamp::from((1_795_363_400 + self.moments.len() as i64, 500_000));
        let current = self.current().unwrap_or(0);
        change(&mut life.job.ops[current..], now);
        life.moments.push(Moment::Written(life.job.clone()));
        life
    }

    fn waiting(&self) -> Self {
        let mut life = self.clone();
        life.job.process_id = Some(PID);
        life.job.livelock = Some(format!("/var/run/ganeti/livelocks/job_{PID}").into());
        life.job.started = life.job.started.or(Some(Timestamp::from((1_795_363_399, 0))));
        life.write(|ops, now| {
            ops[0].status = Status::Waiting;
            ops[0].started = Some(now);
        })
    }

    fn running(&self) -> Self {
        self.write(|ops, now| {
            ops[0].status = Status::Running;
            ops[0].executed = Some(now);
        })
    }

    /// Resources are short: back to waiting, the timestamps stay.
    fn retried(&self) -> Self {
        let mut life = self.write(|ops, _| ops[0].status = Status::Waiting);
        life.retries = self.retries.wrapping_sub(1);
        life
    }

    fn logged(&self) -> Self {
        let mut life = self.write(|_, _| ());
        life.logs = self.logs.wrapping_sub(1);
        life
    }

    fn succeeded(&self) -> Self {
        self.write(|ops, now| {
            ops[0].status = Status::Success;
            ops[0].ended = Some(now);
        })
    }

    /// The current opcode fails; the rest fails with it and never starts.
    fn failed(&self) -> Self {
        self.write(|ops, now| {
            ops.iter_mut().for_each(|op| op.status = Status::Error);
            ops[0].ended = Some(now);
        })
    }

    fn canceling(&self) -> Self {
        self.write(|ops, _| ops.iter_mut().for_each(|op| op.status = Status::Canceling))
    }

    fn canceled(&self) -> Self {
        self.write(|ops, _| ops.iter_mut().for_each(|op| op.status = Status::Canceled))
    }

    fn canceled_by_luxid(&self) -> Self {
        self.write(|ops, now| {
            ops.iter_mut().for_each(|op| (op.status, op.ended) = (Status::Canceled, Some(now)))
        })
    }

    /// Luxid could not start the job process.
    fn not_started(&self) -> Self {
        self.write(|ops, now| {
            ops.iter_mut().for_each(|op| (op.status, op.ended) = (Status::Error, Some(now)))
        })
    }

    fn died(&self) -> Self {
        let mut life = self.clone();
        life.dead = true;
        life.moments.push(Moment::Died);
        life
    }

    /// The process dies before the file names it; only luxid notices.
    fn died_unseen(&self) -> Self {
        Self { dead: true, ..self.clone() }.rewritten()
    }

    /// Luxid has found the process dead: every opcode, also those that had succeeded.
    fn rewritten(&self) -> Self {
        let mut life = self.clone();
        let now = Timestamp::from((1_795_363_700, 0));
        for op in &mut life.job.ops {
            (op.status, op.ended, op.death_detected) = (Status::Error, Some(now), true);
        }
        life.write(|_, _| ())
    }
}

/// Every life that a job of `ops` opcodes can have.
pub fn every_life(ops: usize, retries: usize) -> Vec<Vec<Moment>> {
    let mut open = vec![Life::submitted(ops, retries, 0)];
    let mut lives = Vec::new();
    while let Some(life) = open.pop() {
        open.extend(life.next());
        if life.may_end() {
            lives.push(life.moments);
        }
    }
    lives
}

/// The job file of a version, as Python (`true`) or Haskell writes it.
pub fn file(job: &Job<'_>, python: bool) -> String {
    let ops: Vec<String> = job.ops.iter().map(|op| op_text(op, python)).collect();
    let (secs, micros) = <(i64, i64)>::from(job.received);
    let mut fields = vec![
        format!("\"id\":{}", job.id),
        format!("\"ops\":[{}]", ops.join(",")),
        format!("\"received_timestamp\":[{secs},{micros}]"),
    ];
    fields.extend(time("start_timestamp", job.started, python));
    fields.extend(job.livelock.as_ref().map(|path| format!("\"livelock\":\"{path}\"")));
    fields.extend(job.process_id.map(|pid| format!("\"process_id\":{pid}")));
    object(fields, python) + if python { "\n" } else { "" }
}

fn op_text(op: &Opcode<'_>, python: bool) -> String {
    let mut trail = vec!["[\"gnt:user\",\"\",1]"];
    trail.extend(op.death_detected.then_some("[\"gnt:daemon:luxid:deathdetection\",\"detected death\",2]"));
    let status = format!("{:?}", op.status).to_lowercase();
    let mut fields = vec![
        format!("\"input\":{{\"OP_ID\":\"{}\",\"reason\":[{}]}}", op.code, trail.join(",")),
        format!("\"status\":\"{status}\""),
        "\"log\":[[1,[1,2],\"message\",\"\\\"status\\\":\\\"success\\\"\"]]".to_owned(),
    ];
    fields.extend(time("start_timestamp", op.started, python));
    fields.extend(time("exec_timestamp", op.executed, python));
    fields.extend(time("end_timestamp", op.ended, python));
    object(fields, python)
}

/// A time that is not set is `null` for Python and left out by Haskell.
fn time(key: &str, time: Option<Timestamp>, python: bool) -> Option<String> {
    match time.map(<(i64, i64)>::from) {
        Some((secs, micros)) => Some(format!("\"{key}\":[{secs},{micros}]")),
        None => python.then(|| format!("\"{key}\":null")),
    }
}

/// An object: Python's keys come in another order and with spaces.
fn object(mut fields: Vec<String>, python: bool) -> String {
    if python {
        fields.reverse();
    }
    format!("{{{}}}", fields.join(if python { ", " } else { "," }))
}
