//! `GET /v1/jobs/N`: what became of a job, as soon as it has ended.
//!
//! The job's file is what counts, in the queue or in the archive. Only of opcodes that have
//! disappeared, and of those of a dead job, the history knows better: luxid overwrites the status
//! of each of them.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::bell::Topic;
use super::ear::Heard;
use super::parameters::Parameters;
use super::problem::Problem;
use super::{Reply, Sources};
use crate::ganeti::about::About;
use crate::ganeti::event::{Event, Phase, PostStatus};
use crate::ganeti::job::{self, Job, JobId, Opcode, Status, Timestamp};
use crate::ganeti::object::Object;
use crate::world::http::{Answer, Request};
use crate::world::journal::{Filter, History, HistoryEvent};
use crate::world::queue::read::JOB_SIZE_LIMIT;
use crate::world::regular_file::ReadError;

/// What became of a job. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct JobRecord {
    job: JobId,
    /// Ganeti's word, or `disappeared`; none when the job has left and nobody saw how.
    status: Option<&'static str>,
    ended: bool,
    archived: bool,
    received: f64,
    started: Option<f64>,
    ended_at: Option<f64>,
    ops: Vec<OpRecord>,
}

/// What became of one opcode.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct OpRecord {
    op: u32,
    op_code: String,
    object: Option<Object>,
    status: &'static str,
    error: Option<String>,
}

/// Answers when the job has ended, or after the wait.
///
/// # Errors
/// What is wrong with the question, or that nobody knows such a job.
pub fn answer(sources: &Sources, request: &Request, id: &str, stream: &UnixStream) -> Result<Reply, Problem> {
    let wait = Parameters::of(request, &["wait"])?.wait()?;
    let unknown = |_| Problem::new(404, "a job number is a whole number from 1");
    let id: JobId = id.parse().map_err(unknown)?;
    let _place = sources.place_for(stream, wait)?;
    let until = Instant::now() + wait;
    let listener = sources.bell.listen(Topic::Job(id))?;
    let mut record = look(sources, id)?;
    while !record.ended && Instant::now() < until {
        let heard = listener.ear().wait_for(stream, until)?;
        listener.ear().forget();
        record = match heard {
            Heard::Gone => return Ok(Reply::Written),
            Heard::Ring => sources.last_end.of(id, sources.bell.ends(), || look(sources, id))?,
            Heard::Nothing => look(sources, id)?,
        };
    }
    let text = serde_json::to_string(&record).unwrap_or_default();
    Ok(Answer::new(200, "application/json", format!("{text}\n")).into())
}

/// The last job whose end somebody waited for: all who did are woken for it, and one of them looks.
#[derive(Debug, Default)]
pub struct LastEnd(Mutex<Option<(u64, JobRecord)>>);

impl LastEnd {
    /// What became of this job, where that was found since so many jobs had ended; else it is looked
    /// for, by one at a time.
    fn of(
        &self,
        id: JobId,
        ends: u64,
        look: impl FnOnce() -> Result<JobRecord, Problem>,
    ) -> Result<JobRecord, Problem> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, record)) = last.as_ref().filter(|(at, record)| *at == ends && record.job == id) {
            return Ok(record.clone());
        }
        let record = look()?;
        *last = record.ended.then(|| (ends, record.clone()));
        Ok(record)
    }
}

/// What is known of a job now.
fn look(sources: &Sources, id: JobId) -> Result<JobRecord, Problem> {
    let told = told(sources, id)?;
    if let Some(record) = read(sources, id, &told)? {
        return Ok(record);
    }
    if !sources.queue_dir.is_dir() {
        let queue = sources.queue_dir.display();
        return Err(Problem::new(503, format!("there is no queue in {queue} now, and so no jobs")));
    }
    from_history(id, &told).ok_or_else(|| {
        Problem::new(404, format!("there is no job {id}, in the queue, in the archive or in the history"))
    })
}

/// What was told of jobs of this number, oldest first.
fn told(sources: &Sources, id: JobId) -> Result<Vec<Event>, Problem> {
    let mut told = Vec::new();
    let Some(history) = History::open(&sources.state_dir).map_err(io::Error::other)? else { return Ok(told) };
    let filter = Filter { job: Some(id), output: Some(0), ..Filter::default() };
    let keep = |event: HistoryEvent| {
        told.push(event.event);
        true
    };
    history.events(&filter, keep).map_err(io::Error::other)?;
    Ok(told)
}

/// The job as its file has it, in the queue or else in the archive.
fn read(sources: &Sources, id: JobId, told: &[Event]) -> Result<Option<JobRecord>, Problem> {
    let bad = |error: ReadError| Problem::new(500, format!("the file of job {id} {error}"));
    // One large file at a time.
    let mut reader = sources.reader();
    let record = |bytes: Option<&[u8]>, archived| {
        let job = bytes.map(|bytes| job::parse(id, bytes)).transpose();
        let job = job.map_err(|error| Problem::new(500, format!("the file of job {id} is {error}")))?;
        Ok::<_, Problem>(job.map(|job| from_file(&job, archived, told)))
    };
    let mut found = record(reader.queued(id, JOB_SIZE_LIMIT).map_err(bad)?, false)?;
    if found.is_none() {
        found = record(reader.archived(id, JOB_SIZE_LIMIT).map_err(bad)?, true)?;
    }
    reader.give_back();
    Ok(found)
}

fn from_file(job: &Job<'_>, archived: bool, told: &[Event]) -> JobRecord {
    // From the end: the first post of an opcode is the one that stays.
    let posts: HashMap<u32, &Event> = told
        .iter()
        .rev()
        .filter(|event| event.received == job.received && event.key.phase == Phase::Post)
        .map(|event| (event.key.op, event))
        .collect();
    let posts = |op: u32| posts.get(&op).copied();
    let ops: Vec<OpRecord> = (0..).zip(&job.ops).map(|(op, _)| op_record(job, op, posts(op))).collect();
    let status = status_of(ops.iter().map(|op| op.status));
    let ended = job.is_final() || status == DISAPPEARED;
    let last = job.ops.iter().filter_map(|op| op.ended).max();
    let died = (0..).zip(&ops).filter(|(_, op)| op.status == DISAPPEARED);
    let died = died.filter_map(|(op, _)| posts(op)).map(|event| event.time).next();
    JobRecord {
        job: job.id,
        status: Some(status),
        ended,
        archived,
        received: job.received.as_secs_f64(),
        started: job.started.map(Timestamp::as_secs_f64),
        ended_at: died.or(last).filter(|_| ended).map(Timestamp::as_secs_f64),
        ops,
    }
}

/// The word for an opcode whose job process died.
const DISAPPEARED: &str = PostStatus::Disappeared.as_str();

fn op_record(job: &Job<'_>, op: u32, post: Option<&Event>) -> OpRecord {
    let opcode = &job.ops[op as usize];
    let status = match post.and_then(|post| post.status) {
        Some(PostStatus::Disappeared) => DISAPPEARED,
        Some(PostStatus::Succeeded) => Status::Success.as_str(),
        Some(PostStatus::Failed) | None => status_in_file(job, op as usize, opcode),
    };
    let has_failed = status == Status::Error.as_str();
    let about = About::of(job, op as usize, Phase::Post, has_failed.then_some(PostStatus::Failed));
    let object = post.map_or(about.object, |post| post.about.object.clone());
    OpRecord { op, op_code: opcode.code.clone().into_owned(), object, status, error: about.error }
}

/// An opcode's status as the file tells it. That of a dead job calls all of them failed: one that
/// another one has followed had succeeded.
fn status_in_file(job: &Job<'_>, op: usize, opcode: &Opcode<'_>) -> &'static str {
    match job.last_started() {
        Some(last) if opcode.death_detected && op < last => Status::Success.as_str(),
        Some(last) if opcode.death_detected && op == last => DISAPPEARED,
        _ => opcode.status.as_str(),
    }
}

/// A job's status from its opcodes' (Ganeti: `jqueue.py`, `_QueuedJob.CalcStatus`).
fn status_of(ops: impl Iterator<Item = &'static str>) -> &'static str {
    let (queued, success) = (Status::Queued.as_str(), Status::Success.as_str());
    let mut status = None;
    for op in ops.filter(|op| *op != success) {
        match op {
            "waiting" | "running" => status = Some(op),
            "queued" => status = status.or(Some(queued)),
            final_or_canceling => return final_or_canceling,
        }
    }
    status.unwrap_or(success)
}

/// A job that is nowhere any more, as it was told last.
fn from_history(id: JobId, told: &[Event]) -> Option<JobRecord> {
    let last = told.last()?;
    let of_it: Vec<&Event> = told.iter().filter(|event| event.received == last.received).collect();
    let status = |event: &Event| match event.status? {
        PostStatus::Succeeded => Some(Status::Success.as_str()),
        PostStatus::Failed => Some(Status::Error.as_str()),
        PostStatus::Disappeared => Some(DISAPPEARED),
    };
    let ops: Vec<OpRecord> = of_it
        .iter()
        .filter_map(|event| {
            Some(OpRecord {
                op: event.key.op,
                op_code: event.op_code.clone(),
                object: event.about.object.clone(),
                status: status(event)?,
                error: event.about.error.clone(),
            })
        })
        .collect();
    // Whether what came after it was canceled nobody has seen.
    let is_told = last.status.is_some_and(|status| status != PostStatus::Succeeded)
        || last.key.phase == Phase::Post && last.key.op + 1 == last.op_count;
    let started = of_it.iter().find_map(|event| event.about.started);
    let ended_at = last.about.ended.unwrap_or(last.time);
    Some(JobRecord {
        job: id,
        status: is_told.then(|| status_of(ops.iter().map(|op| op.status))),
        ended: true,
        archived: false,
        received: last.received.as_secs_f64(),
        started: started.map(Timestamp::as_secs_f64),
        ended_at: is_told.then(|| ended_at.as_secs_f64()),
        ops,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: i64, ended: bool) -> JobRecord {
        let job = id.try_into().unwrap();
        let (status, archived, ops) = (None, false, Vec::new());
        JobRecord { job, status, ended, archived, received: 1.0, started: None, ended_at: None, ops }
    }

    #[test]
    fn of_those_who_wait_for_a_job_one_looks() {
        let (last, looks) = (LastEnd::default(), std::cell::Cell::new(0));
        let of = |id: i64, ends, ended| {
            let look = || {
                looks.set(looks.get() + 1);
                Ok(record(id, ended))
            };
            let found = last.of(id.try_into().unwrap(), ends, look).unwrap();
            (found.ended, looks.get())
        };
        assert_eq!(of(1, 7, false), (false, 1), "it may have been another job's end");
        assert_eq!(of(1, 7, true), (true, 2));
        assert_eq!([of(1, 7, true), of(1, 7, true)], [(true, 2); 2]);
        assert_eq!(of(2, 7, true), (true, 3), "another job");
        assert_eq!(of(2, 8, true), (true, 4), "it may have come again");
    }
}
