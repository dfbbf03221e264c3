//! Waiting for the end of a job.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Answer, get};
use super::served::Served;
use crate::harness::{Daemon, Job, Tree, wait_for};

fn of(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn look(tree: &Tree, id: i64) -> Value {
    of(&get(&tree.path("hookd/hookd.sock"), &format!("/v1/jobs/{id}")))
}

/// Status, whether ended, whether archived, and the opcodes' statuses.
fn in_short(job: &Value) -> String {
    let ops: Vec<&str> =
        job["ops"].as_array().unwrap().iter().map(|op| op["status"].as_str().unwrap()).collect();
    let mut text = format!("{}: {}", job["status"].as_str().unwrap_or("-"), ops.join(" "));
    for word in ["ended", "archived"].into_iter().filter(|word| job[word] == true) {
        text = format!("{text}, {word}");
    }
    text
}

#[test]
fn a_job_is_told_as_it_is() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_INSTANCE_STARTUP", "OP_TEST_DELAY"]);
    job.op(0)["input"]["instance_name"] = json!("web1.example.com");
    for (version, expected) in [
        (job.clone(), "queued: queued queued"),
        (job.waits(0).clone(), "waiting: waiting queued"),
        (job.runs(0).clone(), "running: running queued"),
        (job.succeeds(0).clone(), "queued: success queued"),
        (job.waits(1).clone(), "waiting: success waiting"),
    ] {
        tree.put(&version);
        assert_eq!(in_short(&look(&tree, 1)), expected);
    }
    tree.put(job.runs(1).fails(1));
    let told = look(&tree, 1);
    assert_eq!(in_short(&told), "error: success error, ended");
    assert_eq!(told["ops"][0]["object"], json!({"type": "INSTANCE", "name": "web1.example.com"}));
    assert_eq!(told["ops"][1]["error"], "it does not work");
    assert!(
        told["ended_at"].as_f64() >= told["started"].as_f64()
            && told["started"].as_f64() >= told["received"].as_f64()
    );
    daemon.wait_done(&["1.1.post"]);
    tree.archive(1);
    assert_eq!(in_short(&look(&tree, 1)), "error: success error, ended, archived");
    fs::remove_file(tree.path("queue/archive/0/job-1")).unwrap();
    assert_eq!(in_short(&look(&tree, 1)), "error: success error, ended", "as the history has it");
    assert_eq!(get(&tree.path("hookd/hookd.sock"), "/v1/jobs/2").status, 404);
    fs::rename(tree.path("queue"), tree.path("elsewhere")).unwrap();
    let answer = get(&tree.path("hookd/hookd.sock"), "/v1/jobs/2");
    assert!(answer.status == 503 && answer.body.contains("there is no queue"), "{answer:?}");
}

#[test]
fn what_waits_for_locks_is_told_as_the_event_that_it_will_be() {
    let tree = Tree::new();
    let daemon = tree.start();
    let waiting = || {
        let answer = get(&tree.path("hookd/hookd.sock"), "/v1/waiting");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.lines()
    };
    assert_eq!(waiting(), [Value::Null; 0]);
    let mut jobs: Vec<Job> = (1..=3).map(|id| Job::new(id, &["OP_INSTANCE_STARTUP"])).collect();
    for job in &mut jobs {
        job.op(0)["input"]["instance_name"] = json!("web1.example.com");
        tree.put(job);
    }
    tree.put(jobs[1].waits(0));
    tree.put(jobs[0].waits(0));
    tree.put(jobs[2].waits(0).runs(0));
    daemon.wait_done(&["3.0.pre"]);
    let told = wait_for(|| Some(waiting()).filter(|told| told.len() == 2), || "who waits".to_owned());
    let words = |event: &Value| ["event", "state", "executed"].map(|name| event[name].to_string());
    assert_eq!(words(&told[0]), ["\"2.0.pre\"", "\"waiting\"", "false"], "who has waited longest");
    assert!(told[0]["lock_wait"].is_null() && told[0]["start_delay"].as_f64() >= Some(0.0), "{told:?}");
    assert_eq!(told[1]["object"], json!({"type": "INSTANCE", "name": "web1.example.com"}));
    tree.put(jobs[0].runs(0));
    daemon.wait_done(&["1.0.pre"]);
    assert_eq!(waiting().iter().map(words).collect::<Vec<_>>(), [words(&told[0])]);
    let events = get(&tree.path("hookd/hookd.sock"), "/v1/events?job=1").lines();
    assert_eq!(events[0]["id"], told[1]["id"]);
}

#[test]
fn what_is_told_of_those_that_wait_is_bounded_however_long_their_texts_are() {
    let tree = Tree::new();
    let daemon = tree.start();
    // Each character is six in JSON; what is kept of a text is 1 KiB, of a trail 16 entries.
    let text = "\u{1}".repeat(1100);
    for id in 1..=40 {
        let mut job = Job::new(id, &["OP_TEST_DELAY"]);
        job.op(0)["input"]["reason"] = json!(vec![json!([text, text, 1_795_000_000_000_000_000_i64]); 20]);
        tree.put(job.waits(0));
    }
    daemon.fence();
    let told = wait_for(
        || Some(get(&tree.path("hookd/hookd.sock"), "/v1/waiting")).filter(|told| told.lines().len() > 20),
        || "who waits".to_owned(),
    );
    assert!((3..=4).contains(&(told.body.len() / 1024 / 1024)), "{}", told.body.len());
    let jobs: Vec<i64> = told.lines().iter().map(|event| event["job"].as_i64().unwrap()).collect();
    assert_eq!(jobs, (1..=jobs.len().try_into().unwrap()).collect::<Vec<_>>(), "who has waited longest");
}

/// Waits for the end of a job while `end` brings it about.
fn awaited(daemon: &Daemon<'_>, tree: &Tree, id: i64, end: impl FnOnce()) -> Value {
    let (socket, begin) = (tree.path("hookd/hookd.sock"), Instant::now());
    let waiting = thread::spawn(move || get(&socket, &format!("/v1/jobs/{id}?wait=60")));
    wait_for(|| is_serving(daemon).then_some(()), || "the request".to_owned());
    end();
    let told = of(&waiting.join().unwrap());
    assert!(begin.elapsed() < Duration::from_secs(50), "it was not woken");
    told
}

/// Whether the daemon has a thread that serves a connection.
fn is_serving(daemon: &Daemon<'_>) -> bool {
    has_thread(daemon, "api-request")
}

/// Whether the daemon has a thread of this name.
pub fn has_thread(daemon: &Daemon<'_>, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid().as_raw_nonzero())).unwrap();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().any(|task| of(task).trim_end() == name)
}

#[test]
fn whoever_waits_hears_of_every_kind_of_end() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    let told = awaited(&daemon, &tree, 1, || tree.put(job.succeeds(0)));
    assert_eq!(in_short(&told), "success: success, ended");

    // Nothing is told of it, and nothing runs.
    let mut canceled = Job::delay(2);
    tree.put(&canceled);
    let told = awaited(&daemon, &tree, 2, || tree.put(canceled.is_canceled(0)));
    assert_eq!(in_short(&told), "canceled: canceled, ended");

    let mut dies = Job::new(3, &["OP_TEST_DELAY", "OP_TEST_DELAY"]);
    let process = tree.process_of(&mut dies);
    tree.put(dies.succeeds(0).runs(1));
    daemon.wait_done(&["3.1.pre"]);
    let told = awaited(&daemon, &tree, 3, || process.kill());
    assert_eq!(in_short(&told), "disappeared: success disappeared, ended");
    tree.put_by_luxid(dies.death_is_detected());
    assert_eq!(in_short(&look(&tree, 3)), "disappeared: success disappeared, ended");

    let mut leaves = Job::delay(4);
    tree.put(leaves.runs(0));
    daemon.wait_done(&["4.0.pre"]);
    let told = awaited(&daemon, &tree, 4, || {
        tree.put(leaves.succeeds(0));
        tree.archive(4);
    });
    assert!(in_short(&told).starts_with("success: success, ended"), "{told}");

    // A dead job of which the history knows nothing.
    let mut old = Job::new(5, &["OP_TEST_DELAY", "OP_TEST_DELAY", "OP_TEST_DELAY"]);
    old.succeeds(0).runs(1).death_is_detected();
    let served = Served::new();
    fs::write(served.queue("job-5"), old.text()).unwrap();
    let told = of(&get(&served.socket(), "/v1/jobs/5?wait=60"));
    assert_eq!(in_short(&told), "disappeared: success disappeared error, ended");
}

#[test]
fn only_those_who_wait_for_a_job_hear_of_its_end() {
    let served = Served::new();
    let mut job = Job::delay(1);
    fs::write(served.queue("job-1"), job.runs(0).text()).unwrap();
    let socket = served.socket();
    let waiting = thread::spawn(move || get(&socket, "/v1/jobs/1?wait=60"));
    // Whoever listens already is woken; whoever does not sees the file.
    fs::write(served.queue("new"), job.succeeds(0).text()).unwrap();
    fs::rename(served.queue("new"), served.queue("job-1")).unwrap();
    served.bell().job_has_ended(2.try_into().unwrap());
    served.bell().history_has_changed();
    served.bell().job_has_ended(1.try_into().unwrap());
    wait_for(|| waiting.is_finished().then_some(()), || "the answer".to_owned());
    assert_eq!(in_short(&of(&waiting.join().unwrap())), "success: success, ended");
    fs::write(served.queue("job-3"), "{").unwrap();
    assert_eq!(get(&served.socket(), "/v1/jobs/3").status, 500);
}
