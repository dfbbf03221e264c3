//! `rerun`: what somebody wants to run again, and what scripts are told of that.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::harness::tree::Said;
use crate::harness::{Daemon, Job, NODE, OTHER_NODE, Tree, wait_for};

/// A hook that logs what makes a run different from the run before.
const LOG: &str = "echo \"$(basename \"$0\") $GANETI_HOOKD_EVENT attempt=$GANETI_HOOKD_ATTEMPT \
    late=$GANETI_HOOKD_LATE rerun=${GANETI_HOOKD_RERUN:--}\" >>LOG";

/// A master on which `20-check` of job 2's post has failed, until there is a file `good`.
fn failed(tree: &Tree) -> Daemon<'_> {
    tree.hook("post", "10-log", LOG);
    tree.hook("post", "20-check", &format!("{LOG}\n[ $GANETI_JOB_ID != 2 ] || [ -e DIR/good ]"));
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    tree.put(&Job::ended(2));
    daemon.wait_done(&["1.0.post", "2.0.post"]);
    fs::remove_file(tree.path("hooks.log")).unwrap();
    daemon
}

fn rerun(tree: &Tree, args: &[&str]) -> Said {
    tree.cli(&[&["rerun", "--no-headers", "--separator= "], args].concat())
}

/// A command that did what it was asked.
fn done(said: Said) -> String {
    assert!(said.code == Some(0) && said.err.is_empty(), "{said:?}");
    said.out
}

/// The attempts and exit codes of a script of an event.
fn attempts(tree: &Tree, event: &str, script: &str) -> Vec<(Value, Value)> {
    let event = tree.event(event);
    let runs = event["runs"].as_array().unwrap().iter().filter(|run| run["script"] == script);
    runs.map(|run| (run["attempt"].clone(), run["code"].clone())).collect()
}

#[test]
fn scripts_run_once_more_and_are_told_so() {
    let tree = Tree::new();
    let _daemon = failed(&tree);
    let said = rerun(&tree, &["2.0.post"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), "2.0.post done 10-log=0,20-check=1\n"), "{said:?}");
    let line = |script, attempt| format!("{script} 2.0.post attempt={attempt} late=yes rerun=yes");
    assert_eq!(tree.hook_log(), [line("10-log", 2), line("20-check", 2)]);
    fs::write(tree.path("good"), "").unwrap();
    let said = done(rerun(&tree, &["2.0.post", "--script", "20-check"]));
    assert_eq!(said, "2.0.post done 20-check=0\n");
    assert_eq!(tree.hook_log()[2..], [line("20-check", 3)]);
    // The history has all of it, and that the event itself was in time.
    let runs = [(1, 1), (2, 1), (3, 0)].map(|(attempt, code)| (json!(attempt), json!(code)));
    assert_eq!(attempts(&tree, "2.0.post", "20-check"), runs);
    let event = tree.event("2.0.post");
    assert_eq!((&event["late"], &event["state"]), (&json!(false), &json!("done")));
}

#[test]
fn a_rerun_gets_what_was_stored_and_nothing_else_is_different() {
    let tree = Tree::new();
    let keep = "tr '\\0' '\\n' </proc/$$/environ >DIR/environ.$GANETI_HOOKD_ATTEMPT";
    tree.hook("pre", "10-keep", keep);
    let daemon = tree.start();
    tree.put(Job::delay(1).runs(0));
    daemon.wait_done(&["1.0.pre"]);
    done(rerun(&tree, &["1.0.pre"]));
    let environment = |attempt: u32| -> BTreeMap<String, String> {
        let text = fs::read_to_string(tree.path(&format!("environ.{attempt}"))).unwrap();
        let pairs = text.lines().map(|line| line.split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let mut expected = environment(1);
    for (name, value) in
        [("GANETI_HOOKD_ATTEMPT", "2"), ("GANETI_HOOKD_LATE", "yes"), ("GANETI_HOOKD_RERUN", "yes")]
    {
        expected.insert(name.to_owned(), value.to_owned());
    }
    assert_eq!(environment(2), expected);
}

#[test]
fn all_that_failed_runs_again_and_a_dry_run_only_shows_it() {
    let tree = Tree::new();
    let daemon = failed(&tree);
    let since = ["--failed", "--since", "1h"];
    let id = tree.event("2.0.post")["id"].as_str().unwrap().to_owned();
    let shown = done(rerun(&tree, &[&since[..], &["--dry-run"]].concat()));
    assert_eq!(shown, format!("2.0.post {id} 20-check=1\n"));
    assert!(!tree.path("hooks.log").exists(), "nothing has run");
    for none in [&["--script", "10-log"][..], &["--until", "59m"]] {
        assert_eq!(done(rerun(&tree, &[&since[..], none].concat())), "", "{none:?}");
    }
    let backwards = rerun(&tree, &[&since[..], &["--until", "2h"]].concat());
    assert!(backwards.code == Some(2) && backwards.err.contains("must be before"), "{backwards:?}");
    fs::write(tree.path("good"), "").unwrap();
    assert_eq!(done(rerun(&tree, &since)), "2.0.post done 10-log=0,20-check=0\n");
    assert_eq!(done(rerun(&tree, &since)), "", "it has run well since");
    assert_eq!(done(rerun(&tree, &[&id, "--script=10-log", "--no-wait"])), "");
    daemon.wait_hooks(3);
}

#[test]
fn what_does_not_run_again_says_why() {
    let tree = Tree::new();
    tree.hook("post", "10-waits", "until [ -e DIR/gate ]; do sleep 0.02; done");
    tree.set("hooks.skip-opcodes", "[\"OP_TAGS_*\"]");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    let mut tags = Job::new(2, &["OP_TAGS_SET"]);
    tree.put(tags.runs(0).succeeds(0));
    daemon.wait_done(&["1.0.pre", "2.0.post"]);
    let why = |args: &[&str]| {
        let said = rerun(&tree, args);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        said.err
    };
    let is_pending = "ganeti-hookd: 1.0.post: its hooks have not all ended yet; wait until they have\n";
    assert_eq!(why(&["1.0.post"]), is_pending);
    assert_eq!(why(&["2.0.post"]), "ganeti-hookd: 2.0.post: hooks.skip-opcodes names its opcode\n");
    assert_eq!(why(&["9.0.post"]), "ganeti-hookd: 9.0.post: there is no such event in the history\n");
    fs::write(tree.path("gate"), "").unwrap();
    daemon.wait_done(&["1.0.post"]);
    let no_script = why(&["1.0.post", "--script", "20-x"]);
    assert!(
        no_script.ends_with(&format!("there is no script 20-x for it on {NODE}; 10-waits\n")),
        "{no_script}"
    );
    tree.put_data("ssconf_master_node", OTHER_NODE);
    daemon.wait_status("standby", |status| status["role"] == "standby");
    assert!(why(&["1.0.post"]).ends_with(&format!("this node is not master; the master is {OTHER_NODE}\n")));
    drop(daemon);
    assert!(why(&["1.0.post"]).contains("the daemon is not running; start it with"));
    for usage in
        [&["x.0.post"][..], &[], &["1.0.post", "--failed"], &["--failed"], &["1.0.post", "--script=a/b"]]
    {
        assert_eq!(rerun(&tree, usage).code, Some(2), "{usage:?}");
    }
}

/// A `rerun` that waits.
fn asked(tree: &Tree, event: &str) -> Child {
    let mut command = tree.program();
    command.args(["rerun", "--no-headers", "--separator= ", event]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn killed_in_the_middle_it_goes_on_marked_and_who_waits_is_told() {
    let tree = Tree::new();
    // The second attempt waits for a gate that never opens.
    let more = "[ $GANETI_HOOKD_ATTEMPT != 2 ] || until [ -e DIR/gate ]; do sleep 0.02; done";
    tree.hook("post", "10-log", LOG);
    tree.hook("post", "20-waits", &format!("{LOG}\n{more}"));
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let asked = asked(&tree, "1.0.post");
    daemon.wait_hooks(4);
    daemon.kill();
    let daemon = tree.start();
    daemon.wait_hooks(5);
    let said = asked.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(said.status.success(), "{said:?}");
    assert_eq!(text(&said.stdout), "1.0.post done 10-log=0,20-waits=interrupted,20-waits=0\n");
    let line = |script, attempt| format!("{script} 1.0.post attempt={attempt} late=yes rerun=yes");
    // What had ended once more does not run a third time.
    assert_eq!(tree.hook_log()[2..], [line("10-log", 2), line("20-waits", 2), line("20-waits", 3)]);
}

#[test]
fn a_rerun_waits_for_its_job_and_holds_nobody() {
    let tree = Tree::new();
    tree.hook("pre", "10-log", LOG);
    tree.hook(
        "post",
        "10-log",
        &format!("{LOG}\n[ $GANETI_HOOKD_OP_INDEX != 0 ] || until [ -e DIR/gate ]; do sleep 0.02; done"),
    );
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_TEST_DELAY", "OP_TEST_DELAY"]);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put(job.succeeds(0));
    daemon.wait_hooks(2);
    let asked = asked(&tree, "1.0.pre");
    wait_for(
        || (tree.event("1.0.pre")["state"] == "pending").then_some(()),
        || format!("the rerun; {:#?}", tree.events()),
    );
    tree.put(job.runs(1));
    tree.put(job.succeeds(1));
    daemon.wait("the last post", |events| events.len() == 4);
    fs::write(tree.path("gate"), "").unwrap();
    assert!(asked.wait_with_output().unwrap().status.success());
    let ran: Vec<String> =
        tree.hook_log().iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(ran, ["1.0.pre", "1.0.post", "1.1.pre", "1.1.post", "1.0.pre"]);
    assert!(tree.hook_log()[4].ends_with("attempt=2 late=yes rerun=yes"));
}
