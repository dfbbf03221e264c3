//! Jobs are held for pre hooks of their own opcode alone.

use serde_json::json;

use super::{assert_never_stopped, counters, wait_begun, waiting, waiting_with};
use crate::harness::{Job, Tree};

#[test]
fn a_job_is_held_for_a_pre_hook_in_the_directory_of_its_opcode_alone() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    let log = "echo \"10-quiesce $GANETI_HOOKD_EVENT late=$GANETI_HOOKD_LATE\" >>LOG";
    tree.hook_in(
        "global-tags-set-pre.d",
        "10-quiesce",
        &format!("{log}; until [ -e DIR/gate ]; do sleep 0.01; done"),
    );
    let daemon = tree.start();
    let (mut other, process) = waiting(&tree, 1);
    tree.put(other.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    assert_never_stopped(&daemon, &process);
    assert_eq!(daemon.status()["armed"], json!([]));
    let (mut job, process) = waiting_with(&tree, Job::new(2, &["OP_TAGS_SET"]));
    daemon.wait_armed(&process);
    tree.put(job.runs(0));
    process.wait_stopped();
    wait_begun(&tree, "10-quiesce 2.0.pre late=no");
    std::fs::write(tree.path("gate"), "").unwrap();
    process.wait_going();
    assert_eq!(counters(&daemon), [1, 0, 0, 0].map(|n| json!(n)));
    assert_eq!(tree.hook_log().len(), 1);
}
