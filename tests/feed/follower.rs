//! The example in the package, beside the real daemon: it follows the feed whatever happens.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};

use serde_json::Value;

use crate::harness::{Daemon, Job, NODE, OTHER_NODE, Tree, wait_for};

/// The example that runs; what it says is appended to files.
struct Follower(Child);

impl Follower {
    fn start(tree: &Tree) -> Self {
        let append = |name: &str| File::options().create(true).append(true).open(tree.path(name)).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/follow-feed");
        let child = Command::new(example)
            .arg(tree.path("cursor"))
            .arg(tree.path("hookd/hookd.sock"))
            .stdout(append("followed"))
            .stderr(append("follower.log"))
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it has printed.
fn followed(tree: &Tree) -> Vec<Value> {
    let text = fs::read_to_string(tree.path("followed")).unwrap();
    // It may be writing, or was killed in the middle of a line.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn complaints(tree: &Tree) -> String {
    fs::read_to_string(tree.path("follower.log")).unwrap()
}

/// Waits until the last that it printed of each event of the history is what that is now.
fn wait_abreast(tree: &Tree) {
    let is_abreast = || {
        let followed = followed(tree);
        let last = |id: &Value| followed.iter().rfind(|line| line["id"] == *id);
        tree.events().iter().all(|event| last(&event["id"]) == Some(event)).then_some(())
    };
    wait_for(is_abreast, || format!("the follower of {:#?}; it says {}", tree.told(), complaints(tree)));
}

fn runs(tree: &Tree, daemon: &Daemon<'_>, ids: std::ops::Range<i64>) {
    for id in ids {
        tree.run_through(&mut Job::delay(id));
        daemon.wait_done(&[&format!("{id}.0.post")]);
    }
}

#[test]
fn the_example_follows_over_kills_failovers_and_lost_journals() {
    let tree = Tree::with_log();
    // It waits for a daemon, too.
    let follower = Follower::start(&tree);
    let daemon = tree.start();
    runs(&tree, &daemon, 1..3);
    wait_abreast(&tree);

    let mut meanwhile = Job::delay(3);
    tree.put(meanwhile.runs(0));
    daemon.wait_done(&["3.0.pre"]);
    daemon.kill();
    tree.put(meanwhile.succeeds(0));
    let daemon = tree.start();
    daemon.wait_done(&["3.0.post"]);
    wait_abreast(&tree);

    drop(follower);
    runs(&tree, &daemon, 4..6);
    let follower = Follower::start(&tree);
    wait_abreast(&tree);

    tree.put_data("ssconf_master_node", OTHER_NODE);
    daemon.wait_status("standby", |status| status["role"] == "standby");
    tree.run_through(&mut Job::delay(6));
    daemon.wait_done(&["6.0.post"]);
    tree.put_data("ssconf_master_node", NODE);
    daemon.wait_status("master", |status| status["role"] == "master");
    runs(&tree, &daemon, 7..8);
    wait_abreast(&tree);
    assert!(followed(&tree).iter().any(|line| line["type"] == "takeover"));
    assert_eq!(complaints(&tree), "", "nothing was lost so far");

    daemon.stop();
    fs::remove_file(tree.path("state/journal.db")).unwrap();
    let daemon = tree.start();
    runs(&tree, &daemon, 8..9);
    wait_abreast(&tree);
    assert!(complaints(&tree).contains("another journal"), "{}", complaints(&tree));
    drop(follower);
}
