//! Processes, and what is known of jobs whose files are not there.

use ganeti_hookd::engine::change::{Change, Past, Remembered};
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::{Input, Version};
use ganeti_hookd::engine::numbers::{Numbers, NumbersChange};
use ganeti_hookd::engine::tracker::Tracked;
use ganeti_hookd::engine::transitions::Progress;
use ganeti_hookd::ganeti::job::{Status, Timestamp};

use crate::desk::{Desk, EPOCH, Life, delay, ended, first_look, id, job};

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
    assert_eq!(desk.events(), ["1.0.pre OP_TEST_DELAY done"]);
    desk.dies(51);
    assert_eq!(desk.events()[1], "1.0.post OP_TEST_DELAY disappeared done");
}

#[test]
fn a_death_that_was_seen_is_told_though_the_file_has_just_been_removed() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.alive.insert(50);
    desk.put(job(1, &["OP_TEST_DELAY", "OP_TEST_DELAY"], 0).by(50).runs(0, 0));
    desk.queue.clear();
    desk.dies(50);
    assert_eq!(desk.events(), ["1.0.pre OP_TEST_DELAY done", "1.0.post OP_TEST_DELAY disappeared done"]);
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
    assert_eq!(desk.events()[1], "1.0.post OP_TEST_DELAY succeeded done");
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
    assert_eq!(desk.events()[1], "1.0.post OP_TEST_DELAY succeeded done");
}

#[test]
fn of_many_holes_a_later_job_costs_one_change() {
    let mut desk = Desk::new();
    desk.serial = Some(99_000);
    desk.give(Input::Overflow);
    desk.settle();
    desk.wait(1.0);
    let before = desk.written.len();
    desk.put(ended(98_000, 0));
    let numbers: Vec<&Change> =
        desk.written[before..].iter().filter(|change| matches!(change, Change::Numbers(_))).collect();
    assert_eq!(numbers, [&Change::Numbers(NumbersChange::Filled(98_000))]);
}

#[test]
fn a_job_that_came_and_went_unheard_is_found_though_the_scan_could_not_read_the_serial() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(1);
    desk.put(ended(1, 0));
    desk.archive.insert(id(2), ended(2, 0));
    desk.serial = Some(2);
    desk.give(Input::Overflow);
    while desk.scans.is_empty() {
        desk.give(Input::Quiet);
    }
    let scan = desk.scans.remove(0);
    desk.give(Input::ScanEnded { scan, result: Ok(None) });
    desk.settle();
    assert_eq!(desk.events().len(), 4, "{:?}", desk.events());
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
    desk.put(ended(100, -10));
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

/// Two jobs have been told; their cluster is gone.
fn a_cluster_that_is_gone() -> Desk {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(2);
    desk.put(ended(1, 0));
    desk.put(ended(2, 0));
    assert_eq!(desk.events().len(), 4);
    desk.queue.clear();
    desk
}

#[test]
fn a_job_of_a_cluster_made_again_that_came_and_went_while_nothing_could_be_written_is_told() {
    let mut desk = a_cluster_that_is_gone();
    desk.disk_is_full = true;
    desk.give(Input::Hint(id(2)));
    desk.settle();
    desk.serial = Some(1);
    desk.archive.insert(id(1), ended(1, 50));
    desk.give(Input::Hint(id(1)));
    desk.disk_is_full = false;
    desk.wait(1.0);
    assert_eq!(desk.events().len(), 6, "{:?}", desk.events());
}

#[test]
fn a_large_job_of_a_cluster_made_again_that_went_before_it_was_read_is_told() {
    for is_forgotten in [true, false] {
        let mut desk = a_cluster_that_is_gone();
        if is_forgotten {
            desk.give(Input::Hint(id(1)));
            desk.settle();
        }
        desk.large.insert(id(1));
        desk.give(Input::Hint(id(1)));
        desk.settle();
        desk.large.clear();
        desk.archive.insert(id(1), ended(1, 50));
        desk.give(Input::Hint(id(1)));
        desk.settle();
        assert_eq!(desk.events().len(), 6, "{:?}", desk.events());
    }
}

#[test]
fn a_job_of_a_cluster_made_again_that_could_not_be_read_before_it_went_is_told() {
    let mut desk = a_cluster_that_is_gone();
    desk.unreadable.insert(id(1));
    desk.give(Input::Hint(id(1)));
    desk.settle();
    desk.unreadable.clear();
    desk.archive.insert(id(1), ended(1, 50));
    desk.wait(1.0);
    assert_eq!(desk.events().len(), 6, "{:?}", desk.events());
}

#[test]
fn what_came_after_the_last_event_is_not_over_though_the_history_is_lost_later() {
    let mut desk = a_cluster_that_is_gone();
    desk.give(Input::Hint(id(1)));
    desk.settle();
    desk.disk_is_full = true;
    desk.give(Input::Hint(id(2)));
    desk.settle();
    desk.archive.insert(id(1), ended(1, 5));
    desk.wait(10.0);
    desk.serial = Some(1);
    (desk.disk_is_full, desk.journal_is_damaged) = (false, true);
    desk.give(Input::Overflow);
    desk.wait(1.0);
    assert!(desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
    assert_eq!(desk.events().len(), 6, "{:?}", desk.events());
}

#[test]
fn a_job_that_is_newer_than_the_one_of_its_number_is_a_new_one_whatever_the_clock_says() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(1);
    // The clock has been set back behind the first start.
    desk.put(ended(1, -50));
    desk.put(delay(1, -40).runs(0, -40));
    assert_eq!(desk.events().len(), 3, "{:?}", desk.events());
}

#[test]
fn a_newer_job_of_the_same_number_shows_that_numbers_have_begun_again() {
    let mut desk = a_cluster_that_is_gone();
    // As many numbers have been given out as before, and nobody was told.
    desk.queue.insert(id(1), ended(1, 50));
    desk.archive.insert(id(2), ended(2, 51));
    desk.give(Input::Overflow);
    desk.settle();
    let log = desk.log.iter().filter(|line| line.contains("begin again"));
    assert_eq!((desk.events().len(), log.count()), (8, 1), "{:?}", desk.events());
}

#[test]
fn that_numbers_have_begun_again_is_known_to_the_next_daemon_though_the_serial_could_not_be_read() {
    for is_damaged in [false, true] {
        let mut desk = a_cluster_that_is_gone();
        desk.serial = None;
        desk.put(ended(1, 50));
        assert!(!desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
        // What is written anew knows it, too.
        desk.journal_is_damaged = is_damaged;
        desk.put(delay(3, 50));
        // While no daemon runs another one comes and is archived.
        desk.queue.clear();
        desk.archive.insert(id(2), ended(2, 51));
        desk.serial = Some(3);
        let mut desk = desk.restarted();
        desk.scripts.clear();
        desk.settle();
        assert!(desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
        let told: Vec<_> = desk.events().into_iter().filter(|event| event.starts_with("2.0")).collect();
        assert_eq!(told.len(), 2, "{:?}", desk.events());
    }
}

#[test]
fn what_was_nowhere_in_a_cluster_that_is_gone_is_looked_for_like_all_else_in_the_next() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(3);
    desk.put(ended(1, 0));
    desk.put(ended(3, 0));
    desk.give(Input::Overflow);
    desk.settle();
    assert_eq!(desk.reads_since(0).iter().filter(|id| **id == 2).count(), 1, "it is a hole");
    desk.queue = [(id(1), ended(1, 50)), (id(3), ended(3, 0))].into();
    desk.archive.insert(id(2), ended(2, 51));
    let before = desk.done.len();
    desk.serial = Some(2);
    desk.give(Input::Overflow);
    desk.settle();
    let reads = desk.reads_since(before);
    let first = |id: i64| reads.iter().position(|read| *read == id).unwrap();
    assert!(first(2) < first(1), "before what is known to be closed: {reads:?}");
}

#[test]
fn a_number_above_the_serial_that_was_nowhere_is_news_when_its_job_is_there() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(2);
    desk.put(ended(1, 0));
    desk.give(Input::Hint(id(9)));
    desk.settle();
    desk.queue = [(id(1), ended(1, 5)), (id(9), delay(9, 5))].into();
    let before = desk.done.len();
    desk.give(Input::Overflow);
    desk.settle();
    assert_eq!(desk.reads_since(before)[..2], [2, 9]);
}

#[test]
fn a_job_of_a_cluster_made_again_is_live_though_one_of_its_number_could_not_be_looked_at() {
    let numbers = Numbers::new(2, [1]);
    let mut desk = Desk::again(Remembered { numbers, next_seq: 1, next_run: 1, ..Default::default() });
    desk.scripts.clear();
    desk.serial = Some(2);
    desk.queue.insert(id(1), delay(1, -10));
    desk.unreadable.insert(id(1));
    desk.settle();
    desk.queue.clear();
    desk.unreadable.clear();
    desk.serial = Some(0);
    desk.give(Input::Overflow);
    desk.settle();
    assert!(desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
    desk.serial = Some(1);
    desk.put(delay(1, 5).runs(0, 6));
    assert_eq!(desk.events(), ["1.0.pre OP_TEST_DELAY done"]);
}

#[test]
fn what_an_earlier_daemon_told_is_asked_of_the_history() {
    let mut desk = Desk::again(ganeti_hookd::engine::change::Remembered {
        past: Past { highest_told: 10, ..Past::default() },
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
        ["7.1.pre (late) OP_TEST_DELAY done", "7.1.post (late) OP_TEST_DELAY succeeded pending"]
    );
    assert!(desk.done.iter().any(|effect| matches!(effect, Effect::Recall { .. })));
}

/// The jobs whose end was announced.
fn ended_jobs(desk: &Desk) -> Vec<i64> {
    let ended = |effect: &Effect| if let Effect::JobEnded(id) = effect { Some(id.get()) } else { None };
    desk.done.iter().filter_map(ended).collect()
}

#[test]
fn the_end_of_a_job_is_announced_when_all_that_follows_from_it_is_written() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    assert_eq!(ended_jobs(&desk), [0; 0]);
    desk.disk_is_full = true;
    desk.put(ended(1, 0));
    assert_eq!(ended_jobs(&desk), [0; 0], "the journal has not got it");
    desk.disk_is_full = false;
    desk.wait(2.0);
    assert_eq!(ended_jobs(&desk), [1]);
    desk.archive.insert(id(2), ended(2, 0));
    desk.give(Input::Hint(id(2)));
    desk.settle();
    assert_eq!(ended_jobs(&desk), [1, 2], "also of one that was archived before anybody looked");
}

#[test]
fn a_job_that_is_not_written_yet_is_told_from_its_beginning_after_a_kill() {
    for was_archived in [false, true] {
        let mut desk = Desk::new();
        desk.scripts.clear();
        desk.serial = Some(1);
        desk.alive.insert(50);
        desk.put(delay(1, 0));
        desk.put(delay(1, 0).by(50).waits(0, 1));
        assert!(!desk.written.iter().any(|change| matches!(change, Change::Job(..))));
        let place = if was_archived { &mut desk.archive } else { &mut desk.queue };
        place.insert(id(1), ended(1, 0));
        if was_archived {
            desk.queue.clear();
        }
        let mut next = desk.restarted();
        next.scripts.clear();
        next.settle();
        let events = ["1.0.pre (late) OP_TEST_DELAY done", "1.0.post (late) OP_TEST_DELAY succeeded pending"];
        assert_eq!(next.events(), events, "{was_archived}");
    }
}

#[test]
fn a_job_that_was_seen_is_told_after_a_kill_though_the_clock_was_set_back() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(1);
    // First started while the clock was an hour ahead.
    desk.now.time = Timestamp::from((EPOCH - 3600, 0));
    desk.put(delay(1, -3600));
    desk.queue.clear();
    desk.archive.insert(id(1), ended(1, -3590));
    let mut next = desk.restarted();
    next.scripts.clear();
    next.settle();
    next.wait(2.0);
    assert_eq!(next.events().len(), 2, "{:?}", next.events());
}

#[test]
fn what_the_feed_does_not_tell_is_not_announced() {
    let mut desk = Desk::new();
    let announced = |desk: &Desk| desk.done.iter().filter(|effect| **effect == Effect::Announce).count();
    let before = announced(&desk);
    desk.put(delay(1, 0));
    let is_written = |desk: &Desk| desk.written.iter().any(|change| matches!(change, Change::Job(..)));
    assert!(!is_written(&desk), "it would be found again");
    desk.wait(1.0);
    assert!(is_written(&desk));
    assert_eq!(announced(&desk), before, "a job that waits is no news");
    desk.put(delay(1, 0).runs(0, 0));
    assert!(announced(&desk) > before);
}

#[test]
fn a_job_above_the_serial_has_it_read_once() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(5);
    let before = desk.done.len();
    desk.put(delay(9, 0));
    desk.put(delay(9, 0).waits(0, 0));
    desk.put(delay(9, 0).runs(0, 0));
    assert_eq!(desk.done[before..].iter().filter(|effect| **effect == Effect::ReadSerial).count(), 1);
}

#[test]
fn a_serial_that_is_gone_is_looked_for_a_minute_long_if_there_was_one() {
    // A job above the serial has had it read once already.
    for (known, has_job, expected) in [(Some(5), false, 60), (None, false, 0), (None, true, 59)] {
        let mut desk = Desk::new();
        desk.scripts.clear();
        if has_job {
            desk.put(delay(1, 0));
        }
        desk.serial = known;
        desk.give(Input::Overflow);
        desk.settle();
        desk.serial = None;
        desk.give(Input::Serial(None));
        let before = desk.done.len();
        (0..200).for_each(|_| desk.wait(1.0));
        let reads = desk.done[before..].iter().filter(|effect| **effect == Effect::ReadSerial);
        assert_eq!(reads.count(), expected);
        assert_eq!(desk.engine.next_deadline(), None);
    }
}

#[test]
fn forgetting_old_history_has_no_job_read_that_was_seen_since() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.put(ended(1, 0));
    desk.put(delay(2, 0).runs(0, 0));
    let before = desk.done.len();
    desk.wait(2.0 * 3600.0);
    let forgets = |effect: &Effect| match effect {
        Effect::Commit(changes) => changes.iter().any(|change| matches!(change, Change::Prune(..))),
        _ => false,
    };
    assert!(desk.done[before..].iter().any(forgets));
    assert!(desk.reads_since(before).is_empty());
}

#[test]
fn a_process_that_was_found_dead_at_the_start_died_before() {
    let runs = delay(1, -100).by(50).runs(0, -90);
    let open = Tracked {
        received: runs.received,
        progress: Progress { next: 0, pre: true },
        executed: None,
        op_count: 1,
        process: runs.process(),
        seen: runs.received,
    };
    let mut desk = Desk::again(Remembered {
        jobs: vec![(id(1), open)],
        numbers: Numbers::new(1, []),
        next_seq: 1,
        next_run: 1,
        ..Default::default()
    });
    desk.serial = Some(1);
    desk.queue.insert(id(1), runs);
    desk.settle();
    assert_eq!(desk.events(), ["1.0.post (late) OP_TEST_DELAY disappeared pending"]);
}

#[test]
fn the_last_job_that_was_told_is_asked_of_the_history_and_nothing_is_written_for_that() {
    let mut desk = Desk::again(Remembered {
        past: Past { highest_told: 7, ..Past::default() },
        numbers: Numbers::new(7, [7]),
        next_seq: 100,
        next_run: 1,
        ..Default::default()
    });
    desk.scripts.clear();
    desk.serial = Some(7);
    let told = ended(7, -700);
    desk.history.insert(id(7), (told.received, Progress { next: 1, pre: false }));
    desk.archive.insert(id(7), told);
    desk.settle();
    let place = desk.done.iter().position(|effect| matches!(effect, Effect::Recall { .. })).unwrap();
    assert!(desk.events().is_empty());
    assert!(!matches!(desk.done[place - 1], Effect::Commit(_)), "there is nothing to write");
}

#[test]
fn what_came_while_the_serial_was_gone_is_looked_for_when_it_is_back() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = Some(5);
    desk.put(ended(5, 0));
    desk.serial = None;
    desk.give(Input::Overflow);
    desk.settle();
    desk.archive.insert(id(6), ended(6, 1));
    desk.serial = Some(6);
    desk.wait(1.0);
    assert!(desk.events().iter().any(|event| event.starts_with("6.0.post")), "{:?}", desk.events());
}

#[test]
fn a_job_that_had_begun_no_opcode_does_not_disappear_with_its_file() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50));
    desk.queue.clear();
    desk.dies(50);
    assert!(desk.events().is_empty(), "{:?}", desk.events());
}

/// A daemon whose history begins later than it did, and an archived job from between.
fn forgetful() -> Desk {
    let mut desk = Desk::again(Remembered {
        past: Past {
            forgotten: Some(Timestamp::from((EPOCH - 100, 0))),
            highest_told: 10,
            ..Past::default()
        },
        numbers: Numbers::new(10, []),
        next_seq: 100,
        next_run: 1,
        ..Default::default()
    });
    desk.scripts.clear();
    desk.serial = Some(10);
    desk.archive.insert(id(3), ended(3, -500));
    desk.settle();
    desk
}

#[test]
fn what_ended_before_the_history_begins_is_over_when_numbers_begin_again() {
    let mut desk = forgetful();
    desk.serial = Some(5);
    desk.give(Input::Overflow);
    desk.settle();
    assert!(desk.events().is_empty(), "{:?}", desk.events());
}

#[test]
fn what_ended_before_the_journal_was_written_anew_is_over_when_numbers_begin_again() {
    let mut desk = forgetful();
    desk.archive.insert(id(4), ended(4, -50));
    desk.damaged_commits = 1;
    desk.put(delay(10, 0));
    desk.serial = Some(5);
    desk.give(Input::Overflow);
    desk.settle();
    assert!(desk.events().is_empty(), "{:?}", desk.events());
}

#[test]
fn an_interrupted_first_start_still_looks_for_what_it_looked_for() {
    let mut desk = Desk::before_start(
        Default::default(),
        Remembered {
            past: Past { first_look: Some(first_look(-10)), ..Past::default() },
            numbers: Numbers::new(5000, [100]),
            next_seq: 1,
            next_run: 1,
            ..Default::default()
        },
    );
    desk.serial = Some(5000);
    desk.settle();
    assert_eq!(desk.reads_since(0), [100]);
}

#[test]
fn an_answer_to_no_scan_is_none() {
    let mut desk = Desk::new();
    desk.serial = Some(3);
    let before = desk.done.len();
    desk.give(Input::Listed { scan: 7, files: vec![(id(1), None)] });
    desk.give(Input::ScanEnded { scan: 7, result: Ok(Some(3)) });
    desk.settle();
    assert!(desk.reads_since(before).is_empty());
}

#[test]
fn a_large_file_that_was_no_good_and_is_another_now_is_no_bad_file() {
    let mut desk = Desk::new();
    desk.large.insert(id(1));
    desk.put(delay(1, 0));
    desk.give(Input::Hint(id(1)));
    let version = Version::Bad("is no job".to_owned(), None);
    desk.give(Input::LargeRead { reading: 1, id: id(1), version });
    assert!(desk.engine.status(desk.now).bad_files.is_empty());
}

#[test]
fn what_the_history_says_of_another_job_of_the_number_is_not_taken_for_this_one() {
    let all = Progress { next: 1, pre: false };
    // Of the other job it knows all, and nothing of this one; and the other way round.
    for (of_other, of_this, expected) in [(Some(all), None, 2), (None, Some(all), 0)] {
        let mut desk = Desk::again(Remembered {
            past: Past { highest_told: 10, ..Past::default() },
            numbers: Numbers::new(10, []),
            next_seq: 100,
            next_run: 1,
            ..Default::default()
        });
        desk.scripts.clear();
        desk.serial = Some(10);
        desk.settle();
        let job = ended(7, 0);
        desk.history.extend(of_this.map(|told| (id(7), (job.received, told))));
        desk.queue.insert(id(7), job);
        let received = Timestamp::from((EPOCH - 2000, 0));
        desk.give(Input::Recalled { id: id(7), received, told: Ok(of_other) });
        desk.settle();
        assert_eq!(desk.events().len(), expected, "{:?}", desk.events());
    }
}

#[test]
fn a_large_file_of_an_old_number_has_the_serial_read() {
    let mut desk = Desk::again(Remembered {
        numbers: Numbers::new(10, []),
        next_seq: 1,
        next_run: 1,
        ..Default::default()
    });
    desk.serial = Some(10);
    desk.settle();
    desk.large.insert(id(7));
    let before = desk.done.len();
    desk.put(delay(7, 0));
    assert!(desk.done[before..].contains(&Effect::ReadSerial));
}

/// The numbers that a daemon knows which starts now.
fn numbers(desk: &Desk) -> Numbers {
    let (mut highest, mut numbers) = (0, Vec::new());
    for change in &desk.written {
        match change {
            Change::Numbers(NumbersChange::All(all, holes, seen)) => {
                (highest, numbers) = (*all, [&holes[..], seen].concat());
            }
            Change::Numbers(NumbersChange::SeenAbove(seen)) => numbers.extend(seen),
            _ => {}
        }
    }
    Numbers::new(highest, numbers)
}

#[test]
fn what_was_told_above_a_serial_that_cannot_be_read_is_not_told_again_though_the_history_is_lost() {
    for is_damaged in [false, true] {
        let mut desk = Desk::new();
        desk.serial = None;
        desk.put(ended(2, 0));
        let job = desk.queue.remove(&id(2)).unwrap();
        desk.archive.insert(id(2), job.clone());
        desk.give(Input::Hint(id(2)));
        desk.settle();
        assert_eq!(desk.events().len(), 2);
        // What is written anew has no history.
        desk.journal_is_damaged = is_damaged;
        desk.put(delay(3, 0));
        let last_written = Some(Timestamp::from((EPOCH + 1, 0)));
        let (numbers, past) = (numbers(&desk), Past { last_written, ..Past::default() });
        let remembered = Remembered { numbers, past, next_seq: 10, next_run: 10, ..Default::default() };
        let mut desk = Desk::again(remembered.clone());
        desk.serial = Some(2);
        desk.archive.insert(id(2), job);
        desk.settle();
        assert!(desk.events().is_empty(), "{:?}", desk.events());
        // Another one, of a cluster that was made again.
        let mut desk = Desk::again(remembered);
        desk.serial = Some(2);
        desk.archive.insert(id(2), ended(2, 10));
        desk.settle();
        assert_eq!(desk.events().len(), 2);
    }
}

#[test]
fn a_first_start_that_cannot_read_the_serial_looks_for_what_is_missing_once_it_can() {
    let past = Past { first_look: Some(first_look(-100)), ..Past::default() };
    let numbers = Numbers::new(1, []);
    let remembered = Remembered { past, numbers, next_seq: 1, next_run: 1, ..Default::default() };
    let mut desk = Desk::before_start(Default::default(), remembered);
    // Job 2 came and was archived while no daemon ran.
    desk.serial = Some(2);
    desk.archive.insert(id(2), ended(2, -50));
    while desk.scans.is_empty() {
        desk.give(Input::Quiet);
    }
    let scan = desk.scans.pop().unwrap();
    desk.give(Input::ScanEnded { scan, result: Ok(None) });
    desk.settle();
    desk.serial = Some(3);
    desk.put(delay(3, 0));
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
}

/// Gives it time to do what it can, without an answer to what it has a thread do.
fn goes_on(desk: &mut Desk) {
    (0..50).for_each(|_| desk.give(Input::Quiet));
}

/// A daemon that has told a job of a cluster that was made again, before it noticed that numbers
/// had begun again, so that the number is to be looked for. An older event is under way.
fn told_before_numbers_began_again() -> Desk {
    let mut desk = Desk::new();
    desk.serial = Some(3);
    desk.put(ended(3, 0));
    desk.scripts.clear();
    desk.put(delay(1, 0));
    desk.queue.clear();
    desk.pass(100.0);
    desk.archive.insert(id(1), ended(1, 50));
    desk.give(Input::Hint(id(1)));
    goes_on(&mut desk);
    assert!(desk.log.iter().any(|line| line.contains("begin again")), "{:?}", desk.log);
    assert_eq!(desk.events().len(), 4, "{:?}", desk.events());
    // And one that came after that.
    desk.pass(100.0);
    desk.archive.insert(id(2), ended(2, 150));
    desk
}

#[test]
fn what_was_told_before_numbers_began_again_is_not_told_again_though_a_later_daemon_loses_the_history() {
    let mut desk = told_before_numbers_began_again().restarted();
    desk.damaged_commits = 1;
    desk.settle();
    let told: Vec<_> = desk.events().into_iter().filter(|event| !event.starts_with('3')).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|event| event.starts_with("2.0")), "{told:?}");
}

#[test]
fn what_was_told_before_an_earlier_daemon_lost_the_history_is_not_told_again() {
    let mut desk = told_before_numbers_began_again();
    desk.damaged_commits = 1;
    desk.queue.insert(id(3), delay(3, 190));
    desk.give(Input::Hint(id(3)));
    goes_on(&mut desk);
    let mut desk = desk.restarted();
    assert!(!desk.history.contains_key(&id(1)) && desk.history.contains_key(&id(3)));
    desk.settle();
    let told = desk.events();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|event| event.starts_with("2.0")), "{told:?}");
}

#[test]
fn a_job_whose_file_is_gone_is_not_forgotten_for_one_of_an_older_cluster_in_the_archive() {
    let mut desk = a_cluster_that_is_gone();
    desk.archive.insert(id(1), ended(1, 0));
    desk.alive.insert(50);
    desk.put(delay(1, 50).by(50));
    desk.queue.clear();
    desk.give(Input::Hint(id(1)));
    desk.settle();
    // Its process goes on, and writes its file again, while no daemon runs.
    desk.archive.insert(id(1), ended(1, 50));
    let mut desk = desk.restarted();
    desk.settle();
    assert_eq!(desk.events().len(), 2, "{:?}", desk.events());
}

#[test]
fn of_what_is_to_run_again_a_lost_history_had_told_more() {
    let mut desk = Desk::again(Remembered {
        past: Past { lost: Some(Timestamp::from((EPOCH - 100, 0))), highest_told: 10, ..Past::default() },
        numbers: Numbers::new(10, []),
        next_seq: 100,
        next_run: 1,
        ..Default::default()
    });
    desk.scripts.clear();
    desk.serial = Some(10);
    let pre = Progress { next: 0, pre: true };
    // Of the second the post came after the loss.
    for job in [ended(7, -500), delay(8, -500).runs(0, -500).ends(0, Status::Success, -50)] {
        desk.history.insert(job.id, (job.received, pre));
        desk.queue.insert(job.id, job);
    }
    desk.settle();
    assert_eq!(desk.events(), ["8.0.post (late) OP_TEST_DELAY succeeded done"]);
}

#[test]
fn a_large_job_of_a_cluster_made_again_that_went_while_it_was_read_is_told() {
    let mut desk = a_cluster_that_is_gone();
    desk.large.insert(id(1));
    for _ in 0..2 {
        desk.give(Input::Hint(id(1)));
        desk.settle();
    }
    desk.large.clear();
    let job = ended(1, 50);
    desk.archive.insert(id(1), job.clone());
    desk.give(Input::LargeRead { reading: 1, id: id(1), version: Version::Archived(&job) });
    desk.settle();
    assert_eq!(desk.events().len(), 6, "{:?}", desk.events());
}

#[test]
fn what_was_told_above_the_serial_is_not_told_again_though_the_history_is_lost_before_it_is_looked_at() {
    let (numbers, past) = (Numbers::new(1, [2]), Past { highest_told: 2, ..Past::default() });
    let mut desk = Desk::again(Remembered { numbers, past, next_seq: 5, next_run: 5, ..Default::default() });
    desk.serial = Some(2);
    let told = ended(2, -50);
    desk.history.insert(id(2), (told.received, Progress { next: 1, pre: false }));
    desk.archive.insert(id(2), told);
    desk.unreadable.insert(id(2));
    desk.settle();
    desk.damaged_commits = 1;
    desk.put(delay(3, 0));
    let mut desk = desk.restarted();
    desk.unreadable.clear();
    desk.settle();
    assert!(desk.events().is_empty(), "{:?}", desk.events());
}

#[test]
fn what_was_told_above_the_serial_is_not_told_again_though_a_later_daemon_loses_the_history() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.serial = None;
    desk.put(ended(2, 0));
    let job = desk.queue.remove(&id(2)).unwrap();
    desk.archive.insert(id(2), job);
    desk.give(Input::Hint(id(2)));
    desk.settle();
    assert_eq!(desk.events().len(), 2);
    // The next daemon can read the serial, and not the job; the one after it loses the history.
    let mut desk = desk.restarted();
    desk.serial = Some(2);
    desk.unreadable.insert(id(2));
    desk.settle();
    let mut desk = desk.restarted();
    desk.put(delay(3, 0));
    desk.wait(2.0);
    desk.damaged_commits = 1;
    desk.put(delay(4, 0));
    desk.wait(2.0);
    assert_eq!(desk.damaged_commits, 0);
    let mut desk = desk.restarted();
    desk.unreadable.clear();
    desk.settle();
    assert!(desk.events().is_empty(), "{:?}", desk.events());
}
