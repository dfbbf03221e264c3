//! What a hook script gets: section 6 of the design.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::{CLUSTER, Daemon, Job, NODE, Tree};

type Environment = BTreeMap<String, String>;

/// A hook that keeps the environment it was started with.
const KEEP_ENVIRONMENT: &str = r#"tr '\0' '\n' </proc/$$/environ >DIR/environ.$GANETI_HOOKD_EVENT"#;

fn environment(tree: &Tree, event: &str) -> Environment {
    let text = fs::read_to_string(tree.path(&format!("environ.{event}"))).unwrap();
    text.lines()
        .map(|line| line.split_once('=').unwrap())
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

/// A tree whose hooks keep their environment.
fn tree() -> Tree {
    let tree = Tree::new();
    tree.hook("pre", "10-keep", KEEP_ENVIRONMENT);
    tree.hook("post", "10-keep", KEEP_ENVIRONMENT);
    tree
}

/// A job of two opcodes; the second one runs and, after its pre, ends.
fn run(tree: &Tree, daemon: &Daemon<'_>, id: i64) {
    let mut job = Job::new(id, &["OP_TAGS_SET", "OP_TEST_DELAY"]);
    tree.put(job.succeeds(0).runs(1));
    daemon.wait_done(&[&format!("{id}.1.pre")]);
    tree.put(job.fails(1));
    daemon.wait_done(&[&format!("{id}.1.post")]);
}

/// What hooks of the second opcode of job 7 get in both phases.
fn expected(tree: &Tree, phase: &str, seq: i64) -> Environment {
    let (event, seq) = (format!("7.1.{phase}"), seq.to_string());
    let id = tree.event(&event)["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("-/") && id.ends_with(&format!("/{event}")), "no configuration is there: {id}");
    let data_dir = tree.path("data").display().to_string();
    let pairs = [
        ("PATH", "/sbin:/bin:/usr/sbin:/usr/bin"),
        ("GANETI_HOOKS_VERSION", "2"),
        ("GANETI_HOOKS_PATH", "global"),
        ("GANETI_HOOKS_PHASE", phase),
        ("GANETI_OP_CODE", "OP_TEST_DELAY"),
        ("GANETI_OBJECT_TYPE", "NOT_APPLICABLE"),
        ("GANETI_DATA_DIR", &data_dir),
        ("GANETI_CLUSTER", CLUSTER),
        ("GANETI_MASTER", NODE),
        ("GANETI_JOB_ID", "7"),
        ("GANETI_IS_MASTER", "master"),
        ("GANETI_HOOKD_EVENT", &event),
        ("GANETI_HOOKD_ID", &id),
        ("GANETI_HOOKD_SEQ", &seq),
        ("GANETI_HOOKD_OP_INDEX", "1"),
        ("GANETI_HOOKD_OP_COUNT", "2"),
        ("GANETI_HOOKD_ATTEMPT", "1"),
        ("GANETI_HOOKD_LATE", "no"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[test]
fn a_hook_gets_exactly_what_is_documented() {
    let tree = tree();
    let daemon = Daemon::start(&tree, &[("SECRET", "of the daemon"), ("LANG", "C.UTF-8")]);
    run(&tree, &daemon, 7);
    let seq = |event: &str| tree.event(event)["seq"].as_i64().unwrap();
    assert_eq!(environment(&tree, "7.1.pre"), expected(&tree, "pre", seq("7.1.pre")));
    let mut post = expected(&tree, "post", seq("7.1.post"));
    post.insert("GANETI_POST_STATUS".to_owned(), "failed".to_owned());
    post.insert("GANETI_HOOKD_EXECUTED".to_owned(), "yes".to_owned());
    assert_eq!(environment(&tree, "7.1.post"), post);
}

#[test]
fn a_post_says_whether_the_opcode_executed() {
    let tree = tree();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.waits(0));
    tree.put(job.fails(0));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(environment(&tree, "1.0.post")["GANETI_HOOKD_EXECUTED"], "no");
}

#[test]
fn the_words_of_the_unreleased_branch_can_be_had() {
    let tree = tree();
    tree.set("hooks.status-words", "\"upstream\"");
    let daemon = tree.start();
    run(&tree, &daemon, 1);
    let mut dies = Job::delay(2);
    let process = tree.process_of(&mut dies);
    tree.put(dies.runs(0));
    daemon.wait_done(&["2.0.pre"]);
    process.kill();
    daemon.wait_done(&["2.0.post"]);
    let word = |event: &str| environment(&tree, event)["GANETI_POST_STATUS"].clone();
    assert_eq!(["1.0.post", "1.1.post", "2.0.post"].map(word), ["success", "error", "disappeared"]);
    // The history keeps the product's own.
    assert_eq!(tree.event("1.1.post")["status"], "failed");
}

/// The output of the only run of an event's script.
fn output(tree: &Tree, event: &str, script: &str) -> String {
    let event = tree.event(event);
    let run = event["runs"].as_array().unwrap().iter().find(|run| run["script"] == script).unwrap().clone();
    assert_eq!(run["code"], 0, "{run}");
    run["output"].as_str().unwrap().to_owned()
}

/// A line of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap()
}

#[test]
fn a_hook_is_a_process_of_its_own() {
    let tree = Tree::new();
    // Programs instead of a shell, which would open and change things itself.
    tree.file_hook("post", "10-descriptors", "#!/bin/ls /proc/self/fd\n");
    tree.file_hook("post", "20-signals", "#!/bin/cat /proc/self/status\n");
    tree.hook(
        "post",
        "30-place",
        "readlink /proc/$$/cwd /proc/$$/fd/0; echo $#; cut -d' ' -f5,7 /proc/$$/stat; echo $$; echo oops >&2",
    );
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let output = |script: &str| output(&tree, "1.0.post", script);
    let descriptors = output("10-descriptors");
    let mut descriptors: Vec<u32> = descriptors.lines().filter_map(|line| line.parse().ok()).collect();
    descriptors.sort();
    assert_eq!(descriptors, [0, 1, 2, 3], "the last one is what lists them");
    let signals = output("20-signals");
    let mask = |name| u64::from_str_radix(field(&signals, name), 16).unwrap();
    let pipe = 1 << (rustix::process::Signal::PIPE.as_raw() - 1);
    assert_eq!((mask("SigBlk"), mask("SigIgn") & pipe), (0, 0));
    let place = output("30-place");
    let [cwd, stdin, arguments, group_and_tty, pid, error] = place.lines().collect::<Vec<_>>()[..] else {
        panic!("{place}")
    };
    assert_eq!((cwd, stdin, arguments, error), ("/", "/dev/null", "0", "oops"));
    let daemons_stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid().as_raw_nonzero())).unwrap();
    let daemons_tty = daemons_stat.rsplit(')').next().unwrap().split(' ').nth(5).unwrap();
    assert_eq!(group_and_tty, format!("{pid} {daemons_tty}"), "a group of its own, no terminal");
}
