//! Who may begin an opcode with pre hooks is armed, and nobody else.

use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::settings::{PreMode, Settings};
use ganeti_hookd::ganeti::job::{JobId, Status};

use crate::desk::{Desk, HERE, Life, delay, ended, id, job};

/// A master whose kernel stops processes, with a job that waits.
fn desk() -> Desk {
    let mut desk = Desk::before_start(Settings::default(), Default::default());
    desk.kernel_stops = Ok("fentry".to_owned());
    desk.settle();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).waits(0, 0));
    desk
}

fn armed(desk: &Desk) -> Vec<JobId> {
    desk.engine.status(desk.now).armed.iter().map(|armed| armed.job).collect()
}

#[test]
fn a_job_that_waits_is_armed_until_it_has_begun() {
    let mut desk = desk();
    assert_eq!(armed(&desk), [id(1)]);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    assert!(desk.stands(50) && armed(&desk).is_empty());
    let counters = desk.engine.status(desk.now).counters;
    assert_eq!((counters.holds, counters.holds_exact), (1, 1));
    desk.end("1.0.pre");
    desk.put(delay(1, 0).by(50).runs(0, 0).ends(0, Status::Success, 1));
    assert!(!desk.stands(50) && armed(&desk).is_empty(), "there is no next opcode");
}

#[test]
fn between_two_opcodes_a_job_is_armed_again() {
    let mut desk = desk();
    let codes = ["OP_TEST_DELAY", "OP_TAGS_SET"];
    desk.alive.insert(60);
    desk.put(job(2, &codes, 0).by(60).runs(0, 0));
    desk.end("2.0.pre");
    assert_eq!(armed(&desk), [id(1)]);
    desk.put(job(2, &codes, 0).by(60).runs(0, 0).ends(0, Status::Success, 1));
    assert_eq!(armed(&desk), [id(1), id(2)]);
}

#[test]
fn what_is_not_looked_at_promptly_is_not_armed() {
    let mut desk = desk();
    desk.give(Input::Overflow);
    assert!(armed(&desk).is_empty());
    desk.settle();
    assert_eq!(armed(&desk), [id(1)], "it has been compared");
    desk.give(Input::WatchLost);
    assert!(armed(&desk).is_empty());
    desk.settle();
    assert_eq!(armed(&desk), [id(1)], "it is watched again");
    desk.disk_is_full = true;
    desk.put(delay(2, 0));
    desk.wait(1.0);
    assert!(armed(&desk).is_empty());
    desk.disk_is_full = false;
    desk.wait(5.0);
    assert_eq!(armed(&desk), [id(1)], "the journal can be written again");
}

#[test]
fn without_a_guard_nobody_is_armed() {
    let mut desk = desk();
    desk.give(Input::GuardEnded);
    assert!(armed(&desk).is_empty());
    desk.settle();
    assert_eq!(armed(&desk), [id(1)], "there is another");
}

#[test]
fn without_pre_hooks_nobody_is_armed_until_there_are_some() {
    let mut desk = desk();
    desk.scripts.clear();
    desk.put(delay(2, 0));
    assert!(armed(&desk).is_empty());
    desk.scripts.push("10-a");
    desk.put(delay(3, 0));
    assert_eq!(armed(&desk), [id(1)]);
}

#[test]
fn what_arming_takes_is_there_only_while_somebody_may_be_armed() {
    let mut desk = desk();
    let count = |desk: &Desk, effect: &Effect| desk.done.iter().filter(|done| *done == effect).count();
    assert!(desk.engine.status(desk.now).hold_attached);
    assert_eq!(count(&desk, &Effect::Detach), 0);
    desk.dies(50);
    let linger = std::time::Duration::from_secs(2);
    assert_eq!(desk.engine.next_deadline(), Some(desk.now.steady + linger));
    desk.wait(1.0);
    assert!(desk.engine.status(desk.now).hold_attached, "for the next");
    desk.wait(2.0);
    assert!(!desk.engine.status(desk.now).hold_attached);
    assert_eq!(count(&desk, &Effect::Detach), 1);
    assert!(
        desk.engine
            .next_deadline()
            .is_none_or(|time| time > desk.now.steady + std::time::Duration::from_secs(1))
    );
}

#[test]
fn a_process_that_is_not_there_is_not_armed() {
    let mut desk = desk();
    desk.put(delay(2, 0).by(60).waits(0, 0));
    let arms = desk.done.iter().filter(|effect| matches!(effect, Effect::Arm { .. }));
    assert_eq!(arms.count(), 1, "the first job's");
}

#[test]
fn what_is_read_again_of_the_configuration_decides_who_is_armed() {
    let mut desk = desk();
    for (pre, expected) in [(PreMode::Notify, vec![]), (PreMode::Hold, vec![id(1)])] {
        let mut settings = Settings::default();
        settings.hooks.pre = pre;
        desk.give(Input::Reloaded(Ok((Box::new(settings), HERE.to_owned()))));
        desk.settle();
        assert_eq!(armed(&desk), expected);
    }
}

#[test]
fn a_guard_that_cannot_be_started_is_tried_again_a_second_later() {
    let mut desk = desk();
    let starts = |desk: &Desk| desk.done.iter().filter(|effect| **effect == Effect::StartGuard).count();
    assert_eq!(starts(&desk), 1);
    desk.give(Input::GuardStarted(Err("ENOMEM".to_owned())));
    desk.wait(0.9);
    assert_eq!(starts(&desk), 1);
    desk.wait(0.1);
    assert_eq!(starts(&desk), 2);
}

#[test]
fn a_job_that_waits_has_a_guard_started_at_once() {
    let mut desk = desk();
    let starts = |desk: &Desk| desk.done.iter().filter(|effect| **effect == Effect::StartGuard).count();
    desk.give(Input::GuardEnded);
    desk.settle();
    assert_eq!(starts(&desk), 2);
    desk.give(Input::GuardEnded);
    desk.settle();
    assert_eq!(starts(&desk), 2, "guards do not live here");
    desk.put(delay(2, 0).waits(0, 0));
    assert_eq!(starts(&desk), 3);
}

#[test]
fn what_arming_takes_is_made_ready_once() {
    let mut desk = Desk::before_start(Settings::default(), Default::default());
    desk.kernel_stops = Ok("fentry".to_owned());
    desk.settle();
    let attached = |desk: &Desk| desk.done.iter().filter(|effect| **effect == Effect::Attach).count();
    desk.put(ended(9, 0));
    assert_eq!(attached(&desk), 0, "nothing of it is to begin");
    (1..=3).for_each(|n| desk.put(delay(n, 0)));
    assert_eq!(attached(&desk), 1);
}

#[test]
fn a_job_that_is_armed_is_held_however_long_ago_it_began() {
    let mut desk = desk();
    desk.put(delay(1, 0).by(50).runs(0, -5));
    assert!(desk.stands(50));
    assert_eq!(desk.ran, ["10-a 1.0.pre - late=no attempt=1"]);
}

#[test]
fn while_the_queue_cannot_be_watched_nobody_is_armed() {
    let mut desk = desk();
    desk.watch_fails = true;
    desk.give(Input::WatchLost);
    desk.settle();
    desk.give(Input::Hint(id(1)));
    desk.settle();
    assert!(armed(&desk).is_empty());
    desk.watch_fails = false;
    desk.wait(1.0);
    assert_eq!(armed(&desk), [id(1)]);
}

#[test]
fn who_is_not_armed_is_stopped_by_a_signal_and_who_was_long_ago_is_not() {
    let by_signal = |desk: &Desk| {
        let stops = desk.done.iter().filter_map(|effect| match effect {
            Effect::Stop { by_signal, .. } => Some(*by_signal),
            _ => None,
        });
        stops.collect::<Vec<_>>()
    };
    let mut desk = desk();
    desk.alive.insert(60);
    desk.put(delay(2, 0).by(60).runs(0, 0));
    assert_eq!(by_signal(&desk), [true]);
    desk.pass(600.0);
    desk.put(delay(1, 0).by(50).runs(0, 1));
    assert_eq!(by_signal(&desk), [true, false]);
}
