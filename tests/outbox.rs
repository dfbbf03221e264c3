//! Outboxes: the real daemon and a receiver over TLS, good, dead and hostile.
//!
//! `OUTBOX_RECORD=FILE` leaves what was received as JSON Lines, for somebody else's implementation of
//! the standards (`.ci/receivers`). `OUTBOX_KILLS=100` is the longer form.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "other tests use the rest of it")]
mod harness;

#[path = "outbox/receiver.rs"]
mod receiver;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Instant;

use ganeti_hookd::engine::outbox::signature::Secrets;
use ganeti_hookd::ganeti::job::Timestamp;
use ganeti_hookd::world::journal::Journal;
use harness::{Daemon, Job, NODE, OTHER_NODE, Tree, wait_for};
use receiver::{Mood, Receiver, certificate};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A secret like any other.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

const UUID: &str = "5b0c3f9e-2d3f-4c8e-9a53-1d2c8f0f8a11";

/// A master of a cluster whose outboxes these are.
fn tree(outboxes: &[(&str, &Receiver)], more: &str) -> Tree {
    let tree = Tree::new();
    tree.put_data("config.data", &json!({"cluster": {"uuid": UUID, "cluster_name": "c"}}).to_string());
    fs::write(tree.path("key"), SECRET).unwrap();
    fs::set_permissions(tree.path("key"), Permissions::from_mode(0o600)).unwrap();
    configure(&tree, outboxes, more);
    tree
}

/// Writes the outboxes behind what the tree configures.
fn configure(tree: &Tree, outboxes: &[(&str, &Receiver)], more: &str) {
    tree.set("master.failover-window", "\"30s\"");
    let text = outboxes.iter().map(|(name, receiver)| {
        format!(
            "[[outbox]]\nname = {name:?}\nurl = \"https://localhost:{}/in?x=1\"\nsecret-file = {:?}\nca-file = {:?}\n{more}\n",
            receiver.port,
            tree.path("key"),
            certificate("receiver-ca.pem"),
        )
    });
    let config = fs::read_to_string(tree.config()).unwrap() + &text.collect::<String>();
    fs::write(tree.config(), config).unwrap();
}

/// Jobs of these numbers, each about an instance, have come and ended.
fn run_jobs(tree: &Tree, numbers: std::ops::RangeInclusive<i64>) {
    for number in numbers {
        let mut job = Job::new(number, &["OP_INSTANCE_REBOOT"]);
        let name = format!("web{}.example.com", number % 3);
        job.op(0)["input"] = json!({
            "OP_ID": "OP_INSTANCE_REBOOT", "instance_name": name, "reboot_type": "soft",
            "ignore_secondaries": false, "reason": [["gnt:user", "a \u{1f600} reason", 1_795_366_412_879_889_123_u64]],
        });
        tree.put(job.runs(0));
        tree.put(job.succeeds(0));
    }
}

fn wait_taken(receiver: &Receiver, tree: &Tree, count: usize) -> Vec<String> {
    wait_for(
        || Some(receiver.taken()).filter(|taken| taken.len() >= count),
        || format!("{count} events; there is {:?}, the log is\n{}", receiver.taken(), tree.log()),
    )
}

fn outbox<'v>(status: &'v Value, name: &str) -> &'v Value {
    let all = status["outboxes"].as_array().unwrap();
    all.iter().find(|outbox| outbox["name"] == name).unwrap_or(&Value::Null)
}

fn posts(numbers: impl Iterator<Item = i64>) -> Vec<String> {
    numbers.map(|number| format!("{number}.0.post")).collect()
}

/// Leaves what was received for somebody else's implementation.
fn record(receiver: &Receiver) {
    if let Some(file) = std::env::var_os("OUTBOX_RECORD") {
        let lines = receiver.received();
        let lines =
            lines.iter().map(|one| format!("{}\n", json!({"headers": one.headers, "body": one.body})));
        fs::write(file, lines.collect::<String>()).unwrap();
    }
}

#[test]
fn events_arrive_signed_and_in_order() {
    let receiver = Receiver::start(Mood::Takes);
    let tree =
        tree(&[("cmdb", &receiver)], "status = [\"started\", \"succeeded\", \"failed\", \"disappeared\"]");
    tree.log_hook("post", "10-log", "echo secret output; exit 3");
    let daemon = tree.start();
    run_jobs(&tree, 1..=4);
    let expected = (1..=4).flat_map(|n| [format!("{n}.0.pre"), format!("{n}.0.post")]);
    let taken = wait_taken(&receiver, &tree, 8);
    let of = |job: i64| {
        taken.iter().filter(|key| key.starts_with(&format!("{job}."))).cloned().collect::<Vec<_>>()
    };
    for job in 1..=4 {
        assert_eq!(of(job), [format!("{job}.0.pre"), format!("{job}.0.post")]);
    }
    let mut sorted = taken.clone();
    sorted.sort();
    let mut all: Vec<String> = expected.collect();
    all.sort();
    assert_eq!(sorted, all);
    record(&receiver);
    let secrets = Secrets::parse(SECRET).unwrap();
    for one in receiver.received() {
        let (event, headers) = (one.event(), &one.headers);
        assert_eq!(headers["content-type"], "application/cloudevents+json");
        let timestamp: i64 = headers["webhook-timestamp"].parse().unwrap();
        let signature = secrets.sign(&headers["webhook-id"], timestamp, one.body.as_bytes());
        assert_eq!(headers["webhook-signature"], signature);
        let told = tree.event(event["data"]["event"].as_str().unwrap());
        assert_eq!((&event["id"], &event["data"]["id"]), (&told["id"], &told["id"]));
        assert_eq!(headers["webhook-id"], told["id"].as_str().unwrap().replace('.', "/"));
        assert_eq!(event["source"], format!("/ganeti/{UUID}"));
        let job = event["data"]["job"].as_i64().unwrap();
        assert_eq!(event["subject"], format!("instance/web{}.example.com", job % 3));
        assert!(!one.body.contains("secret output"), "{}", one.body);
        assert_eq!(event["data"]["state"], "done");
    }
    let status = daemon.wait_status("all is sent", |status| outbox(status, "cmdb")["pending"] == 0);
    assert_eq!(outbox(&status, "cmdb")["state"], "ok");
    assert!(outbox(&status, "cmdb")["last_success"].as_f64().is_some());
    let list = tree.cli(&["outbox", "list"]);
    assert_eq!(list.code, Some(0), "{list:?}");
    assert!(list.out.contains("cmdb") && list.out.contains("ok"), "{list:?}");
    assert!(tree.cli(&["status"]).out.contains("outbox     cmdb ok, 0 pending, 0 refused"));
}

#[test]
fn a_ping_and_a_check_show_what_is_wrong() {
    let receiver = Receiver::start(Mood::Takes);
    let tree = tree(&[("cmdb", &receiver)], "");
    // Nobody runs: neither needs the daemon.
    let good = tree.cli(&["outbox", "test", "cmdb"]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert_eq!(receiver.taken(), ["org.ganeti.hookd.ping"]);
    let check = tree.cli(&["check"]).out;
    assert!(check.contains("ok    outbox         cmdb: localhost at 127.0.0.1:"), "{check}");
    assert!(check.contains("TLSv1_3") && check.contains("is root's alone"), "{check}");
    receiver.be(Mood::Answers(401, ""));
    let bad = tree.cli(&["outbox", "test", "cmdb"]);
    assert_eq!((bad.code, bad.out.contains("401 (unauthorized)\n  hello")), (Some(1), true), "{bad:?}");
    let unknown = tree.cli(&["outbox", "test", "x"]);
    assert!(unknown.err.contains("no outbox of the name x in the configuration; cmdb"), "{unknown:?}");
    fs::set_permissions(tree.path("key"), Permissions::from_mode(0o644)).unwrap();
    let open = tree.cli(&["check"]).out;
    assert!(open.contains("FAIL  outbox         cmdb: ") && open.contains("chmod 600"), "{open}");
    assert!(tree.cli(&["outbox", "test", "cmdb"]).err.contains("chmod 600"));
    fs::set_permissions(tree.path("key"), Permissions::from_mode(0o600)).unwrap();
    let config = fs::read_to_string(tree.config()).unwrap();
    // The authority of somebody else.
    fs::write(tree.config(), config.replace("receiver-ca.pem", "server.pem")).unwrap();
    let other = tree.cli(&["check"]).out;
    assert!(other.contains("FAIL  outbox") && other.contains("TLS: "), "{other}");
    let other = tree.cli(&["outbox", "test", "cmdb"]);
    assert_eq!(other.code, Some(1), "{other:?}");
    let named = config.replace("https://localhost", "https://receiver.invalid");
    fs::write(tree.config(), named).unwrap();
    assert!(tree.cli(&["check"]).out.contains("receiver.invalid has no address"));
    // Those that the system trusts have not signed it.
    let ca_file = config.lines().find(|line| line.starts_with("ca-file")).unwrap();
    fs::write(tree.config(), config.replace(ca_file, "")).unwrap();
    assert_eq!(tree.cli(&["outbox", "test", "cmdb"]).code, Some(1));
}

/// A proxy that lets everything through, and counts.
fn proxy() -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::<AtomicU32>::default();
    let counted = count.clone();
    std::thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            let mut head = BufReader::new(near.try_clone().unwrap()).lines();
            let first = head.next().unwrap().unwrap();
            assert!(head.any(|line| line.unwrap().is_empty()), "{first}");
            counted.fetch_add(1, SeqCst);
            let target = first.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
            let mut far = TcpStream::connect(target).unwrap();
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut near_in, &mut far_out));
            std::thread::spawn(move || std::io::copy(&mut far, &mut near));
        }
    });
    (port, count)
}

#[test]
fn a_proxy_is_used_that_is_configured_and_no_other() {
    let receiver = Receiver::start(Mood::Takes);
    let (port, count) = proxy();
    let tree = tree(&[("cmdb", &receiver)], "");
    let test = || {
        let mut program = tree.program();
        for name in ["http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            program.env(name, "http://127.0.0.1:9");
        }
        let said = program.args(["outbox", "test", "cmdb"]).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        count.load(SeqCst)
    };
    assert_eq!(test(), 0);
    let config = fs::read_to_string(tree.config()).unwrap();
    fs::write(tree.config(), config + &format!("proxy = \"http://127.0.0.1:{port}\"\n")).unwrap();
    assert_eq!(test(), 1);
    assert!(tree.cli(&["check"]).out.contains("the proxy 127.0.0.1:"));
}

#[test]
fn who_refuses_an_event_gets_the_others_and_that_one_when_it_wants() {
    let receiver = Receiver::start(Mood::Refuses(2));
    let tree = tree(&[("cmdb", &receiver)], "");
    let daemon = tree.start();
    run_jobs(&tree, 1..=5);
    assert_eq!(wait_taken(&receiver, &tree, 4).len(), 4);
    let status = daemon.wait_status("one is refused", |status| outbox(status, "cmdb")["refused"] == 1);
    assert_eq!(status["problems"], json!([]), "{status}");
    daemon.wait_status("the others are sent", |status| outbox(status, "cmdb")["pending"] == 0);
    daemon.stop();
    // It stays refused over a restart.
    let daemon = tree.start();
    daemon.wait_status("one is refused", |status| outbox(status, "cmdb")["refused"] == 1);
    receiver.be(Mood::Takes);
    let resend = tree.cli(&["outbox", "resend", "cmdb"]);
    assert_eq!((resend.code, resend.out.as_str()), (Some(0), "cmdb: 1 event is sent again\n"), "{resend:?}");
    assert_eq!(wait_taken(&receiver, &tree, 5)[4], "2.0.post");
    daemon.wait_status("none is refused", |status| outbox(status, "cmdb")["refused"] == 0);
    // Any other, too, by its name or its id.
    let id = tree.event("3.0.post")["id"].as_str().unwrap().to_owned();
    assert_eq!(tree.cli(&["outbox", "resend", "cmdb", &id]).code, Some(0));
    assert_eq!(wait_taken(&receiver, &tree, 6)[5], "3.0.post");
    let none = tree.cli(&["outbox", "resend", "cmdb", "77.0.post"]);
    assert!(none.code == Some(1) && none.err.contains("no such event"), "{none:?}");
    let unknown = tree.cli(&["outbox", "enable", "x"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("no outbox of this name"), "{unknown:?}");
}

#[test]
fn who_is_gone_is_left_alone_until_somebody_enables_it() {
    let receiver = Receiver::start(Mood::Answers(410, ""));
    let tree = tree(&[("cmdb", &receiver)], "");
    let daemon = tree.start();
    run_jobs(&tree, 1..=3);
    let status = daemon.wait_status("it is ended", |status| outbox(status, "cmdb")["state"] == "ended");
    assert!(status["problems"].to_string().contains("ganeti-hookd outbox enable cmdb"), "{status}");
    let asked = receiver.asked();
    // At once: to be killed is no way to be asked again.
    daemon.wait("it is written", |_| ended_is_written(&tree));
    daemon.kill();
    let daemon = tree.start();
    receiver.be(Mood::Takes);
    run_jobs(&tree, 4..=4);
    daemon.wait_done(&["4.0.post"]);
    // What happens does not wake it: it would go to sleep again and again.
    daemon.wait_status("it is ended", |status| outbox(status, "cmdb")["state"] == "ended");
    let before = wakes(&daemon);
    for number in 5..=100 {
        run_jobs(&tree, number..=number);
        daemon.wait_done(&[&format!("{number}.0.post")]);
    }
    let since = wakes(&daemon) - before;
    assert!(since < 10, "it went to sleep {since} times");
    let status = daemon.wait_status("they wait", |status| outbox(status, "cmdb")["pending"] == 100);
    assert_eq!((outbox(&status, "cmdb")["state"].as_str(), receiver.asked()), (Some("ended"), asked));
    let resend = tree.cli(&["outbox", "resend", "cmdb"]);
    assert!(
        resend.code == Some(1) && resend.err.contains("first: ganeti-hookd outbox enable cmdb"),
        "{resend:?}"
    );
    let enabled = tree.cli(&["outbox", "enable", "cmdb"]);
    assert_eq!(enabled.out, "cmdb: sends again\n", "{enabled:?}");
    daemon.wait_status("all is sent", |status| outbox(status, "cmdb")["pending"] == 0);
    assert_eq!(receiver.taken(), posts(1..=100));
    daemon.wait_status("no problem", |status| status["problems"] == json!([]));
}

#[test]
fn a_reload_takes_changes_up_and_loses_no_place() {
    let [old, new] = [Receiver::start(Mood::Takes), Receiver::start(Mood::Takes)];
    let tree = tree(&[("cmdb", &old)], "");
    let daemon = tree.start();
    run_jobs(&tree, 1..=2);
    wait_taken(&old, &tree, 2);
    old.be(Mood::HangsUp);
    run_jobs(&tree, 3..=4);
    daemon.wait_status("it fails", |status| outbox(status, "cmdb")["state"] == "failing");
    // Elsewhere, and at once; and another one, which begins with what comes next.
    let also = Receiver::start(Mood::Takes);
    let before = fs::read_to_string(tree.config()).unwrap();
    fs::write(tree.config(), &before[..before.find("[[outbox]]").unwrap()]).unwrap();
    configure(&tree, &[("cmdb", &new), ("also", &also)], "");
    daemon.signal(Signal::HUP);
    assert_eq!(wait_taken(&new, &tree, 2), posts(3..=4));
    daemon.wait_status("both", |status| outbox(status, "also")["state"] == "ok");
    run_jobs(&tree, 5..=5);
    assert_eq!(wait_taken(&new, &tree, 3), posts(3..=5));
    assert_eq!(wait_taken(&also, &tree, 1), posts(5..=5));
    // One that is taken out sends nothing, and goes on where it was when it is back.
    fs::write(tree.config(), &before[..before.find("[[outbox]]").unwrap()]).unwrap();
    configure(&tree, &[("also", &also)], "");
    daemon.signal(Signal::HUP);
    daemon.wait_status("one", |status| status["outboxes"].as_array().unwrap().len() == 1);
    run_jobs(&tree, 6..=6);
    wait_taken(&also, &tree, 2);
    configure(&tree, &[("cmdb", &new)], "");
    daemon.signal(Signal::HUP);
    assert_eq!(wait_taken(&new, &tree, 4), posts(3..=6));
}

#[test]
fn after_a_failover_the_new_master_sends_what_ended_within_the_window_with_the_same_ids() {
    let receiver = Receiver::start(Mood::Takes);
    let tree = tree(&[("cmdb", &receiver)], "");
    tree.put_data("ssconf_master_node", OTHER_NODE);
    let daemon = tree.start();
    run_jobs(&tree, 1..=3);
    daemon.wait_done(&["1.0.post", "2.0.post", "3.0.post"]);
    let status = daemon.status();
    assert_eq!((outbox(&status, "cmdb")["state"].as_str(), receiver.asked()), (Some("standby"), 0));
    tree.put_data("ssconf_master_node", NODE);
    assert_eq!(wait_taken(&receiver, &tree, 3), posts(1..=3));
    for one in receiver.received() {
        let event = one.event();
        assert_eq!(
            event["id"],
            format!(
                "{UUID}/{}/{}",
                micros(&event["data"]["received"]),
                event["data"]["event"].as_str().unwrap()
            )
        );
        assert_eq!(event["data"]["late"], true);
    }
    // In standby again it sends nothing more.
    tree.put_data("ssconf_master_node", OTHER_NODE);
    daemon.wait_status("standby", |status| outbox(status, "cmdb")["state"] == "standby");
    run_jobs(&tree, 4..=4);
    daemon.wait_done(&["4.0.post"]);
    assert_eq!(receiver.taken().len(), 3);
    let standby = tree.cli(&["outbox", "resend", "cmdb"]);
    assert!(standby.code == Some(1) && standby.err.contains("standby"), "{standby:?}");
}

fn micros(seconds: &Value) -> i64 {
    (seconds.as_f64().unwrap() * 1e6).round() as i64
}

/// How often the outbox's thread has gone to sleep.
fn wakes(daemon: &Daemon<'_>) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid().as_raw_nonzero())).unwrap();
    let of = |task: PathBuf| {
        // One that answers a question may have ended.
        let status = fs::read_to_string(task.join("status")).ok()?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().to_owned()
        };
        (value("Name:") == "outbox").then(|| value("voluntary_ctxt_switches:").parse::<u64>().unwrap())
    };
    let all: Vec<u64> = tasks.filter_map(|task| of(task.unwrap().path())).collect();
    assert!(!all.is_empty(), "there is no such thread");
    all.iter().sum()
}

/// Whether the journal knows that an outbox is ended.
fn ended_is_written(tree: &Tree) -> bool {
    let remembered = Journal::open(&tree.path("state")).unwrap().load(Timestamp::default()).unwrap();
    remembered.outboxes.values().any(|outbox| outbox.ended.is_some())
}

/// The receiver is down, and the daemon is killed again and again, also while it catches up.
#[test]
fn down_and_killed_and_everything_is_there() {
    let kills: i64 = std::env::var("OUTBOX_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let receiver = Receiver::start(Mood::HangsUp);
    let tree = tree(&[("cmdb", &receiver)], "");
    let moods = [Mood::HangsUp, Mood::Answers(503, ""), Mood::Takes, Mood::Answers(302, "Location: /\r\n")];
    let first = tree.start();
    first.wait_status("its place is known", |status| outbox(status, "cmdb")["state"] == "ok");
    first.fence();
    let mut daemon = Some(first);
    for kill in 0..kills {
        run_jobs(&tree, kill * 3 + 1..=kill * 3 + 3);
        receiver.be(moods[kill as usize % moods.len()].clone());
        if kill % 5 == 4 {
            daemon.as_ref().unwrap().wait_done(&[&format!("{}.0.post", kill * 3 + 3)]);
        }
        daemon.take().unwrap().kill();
        daemon = Some(tree.start());
    }
    receiver.be(Mood::Takes);
    tree.cli(&["outbox", "resend", "cmdb"]);
    let all = (kills * 3) as usize;
    let number = |key: &String| key.split('.').next().unwrap().parse::<i64>().unwrap();
    let unique = || {
        let mut taken: Vec<String> =
            receiver.taken().into_iter().filter(|key| number(key) < harness::FENCE).collect();
        let mut seen = BTreeSet::new();
        taken.retain(|key| seen.insert(key.clone()));
        taken
    };
    wait_for(
        || (unique().len() >= all).then_some(()),
        || format!("{all} events; there is {:?}, the log is\n{}", unique(), tree.log()),
    );
    let taken = unique();
    let ids: BTreeSet<String> =
        receiver.received().iter().map(|one| one.headers["webhook-id"].clone()).collect();
    let told: BTreeSet<String> =
        receiver.received().iter().map(|one| one.event()["data"]["id"].to_string()).collect();
    assert_eq!(ids.len(), told.len(), "an event has one id, and an id one event");
    for object in 0..3 {
        let order: Vec<i64> = taken.iter().map(number).filter(|job| job % 3 == object).collect();
        assert!(order.is_sorted(), "web{object}: {order:?}");
    }
    let again = receiver.taken().len() - taken.len();
    println!("{kills} kills: {all} events, {again} taken more than once, {} requests", receiver.asked());
}

/// From the rename of a job file to the beginning of its hook, in microseconds, of so many jobs.
fn latencies(tree: &Tree, daemon: &Daemon<'_>, first: i64, count: i64) -> Vec<u64> {
    let mut all: Vec<u64> = (first..first + count)
        .map(|number| {
            let mut job = Job::new(number, &["OP_INSTANCE_REBOOT"]);
            job.op(0)["input"]["instance_name"] = json!("web1.example.com");
            tree.put(job.runs(0));
            let begin = Instant::now();
            tree.put(job.succeeds(0));
            let file = tree.path(&format!("began-{number}"));
            wait_for(|| file.exists().then_some(()), || format!("{file:?}\n{}", daemon.log()));
            begin.elapsed().as_micros() as u64
        })
        .collect();
    all.sort_unstable();
    all
}

/// A receiver that is dead, slow or hostile costs its own thread and nothing else.
#[test]
fn a_bad_receiver_costs_nobody_anything() {
    const RUNS: i64 = 40;
    let good = Receiver::start(Mood::Takes);
    let bad = Receiver::start(Mood::Takes);
    let tree = tree(&[("good", &good), ("bad", &bad)], "timeout = \"2s\"");
    tree.hook("post", "10-mark", ": >DIR/began-$GANETI_JOB_ID");
    let daemon = tree.start();
    let moods = [
        ("none", Mood::Takes),
        ("dead", Mood::HangsUp),
        ("silent", Mood::Silent),
        ("a byte a second", Mood::Dribbles),
        ("endless answer", Mood::Endless),
        ("endless head", Mood::EndlessHead),
        ("redirect", Mood::Answers(307, "Location: https://localhost/\r\n")),
        ("429", Mood::Answers(429, "Retry-After: 1\r\n")),
        ("bad TLS", Mood::Nonsense),
        ("410", Mood::Answers(410, "")),
    ];
    let (mut first, mut quiet) = (1, 0);
    for (name, mood) in moods {
        bad.be(mood.clone());
        tree.cli(&["outbox", "resend", "bad"]);
        let times = latencies(&tree, &daemon, first, RUNS);
        first += RUNS;
        let [p50, p99] = [50, 99].map(|percent| times[times.len() * percent / 100]);
        println!("{name:<16} rename to hook p50 {p50:>6} us, p99 {p99:>6} us");
        quiet = if quiet == 0 { p50 } else { quiet };
        assert!(p50 < 5 * quiet + 20_000, "{name}: {p50} us, {quiet} us without");
        // The other outbox has everything, in time.
        wait_taken(&good, &tree, first as usize - 1);
        if !matches!(mood, Mood::Takes | Mood::Endless) {
            let state = if matches!(mood, Mood::Answers(410, _)) { "ended" } else { "failing" };
            let status = daemon.wait_status(name, |status| outbox(status, "bad")["state"] == state);
            println!("{:<16} {}", "", outbox(&status, "bad")["trouble"]);
        }
    }
    assert_eq!(good.taken(), posts(1..=first - 1));
    bad.be(Mood::Takes);
    tree.cli(&["outbox", "enable", "bad"]);
    daemon.wait_status("it has caught up", |status| outbox(status, "bad")["pending"] == 0);
    let taken: BTreeSet<String> = bad.taken().into_iter().collect();
    assert_eq!(taken.len() as i64, first - 1);
}

/// A program of the test, ended with it.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples").join(name)
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The outbox sends to this port, whoever listens there; what the receiver prints.
fn ends_somewhere_real(command: &mut Command, port: u16, scheme: &str) -> Vec<String> {
    let nobody = Receiver::start(Mood::Takes);
    let tree = tree(&[("cmdb", &nobody)], "");
    let config = fs::read_to_string(tree.config()).unwrap();
    let url = format!("https://localhost:{}/in?x=1", nobody.port);
    fs::write(tree.config(), config.replace(&url, &format!("{scheme}://localhost:{port}/hooks/ganeti")))
        .unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    command
        .env("KEY", tree.path("key"))
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer);
    let program = Program(command.spawn().unwrap());
    let is_up = || TcpStream::connect(("127.0.0.1", port)).ok().map(drop);
    wait_for(is_up, || format!("{command:?}"));
    let ping = tree.cli(&["outbox", "test", "cmdb"]);
    assert_eq!(ping.code, Some(0), "{ping:?}");
    let daemon = tree.start();
    run_jobs(&tree, 1..=3);
    daemon.wait_status("all is sent", |status| {
        outbox(status, "cmdb")["pending"] == 0 && !outbox(status, "cmdb")["last_success"].is_null()
    });
    // With another secret nothing is taken.
    fs::write(tree.path("key"), SECRET.replace("Mf", "Nf")).unwrap();
    drop(daemon);
    let refused = tree.cli(&["outbox", "test", "cmdb"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    drop(program);
    *command = Command::new("true");
    BufReader::new(reader).lines().map(Result::unwrap).collect()
}

#[test]
fn the_example_in_python_takes_what_is_signed() {
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key"), SECRET).unwrap();
    let mut command = Command::new(example("receive-events"));
    command.arg(dir.path().join("key")).arg(port.to_string()).arg(certificate("receiver.pem"));
    let lines = ends_somewhere_real(&mut command, port, "https");
    for job in 1..=3 {
        let told = format!("org.ganeti.opcode.succeeded instance/web{}.example.com {job}.0.post", job % 3);
        assert_eq!(lines.iter().filter(|line| line.trim() == told).count(), 1, "{lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("out of order")), "{lines:#?}");
}

#[test]
fn the_example_for_webhook_takes_what_is_signed() {
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    fs::write(&key, SECRET).unwrap();
    let hooks = fs::read_to_string(example("../webhook.json")).unwrap();
    let hooks = hooks
        .replace("/usr/local/lib/ganeti/receive-events", &example("receive-events").display().to_string());
    let hooks = hooks.replace("/etc/webhook-ganeti.key", &key.display().to_string());
    fs::write(dir.path().join("webhook.json"), hooks).unwrap();
    let pem = certificate("receiver.pem").display().to_string();
    let mut command = Command::new("webhook");
    command.args(["-verbose", "-secure", "-cert", &pem, "-key", &pem, "-ip", "127.0.0.1", "-port"]);
    command.arg(port.to_string()).arg("-hooks").arg(dir.path().join("webhook.json"));
    let lines = ends_somewhere_real(&mut command, port, "https");
    for job in 1..=3 {
        let told = format!("org.ganeti.opcode.succeeded instance/web{}.example.com {job}.0.post", job % 3);
        assert!(lines.iter().any(|line| line.contains(&told)), "{lines:#?}");
    }
    assert!(lines.iter().any(|line| line.contains("the signature is not ours")), "{lines:#?}");
}
