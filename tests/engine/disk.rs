//! A journal that cannot be written, and old history.

use std::sync::Arc;
use std::time::Duration;

use ganeti_hookd::engine::change::{Change, Remembered};
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::{Input, Version};
use ganeti_hookd::engine::numbers::{Numbers, NumbersChange};
use ganeti_hookd::engine::plan::Plan;
use ganeti_hookd::ganeti::job::{Status, Timestamp};

use crate::desk::{Desk, Life, delay, ended, id, job};
use crate::journal::Journal;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn without_room_nothing_is_looked_at_so_nothing_grows() {
    let mut desk = Desk::new();
    desk.disk_is_full = true;
    for n in 1..=2000 {
        desk.put(ended(n, 0));
        desk.wait(0.01);
    }
    let sizes: Vec<usize> = desk
        .done
        .iter()
        .filter_map(|effect| match effect {
            Effect::Commit(changes) => Some(changes.len()),
            _ => None,
        })
        .collect();
    assert!(sizes.iter().all(|size| *size < 20), "{sizes:?}");
    assert!(sizes.len() < 30, "tried once a second: {}", sizes.len());
    assert!(desk.ran.is_empty());
    desk.disk_is_full = false;
    desk.wait(1.0);
    while let Some(run) = desk.running.first() {
        let event = run.env["GANETI_HOOKD_EVENT"].clone();
        desk.end(&event);
    }
    assert_eq!(desk.ran.len(), 4000);
}

#[test]
fn what_was_begun_and_not_written_begins_anew_and_is_late() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).waits(0, 0));
    desk.disk_is_full = true;
    desk.put(delay(1, 0).by(50).runs(0, 0));
    assert!(desk.ran.is_empty() && !desk.stands(50));
    desk.disk_is_full = false;
    desk.wait(1.0);
    assert_eq!(desk.ran, ["10-a 1.0.pre - late=yes attempt=1"]);
    let runs = desk.written.iter().filter(|change| matches!(change, Change::RunStart(_))).count();
    assert_eq!(runs, 1);
}

#[test]
fn old_history_is_forgotten_in_pieces_after_the_daemon_is_ready() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.old_events = 100_000;
    desk.settle();
    assert_eq!(desk.old_events, 0);
    let place = |wanted: &dyn Fn(&Effect) -> bool| desk.done.iter().position(wanted).unwrap();
    let ready = place(&|effect| *effect == Effect::Ready);
    let prunes = |effect: &Effect| match effect {
        Effect::Commit(changes) => changes.iter().any(|change| matches!(change, Change::Prune(..))),
        _ => false,
    };
    assert!(place(&prunes) > ready);
    assert!(desk.done.iter().filter(|effect| prunes(effect)).count() >= 100);
}

#[test]
fn an_event_goes_between_two_pieces_of_old_history() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.old_events = 100_000;
    while desk.old_events == 100_000 {
        desk.give(Input::Quiet);
        if let Some(scan) = desk.scans.pop() {
            desk.give(Input::ScanEnded { scan, result: Ok(Some(0)) });
        }
    }
    desk.queue.insert(id(1), delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.give(Input::Hint(id(1)));
    for _ in 0..6 {
        desk.give(Input::Quiet);
    }
    assert_eq!(desk.ran.len(), 1);
    assert!(desk.old_events > 90_000);
    desk.settle();
    assert_eq!(desk.old_events, 0, "forgetting goes on beside live jobs");
}

#[test]
fn a_queue_that_cannot_be_read_has_not_lost_its_jobs() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0));
    // A month goes by in which the queue is not there.
    desk.queue_is_lost = true;
    desk.wait(40.0 * 86_400.0);
    desk.give(Input::Overflow);
    desk.settle();
    desk.queue_is_lost = false;
    desk.queue.insert(id(1), ended(1, 0));
    desk.end("1.0.pre");
    desk.wait(2.0);
    desk.wait(2.0);
    assert!(!desk.written.iter().any(|change| matches!(change, Change::Forget(_))));
    assert_eq!(desk.ran.last().unwrap(), "10-a 1.0.post succeeded late=no attempt=1");
}

#[test]
fn a_job_that_vanished_long_ago_is_forgotten() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0));
    desk.end("1.0.pre");
    desk.queue.clear();
    desk.give(Input::Hint(id(1)));
    desk.settle();
    assert!(!desk.written.iter().any(|change| matches!(change, Change::Forget(_))));
    desk.wait(40.0 * 86_400.0);
    desk.put(delay(2, 0));
    assert!(desk.written.contains(&Change::Forget(id(1))));
}

#[test]
fn a_clock_that_is_set_back_makes_no_job_a_vanished_one_of_long_ago() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0));
    desk.wait(40.0 * 86_400.0);
    desk.put(delay(2, 0).waits(0, 0));
    desk.now.time = Timestamp::from_micros(desk.now.time.as_micros() - 35 * 86_400 * 1_000_000);
    desk.put(delay(3, 0).runs(0, 0));
    desk.end("3.0.pre");
    desk.queue.remove(&id(3));
    desk.give(Input::Hint(id(3)));
    desk.settle();
    assert!(!desk.written.contains(&Change::Forget(id(3))));
    desk.put(ended(3, 0));
    desk.end("3.0.post");
}

#[test]
fn a_log_that_cannot_be_cleared_is_a_problem_until_it_is() {
    const MIB: u64 = 1024 * 1024;
    let mut desk = Desk::new();
    let problems = |desk: &Desk| desk.engine.status(desk.now).problems;
    for size in [17, 63] {
        desk.give(Input::JournalLog(size * MIB));
        assert_eq!(problems(&desk), [""; 0]);
    }
    for size in [64, 65] {
        desk.give(Input::JournalLog(size * MIB));
        let expected = format!("journal's log: the log has {size} MiB and grows: ");
        assert!(problems(&desk)[0].starts_with(&expected), "{:?}", problems(&desk));
    }
    assert_eq!(desk.log.iter().filter(|line| line.contains("the log has")).count(), 1, "{:?}", desk.log);
    desk.give(Input::JournalLog(0));
    assert_eq!(problems(&desk), [""; 0]);
}

/// A journal that is damaged while an event is under way whose plan and first run it had.
fn damaged(commits: u32) -> Desk {
    let mut desk = Desk::new();
    desk.put(job(1, &["OP_INSTANCE_STARTUP"], 0).waits(0, 0).ends(0, Status::Error, 0));
    let mut plan = Plan::default();
    plan.view.variables.insert("GANETI_INSTANCE_NAME".to_owned(), "web".to_owned());
    let seq = desk.plans.pop().unwrap().seq;
    desk.give(Input::Planned { seq, plan, problem: None });
    desk.settle();
    assert_eq!(desk.running.len(), 1);
    desk.damaged_commits = commits;
    desk.put(delay(2, 0));
    desk.wait(1.0);
    desk
}

fn written_anew(desk: &Desk) -> Vec<&Arc<Vec<Change>>> {
    desk.done
        .iter()
        .filter_map(|effect| match effect {
            Effect::WriteAnew(changes) => Some(changes),
            _ => None,
        })
        .collect()
}

#[test]
fn a_journal_that_is_written_anew_has_what_an_event_was_given() {
    let desk = damaged(1);
    let anew = written_anew(&desk);
    assert_eq!(anew.len(), 1);
    assert!(anew[0].iter().any(|change| {
        matches!(change, Change::Plan(_, view) if view.variables.contains_key("GANETI_INSTANCE_NAME"))
    }));
    assert!(anew[0].iter().any(|change| matches!(change, Change::RunStart(_))));
    assert!(desk.engine.status(desk.now).problems.is_empty());
}

#[test]
fn a_journal_that_cannot_be_written_anew_is_tried_again_a_second_later() {
    let mut desk = damaged(2);
    assert_eq!(written_anew(&desk).len(), 1);
    assert_eq!(desk.engine.status(desk.now).problems.len(), 1);
    desk.wait(1.0);
    assert!(desk.engine.status(desk.now).problems.is_empty());
}

#[test]
fn when_what_was_forgotten_was_noticed_is_written_when_it_moves() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.wait(100.0);
    desk.put(delay(1, 100).waits(0, 100).ends(0, Status::Error, 100));
    let event = desk.now.time;
    (0..3).for_each(|_| desk.wait(40.0 * 86_400.0));
    let begins = desk.written.iter().scan(Journal::default(), |journal, change| {
        *journal = std::mem::take(journal).with(std::slice::from_ref(change)).unwrap().0;
        Some(journal.forgotten)
    });
    let mut begins: Vec<_> = begins.flatten().collect();
    begins.dedup();
    assert_eq!(begins, [event]);
}

#[test]
fn killed_as_soon_as_its_events_are_forgotten_the_daemon_tells_no_job_again() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.wait(100.0);
    desk.serial = Some(2);
    desk.put(ended(1, 99));
    let job = desk.queue.remove(&id(1)).unwrap();
    desk.archive.insert(id(1), job);
    desk.give(Input::Hint(id(1)));
    desk.wait(40.0 * 86_400.0);
    desk.put(delay(2, 41 * 86_400));
    let forgets = |change: &Change| matches!(change, Change::Prune(..));
    let last = desk.written.iter().rposition(forgets).unwrap();
    desk.written.truncate(last + 1);
    // The serial goes back: the archive is searched.
    desk.queue.clear();
    desk.serial = Some(1);
    let mut desk = desk.restarted();
    assert!(desk.history.is_empty());
    desk.settle();
    assert!(desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
    assert!(desk.events().is_empty(), "{:?}", desk.events());
}

#[test]
fn nothing_is_forgotten_before_all_has_been_looked_at() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.serial = Some(1);
    desk.large.insert(id(1));
    desk.queue.insert(id(1), ended(1, -100));
    desk.settle();
    let prunes = |desk: &Desk| desk.written.iter().any(|change| matches!(change, Change::Prune(..)));
    assert!(desk.is_ready && !prunes(&desk));
    let job = desk.queue[&id(1)].clone();
    desk.give(Input::LargeRead { reading: 1, id: id(1), version: Version::Queued(&job, None) });
    desk.settle();
    assert!(prunes(&desk));
}

#[test]
fn a_job_of_which_nothing_was_told_is_told_however_much_is_forgotten_before_it_can_be_read() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(2);
    desk.unreadable.insert(id(1));
    desk.put(ended(1, 0));
    desk.put(ended(2, 0));
    desk.wait(40.0 * 86_400.0);
    desk.archive.append(&mut desk.queue);
    desk.wait(1.0);
    let mut next = desk.restarted();
    next.scripts.clear();
    next.unreadable.clear();
    next.settle();
    assert_eq!(next.events().len(), 2, "{:?}", next.events());
    assert!(next.events().iter().all(|event| event.starts_with('1')), "{:?}", next.events());
}

#[test]
fn what_was_told_and_is_not_written_is_not_told_again() {
    let mut desk = Desk::new();
    desk.serial = Some(1);
    desk.archive.insert(id(1), ended(1, 0));
    desk.disk_is_full = true;
    // It is told, and no job in the queue any more, before anything can be written.
    for _ in 0..2 {
        desk.give(Input::Hint(id(1)));
        desk.give(Input::Quiet);
    }
    desk.disk_is_full = false;
    desk.wait(1.1);
    let told = ["1.0.pre (late) OP_TEST_DELAY pending", "1.0.post OP_TEST_DELAY succeeded pending"];
    assert_eq!(desk.events(), told);
}

#[test]
fn what_has_failed_is_tried_again_though_nothing_happens() {
    let mut desk = Desk::new();
    desk.serial = Some(1);
    desk.put(delay(1, 0));
    let soon = |desk: &Desk| desk.engine.next_deadline().is_some_and(|at| at <= desk.now.steady + SECOND);
    assert!(soon(&desk), "what waits to be written");
    desk.wait(1.0);
    assert!(!soon(&desk));
    desk.disk_is_full = true;
    desk.put(ended(1, 0));
    assert!(soon(&desk), "the journal");
    desk.disk_is_full = false;
    desk.wait(1.0);
    assert!(!soon(&desk));
    desk.serial = None;
    desk.put(ended(2, 0));
    assert!(soon(&desk), "the serial");
}

#[test]
fn numbers_that_have_been_missing_for_long_are_waited_for_no_more() {
    let numbers = Numbers::new(300_000, [5, 299_999]);
    let mut desk = Desk::again(Remembered { numbers, next_seq: 1, next_run: 1, ..Default::default() });
    desk.serial = Some(300_000);
    desk.settle();
    assert!(desk.written.contains(&Change::Numbers(NumbersChange::GivenUpBelow(200_000))));
}

#[test]
fn what_was_told_and_forgotten_is_not_told_again_when_its_file_is_back() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(1);
    desk.wait(5.0);
    desk.put(ended(1, 3));
    let job = desk.queue.remove(&id(1)).unwrap();
    desk.archive.insert(id(1), job.clone());
    desk.give(Input::Hint(id(1)));
    desk.settle();
    assert_eq!(desk.events().len(), 2);
    desk.pass(40.0 * 86_400.0);
    desk.put(delay(2, 0));
    desk.archive.clear();
    desk.put(job);
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
}
