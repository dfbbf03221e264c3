//! Which node this is: Ganeti takes the full name that the system's own name stands for. Each
//! daemon here has a system name and an `/etc/hosts` of its own (unshare(1)).

use std::fs;
use std::process::Command;

use crate::harness::{Daemon, Job, NODE, PROGRAM, Tree};

/// Runs what follows on a system of this name, with the file `hosts` of the tree.
fn system(script: &str) -> Vec<&str> {
    vec!["unshare", "--user", "--map-root-user", "--uts", "--mount", "sh", "-c", script, "sh"]
}

fn script(tree: &Tree, name: &str) -> String {
    let hosts = tree.path("hosts").display().to_string();
    format!(
        "mount --bind {hosts} /etc/hosts && echo {name} >/proc/sys/kernel/hostname && \
         {{ [ -z \"$LATER\" ] || (until [ -e \"$LATER\" ]; do sleep 0.02; done; \
         cat \"$LATER\" >/proc/sys/kernel/hostname) & }} && exec \"$@\""
    )
}

/// A tree whose configuration does not say which node it is.
fn tree(hosts: &str) -> Tree {
    let tree = Tree::with_log();
    tree.set("master.name", "\"\"");
    fs::write(tree.path("hosts"), format!("127.0.0.1 localhost\n{hosts}\n")).unwrap();
    tree
}

fn check(tree: &Tree, script: &str) -> String {
    let words = system(script);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(PROGRAM).arg("--config").arg(tree.config()).arg("check");
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

fn is_master(tree: &Tree, name: &str) {
    let script = script(tree, name);
    let mut daemon = Daemon::spawn(tree, &[], &system(&script));
    daemon.wait_ready();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(daemon.status()["role"], "master");
    assert!(tree.hook_log().iter().any(|line| line == "10-log 1.0.post succeeded late=no attempt=1"));
    let said = check(tree, &script);
    assert!(said.contains(&format!("ok    master         this node, {NODE}")), "{said}");
}

#[test]
fn a_short_system_name_stands_for_the_full_one() {
    is_master(&tree(&format!("192.0.2.7 {NODE} alpha")), "alpha");
}

#[test]
fn letters_are_small_and_a_full_alias_will_do() {
    is_master(&tree("192.0.2.7 alpha Node1.Example.com"), "alpha");
}

#[test]
fn a_name_that_nobody_can_tell_is_a_problem_until_somebody_can() {
    let tree = tree("");
    let script = script(&tree, "alpha");
    let later = tree.path("later");
    let mut daemon = Daemon::spawn(&tree, &[("LATER", &later.display().to_string())], &system(&script));
    daemon.wait_ready();
    tree.put(&Job::ended(1));
    let status = daemon.wait_status("a problem", |status| status["problems"] != serde_json::json!([]));
    let problem = status["problems"].to_string();
    assert!(problem.contains("nobody can tell which node this is: alpha is no full name"), "{problem}");
    let said = check(&tree, &script);
    assert!(said.contains("FAIL  master") && said.contains("alpha is no full name"), "{said}");
    assert_eq!(tree.hook_log(), [""; 0]);
    // The system gets its name after the start, as on a machine that is being set up.
    fs::write(&later, NODE).unwrap();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.event("1.0.post")["state"], "done");
    daemon.wait_status("no problem", |status| status["problems"] == serde_json::json!([]));
    let log = tree.hook_log();
    assert_eq!(log, ["10-log 1.0.pre - late=yes attempt=1", "10-log 1.0.post succeeded late=yes attempt=1"]);
}

#[test]
fn a_node_of_another_name_stands_by() {
    let tree = tree("192.0.2.8 node2.example.com beta");
    tree.put_data("ssconf_node_list", &format!("{NODE}\nnode2.example.com"));
    let script = script(&tree, "beta");
    let mut daemon = Daemon::spawn(&tree, &[], &system(&script));
    daemon.wait_ready();
    let status = daemon.status();
    assert_eq!((&status["role"], &status["problems"]), (&"standby".into(), &serde_json::json!([])));
    let said = check(&tree, &script);
    assert!(said.contains("note  master") && said.contains("node2.example.com, is in standby"), "{said}");
}
