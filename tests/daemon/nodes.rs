//! Specialised variables, and hooks on other nodes: the nodes are addresses of this
//! machine where a node daemon listens, does something else, or does not.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use ganeti_hookd::world::noded::PORT;

use crate::harness::{CLUSTER, Job, NODE, OTHER_NODE, PATIENCE, Tree};

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/certificates");

/// A node daemon at an address of its own; what it is asked comes out of `asked`.
struct NodeDaemon {
    address: String,
    asked: Receiver<Value>,
}

#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn config() -> Arc<ServerConfig> {
    let pem = fs::read(Path::new(CERTIFICATES).join("server.pem")).unwrap();
    let provider = ring::default_provider();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::from_pem_slice(&pem).unwrap()).unwrap();
    let identity = CertifiedKey::new(vec![CertificateDer::from_pem_slice(&pem).unwrap()], key);
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Identity(Arc::new(identity))));
    Arc::new(config)
}

/// An address of this machine that no other test has: node daemons have one port.
fn address() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    let (used, [.., high, low]) = (USED.fetch_add(1, Ordering::SeqCst), std::process::id().to_be_bytes());
    format!("127.{}.{high}.{low}", 100 + used)
}

impl NodeDaemon {
    /// Runs one script well at each request; where `silent_at_first`, it never answers
    /// the first one.
    fn start(silent_at_first: bool) -> Self {
        Self::start_at(PORT, silent_at_first)
    }

    /// The same at another port.
    fn start_at(port: u16, silent_at_first: bool) -> Self {
        let answer = r#"[true, [["global-pre.d/20-there", 2, "well\\ndone"]]]"#;
        Self::saying(answer.to_owned(), port, silent_at_first)
    }

    /// The same with another answer.
    fn saying(answer: String, port: u16, silent_at_first: bool) -> Self {
        let address = address();
        let listener = TcpListener::bind((address.as_str(), port)).unwrap();
        let (sender, asked) = channel();
        let config = config();
        thread::spawn(move || {
            let mut unanswered = Vec::new();
            for stream in listener.incoming() {
                let (body, mut stream) = read(&config, stream.unwrap());
                let is_first = unanswered.is_empty();
                if sender.send(body).is_err() {
                    return;
                }
                if silent_at_first && is_first {
                    unanswered.push(stream);
                    continue;
                }
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
                // Who finds it too long goes away.
                let _ = stream.write_all((head + &answer).as_bytes());
            }
        });
        Self { address, asked }
    }

    /// The next thing that it is asked: the hooks path, the phase, the environment.
    fn asked(&self) -> Value {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }
}

fn read(config: &Arc<ServerConfig>, stream: TcpStream) -> (Value, StreamOwned<ServerConnection, TcpStream>) {
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
    let mut request = String::new();
    let mut byte = [0];
    while !request.ends_with("}]") && !request.ends_with("\r\n\r\n[]") {
        stream.read_exact(&mut byte).unwrap();
        request.push(char::from(byte[0]));
    }
    (serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap(), stream)
}

/// A cluster of two nodes, the other one at this address, with an instance on it.
fn cluster(address: &str) -> Tree {
    let tree = Tree::with_log();
    fs::copy(Path::new(CERTIFICATES).join("server.pem"), tree.path("data/server.pem")).unwrap();
    let config = json!({
        "serial_no": 1,
        "cluster": {"cluster_name": CLUSTER, "master_node": "m"},
        "nodes": {"m": {"name": NODE, "primary_ip": "127.0.0.1"}, "n": {"name": OTHER_NODE, "primary_ip": address}},
        "instances": {"i": {"name": "web", "primary_node": "n", "admin_state": "down"}},
    });
    tree.put_data("config.data", &config.to_string());
    tree.put_data("ssconf_online_nodes", &format!("{NODE}\n{OTHER_NODE}"));
    tree
}

fn startup(id: i64) -> Job {
    let mut job = Job::new(id, &["OP_INSTANCE_STARTUP"]);
    job.op(0)["input"]["instance_name"] = json!("web");
    job
}

/// A run in short: `node2 20-there 0`, `node2 global-pre.d -` where there is no code.
fn runs(event: &Value) -> Vec<String> {
    let run = |run: &Value| {
        let code = run["code"].as_i64().map_or("-".to_owned(), |code| code.to_string());
        let node = run["node"].as_str().unwrap().split('.').next().unwrap();
        format!("{node} {} {code} attempt={}", run["script"].as_str().unwrap(), run["attempt"])
    };
    event["runs"].as_array().unwrap().iter().map(run).collect()
}

#[test]
fn hooks_run_on_the_nodes_that_the_opcode_concerns() {
    let node = NodeDaemon::start(false);
    let tree = cluster(&node.address);
    tree.hook("pre", "10-log", "echo $GANETI_INSTANCE_PRIMARY $GANETI_IS_MASTER >>LOG");
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    daemon.wait_done(&["7.0.pre"]);
    let asked = node.asked();
    assert_eq!((&asked[0], &asked[1]), (&json!("global"), &json!("pre")));
    let env = &asked[2];
    assert_eq!(env["GANETI_INSTANCE_PRIMARY"], OTHER_NODE);
    assert_eq!(env["GANETI_OBJECT_TYPE"], "INSTANCE");
    assert_eq!(env["GANETI_IS_MASTER"], "not_master");
    assert_eq!(tree.hook_log(), [format!("{OTHER_NODE} master")]);
    let pre = tree.event("7.0.pre");
    let mut ran = runs(&pre);
    ran.sort();
    assert_eq!(
        ran,
        ["node1 10-log 0 attempt=1", "node2 20-there 0 attempt=1", "node2 global-pre.d 0 attempt=1"]
    );
    let there = pre["runs"].as_array().unwrap().iter().find(|run| run["script"] == "20-there").unwrap();
    assert_eq!(there["output"], "well\ndone");
    let said = tree.cli(&["events", "--no-headers", "-o", "runs"]);
    assert!(said.out.contains("node2:20-there=0") && !said.out.contains("global-pre.d"), "{}", said.out);
}

#[test]
fn a_node_is_asked_for_the_directories_that_it_is_to_run_one_after_the_other() {
    let node = NodeDaemon::start(false);
    let tree = cluster(&node.address);
    tree.set("hooks.opcode-directories", "\"targets\"");
    tree.set("hooks.native-post", "[\"disappeared\"]");
    let daemon = tree.start();
    let mut job = startup(7);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0).runs(0));
    daemon.wait_done(&["7.0.pre"]);
    process.kill();
    daemon.wait_done(&["7.0.post"]);
    let asked = || {
        let request = node.asked();
        let path = &request[2]["GANETI_HOOKS_PATH"];
        format!(
            "{} {} {}",
            request[0].as_str().unwrap(),
            request[1].as_str().unwrap(),
            path.as_str().unwrap()
        )
    };
    let all =
        ["global pre global", "global-instance-startup pre global", "instance-start post instance-start"];
    assert_eq!(std::array::from_fn(|_| asked()), all);
    let requests = |key: &str| {
        let event = tree.event(key);
        let there = event["runs"].as_array().unwrap().iter().filter(|run| run["node"] == OTHER_NODE);
        let there = there
            .map(|run| format!("{} {}", run["directory"].as_str().unwrap(), run["script"].as_str().unwrap()));
        there.collect::<Vec<_>>()
    };
    assert_eq!(
        requests("7.0.pre"),
        [
            "global-pre.d global-pre.d",
            "global-pre.d 20-there",
            "global-instance-startup-pre.d global-instance-startup-pre.d",
            "global-instance-startup-pre.d 20-there",
        ]
    );
    assert_eq!(
        requests("7.0.post"),
        ["instance-start-post.d instance-start-post.d", "instance-start-post.d 20-there"]
    );
    let said = tree.cli(&["events", "--no-headers", "-o", "runs"]).out;
    assert!(said.contains("node2:instance-start/20-there=0"), "{said}");
}

#[test]
fn node_daemons_are_asked_at_the_port_that_the_system_names() {
    let node = NodeDaemon::start_at(1899, false);
    let tree = cluster(&node.address);
    fs::write(tree.path("services"), "ganeti-noded 1899/tcp\n").unwrap();
    let script = format!("mount --bind {} /etc/services && exec \"$@\"", tree.path("services").display());
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let mut daemon = crate::harness::Daemon::spawn(&tree, &[], &words);
    daemon.wait_ready();
    let mut job = startup(1);
    tree.put(job.runs(0));
    assert_eq!(node.asked()[1], "pre");
    daemon.wait_done(&["1.0.pre"]);
}

#[test]
fn a_failed_post_and_a_setting_keep_hooks_at_home() {
    let tree = cluster(&address());
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0).fails(0));
    daemon.wait_done(&["7.0.post"]);
    assert_eq!(runs(&tree.event("7.0.post")), ["node1 10-log 0 attempt=1"]);
    drop(daemon);
    tree.set("hooks.nodes", "\"master\"");
    let daemon = tree.start();
    tree.put(startup(8).waits(0).runs(0));
    daemon.wait_done(&["8.0.pre"]);
    assert_eq!(runs(&tree.event("8.0.pre")), ["node1 10-log 0 attempt=1"]);
}

#[test]
fn a_node_that_is_not_there_is_a_recorded_failure() {
    let tree = cluster(&address());
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    daemon.wait_done(&["7.0.pre"]);
    let pre = tree.event("7.0.pre");
    let failed = pre["runs"].as_array().unwrap().iter().find(|run| run["script"] == "global-pre.d").unwrap();
    assert!(failed["error"].as_str().unwrap().contains("cannot be reached"), "{failed}");
    let status = daemon.status();
    assert_eq!(status["last_failures"][0]["node"], OTHER_NODE, "{status}");
}

#[test]
fn whatever_a_node_says_costs_a_line_and_a_few_records() {
    let script = |n: usize| format!(r#"["global-pre.d/{n:04}", 1, "{}"]"#, "x".repeat(1000));
    let mut entries: Vec<String> = (0..1500).map(script).collect();
    entries.push(r#"["global-pre.d/\u001b[2J\nERROR forged", 1, ""]"#.to_owned());
    let node = NodeDaemon::saying(format!("[true, [{}]]", entries.join(",")), PORT, false);
    let tree = cluster(&node.address);
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    daemon.wait_done(&["7.0.pre"]);
    assert_eq!(runs(&tree.event("7.0.pre")).len(), 1 + 1 + 1000);
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(OTHER_NODE)).collect();
    assert!(
        lines.len() == 1 && lines[0].contains("1001 of 1001 hooks failed: 0000, 0001, 0002, ..."),
        "{lines:?}"
    );
    let said = tree.cli(&["events", "-o", "runs"]);
    assert!(!log.contains('\u{1b}') && !said.out.contains('\u{1b}') && !log.contains("\nERROR"), "{log}");
}

#[test]
fn an_answer_without_end_is_a_failure_and_delays_no_other_job() {
    let huge = format!(r#"[true, [["global-pre.d/20-there", 2, "{}"]]]"#, "x".repeat(65 * 1024 * 1024));
    let node = NodeDaemon::saying(huge, PORT, false);
    let tree = cluster(&node.address);
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    daemon.wait_done(&["7.0.pre"]);
    let pre = tree.event("7.0.pre");
    let failed = pre["runs"].as_array().unwrap().iter().find(|run| run["script"] == "global-pre.d").unwrap();
    assert!(failed["error"].as_str().unwrap().contains("longer than 4194304 bytes"), "{failed}");
}

#[test]
fn check_asks_the_other_nodes() {
    let node = NodeDaemon::start(false);
    let check = |tree: &Tree| {
        let said = tree.cli(&["check"]);
        let line = said.out.lines().find(|line| line.contains(OTHER_NODE)).unwrap_or_default().to_owned();
        (said.code, line)
    };
    let tree = cluster(&node.address);
    let _daemon = tree.start();
    let (code, line) = check(&tree);
    assert!(code == Some(0) && line.starts_with("ok    node"), "{line}");
    let (code, line) = check(&cluster(&address()));
    assert!(code == Some(1) && line.contains("does ganeti-noded run there?"), "{line}");
}

#[test]
fn a_node_that_is_silent_takes_nothing_from_others() {
    let node = NodeDaemon::start(true);
    let tree = cluster(&node.address);
    tree.set("hooks.workers", "1");
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    let _ = node.asked();
    tree.run_through(&mut Job::delay(8));
    tree.put(startup(9).waits(0).runs(0));
    daemon.wait_done(&["8.0.post", "9.0.pre"]);
    assert_eq!(tree.event("7.0.pre")["state"], "pending");
}

#[test]
fn a_run_on_a_node_that_was_under_way_is_repeated() {
    let node = NodeDaemon::start(true);
    let tree = cluster(&node.address);
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    assert_eq!(node.asked()[2]["GANETI_HOOKD_ATTEMPT"], "1");
    daemon.wait_hooks(1);
    daemon.kill();
    let config = fs::read_to_string(tree.path("data/config.data")).unwrap();
    tree.put_data("config.data", &config.replace("web", "gone"));
    let daemon = tree.start();
    let again = node.asked();
    assert_eq!(again[2]["GANETI_HOOKD_ATTEMPT"], "2");
    assert_eq!(again[2]["GANETI_INSTANCE_NAME"], "web", "what was given once does not change");
    daemon.wait_done(&["7.0.pre"]);
}

#[test]
fn a_node_runs_its_scripts_again_with_what_it_was_given_before() {
    let node = NodeDaemon::start(false);
    let tree = cluster(&node.address);
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    let first = node.asked();
    daemon.wait_done(&["7.0.pre"]);
    let config = fs::read_to_string(tree.path("data/config.data")).unwrap();
    tree.put_data("config.data", &config.replace("web", "gone"));
    let said = tree.cli(&["rerun", "7.0.pre", "--no-headers", "--separator= "]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "7.0.pre done 10-log=0,node2:20-there=0\n"),
        "{said:?}"
    );
    let again = node.asked();
    assert_eq!((&again[0], &again[1]), (&first[0], &first[1]));
    let mut expected = first[2].clone();
    for (name, value) in
        [("GANETI_HOOKD_ATTEMPT", "2"), ("GANETI_HOOKD_LATE", "yes"), ("GANETI_HOOKD_RERUN", "yes")]
    {
        expected[name] = json!(value);
    }
    assert_eq!(again[2], expected);
    assert!(runs(&tree.event("7.0.pre")).contains(&"node2 20-there 0 attempt=2".to_owned()));
}

#[test]
fn a_stop_does_not_wait_for_a_node() {
    let node = NodeDaemon::start(true);
    let tree = cluster(&node.address);
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    let _ = node.asked();
    let (status, took) = daemon.stop();
    assert!(status.success() && took.as_secs() < 15, "{status} after {took:?}");
    assert_eq!(tree.event("7.0.pre")["state"], "pending");
    let _daemon = tree.start();
    assert_eq!(node.asked()[2]["GANETI_HOOKD_ATTEMPT"], "2");
}

#[test]
fn an_unknown_opcode_is_noted_once() {
    let tree = cluster(&address());
    tree.hook("post", "10-log", "echo $GANETI_OBJECT_TYPE >>LOG");
    let daemon = tree.start();
    for id in [7, 8] {
        tree.run_through(&mut Job::new(id, &["OP_INSTANCE_TELEPORT"]));
    }
    daemon.wait_done(&["7.0.post", "8.0.post"]);
    assert_eq!(daemon.logged("OP_INSTANCE_TELEPORT is not known"), 1);
    assert!(tree.hook_log().iter().any(|line| line == "NOT_APPLICABLE"));
}

#[test]
fn without_a_configuration_hooks_run_and_status_says_so() {
    let tree = cluster(&address());
    fs::remove_file(tree.path("data/config.data")).unwrap();
    let daemon = tree.start();
    tree.put(startup(7).waits(0).runs(0));
    daemon.wait_done(&["7.0.pre"]);
    assert_eq!(runs(&tree.event("7.0.pre")), ["node1 10-log 0 attempt=1"]);
    assert!(daemon.status()["problems"][0].as_str().unwrap().contains("config.data does not exist"));
}
