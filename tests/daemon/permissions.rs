//! The daemon's own files, which hold what hooks said, are for nobody else.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::{Daemon, Job, Tree, wait_for};

fn set_mode(tree: &Tree, path: &str, mode: u32) {
    fs::set_permissions(tree.path(path), Permissions::from_mode(mode)).unwrap();
}

/// The files in the daemon's directories that others may do something with.
fn open(tree: &Tree) -> Vec<String> {
    let entries = ["state", "hookd"].map(|dir| fs::read_dir(tree.path(dir)).unwrap());
    let entries = entries.into_iter().flatten().map(Result::unwrap);
    let open = entries.filter(|entry| entry.metadata().unwrap().mode() & 0o077 != 0);
    open.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn own_files_are_the_owners_in_a_directory_that_is_open() {
    let tree = Tree::with_log();
    for dir in ["state", "hookd"] {
        fs::create_dir(tree.path(dir)).unwrap();
        set_mode(&tree, dir, 0o755);
    }
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert!(tree.path("state/journal.db-wal").exists());
    assert_eq!(open(&tree), [""; 0]);
    let said = tree.cli(&["check"]);
    assert!(said.out.contains("ok    permissions"), "{}", said.out);
}

#[test]
fn what_was_open_before_is_closed_and_said() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    daemon.stop();
    for file in ["state/journal.db", "state/lock", "hookd/held"] {
        set_mode(&tree, file, 0o644);
    }
    set_mode(&tree, "state", 0o777);
    let said = tree.cli(&["check"]).out;
    assert!(said.contains("journal.db is open to others (mode 0644)"), "{said}");
    assert!(said.contains("state may be written by others (mode 0777)"), "{said}");
    let daemon = tree.start();
    assert_eq!(open(&tree), [""; 0]);
    daemon.wait_log("journal.db was open to others (mode 0644)", 1);
    daemon.wait_log("state may be written by others (mode 0777)", 1);
}

#[test]
fn a_configuration_that_others_may_write_is_a_finding() {
    let tree = Tree::new();
    set_mode(&tree, "hookd.toml", 0o666);
    let said = tree.cli(&["check"]).out;
    assert!(said.contains("hookd.toml may be written by others (mode 0666)"), "{said}");
    tree.start().wait_log("hookd.toml may be written by others (mode 0666)", 1);
}

#[test]
fn what_is_in_the_place_of_an_own_file_ends_the_start_and_is_named() {
    for (path, kind) in
        [("hookd/held", "fifo"), ("hookd/held", "link"), ("state/lock", "link"), ("state/journal.db", "link")]
    {
        let tree = Tree::new();
        for dir in ["state", "hookd"] {
            fs::create_dir(tree.path(dir)).unwrap();
            set_mode(&tree, dir, 0o700);
        }
        match kind {
            "fifo" => mknodat(CWD, tree.path(path), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
            _ => symlink(tree.path("elsewhere"), tree.path(path)).unwrap(),
        }
        let mut daemon = Daemon::spawn(&tree, &[], &[]);
        let status = wait_for(|| daemon.ended(), || format!("{path}: the daemon's end\n{}", tree.log()));
        assert_eq!(status.code(), Some(1), "{path}");
        assert!(tree.log().contains("it is no regular file: move it away"), "{path}: {}", tree.log());
        assert!(!tree.path("elsewhere").exists(), "{path}");
    }
}

#[test]
fn what_is_not_the_daemons_own_is_left_as_it_is() {
    let tree = Tree::new();
    fs::create_dir(tree.path("state")).unwrap();
    fs::write(tree.path("state/ssconf_master_node"), "").unwrap();
    set_mode(&tree, "state/ssconf_master_node", 0o644);
    let _daemon = tree.start();
    assert_eq!(open(&tree), ["ssconf_master_node"]);
}

#[test]
fn an_own_file_that_somebody_else_owns_is_named() {
    let tree = Tree::new();
    tree.start().stop();
    chown(tree.path("state/journal.db"), Some(65_534), None).unwrap();
    let what = "state/journal.db is owned by user 65534; only root may own it";
    let said = tree.cli(&["check"]);
    assert!(said.code == Some(1) && said.out.contains(what), "{said:?}");
    tree.start().wait_log(what, 1);
}
