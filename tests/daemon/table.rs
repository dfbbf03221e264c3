//! What becomes an event, of a job that ends well and of one that dies; `machine` and
//! `simulation` have every row of the table in section 3 of the design.

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
