//! Only the master acts, and the order holds through all that becomes of the role.

use ganeti_hookd::engine::change::Remembered;
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::numbers::Numbers;
use ganeti_hookd::engine::settings::Settings;
use ganeti_hookd::ganeti::event::Phase;
use ganeti_hookd::ganeti::job::{Status, Timestamp};

use crate::desk::{Desk, EPOCH, HERE, Life, THERE, delay, ended, id};
use crate::live::undelivered;

/// Another node is master, or this one, or nobody knows.
fn is_master(desk: &mut Desk, master: Option<&'static str>) {
    desk.master = master;
    desk.give(Input::ClusterChanged);
    desk.settle();
}

#[test]
fn in_standby_no_further_script_of_an_event_begins() {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b", "30-c"];
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    assert_eq!(desk.ran.len(), 1);
    is_master(&mut desk, Some(THERE));
    desk.end("1.0.post");
    assert_eq!(desk.ran, ["10-a 1.0.post failed late=no attempt=1"]);
    // And back again soon: what is left of it is late, and what had ended does not run again.
    is_master(&mut desk, Some(HERE));
    desk.end("1.0.post");
    desk.end("1.0.post");
    assert_eq!(
        desk.ran[1..],
        ["20-b 1.0.post failed late=yes attempt=1", "30-c 1.0.post failed late=yes attempt=1"]
    );
}

#[test]
fn a_pre_comes_before_its_post_through_unknown_another_and_this_master() {
    let mut pre = undelivered(5, id(7), 0, "OP_TEST_DELAY");
    pre.event.key.phase = Phase::Pre;
    pre.event.status = None;
    let mut post = undelivered(6, id(7), 0, "OP_TEST_DELAY");
    // The failover is not long ago.
    for left in [&mut pre, &mut post] {
        left.event.time = Timestamp::from((EPOCH - 5, 0));
    }
    let numbers = Numbers::new(7, []);
    let mut desk = Desk::again(Remembered {
        undelivered: vec![pre, post],
        numbers,
        next_seq: 7,
        next_run: 1,
        ..Default::default()
    });
    desk.serial = Some(7);
    desk.master = None;
    desk.settle();
    assert!(desk.ran.is_empty());
    is_master(&mut desk, Some(THERE));
    is_master(&mut desk, Some(HERE));
    desk.end("7.0.pre");
    desk.end("7.0.post");
    assert_eq!(desk.ran, ["10-a 7.0.pre - late=yes attempt=1", "10-a 7.0.post succeeded late=yes attempt=1"]);
}

#[test]
fn an_event_that_comes_back_from_standby_goes_before_those_noticed_since() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0));
    // Its pre runs; its post waits; and this node is master no more.
    desk.put(ended(1, 0));
    is_master(&mut desk, Some(THERE));
    is_master(&mut desk, Some(HERE));
    desk.put(delay(2, 0));
    assert_eq!(desk.ran.len(), 1, "the post waits for the pre, which still runs");
    desk.end("1.0.pre");
    assert_eq!(desk.ran.last().unwrap(), "10-a 1.0.post succeeded late=yes attempt=1");
}

#[test]
fn a_job_that_stands_still_goes_on_when_another_node_is_master() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    assert!(desk.stands(50));
    is_master(&mut desk, Some(THERE));
    assert!(!desk.stands(50));
}

#[test]
fn a_new_jobs_pre_is_in_time_while_the_queue_of_the_old_master_is_looked_at() {
    let mut desk = Desk::new();
    is_master(&mut desk, Some(THERE));
    for n in 1..=3000 {
        desk.queue.insert(id(n), ended(n, 0));
    }
    desk.serial = Some(3000);
    desk.master = Some(HERE);
    desk.give(Input::ClusterChanged);
    desk.give(Input::Quiet);
    desk.alive.insert(50);
    desk.queue.insert(id(3001), delay(3001, 0).by(50).runs(0, 0));
    desk.give(Input::Hint(id(3001)));
    for _ in 0..8 {
        desk.give(Input::Quiet);
    }
    assert!(desk.stands(50));
    assert_eq!(desk.ran, ["10-a 3001.0.pre - late=no attempt=1"]);
}

#[test]
fn what_happened_before_anybody_could_tell_who_is_master_waits_however_long_that_takes() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.master_error = true;
    desk.settle();
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.wait(3600.0);
    assert!(desk.ran.is_empty());
    desk.master_error = false;
    desk.wait(1.0);
    assert_eq!(desk.ran, ["10-a 1.0.post failed late=yes attempt=1"]);
}

#[test]
fn what_a_new_master_finds_happened_before() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    is_master(&mut desk, Some(THERE));
    desk.serial = Some(1);
    desk.queue.insert(id(1), ended(1, 0));
    is_master(&mut desk, Some(HERE));
    assert_eq!(
        desk.events(),
        ["1.0.pre (late) OP_TEST_DELAY done", "1.0.post (late) OP_TEST_DELAY succeeded pending"]
    );
}

#[test]
fn a_new_master_watches_the_process_of_a_job_whose_file_is_gone() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(1);
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    is_master(&mut desk, Some(THERE));
    desk.queue.clear();
    is_master(&mut desk, Some(HERE));
    desk.dies(50);
    assert!(desk.events().last().unwrap().contains("1.0.post"), "{:?}", desk.events());
}

#[test]
fn what_was_noticed_long_before_a_failover_was_the_old_masters() {
    for (seconds, expected) in [(5.0, 1), (3600.0, 0)] {
        let mut desk = Desk::new();
        is_master(&mut desk, Some(THERE));
        desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
        desk.wait(seconds);
        is_master(&mut desk, Some(HERE));
        assert_eq!(desk.ran.len(), expected, "after {seconds} s");
    }
}

#[test]
fn a_script_that_runs_here_runs_here_whatever_this_node_is_called() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.master = Some("node9.example.com");
    let settings = Box::new(Settings::default());
    desk.give(Input::Reloaded(Ok((settings, "node9.example.com".to_owned()))));
    desk.settle();
    assert_eq!(desk.engine.status(desk.now).running[0].node, "node9.example.com");
}

#[test]
fn a_node_that_hears_its_name_is_master_if_that_is_the_masters() {
    let mut desk = Desk::new();
    is_master(&mut desk, Some(THERE));
    desk.give(Input::Named(THERE.to_owned()));
    desk.settle();
    let status = desk.engine.status(desk.now);
    assert_eq!((&*status.role, &*status.node), ("master", THERE));
    assert!(desk.log.contains(&format!("this node is {THERE}")), "{:?}", desk.log);
}

#[test]
fn a_script_is_told_who_is_master() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    assert_eq!(desk.running[0].env["GANETI_MASTER"], HERE);
}

#[test]
fn what_was_left_undone_for_longer_than_history_is_kept_is_forgotten() {
    for (days, expected) in [(1.0, 1), (40.0, 0)] {
        let mut settings = Settings::default();
        settings.hooks.workers = 1;
        let mut desk = Desk::before_start(settings, Default::default());
        desk.settle();
        for n in [1, 2] {
            desk.put(delay(n, 0).waits(0, 0).ends(0, Status::Error, 0));
        }
        is_master(&mut desk, Some(THERE));
        desk.end("1.0.post");
        desk.wait(days * 86_400.0);
        desk.put(delay(3, 0));
        is_master(&mut desk, Some(HERE));
        assert_eq!(desk.running.len(), expected, "after {days} days");
    }
}

#[test]
fn what_happened_unseen_before_a_takeover_is_late() {
    let mut desk = Desk::new();
    desk.serial = Some(1);
    desk.put(delay(1, 0).runs(0, 0));
    is_master(&mut desk, Some(THERE));
    desk.queue.insert(id(1), delay(1, 0).runs(0, 0).ends(0, Status::Success, 0));
    is_master(&mut desk, Some(HERE));
    assert_eq!(desk.events().last().unwrap(), "1.0.post (late) OP_TEST_DELAY succeeded pending");
}

#[test]
fn in_standby_no_process_is_watched() {
    let mut desk = Desk::new();
    for (n, pid) in [(1, 50), (2, 60)] {
        desk.alive.insert(pid);
        desk.put(delay(n, 0).by(pid).runs(0, 0));
    }
    let watched = |desk: &Desk| desk.engine.status(desk.now).processes_watched;
    assert_eq!(watched(&desk), 2);
    is_master(&mut desk, Some(THERE));
    assert_eq!(watched(&desk), 0);
    assert_eq!(desk.done.iter().filter(|effect| matches!(effect, Effect::Unwatch(_))).count(), 2);
}
