//! What is read once and kept while it is the same is read again when it is not.
//!
//! What has just changed is never kept, so the daemon's clock runs an hour ahead here: then
//! everything is old.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::harness::{Daemon, Job, NODE, OTHER_NODE, Tree};

fn start(tree: &Tree) -> Daemon<'_> {
    fs::write(tree.path("faults"), "clock 3600\n").unwrap();
    let faults = tree.path("faults").display().to_string();
    Daemon::start(tree, &[("GANETI_HOOKD_FAULTS", &faults)])
}

/// Does something to a directory, until its change time shows it: on an older kernel that
/// takes a tick.
fn change(dir: &Path, change: impl Fn()) {
    let time = || dir.metadata().map(|metadata| (metadata.ctime(), metadata.ctime_nsec())).unwrap();
    let before = time();
    change();
    while time() == before {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
}

/// The scripts that an ended job's post event is given to.
fn scripts_of(tree: &Tree, daemon: &Daemon<'_>, id: i64) -> Vec<String> {
    tree.put(&Job::ended(id));
    let key = format!("{id}.0.post");
    daemon.wait_done(&[&key]);
    let event = tree.event(&key);
    event["runs"].as_array().unwrap().iter().map(|run| run["script"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn scripts_that_come_and_go_are_noticed() {
    let tree = Tree::with_log();
    let daemon = start(&tree);
    let dir = tree.path("hooks/global-post.d");
    assert_eq!(scripts_of(&tree, &daemon, 1), ["10-log"]);
    change(&dir, || tree.hook("post", "20-new", "true"));
    assert_eq!(scripts_of(&tree, &daemon, 2), ["10-log", "20-new"]);
    assert_eq!(scripts_of(&tree, &daemon, 3), ["10-log", "20-new"]);
    change(&dir, || fs::remove_file(dir.join("10-log")).unwrap());
    assert_eq!(scripts_of(&tree, &daemon, 4), ["20-new"]);
    // The directory is the same; its names are kept, whether they may run is not.
    fs::set_permissions(dir.join("20-new"), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(scripts_of(&tree, &daemon, 5), [""; 0]);
    fs::set_permissions(dir.join("20-new"), Permissions::from_mode(0o757)).unwrap();
    scripts_of(&tree, &daemon, 6);
    let error = tree.event("6.0.post")["runs"][0]["error"].to_string();
    assert!(error.contains("refused"), "{error}");
    fs::set_permissions(tree.path("hooks"), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(scripts_of(&tree, &daemon, 7), ["global-post.d"], "others may put a directory in its place");
    fs::set_permissions(tree.path("hooks"), Permissions::from_mode(0o755)).unwrap();
    // Another directory in its place.
    fs::rename(&dir, tree.path("hooks/old")).unwrap();
    assert_eq!(scripts_of(&tree, &daemon, 8), [""; 0]);
    fs::create_dir(&dir).unwrap();
    tree.hook("post", "30-other", "true");
    assert_eq!(scripts_of(&tree, &daemon, 9), ["30-other"]);
}

#[test]
fn the_master_is_asked_for_before_each_event() {
    let tree = Tree::with_log();
    let daemon = start(&tree);
    for id in 1..=4 {
        for (id, master, scripts) in [(2 * id, OTHER_NODE, 0), (2 * id + 1, NODE, 1)] {
            tree.put_data("ssconf_master_node", master);
            assert_eq!(scripts_of(&tree, &daemon, id).len(), scripts, "{id}");
        }
    }
}

#[test]
fn the_clusters_new_name_is_what_hooks_are_told() {
    let tree = Tree::new();
    tree.hook("post", "10-name", "echo $GANETI_CLUSTER");
    let daemon = start(&tree);
    for (id, name) in [(1, "one.example.com"), (2, "two.example.com"), (3, "two.example.com")] {
        tree.put_data("ssconf_cluster_name", name);
        scripts_of(&tree, &daemon, id);
        assert_eq!(tree.event(&format!("{id}.0.post"))["runs"][0]["output"], format!("{name}\n"));
    }
    fs::remove_file(tree.path("data/ssconf_cluster_name")).unwrap();
    scripts_of(&tree, &daemon, 4);
    assert_eq!(tree.event("4.0.post")["runs"][0]["output"], "\n");
}
