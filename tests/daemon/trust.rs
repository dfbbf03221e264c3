//! Hooks that somebody else could have written do not run, whenever that comes to be so.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::harness::{Job, Tree, wait_for};

fn set_mode(tree: &Tree, path: &str, mode: u32) {
    fs::set_permissions(tree.path(path), Permissions::from_mode(mode)).unwrap();
}

/// What became of each script of the first job's post.
fn errors(tree: &Tree) -> Vec<String> {
    let runs = tree.event("1.0.post")["runs"].clone();
    let error = |run: &serde_json::Value| run["error"].as_str().unwrap_or("ran").to_owned();
    runs.as_array().unwrap().iter().map(error).collect()
}

#[test]
fn a_later_script_is_judged_when_it_starts() {
    let tree = Tree::new();
    tree.hook("post", "10-first", "echo first >>LOG; until [ -e DIR/go ]; do sleep 0.01; done");
    tree.hook("post", "20-open", "echo open >>LOG");
    tree.hook("post", "30-link", "");
    tree.hook("post", "40-mine", "echo mine >>LOG");
    fs::create_dir(tree.path("others")).unwrap();
    fs::rename(tree.path("hooks/global-post.d/30-link"), tree.path("others/script")).unwrap();
    symlink("../../others/script", tree.path("hooks/global-post.d/30-link")).unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_hooks(1);
    set_mode(&tree, "hooks/global-post.d/20-open", 0o777);
    set_mode(&tree, "others", 0o777);
    fs::write(tree.path("go"), "").unwrap();
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.hook_log(), ["first", "mine"]);
    let errors = errors(&tree);
    assert_eq!((&errors[0], &errors[3]), (&"ran".to_owned(), &"ran".to_owned()));
    for (error, path) in [(&errors[1], "20-open"), (&errors[2], "others")] {
        assert!(error.starts_with("refused: ") && error.contains(path), "{error}");
    }
}

#[test]
fn a_link_that_leads_through_what_others_may_write_is_refused() {
    let tree = Tree::new();
    tree.hook("post", "20-good", "echo good >>LOG");
    fs::create_dir(tree.path("others")).unwrap();
    symlink(tree.path("hooks/global-post.d/20-good"), tree.path("others/link")).unwrap();
    symlink(tree.path("others/link"), tree.path("hooks/global-post.d/10-link")).unwrap();
    set_mode(&tree, "others", 0o777);
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.hook_log(), ["good"]);
    assert!(errors(&tree)[0].contains("others may be written by others"), "{:?}", errors(&tree));
}

#[test]
fn a_hooks_directory_that_is_reached_through_what_others_may_write_is_refused() {
    let tree = Tree::new();
    tree.hook("post", "10-good", "echo good >>LOG");
    fs::create_dir(tree.path("others")).unwrap();
    fs::rename(tree.path("hooks/global-post.d"), tree.path("scripts")).unwrap();
    symlink(tree.path("scripts"), tree.path("others/link")).unwrap();
    symlink(tree.path("others/link"), tree.path("hooks/global-post.d")).unwrap();
    set_mode(&tree, "others", 0o777);
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.hook_log(), [""; 0]);
    assert!(errors(&tree)[0].contains("others may be written by others"), "{:?}", errors(&tree));
    let said = tree.cli(&["check"]);
    assert!(said.out.contains("others may be written by others"), "{}", said.out);
}

#[test]
fn a_hook_that_an_access_control_list_lets_somebody_write_is_refused() {
    let tree = Tree::new();
    tree.hook("post", "10-listed", "echo listed >>LOG");
    tree.hook("post", "20-good", "echo good >>LOG");
    // u::rwx,u:nobody:rw-,g::r-x,m::rwx,o::r-x as the kernel keeps it.
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 6, 65_534), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 5, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let path = tree.path("hooks/global-post.d/10-listed");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &list, flags).unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.hook_log(), ["good"]);
    assert!(errors(&tree)[0].contains("may be written by user 65534"), "{:?}", errors(&tree));
}

#[test]
fn a_first_script_that_has_waited_is_judged_again() {
    // Before it is handed to a thread, and before that starts it.
    for point in ["run.before-submit", "hook.before-start"] {
        for opened in ["global-post.d/10-mine", "global-post.d", "others/script", "others"] {
            let tree = Tree::new();
            let directory = if opened.starts_with("others") { "others" } else { "global-post.d" };
            tree.hook_in(directory, "10-mine", "echo mine >>LOG");
            if directory == "others" {
                fs::rename(tree.path("hooks/others/10-mine"), tree.path("hooks/others/script")).unwrap();
                symlink("../others/script", tree.path("hooks/global-post.d/10-mine")).unwrap();
            }
            let daemon = tree.start();
            tree.faults(&format!("pause {point} 500\n"));
            tree.put(&Job::ended(1));
            let paused = || fs::read_to_string(tree.path("faults.paused")).is_ok_and(|at| at == point);
            wait_for(|| paused().then_some(()), || format!("a pause at {point}\n{}", tree.log()));
            set_mode(&tree, &format!("hooks/{opened}"), 0o777);
            daemon.wait_done(&["1.0.post"]);
            let error = &errors(&tree)[0];
            let what = format!("hooks/{opened} may be written by others");
            assert!(error.starts_with("refused: ") && error.contains(&what), "{point}: {error}");
            assert_eq!(tree.hook_log(), [""; 0]);
        }
    }
}

#[test]
fn what_one_event_has_found_good_the_next_one_judges_again() {
    let tree = Tree::new();
    tree.hook("post", "10-mine", "echo mine >>LOG");
    let daemon = tree.start();
    let mut ids = 1..;
    let mut error_with = |mode| {
        set_mode(&tree, "hooks/global-post.d/10-mine", mode);
        let id = ids.next().unwrap();
        tree.put(&Job::ended(id));
        daemon.wait_done(&[&format!("{id}.0.post")]);
        tree.event(&format!("{id}.0.post"))["runs"][0]["error"].as_str().map(str::to_owned)
    };
    for _ in 0..10 {
        assert_eq!(error_with(0o755), None);
        assert!(error_with(0o757).is_some_and(|error| error.contains("may be written by others")));
    }
    assert_eq!(tree.hook_log(), ["mine"; 10]);
}
