//! Limits that are reached: descriptors, processes, threads, inotify. What cannot be done
//! is said, with the limit's name, and done once the limit is raised.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use serde_json::{Value, json};

use super::mount::Mount;
use crate::harness::{Daemon, Job, Tree, wait_for};

/// A user that nobody is, so that no other process counts.
const NOBODY: u32 = 64_321;

/// Sets a limit of the daemon (prlimit(1)) as the user that it runs as.
fn limit(daemon: &Daemon<'_>, what: &str, limit: usize) {
    let pid = daemon.pid().as_raw_nonzero();
    let user = fs::metadata(format!("/proc/{pid}")).unwrap().uid().to_string();
    let status = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit"])
        .args(["--pid", &pid.to_string(), &format!("--{what}={limit}:")])
        .status();
    assert!(status.unwrap().success());
}

/// Everything ran, and ran well.
fn assert_all_well(tree: &Tree, events: &[&str]) {
    let mut told = tree.told();
    told.retain(|event| !event.starts_with('9'));
    let short: Vec<&str> = told.iter().map(|event| event.trim_end_matches(" late")).collect();
    let mut sorted = short.clone();
    sorted.sort();
    assert_eq!(sorted, events);
    for event in tree.events() {
        for run in event["runs"].as_array().unwrap() {
            assert_eq!((&run["code"], &run["error"]), (&json!(0), &json!(null)), "{event}");
        }
    }
}

fn problems(status: &Value) -> String {
    status["problems"].to_string()
}

#[test]
fn without_descriptors_it_waits_for_some_and_loses_nothing() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut dies = Job::delay(1);
    let process = tree.process_of(&mut dies);
    tree.put(dies.waits(0));
    let mut later = Job::delay(3);
    tree.put(&later);
    daemon.wait_status("both jobs", |status| status["jobs_tracked"] == 2 && status["processes_watched"] == 1);

    limit(&daemon, "nofile", 3);
    tree.put(dies.runs(0));
    process.kill();
    tree.put(&Job::ended(2));
    // A process that is there now and is not when it can be looked at again.
    let other = tree.process_of(&mut later);
    tree.put(later.runs(0));
    daemon.wait_log("cannot be read: Too many open files", 3);
    assert!(daemon.log().contains("the limit on open files is reached (ulimit -n"), "{}", daemon.log());
    other.kill();
    limit(&daemon, "nofile", 1024);
    daemon.wait_done(&["1.0.post", "2.0.post", "3.0.post"]);
    let disappeared = |id: i64| format!("{id}.0.post disappeared");
    let (first, third) = (disappeared(1), disappeared(3));
    assert_all_well(
        &tree,
        &["1.0.post disappeared", "1.0.pre", "2.0.post succeeded", "2.0.pre", &third, "3.0.pre"],
    );
    assert!(tree.told().iter().any(|event| event.starts_with(&first)));
    daemon.wait_status("no problem", |status| problems(status) == "[]" && status["bad_files"] == json!({}));
    assert!(daemon.log().lines().count() < 60, "it says so once: {}", daemon.log());
}

#[test]
fn with_descriptors_for_itself_but_not_for_hooks_hooks_wait() {
    let tree = Tree::with_log();
    tree.hook("post", "20-gate", "until [ -e DIR/gate ]; do sleep 0.01; done");
    fs::write(tree.path("gate"), "").unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    fs::remove_file(tree.path("gate")).unwrap();
    let count = fs::read_dir(format!("/proc/{}/fd", daemon.pid().as_raw_nonzero())).unwrap().count();
    // One more, for a job file or a connection, is not enough for a pipe. A process that waits
    // to become a hook has its own already: but for one hook, and two jobs have one that stays.
    limit(&daemon, "nofile", count + 1);
    tree.put(&Job::ended(2));
    tree.put(&Job::ended(3));
    daemon.wait_log("Too many open files", 1);
    limit(&daemon, "nofile", 1024);
    fs::write(tree.path("gate"), "").unwrap();
    daemon.wait_done(&["2.0.post", "3.0.post"]);
    let told = [1, 2, 3].map(|job| [format!("{job}.0.post succeeded"), format!("{job}.0.pre")]);
    assert_all_well(&tree, &told.as_flattened().iter().map(String::as_str).collect::<Vec<_>>());
}

/// A tree that a user who is not root can be the daemon of.
fn tree_of_nobody() -> Tree {
    let tree = Tree::with_log();
    fs::create_dir(tree.path("state")).unwrap();
    fs::create_dir(tree.path("hookd")).unwrap();
    fs::write(tree.path("hooks.log"), "").unwrap();
    fs::write(tree.path("hookd.log"), "").unwrap();
    fs::copy(crate::harness::PROGRAM, tree.path("ganeti-hookd")).unwrap();
    let mut open = vec![tree.path("")];
    while let Some(path) = open.pop() {
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    tree
}

#[test]
fn with_no_process_to_be_had_hooks_wait_for_one() {
    let tree = tree_of_nobody();
    let (user, program) = (NOBODY.to_string(), tree.path("ganeti-hookd").display().to_string());
    let by = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "env", "--", &program];
    let mut daemon = Daemon::spawn_program(&tree, &[], &by);
    daemon.wait_ready();
    limit(&daemon, "nproc", 1);
    tree.put(&Job::ended(1));
    daemon.wait_log("the limit on processes is reached (ulimit -u, TasksMax=)", 1);
    limit(&daemon, "nproc", 4096);
    daemon.wait_done(&["1.0.post"]);
    // Now there is a thread for hooks, and no process.
    limit(&daemon, "nproc", 1);
    tree.put(&Job::ended(2));
    daemon.wait_log("10-log cannot be started: Resource temporarily unavailable", 1);
    limit(&daemon, "nproc", 4096);
    daemon.wait_done(&["2.0.post"]);
    assert_all_well(&tree, &["1.0.post succeeded", "1.0.pre", "2.0.post succeeded", "2.0.pre"]);
    daemon.wait_status("no problem", |status| problems(status) == "[]");
}

/// A daemon in a user namespace with limits of its own, one of which is 0.
fn start_with_no<'t>(tree: &'t Tree, what: &str) -> Daemon<'t> {
    let none = format!("echo 0 >/proc/sys/user/{what} && exec \"$@\"");
    Daemon::spawn(tree, &[], &["unshare", "--user", "--map-root-user", "sh", "-c", &none, "sh"])
}

fn allow(daemon: &Daemon<'_>, what: &str) {
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let some = format!("echo 100 >/proc/sys/user/{what}");
    let status = Command::new("nsenter").args(["--user", "-t", &pid, "sh", "-c", &some]).status().unwrap();
    assert!(status.success());
}

#[test]
fn without_inotify_it_says_which_limit_and_begins_when_that_is_raised() {
    for (limit, hint) in [
        ("max_inotify_instances", "raise sysctl fs.inotify.max_user_instances"),
        ("max_inotify_watches", "raise sysctl fs.inotify.max_user_watches"),
    ] {
        let tree = Tree::with_log();
        let mut daemon = start_with_no(&tree, limit);
        daemon.wait_ready();
        daemon.wait_log(hint, 1);
        tree.put(&Job::ended(1));
        let status = daemon.status();
        assert!(problems(&status).contains(hint), "{status}");
        allow(&daemon, limit);
        daemon.wait_status("no problem", |status| problems(status) == "[]");
        // What was there by then is history, as on every first start.
        assert_eq!(tree.told(), [""; 0]);
        tree.run_through(&mut Job::delay(2));
        daemon.wait_done(&["2.0.post"]);
        assert!(daemon.log().lines().count() < 20, "{}", daemon.log());
    }
}

/// A daemon that is refused something until [`fs::remove_file`] of the file of faults.
fn start_refused<'t>(tree: &'t Tree, what: &str) -> Daemon<'t> {
    fs::write(tree.path("faults"), format!("fail {what}\n")).unwrap();
    let faults = tree.path("faults").display().to_string();
    Daemon::start(tree, &[("GANETI_HOOKD_FAULTS", &faults)])
}

#[test]
fn threads_that_cannot_start_are_started_later() {
    for what in ["thread.inotify", "thread.hook", "hook.start"] {
        let tree = Tree::with_log();
        let daemon = start_refused(&tree, what);
        tree.put(&Job::ended(1));
        daemon.wait_log("the limit on processes is reached", 1);
        assert!(problems(&daemon.status()).contains("TasksMax="), "{what}: {}", daemon.status());
        fs::remove_file(tree.path("faults")).unwrap();
        daemon.wait_status("no problem", |status| problems(status) == "[]");
        tree.put(&Job::ended(2));
        daemon.wait_done(&["2.0.post"]);
        assert_eq!(tree.event("2.0.post")["runs"][0]["code"], 0, "{what}");
        assert_eq!(daemon.logged("panicked"), 0, "{}", daemon.log());
    }
}

#[test]
fn without_a_guard_no_job_is_held() {
    let tree = Tree::with_log();
    tree.set("hooks.pre", "\"hold\"");
    let daemon = start_refused(&tree, "guard");
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(process.state(), 'S');
    assert_eq!(tree.event("1.0.pre")["late"], true);
    assert_eq!(daemon.status()["counters"]["holds"], 0);
    fs::remove_file(tree.path("faults")).unwrap();
    let mut job = Job::delay(2);
    let _process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    daemon.wait_status("job 2", |status| status["processes_watched"] == 2);
    tree.put(job.runs(0));
    daemon.wait_done(&["2.0.pre"]);
    assert_eq!(daemon.status()["counters"]["holds"], 1, "{}", daemon.log());
}

#[test]
fn a_queue_that_is_unmounted_or_mounted_over_is_noticed_and_compared() {
    let tree = Tree::with_log();
    fs::create_dir(tree.path("kept")).unwrap();
    let mount = Mount::over(&tree.path("queue"), "1m");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    tree.put_serial(1);
    daemon.wait_done(&["1.0.post"]);
    drop(mount);
    daemon.wait_log("a watched directory was removed or replaced", 1);
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    // Over the queue, where inotify tells nothing.
    let _mount = Mount::over(&tree.path("queue"), "1m");
    tree.put(&Job::ended(3));
    daemon.wait_done(&["3.0.post"]);
    daemon.wait_log("a watched directory was removed or replaced", 2);
    tree.run_through(&mut Job::delay(4));
    daemon.wait_done(&["4.0.post"]);
    wait_for(|| (tree.hook_log().len() == 8).then_some(()), || format!("{:?}", tree.hook_log()));
}
