//! A guard against decay: how many instructions the hot paths take.
//!
//! `cargo bench --bench instructions` runs each workload once under valgrind's callgrind,
//! which counts the same on a busy machine as on an idle one, and compares the counts with
//! `benches/instructions.toml`. It fails when one has moved by more than a margin: upwards
//! is decay; downwards is room for decay that nobody would see. After a change that was
//! meant, `cargo bench --bench instructions -- --update` takes the new counts over.
//!
//! The compiler and libc decide on the counts too, if little: parsing 500 opcodes moved by
//! 1% with no LTO, `opt-level=2` or 16 codegen units, and by 0.1% from rustc 1.95 to a 1.97
//! nightly; a libc without AVX2 moved one count of some hundred by 2.4%, others by 0.5% or
//! not at all. A compiler other than the baseline's gets more room, and still cannot hide a
//! part that got much slower.

#![expect(clippy::expect_used, reason = "a benchmark whose ground gives way is to stop")]

mod shapes;

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use ganeti_hookd::engine::tracker::{Lateness, Tracker};
use ganeti_hookd::engine::transitions::{Progress, step};
use ganeti_hookd::ganeti::job::{self, Job, JobId, Liveness, Status, Timestamp};
use ganeti_hookd::ganeti::recording;
use serde::{Deserialize, Serialize};

use shapes::{file, id};

/// By how much a count may differ from the baseline's, in percent.
const MARGIN: f64 = 5.0;

/// The same when the compiler is not the one that the baseline was taken with.
const MARGIN_OTHER_COMPILER: f64 = 15.0;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");

const HEADER: &str = "\
# Instructions that each workload of benches/instructions.rs takes, counted by callgrind.
# They depend on the code, on the compiler, and a little on libc (memcpy, malloc).
# Written by `cargo bench --bench instructions -- --update`.

";

/// What a job is looked at among.
const KNOWN_JOBS: i64 = 5_000;

const WORKLOADS: [&str; 8] = [
    "parse: small",
    "parse: 500 opcodes",
    "parse: 10 MiB of log",
    "parse: recorded, longest log",
    "step: 500 opcodes, the last one runs on",
    "step: 500 opcodes at once",
    "look: one opcode runs on, 5000 jobs",
    "look: 500 opcodes at once, 5000 jobs",
];

#[derive(Debug, Deserialize, Serialize)]
struct Baseline {
    rustc: String,
    libc: String,
    instructions: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(&count_all()),
        ["--update"] => {
            let text = toml::to_string(&count_all()).expect("counts are TOML");
            fs::write(BASELINE, format!("{HEADER}{text}")).expect("the baseline can be written");
            ExitCode::SUCCESS
        }
        ["--run", workload] => {
            run(workload);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: cargo bench --bench instructions [-- --update]");
            ExitCode::FAILURE
        }
    }
}

fn compare(now: &Baseline) -> ExitCode {
    let text = fs::read_to_string(BASELINE).expect("a baseline; `-- --update` takes one");
    let baseline: Baseline = toml::from_str(&text).expect("a baseline; `-- --update` takes a new one");
    let margin = if baseline.rustc == now.rustc { MARGIN } else { MARGIN_OTHER_COMPILER };
    println!("baseline: {}, {}", baseline.rustc, baseline.libc);
    println!("now:      {}, {}; margin {margin}%", now.rustc, now.libc);
    let mut moved = !baseline.instructions.keys().eq(now.instructions.keys());
    for (workload, count) in &now.instructions {
        let before = baseline.instructions.get(workload).copied().unwrap_or_default();
        let percent = (*count as f64 / before as f64 - 1.0) * 100.0;
        let bad = percent.is_nan() || percent.abs() > margin;
        moved |= bad;
        println!(
            "{workload:42} {before:>10} {count:>10} {percent:>+7.2}%{}",
            if bad { "  MOVED" } else { "" }
        );
    }
    if !moved {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "The counts are not the baseline's. More instructions than the change is worth? Then mend it. \
         Meant, or a new compiler, and the code before the change moved as far with it? \
         `cargo bench --bench instructions -- --update`, and say why in the commit."
    );
    ExitCode::FAILURE
}

fn count_all() -> Baseline {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    Baseline {
        rustc: output(Command::new(rustc).arg("--version")),
        libc: output(Command::new("getconf").arg("GNU_LIBC_VERSION")),
        instructions: WORKLOADS.iter().map(|workload| ((*workload).to_owned(), count(workload))).collect(),
    }
}

/// Counts the instructions below [`measured`] in a run of the workload.
fn count(workload: &str) -> u64 {
    let dir = tempfile::tempdir().expect("a directory");
    let profile = dir.path().join("profile");
    output(
        Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind", "--toggle-collect=*instructions::measured*"])
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(std::env::current_exe().expect("this program"))
            .args(["--run", workload]),
    );
    let profile = fs::read_to_string(profile).expect("callgrind's counts");
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.expect("callgrind's total").trim().parse().expect("a number");
    assert!(total > 0, "nothing was counted: is `measured` still a function of its own?");
    total
}

fn output(command: &mut Command) -> String {
    let program = command.get_program().to_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{program:?} is needed: {error}"));
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program:?} failed: {errors}");
    text.trim().to_owned()
}

/// What callgrind counts. Not inlined, so that it can be found by its name.
#[inline(never)]
fn measured(work: &dyn Fn() -> usize) -> usize {
    black_box(work())
}

/// Does the work twice and has the second time counted: the first one pays for what is
/// done once in a process.
fn warm(work: impl Fn() -> usize) {
    black_box(work());
    black_box(measured(&work));
}

fn run(workload: &str) {
    let (part, shape) = workload.split_once(": ").expect("a workload");
    match (part, shape) {
        ("parse", "recorded, longest log") => {
            let (id, file) = recorded();
            run_parse(id, &file);
        }
        ("parse", shape) => run_parse(id(), &file(shape)),
        ("step", "500 opcodes, the last one runs on") => run_step(&running(&file("500 opcodes"))),
        ("step", "500 opcodes at once") => run_step(&ended(&file("500 opcodes"))),
        ("look", "one opcode runs on, 5000 jobs") => run_look(&running(&file("small"))),
        ("look", "500 opcodes at once, 5000 jobs") => run_look(&ended(&file("500 opcodes"))),
        _ => unreachable!("{workload} is no workload"),
    }
}

fn run_parse(id: JobId, file: &[u8]) {
    warm(|| parsed(id, black_box(file)).ops.len());
}

fn run_step((job, known): &(Job<'_>, Progress)) {
    warm(|| step(black_box(*known), job, Liveness::Alive).transitions.len());
}

fn run_look((job, known): &(Job<'_>, Progress)) {
    let look = |tracker: &Tracker| {
        tracker.look(job, Liveness::Alive, Progress::default(), Lateness::PassedPres, Timestamp::default())
    };
    let mut tracker = Tracker::default();
    let mut tracked = look(&tracker).tracked;
    tracked.progress = *known;
    for number in 1..=KNOWN_JOBS {
        tracker.keep(JobId::try_from(number).expect("a job number"), tracked.clone());
    }
    warm(|| look(black_box(&tracker)).events.len());
}

/// A job that has ended, and of which nothing has been told.
fn ended(file: &[u8]) -> (Job<'_>, Progress) {
    (parsed(id(), file), Progress::default())
}

/// A job whose last opcode executes, and all of which has been told.
fn running(file: &[u8]) -> (Job<'_>, Progress) {
    let mut job = parsed(id(), file);
    let last = job.ops.last_mut().expect("a job has opcodes");
    (last.status, last.ended) = (Status::Running, None);
    let next = u32::try_from(job.ops.len() - 1).expect("few opcodes");
    (job, Progress { next, pre: true })
}

fn parsed(id: JobId, file: &[u8]) -> Job<'_> {
    job::parse(id, file).expect("it is a job")
}

/// The longest job file of the recordings, which has the longest log too, and the job's number.
fn recorded() -> (JobId, Vec<u8>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/instance-lifecycle/events.jsonl");
    let text = fs::read_to_string(path).expect("the recording");
    let files = text.lines().enumerate().filter_map(|(number, line)| {
        let line = recording::parse_line(number + 1, line.as_bytes()).expect("a line")?;
        let id = JobId::from_file_name(line.path?.as_bytes())?;
        Some((id, line.content?.into_bytes()))
    });
    files.max_by_key(|(_, file)| file.len()).expect("a job file")
}
