//! What the parts cost: parsing by size and shape, the machine, the journal, the scan.
//!
//! `cargo bench --bench parts`. Times on shared machines mean little; the throughput of
//! one shape against another, and of `memchr` over the same bytes in the same run, does.

#![expect(clippy::expect_used, reason = "a benchmark whose ground gives way is to stop")]

use std::fmt::Write;
use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use ganeti_hookd::event::{Event, EventKey, Phase};
use ganeti_hookd::job::{self, JobId, Liveness, Timestamp};
use ganeti_hookd::journal::{Change, EventState, Journal};
use ganeti_hookd::machine::{Progress, step};
use ganeti_hookd::queue::scan;

fn main() {
    divan::main();
}

fn id() -> JobId {
    JobId::try_from(1).expect("1 is a job number")
}

/// An opcode as Python writes it, with this log and result.
fn opcode(log: &str, result: &str) -> String {
    format!(
        r#"{{"input": {{"duration": 1.0, "on_master": true, "on_nodes": [], "on_node_uuids": ["2fb1d56a-4480-486c-9932-09b1416d38ec"], "repeat": 0, "interruptible": false, "no_locks": false, "dry_run": false, "debug_level": 0, "priority": 0, "depends": null, "comment": null, "reason": [["gnt:client:gnt-debug", "delay", 1795366284600645000], ["gnt:opcode:test_delay", "job=1;index=0", 1795366284600645000]], "OP_ID": "OP_TEST_DELAY"}}, "status": "success", "result": {result}, "log": [{log}], "start_timestamp": [1795366285, 188271], "exec_timestamp": [1795366310, 570160], "end_timestamp": [1795366388, 649511], "priority": 0}}"#
    )
}

fn job(ops: &[String]) -> Vec<u8> {
    format!(
        r#"{{"id": 1, "ops": [{}], "start_timestamp": [1795366285, 188271], "end_timestamp": null, "received_timestamp": [1795366284, 600645], "livelock": "/var/run/ganeti/livelocks/job_000001_1795366285", "process_id": 2905}}"#,
        ops.join(", ")
    )
    .into_bytes()
}

fn log(bytes: usize) -> String {
    let mut log = String::new();
    let mut serial = 0;
    while log.len() < bytes {
        serial += 1;
        let separator = if serial == 1 { "" } else { ", " };
        let _ = write!(
            log,
            r#"{separator}[{serial}, [1795366285, {serial}], "message", " - INFO: \"disk/{serial}\" of instance inst{serial}.example.com is being synced, {serial}% done"]"#
        );
    }
    log
}

/// A job file of the named shape.
fn file(shape: &str) -> Vec<u8> {
    const MIB: usize = 1024 * 1024;
    match shape {
        "small" => job(&[opcode("", "null")]),
        "500 opcodes" => job(&vec![opcode("", "null"); 500]),
        "10,000 opcodes" => job(&vec![opcode("", "null"); 10_000]),
        "10 MiB of log" => job(&[opcode(&log(10 * MIB), "null")]),
        "64 MiB in a string" => job(&[opcode("", &format!("\"{}\"", "x".repeat(64 * MIB)))]),
        "64 MiB in a list" => job(&[opcode("", &format!("[{}]", log(64 * MIB)))]),
        _ => unreachable!("{shape} is no shape"),
    }
}

const SHAPES: [&str; 6] =
    ["small", "500 opcodes", "10,000 opcodes", "10 MiB of log", "64 MiB in a string", "64 MiB in a list"];

#[divan::bench(args = SHAPES)]
fn parse(bencher: Bencher<'_, '_>, shape: &str) {
    let file = file(shape);
    bencher
        .counter(BytesCount::of_slice(&file))
        .bench_local(|| job::parse(id(), black_box(&file)).expect("it is a job").ops.len());
}

/// The limit: looking at each byte once.
#[divan::bench(args = ["10 MiB of log", "64 MiB in a string"])]
fn count_quotes(bencher: Bencher<'_, '_>, shape: &str) {
    let file = file(shape);
    bencher
        .counter(BytesCount::of_slice(&file))
        .bench_local(|| black_box(&file).iter().filter(|byte| **byte == b'"').count());
}

#[divan::bench(args = ["small", "500 opcodes", "10,000 opcodes"])]
fn machine_step(bencher: Bencher<'_, '_>, shape: &str) {
    let file = file(shape);
    let job = job::parse(id(), &file).expect("it is a job");
    let known = Progress { next: u32::try_from(job.ops.len()).expect("few opcodes") - 1, pre: true };
    bencher.bench_local(|| step(black_box(known), &job, Liveness::Alive).transitions.len());
}

#[divan::bench(args = [1, 10, 100])]
fn journal_commit(bencher: Bencher<'_, '_>, events: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open(dir.path()).expect("a journal");
    bencher.bench_local(|| {
        let changes: Vec<Change> =
            (0..events).map(|_| Change::Event(journal.next_seq(), event(), EventState::Pending)).collect();
        journal.commit(&changes).expect("room");
    });
}

fn event() -> Event {
    Event {
        key: EventKey { job: id(), op: 0, phase: Phase::Pre },
        received: Timestamp::default(),
        op_count: 1,
        op_code: "OP_TEST_DELAY".to_owned(),
        status: None,
        executed: true,
        late: false,
        time: Timestamp::default(),
    }
}

#[divan::bench(args = [5_000, 50_000], sample_count = 20)]
fn scan_queue(bencher: Bencher<'_, '_>, jobs: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    for job in 1..=jobs {
        std::fs::write(dir.path().join(format!("job-{job}")), "").expect("room");
    }
    bencher.bench_local(|| scan::jobs(dir.path()).expect("a queue").len());
}
