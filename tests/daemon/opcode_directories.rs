//! Directories of single opcodes, and Ganeti's own post hooks of jobs that died.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{CLUSTER, Job, NODE, Tree};

/// What the runs of an event are of: `global-post.d/10-log`.
fn runs(event: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let run = |run: &Value| format!("{}/{}", text(&run["directory"]), text(&run["script"]));
    event["runs"].as_array().unwrap().iter().map(run).collect()
}

#[test]
fn scripts_of_an_opcode_run_after_those_of_all_and_for_no_other() {
    let tree = Tree::with_log();
    tree.hook_in("global-tags-set-post.d", "05-tags", "echo $GANETI_HOOKS_PATH $GANETI_OP_CODE >>LOG");
    tree.hook_in("tags-set-post.d", "05-strange", "echo strange >>LOG");
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_TEST_DELAY", "OP_TAGS_SET"]);
    tree.run_through(&mut job);
    daemon.wait_done(&["1.1.post"]);
    assert_eq!(tree.hook_log().iter().filter(|line| *line == "global OP_TAGS_SET").count(), 1);
    assert_eq!(tree.hook_log().len(), 5, "{:?}", tree.hook_log());
    assert_eq!(runs(&tree.event("1.0.post")), ["global-post.d/10-log"]);
    assert_eq!(runs(&tree.event("1.1.post")), ["global-post.d/10-log", "global-tags-set-post.d/05-tags"]);
    let said = tree.cli(&["events", "--no-headers", "-o", "runs"]).out;
    assert_eq!(said.lines().last().unwrap().trim(), "10-log=0,global-tags-set/05-tags=0");
    drop(daemon);
    let recording = tree.path("recording");
    let line = |t: f64, job: &Job| json!({"t": t, "path": "job-1", "content": job.text()}).to_string();
    fs::write(&recording, line(1.0, &job)).unwrap();
    let hooks = format!("--hooks={}", tree.path("hooks").display());
    let replayed = tree.cli(&["replay", recording.to_str().unwrap(), &hooks]);
    let last: Value = serde_json::from_str(replayed.out.lines().last().unwrap()).unwrap();
    assert_eq!(runs(&last), ["global-post.d/10-log", "global-tags-set-post.d/05-tags"]);
}

#[test]
fn a_directory_of_an_opcode_that_others_may_write_is_refused_alone() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Tree::with_log();
    tree.hook_in("global-test-delay-post.d", "10-open", "echo open >>LOG");
    let directory = tree.path("hooks/global-test-delay-post.d");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.hook_log().last().unwrap(), "10-log 1.0.post succeeded late=no attempt=1");
    assert!(!tree.hook_log().contains(&"open".to_owned()));
    let event = tree.event("1.0.post");
    let refused = &event["runs"].as_array().unwrap()[1];
    assert_eq!(refused["script"], "global-test-delay-post.d");
    assert!(refused["error"].as_str().unwrap().contains("may be written by others"), "{refused}");
}

/// A cluster of one node with an instance that has two disks.
fn with_instance(tree: &Tree) {
    let disk =
        |size: u32| json!({"dev_type": "plain", "size": size, "mode": "rw", "logical_id": ["vg", "x"]});
    let config = json!({
        "serial_no": 1,
        "cluster": {"cluster_name": CLUSTER, "master_node": "m"},
        "nodes": {"m": {"name": NODE, "primary_ip": "127.0.0.1"}},
        "instances": {"i": {
            "name": "web", "primary_node": "m", "admin_state": "up", "disk_template": "plain",
            "disks": [disk(512), disk(1024)],
        }},
    });
    tree.put_data("config.data", &config.to_string());
}

fn startup(id: i64) -> Job {
    let mut job = Job::new(id, &["OP_INSTANCE_STARTUP"]);
    job.op(0)["input"]["instance_name"] = json!("web");
    job
}

#[test]
fn ganetis_own_post_hooks_learn_of_a_job_that_died() {
    let tree = Tree::with_log();
    with_instance(&tree);
    tree.set("hooks.native-post", "[\"disappeared\"]");
    // As in a script for Ganeti's own hooks: what it relies on must be there.
    let own = "set -u; tr '\\0' '\\n' </proc/$$/environ >DIR/environ; echo \"$GANETI_HOOKS_PATH $GANETI_POST_STATUS $GANETI_INSTANCE_DISK_COUNT \
        $GANETI_INSTANCE_DISK0_SIZE $GANETI_INSTANCE_DISK1_SIZE $GANETI_POST_INSTANCE_DISK_COUNT\" >>LOG";
    tree.hook_in("instance-start-post.d", "10-disks", own);
    tree.hook_in("instance-start-pre.d", "10-disks", own);
    tree.hook_in("instance-stop-post.d", "10-disks", own);
    let daemon = tree.start();
    let mut job = startup(1);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    process.kill();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(runs(&tree.event("1.0.post")), ["global-post.d/10-log", "instance-start-post.d/10-disks"]);
    assert_eq!(tree.hook_log().last().unwrap(), "instance-start disappeared 2 512 1024 2");
    let said = tree.cli(&["events", "--no-headers", "-o", "runs"]).out;
    assert_eq!(said.lines().last().unwrap().trim(), "10-log=0,instance-start/10-disks=0");
    // The script can be tried by hand.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let got = sorted(&fs::read_to_string(tree.path("environ")).unwrap());
    assert_eq!(sorted(&tree.cli(&["env", "1", "0", "post", "--native"]).out), got);
    let said = tree.cli(&["env", "1", "0", "pre", "--native"]);
    assert!(said.code == Some(2) && said.err.contains("--native is for post"), "{said:?}");
    let before = tree.hook_log().len();
    // Ganeti has run them for one, and nobody wants them for the other.
    tree.put(startup(2).waits(0).runs(0).succeeds(0));
    tree.put(startup(3).waits(0).runs(0).fails(0));
    daemon.wait_done(&["2.0.post", "3.0.post"]);
    assert_eq!(tree.hook_log().len() - before, 4, "{:?}", tree.hook_log());
}

#[test]
fn check_judges_every_hooks_directory() {
    let tree = Tree::new();
    tree.hook("post", "10-dns", "echo \"$GANETI_INSTANCE_NAME\" >>LOG");
    tree.hook("post", "20-good", "[ \"$GANETI_POST_STATUS\" = succeeded ]");
    tree.hook_in("global-instance-create-pre.d", "10-switch", "case $GANETI_HOOKS_PATH in *) ;; esac");
    tree.hook_in("global-instance-start-post.d", "10-mail", ": $GANETI_POST_STATUS");
    tree.hook_in("instance-start-post.d", "10-own", "case $GANETI_HOOKS_PATH in *) ;; esac");
    fs::write(tree.path("hooks/instance-start-post.d/notes.txt"), "").unwrap();
    let said = tree.cli(&["check"]).out;
    let has = |verdict: &str, words: &[&str]| {
        let fits = |line: &&str| line.starts_with(verdict) && words.iter().all(|word| line.contains(word));
        said.lines().any(|line| fits(&line))
    };
    assert!(has("note", &["global-post.d", "10-dns never reads GANETI_POST_STATUS"]), "{said}");
    assert!(!has("note", &["20-good"]) && has("ok", &["global-post.d", "20-good"]), "{said}");
    assert!(has("note", &["global-instance-create-pre.d", "10-switch reads GANETI_HOOKS_PATH"]), "{said}");
    assert!(has("note", &["is global-instance-startup-post.d meant?"]), "{said}");
    assert!(has("ok", &["global-instance-start-post.d", "10-mail"]), "{said}");
    assert!(!said.contains("10-own") && !said.contains("notes.txt"), "Ganeti runs them: {said}");
    tree.set("hooks.native-post", "[\"failed\"]");
    let said = tree.cli(&["check"]).out;
    assert!(said.contains("10-own") && said.contains("notes.txt does not run"), "{said}");
    assert!(!said.contains("10-own reads"), "it gets what it expects: {said}");
}
