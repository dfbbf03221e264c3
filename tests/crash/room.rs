//! A disk without room, and a journal that is damaged.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::mount::Mount;
use super::supervised::wait_going;
use crate::harness::{Daemon, Job, NODE, OTHER_NODE, Tree};

/// Takes all the room that there is.
fn fill(path: &Path) {
    let file = fs::File::create(path).unwrap();
    let mut end = 0;
    for size in [65536, 4096, 512, 1] {
        while let Ok(written @ 1..) = file.write_at(&vec![b'x'; size], end) {
            end += written as u64;
        }
    }
}

/// Puts jobs until the daemon says that it cannot write its journal; tells the last one.
fn put_until_stalled(tree: &Tree, daemon: &Daemon<'_>) -> i64 {
    let stalled = || daemon.logged("no hook starts until the journal can be written") > 0;
    let mut id = 1;
    while !stalled() {
        id += 1;
        let read = || daemon.status()["counters"]["versions_read"].as_i64().unwrap();
        let before = read();
        tree.put(&Job::ended(id));
        daemon.wait_status("job read", |_| read() > before || stalled());
        assert!(id < 700, "{}", tree.log());
    }
    id
}

fn hooks_ran(tree: &Tree) -> usize {
    fs::read_to_string(tree.path("hooks.log")).unwrap_or_default().lines().count()
}

#[test]
fn without_room_nothing_is_lost_held_or_begun_and_with_room_it_goes_on() {
    let tree = Tree::with_log();
    tree.set("hooks.pre", "\"hold\"");
    let _mount = Mount::over(&tree.path("state"), "1m");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    fill(&tree.path("state/fill"));
    let last = put_until_stalled(&tree, &daemon);
    let status = daemon.status();
    let problem = status["problems"][0].as_str().unwrap().to_owned();
    assert!(problem.starts_with("journal: ") && problem.contains("full"), "{problem}");
    let described = tree.cli(&["status"]);
    assert_eq!(described.code, Some(1));
    assert!(described.out.contains("PROBLEM"), "{}", described.out);

    // A job that executes now is not held, and its hooks wait.
    let ran = hooks_ran(&tree);
    let mut job = Job::delay(last + 1);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    tree.put(job.runs(0));
    let holds = |status: &Value| status["counters"]["holds_missed"].as_i64();
    daemon.wait_status("no hold", |status| holds(status) >= Some(1));
    wait_going(&process);
    tree.put(job.succeeds(0));
    process.exit();
    assert_eq!(daemon.status()["held"], json!([]));

    // It fails again and again; nothing begins.
    let errors = |status: &Value| status["counters"]["journal_errors"].as_i64().unwrap();
    let before = errors(&daemon.status());
    daemon.wait_status("another try", |status| errors(status) > before);
    assert!(hooks_ran(&tree) <= ran + 16, "only what ran already ended");
    fs::remove_file(tree.path("state/fill")).unwrap();
    daemon.wait_log("the journal can be written again", 1);
    daemon.wait_done(&[&format!("{}.0.post", last + 1)]);
    daemon.wait_status("all delivered", |status| status["undelivered"] == 0);
    assert_eq!(daemon.status()["problems"], json!([]));
    assert_eq!(tree.events().len() as i64, 2 * (last + 1));
    assert_eq!(hooks_ran(&tree) as i64, 2 * (last + 1), "each once");
}

#[test]
fn killed_and_started_without_room_it_finds_everything_once_there_is_room() {
    let tree = Tree::with_log();
    let _mount = Mount::over(&tree.path("state"), "1m");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    fill(&tree.path("state/fill"));
    let last = put_until_stalled(&tree, &daemon);
    daemon.kill();
    tree.put(&Job::ended(last + 1));
    tree.archive(last + 1);
    tree.put_serial(last + 1);
    // It may start and wait for room, or say that there is none and be started again.
    let mut daemon = Daemon::spawn(&tree, &[], &[]);
    crate::harness::wait_for(
        || (tree.log().matches("full").count() >= 2 || daemon.ended().is_some()).then_some(()),
        || tree.log(),
    );
    fs::remove_file(tree.path("state/fill")).unwrap();
    if daemon.ended().is_some() {
        daemon = tree.start();
    }
    daemon.wait_done(&[&format!("{last}.0.post"), &format!("{}.0.post", last + 1)]);
    daemon.wait_status("all delivered", |status| status["undelivered"] == 0);
    assert_eq!(tree.events().len() as i64, 2 * (last + 1), "{:#?}", tree.told());
}

type Damage = fn(&Path);

/// What may become of a journal.
const DAMAGES: &[(&str, Damage)] = &[
    ("cut in half", |path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2 + 100).unwrap();
    }),
    ("overwritten behind its head", |path| overwrite(path, 1024)),
    ("overwritten at its end", |path| {
        let size = fs::metadata(path).unwrap().len();
        overwrite(path, size - 1024 * 6);
    }),
    ("another database", |path| {
        change(path, "DROP TABLE runs; DROP TABLE events; CREATE TABLE events (x);");
    }),
    ("a job of no number", |path| {
        change(
            path,
            "INSERT INTO jobs (id, received, next, pre, op_count, seen) VALUES (-5, 0, 0, 0, 1, 0);",
        );
    }),
    ("a phase of no name", |path| {
        change(path, "UPDATE events SET phase = 'during', state = 'pending';");
    }),
    ("a larger number than there is", |path| {
        change(path, "UPDATE jobs SET next = 99999999999;");
    }),
];

fn overwrite(path: &Path, from: u64) {
    let size = fs::metadata(path).unwrap().len();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xa5; usize::try_from(size - from).unwrap()], from).unwrap();
}

fn change(path: &Path, sql: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(sql).unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
}

#[test]
fn a_damaged_journal_is_set_aside_whatever_the_damage() {
    for (what, damage) in DAMAGES {
        let tree = Tree::with_log();
        let daemon = tree.start();
        tree.put(&Job::ended(1));
        daemon.wait_done(&["1.0.post"]);
        daemon.stop();
        damage(&tree.path("state/journal.db"));
        let daemon = tree.start();
        assert_eq!(daemon.logged("it is set aside as journal.db.damaged-"), 1, "{what}: {}", tree.log());
        tree.put(&Job::ended(2));
        daemon.wait_done(&["2.0.post"]);
        assert_eq!(tree.told(), ["2.0.pre", "2.0.post succeeded"], "{what}");
        assert!(tree.event("2.0.pre")["seq"].as_i64() > Some(1_000_000), "{what}: no number repeats");
    }
}

/// Overwrites the journal of a daemon that runs, and has it read the file again.
pub fn damage_while_running(tree: &Tree) {
    let path = tree.path("state/journal.db");
    let other = Connection::open(&path).unwrap();
    other.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    other.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    overwrite(&path, 1024);
    // What the daemon has in memory of the file is out of date now.
    other.execute_batch("PRAGMA user_version = 1;").unwrap();
}

#[test]
fn a_journal_that_is_damaged_while_the_daemon_runs_is_written_anew() {
    let tree = Tree::new();
    for phase in ["pre", "post"] {
        tree.log_hook(phase, "10-log", "until [ -e DIR/gate ]; do sleep 0.02; done");
    }
    let daemon = tree.start();
    tree.put_serial(5);
    let (mut begun, mut waiting) = (Job::delay(1), Job::delay(2));
    tree.put(begun.runs(0));
    tree.put(&waiting);
    daemon.wait_hooks(1);
    daemon.wait_status("job 2", |status| status["jobs_tracked"] == 2);

    damage_while_running(&tree);
    tree.put(begun.succeeds(0));
    tree.put(waiting.runs(0));
    daemon.wait_log("and was written anew", 1);
    daemon.kill();
    fs::write(tree.path("gate"), "").unwrap();
    tree.put(waiting.succeeds(0));
    let daemon = tree.start();
    daemon.wait_done(&["1.0.post", "2.0.post"]);
    assert_eq!(daemon.logged("first start"), 1, "{}", tree.log());
    let mut told = tree.told();
    told.sort();
    let late = tree.event("2.0.post")["late"] == true;
    assert!(late && told.len() == 4, "{told:?}");
    let log = tree.hook_log();
    assert!(log.iter().any(|line| line.starts_with("10-log 1.0.pre - late=yes attempt=2")), "{log:#?}");
}

#[test]
fn a_journal_written_anew_gives_no_number_out_again() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let last = tree.event("1.0.post")["seq"].as_i64();
    damage_while_running(&tree);
    // Nothing happens in it yet: the new journal holds no event.
    tree.put(&Job::delay(2));
    daemon.wait_log("and was written anew", 1);
    // Nor does the next life of the daemon.
    daemon.stop();
    let daemon = tree.start();
    tree.put(&Job::ended(3));
    daemon.wait_done(&["3.0.post"]);
    let next = tree.event("3.0.pre")["seq"].as_i64();
    assert!(next > last, "{next:?} after {last:?}");
}

#[test]
fn a_journal_written_anew_in_standby_keeps_what_a_failover_needs() {
    let tree = Tree::with_log();
    tree.put_data("ssconf_master_node", OTHER_NODE);
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    damage_while_running(&tree);
    tree.put(&Job::delay(2));
    daemon.wait_log("and was written anew", 1);
    daemon.kill();
    tree.put_data("ssconf_master_node", NODE);
    let daemon = tree.start();
    daemon.wait_hooks(2);
    assert_eq!(tree.told(), ["1.0.pre late", "1.0.post succeeded late"]);
}

#[test]
fn without_room_for_the_file_of_held_processes_nothing_is_held() {
    let tree = Tree::with_log();
    tree.set("hooks.pre", "\"hold\"");
    let _mount = Mount::over(&tree.path("hookd"), "64k");
    let daemon = tree.start();
    fill(&tree.path("hookd/fill"));
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    tree.put(job.runs(0));
    daemon.wait_log("job 1 is not held: the file of held processes: ", 1);
    assert!(!process.has_been_stopped());
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(daemon.status()["held"], json!([]));
}
