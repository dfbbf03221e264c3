//! What becomes an event: every row of the table in section 3 of the design.

use serde_json::json;

use crate::harness::{Job, Tree};

#[test]
fn an_opcode_that_succeeds_has_pre_and_post() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(&job);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    daemon.fence();
    assert_eq!(tree.told(), [""; 0], "waiting for locks is no event");
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put(job.logs(0, "still there"));
    tree.put(job.succeeds(0));
    process.exit();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post succeeded"]);
    assert_eq!(
        tree.hook_log(),
        ["10-log 1.0.pre - late=no attempt=1", "10-log 1.0.post succeeded late=no attempt=1"]
    );
}

#[test]
fn an_opcode_that_fails_has_a_post_and_those_after_it_have_none() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_TEST_DELAY", "OP_TEST_DELAY", "OP_TEST_DELAY"]);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put(job.succeeds(0).runs(1));
    daemon.wait_done(&["1.1.pre"]);
    tree.put(job.fails(1));
    daemon.wait_done(&["1.1.post"]);
    daemon.fence();
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post succeeded", "1.1.pre", "1.1.post failed"]);
    assert_eq!(tree.event("1.1.post")["executed"], true);
}

#[test]
fn an_opcode_that_fails_before_it_executes_has_only_a_post() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    tree.put(job.waits(0));
    tree.put(job.fails(0));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.post failed"]);
    assert_eq!(tree.event("1.0.post")["executed"], false);
}

#[test]
fn an_opcode_that_never_starts_has_nothing() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut queued = Job::delay(1);
    tree.put(&queued);
    tree.put(queued.is_canceled(0));
    let mut waiting = Job::delay(2);
    tree.put(waiting.waits(0));
    tree.put(waiting.is_canceled(0));
    let mut refused = Job::delay(3);
    tree.put(&refused);
    tree.put(refused.fails(0));
    daemon.fence();
    assert_eq!(tree.told(), [""; 0]);
}

#[test]
fn a_pre_is_closed_when_its_opcode_is_canceled() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_TEST_DELAY", "OP_TEST_DELAY"]);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    // Short of resources: back to waiting, where it can be canceled.
    job.waits(0).op(0)["exec_timestamp"] = json!(null);
    tree.put(&job);
    tree.put(job.is_canceled(0));
    daemon.wait_done(&["1.0.post"]);
    daemon.fence();
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post failed"]);
}

#[test]
fn a_retry_is_not_a_second_pre() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    for _ in 0..3 {
        tree.put(job.runs(0));
        daemon.wait_done(&["1.0.pre"]);
        tree.put(job.waits(0));
        daemon.fence();
    }
    tree.put(job.runs(0));
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post succeeded"]);
}

#[test]
fn a_job_that_dies_has_one_disappeared_opcode() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let mut job = Job::new(1, &["OP_TEST_DELAY", "OP_TAGS_SET", "OP_TEST_DELAY"]);
    tree.put(&job);
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put(job.succeeds(0).runs(1));
    daemon.wait_done(&["1.1.pre"]);
    process.kill();
    daemon.wait_done(&["1.1.post"]);
    daemon.fence();
    assert_eq!(tree.told(), ["1.0.pre", "1.0.post succeeded", "1.1.pre", "1.1.post disappeared"]);
    assert_eq!(tree.hook_log()[3], "10-log 1.1.post disappeared late=no attempt=1");
}

#[test]
fn a_job_that_dies_while_it_waits_for_locks_disappears_unexecuted() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut job = Job::delay(1);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    daemon.fence();
    process.kill();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.told(), ["1.0.post disappeared"]);
    assert_eq!(tree.event("1.0.post")["executed"], false);
}
