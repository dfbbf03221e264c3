//! `ganeti-hookd locks`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::Failure;
use super::table::{Cell, Column, Layout, Look, Narrow, Table};
use super::terminal::Terminal;
use super::times::duration;
use crate::engine::settings::{Paths, Settings};
use crate::ganeti::config::ClusterConfig;
use crate::ganeti::job::{self, Job, JobId, Opcode, Status, Timestamp};
use crate::world::clock;
use crate::world::cluster::locks::{self, Client, Lock};
use crate::world::cluster::{Configuration, Found};
use crate::world::process::{self, Presence, livelock};
use crate::world::queue::read::{JOB_SIZE_LIMIT, JobReader};

/// Show which locks jobs wait for, who has them, and whether the holder lives
///
/// Asks luxid, as gnt-debug locks does, and changes nothing. A line for each job that waits, each
/// lock it waits for and each job that has that; where a holder's process is dead, Ganeti gives its
/// locks back after some five minutes, or at once with tell-ganeti in hookd.toml(5). Only the master
/// knows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only jobs that wait for longer: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "30s")]
    longer: Duration,

    /// Print JSON Lines; times are seconds
    #[arg(long, conflicts_with_all = ["no_headers", "separator"])]
    json: bool,

    #[command(flatten)]
    layout: Layout,
}

/// A job that waits for a lock, and who has it.
#[derive(Debug, Serialize)]
struct Wait {
    job: JobId,
    op_code: Option<String>,
    lock: String,
    mode: String,
    /// For how long it has waited, if its file says so.
    seconds: Option<f64>,
    holder: Option<Holder>,
}

/// Who has a lock.
#[derive(Clone, Debug, Serialize)]
struct Holder {
    /// `None` for a program that is no job.
    job: Option<JobId>,
    op_code: Option<String>,
    /// Its opcode's status.
    status: Option<&'static str>,
    /// For how long its opcode has executed, or waited for what it still waits for.
    seconds: Option<f64>,
    /// `alive`, `dead`, or why that cannot be told; `not a job: ` and its name of one that is none.
    process: String,
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        let locks = locks::read(&settings.paths.ganeti_run_dir).map_err(Failure::Failed)?;
        let mut jobs = Jobs::new(&settings.paths);
        let Found { config, .. } = Configuration::new(&settings.paths).read();
        let waits = waits(&locks, config.as_deref(), &mut jobs);
        let is_long = |wait: &Wait| wait.seconds.is_none_or(|seconds| seconds > self.longer.as_secs_f64());
        let waits: Vec<Wait> = waits.into_iter().filter(is_long).collect();
        let mut out = io::stdout().lock();
        if self.json {
            for wait in &waits {
                writeln!(out, "{}", serde_json::to_string(wait).unwrap_or_default())?;
            }
            return Ok(());
        }
        if waits.is_empty() && self.layout.separator.is_none() && !self.layout.no_headers {
            let longer = duration(self.longer.as_secs_f64());
            writeln!(io::stderr(), "no job has waited for locks for longer than {longer}")?;
            return Ok(());
        }
        let mut table = Table::new(&self.layout, columns(), Terminal::of_output(), false);
        waits.iter().for_each(|wait| table.row(cells(wait)));
        Ok(table.print(&mut out)?)
    }
}

/// Who waits for what, the longest first.
fn waits(locks: &[Lock], config: Option<&ClusterConfig>, jobs: &mut Jobs<'_>) -> Vec<Wait> {
    let mut waits = Vec::new();
    for lock in locks {
        let name = readable(&lock.name, config);
        for (mode, client) in
            lock.pending.iter().flat_map(|(mode, clients)| clients.iter().map(move |client| (mode, client)))
        {
            let Client::Job(job) = *client else { continue };
            let others = lock.owners.iter().filter(|owner| *owner != client);
            let mut holders: Vec<Option<Holder>> = others.map(|owner| Some(jobs.holder(owner))).collect();
            if holders.is_empty() {
                // It stands behind others that wait.
                holders.push(None);
            }
            for holder in holders {
                let (op_code, seconds) = jobs.waits(job);
                waits.push(Wait { job, op_code, lock: name.clone(), mode: mode.clone(), seconds, holder });
            }
        }
    }
    waits.sort_by(|a, b| b.seconds.unwrap_or(f64::MAX).total_cmp(&a.seconds.unwrap_or(f64::MAX)));
    waits
}

/// A lock's name with the name of what has a UUID in it.
fn readable(lock: &str, config: Option<&ClusterConfig>) -> String {
    let name = config.zip(lock.split_once('/')).and_then(|(config, (level, uuid))| match level {
        "node" | "node-res" => config.node_name(uuid),
        "nodegroup" => config.group(uuid).map(|(_, group)| group.name.as_str()),
        "network" => config.network(uuid).map(|(_, network)| network.name.as_str()),
        _ => None,
    });
    match (name, lock.split_once('/')) {
        (Some(name), Some((level, _))) => format!("{level}/{name}"),
        _ => lock.to_owned(),
    }
}

/// Jobs as their files have them. Many may wait for one that many locks are of: each is read once.
struct Jobs<'a> {
    paths: &'a Paths,
    reader: JobReader,
    now: Timestamp,
    seen: BTreeMap<JobId, Seen>,
}

/// A job that was read.
struct Seen {
    /// What is to be said of it where it has a lock.
    holder: Holder,
    /// For how long it has waited where it waits for one.
    waits: Option<f64>,
}

impl<'a> Jobs<'a> {
    fn new(paths: &'a Paths) -> Self {
        let reader = JobReader::new(&paths.queue_dir);
        Self { paths, reader, now: clock::now(), seen: BTreeMap::new() }
    }

    fn read(&mut self, id: JobId) -> Option<Job<'static>> {
        let bytes = self.reader.queued(id, JOB_SIZE_LIMIT).ok()??;
        job::parse(id, bytes).ok().map(Job::into_owned)
    }

    /// The opcode that a job waits with, and for how long.
    fn waits(&mut self, id: JobId) -> (Option<String>, Option<f64>) {
        let seen = self.see(id);
        (seen.holder.op_code.clone(), seen.waits)
    }

    fn holder(&mut self, client: &Client) -> Holder {
        match client {
            Client::Job(id) => self.see(*id).holder.clone(),
            Client::Other(name) => {
                let process = format!("not a job: {name}");
                Holder { job: None, op_code: None, status: None, seconds: None, process }
            }
        }
    }

    fn see(&mut self, id: JobId) -> &Seen {
        let seen = match self.seen.remove(&id) {
            Some(seen) => seen,
            None => self.look_at(id),
        };
        self.seen.entry(id).or_insert(seen)
    }

    fn look_at(&mut self, id: JobId) -> Seen {
        let Some(job) = self.read(id) else {
            let process = "its file is not in the queue".to_owned();
            let holder = Holder { job: Some(id), op_code: None, status: None, seconds: None, process };
            return Seen { holder, waits: None };
        };
        let op = current(&job);
        let holder = Holder {
            job: Some(id),
            op_code: op.map(|op| op.code.to_string()),
            status: op.map(|op| op.status.as_str()),
            seconds: op.and_then(|op| {
                self.since(if op.status == Status::Running { op.executed } else { op.started })
            }),
            process: self.presence(&job),
        };
        Seen { holder, waits: op.and_then(|op| self.since(op.started)) }
    }

    fn presence(&self, job: &Job<'_>) -> String {
        let Some(process) = job.process() else { return "has not started".to_owned() };
        match process::find(&process, &self.paths.ganeti_run_dir.join(livelock::DIRECTORY)) {
            Presence::Alive(_) => "alive".to_owned(),
            Presence::Dead => "dead".to_owned(),
            Presence::Unknown(why) | Presence::Shortage(why) => why,
        }
    }

    fn since(&self, time: Option<Timestamp>) -> Option<f64> {
        time.map(|time| (self.now.as_secs_f64() - time.as_secs_f64()).max(0.0))
    }
}

/// The opcode that a job is at.
fn current<'a>(job: &'a Job<'_>) -> Option<&'a Opcode<'a>> {
    job.ops.iter().find(|op| !op.status.is_final()).or(job.ops.last())
}

fn columns() -> Vec<Column> {
    let column = |title, narrow| Column { narrow, ..Column::whole(title) };
    let number = |title| Column { is_number: true, ..Column::whole(title) };
    vec![
        number("Job"),
        column("Opcode", Narrow::Gone(3)),
        number("Waits"),
        column("Lock", Narrow::Cut(2, 16)),
        column("Mode", Narrow::Gone(1)),
        number("Held by"),
        column("Its opcode", Narrow::Gone(2)),
        column("Status", Narrow::Gone(1)),
        number("Since"),
        column("Process", Narrow::Cut(3, 8)),
    ]
}

fn cells(wait: &Wait) -> Vec<Cell> {
    let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), duration);
    let mut cells: Vec<Cell> = [
        wait.job.to_string(),
        text(wait.op_code.as_deref()),
        time(wait.seconds),
        wait.lock.clone(),
        wait.mode.clone(),
    ]
    .map(Cell::from)
    .into();
    let holder = wait.holder.as_ref();
    cells.extend(
        [
            holder.and_then(|holder| holder.job).map_or_else(|| "-".to_owned(), |job| job.to_string()),
            text(holder.and_then(|holder| holder.op_code.as_deref())),
            text(holder.and_then(|holder| holder.status)),
            time(holder.and_then(|holder| holder.seconds)),
        ]
        .map(Cell::from),
    );
    let process = text(holder.map(|holder| holder.process.as_str()));
    let look = if process == "dead" { Look::BoldRed } else { Look::Usual };
    cells.push(Cell::from(process).in_look(look));
    cells
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_job_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Settings::default().paths;
        (paths.queue_dir, paths.ganeti_run_dir) = (dir.path().to_owned(), dir.path().to_owned());
        let mut jobs = Jobs::new(&paths);
        let id = JobId::try_from(2).unwrap();
        let text = r#"{"id":2,"received_timestamp":[5,0],"ops":[{"status":"waiting","input":{"OP_ID":"OP_TEST_DELAY"},
            "start_timestamp":[6,0],"exec_timestamp":null,"end_timestamp":null,"log":[],"result":null}]}"#;
        fs::write(dir.path().join("job-2"), text).unwrap();
        assert_eq!(jobs.holder(&Client::Job(id)).process, "has not started");
        // However many wait for it, and whatever becomes of it meanwhile.
        fs::remove_file(dir.path().join("job-2")).unwrap();
        assert_eq!(jobs.holder(&Client::Job(id)).process, "has not started");
        assert_eq!(jobs.waits(id).0.as_deref(), Some("OP_TEST_DELAY"));
    }

    #[test]
    fn who_waits_is_told_with_who_has_it_the_longest_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Settings::default().paths;
        (paths.queue_dir, paths.ganeti_run_dir) = (dir.path().to_owned(), dir.path().to_owned());
        let put = |id: i64, status: &str, executed: &str, pid: u32| {
            let livelock = dir.path().join(format!("livelocks/job_{id}_1"));
            let text = format!(
                r#"{{"id":{id},"received_timestamp":[5,0],"start_timestamp":[6,0],"livelock":{livelock:?},
                    "process_id":{pid},"ops":[{{"status":"{status}","input":{{"OP_ID":"OP_TEST_DELAY"}},
                    "start_timestamp":[{id},0],"exec_timestamp":{executed},"end_timestamp":null,"log":[],"result":null}}]}}"#
            );
            fs::write(dir.path().join(format!("job-{id}")), text).unwrap();
        };
        fs::create_dir(dir.path().join("livelocks")).unwrap();
        fs::write(dir.path().join("livelocks/job_2_1"), "").unwrap();
        put(2, "running", "[50,0]", 4_000_000);
        put(3, "waiting", "null", 4_000_001);
        put(4, "waiting", "null", 4_000_001);
        let job = |id: i64| Client::Job(JobId::try_from(id).unwrap());
        let exclusive = |jobs: &[i64]| ("exclusive".to_owned(), jobs.iter().map(|id| job(*id)).collect());
        let config =
            ClusterConfig::parse(br#"{"cluster":{},"nodes":{"u1":{"name":"node1.example","uuid":"u1"}}}"#);
        let locks = [
            Lock {
                name: "node/u1".to_owned(),
                mode: Some("exclusive".to_owned()),
                owners: vec![job(2)],
                pending: vec![exclusive(&[4, 3]), exclusive(&[9])],
            },
            Lock {
                name: "instance/web1".to_owned(),
                mode: None,
                owners: vec![],
                pending: vec![exclusive(&[3]), ("shared".to_owned(), vec![Client::Other("tool".to_owned())])],
            },
            Lock {
                name: "instance/web2".to_owned(),
                mode: Some("shared".to_owned()),
                owners: vec![Client::Other("tool\u{1b}".to_owned())],
                pending: vec![exclusive(&[4])],
            },
        ];
        let mut jobs = Jobs { now: Timestamp::from_secs_f64(100.0), ..Jobs::new(&paths) };
        let waits = waits(&locks, config.as_ref().ok(), &mut jobs);
        let told: Vec<String> = waits
            .iter()
            .map(|wait| cells(wait).iter().map(|cell| format!("{} ", cell.text())).collect())
            .collect();
        assert_eq!(
            told,
            [
                "9 - - node/node1.example exclusive 2 OP_TEST_DELAY running 50s dead ",
                "3 OP_TEST_DELAY 1m37s node/node1.example exclusive 2 OP_TEST_DELAY running 50s dead ",
                "3 OP_TEST_DELAY 1m37s instance/web1 exclusive - - - - - ",
                "4 OP_TEST_DELAY 1m36s node/node1.example exclusive 2 OP_TEST_DELAY running 50s dead ",
                r"4 OP_TEST_DELAY 1m36s instance/web2 exclusive - - - - not a job: tool\u{1b} ",
            ]
        );
    }
}
