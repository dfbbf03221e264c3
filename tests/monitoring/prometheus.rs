//! A real Prometheus beside a real daemon: from a job process that is killed to an alert that fires.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use ganeti_hookd::world::http::exchange;
use rustix::process::Signal;

use super::shipped::{RULES, path};
use crate::harness::{Job, Tree, wait_for};

/// Prometheus, until dropped.
struct Prometheus {
    child: Child,
    address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address where nobody listens.
fn address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Prometheus {
    /// Asks this daemon each second, and judges by the rules that are shipped.
    fn start(tree: &Tree, daemon: &str) -> Self {
        let (rules, address) = (path(RULES), address());
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules:?}]\nscrape_configs:\n  \
             - job_name: ganeti-hookd\n    static_configs: [{{targets: [{daemon:?}]}}]\n"
        );
        fs::write(tree.path("prometheus.yml"), config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", tree.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", tree.path("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(tree.path("prometheus.log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; install it"));
        Self { child, address }
    }

    /// What it answers; nothing while it starts.
    fn ask(&self, target: &str) -> String {
        let asked = TcpStream::connect(&self.address)
            .and_then(|stream| exchange(stream, "GET", &self.address, target, b"", 1 << 20));
        asked.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).unwrap_or_default()
    }

    fn wait(&self, target: &str, parts: &[&str]) {
        let is_there = || Some(self.ask(target)).filter(|text| parts.iter().all(|part| text.contains(part)));
        wait_for(is_there, || format!("{parts:?} in {target}; there is {}", self.ask(target)));
    }
}

#[test]
#[ignore = "needs prometheus; .ci/monitoring runs it"]
fn the_death_of_a_job_process_becomes_an_alert() {
    let tree = Tree::with_log();
    let listen = address();
    tree.set("api.metrics-listen", &format!("{listen:?}"));
    let daemon = tree.start();
    let prometheus = Prometheus::start(&tree, &listen);
    prometheus.wait("/api/v1/query?query=ganeti_hookd_up", &["\"1\""]);
    let mut job = Job::new(42, &["OP_INSTANCE_MIGRATE"]);
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["42.0.pre"]);
    daemon.wait_status("the process is watched", |status| status["processes_watched"] == 1);
    let killed = Instant::now();
    process.signal(Signal::KILL);
    daemon.wait_done(&["42.0.post"]);
    let told = killed.elapsed();
    prometheus.wait(
        "/api/v1/alerts",
        &["\"alertname\":\"GanetiJobDied\"", "\"op_code\":\"OP_INSTANCE_MIGRATE\"", "\"state\":\"firing\""],
    );
    println!("killed; post hooks over after {told:?}, the alert fires after {:?}", killed.elapsed());
}
