//! Every fault point, by name: the daemon dies there, is started again, and nothing is
//! lost, nothing is done twice unsaid, and no job is left stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::receiver::Receiver;
use super::room::damage_while_running;
use super::supervised::{LOGS, Supervised, check, wait_going};
use crate::harness::{Job, NODE, OTHER_NODE, Tree};

/// Every fault point in the sources, and the visit at which the daemon dies there.
pub const POINTS: &[(&str, u32)] = &[
    ("death.before-telling", 1),
    ("exit.noticed", 1),
    ("hold.judged", 1),
    ("hold.before-arm", 1),
    ("hold.armed", 1),
    ("hold.taken-over", 1),
    ("hold.before-guard", 1),
    ("hold.guard-knows", 1),
    ("hold.file-knows", 1),
    ("hold.stopped", 1),
    ("hold.before-claim", 1),
    ("hold.before-go-on", 1),
    ("hold.gone-on", 1),
    ("hook.before-start", 2),
    ("hook.make-ready", 1),
    ("hook.started", 2),
    ("hook.ended", 2),
    ("journal.anew-written", 1),
    ("journal.before-aside", 1),
    ("journal.between-aside", 1),
    ("journal.after-aside", 1),
    ("journal.within-migration", 1),
    ("journal.before-commit", 2),
    ("journal.before-commit", 3),
    ("journal.before-commit", 4),
    ("journal.before-commit", 5),
    ("journal.before-commit", 6),
    ("journal.within-commit", 2),
    ("journal.after-commit", 2),
    ("journal.within-commit", 3),
    ("journal.after-commit", 3),
    ("journal.within-commit", 6),
    ("journal.after-commit", 6),
    ("outbox.sent", 2),
    ("role.take-over", 1),
    ("run.before-submit", 2),
    ("run.told", 1),
    ("run.told", 3),
    ("rerun.asked", 1),
    ("rerun.written", 1),
    ("start.before-ready", 1),
    ("start.loaded", 1),
    ("start.locked", 1),
    ("stop.scripts-ended", 1),
];

/// Points where a process is stopped by a signal, not by the kernel in its rename.
pub const BEST_EFFORT: [&str; 4] =
    ["hold.before-guard", "hold.guard-knows", "hold.file-knows", "hold.stopped"];

/// Has the daemon die at a point, once.
pub fn arm(tree: &Tree, point: &str, visit: u32) {
    let _ = fs::remove_file(tree.path("faults.died"));
    let refused = if BEST_EFFORT.contains(&point) { "fail kernel.stop\n" } else { "" };
    fs::write(tree.path("faults"), format!("die {point} {visit}\n{refused}")).unwrap();
}

/// Whether it has died there.
pub fn has_died(tree: &Tree, point: &str) -> bool {
    fs::read_to_string(tree.path("faults.died")).is_ok_and(|at| at == point)
}

/// A master that holds jobs, with hooks that log.
pub fn hooked_tree() -> Tree {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"hold\"");
    tree.set("deaths.tell-ganeti", "true");
    for phase in ["pre", "post"] {
        let again = "[ -z \"$GANETI_HOOKD_RERUN\" ] || echo \"$GANETI_HOOKD_EVENT $GANETI_HOOKD_ATTEMPT\" >>DIR/again";
        tree.hook(phase, "10-log", &LOGS.replace("MORE", again));
    }
    tree
}

/// A job of two opcodes goes its way while the daemon dies at the point: one succeeds,
/// in the other the job process dies. Then the daemon stops and starts once more.
fn visit(point: &str, visit: u32) {
    let tree = hooked_tree();
    if point.ends_with("-aside") {
        fs::create_dir_all(tree.path("state")).unwrap();
        fs::write(tree.path("state/journal.db"), "no journal").unwrap();
    }
    if point == "role.take-over" {
        tree.put_data("ssconf_master_node", OTHER_NODE);
    }
    let faults_at_start = ["start.", "journal.within-m", "-aside"].iter().any(|part| point.contains(part));
    if faults_at_start {
        arm(&tree, point, visit);
    }
    if BEST_EFFORT.contains(&point) {
        tree.refuse_kernel_stop();
    }
    let receiver = point.starts_with("outbox.").then(|| Receiver::of(&tree));
    let mut daemon = Supervised::start(&tree);
    if faults_at_start {
        daemon.wait("its death", |tree| has_died(tree, point).then_some(()));
    }
    daemon.revive();
    daemon.wait("the daemon", |tree| {
        ganeti_hookd::world::api::get(&tree.path("hookd"), "/v1/status").is_ok().then_some(())
    });
    if !faults_at_start {
        arm(&tree, point, visit);
    }
    let mut expected = BTreeMap::new();
    if point == "role.take-over" {
        // What had just ended when the master changed is delivered, too.
        tree.put(&Job::ended(2));
        expected.insert(2, ["2.0.pre", "2.0.post succeeded"].map(str::to_owned).to_vec());
        daemon.wait("job 2", |tree| (tree.events().len() == 2).then_some(()));
        tree.put_data("ssconf_master_node", NODE);
        daemon.wait_done(&["2.0.post"]);
    }
    tell_a_story(&tree, &mut daemon, &point);
    if let Some(receiver) = receiver {
        // What it had taken when the daemon died may have come again; nothing is missing.
        daemon.wait("what is sent", |_| (receiver.has().len() >= 4).then_some(()));
        let about_1 = |key: &String| key.starts_with("1.");
        let has: Vec<String> = receiver.has().into_iter().filter(about_1).collect();
        assert_eq!(has, ["1.0.pre", "1.0.post", "1.1.pre", "1.1.post"]);
        daemon.stop();
    }
    assert!(has_died(&tree, point), "{point} was not visited\n{}", tree.log());
    let events = ["1.0.pre", "1.0.post succeeded", "1.1.pre", "1.1.post disappeared"];
    expected.insert(1, events.map(str::to_owned).to_vec());
    let tally = check(&tree, &expected);
    assert!(tally.repeated <= 1, "{point}: {tally:?}");
    println!("{point} (visit {visit}): {} deaths, {} runs again", daemon.deaths, tally.repeated);
}

fn tell_a_story(tree: &Tree, daemon: &mut Supervised<'_>, point: &&str) {
    let mut job = Job::new(1, &["OP_TEST_DELAY", "OP_TAGS_SET"]);
    let process = tree.process_of(&mut job);
    tree.put(job.waits(0));
    if *point == "journal.anew-written" {
        daemon.wait("job 1", |tree| jobs_known(tree).then_some(()));
        damage_while_running(tree);
    }
    daemon.wait_armed(&process);
    tree.put(job.runs(0));
    if *point == "journal.anew-written" {
        daemon.wait("the new journal", |tree| is_in_place(tree).then_some(()));
    }
    daemon.wait_done(&["1.0.pre"]);
    wait_going(&process);
    tree.put(job.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
    daemon.wait_armed(&process);
    tree.put(job.runs(1));
    daemon.wait_done(&["1.0.post", "1.1.pre"]);
    wait_going(&process);
    process.kill();
    daemon.wait_done(&["1.1.post"]);
    if point.starts_with("rerun.") {
        run_again(tree, daemon, point);
    }
    if point.starts_with("stop.") {
        daemon.stop();
    }
    daemon.wait_done(&["1.1.post"]);
}

/// Somebody wants the last event to run again. Before that is written it comes to nothing, after
/// that it runs, marked.
fn run_again(tree: &Tree, daemon: &mut Supervised<'_>, point: &str) {
    let ask = || tree.cli(&["rerun", "1.1.post"]);
    assert_eq!(ask().code, Some(1), "{}", tree.log());
    daemon.wait("its death", |tree| has_died(tree, point).then_some(()));
    daemon.wait("the daemon", |tree| {
        ganeti_hookd::world::api::get(&tree.path("hookd"), "/v1/status").is_ok().then_some(())
    });
    let again = |tree: &Tree| fs::read_to_string(tree.path("again")).unwrap_or_default();
    let mut ran = "1.1.post 3\n";
    if point == "rerun.asked" {
        assert_eq!((again(tree).as_str(), ask().code), ("", Some(0)), "{}", tree.log());
        ran = "1.1.post 2\n";
    }
    // That the script begins was written, too, when the daemon died.
    daemon.wait("the rerun", |tree| (again(tree) == ran).then_some(()));
    daemon.wait_done(&["1.1.post"]);
}

/// Whether the journal knows a job.
fn jobs_known(tree: &Tree) -> bool {
    let db = rusqlite::Connection::open(tree.path("state/journal.db")).unwrap();
    db.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count > 0)
}

/// Whether a damaged journal has made room for a new one.
fn is_in_place(tree: &Tree) -> bool {
    let names = fs::read_dir(tree.path("state")).unwrap();
    let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.iter().any(|name| name.starts_with("journal.db.damaged-"))
        && names.iter().any(|name| name == "journal.db")
        && !names.iter().any(|name| name == "journal.anew")
}

#[test]
fn at_every_point_between_journal_and_effect() {
    // Two at a time: each waits for processes most of the time.
    let (left, right) = POINTS.split_at(POINTS.len() / 2);
    std::thread::scope(|scope| {
        for points in [left, right] {
            scope.spawn(move || points.iter().for_each(|(point, at)| visit(point, *at)));
        }
    });
}

/// The names in the sources after `failpoints::point(`.
fn points_in(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let source = fs::read_to_string(path).unwrap();
            let names = source.split("failpoints::point(\"").skip(1);
            found.extend(names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    found
}

#[test]
fn every_point_is_visited_and_documented() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let visited: BTreeSet<String> = POINTS.iter().map(|(point, _)| (*point).to_owned()).collect();
    assert_eq!(points_in(&root.join("src")), visited);
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    for point in visited {
        assert!(page.contains(&format!("`{point}`")), "{point} is not in docs/reliability.md");
    }
}
