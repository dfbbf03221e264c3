//! What the parts cost: parsing by size and shape, the machine, the journal, the scan.
//!
//! `cargo bench --bench parts`. Times on shared machines mean little; the throughput of
//! one shape against another, and of `memchr` over the same bytes in the same run, does.

#![expect(clippy::expect_used, reason = "a benchmark whose ground gives way is to stop")]

mod shapes;

use std::hint::black_box;

use divan::Bencher;
use divan::counter::BytesCount;
use ganeti_hookd::engine::change::{Change, EventState};
use ganeti_hookd::engine::metrics::{Figures, Metrics};
use ganeti_hookd::engine::transitions::{Progress, step};
use ganeti_hookd::ganeti::event::{Event, EventKey, Phase};
use ganeti_hookd::ganeti::job::{self, Liveness, Timestamp};
use ganeti_hookd::world::journal::Journal;
use ganeti_hookd::world::queue::scan;

use shapes::{file, id};

fn main() {
    divan::main();
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
    let mut seqs = 1..;
    bencher.bench_local(|| {
        let changes: Vec<Change> =
            seqs.by_ref().take(events).map(|seq| Change::Event(seq, event(), EventState::Pending)).collect();
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
        about: Default::default(),
    }
}

/// What each event costs the daemon's own thread so that Prometheus can be told of it.
#[divan::bench]
fn count_an_event(bencher: Bencher<'_, '_>) {
    let (mut figures, event) = (Figures::default(), event());
    bencher.bench_local(|| {
        figures.noticed(black_box(&event));
        figures.event(black_box(&event));
    });
}

/// What a scrape costs: a copy on the daemon's own thread, and words on that of whoever asks.
#[divan::bench(args = [10, 150])]
fn copy_for_a_scrape(bencher: Bencher<'_, '_>, op_codes: usize) {
    let figures = figures(op_codes);
    bencher.bench_local(|| black_box(&figures).clone());
}

#[divan::bench(args = [10, 150])]
fn word_a_scrape(bencher: Bencher<'_, '_>, op_codes: usize) {
    let metrics = Metrics { figures: figures(op_codes), ..Metrics::default() };
    bencher.bench_local(|| black_box(&metrics).text().len());
}

/// Of so many types of opcodes.
fn figures(op_codes: usize) -> Figures {
    let mut figures = Figures::default();
    for number in 0..op_codes {
        figures.event(&Event { op_code: format!("OP_{number}"), ..event() });
    }
    figures
}

#[divan::bench(args = [5_000, 50_000], sample_count = 20)]
fn scan_queue(bencher: Bencher<'_, '_>, jobs: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    for job in 1..=jobs {
        std::fs::write(dir.path().join(format!("job-{job}")), "").expect("room");
    }
    bencher.bench_local(|| scan::jobs(dir.path()).expect("a queue").len());
}
