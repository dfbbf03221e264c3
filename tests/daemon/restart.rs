//! The first start, restarts, and deaths of the daemon itself.

use std::fs;

use rusqlite::Connection;
use serde_json::json;

use crate::harness::job_process::JobProcess;
use crate::harness::{Job, Tree};

/// The first two words of each line of the hooks' log, and what is asked of the rest.
fn ran(tree: &Tree, tail: impl Fn(&str) -> String) -> Vec<String> {
    let short = |line: &String| {
        let mut words = line.split(' ');
        let (script, event) = (words.next().unwrap(), words.next().unwrap());
        format!("{script} {event}{}", tail(line))
    };
    tree.hook_log().iter().map(short).collect()
}

#[test]
fn on_the_first_start_what_is_over_is_history() {
    let tree = Tree::with_log();
    tree.put(&Job::ended(1));
    let mut alive = Job::new(2, &["OP_TEST_DELAY", "OP_TEST_DELAY"]);
    let process = tree.process_of(&mut alive);
    tree.put(alive.succeeds(0).runs(1));
    let mut dead = Job::delay(3);
    tree.process_of(&mut dead).kill();
    tree.put(dead.runs(0));
    let mut queued = Job::delay(4);
    tree.put(&queued);
    tree.put(&Job::ended(5));
    tree.archive(5);
    tree.put_serial(5);
    let daemon = tree.start();
    daemon.wait_done(&["3.0.post"]);
    daemon.fence();
    assert_eq!(tree.told(), ["3.0.post disappeared late"]);
    tree.put(alive.succeeds(1));
    process.exit();
    tree.run_through(&mut queued);
    daemon.wait_done(&["2.1.post", "4.0.post"]);
    let told = tree.told();
    assert_eq!(told[1], "2.1.post succeeded", "adopted: a post and no pre");
    assert_eq!(told.len(), 4, "{told:#?}");
    assert_eq!(tree.hook_log()[0], "10-log 3.0.post disappeared late=yes attempt=1");
}

#[test]
fn what_happened_while_the_daemon_was_down_comes_late() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut before = Job::delay(1);
    tree.put(before.runs(0));
    // The number 2 has been given out, and job 3 is there before job 2 is.
    tree.put_serial(3);
    tree.put(&Job::ended(3));
    daemon.wait_done(&["1.0.pre", "3.0.post"]);
    daemon.stop();

    tree.put(before.succeeds(0));
    for archived in [2, 4] {
        tree.put(&Job::ended(archived));
        tree.archive(archived);
    }
    tree.put(Job::delay(5).waits(0).fails(0));
    tree.put_serial(5);
    let seen = tree.told().len();
    let daemon = tree.start();
    daemon.wait_done(&["1.0.post", "2.0.post", "4.0.post", "5.0.post"]);
    let late = [
        "1.0.post succeeded late",
        "2.0.pre late",
        "2.0.post succeeded late",
        "4.0.pre late",
        "4.0.post succeeded late",
        "5.0.post failed late",
    ];
    // Each job's in order; which job comes first is up to when the scan's end is heard of.
    let mut told = tree.told().split_off(seen);
    told.sort_by_key(|event| event.split('.').next().unwrap().parse::<i64>().unwrap());
    assert_eq!(told, late);
    let log = tree.hook_log();
    assert!(log[seen..].iter().all(|line| line.ends_with("late=yes attempt=1")), "{log:#?}");
    daemon.stop();

    let daemon = tree.start();
    daemon.fence();
    assert_eq!(tree.told().len(), seen + late.len(), "once is enough");
    assert_eq!(tree.hook_log().len(), seen + late.len());
}

#[test]
fn jobs_that_were_archived_before_anybody_looked_are_found() {
    let tree = Tree::new();
    let daemon = tree.start();
    // The daemon does not run while this happens, and hears of it all at once.
    daemon.stand_still();
    for id in 1..=3 {
        tree.put(&Job::ended(id));
        tree.archive(id);
    }
    daemon.signal(rustix::process::Signal::CONT);
    daemon.wait_done(&["1.0.post", "2.0.post", "3.0.post"]);
    assert_eq!(tree.told().len(), 6);
}

#[test]
fn a_hook_that_was_under_way_runs_again_and_those_before_it_do_not() {
    let tree = Tree::new();
    tree.log_hook("pre", "10-before", "");
    tree.log_hook("pre", "20-hangs", "[ $GANETI_HOOKD_ATTEMPT -gt 1 ] || sleep 600");
    tree.log_hook("pre", "30-after", "");
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.runs(0));
    daemon.wait_hooks(2);
    daemon.kill();
    let daemon = tree.start();
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(
        tree.hook_log(),
        [
            "10-before 1.0.pre - late=no attempt=1",
            "20-hangs 1.0.pre - late=no attempt=1",
            "20-hangs 1.0.pre - late=yes attempt=2",
            "end 20-hangs 1.0.pre",
            "30-after 1.0.pre - late=yes attempt=1",
        ]
    );
    let runs = tree.event("1.0.pre")["runs"].as_array().unwrap().clone();
    let ended: Vec<bool> = runs.iter().map(|run| run["ended"].as_bool().unwrap()).collect();
    assert_eq!(ended, [true, false, true, true], "{runs:#?}");
    let said = tree.cli(&["events", "--no-headers", "-o", "runs"]).out;
    let first = said.lines().next().unwrap().trim();
    assert_eq!(first, "10-before=0,20-hangs=interrupted,20-hangs=0,30-after=0");
    let said = tree.cli(&["env", "1", "0", "pre"]).out;
    assert!(said.contains("GANETI_HOOKD_ATTEMPT=2\n") && said.contains("GANETI_HOOKD_LATE=yes\n"), "{said}");
}

#[test]
fn a_hook_that_ends_while_the_daemon_stops_has_ended_and_the_next_one_is_for_the_next_start() {
    let tree = Tree::new();
    tree.log_hook(
        "post",
        "10-waits",
        "[ $GANETI_HOOKD_ATTEMPT -gt 1 ] || until [ -e DIR/gate ]; do sleep 0.02; done",
    );
    tree.log_hook("post", "20-after", "");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    tree.put(&Job::ended(2));
    daemon.wait_hooks(2);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_log("stopping", 1);
    fs::write(tree.path("gate"), "").unwrap();
    assert!(daemon.stop().0.success());
    let daemon = tree.start();
    daemon.wait_done(&["1.0.post", "2.0.post"]);
    let mut ran = ran(&tree, |line| line.split(' ').nth(4).map(|a| format!(" {a}")).unwrap_or_default());
    ran.retain(|line| !line.starts_with("end "));
    ran.sort();
    assert_eq!(
        ran,
        [
            "10-waits 1.0.post attempt=1",
            "10-waits 2.0.post attempt=1",
            "20-after 1.0.post attempt=1",
            "20-after 2.0.post attempt=1",
        ]
    );
}

#[test]
fn a_process_that_died_while_the_daemon_was_down_has_disappeared() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    daemon.kill();
    process.kill();
    let daemon = tree.start();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post disappeared late"]);
}

#[test]
fn a_process_that_lives_on_is_watched_again() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    daemon.kill();
    let daemon = tree.start();
    daemon.fence();
    assert_eq!(tree.told(), ["1.0.pre"]);
    process.kill();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post disappeared"]);
}

#[test]
fn a_cluster_that_was_made_again_while_the_daemon_was_down() {
    let tree = Tree::new();
    let daemon = tree.start();
    for id in 1..=4 {
        tree.put(&Job::ended(id));
    }
    tree.put_serial(4);
    daemon.wait_done(&["4.0.post"]);
    // Ganeti leaves the archive of the old cluster where it is.
    for id in 2..=4 {
        tree.archive(id);
    }
    daemon.fence();
    daemon.stop();
    let seen = tree.told().len();
    fs::remove_file(tree.job_path(1)).unwrap();
    tree.put(&Job::ended(1));
    tree.put_serial(3);
    let daemon = tree.start();
    daemon.fence();
    assert_eq!(tree.told()[seen..], ["1.0.pre late", "1.0.post succeeded late"]);
    // Then the new cluster's jobs come and go like the old one's did.
    for id in [2, 3] {
        tree.put(&Job::ended(id));
        let post = format!("{id}.0.post");
        daemon.wait(&post, |events| events.iter().filter(|event| event["event"] == post).count() == 2);
        tree.archive(id);
    }
}

/// What the history says is changed, as time would.
fn change_history(tree: &Tree, sql: &str) {
    Connection::open(tree.path("state/journal.db")).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn what_was_told_and_forgotten_is_not_told_again_when_the_serial_goes_back() {
    let tree = Tree::new();
    tree.put_serial(950);
    let daemon = tree.start();
    for id in 1..=3 {
        tree.put(&Job::ended(id));
        daemon.wait_done(&[&format!("{id}.0.post")]);
        tree.archive(id);
    }
    daemon.fence();
    daemon.stop();
    change_history(
        &tree,
        "INSERT OR REPLACE INTO meta SELECT 'told_until', max(time) FROM events WHERE job < 3;
         DELETE FROM events WHERE job < 3;",
    );
    let told = tree.told();
    // A candidate that was away when the serial file was distributed has an old one.
    tree.put_serial(3);
    let daemon = tree.start();
    assert_eq!(daemon.logged("job numbers begin again at 3"), 1);
    assert_eq!(tree.told(), told);
}

#[test]
fn no_job_is_forgotten_before_it_has_been_looked_at() {
    let tree = Tree::new();
    // More than one turn looks at.
    for id in 1..=1100 {
        tree.put(&Job::ended(id));
    }
    let daemon = tree.start();
    let mut last = Job::delay(2000);
    tree.put(last.runs(0));
    daemon.wait_done(&["2000.0.pre"]);
    daemon.kill();
    tree.put(last.succeeds(0));
    tree.archive(2000);
    // It has been down for longer than anything is kept.
    change_history(&tree, "UPDATE jobs SET seen = 0");
    let daemon = tree.start();
    daemon.wait_done(&["2000.0.post"]);
}

#[test]
fn a_damaged_journal_is_set_aside() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    daemon.stop();
    fs::write(tree.path("state/journal.db"), "this is no journal, and it is long enough to show it").unwrap();
    let daemon = tree.start();
    assert_eq!(daemon.logged("it is set aside as journal.db.damaged-"), 1);
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    assert_eq!(tree.told().len(), 2, "job 1 is history: {:#?}", tree.told());
}

#[test]
fn a_job_that_luxid_is_still_starting_is_followed_to_its_process() {
    let tree = Tree::new();
    let luxid = JobProcess::start(&tree.livelock("luxi-daemon_1795366000"));
    let mut job = Job::delay(1);
    job.process(tree.livelock("luxi-daemon_1795366000").display(), None);
    tree.put(&job);
    let daemon = tree.start();
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(daemon.status()["processes_watched"], json!(1));
    luxid.kill();
    daemon.fence();
    assert_eq!(tree.told(), ["1.0.pre"]);
    process.kill();
    daemon.wait_done(&["1.0.post"]);
}
