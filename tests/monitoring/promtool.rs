//! What `promtool` has to say. Nothing is left out where it is missing: `.ci/monitoring` runs these,
//! and they fail.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use super::shipped::{RULES, expressions, path};
use super::told::scraped;

/// Runs it to its end; it has nothing to complain of.
fn promtool(args: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; install prometheus"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {args:?}: {said}\n{input}");
    println!("promtool {}: {}", args.join(" "), said.trim());
}

#[test]
#[ignore = "needs promtool (Debian: prometheus); .ci/monitoring runs it"]
fn what_the_daemon_tells_is_good_style() {
    promtool(&["check", "metrics"], &scraped());
}

#[test]
#[ignore = "needs promtool (Debian: prometheus); .ci/monitoring runs it"]
fn the_rules_are_good_and_do_what_their_tests_say() {
    promtool(&["check", "rules", path(RULES).to_str().unwrap()], "");
    promtool(&["test", "rules", path("ganeti-hookd.rules.test.yml").to_str().unwrap()], "");
}

#[test]
#[ignore = "needs promtool (Debian: prometheus); .ci/monitoring runs it"]
fn each_expression_of_the_dashboard_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dashboard.yml");
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (number, expression) in expressions().iter().enumerate() {
        // As Grafana fills it in.
        let expression =
            expression.replace("$instance", "node1:9713|node2:9713").replace("$__rate_interval", "5m");
        rules +=
            &format!("      - record: panel:{number}\n        expr: {}\n", serde_json::json!(expression));
    }
    fs::write(&file, &rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()], "");
}
