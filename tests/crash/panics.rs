//! A defect of ours, in whichever thread: the piece of work that it was met in has failed, that is
//! logged and counted, and all else goes on.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use ganeti_hookd::world::api;
use ganeti_hookd::world::http::exchange;
use rustix::process::Signal;
use serde_json::json;

use super::mount::Mount;
use super::receiver::Receiver;
use crate::harness::job_process::JobProcess;
use crate::harness::{Daemon, Job, NODE, OTHER_NODE, PATIENCE, Tree, wait_for};

/// The threads that have a test here, and four other places.
const MET: [&str; 27] = [
    "api",
    "api-bell",
    "api-feed",
    "api-request",
    "check",
    "checkpoints",
    "deaths",
    "exits",
    "group",
    "guard",
    "hook",
    "hostname",
    "inotify",
    "kernel-stop",
    "large-files",
    "main",
    "make-ready",
    "metrics",
    "metrics-request",
    "mounts",
    "outbox",
    "own-name",
    "passing",
    "planner",
    "recollect",
    "scanner",
    "signals",
];

/// What stands in the log of a defect of this thread: it is one line.
fn words(thread: &str) -> String {
    format!("a test's {thread}\\n\\u{{1b}}[31mdefect")
}

fn break_thread(tree: &Tree, thread: &str) {
    assert!(MET.contains(&thread));
    tree.faults(&format!("panic {thread}\n"));
}

/// The thread has a defect, and is made to meet it by this.
fn meets(tree: &Tree, daemon: &Daemon<'_>, thread: &str, how: impl FnOnce()) {
    break_thread(tree, thread);
    how();
    daemon.wait_log(&words(thread), 1);
    tree.faults("");
}

/// The defect is a problem, and counted.
fn is_told(daemon: &Daemon<'_>, thread: &str) {
    let has_words = |text: &str| text.contains(&words(thread)) && text.contains("panicked at src/");
    let told = |problem: &serde_json::Value| problem.as_str().is_some_and(has_words);
    let status = daemon.wait_status("the defect", |status| {
        status["problems"].as_array().unwrap().iter().any(told) && status["counters"]["panics"] != json!(0)
    });
    let place = status["problems"].to_string();
    assert!(place.contains("defect of ganeti-hookd: thread "), "{place}");
}

fn all_is_well(tree: &Tree, daemon: &Daemon<'_>, id: i64) {
    tree.put(&Job::ended(id));
    daemon.wait_done(&[&format!("{id}.0.post")]);
    for phase in ["pre", "post"] {
        let event = tree.event(&format!("{id}.0.{phase}"));
        assert_eq!(event["runs"][0]["code"], json!(0), "{event}\n{}", daemon.log());
    }
}

#[test]
fn of_a_run() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    meets(&tree, &daemon, "hook", || {
        tree.put(&Job::ended(1));
        daemon.wait_done(&["1.0.post"]);
    });
    let error = tree.event("1.0.post")["runs"][0]["error"].to_string();
    assert!(error.contains("a defect of ganeti-hookd: a test's hook"), "{error}");
    is_told(&daemon, "hook");
    let metrics = tree.cli(&["status", "--metrics"]).out;
    assert!(metrics.contains("ganeti_hookd_panics_total 2\n"), "{metrics}");
    all_is_well(&tree, &daemon, 2);
}

/// The threads of this name.
fn threads(daemon: &Daemon<'_>, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid().as_raw_nonzero())).unwrap().flatten();
    let is_it = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    tasks.filter(is_it).map(|task| task.file_name().display().to_string()).collect()
}

#[test]
fn of_making_a_process_ready_costs_no_script_and_no_thread() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    break_thread(&tree, "make-ready");
    tree.put(&Job::ended(1));
    daemon.wait_log(&words("make-ready"), 1);
    let before = threads(&daemon, "hook");
    for id in 2..5 {
        all_is_well(&tree, &daemon, id);
        // Each tries it once more: where one waits none is made.
        daemon.wait_log(&words("make-ready"), usize::try_from(id).unwrap());
    }
    tree.faults("");
    is_told(&daemon, "make-ready");
    for id in 5..8 {
        all_is_well(&tree, &daemon, id);
    }
    let after = threads(&daemon, "hook");
    assert!(before.iter().all(|thread| after.contains(thread)), "{before:?} {after:?}");
}

#[test]
fn of_the_planner() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    meets(&tree, &daemon, "planner", || {
        tree.run_through(&mut Job::new(1, &["OP_INSTANCE_STARTUP"]));
        daemon.wait_done(&["1.0.post"]);
    });
    daemon.wait_log("1.0.pre: a defect of ganeti-hookd: a test's planner", 1);
    assert_eq!(tree.event("1.0.post")["runs"][0]["code"], json!(0));
    is_told(&daemon, "planner");
}

#[test]
fn of_the_scanner() {
    let tree = Tree::with_log();
    break_thread(&tree, "scanner");
    tree.put(&Job::delay(1));
    let mut daemon = Daemon::spawn(&tree, &[], &[]);
    daemon.wait_log(&words("scanner"), 1);
    is_told(&daemon, "scanner");
    tree.faults("");
    daemon.wait_ready();
    daemon.wait_status("job 1", |status| status["jobs_tracked"] == 1);
    all_is_well(&tree, &daemon, 2);
}

#[test]
fn of_who_reads_large_files() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    job.waits(0).runs(0).logs(0, &"x".repeat(3 * 1024 * 1024));
    meets(&tree, &daemon, "large-files", || tree.put(&job));
    let status = daemon.wait_status("a bad file", |status| status["bad_files"]["job-1"] != json!(null));
    assert!(status["bad_files"].to_string().contains("a defect of ganeti-hookd"), "{status}");
    is_told(&daemon, "large-files");
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
}

#[test]
fn of_who_waits_for_the_ends_of_processes() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let (_, process) = tree.executing(1);
    daemon.wait_done(&["1.0.pre"]);
    meets(&tree, &daemon, "exits", || process.kill());
    is_told(&daemon, "exits");
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post disappeared"]);
}

#[test]
fn of_who_tells_ganeti_of_deaths() {
    let tree = Tree::with_log();
    tree.set("deaths.tell-ganeti", "true");
    let daemon = tree.start();
    let (_, process) = tree.executing(1);
    daemon.wait_done(&["1.0.pre"]);
    meets(&tree, &daemon, "deaths", || process.kill());
    daemon.wait_log("job 1: Ganeti was not told that its process has died: a defect of ganeti-hookd", 1);
    is_told(&daemon, "deaths");
    daemon.wait_done(&["1.0.post"]);
    daemon.wait_status("that it is counted", |status| status["counters"]["deaths_not_told"] == 1);
    assert_eq!(tree.event("1.0.post")["told_ganeti"], json!(false));
    all_is_well(&tree, &daemon, 2);
}

#[test]
fn of_who_hears_of_signals() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    meets(&tree, &daemon, "signals", || daemon.signal(Signal::HUP));
    daemon.wait_log("configuration read again", 1);
    is_told(&daemon, "signals");
    assert!(daemon.stop().0.success());
}

#[test]
fn of_who_hears_of_mounts() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    meets(&tree, &daemon, "mounts", || drop(Mount::over(&tree.path("elsewhere"), "1m")));
    is_told(&daemon, "mounts");
    let _mount = Mount::over(&tree.path("queue"), "1m");
    daemon.wait_log("a watched directory was removed or replaced", 1);
}

#[test]
fn of_an_outbox() {
    let tree = Tree::with_log();
    let receiver = Receiver::of(&tree);
    let daemon = tree.start();
    daemon.wait_status("it is there", |status| status["outboxes"][0]["state"] == "ok");
    meets(&tree, &daemon, "outbox", || tree.put(&Job::ended(1)));
    is_told(&daemon, "outbox");
    daemon.wait_done(&["1.0.post"]);
    // By itself, as after a receiver's failure.
    let sent = || (receiver.has() == ["1.0.pre", "1.0.post"]).then_some(());
    wait_for(sent, || format!("{:?}\n{}", receiver.has(), daemon.log()));
}

#[test]
fn of_inotify() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    meets(&tree, &daemon, "inotify", || tree.put(&Job::ended(1)));
    daemon.wait_done(&["1.0.post"]);
    is_told(&daemon, "inotify");
    all_is_well(&tree, &daemon, 2);
}

#[test]
fn of_checkpoints() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let some = |from: i64| {
        (from..from + 60).for_each(|id| tree.put(&Job::ended(id)));
        daemon.wait_done(&[&format!("{}.0.post", from + 59)]);
    };
    meets(&tree, &daemon, "checkpoints", || some(1));
    is_told(&daemon, "checkpoints");
    // The log's header has a number that grows when the log begins anew, after a checkpoint.
    let number = || fs::read(tree.path("state/journal.db-wal")).unwrap()[12..16].to_vec();
    let before = number();
    let mut from = 100;
    wait_for(
        || {
            some(from);
            from += 60;
            (number() != before).then_some(())
        },
        || format!("a checkpoint\n{}", daemon.log()),
    );
}

#[test]
fn of_the_api() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let ask = || api::get(&tree.path("hookd"), "/v1/status").unwrap_err().to_string();
    // More than may be open at a time.
    meets(&tree, &daemon, "api-request", || {
        (0..40).for_each(|_| assert!(ask().contains("a defect of ganeti-hookd: a test's api-request")));
    });
    is_told(&daemon, "api-request");
    meets(&tree, &daemon, "api", || drop(ask()));
    is_told(&daemon, "api");
}

#[test]
fn of_the_bell_of_the_api() {
    let tree = Tree::with_log();
    tree.log_hook("post", "10-log", "");
    let daemon = tree.start();
    let hookd = tree.path("hookd");
    let changes = |since: u64| api::get(&hookd, &format!("/v1/changes?since={since}"));
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| changes(u64::MAX));
        meets(&tree, &daemon, "api-bell", || {
            for id in 1.. {
                tree.put(&Job::ended(id));
                daemon.wait_done(&[&format!("{id}.0.post")]);
                if daemon.log().contains(&words("api-bell")) {
                    break;
                }
            }
        });
        is_told(&daemon, "api-bell");
        // Whoever waits hears of the next change.
        tree.put(&Job::ended(1_000));
        assert!(waits.join().unwrap().is_ok());
    });
}

#[test]
fn of_who_tells_all_what_is_new_in_the_feed() {
    let tree = Tree::with_log();
    tree.log_hook("post", "10-log", "");
    let daemon = tree.start();
    let mut stream = UnixStream::connect(tree.path("hookd").join(api::SOCKET)).unwrap();
    stream.write_all(b"GET /v1/events?stream=1 HTTP/1.1\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut told = |id: i64| {
        tree.put(&Job::ended(id));
        let is_it = |line: &String| line.contains(&format!("\"{id}.0.post\"")) && line.contains("\"done\"");
        lines.find(is_it).unwrap();
    };
    told(1);
    // Who follows is told all the same.
    meets(&tree, &daemon, "api-feed", || (2..6).for_each(&mut told));
    is_told(&daemon, "api-feed");
    told(6);
}

#[test]
fn of_who_asks_for_this_nodes_name() {
    let tree = Tree::with_log();
    tree.set("master.name", "\"\"");
    break_thread(&tree, "own-name");
    let by = ["unshare", "--uts", "sh", "-c", "hostname node1.example.com && exec \"$@\"", "sh"];
    let mut daemon = Daemon::spawn(&tree, &[], &by);
    daemon.wait_ready();
    let status = daemon.status();
    assert_eq!((&status["node"], &status["role"]), (&json!(NODE), &json!("master")));
    is_told(&daemon, "own-name");
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let rename = |name: &str| {
        assert!(
            Command::new("nsenter").args(["-u", "-t", &pid, "hostname", name]).status().unwrap().success()
        )
    };
    meets(&tree, &daemon, "hostname", || rename(OTHER_NODE));
    is_told(&daemon, "hostname");
    daemon.wait_status("another name", |status| status["node"] == OTHER_NODE && status["role"] == "standby");
}

/// A master that holds jobs; its pre hook waits until the test lets it end.
fn holding_tree() -> Tree {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    tree.log_hook("pre", "10-log", "until [ -e DIR/gate ]; do sleep 0.01; done");
    tree.log_hook("post", "10-log", "");
    tree
}

/// A job that is held.
fn held(tree: &Tree, daemon: &Daemon<'_>, id: i64) -> (Job, JobProcess) {
    let mut job = Job::delay(id);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    daemon.wait_armed(&process);
    tree.put(job.runs(0));
    process.wait_stopped();
    (job, process)
}

#[test]
fn of_who_looks_whether_the_kernel_stops_processes() {
    let tree = holding_tree();
    break_thread(&tree, "kernel-stop");
    let daemon = tree.start();
    let status = daemon.wait_status("the means", |status| status["hold_means"] != "");
    assert!(status["hold_means"].to_string().contains("a defect of ganeti-hookd"), "{status}");
    is_told(&daemon, "kernel-stop");
}

#[test]
fn of_the_guard() {
    let tree = holding_tree();
    let daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    let mut other = Job::delay(2);
    let waiting = tree.process_of(&mut other);
    meets(&tree, &daemon, "guard", || tree.put(other.waits(0)));
    process.wait_going();
    let status = daemon.wait_status("the panic", |status| status["counters"]["panics"] != json!(0));
    assert!(status["problems"].to_string().contains("the guard has panicked"), "{status}");
    // There is another one.
    daemon.wait_armed(&waiting);
    tree.put(other.runs(0));
    waiting.wait_stopped();
    fs::write(tree.path("gate"), "").unwrap();
    waiting.wait_going();
}

#[test]
fn of_the_owner_of_all_ends_the_daemon() {
    let tree = holding_tree();
    let mut daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    meets(&tree, &daemon, "main", || tree.put(&Job::delay(2)));
    let status = wait_for(|| daemon.ended(), || format!("its end\n{}", tree.log()));
    assert_eq!(status.code(), Some(1));
    daemon.wait_log("ganeti-hookd: the daemon ends: a defect of ganeti-hookd: a test's main", 1);
    process.wait_going();
    drop(daemon);
    fs::write(tree.path("gate"), "").unwrap();
    let daemon = tree.start();
    daemon.wait_done(&["1.0.pre"]);
}

/// The daemon ends of a defect of this thread while that worked for it.
fn ends_with(daemon: &mut Daemon<'_>, thread: &str, mut make_it_work: impl FnMut()) {
    let status = wait_for(
        || {
            make_it_work();
            daemon.ended()
        },
        || "its end".to_owned(),
    );
    assert_eq!(status.code(), Some(1));
    daemon.wait_log("ganeti-hookd: the daemon ends: a thread has panicked while it worked", 1);
    daemon.wait_log(&format!("thread {thread} panicked at src/"), 1);
    daemon.wait_log(&words("passing"), 1);
}

#[test]
fn of_inotify_while_it_works_for_the_owner_ends_the_daemon() {
    let tree = holding_tree();
    let mut daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    break_thread(&tree, "passing");
    let mut ids = 2..;
    ends_with(&mut daemon, "notify-rs inotify loop", || tree.put(&Job::delay(ids.next().unwrap())));
    process.wait_going();
}

#[test]
fn of_who_has_waited_for_a_hook_while_it_works_for_the_owner_ends_the_daemon() {
    let tree = holding_tree();
    let mut daemon = tree.start();
    let (_, process) = held(&tree, &daemon, 1);
    break_thread(&tree, "passing");
    ends_with(&mut daemon, "hook", || fs::write(tree.path("gate"), "").unwrap());
    process.wait_going();
}

#[test]
fn of_who_waits_for_processes_while_it_works_for_the_owner_ends_the_daemon() {
    let tree = Tree::with_log();
    let mut daemon = tree.start();
    let mut processes = Vec::new();
    for id in 1..=5 {
        processes.push(tree.executing(id).1);
        daemon.wait_done(&[&format!("{id}.0.pre")]);
    }
    daemon.fence();
    // No worker works.
    fs::remove_file(tree.path("hooks/global-post.d/10-log")).unwrap();
    break_thread(&tree, "passing");
    ends_with(&mut daemon, "exits", || {
        if let Some(process) = processes.pop() {
            process.kill();
        }
    });
}

#[test]
fn of_who_asks_a_node_for_check() {
    let tree = Tree::with_log();
    let nodes = json!({"a": {"name": NODE}, "b": {"name": OTHER_NODE, "primary_ip": "127.0.0.1"}});
    let config = json!({"serial_no": 1, "cluster": {"master_node": "a"}, "nodes": nodes});
    tree.put_data("config.data", &config.to_string());
    break_thread(&tree, "check");
    let faults = tree.path("faults");
    let said = tree.program().arg("check").env("GANETI_HOOKD_FAULTS", faults).output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let node = text.lines().find(|line| line.contains(OTHER_NODE));
    assert!(node.is_some_and(|line| line.contains("a defect of ganeti-hookd: a test's check")), "{text}");
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8(said.stderr).unwrap().contains(&words("check")));
}

#[test]
fn of_those_who_tell_metrics() {
    let tree = Tree::with_log();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    tree.set("api.metrics-listen", &format!("\"{address}\""));
    let daemon = tree.start();
    let scrape = || {
        let stream = TcpStream::connect(address)?;
        exchange(stream, "GET", "x", "/metrics", b"", 1 << 20).map(|answer| answer.status)
    };
    meets(&tree, &daemon, "metrics", || drop(scrape()));
    meets(&tree, &daemon, "metrics-request", || assert_eq!(scrape().unwrap(), 500));
    assert_eq!(scrape().unwrap(), 200);
    is_told(&daemon, "metrics-request");
}

#[test]
fn of_who_looks_a_group_up() {
    let tree = Tree::with_log();
    tree.set("api.group", "\"daemon\"");
    break_thread(&tree, "group");
    let daemon = tree.start();
    daemon.wait_log("api.group: a defect of ganeti-hookd: a test's group", 1);
    is_told(&daemon, "group");
    tree.faults("");
    daemon.signal(Signal::HUP);
    daemon.wait_status("no problem of the API", |status| !status["problems"].to_string().contains("API: "));
    all_is_well(&tree, &daemon, 1);
}

#[test]
fn of_who_reads_the_history_for_metrics() {
    let tree = Tree::with_log();
    break_thread(&tree, "recollect");
    let daemon = tree.start();
    daemon.wait_log("metrics do not go on from the history: a defect of ganeti-hookd: a test's recollect", 1);
    is_told(&daemon, "recollect");
    all_is_well(&tree, &daemon, 1);
}

/// What stands between these in the sources.
fn in_sources(dir: &Path, before: &str, after: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let source = fs::read_to_string(path).unwrap();
        let starts = source.split(before).skip(1);
        found.extend(starts.filter_map(|rest| Some(rest.split_once(after)?.0.to_owned())));
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn every_thread_has_a_test() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(in_sources(&sources, "failpoints::defect(\"", "\""), MET);
    for name in in_sources(&sources, ".name(\"", "\".to_owned())") {
        // What it drops is dropped all the same.
        assert!(MET.contains(&name.as_str()) || name == "detach", "the thread {name}");
    }
}
