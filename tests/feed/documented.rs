//! What the documents show is run as it stands there. Needs curl.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{Job, Tree};

/// The commands that a page shows between these lines.
fn examples(page: &str, begin: &str, end: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let shown = text.split(begin).skip(1).map(|rest| rest.split(end).next().unwrap().to_owned());
    let shown: Vec<String> = shown.filter(|example| example.contains("curl ")).collect();
    assert!(!shown.is_empty(), "{page} shows no curl");
    shown
}

/// Starts an example with the socket of this tree.
fn start(tree: &Tree, example: &str) -> Child {
    let socket = "/run/ganeti-hookd/hookd.sock";
    assert!(example.contains(socket), "{example}");
    let example = example.replace(socket, &tree.path("hookd/hookd.sock").display().to_string());
    // Its own process group is not needed: curl is the shell's last command.
    let command = example.trim_start().replacen("curl", "exec curl", 1);
    Command::new("sh").args(["-c", &command]).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_examples_with_curl_answer_what_they_are_for() {
    let curl = Command::new("curl").arg("--version").output();
    assert!(curl.is_ok_and(|curl| curl.status.success()), "curl is needed: apt-get install curl");
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = Job::new(42, &["OP_INSTANCE_STARTUP"]);
    job.op(0)["input"]["instance_name"] = "web1.example.com".into();
    job.op(0)["input"]["reason"] =
        serde_json::json!([["gnt:user", "Kernel update", 1_795_366_000_000_000_000_i64]]);
    tree.run_through(&mut job);
    let mut other = Job::delay(43);
    tree.put(other.runs(0).fails(0));
    daemon.wait_done(&["42.0.post", "43.0.post"]);
    let manual = examples("packaging/man/ganeti-hookd.8.end", "\n.EX\n", "\n.EE");
    let manual = manual.iter().map(|text| text.replace("\\-", "-").replace("\\e", "\\"));
    let all: Vec<String> = examples("docs/feed.md", "```sh\n", "```").into_iter().chain(manual).collect();
    assert!(all.iter().any(|example| example.contains("/v1/jobs/")));
    for example in all {
        let mut child = start(&tree, &example);
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        if example.contains("stream=1") {
            while !said.contains("heartbeat") {
                assert!(out.read_line(&mut said).unwrap() > 0, "{example}\n{said}");
            }
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            std::io::Read::read_to_string(&mut out, &mut said).unwrap();
            assert!(child.wait().unwrap().success(), "{example}");
        }
        let lines: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let is_as_expected = match example.as_str() {
            text if text.contains("/v1/jobs/") => lines.len() == 1 && lines[0]["status"] == "success",
            text if text.contains("kernel update") => lines.is_empty() && said.is_empty(),
            text if text.contains("web1") => lines.len() == 2 && said.contains("Ganeti-Hookd-Cursor: "),
            _ => lines.iter().filter(|line| line["type"].is_null()).count() == 4,
        };
        assert!(is_as_expected, "{example}\n{said}");
    }
}
