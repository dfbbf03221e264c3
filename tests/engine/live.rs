//! What happens now comes before what is old, and nobody stands still for nothing.

use ganeti_hookd::engine::change::{Past, Remembered, Undelivered};
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::numbers::Numbers;
use ganeti_hookd::engine::settings::{PreMode, Settings};
use ganeti_hookd::engine::slots::Slots;
use ganeti_hookd::ganeti::event::{Event, Phase, PostStatus};
use ganeti_hookd::ganeti::job::{JobId, Status, Timestamp};

use crate::desk::{Desk, EPOCH, HERE, Life, delay, ended, id, job};

/// A post that an earlier daemon left undone.
pub fn undelivered(seq: i64, job: JobId, op: u32, op_code: &str) -> Undelivered {
    let event = Event {
        key: ganeti_hookd::ganeti::event::EventKey { job, op, phase: Phase::Post },
        received: Timestamp::from((EPOCH - 500, 0)),
        op_count: 10_000,
        op_code: op_code.to_owned(),
        status: Some(PostStatus::Succeeded),
        executed: true,
        late: false,
        time: Timestamp::from((EPOCH - 400, 0)),
        about: Default::default(),
    };
    Undelivered { seq, event, runs: Default::default(), plan: None, rerun: None }
}

/// A daemon that an earlier one left these events to, the last job being `last`.
pub fn left_with(last: i64, left: Vec<Undelivered>) -> Desk {
    let next_seq = left.iter().map(|event| event.seq).max().unwrap_or(0) + 1;
    let numbers = Numbers::new(last, []);
    let mut desk =
        Desk::again(Remembered { undelivered: left, numbers, next_seq, next_run: 1, ..Default::default() });
    desk.serial = Some(last);
    desk.settle();
    desk
}

#[test]
fn hung_hooks_keep_no_job_from_its_pre_hooks() {
    let mut desk = Desk::new();
    // Sixteen post hooks that never end take all there is.
    for n in 1..=20 {
        desk.put(delay(n, 0).waits(0, 0).ends(0, Status::Error, 0));
    }
    assert_eq!(desk.running.len(), 16);
    desk.alive.insert(50);
    desk.put(delay(30, 0).by(50).waits(0, 0));
    desk.put(delay(30, 0).by(50).runs(0, 0));
    assert!(desk.stands(50));
    assert_eq!(desk.ran.last().unwrap(), "10-a 30.0.pre - late=no attempt=1");
    desk.end("30.0.pre");
    assert!(!desk.stands(50), "it goes on when its hooks have ended");
}

#[test]
fn what_just_happened_finds_a_slot_beside_a_backlog_that_hangs() {
    let undelivered = (1..=100).map(|n| undelivered(n, id(n), 0, "OP_TEST_DELAY")).collect();
    let numbers = Numbers::new(100, []);
    let remembered = Remembered { undelivered, numbers, next_seq: 101, next_run: 1, ..Default::default() };
    let mut desk = Desk::again(remembered);
    desk.serial = Some(100);
    desk.settle();
    assert_eq!(desk.running.len(), 12);
    desk.serial = Some(101);
    desk.put(delay(101, 0).waits(0, 0).ends(0, Status::Error, 0));
    assert_eq!(desk.ran.last().unwrap(), "10-a 101.0.post failed late=no attempt=1");
}

#[test]
fn a_backlog_is_planned_as_it_is_delivered_and_held_jobs_first() {
    // Three thousand jobs whose posts an earlier daemon left undone, and one of 10,000 opcodes.
    let mut left: Vec<_> = (1..=3000).map(|n| undelivered(n, id(n), 0, "OP_INSTANCE_STARTUP")).collect();
    left.extend((0..10_000).map(|n| undelivered(3001 + i64::from(n), id(3001), n, "OP_INSTANCE_STARTUP")));
    let mut desk = left_with(3001, left);
    assert_eq!(desk.plans.len(), 12, "as many as have slots");
    desk.alive.insert(50);
    desk.put(job(4000, &["OP_INSTANCE_STARTUP"], 0).by(50).waits(0, 0));
    desk.put(job(4000, &["OP_INSTANCE_STARTUP"], 0).by(50).runs(0, 0));
    assert!(desk.stands(50));
    let last = desk.plans.pop().unwrap();
    assert!(last.urgent && last.event.key.to_string() == "4000.0.pre");
    assert!(desk.plans.iter().all(|request| !request.urgent));
    desk.give(Input::Planned { seq: last.seq, plan: Default::default(), problem: None });
    desk.settle();
    assert_eq!(desk.ran, ["10-a 4000.0.pre - late=no attempt=1"]);
}

#[test]
fn a_job_does_not_stand_still_for_hooks_that_cannot_begin() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(job(1, &["OP_INSTANCE_STARTUP"], 0).by(50).runs(0, 0));
    assert!(desk.stands(50));
    // wconfd does not answer.
    desk.wait(2.9);
    assert!(desk.stands(50));
    desk.wait(0.2);
    assert!(!desk.stands(50));
    desk.plan_all();
    assert_eq!(desk.ran, ["10-a 1.0.pre - late=yes attempt=1"], "and says what is true");
    assert!(desk.log.iter().any(|line| line.contains("none of its hooks could begin within 3 s")));
}

#[test]
fn a_job_whose_own_backlog_waits_is_not_held() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    let before = job(1, &["OP_TEST_DELAY"; 4], 0).by(50).runs(0, 0).ends(0, Status::Success, 0);
    desk.put(before.clone().runs(1, 0).ends(1, Status::Success, 0));
    assert!(!desk.stands(50));
    desk.put(before.runs(1, 0).ends(1, Status::Success, 0).runs(2, 0));
    assert!(!desk.stands(50), "four events are before it");
    assert!(desk.log.iter().any(|line| line.contains("hooks of its earlier opcodes have yet to run")));
}

#[test]
fn after_an_overflow_a_live_job_is_looked_at_before_leftovers() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    for n in 1..=5000 {
        desk.queue.insert(id(n), ended(n, 0));
    }
    desk.serial = Some(5000);
    desk.settle();
    // All of them may have changed.
    desk.give(Input::Overflow);
    desk.give(Input::Quiet);
    let scan = desk.scans.pop().unwrap();
    let files = desk.queue.keys().map(|id| (*id, None)).collect();
    desk.give(Input::Listed { scan, files });
    desk.give(Input::ScanEnded { scan, result: Ok(Some(5000)) });
    let before = desk.done.len();
    while desk.reads_since(before).len() < 100 {
        desk.give(Input::Quiet);
    }
    // In the midst of it a job begins.
    desk.alive.insert(50);
    desk.queue.insert(id(5001), delay(5001, 0).by(50).runs(0, 0));
    desk.give(Input::Hint(id(5001)));
    let before = desk.done.len();
    while !desk.stands(50) {
        desk.give(Input::Quiet);
    }
    assert_eq!(desk.reads_since(before), [5001]);
    while desk.ran.is_empty() {
        desk.give(Input::Quiet);
    }
    assert!(desk.reads_since(before).len() <= 17, "{:?}", desk.reads_since(before));
    assert_eq!(desk.ran, ["10-a 5001.0.pre - late=no attempt=1"]);
}

#[test]
fn closed_jobs_whose_files_have_not_changed_are_not_read_again() {
    let mut desk = Desk::new();
    for n in 1..=1000 {
        desk.queue.insert(id(n), ended(n, 0));
    }
    desk.put(delay(1001, 0));
    desk.serial = Some(1001);
    desk.give(Input::Overflow);
    desk.settle();
    let before = desk.done.len();
    desk.queue.insert(id(7), ended(7, 0).ends(0, Status::Success, 99));
    desk.give(Input::Overflow);
    desk.settle();
    assert_eq!(desk.reads_since(before), [1001, 7], "what is open, then what is another file now");
}

#[test]
fn jobs_found_by_a_scan_are_looked_at_in_the_order_of_their_numbers() {
    let mut desk = Desk::new();
    desk.queue.extend([3, 1, 2].map(|n| (id(n), ended(n, 0))));
    let before = desk.done.len();
    desk.give(Input::Overflow);
    desk.settle();
    assert_eq!(desk.reads_since(before), [1, 2, 3]);
}

#[test]
fn no_script_is_begun_before_the_journal_has_its_beginning() {
    let mut desk = Desk::new();
    desk.put(ended(1, 0));
    let place = |wanted: &dyn Fn(&Effect) -> bool| desk.done.iter().position(wanted).unwrap();
    let start = place(&|effect| matches!(effect, Effect::Start(_)));
    let commits = desk.done[..start].iter().rev().find_map(|effect| match effect {
        Effect::Commit(changes) => Some(changes.clone()),
        _ => None,
    });
    use ganeti_hookd::engine::change::Change;
    let run = desk.done[start].clone();
    let Effect::Start(run) = run else { panic!() };
    assert!(commits.unwrap().iter().any(|c| matches!(c, Change::RunStart(start) if start.id == run.run)));
}

#[test]
fn a_backlog_has_three_quarters_of_the_workers_however_many_they_are() {
    let undelivered = (1..=1000).map(|n| undelivered(n, id(n), 0, "OP_TEST_DELAY")).collect();
    let numbers = Numbers::new(1000, []);
    let remembered = Remembered { undelivered, numbers, next_seq: 1001, next_run: 1, ..Default::default() };
    let mut settings = Settings::default();
    settings.hooks.workers = 400;
    let past = Past { begun: Some(Timestamp::from((EPOCH - 1000, 0))), ..Past::default() };
    let mut desk = Desk::before_start(settings, Remembered { past, ..remembered });
    desk.serial = Some(1000);
    desk.settle();
    assert_eq!(desk.running.len(), 300);
}

#[test]
fn events_that_wait_for_other_nodes_alone_leave_slots_to_what_has_just_happened() {
    let left = [255, 256, 511, 512].map(|waiting| Slots::left(16, 0, waiting));
    assert_eq!(left, [Slots::ForAll, Slots::ForLive, Slots::ForLive, Slots::None]);
}

#[test]
fn after_an_overflow_there_is_more_to_do_at_once() {
    let mut desk = Desk::new();
    assert!(!desk.engine.has_more());
    desk.give(Input::Overflow);
    assert!(desk.engine.has_more());
}

#[test]
fn what_many_jobs_have_brought_is_written_before_all_of_them_have_been_looked_at() {
    let mut desk = Desk::new();
    for n in 1..=3000 {
        desk.queue.insert(id(n), delay(n, 0));
        desk.give(Input::Hint(id(n)));
    }
    desk.settle();
    let is_read = |effect: &Effect| matches!(effect, Effect::Read { .. });
    let is_written = |effect: &Effect| matches!(effect, Effect::Commit(_));
    let first = desk.done.iter().position(is_read).unwrap();
    let last = desk.done.iter().rposition(is_read).unwrap();
    assert!(desk.done[first..last].iter().filter(|effect| is_written(effect)).count() >= 2);
}

#[test]
fn what_is_off_by_the_time_its_turn_comes_does_not_run() {
    let mut settings = Settings::default();
    settings.hooks.workers = 1;
    let mut desk = Desk::before_start(settings.clone(), Default::default());
    desk.settle();
    desk.put(delay(1, 0).runs(0, 0));
    desk.put(delay(2, 0).runs(0, 0));
    desk.put(job(3, &["OP_TAGS_SET"], 0).waits(0, 0).ends(0, Status::Error, 0));
    settings.hooks.pre = PreMode::Off;
    settings.hooks.skip_opcodes = vec!["OP_TAGS_*".to_owned()];
    desk.give(Input::Reloaded(Ok((Box::new(settings), HERE.to_owned()))));
    desk.end("1.0.pre");
    assert_eq!(desk.ran, ["10-a 1.0.pre - late=yes attempt=1"]);
    assert_eq!(desk.engine.status(desk.now).undelivered, 0);
}

#[test]
fn what_was_found_late_leaves_a_slot_to_what_just_happened() {
    let mut settings = Settings::default();
    settings.hooks.workers = 4;
    let past = Past { begun: Some(Timestamp::from((EPOCH - 1000, 0))), ..Past::default() };
    let remembered = Remembered { past, next_seq: 1, next_run: 1, ..Default::default() };
    let mut desk = Desk::before_start(settings, remembered);
    desk.serial = Some(9);
    for n in 1..=9 {
        desk.queue.insert(id(n), delay(n, -500).waits(0, -500).ends(0, Status::Error, -400));
    }
    desk.settle();
    assert_eq!(desk.running.len(), 3);
    desk.serial = Some(10);
    desk.put(delay(10, 0).waits(0, 0).ends(0, Status::Error, 0));
    assert_eq!(desk.running.len(), 4);
    assert_eq!(desk.running[3].env["GANETI_HOOKD_EVENT"], "10.0.post");
}
