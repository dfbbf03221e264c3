//! Only the master acts, and only one daemon.

use std::fs;

use crate::harness::{Job, NODE, OTHER_NODE, Tree};

const MASTER: &str = "ssconf_master_node";

#[test]
fn a_second_daemon_says_so_and_fails() {
    let tree = Tree::new();
    let daemon = tree.start();
    let second = tree.cli(&["run"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("another ganeti-hookd runs with the state directory"), "{}", second.err);
    assert!(second.err.contains(&tree.path("state").display().to_string()), "{}", second.err);
    // The first one has lost nothing by it, its socket neither.
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.cli(&["status"]).code, Some(0));
}

#[test]
fn in_standby_nothing_runs_and_no_process_is_dead() {
    let tree = Tree::with_log();
    tree.put_data(MASTER, OTHER_NODE);
    let daemon = tree.start();
    tree.run_through(&mut Job::delay(1));
    // On the master this process lives; here there is none of that number.
    let mut elsewhere = Job::delay(2);
    elsewhere.process(tree.livelock("job_000002_1795366000").display(), Some(4_194_304));
    tree.put(elsewhere.runs(0));
    daemon.wait_done(&["1.0.post", "2.0.pre"]);
    daemon.fence();
    let told: Vec<String> = tree.told().into_iter().filter(|event| event.starts_with("2.")).collect();
    assert_eq!(told, ["2.0.pre"]);
    assert_eq!(tree.event("1.0.post")["state"], "standby");
    assert_eq!(tree.hook_log(), [""; 0]);
    let status = daemon.status();
    assert_eq!((status["role"].as_str(), status["master"].as_str()), (Some("standby"), Some(OTHER_NODE)));
    daemon.wait_message("STATUS=standby");
}

#[test]
fn a_new_master_takes_over_and_delivers_what_had_just_finished() {
    let tree = Tree::with_log();
    tree.put_data(MASTER, OTHER_NODE);
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    let mut elsewhere = Job::delay(2);
    elsewhere.process(tree.livelock("job_000002_1795366000").display(), Some(4_194_304));
    tree.put(elsewhere.runs(0));
    daemon.wait_done(&["1.0.post", "2.0.pre"]);
    tree.put_data(MASTER, NODE);
    daemon.wait_hooks(4);
    let log = tree.hook_log();
    for line in [
        "10-log 1.0.pre - late=yes attempt=1",
        "10-log 1.0.post succeeded late=yes attempt=1",
        "10-log 2.0.pre - late=yes attempt=1",
    ] {
        assert!(log.iter().any(|logged| logged == line), "{line} in {log:#?}");
    }
    // Its process went down with the old master.
    assert!(log.iter().any(|line| line.starts_with("10-log 2.0.post disappeared")), "{log:#?}");
    tree.run_through(&mut Job::delay(3));
    daemon.wait_done(&["3.0.post"]);
    assert_eq!(tree.event("3.0.post")["late"], false);
}

#[test]
fn what_finished_before_the_window_was_the_old_masters_to_deliver() {
    let tree = Tree::with_log();
    tree.set("master.failover-window", "\"0s\"");
    tree.put_data(MASTER, OTHER_NODE);
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    tree.put_data(MASTER, NODE);
    daemon.wait_log("is master now", 1);
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    let log = tree.hook_log();
    assert!(log.len() == 2 && log[0].starts_with("10-log 2.0.pre"), "{log:#?}");
    assert_eq!(tree.event("1.0.post")["state"], "standby");
}

#[test]
fn a_master_that_is_one_no_more_stops_delivering() {
    let tree = Tree::new();
    tree.log_hook("pre", "10-log", "until [ -e DIR/gate ]; do sleep 0.02; done");
    tree.log_hook("post", "10-log", "");
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.runs(0));
    daemon.wait_hooks(1);
    tree.put(job.succeeds(0));
    daemon.wait("its end", |events| events.len() == 2);
    tree.put_data(MASTER, OTHER_NODE);
    daemon.wait_log("is standby now", 1);
    fs::write(tree.path("gate"), "").unwrap();
    daemon.wait_done(&["1.0.pre", "1.0.post"]);
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    assert_eq!(tree.event("1.0.post")["state"], "standby");
    assert_eq!(tree.hook_log(), ["10-log 1.0.pre - late=no attempt=1", "end 10-log 1.0.pre"]);
    // And back again: what waited is delivered after all, in order.
    tree.put_data(MASTER, NODE);
    daemon.wait("all", |events| events.iter().all(|event| event["state"] == "done"));
    let line = "10-log 1.0.post succeeded late=yes attempt=1";
    assert!(tree.hook_log().iter().any(|logged| logged == line), "{:#?}", tree.hook_log());
}

#[test]
fn the_last_opcode_of_a_destroyed_cluster_has_its_post_hook() {
    let tree = Tree::with_log();
    tree.log_hook("post", "20-master", "echo \"master $GANETI_MASTER\" >>LOG");
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_CLUSTER_DESTROY"]);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    // Ganeti says so, and removes its data, before it writes the job's last version.
    tree.put_data(MASTER, "NO MASTER");
    daemon.fence();
    fs::remove_file(tree.path("data").join(MASTER)).unwrap();
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.event("1.0.post")["state"], "done");
    assert!(tree.hook_log().contains(&format!("master {NODE}")), "{:#?}", tree.hook_log());
    // Whose this node is next, the next cluster says.
    tree.put_data(MASTER, OTHER_NODE);
    daemon.wait_log("is standby now", 1);
}

#[test]
fn a_cluster_is_told_by_the_name_it_had_when_the_opcode_began() {
    let tree = Tree::new();
    let name = |serial: i32, name: &str| {
        let node = r#"{"uuid":"n","name":"node1.example.com","primary_ip":"192.0.2.1"}"#;
        let cluster = format!(r#"{{"cluster_name":"{name}","master_node":"n"}}"#);
        let config = format!(
            r#"{{"serial_no":{serial},"cluster":{cluster},"nodes":{{"n":{node}}},"instances":{{}}}}"#
        );
        tree.put_data("config.data", &config);
        tree.put_data("ssconf_cluster_name", name);
    };
    name(1, "old.example.com");
    for phase in ["pre", "post"] {
        let target = r#"$GANETI_OP_CODE $GANETI_HOOKS_PHASE $GANETI_CLUSTER $GANETI_OP_TARGET"#;
        tree.hook(phase, "10-name", &format!("echo \"{target} $GANETI_POST_OP_TARGET\" >>LOG"));
    }
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_CLUSTER_RENAME", "OP_CLUSTER_DESTROY"]);
    job.op(0)["input"]["name"] = "new.example.com".into();
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    name(2, "new.example.com");
    tree.put(job.succeeds(0));
    tree.put(job.runs(1));
    daemon.wait_done(&["1.0.post", "1.1.pre"]);
    for file in ["ssconf_master_node", "ssconf_cluster_name", "config.data"] {
        fs::remove_file(tree.path("data").join(file)).unwrap();
    }
    tree.put(job.succeeds(1));
    daemon.wait_done(&["1.1.post"]);
    let (old, new) = ("old.example.com", "new.example.com");
    let expected = [
        format!("OP_CLUSTER_RENAME pre {old} {old} "),
        format!("OP_CLUSTER_RENAME post {old} {old} {new}"),
        format!("OP_CLUSTER_DESTROY pre {new} {new} "),
        format!("OP_CLUSTER_DESTROY post {new} {new} {new}"),
    ];
    assert_eq!(tree.hook_log(), expected);
    let env = tree.cli(&["env", "1", "1", "post"]).out;
    assert!(env.contains(&format!("GANETI_MASTER={NODE}\n")), "{env}");
    assert!(env.contains(&format!("GANETI_CLUSTER={new}\n")), "{env}");
}

#[test]
fn a_restart_in_standby_keeps_what_a_failover_needs() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    tree.log_hook("post", "10-log", "sleep 600");
    tree.put(&Job::ended(1));
    daemon.wait_hooks(2);
    daemon.kill();
    tree.log_hook("post", "10-log", "");
    // What the master left undone when it died is another's to do now, unless this node
    // is master again soon.
    tree.put_data(MASTER, OTHER_NODE);
    let daemon = tree.start();
    daemon.fence();
    assert_eq!(tree.event("1.0.post")["state"], "standby");
    drop(daemon);
    tree.put_data(MASTER, NODE);
    let daemon = tree.start();
    daemon.wait_done(&["1.0.post"]);
    let log = tree.hook_log();
    assert_eq!(log.len(), 3, "{log:#?}");
    assert_eq!(log[2], "10-log 1.0.post succeeded late=yes attempt=2");
}

#[test]
fn what_was_left_undone_waits_until_it_is_known_who_is_master() {
    let tree = Tree::with_log();
    // Whatever happens, it is too late for a failover.
    tree.set("master.failover-window", "\"0s\"");
    for (id, master, state) in [(1, NODE, "done"), (2, OTHER_NODE, "standby")] {
        tree.put_data(MASTER, NODE);
        tree.log_hook("post", "10-log", "sleep 600");
        let ran = tree.hook_log().len();
        let daemon = tree.start();
        tree.put(&Job::ended(id));
        daemon.wait_hooks(ran + 2);
        daemon.kill();
        tree.log_hook("post", "10-log", "");
        fs::remove_file(tree.path("data").join(MASTER)).unwrap();
        let daemon = tree.start();
        tree.put_data(MASTER, master);
        let post = format!("{id}.0.post");
        daemon.wait(state, |events| events.iter().any(|e| e["event"] == *post && e["state"] == state));
    }
    let log = tree.hook_log();
    assert!(log.contains(&"10-log 1.0.post succeeded late=yes attempt=2".to_owned()), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("2.0.post") && line.contains("attempt=2")), "{log:#?}");
}

#[test]
fn without_a_cluster_there_is_no_master() {
    let tree = Tree::with_log();
    fs::remove_file(tree.path("data/ssconf_master_node")).unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.event("1.0.post")["state"], "standby");
    // `gnt-cluster init` writes it.
    tree.put_data(MASTER, NODE);
    daemon.wait_hooks(2);
}

#[test]
fn what_no_node_can_be_called_is_not_taken_for_a_name() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let is_plain = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{2066}');
    for bad in ["a\u{1b}[2J\u{2066}b", "a\0b", &"x".repeat(1000)] {
        tree.put_data(MASTER, bad);
        tree.put_data("ssconf_cluster_name", bad);
        let is_told =
            |status: &serde_json::Value| status["problems"].to_string().contains("which is no name");
        daemon.wait_status("a problem", is_told);
        for command in ["status", "check"] {
            let said = tree.cli(&[command]).out;
            assert!(said.contains("ssconf_master_node begins with") && is_plain(&said), "{said:?}");
            assert!(said.len() < 4096, "{said}");
        }
        tree.put_data(MASTER, NODE);
        daemon.wait_status("no problem", |status| status["problems"] == serde_json::json!([]));
    }
    assert!(is_plain(&daemon.log()), "{}", daemon.log());
    assert_eq!(daemon.logged("is standby now"), 0, "who is master is not known anew");
    // Its hooks are not told of such a cluster, and start.
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.hook_log().len(), 2, "{:?}", tree.hook_log());
}
