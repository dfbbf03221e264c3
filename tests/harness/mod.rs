//! A temporary master: Ganeti's directories, job files written as Ganeti writes them,
//! processes that hold livelocks and publish as job processes do, and the real daemon beside them.
//!
//! Nothing here waits by sleeping: it waits for a thing, looking for it often, and says
//! what it waited for, with the daemon's log, when it does not come. It asks the daemon
//! nothing while it waits, so that it cannot wake it up. What was started is ended when
//! it is dropped, also when a test fails.

pub mod job;
pub mod job_process;
pub mod process;
pub mod tree;

pub use job::Job;
pub use process::Daemon;
pub use tree::Tree;

use std::time::{Duration, Instant};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ganeti-hookd");

/// This node, by the configuration of every test.
pub const NODE: &str = "node1.example.com";

/// Another node of the cluster.
pub const OTHER_NODE: &str = "node2.example.com";

/// The cluster.
pub const CLUSTER: &str = "cluster.example.com";

/// The first number of jobs that only show that everything before them has been seen.
pub const FENCE: i64 = 900;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// Looks until `look` finds something; fails with `explain` when that takes too long.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>, explain: impl Fn() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "this did not come: {}", explain());
        std::thread::sleep(Duration::from_millis(5));
    }
}
