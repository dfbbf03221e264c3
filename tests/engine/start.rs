//! The first look at a long queue: beside the work, and obedient.

use ganeti_hookd::engine::change::{Change, Past, Remembered};
use ganeti_hookd::engine::effect::{Effect, ScriptRun};
use ganeti_hookd::engine::input::{Input, Version};
use ganeti_hookd::engine::numbers::{Numbers, NumbersChange};
use ganeti_hookd::engine::settings::Settings;
use ganeti_hookd::engine::tracker::Tracked;
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::ganeti::job::{Status, Timestamp};

use crate::desk::{Desk, EPOCH, Life, delay, ended, first_look, id, job};

/// A desk whose daemon was started before, with so many ended jobs in its queue, none known.
fn long_queue(jobs: i64) -> Desk {
    let open = Tracked {
        received: Timestamp::from((EPOCH - 50, 2)),
        progress: Progress { next: 0, pre: true },
        executed: None,
        op_count: 1,
        process: None,
        seen: Timestamp::from((EPOCH - 50, 0)),
    };
    let mut desk = Desk::again(Remembered {
        jobs: vec![(id(2), open)],
        numbers: Numbers::new(jobs, []),
        next_seq: 1,
        next_run: 1,
        ..Default::default()
    });
    for n in 1..=jobs {
        desk.queue.insert(id(n), ended(n, -2000));
    }
    let open = delay(2, -50).runs(0, -40).ends(0, Status::Success, -30);
    desk.queue.insert(id(2), open);
    desk.serial = Some(jobs);
    desk
}

#[test]
fn ready_is_said_when_open_jobs_have_been_looked_at_and_not_all() {
    let mut desk = long_queue(20_000);
    while !desk.is_ready {
        desk.give(Input::Quiet);
        if let Some(scan) = desk.scans.pop() {
            let files = desk.queue.keys().map(|id| (*id, None)).collect();
            desk.give(Input::Listed { scan, files });
            desk.give(Input::ScanEnded { scan, result: Ok(desk.serial) });
        }
    }
    let reads = desk.reads_since(0);
    assert_eq!(reads[0], 2, "the open one first");
    assert!(reads.len() < 2000, "{}", reads.len());
    assert_eq!(desk.events(), ["2.0.post (late) OP_TEST_DELAY succeeded pending"]);
    desk.settle();
    // Job 1 twice: the history is asked about it, since a job after it was told.
    assert_eq!(desk.reads_since(0).len(), 20_001);
    assert_eq!(desk.events().len(), 1, "what had ended before the first start is history");
}

#[test]
fn a_stop_is_obeyed_in_the_midst_of_a_first_look() {
    let mut desk = long_queue(20_000);
    while desk.reads_since(0).len() < 500 {
        desk.give(Input::Quiet);
        if let Some(scan) = desk.scans.pop() {
            let files = desk.queue.keys().map(|id| (*id, None)).collect();
            desk.give(Input::Listed { scan, files });
            desk.give(Input::ScanEnded { scan, result: Ok(desk.serial) });
        }
    }
    desk.scripts.clear();
    desk.running.clear();
    let before = desk.done.len();
    desk.give(Input::Stop);
    for _ in 0..3 {
        desk.give(Input::Quiet);
    }
    assert!(desk.reads_since(before).is_empty() && !desk.engine.has_more());
}

#[test]
fn on_a_first_start_what_had_ended_is_history_whatever_its_times_say() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.scripts.clear();
    // By a clock that was ahead.
    desk.queue.insert(id(1), ended(1, 5000));
    desk.queue.insert(id(2), delay(2, 0).runs(0, 0));
    desk.serial = Some(2);
    desk.settle();
    assert!(desk.events().is_empty());
    desk.put(delay(2, 0).runs(0, 0).ends(0, Status::Success, 1));
    assert_eq!(desk.events(), ["2.0.post OP_TEST_DELAY succeeded done"]);
    assert!(desk.written.iter().any(|change| matches!(change, Change::Begun(_))));
}

#[test]
fn what_ends_while_a_first_look_is_under_way_is_told() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.scripts.clear();
    desk.queue.insert(id(1), job(1, &["OP_TEST_DELAY"; 2], -100).runs(0, -90));
    desk.serial = Some(1);
    desk.give(Input::Quiet);
    desk.give(Input::Quiet);
    // Before anybody has looked at it its first opcode ends, and the second begins and ends.
    let now = job(1, &["OP_TEST_DELAY"; 2], -100).runs(0, -90).ends(0, Status::Success, 1);
    desk.queue.insert(id(1), now.runs(1, 1).ends(1, Status::Success, 2));
    desk.give(Input::Hint(id(1)));
    desk.settle();
    assert_eq!(
        desk.events(),
        [
            "1.0.post (late) OP_TEST_DELAY succeeded done",
            "1.1.pre (late) OP_TEST_DELAY pending",
            "1.1.post (late) OP_TEST_DELAY succeeded pending"
        ]
    );
}

#[test]
fn the_watch_stands_before_the_queue_is_listed() {
    let desk = Desk::new();
    let place = |wanted: &dyn Fn(&Effect) -> bool| desk.done.iter().position(wanted).unwrap();
    let watch = place(&|effect| *effect == Effect::Watch);
    let scan = place(&|effect| matches!(effect, Effect::Scan { .. }));
    let ready = place(&|effect| *effect == Effect::Ready);
    assert!(watch < scan && scan < ready);
}

#[test]
fn what_was_canceled_before_the_queue_was_first_watched_is_no_history_if_there_was_no_queue() {
    let mut desk = Desk::before_start(Default::default(), Remembered::default());
    desk.scripts.clear();
    desk.give(Input::NoQueue);
    // A cluster is made, and its first job has come and gone before the queue can be watched.
    desk.now.time = Timestamp::from((EPOCH + 9, 0));
    let mut canceled = delay(1, 5).runs(0, 6);
    canceled.ops[0].status = Status::Canceled;
    desk.queue.insert(id(1), canceled);
    desk.serial = Some(1);
    desk.settle();
    assert_eq!(
        desk.events(),
        ["1.0.pre (late) OP_TEST_DELAY done", "1.0.post (late) OP_TEST_DELAY failed pending"]
    );
}

#[test]
fn what_ends_in_a_queue_that_was_not_there_at_the_first_start_is_told() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.scripts.clear();
    desk.give(Input::NoQueue);
    desk.pass(5.0);
    desk.serial = Some(1);
    desk.queue.insert(id(1), ended(1, 3));
    desk.settle();
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
}

#[test]
fn a_first_start_looks_for_the_last_numbers_alone() {
    let mut desk = Desk::before_start(Default::default(), Default::default());
    desk.serial = Some(5000);
    desk.settle();
    let reads = desk.reads_since(0);
    assert_eq!((reads.len(), reads.first(), reads.last()), (1024, Some(&3977), Some(&5000)));
}

#[test]
fn scripts_that_do_not_end_are_ended_eight_seconds_after_a_stop_and_again() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    desk.give(Input::Stop);
    let ends = |desk: &Desk| desk.done.iter().filter(|effect| **effect == Effect::EndRuns).count();
    for (seconds, expected) in [(7.9, 0), (0.1, 1), (7.9, 1), (0.1, 2)] {
        desk.wait(seconds);
        assert_eq!(ends(&desk), expected);
    }
}

/// How often something was written.
fn commits(desk: &Desk) -> usize {
    desk.done.iter().filter(|effect| matches!(effect, Effect::Commit(_))).count()
}

#[test]
fn before_the_daemon_is_ready_a_live_job_is_looked_at_before_leftovers() {
    let mut desk = long_queue(20_000);
    while desk.reads_since(0).len() < 2 {
        desk.give(Input::Quiet);
        if let Some(scan) = desk.scans.pop() {
            let files = desk.queue.keys().map(|id| (*id, None)).collect();
            desk.give(Input::Listed { scan, files });
            desk.give(Input::ScanEnded { scan, result: Ok(desk.serial) });
        }
    }
    // The history is asked about each, and nothing has to be written for that.
    let (reads, written) = (desk.reads_since(0).len(), commits(&desk));
    assert!(reads < 40 && !desk.is_ready, "{reads}");
    let before = desk.done.len();
    desk.queue.insert(id(20_001), delay(20_001, 0));
    desk.give(Input::Hint(id(20_001)));
    desk.give(Input::Quiet);
    assert_eq!(desk.reads_since(before), [20_001]);
    while !desk.is_ready {
        desk.give(Input::Quiet);
    }
    assert!(commits(&desk) - written < 10, "the others are written in one go");
    assert!(desk.reads_since(0).len() > 1024);
}

#[test]
fn what_was_told_in_a_first_look_and_has_left_is_not_told_again() {
    let mut desk = Desk::before_start(Default::default(), Remembered::default());
    desk.serial = Some(3);
    // While a large file is read, not all has been looked at.
    desk.large.insert(id(3));
    desk.queue.insert(id(2), delay(2, -20).runs(0, -10));
    desk.queue.insert(id(3), delay(3, -5));
    desk.settle();
    let job = delay(2, -20).runs(0, -10).ends(0, Status::Success, 1);
    desk.queue.remove(&id(2));
    desk.archive.insert(id(2), job);
    for _ in 0..2 {
        desk.give(Input::Hint(id(2)));
        desk.settle();
    }
    assert_eq!(desk.events().len(), 1, "{:?}", desk.events());
    // Nor when numbers begin again, so that it is looked for.
    desk.serial = Some(2);
    desk.give(Input::Serial(desk.serial));
    desk.give(Input::Hint(id(2)));
    desk.settle();
    assert!(desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
    assert_eq!(desk.events().len(), 1, "{:?}", desk.events());
}

#[test]
fn what_had_ended_before_a_first_look_is_history_though_numbers_begin_again_in_it() {
    let mut desk = Desk::before_start(Default::default(), Remembered::default());
    desk.serial = Some(3);
    desk.queue.insert(id(3), ended(3, -50));
    desk.large.insert(id(3));
    desk.settle();
    desk.serial = Some(1);
    desk.give(Input::Overflow);
    desk.settle();
    assert!(desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
    desk.large.clear();
    let job = desk.queue[&id(3)].clone();
    desk.give(Input::LargeRead { reading: 1, id: id(3), version: Version::Queued(&job, None) });
    desk.settle();
    assert!(desk.events().is_empty(), "{:?}", desk.events());
}

#[test]
fn what_came_after_a_first_look_is_no_history_though_the_history_cannot_be_asked() {
    let past = Past { first_look: Some(first_look(-100)), highest_told: 4, ..Past::default() };
    let numbers = Numbers::new(4, [3]);
    let remembered = Remembered { past, numbers, next_seq: 5, next_run: 5, ..Default::default() };
    let mut desk = Desk::before_start(Default::default(), remembered);
    desk.serial = Some(4);
    desk.archive.insert(id(3), ended(3, -50));
    desk.history_fails = true;
    desk.settle();
    let is_filled = |change: &Change| matches!(change, Change::Numbers(NumbersChange::Filled(3)));
    assert!(!desk.written.iter().any(is_filled), "the next start looks for it");
    desk.history_fails = false;
    desk.wait(1.1);
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
    assert!(desk.written.iter().any(is_filled));
}

#[test]
fn nothing_is_forgotten_while_the_history_has_yet_to_be_asked_about_a_job() {
    let (numbers, past) = (Numbers::new(4, [3]), Past { highest_told: 4, ..Past::default() });
    let mut desk = Desk::again(Remembered { numbers, past, next_seq: 5, next_run: 5, ..Default::default() });
    desk.serial = Some(4);
    desk.archive.insert(id(3), ended(3, -50));
    desk.history_fails = true;
    desk.settle();
    let prunes = |desk: &Desk| desk.written.iter().any(|change| matches!(change, Change::Prune(..)));
    assert!(desk.is_ready && !prunes(&desk));
    desk.history_fails = false;
    desk.wait(1.1);
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
    assert!(prunes(&desk));
}

#[test]
fn a_number_whose_job_cannot_be_read_on_a_first_start_is_looked_for_again_unless_its_file_is_there() {
    for is_there in [false, true] {
        let mut desk = Desk::before_start(Default::default(), Remembered::default());
        desk.serial = Some(1);
        desk.unreadable.insert(id(1));
        if is_there {
            desk.queue.insert(id(1), ended(1, -50));
        }
        desk.settle();
        let holes = if is_there { vec![] } else { vec![1] };
        let is_begun = |change: &Change| matches!(change, Change::Begun(_));
        let begun = desk.written.iter().position(is_begun).unwrap();
        assert_eq!(desk.written[begun - 1], Change::Numbers(NumbersChange::All(1, holes, vec![])));
        let is_filled = |change: &Change| matches!(change, Change::Numbers(NumbersChange::Filled(1)));
        assert!(!desk.written.iter().any(is_filled));
    }
}

#[test]
fn what_could_not_be_looked_at_is_told_though_it_has_left_when_the_first_look_goes_on() {
    let two = id(2);
    for (history_fails, has_large) in [(false, true), (true, true), (true, false)] {
        let mut desk = Desk::before_start(Default::default(), Remembered::default());
        desk.scripts.clear();
        desk.serial = Some(4);
        desk.queue.insert(two, delay(2, -20).runs(0, -10));
        desk.unreadable.insert(two);
        desk.queue.insert(id(3), delay(3, -20).runs(0, -10));
        // While a large file is read, not all has been looked at.
        desk.queue.insert(id(4), delay(4, -5));
        desk.large.insert(id(4));
        desk.settle();
        desk.put(delay(3, -20).runs(0, -10).ends(0, Status::Success, 1));
        desk.queue.insert(two, delay(2, -20).runs(0, -10).ends(0, Status::Success, 2));
        assert_eq!(desk.events(), ["3.0.post OP_TEST_DELAY succeeded done"]);
        if history_fails {
            desk.unreadable.clear();
            if !has_large {
                desk.large.clear();
            }
            desk = desk.restarted();
            desk.scripts.clear();
            desk.history_fails = true;
            desk.settle();
            desk.wait(3.0);
            assert!(desk.events().is_empty(), "{:?}", desk.events());
        }
        let job = desk.queue.remove(&two).unwrap();
        desk.archive.insert(two, job);
        desk.unreadable.clear();
        let mut next = desk.restarted();
        next.scripts.clear();
        next.settle();
        assert_eq!(next.events(), ["2.0.post (late) OP_TEST_DELAY succeeded done"], "{history_fails}");
    }
}

#[test]
fn what_the_history_could_not_be_asked_about_is_told_from_the_beginning_on() {
    let remembered = Remembered {
        past: Past { first_look: Some(first_look(-100)), highest_told: 4, ..Past::default() },
        numbers: Numbers::new(4, [3]),
        next_seq: 5,
        next_run: 5,
        ..Default::default()
    };
    let mut desk = Desk::before_start(Default::default(), remembered);
    desk.scripts.clear();
    desk.serial = Some(4);
    desk.queue.insert(id(3), delay(3, -120).runs(0, -60).ends(0, Status::Success, -50));
    desk.history_fails = true;
    desk.settle();
    let is_begun = |change: &Change| matches!(change, Change::Begun(_));
    assert!(!desk.written.iter().any(is_begun), "the first look waits for the history");
    desk.history_fails = false;
    desk.wait(1.1);
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
    assert!(desk.written.iter().any(is_begun));
}

#[test]
fn what_cannot_be_read_in_a_queue_that_was_not_there_at_the_first_start_is_no_history() {
    let mut desk = Desk::before_start(Default::default(), Remembered::default());
    desk.scripts.clear();
    desk.give(Input::NoQueue);
    desk.pass(5.0);
    desk.serial = Some(2);
    desk.queue.insert(id(1), ended(1, 3));
    desk.unreadable.insert(id(1));
    // While a large file is read, not all has been looked at.
    desk.queue.insert(id(2), delay(2, 4));
    desk.large.insert(id(2));
    desk.settle();
    let is_filled = |change: &Change| matches!(change, Change::Numbers(NumbersChange::Filled(1)));
    for _ in 0..2 {
        assert!(!desk.written.iter().any(is_filled), "the next start looks for it");
        desk = desk.restarted();
        desk.settle();
    }
    let job = desk.queue.remove(&id(1)).unwrap();
    desk.archive.insert(id(1), job);
    desk.unreadable.clear();
    let mut desk = desk.restarted();
    desk.settle();
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
}

#[test]
fn what_could_not_be_read_in_a_queue_that_was_not_there_is_told_though_the_history_is_lost() {
    let mut desk = Desk::before_start(Default::default(), Remembered::default());
    desk.scripts.clear();
    desk.give(Input::NoQueue);
    desk.pass(5.0);
    desk.serial = Some(1);
    desk.queue.insert(id(1), ended(1, 3));
    desk.unreadable.insert(id(1));
    desk.settle();
    desk.put(ended(2, 5));
    desk.damaged_commits = 1;
    desk.put(delay(3, 5));
    desk.unreadable.clear();
    desk.wait(1.1);
    assert_eq!(desk.events().len(), 4, "{:?}", desk.events());
}

#[test]
fn who_cannot_list_the_queue_is_ready_all_the_same() {
    let mut desk = Desk::before_start(Settings::default(), Remembered::default());
    desk.queue_is_lost = true;
    desk.settle();
    assert!(desk.is_ready, "it must not be taken for dead");
}

#[test]
fn who_stops_waits_for_no_run_that_could_not_begin() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    let ScriptRun { run, seq, .. } = desk.running.remove(0);
    desk.give(Input::Stop);
    assert!(!desk.engine.is_done());
    desk.give(Input::Postponed { run, seq, error: "EAGAIN".to_owned() });
    desk.settle();
    assert!(desk.engine.is_done());
}

#[test]
fn what_another_scan_has_found_is_not_believed() {
    let mut desk = Desk::new();
    desk.queue.insert(id(1), delay(1, 0).runs(0, 0));
    desk.give(Input::Overflow);
    while desk.engine.has_more() {
        desk.give(Input::Quiet);
    }
    let (scan, effects) = (desk.scans[0], desk.done.len());
    let files = || vec![(id(1), None)];
    desk.give(Input::Listed { scan: scan - 1, files: files() });
    (0..50).for_each(|_| desk.give(Input::Quiet));
    assert!(desk.reads_since(effects).is_empty(), "it was under way before the overflow");
    desk.settle();
    assert_eq!(desk.reads_since(effects), [1]);
    desk.give(Input::Listed { scan, files: files() });
    desk.settle();
    assert_eq!(desk.reads_since(effects), [1], "it is over");
}
