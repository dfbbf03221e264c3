//! Job processes that die, that end well, and that are none.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, getpriority_process};
use serde_json::json;

use crate::harness::job_process::JobProcess;
use crate::harness::{Job, PATIENCE, Tree};

#[test]
fn the_post_of_a_dead_opcode_waits_for_its_pre() {
    let tree = Tree::with_log();
    tree.log_hook("pre", "10-log", "until [ -e DIR/gate ]; do sleep 0.02; done");
    let daemon = tree.start();
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_hooks(1);
    process.kill();
    daemon.wait("the death", |events| events.len() == 2);
    assert_eq!(tree.hook_log().len(), 1, "the pre hook still runs");
    fs::write(tree.path("gate"), "").unwrap();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(
        tree.hook_log(),
        [
            "10-log 1.0.pre - late=no attempt=1",
            "end 10-log 1.0.pre",
            "10-log 1.0.post disappeared late=no attempt=1",
        ]
    );
}

#[test]
fn a_process_that_writes_its_last_version_and_ends_has_succeeded() {
    const JOBS: i64 = 30;
    let tree = Tree::new();
    let daemon = tree.start();
    for id in 1..=JOBS {
        let (mut job, process) = tree.executing(id);
        if id % 3 == 0 {
            daemon.wait_done(&[&format!("{id}.0.pre")]);
        }
        tree.put(job.succeeds(0));
        // Whatever ends it then.
        if id % 2 == 0 { process.exit() } else { process.kill() }
    }
    daemon.wait_done(&[&format!("{JOBS}.0.post")]);
    let events = tree.events();
    let succeeded = events.iter().filter(|event| event["status"] == "succeeded").count();
    assert_eq!((events.len(), succeeded), (2 * JOBS as usize, JOBS as usize), "{:#?}", tree.told());
}

#[test]
fn a_death_that_only_ganeti_saw_is_believed() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_TEST_DELAY", "OP_TEST_DELAY"]);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put(job.death_is_detected());
    daemon.wait_done(&["1.0.post"]);
    daemon.fence();
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post disappeared"]);
}

#[test]
fn the_livelock_of_luxid_is_not_a_job_process() {
    let tree = Tree::new();
    let daemon = tree.start();
    let livelock = tree.livelock("luxi-daemon_1795366000");
    let luxid = JobProcess::start(&livelock);
    let mut job = Job::delay(1);
    job.process(livelock.display(), Some(luxid.pid()));
    tree.put(job.waits(0));
    daemon.fence();
    luxid.kill();
    daemon.fence();
    assert_eq!(tree.told(), [""; 0]);
    assert_eq!(daemon.status()["processes_watched"], 0);
}

/// What a job file may say of its process, and why that proves nothing.
fn forgeries(tree: &Tree, victim: &JobProcess, held: &Path) -> Vec<(&'static str, String, u32)> {
    fs::create_dir(tree.path("elsewhere")).unwrap();
    fs::write(tree.path("elsewhere/job_1"), "").unwrap();
    fs::create_dir(tree.livelock("job_directory")).unwrap();
    symlink("/etc/shadow", tree.livelock("job_link")).unwrap();
    mknodat(CWD, tree.livelock("job_fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let path = |path: &Path| path.display().to_string();
    let pid = victim.pid();
    vec![
        ("outside the directory", path(&tree.path("elsewhere/job_1")), pid),
        ("outside by way of the directory", path(&tree.livelock("../../elsewhere/job_1")), pid),
        ("a file of the system", "/etc/shadow".to_owned(), pid),
        ("a device", "/dev/zero".to_owned(), pid),
        ("no path", String::new(), pid),
        ("a relative path", "job_1".to_owned(), pid),
        ("a directory", path(&tree.livelock("job_directory")), pid),
        ("a link", path(&tree.livelock("job_link")), pid),
        ("a FIFO", path(&tree.livelock("job_fifo")), pid),
        ("held by another process", path(held), pid),
        ("the machine's first process", path(&tree.livelock("job_missing")), 1),
        ("no process ID", path(&tree.livelock("job_missing")), u32::MAX),
    ]
}

#[test]
fn a_forged_process_is_neither_dead_nor_signalled_nor_waited_for() {
    let tree = Tree::new();
    let daemon = tree.start();
    let held = tree.livelock("job_held");
    let holder = JobProcess::start(&held);
    let victim = JobProcess::start(&tree.path("victim"));
    let mut jobs = Vec::new();
    for (number, (what, livelock, pid)) in (1..).zip(forgeries(&tree, &victim, &held)) {
        let mut job = Job::delay(number);
        tree.put(job.process(livelock, Some(pid)).runs(0));
        jobs.push((what, job));
    }
    daemon.fence();
    let told = tree.told();
    for (what, job) in &jobs {
        assert!(told.contains(&format!("{}.0.pre", job.id)), "{what}");
    }
    assert_eq!(told.len(), jobs.len(), "{told:?}");
    assert!(is_untouched(&victim) && is_untouched(&holder));
    // Nor is the job lost for it.
    for (what, mut job) in jobs {
        tree.put(job.succeeds(0));
        let post = format!("{}.0.post", job.id);
        daemon.wait_done(&[&post]);
        assert_eq!(tree.event(&post)["status"], "succeeded", "{what}");
    }
}

#[test]
fn a_process_id_that_went_to_another_process_is_a_death() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    // The livelock is free, as a killed process leaves it.
    fs::write(tree.livelock("job_free"), "").unwrap();
    let other = JobProcess::start(&tree.path("other"));
    tree.put(job.process(tree.livelock("job_free").display(), Some(other.pid())).runs(0));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.event("1.0.post")["status"], "disappeared");
    assert!(is_untouched(&other));
}

/// Whether a process goes on as ever.
fn is_untouched(process: &JobProcess) -> bool {
    "SR".contains(process.state()) && !process.has_been_stopped()
}

#[test]
fn a_job_that_is_archived_and_then_killed_is_named_where_it_was_last() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.archive(1);
    daemon.fence();
    process.kill();
    let place = tree.path("queue/archive/0/job-1").display().to_string();
    daemon.wait_log(&format!("job 1 has not ended and is in the archive, {place}"), 1);
    daemon.fence();
    assert!(!tree.log().contains("vanished"), "{}", tree.log());
}

/// Answers at a socket of Ganeti's as its daemon does; tells what it was asked.
fn ganeti_daemon(tree: &Tree, name: &str, answer: &'static str) -> Receiver<String> {
    fs::create_dir_all(tree.path("run/socket")).unwrap();
    let listener = UnixListener::bind(tree.path(&format!("run/socket/{name}"))).unwrap();
    let (sender, asked) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            BufReader::new(&stream).read_until(3, &mut request).unwrap();
            sender.send(String::from_utf8(request).unwrap()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    asked
}

#[test]
fn ganeti_is_told_of_a_death_while_the_post_hook_runs() {
    let tree = Tree::new();
    tree.set("deaths.tell-ganeti", "true");
    tree.log_hook("post", "10-log", "until [ -e DIR/gate ]; do sleep 0.02; done");
    let wconfd = ganeti_daemon(&tree, "ganeti-wconfd", "{\"success\":true,\"result\":[]}\x03");
    let dead = "{\"success\":true,\"result\":[true,\"Job 1 has been already dead\"]}\x03";
    let luxid = ganeti_daemon(&tree, "ganeti-query", dead);
    let daemon = tree.start();
    let (_, process) = tree.executing(1);
    daemon.wait_done(&["1.0.pre"]);
    process.kill();
    let asked = luxid.recv_timeout(PATIENCE).unwrap();
    assert_eq!(asked, "{\"method\":\"CancelJob\",\"args\":[1,true]}\x03");
    // The planner asks it, too.
    assert!(wconfd.try_iter().any(|asked| asked.contains("\"cleanupLocks\"")));
    daemon.wait_status("that it is counted", |status| status["counters"]["deaths_told"] == 1);
    let event = tree.event("1.0.post");
    assert_eq!((&event["state"], &event["told_ganeti"]), (&json!("pending"), &json!(true)));
    fs::write(tree.path("gate"), "").unwrap();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(luxid.try_recv(), Err(TryRecvError::Empty), "once");
}

#[test]
fn unless_somebody_wants_it_ganeti_is_told_nothing() {
    let tree = Tree::with_log();
    let luxid = ganeti_daemon(&tree, "ganeti-query", "");
    let daemon = tree.start();
    let (_, process) = tree.executing(1);
    process.kill();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.event("1.0.post")["told_ganeti"], json!(null));
    assert_eq!(luxid.try_recv(), Err(TryRecvError::Empty));
}

/// The nice values of a process's threads, by their names (proc_pid_stat(5)).
fn nice_values(pid: Pid) -> BTreeMap<String, i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let value = |stat: String| {
        let (begin, rest) = stat.rsplit_once(") ").unwrap();
        let name = begin.split_once(" (").unwrap().1.to_owned();
        (name, rest.split(' ').nth(16).unwrap().parse().unwrap())
    };
    stats.map(value).collect()
}

#[test]
fn who_works_for_the_daemon_goes_first_and_who_waits_for_ganeti_does_not() {
    let tree = Tree::new();
    tree.set("deaths.tell-ganeti", "true");
    let daemon = tree.start();
    let (_, process) = tree.executing(1);
    daemon.wait_done(&["1.0.pre"]);
    process.kill();
    daemon.wait_status("that Ganeti is not there", |status| status["counters"]["deaths_not_told"] == 1);
    let nice = nice_values(daemon.pid());
    let first = nice["ganeti-hookd"];
    assert_eq!((nice["notify-rs inoti"], nice["exits"]), (first, first), "{nice:?}");
    assert_eq!(nice["deaths"], getpriority_process(None).unwrap(), "{nice:?}");
}

#[test]
fn ganeti_is_told_nothing_more_once_nobody_wants_that() {
    let tree = Tree::with_log();
    tree.set("deaths.tell-ganeti", "true");
    let dead = "{\"success\":true,\"result\":[true,\"Job 1 has been already dead\"]}\x03";
    let luxid = ganeti_daemon(&tree, "ganeti-query", dead);
    // It takes its time, and nobody knows what else it is asked.
    let wconfd = UnixListener::bind(tree.path("run/socket/ganeti-wconfd")).unwrap();
    let daemon = tree.start();
    let processes = [1, 2, 3, 4].map(|id| {
        let (_, process) = tree.executing(id);
        process
    });
    daemon.wait("all", |events| events.len() == 4);
    processes.into_iter().for_each(JobProcess::kill);
    daemon.wait("their deaths", |events| events.len() == 8);
    tree.set("deaths.tell-ganeti", "false");
    daemon.signal(Signal::HUP);
    daemon.wait_log("job 4: Ganeti was not told that its process has died: tell-ganeti was turned off", 1);
    assert!(luxid.try_iter().all(|asked| !asked.contains("[4,true]")));
    drop(wconfd);
}
