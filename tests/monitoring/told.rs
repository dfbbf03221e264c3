//! What a real daemon tells, and whether that has what is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use serde_json::json;

use super::shipped::{RULES, alerts, expressions, read};
use crate::harness::job_process::JobProcess;
use crate::harness::{CLUSTER, Daemon, Job, NODE, OTHER_NODE, Tree, wait_for};

/// What a daemon tells that has seen something of everything: jobs that ended in each way, hooks
/// that failed, a node that does not answer, a job that waits.
pub fn scraped() -> String {
    let tree = master();
    let daemon = tree.start();
    let _waits = story(&tree, &daemon);
    daemon.wait_status("everything is over", |status| {
        status["undelivered"] == 0 && status["outboxes"][0]["last_success"].is_f64()
    });
    tree.cli(&["status", "--metrics"]).out
}

/// The master of a cluster whose other node cannot be reached.
fn master() -> Tree {
    let tree = Tree::with_log();
    tree.hook("post", "20-check", "[ $GANETI_JOB_ID != 2 ]");
    let certificate = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/certificates/server.pem");
    fs::copy(certificate, tree.path("data/server.pem")).unwrap();
    let nodes = json!({
        "m": {"name": NODE, "primary_ip": "127.0.0.1"},
        "n": {"name": OTHER_NODE, "primary_ip": "127.0.0.2"},
    });
    let config = json!({
        "serial_no": 1, "nodes": nodes,
        "cluster": {
            "uuid": "6c65ae12-8d72-4c41-8e0b-5f1b57a3e6f1", "cluster_name": CLUSTER, "master_node": "m",
        },
        "instances": {"i": {"name": "web", "primary_node": "n", "admin_state": "down"}},
    });
    tree.put_data("config.data", &config.to_string());
    tree.put_data("ssconf_online_nodes", &format!("{NODE}\n{OTHER_NODE}"));
    with_outbox(&tree);
    tree
}

/// Its receiver takes everything.
fn with_outbox(tree: &Tree) {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    thread::spawn(move || {
        for stream in receiver.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || {
                while let Ok(Some(_)) = request(&stream) {
                    let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });
    let secret = tree.path("secret");
    fs::write(&secret, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let outbox =
        format!("[[outbox]]\nname = \"cmdb\"\nurl = \"http://{address}/\"\nsecret-file = {secret:?}\n");
    let config = fs::read_to_string(tree.config()).unwrap();
    fs::write(tree.config(), config + &outbox).unwrap();
}

/// Reads a request to its end; none where there is no other.
fn request(stream: &TcpStream) -> std::io::Result<Option<()>> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 0 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            reader.read_exact(&mut vec![0; length])?;
            return Ok(Some(()));
        }
        line.clear();
    }
    Ok(None)
}

fn story(tree: &Tree, daemon: &Daemon<'_>) -> JobProcess {
    let mut verify = Job::new(1, &["OP_CLUSTER_VERIFY"]);
    tree.run_through(&mut verify);
    tree.put(Job::delay(2).runs(0).fails(0));
    let mut dead = Job::new(3, &["OP_INSTANCE_MIGRATE"]);
    let process = tree.process_of(&mut dead);
    tree.put(dead.runs(0));
    daemon.wait_done(&["3.0.pre"]);
    daemon.wait_status("the process is watched", |status| status["processes_watched"] == 1);
    process.kill();
    let mut startup = Job::new(4, &["OP_INSTANCE_STARTUP"]);
    startup.op(0)["input"]["instance_name"] = json!("web");
    tree.put(startup.runs(0));
    daemon.wait_done(&["1.0.post", "2.0.post", "3.0.post", "4.0.pre"]);
    let mut waits = Job::delay(5);
    let process = tree.process_of(&mut waits);
    tree.put(waits.waits(0));
    daemon.wait_status("the job waits", |status| status["processes_watched"] == 1);
    process
}

/// The names of all families, and the labels and values of each.
fn families(text: &str) -> BTreeMap<String, BTreeSet<(String, String)>> {
    let mut families: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    let kinds: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    for (name, kind) in kinds {
        let samples = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
        for end in samples {
            families.insert(format!("{name}{end}"), BTreeSet::new());
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        families.get_mut(name).unwrap_or_else(|| panic!("{line} is of no family")).extend(labels(line));
    }
    families
}

/// The labels between the braces of a line, as far as they are compared with `=`, `=~` or `!=`.
fn labels(line: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = line.split_once('{') else { return Vec::new() };
    let inside = rest.split_once('}').unwrap().0;
    let label = |text: &str| {
        let (name, value) = text.split_once(['=', '!', '~'])?;
        Some((name.trim().to_owned(), value.trim_start_matches(['=', '~']).trim_matches('"').to_owned()))
    };
    inside.split(',').filter_map(label).collect()
}

/// What is asked for in a text: each name of ours, and the labels behind it.
fn asked(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let starts = text.match_indices("ganeti_hookd_").map(|(at, _)| &text[at..]);
    let name =
        |rest: &str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap().to_owned();
    starts
        .map(|rest| {
            let name = name(rest);
            let labels = if rest[name.len()..].starts_with('{') { labels(rest) } else { Vec::new() };
            (name, labels)
        })
        .collect()
}

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["instance", "job"];

#[test]
fn each_metric_and_label_that_is_asked_for_is_told() {
    let told = families(&scraped());
    let rules = alerts().into_iter().map(|(_, rule)| rule);
    let mut count = 0;
    for text in rules.chain(expressions()) {
        for (name, labels) in asked(&text) {
            count += 1;
            let known = told.get(&name).unwrap_or_else(|| panic!("nobody tells {name}: {text}"));
            assert!(
                !known.is_empty() || labels.iter().all(|(label, _)| ADDED.contains(&&**label)),
                "{name}: {text}"
            );
            for (label, value) in labels.iter().filter(|(label, _)| !ADDED.contains(&&**label)) {
                // What is of a label only now and then must have been seen in the story.
                let is_known = known.contains(&(label.clone(), value.clone()));
                assert!(is_known, "{name} has no {label}={value}: {text}\n{known:?}");
            }
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn the_tests_of_the_rules_feed_them_what_is_told() {
    let told = families(&scraped());
    let tests = read("ganeti-hookd.rules.test.yml");
    for (name, labels) in asked(&tests) {
        let known = told.get(&name).unwrap_or_else(|| panic!("nobody tells {name}"));
        for (label, _) in labels.iter().filter(|(label, _)| !ADDED.contains(&&**label)) {
            assert!(known.iter().any(|(known, _)| known == label), "{name} has no label {label}");
        }
    }
    assert!(read(RULES).contains("ganeti_hookd_up"));
}

#[test]
fn a_real_daemon_tells_of_everything_that_happened() {
    let text = scraped();
    for line in [
        "ganeti_hookd_opcodes_total{op_code=\"OP_CLUSTER_VERIFY\",status=\"succeeded\"} 1",
        "ganeti_hookd_opcodes_total{op_code=\"OP_CLUSTER_VERIFY\",status=\"disappeared\"} 0",
        "ganeti_hookd_opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"failed\"} 1",
        "ganeti_hookd_opcodes_total{op_code=\"OP_INSTANCE_MIGRATE\",status=\"disappeared\"} 1",
        "ganeti_hookd_hook_runs_total{phase=\"post\",script=\"20-check\",result=\"failed\"} 1",
        "ganeti_hookd_hook_runs_total{phase=\"post\",script=\"20-check\",result=\"succeeded\"} 2",
        "ganeti_hookd_node_requests_total{node=\"node2.example.com\",result=\"failed\"} 1",
        "ganeti_hookd_hook_seconds_count{phase=\"pre\",script=\"10-log\"} 4",
        "ganeti_hookd_hook_delay_seconds_count{phase=\"post\"} 3",
        "ganeti_hookd_death_notice_seconds_count 1",
        "ganeti_hookd_jobs{state=\"waiting\"} 1",
        "ganeti_hookd_jobs{state=\"ended\"} 3",
        "ganeti_hookd_cluster_info{cluster=\"cluster.example.com\"} 1",
        concat!("ganeti_hookd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
    }
}

#[test]
fn what_ended_well_is_known_after_a_restart_and_counters_begin_anew() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let value = |series: &str| {
        let text = tree.cli(&["status", "--metrics"]).out;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
        line.ok_or_else(|| text.clone())
    };
    let success = "ganeti_hookd_last_success_timestamp_seconds{op_code=\"OP_TEST_DELAY\"}";
    let ended = value(success).unwrap();
    let started = value("ganeti_hookd_start_time_seconds").unwrap();
    assert!(ended > started, "{ended} {started}");
    drop(daemon);
    let _daemon = tree.start();
    let known = || value(success).ok();
    assert_eq!(wait_for(known, || tree.log()), ended);
    assert!(value("ganeti_hookd_start_time_seconds").unwrap() > ended);
    let counted = "ganeti_hookd_opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"succeeded\"}";
    assert_eq!(value(counted), Ok(0.0), "from 0 on, also what has not been met since");
    assert_eq!(value("ganeti_hookd_events_total"), Ok(0.0));
}
