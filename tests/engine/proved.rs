//! Faults that a hostile review proved, each as the story that shows it.

use std::time::{Duration, Instant};

use ganeti_hookd::engine::change::{Change, Past, Remembered};
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::{Input, Version};
use ganeti_hookd::engine::numbers::Numbers;
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::engine::plan::{Plan, Target};
use ganeti_hookd::engine::settings::{PreMode, Settings};
use ganeti_hookd::engine::tracker::Tracked;
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::ganeti::job::{Status, Timestamp};
use ganeti_hookd::ganeti::opcodes::View;

use crate::desk::{Desk, EPOCH, HERE, Life, THERE, delay, ended, id, job};
use crate::live::{left_with, undelivered};

fn is_master(desk: &mut Desk, master: &'static str) {
    desk.master = Some(master);
    desk.give(Input::ClusterChanged);
    desk.settle();
}

fn plan(nodes: &[&str]) -> Plan {
    let address = Some("192.0.2.1:1811".parse().unwrap());
    let targets = nodes.iter().map(|node| Target { node: (*node).to_owned(), address }).collect();
    let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
    Plan { targets, view: View { nodes, ..View::default() } }
}

fn asks(desk: &Desk) -> Vec<(i64, i64)> {
    desk.done
        .iter()
        .filter_map(|effect| match effect {
            Effect::Ask(run) => Some((run.run, run.seq)),
            _ => None,
        })
        .collect()
}

fn ok() -> Outcome {
    Outcome { code: Some(0), ..Outcome::default() }
}

/// An event whose requests to node2 and node3 are out; its own script has ended.
fn two_nodes(desk: &mut Desk) {
    desk.put(job(1, &["OP_INSTANCE_STARTUP"], 0).waits(0, 0).ends(0, Status::Error, 0));
    let seq = desk.plans.pop().unwrap().seq;
    desk.give(Input::Planned { seq, plan: plan(&["node2", "node3"]), problem: None });
    desk.settle();
    desk.end("1.0.post");
    assert_eq!(asks(desk).len(), 2);
}

#[test]
fn nobody_is_stopped_in_standby_and_left_so() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.master = Some(THERE);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    desk.wait(10.0);
    assert!(!desk.stands(50), "stopped in standby, never continued");
}

#[test]
fn a_serial_that_was_read_earlier_is_no_new_cluster() {
    let mut desk = Desk::new();
    desk.serial = Some(5);
    (1..=5).for_each(|n| desk.put(ended(n, 0)));
    desk.give(Input::Overflow);
    desk.give(Input::Quiet);
    let scan = desk.scans.pop().unwrap();
    // The scanner reads serial = 5; then jobs 6 and 7 come; then its word is taken.
    desk.serial = Some(7);
    desk.put(delay(6, 0));
    desk.give(Input::ScanEnded { scan, result: Ok(Some(5)) });
    desk.settle();
    assert!(!desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
}

#[test]
fn no_deadline_of_a_guard_that_nobody_wants() {
    let mut desk = Desk::new();
    desk.give(Input::GuardEnded);
    desk.settle();
    desk.give(Input::GuardEnded);
    let mut settings = Settings::default();
    settings.hooks.pre = PreMode::Notify;
    desk.give(Input::Reloaded(Ok((Box::new(settings), HERE.to_owned()))));
    desk.settle();
    desk.wait(5.0);
    let next = desk.engine.next_deadline();
    assert!(next.is_none_or(|next| next > desk.now.steady), "{next:?} {:?}", desk.now.steady);
}

#[test]
fn no_busy_loop_while_stalled_and_short() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    let run = desk.running.pop().unwrap();
    desk.give(Input::Postponed { run: run.run, seq: run.seq, error: "EAGAIN".to_owned() });
    desk.disk_is_full = true;
    desk.put(delay(2, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.wait(0.7);
    desk.wait(0.7);
    let next = desk.engine.next_deadline();
    assert!(next.is_none_or(|next| next > desk.now.steady), "{next:?} {:?}", desk.now.steady);
}

#[test]
fn no_busy_loop_while_forgetting_waits_for_a_pass() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.old_events = 100_000;
    while desk.old_events == 100_000 {
        desk.give(Input::Quiet);
        if let Some(scan) = desk.scans.pop() {
            desk.give(Input::ScanEnded { scan, result: Ok(Some(0)) });
        }
    }
    for master in [THERE, HERE] {
        desk.master = Some(master);
        desk.give(Input::ClusterChanged);
    }
    // The scan takes a while.
    for _ in 0..10_000 {
        desk.give(Input::Quiet);
        if !desk.engine.has_more() {
            return;
        }
    }
    panic!("10,000 rounds with nothing to do");
}

#[test]
fn a_request_that_was_taken_back_is_made_when_this_is_master_again() {
    let mut desk = Desk::new();
    two_nodes(&mut desk);
    let [a, b] = asks(&desk)[..] else { panic!() };
    desk.give(Input::Postponed { run: b.0, seq: b.1, error: "EMFILE".to_owned() });
    is_master(&mut desk, THERE);
    is_master(&mut desk, HERE);
    desk.give(Input::NodeEnded { run: a.0, seq: a.1, outcome: ok(), scripts: vec![] });
    desk.settle();
    desk.wait(100.0);
    assert!(asks(&desk).len() > 2, "node3 is never asked, the job's later events wait for ever");
}

#[test]
fn in_standby_no_node_is_asked_after_a_stall() {
    let mut desk = Desk::new();
    two_nodes(&mut desk);
    let b = asks(&desk)[1];
    desk.give(Input::Postponed { run: b.0, seq: b.1, error: "EMFILE".to_owned() });
    is_master(&mut desk, THERE);
    desk.disk_is_full = true;
    desk.put(ended(2, 0));
    desk.disk_is_full = false;
    desk.wait(1.0);
    assert_eq!(asks(&desk).len(), 2, "asked in standby");
}

#[test]
fn while_stopping_no_node_is_asked_after_a_stall() {
    let mut desk = Desk::new();
    two_nodes(&mut desk);
    let b = asks(&desk)[1];
    desk.give(Input::Postponed { run: b.0, seq: b.1, error: "EMFILE".to_owned() });
    desk.disk_is_full = true;
    desk.put(ended(2, 0));
    desk.give(Input::Stop);
    desk.disk_is_full = false;
    (0..3).for_each(|_| desk.wait(1.0));
    assert_eq!(asks(&desk).len(), 2, "asked while stopping");
}

#[test]
fn late_no_is_true_when_the_script_starts() {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b"];
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    assert!(desk.stands(50));
    desk.pass(59.999);
    let run = desk.running.pop().unwrap();
    desk.give(Input::RunEnded { run: run.run, seq: run.seq, outcome: ok() });
    desk.pass(0.002);
    desk.give(Input::Quiet);
    assert!(!desk.stands(50) && desk.ran.len() == 1, "it goes on, and 20-b has not begun");
    desk.settle();
    assert_eq!(desk.ran[1], "20-b 1.0.pre - late=yes attempt=1");
}

#[test]
fn late_no_is_true_when_the_guard_has_ended() {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b"];
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    let run = desk.running.pop().unwrap();
    desk.give(Input::RunEnded { run: run.run, seq: run.seq, outcome: ok() });
    desk.give(Input::GuardEnded);
    assert!(!desk.stands(50) && desk.ran.len() == 1);
    desk.settle();
    assert_eq!(desk.ran[1], "20-b 1.0.pre - late=yes attempt=1");
}

#[test]
fn nobody_stands_still_for_hooks_that_are_postponed() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    for _ in 0..10 {
        if let Some(run) = desk.running.pop() {
            desk.give(Input::Postponed { run: run.run, seq: run.seq, error: "EAGAIN".to_owned() });
        }
        desk.wait(1.0);
    }
    if let Some(run) = desk.running.pop() {
        desk.give(Input::Postponed { run: run.run, seq: run.seq, error: "EAGAIN".to_owned() });
    }
    assert!(!desk.stands(50), "ten seconds for hooks none of which began");
}

#[test]
fn requests_to_a_node_that_hangs_are_bounded() {
    let left: Vec<_> = (1..=3000).map(|n| undelivered(n, id(n), 0, "OP_INSTANCE_STARTUP")).collect();
    let mut desk = left_with(3000, left);
    while !desk.plans.is_empty() {
        for request in std::mem::take(&mut desk.plans) {
            desk.give(Input::Planned { seq: request.seq, plan: plan(&["node2"]), problem: None });
        }
        desk.settle();
        while let Some(run) = desk.running.pop() {
            desk.give(Input::RunEnded { run: run.run, seq: run.seq, outcome: ok() });
        }
        desk.settle();
    }
    assert!(asks(&desk).len() <= 300, "{} requests, plans and environments in memory", asks(&desk).len());
}

#[test]
fn what_just_happened_comes_before_a_backlog_though_its_pre_is_late() {
    let left: Vec<_> = (1..=100).map(|n| undelivered(n, id(n), 0, "OP_TEST_DELAY")).collect();
    let mut desk = left_with(100, left);
    desk.serial = Some(101);
    // A short opcode: its `running` was never seen alone.
    desk.put(ended(101, 0));
    assert!(desk.ran.last().unwrap().contains("101.0.pre"), "{:?}", desk.ran.last());
}

#[test]
fn a_job_found_in_the_archive_is_forgotten_when_it_is_over() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    for n in 1..=10 {
        desk.put(delay(n, 0).runs(0, 0));
        desk.queue.remove(&id(n));
        desk.archive.insert(id(n), ended(n, 0));
        desk.give(Input::Hint(id(n)));
        desk.settle();
    }
    desk.wait(7200.0);
    desk.give(Input::Hint(id(99)));
    desk.settle();
    assert_eq!(desk.engine.status(desk.now).jobs_tracked, 0);
}

#[test]
fn ready_is_said_on_a_first_start_though_the_journal_cannot_be_written() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.disk_is_full = true;
    desk.settle();
    (0..120).for_each(|_| desk.wait(1.0));
    assert!(desk.is_ready);
}

#[test]
fn a_death_found_while_the_master_was_unsure_is_told_later() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.master_error = true;
    desk.put(delay(1, 0).by(50).runs(0, 0));
    desk.master_error = false;
    (0..60).for_each(|_| desk.wait(1.0));
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
}

#[test]
fn what_could_not_be_read_at_the_start_is_late_when_it_can() {
    let open = Tracked {
        received: Timestamp::from((EPOCH - 500, 2)),
        progress: Progress { next: 0, pre: true },
        executed: None,
        op_count: 1,
        process: None,
        seen: Timestamp::from((EPOCH - 50, 0)),
    };
    let mut desk = Desk::again(Remembered {
        jobs: vec![(id(2), open)],
        numbers: Numbers::new(2, []),
        next_seq: 1,
        next_run: 1,
        ..Default::default()
    });
    desk.serial = Some(2);
    desk.queue.insert(id(2), delay(2, -500).runs(0, -400).ends(0, Status::Success, -300));
    desk.unreadable.insert(id(2));
    desk.settle();
    desk.unreadable.clear();
    desk.wait(1.1);
    assert_eq!(desk.events(), ["2.0.post (late) OP_TEST_DELAY succeeded pending"]);
}

#[test]
fn events_in_standby_cost_the_same_however_many_there_are() {
    let time = |ops: usize| {
        let mut desk = Desk::new();
        is_master(&mut desk, THERE);
        let mut job = job(1, &vec!["OP_TEST_DELAY"; ops], 0);
        for op in 0..ops {
            job = job.runs(op, 0).ends(op, Status::Success, 0);
        }
        desk.queue.insert(id(1), job);
        desk.give(Input::Hint(id(1)));
        let start = Instant::now();
        desk.settle();
        start.elapsed()
    };
    // What else the machine does makes a run longer, never shorter.
    let least = |ops: usize| (0..3).map(|_| time(ops)).min().unwrap();
    let (few, many) = (least(1000), least(10_000));
    assert!(many < few * 80, "{few:?} for 2,000 events, {many:?} for 20,000");
}

#[test]
fn no_busy_loop_while_stopping_and_stalled_with_nothing_to_write() {
    let mut desk = Desk::new();
    desk.put(delay(9, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.disk_is_full = true;
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.disk_is_full = false;
    desk.pass(1.0);
    desk.give(Input::Quiet);
    desk.disk_is_full = true;
    desk.settle();
    desk.give(Input::Stop);
    desk.pass(2.0);
    (0..5).for_each(|_| desk.give(Input::Quiet));
    let next = desk.engine.next_deadline();
    assert!(!desk.engine.is_done());
    assert!(next.is_none_or(|next| next > desk.now.steady), "{next:?} {:?}", desk.now.steady);
}

#[test]
fn a_clock_that_stepped_and_came_back_swallows_nothing() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(1);
    desk.put(ended(1, 0));
    let before = desk.events().len();
    let true_time = desk.now.time;
    desk.now.time = Timestamp::from((EPOCH + 3_000_000_000, 0));
    desk.now.steady += Duration::from_secs(3601);
    desk.put(delay(1, 0));
    desk.now.time = true_time;
    // A job comes, runs, and is archived unseen.
    desk.serial = Some(2);
    desk.archive.insert(id(2), ended(2, 10));
    desk.give(Input::Overflow);
    desk.settle();
    assert_eq!(desk.events().len(), before + 2, "{:?}", desk.events());
}

#[test]
fn the_next_script_begins_when_this_is_master_again_beside_a_node_that_hangs() {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b"];
    desk.put(job(1, &["OP_INSTANCE_STARTUP"], 0).waits(0, 0).ends(0, Status::Error, 0));
    let seq = desk.plans.pop().unwrap().seq;
    desk.give(Input::Planned { seq, plan: plan(&["node2"]), problem: None });
    desk.settle();
    is_master(&mut desk, THERE);
    desk.end("1.0.post");
    is_master(&mut desk, HERE);
    desk.wait(100.0);
    assert_eq!(desk.ran.len(), 2);
}

#[test]
fn what_is_tried_again_asks_who_is_master() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    let run = desk.running.pop().unwrap();
    desk.give(Input::Postponed { run: run.run, seq: run.seq, error: "EAGAIN".to_owned() });
    desk.master = Some(THERE);
    desk.give(Input::Overflow);
    desk.pass(1.1);
    let before = desk.done.len();
    desk.give(Input::Quiet);
    let asked = desk.done[before..].contains(&Effect::AskMaster);
    assert!(desk.running.is_empty(), "begun in standby (asked: {asked}, {:?})", desk.engine.role());
}

#[test]
fn the_second_script_asks_who_is_master() {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b"];
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.master = Some(THERE);
    desk.end("1.0.post");
    assert_eq!(desk.ran.len(), 1, "20-b began though another node is master");
}

#[test]
fn a_role_that_flaps_loses_no_backlog() {
    let left: Vec<_> = (1..=100).map(|n| undelivered(n, id(n), 0, "OP_TEST_DELAY")).collect();
    let mut desk = left_with(100, left);
    is_master(&mut desk, THERE);
    is_master(&mut desk, HERE);
    while let Some(run) = desk.running.pop() {
        desk.give(Input::RunEnded { run: run.run, seq: run.seq, outcome: ok() });
        desk.settle();
    }
    assert_eq!(desk.ran.len(), 100);
}

#[test]
fn the_beginning_of_a_run_that_did_not_begin_is_not_written() {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b"];
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.disk_is_full = true;
    desk.put(ended(2, 0));
    // While the journal cannot be written its first script ends: the second is to begin.
    let run = desk.running.pop().unwrap();
    desk.give(Input::RunEnded { run: run.run, seq: run.seq, outcome: ok() });
    desk.disk_is_full = false;
    desk.master = Some(THERE);
    desk.give(Input::Overflow);
    desk.pass(1.1);
    desk.give(Input::Quiet);
    desk.settle();
    let begun = desk.written.iter().any(|c| matches!(c, Change::RunStart(run) if run.script == "20-b"));
    assert!(!begun || desk.ran.len() == 2, "the journal has a run that never was");
}

/// After an overflow, 99,000 holes come before a live job.
#[test]
fn holes_do_not_come_before_a_live_job() {
    let mut desk = Desk::new();
    desk.serial = Some(90_000);
    desk.give(Input::Overflow);
    desk.settle();
    // Hints are lost once more; the holes are looked at again, and then another overflow.
    desk.give(Input::Overflow);
    desk.give(Input::Quiet);
    let scan = desk.scans.pop().unwrap();
    desk.give(Input::ScanEnded { scan, result: Ok(desk.serial) });
    desk.alive.insert(50);
    desk.queue.insert(id(90_001), delay(90_001, 0).by(50).runs(0, 0));
    desk.serial = Some(90_001);
    desk.give(Input::Overflow);
    let before = desk.done.len();
    while desk.scans.is_empty() {
        desk.give(Input::Quiet);
    }
    let scan = desk.scans.pop().unwrap();
    desk.give(Input::Listed { scan, files: vec![(id(90_001), None)] });
    desk.give(Input::ScanEnded { scan, result: Ok(desk.serial) });
    while !desk.reads_since(before).contains(&90_001) {
        desk.give(Input::Quiet);
    }
    assert!(desk.reads_since(before).len() < 1000, "{} reads before it", desk.reads_since(before).len());
}

/// A reload that changes the node's name: what had ended runs again and says ATTEMPT=1.
#[test]
fn a_new_name_is_no_new_node() {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b"];
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    is_master(&mut desk, THERE);
    desk.end("1.0.post");
    // This node is called so now.
    desk.give(Input::Reloaded(Ok((Box::default(), THERE.to_owned()))));
    desk.settle();
    desk.end("1.0.post");
    desk.settle();
    let twice = desk.ran.iter().filter(|ran| ran.starts_with("10-a")).count();
    assert!(twice == 1, "{:?}", desk.ran);
}

/// Dead and alive maps: files that were bad and are gone leave something behind.
#[test]
fn files_that_are_gone_leave_nothing_in_memory() {
    let mut desk = Desk::new();
    // Only to be seen from inside: jobs.rs `is_unfit` makes a Sight that `gone` never removes.
    for n in 1..=10 {
        desk.unreadable.insert(id(n));
        desk.queue.insert(id(n), delay(n, 0));
        desk.give(Input::Hint(id(n)));
        desk.settle();
        desk.unreadable.clear();
        desk.queue.clear();
        desk.wait(1.1);
    }
    let text = format!("{:?}", desk.engine);
    assert!(!text.contains("JobId(3): Sight"), "sights of files that are gone");
}

#[test]
fn ready_is_said_though_the_journal_cannot_be_written() {
    let undelivered = vec![undelivered(1, id(1), 0, "OP_TEST_DELAY")];
    let numbers = Numbers::new(1, []);
    let mut desk =
        Desk::again(Remembered { undelivered, numbers, next_seq: 2, next_run: 1, ..Default::default() });
    desk.serial = Some(1);
    desk.disk_is_full = true;
    desk.settle();
    (0..120).for_each(|_| desk.wait(1.0));
    assert!(desk.is_ready, "systemd waits for 90 s, and Ganeti behind it");
}

#[test]
fn a_watched_death_is_told_though_ssconf_cannot_be_read_just_then() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    desk.master_error = true;
    desk.give(Input::ClusterChanged);
    desk.settle();
    desk.dies(50);
    desk.master_error = false;
    (0..60).for_each(|_| desk.wait(1.0));
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
}

#[test]
fn a_large_file_of_now_is_read_before_large_leftovers() {
    let mut desk = Desk::new();
    for n in 1..=50 {
        desk.queue.insert(id(n), ended(n, -3000));
        desk.large.insert(id(n));
    }
    desk.serial = Some(50);
    desk.give(Input::Overflow);
    desk.settle();
    desk.large.insert(id(51));
    desk.put(delay(51, 0).runs(0, 0));
    let large: Vec<i64> = desk
        .done
        .iter()
        .filter_map(|effect| match effect {
            Effect::ReadLarge { id, .. } => Some(id.get()),
            _ => None,
        })
        .collect();
    assert_eq!(large.len(), 1, "one at a time");
    let version = Version::Bad("no job".to_owned(), None);
    desk.give(Input::LargeRead { reading: 1, id: id(large[0]), version });
    let next = desk.done.iter().rev().find_map(|effect| match effect {
        Effect::ReadLarge { id, .. } => Some(id.get()),
        _ => None,
    });
    assert_eq!(next, Some(51));
}

/// The first daemon's first look was not over (a shortage, a large file) when it was restarted.
#[test]
fn what_happened_between_two_first_starts_is_not_history() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    let mut desk2 = Desk::before_start(Default::default(), Default::default());
    std::mem::swap(&mut desk, &mut desk2);
    desk.scripts.clear();
    desk.serial = Some(1);
    desk.large.insert(id(1));
    desk.queue.insert(id(1), delay(1, -100).runs(0, -90));
    desk.settle();
    assert!(desk.is_ready, "ready, told live jobs, and then:");
    desk.serial = Some(2);
    desk.put(ended(2, 0));
    desk.serial = Some(3);
    desk.put(delay(3, 0).runs(0, 0));
    assert_eq!(desk.events().len(), 3);
    // What a restart reads of the journal.
    let begun = desk.written.iter().rev().find_map(|change| match change {
        Change::Begun(time) => Some(*time),
        _ => None,
    });
    let first_look = desk.written.iter().rev().find_map(|change| match change {
        Change::FirstLook(time) => Some(*time),
        _ => None,
    });
    let jobs = desk.written.iter().filter_map(|change| match change {
        Change::Job(id, tracked) => Some((*id, tracked.clone())),
        _ => None,
    });
    let remembered = Remembered {
        past: Past { begun, first_look, highest_told: 3, ..Past::default() },
        jobs: jobs.collect(),
        next_seq: 4,
        next_run: 1,
        ..Default::default()
    };
    let mut again = Desk::before_start(Default::default(), remembered);
    again.scripts.clear();
    again.serial = Some(4);
    again.queue = desk.queue.clone();
    // Job 4 came and ended in the second in which the package was upgraded.
    again.queue.insert(id(4), ended(4, 10));
    again.now = desk.now;
    again.wait(11.0);
    assert_eq!(again.events().len(), 2, "{:?}", again.events());
}
