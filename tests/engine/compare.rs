//! What a scan has not found is looked for a piece at a time: whatever happens between two pieces, nothing
//! is lost, nothing is over too soon, and live jobs come first.

use ganeti_hookd::engine::change::{Change, Remembered};
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::numbers::Numbers;
use ganeti_hookd::ganeti::job::Status;

use crate::desk::{Desk, HERE, Life, THERE, delay, ended, id, stamp};

/// Six open jobs are known.
fn six_jobs() -> Desk {
    let mut desk = Desk::new().in_pieces_of(1);
    desk.scripts.clear();
    desk.serial = Some(6);
    (1..=6).for_each(|n| desk.put(delay(n, 0)));
    desk.give(Input::Overflow);
    desk.settle();
    desk
}

/// They end and are archived, and nobody tells.
fn leave_unseen(desk: &mut Desk, jobs: impl IntoIterator<Item = i64>) {
    for n in jobs {
        desk.queue.remove(&id(n));
        desk.archive.insert(id(n), delay(n, 0).waits(0, 1).ends(0, Status::Error, 2));
    }
}

/// Has the queue listed as it is now, and goes on until so many pieces have been compared.
fn list(desk: &mut Desk, pieces: usize) {
    while desk.scans.is_empty() {
        desk.give(Input::Quiet);
    }
    let scan = desk.scans.pop().unwrap();
    let files = desk.queue.iter().map(|(id, job)| (*id, stamp(job))).collect();
    desk.give(Input::Listed { scan, files });
    desk.give(Input::ScanEnded { scan, result: Ok(desk.serial) });
    (0..pieces).for_each(|_| desk.give(Input::Quiet));
    assert!(desk.engine.is_comparing());
}

/// Hints are lost, and what was known is being compared.
fn compare(desk: &mut Desk, pieces: usize) {
    desk.give(Input::Overflow);
    list(desk, pieces);
}

/// Events of these jobs that have been told: each post once.
fn told(desk: &Desk) -> Vec<i64> {
    let mut told: Vec<i64> =
        desk.events().iter().filter_map(|event| event.split('.').next()?.parse().ok()).collect();
    told.sort_unstable();
    told
}

#[test]
fn nothing_that_was_found_is_looked_at_before_all_is_compared() {
    let mut desk = six_jobs();
    leave_unseen(&mut desk, 1..=6);
    let before = desk.done.len();
    compare(&mut desk, 1);
    while desk.engine.is_comparing() {
        assert!(desk.engine.has_more() && !desk.engine.is_at_rest() && desk.reads_since(before).is_empty());
        desk.give(Input::Quiet);
    }
    desk.settle();
    assert_eq!(desk.reads_since(before), [1, 2, 3, 4, 5, 6], "as things happened");
    assert_eq!(told(&desk), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_scan_is_counted_when_all_is_compared() {
    let mut desk = six_jobs();
    let scans = |desk: &Desk| desk.engine.status(desk.now).counters.scans;
    let before = scans(&desk);
    compare(&mut desk, 3);
    assert_eq!(scans(&desk), before);
    desk.settle();
    assert_eq!(scans(&desk), before + 1);
}

#[test]
fn a_live_job_comes_between_two_pieces_and_is_not_looked_for_after_it() {
    let mut desk = six_jobs();
    leave_unseen(&mut desk, 1..=6);
    compare(&mut desk, 2);
    let before = desk.done.len();
    desk.queue.insert(id(7), delay(7, 0).waits(0, 1).ends(0, Status::Error, 2));
    desk.serial = Some(7);
    desk.give(Input::Hint(id(7)));
    desk.give(Input::Quiet);
    assert_eq!(desk.reads_since(before), [7]);
    assert!(desk.engine.is_comparing());
    desk.settle();
    assert_eq!(desk.reads_since(before), [7, 1, 2, 3, 4, 5, 6]);
    assert_eq!(told(&desk), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_job_that_leaves_between_two_pieces_is_told_of_and_not_looked_for() {
    for left in [1, 6] {
        let mut desk = six_jobs();
        compare(&mut desk, 2);
        let before = desk.done.len();
        leave_unseen(&mut desk, [left]);
        desk.give(Input::Hint(id(left)));
        desk.settle();
        assert_eq!(desk.reads_since(before).iter().filter(|n| **n == left).count(), 1);
        assert_eq!(told(&desk), [left]);
    }
}

#[test]
fn a_job_that_is_looked_at_anew_between_two_pieces_is_told_once() {
    let mut desk = six_jobs();
    leave_unseen(&mut desk, [2, 5]);
    compare(&mut desk, 3);
    for n in [2, 5] {
        desk.give(Input::Hint(id(n)));
        desk.give(Input::Quiet);
    }
    desk.settle();
    assert_eq!(told(&desk), [2, 5]);
    assert_eq!(desk.engine.status(desk.now).jobs_open, 4);
}

#[test]
fn when_hints_are_lost_between_two_pieces_all_is_compared_once_more() {
    for left in 1..=6 {
        for lost in [Input::Overflow, Input::WatchLost] {
            let mut desk = six_jobs();
            compare(&mut desk, 3);
            // It was listed, whether it has been compared or not.
            leave_unseen(&mut desk, [left]);
            desk.give(lost);
            assert!(desk.engine.is_comparing());
            desk.settle();
            assert_eq!(told(&desk), [left]);
        }
    }
}

#[test]
fn another_scan_begins_when_all_known_jobs_are_compared() {
    let mut desk = six_jobs();
    compare(&mut desk, 3);
    desk.give(Input::Overflow);
    for _ in 3..6 {
        assert!(desk.scans.is_empty());
        desk.give(Input::Quiet);
    }
    while desk.scans.is_empty() {
        assert!(!desk.engine.is_at_rest());
        desk.give(Input::Quiet);
    }
}

#[test]
fn nobody_is_busy_while_holes_wait_for_the_journal_and_a_scan_for_the_queue() {
    let mut desk = six_jobs();
    desk.serial = None;
    desk.give(Input::Overflow);
    desk.settle();
    desk.disk_is_full = true;
    desk.put(ended(7, 0));
    desk.queue_is_lost = true;
    desk.give(Input::Overflow);
    desk.settle();
    desk.serial = Some(8);
    desk.give(Input::Serial(Some(8)));
    desk.settle();
    assert!(desk.engine.is_comparing());
    for _ in 0..5 {
        desk.wait(0.7);
        let next = desk.engine.next_deadline();
        assert!(next.is_none_or(|next| next > desk.now.steady), "{next:?} {:?}", desk.now.steady);
    }
}

#[test]
fn what_a_scan_says_after_its_end_is_nothing() {
    let mut desk = six_jobs();
    leave_unseen(&mut desk, [6]);
    desk.give(Input::Overflow);
    desk.give(Input::Quiet);
    let scan = desk.scans[0];
    list(&mut desk, 3);
    desk.give(Input::Listed { scan, files: vec![(id(6), None)] });
    desk.give(Input::ScanEnded { scan, result: Err("EIO".to_owned()) });
    desk.settle();
    assert_eq!(told(&desk), [6]);
}

#[test]
fn a_node_that_becomes_master_between_two_pieces_compares_all_once_more_before_its_pass_is_over() {
    let mut desk = six_jobs();
    desk.master = Some(THERE);
    desk.give(Input::ClusterChanged);
    desk.settle();
    compare(&mut desk, 3);
    leave_unseen(&mut desk, [1, 6]);
    desk.master = Some(HERE);
    desk.give(Input::ClusterChanged);
    desk.settle();
    assert_eq!(told(&desk), [1, 6]);
    assert!(desk.events().iter().all(|event| event.contains("(late)")), "{:?}", desk.events());
}

#[test]
fn a_node_that_is_master_no_more_between_two_pieces_notices_and_begins_nothing() {
    let mut desk = six_jobs();
    desk.scripts = vec!["10-a"];
    leave_unseen(&mut desk, [1, 6]);
    compare(&mut desk, 3);
    desk.master = Some(THERE);
    desk.give(Input::ClusterChanged);
    desk.settle();
    assert_eq!((told(&desk), desk.ran.len()), (vec![1, 6], 0));
}

#[test]
fn numbers_that_begin_again_between_two_pieces_are_all_looked_for() {
    // Among known jobs; among the holes, after the new one's number.
    for pieces in [3, 8] {
        let mut desk = six_jobs();
        desk.serial = Some(9);
        desk.give(Input::Overflow);
        desk.settle();
        compare(&mut desk, pieces);
        // The cluster is made again; its jobs come and are archived, and only the serial tells.
        (1..=6).for_each(|n| drop(desk.queue.remove(&id(n))));
        let again = |n| delay(n, 100).waits(0, 101).ends(0, Status::Error, 102);
        desk.archive.extend([1, 2, 7].map(|n| (id(n), again(n))));
        desk.pass(200.0);
        desk.serial = Some(7);
        desk.give(Input::Serial(desk.serial));
        desk.settle();
        assert_eq!(told(&desk), [1, 2, 7], "after {pieces} pieces");
    }
}

#[test]
fn a_serial_that_is_known_at_last_has_all_holes_looked_for() {
    let mut desk = six_jobs();
    desk.serial = None;
    compare(&mut desk, 3);
    leave_unseen(&mut desk, 7..=8);
    desk.give(Input::Serial(Some(8)));
    let before = desk.done.len();
    assert!(desk.engine.has_more());
    desk.settle();
    assert_eq!(desk.reads_since(before), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(told(&desk), [7, 8]);
}

#[test]
fn a_first_look_is_over_and_the_daemon_ready_when_all_is_compared() {
    let mut desk = Desk::before_start(Default::default(), Remembered::default()).in_pieces_of(1);
    desk.serial = Some(6);
    (1..=6).for_each(|n| drop(desk.queue.insert(id(n), ended(n, -100))));
    list(&mut desk, 0);
    let begun = |desk: &Desk| desk.written.iter().any(|change| matches!(change, Change::Begun(_)));
    while desk.engine.is_comparing() {
        assert!(!begun(&desk) && !desk.is_ready);
        desk.give(Input::Quiet);
    }
    desk.settle();
    assert!(begun(&desk) && desk.is_ready);
    assert!(desk.events().is_empty());
}

#[test]
fn a_daemon_that_dies_between_two_pieces_leaves_nothing_to_be_forgotten() {
    let mut desk = six_jobs();
    leave_unseen(&mut desk, 1..=6);
    compare(&mut desk, 3);
    let mut desk = desk.restarted().in_pieces_of(1);
    desk.settle();
    assert_eq!(told(&desk), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn while_the_journal_cannot_be_written_nothing_is_compared_and_nobody_is_busy() {
    let mut desk = six_jobs();
    leave_unseen(&mut desk, 1..=6);
    compare(&mut desk, 3);
    desk.disk_is_full = true;
    desk.queue.insert(id(7), ended(7, 0));
    desk.give(Input::Hint(id(7)));
    for _ in 0..100 {
        desk.give(Input::Quiet);
    }
    assert!(desk.engine.is_comparing() && !desk.engine.has_more());
    desk.disk_is_full = false;
    desk.wait(2.0);
    assert!(!desk.engine.is_comparing());
    assert_eq!(told(&desk), [1, 2, 3, 4, 5, 6, 7, 7]);
}

#[test]
fn a_daemon_that_is_told_to_stop_between_two_pieces_compares_no_more() {
    let mut desk = six_jobs();
    compare(&mut desk, 3);
    desk.give(Input::Stop);
    desk.settle();
    assert!(desk.engine.is_done() && desk.engine.is_comparing());
}

/// However many jobs have left, of each piece so many at most are found.
#[test]
fn holes_are_gone_through_in_pieces() {
    let numbers = Numbers::new(1000, 1..=1000);
    let mut desk = Desk::again(Remembered { numbers, next_seq: 1, next_run: 1, ..Default::default() });
    desk.serial = Some(1000);
    desk.settle();
    let mut desk = desk.in_pieces_of(100);
    let before = desk.done.len();
    compare(&mut desk, 0);
    let mut pieces = 0;
    while desk.engine.is_comparing() {
        desk.give(Input::Quiet);
        pieces += 1;
    }
    assert_eq!(pieces, 11, "no job is known, and there are ten pieces of holes");
    desk.settle();
    assert_eq!(desk.reads_since(before).len(), 1000);
}
