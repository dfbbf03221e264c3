//! Files that mean harm, beside those of `tests/daemon/bad_files.rs` and the forged
//! processes of `tests/daemon/deaths.rs`. Others are met by the fuzz targets in `fuzz/`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use crate::harness::{Job, NODE, Tree};

#[test]
fn a_file_of_one_gibibyte_is_one_error() {
    let tree = Tree::new();
    let daemon = tree.start();
    let new = tree.path("queue/large.new");
    fs::File::create(&new).unwrap().set_len(1024 * 1024 * 1024).unwrap();
    fs::rename(new, tree.job_path(1)).unwrap();
    daemon.wait_log("has 1073741824 bytes", 1);
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
}

#[test]
fn a_million_brackets_are_passed_over_where_they_do_not_matter() {
    let tree = Tree::new();
    let daemon = tree.start();
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let text = Job::ended(1).text();
    tree.put_bytes(1, text.replace("\"result\": true", &format!("\"result\": {deep}")).as_bytes());
    tree.put_bytes(
        2,
        Job::ended(2).text().replace("\"livelock\": null", &format!("\"livelock\": {deep}")).as_bytes(),
    );
    tree.put_bytes(
        3,
        Job::ended(3).text().replace("\"reason\": [", &format!("\"reason\": [{deep}, ")).as_bytes(),
    );
    daemon.wait_done(&["1.0.post", "3.0.post"]);
    daemon.wait_status("the bad one", |status| status["bad_files"]["job-2"].is_string());
    assert_eq!(tree.told().len(), 4);
}

#[test]
fn a_file_that_changes_and_goes_while_it_is_read_is_read_again() {
    let tree = Tree::new();
    let daemon = tree.start();
    let (done, path) = (AtomicBool::new(false), tree.job_path(1));
    let text = Job::ended(1).logs(0, &"x".repeat(100_000)).text();
    std::thread::scope(|scope| {
        // Writes into the file itself, as nothing of Ganeti's does, and removes it.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut file = fs::File::create(&path).unwrap();
                for part in text.as_bytes().chunks(10_000) {
                    file.write_all(part).unwrap();
                }
                fs::remove_file(&path).unwrap();
            }
        });
        for id in 2..12 {
            tree.run_through(&mut Job::delay(id));
        }
        daemon.wait_done(&["11.0.post"]);
        daemon.wait_status("many versions", |status| {
            status["counters"]["versions_read"].as_i64() > Some(60)
                || status["counters"]["bad_files"].as_i64() > Some(20)
        });
        done.store(true, Ordering::Relaxed);
    });
    tree.put_bytes(1, text.as_bytes());
    daemon.wait_done(&["1.0.post"]);
    daemon.fence();
    let told: Vec<String> = tree.told().into_iter().filter(|event| event.starts_with("1.")).collect();
    assert_eq!(told, ["1.0.pre", "1.0.post succeeded"]);
    assert_eq!(tree.told().len(), 2 + 20);
}

#[test]
fn forged_files_beside_the_jobs_block_nothing_and_tell_nothing() {
    let tree = Tree::with_log();
    let fifo =
        |name: &str| mknodat(CWD, tree.path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fifo("queue/serial");
    symlink("/etc/shadow", tree.path("data/new")).unwrap();
    fs::rename(tree.path("data/new"), tree.path("data/ssconf_cluster_name")).unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    // A serial that no cluster comes to.
    fs::remove_file(tree.path("queue/serial")).unwrap();
    tree.put_serial(i64::MAX);
    // Who is master cannot be read any more: it stays as it was.
    fs::remove_file(tree.path("data/ssconf_master_node")).unwrap();
    symlink("/etc/shadow", tree.path("data/ssconf_master_node")).unwrap();
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    let status = daemon.status();
    assert!(status["problems"].to_string().contains("is a symbolic link"), "{status}");
    assert_eq!(status["master"], json!(NODE));
    let shadow = fs::read_to_string("/etc/shadow").unwrap();
    let secret = shadow.lines().next().unwrap();
    assert!(!daemon.log().contains(secret) && !status.to_string().contains(secret));
    assert!(!tree.events().iter().any(|event| event.to_string().contains(secret)));
}
