//! Files that are no jobs: one error that names the file, and life goes on.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use crate::harness::{Job, Tree};

/// Something in a job's place, and what is said about it.
type BadFile = (fn(&Tree, i64), &'static str);

fn put(tree: &Tree, id: i64, text: impl AsRef<[u8]>) {
    tree.put_bytes(id, text.as_ref());
}

fn altered(tree: &Tree, id: i64, from: &str, to: &str) {
    let text = Job::ended(id).text();
    assert!(text.contains(from), "{text}");
    put(tree, id, text.replace(from, to));
}

const BAD_FILES: [BadFile; 16] = [
    (|tree, id| put(tree, id, ""), "EOF while parsing"),
    (|tree, id| put(tree, id, &Job::ended(id).text()[..300]), "EOF while parsing"),
    (|tree, id| put(tree, id, "\0\0\0\0"), "expected value"),
    (|tree, id| put(tree, id, "[".repeat(200_000)), "not a job"),
    (|tree, id| put(tree, id, format!("{{\"id\":{id},\"ops\":{}", "[".repeat(200_000))), "not a job"),
    (|tree, id| put(tree, id, format!("{{\"id\":{id},\"ops\":{{\"0\":1}}}}")), "invalid type: map"),
    (|tree, id| put(tree, id, Job::ended(id + 1000).text()), "but holds job 10"),
    (|tree, id| altered(tree, id, "\"success\"", "\"lost\""), "unknown variant `lost`"),
    (
        |tree, id| altered(tree, id, "\"process_id\": null", "\"process_id\": -1"),
        "invalid value: integer `-1`",
    ),
    (|tree, id| altered(tree, id, "\"process_id\": null", "\"process_id\": \"1\""), "invalid type: string"),
    (|tree, id| altered(tree, id, "OP_TEST_DELAY", "OP_TEST\\u0000DELAY"), "the OP_ID of opcode 0 is"),
    (
        |tree, id| {
            let mut text = Job::ended(id).text().into_bytes();
            let op_id = text.windows(3).position(|word| word == b"OP_").unwrap();
            // The opcode's name, the second time: the first one is the key.
            let name = text[op_id + 3..].windows(3).position(|word| word == b"OP_").unwrap() + op_id + 3;
            text[name] = 0xff;
            put(tree, id, text);
        },
        "invalid unicode code point",
    ),
    (
        |tree, id| {
            let new = tree.path("queue/large.new");
            File::create(&new).unwrap().set_len(300 * 1024 * 1024).unwrap();
            fs::rename(new, tree.job_path(id)).unwrap();
        },
        "has 314572800 bytes; the limit is",
    ),
    (|tree, id| symlink("/etc/shadow", tree.job_path(id)).unwrap(), "is a symbolic link"),
    (
        |tree, id| mknodat(CWD, tree.job_path(id), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
        "is not a regular file",
    ),
    (|tree, id| fs::create_dir(tree.job_path(id)).unwrap(), "is not a regular file"),
];

#[test]
fn a_bad_file_costs_one_error_and_is_looked_at_again_when_it_changes() {
    let tree = Tree::new();
    let daemon = tree.start();
    for (id, (make, _)) in (1..).zip(BAD_FILES) {
        make(&tree, id);
    }
    daemon.fence();
    assert_eq!(tree.told(), [""; 0]);
    for (id, (_, error)) in (1..).zip(BAD_FILES) {
        let name = tree.job_path(id).display().to_string();
        let log = daemon.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&format!("{name}: "))).collect();
        assert!(lines.len() == 1 && lines[0].contains("ERROR"), "{name}: {lines:#?}");
        assert!(lines[0].contains(error), "{error} is not in {}", lines[0]);
    }
    let bad_files = daemon.status()["bad_files"].as_object().unwrap().len();
    assert_eq!(bad_files, BAD_FILES.len());

    for id in 1..=BAD_FILES.len() as i64 {
        if tree.job_path(id).is_dir() {
            fs::remove_dir(tree.job_path(id)).unwrap();
        }
        tree.put(&Job::ended(id));
        daemon.wait_done(&[&format!("{id}.0.post")]);
    }
    assert_eq!(tree.told().len(), 2 * BAD_FILES.len());
    assert!(daemon.status()["bad_files"].as_object().unwrap().is_empty());
}

#[test]
fn a_bad_version_of_a_job_that_runs_is_passed_over() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put_bytes(1, b"{\"id\": 1, ");
    daemon.wait_log("job-1: not a job", 1);
    // Whoever cannot read the job cannot know how it ended.
    process.kill();
    daemon.fence();
    assert_eq!(tree.told(), ["1.0.pre"]);
    tree.put(&job);
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post disappeared"]);
}

#[test]
fn names_that_are_no_jobs_are_not_looked_at() {
    let tree = Tree::new();
    let daemon = tree.start();
    for name in [
        "job-",
        "job-0",
        "job-01",
        "job-1.new",
        "job-1-22-3.tmp",
        "job-99999999999999999999",
        "version",
        "lock",
    ] {
        fs::write(tree.path("queue").join(name), "nothing of use").unwrap();
    }
    daemon.fence();
    assert_eq!(daemon.logged("ERROR"), 0, "{}", daemon.log());
    assert_eq!(daemon.status()["counters"]["versions_read"], 1, "the fence");
}

#[test]
fn what_an_old_ganeti_left_is_history() {
    const TIMES: &str =
        r#""start_timestamp": [1290000000, 1], "exec_timestamp": null, "end_timestamp": null"#;
    let tree = Tree::with_log();
    for id in 1..=300 {
        let status = ["success", "waitlock"][id as usize % 2];
        let op =
            format!(r#"{{"input": {{"OP_ID": "OP_TEST_DELAY"}}, "status": "{status}", "log": [], {TIMES}}}"#);
        put(&tree, id, format!(r#"{{"id": "{id}", "ops": [{op}], {TIMES}}}"#));
    }
    for _ in 0..2 {
        let daemon = tree.start();
        daemon.wait_status("all jobs", |status| status["jobs_tracked"].as_i64() >= Some(300));
        daemon.fence();
        let status = daemon.status();
        assert_eq!((&status["jobs_open"], &status["bad_files"]), (&json!(0), &json!({})));
        assert!(tree.told().is_empty(), "{:?}", tree.told());
        daemon.stop();
    }
    let log = tree.log();
    assert_eq!(log.matches("history").count(), 3, "a first start, and a line for all in each life\n{log}");
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

#[test]
fn a_long_list_of_bad_files_is_shown_in_part() {
    let tree = Tree::new();
    (1..=100).for_each(|id| put(&tree, id, "{"));
    let daemon = tree.start();
    daemon.wait_status("all files", |status| status["bad_files"].as_object().unwrap().len() == 100);
    let said = tree.cli(&["status"]).out;
    assert_eq!(said.matches("bad file").count(), 21, "{said}");
    assert!(said.ends_with("bad file   and 80 more, which --json shows\n"), "{said}");
}
