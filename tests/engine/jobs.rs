//! Processes, and what is known of jobs whose files are not there.

use ganeti_hookd::engine::change::Change;
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::numbers::NumbersChange;
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::ganeti::job::Status;

use crate::desk::{Desk, Life, delay, ended, id, job};

#[test]
fn the_end_of_an_old_process_is_not_the_death_of_the_new_one() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.alive.extend([50, 51]);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    let old = desk.token(50);
    // The process ends; its end is told only after the file names another one.
    desk.alive.remove(&50);
    desk.put(delay(1, 0).by(51).runs(0, 0));
    desk.give(Input::Exited(old));
    desk.settle();
    assert_eq!(desk.events(), ["1.0.pre OP_TEST_DELAY pending"]);
    desk.dies(51);
    assert_eq!(desk.events()[1], "1.0.post OP_TEST_DELAY disappeared pending");
}

#[test]
fn a_death_that_was_seen_is_told_though_the_file_has_just_been_removed() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.alive.insert(50);
    desk.put(job(1, &["OP_TEST_DELAY", "OP_TEST_DELAY"], 0).by(50).runs(0, 0));
    desk.queue.clear();
    desk.dies(50);
    assert_eq!(
        desk.events(),
        ["1.0.pre OP_TEST_DELAY pending", "1.0.post OP_TEST_DELAY disappeared pending"]
    );
    // And nothing else is ever told of it.
    desk.give(Input::Hint(id(1)));
    desk.give(Input::Overflow);
    desk.settle();
    assert_eq!(desk.events().len(), 2);
}

#[test]
fn a_file_that_is_removed_while_its_process_lives_tells_nothing_yet() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    desk.queue.clear();
    desk.give(Input::Hint(id(1)));
    desk.settle();
    assert_eq!(desk.events().len(), 1);
    // It writes its last version when it ends.
    desk.alive.remove(&50);
    desk.put(ended(1, 0));
    assert_eq!(desk.events()[1], "1.0.post OP_TEST_DELAY succeeded pending");
}

#[test]
fn a_job_that_was_archived_when_its_process_ended_has_not_disappeared() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    desk.queue.clear();
    desk.archive.insert(id(1), ended(1, 0));
    desk.dies(50);
    assert_eq!(desk.events()[1], "1.0.post OP_TEST_DELAY succeeded pending");
}

#[test]
fn of_many_holes_a_later_job_costs_one_change() {
    let mut desk = Desk::new();
    desk.serial = Some(99_000);
    desk.give(Input::Overflow);
    desk.settle();
    let before = desk.written.len();
    desk.put(ended(98_000, 0));
    let numbers: Vec<&Change> =
        desk.written[before..].iter().filter(|change| matches!(change, Change::Numbers(_))).collect();
    assert_eq!(numbers, [&Change::Numbers(NumbersChange::Filled(98_000))]);
}

#[test]
fn a_stray_job_far_above_the_serial_is_no_new_cluster() {
    let mut desk = Desk::new();
    desk.serial = Some(5);
    desk.put(ended(1_000_000_000, 0));
    for _ in 0..3 {
        desk.give(Input::Overflow);
        desk.settle();
    }
    assert!(!desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
}

#[test]
fn what_the_history_has_forgotten_is_not_told_again_when_the_serial_goes_back() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(100);
    desk.put(ended(100, 0));
    // It is archived; in time its events are forgotten, and the history is empty.
    let old = desk.queue.remove(&id(100)).unwrap();
    desk.archive.insert(id(100), old);
    desk.give(Input::Hint(id(100)));
    desk.wait(40.0 * 86_400.0);
    desk.put(delay(101, 40 * 86_400));
    assert!(desk.written.iter().any(|change| matches!(change, Change::Prune(..))));
    let before = desk.events().len();
    desk.serial = Some(100);
    desk.give(Input::Overflow);
    desk.settle();
    desk.serial = Some(99);
    desk.give(Input::Overflow);
    desk.settle();
    desk.serial = Some(102);
    desk.give(Input::Overflow);
    desk.settle();
    assert!(desk.log.iter().any(|line| line.contains("begin again")));
    assert_eq!(desk.events().len(), before, "{:?}", desk.events());
}

#[test]
fn a_job_of_a_cluster_made_again_is_a_new_one() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(3);
    desk.put(ended(3, 0));
    desk.queue.clear();
    desk.serial = Some(1);
    desk.give(Input::Overflow);
    desk.put(ended(1, 50));
    assert_eq!(desk.events().len(), 4);
}

#[test]
fn what_an_earlier_daemon_told_is_asked_of_the_history() {
    let mut desk = Desk::again(ganeti_hookd::engine::change::Remembered {
        highest_job: 10,
        numbers: ganeti_hookd::engine::numbers::Numbers::new(10, [7]),
        next_seq: 100,
        next_run: 1,
        ..Default::default()
    });
    desk.scripts.clear();
    desk.serial = Some(10);
    let told = job(7, &["OP_TEST_DELAY"; 2], -2000).runs(0, -900).ends(0, Status::Success, -800);
    desk.history.insert(id(7), (told.received, Progress { next: 1, pre: false }));
    desk.archive.insert(id(7), told.runs(1, -800).ends(1, Status::Success, -700));
    desk.settle();
    assert_eq!(
        desk.events(),
        ["7.1.pre (late) OP_TEST_DELAY pending", "7.1.post (late) OP_TEST_DELAY succeeded pending"]
    );
    assert!(desk.done.iter().any(|effect| matches!(effect, Effect::Recall { .. })));
}
