//! What the record of an event tells (design, section 13).

use ganeti_hookd::engine::change::{Change, Notice, Past, Remembered};
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::numbers::Numbers;
use ganeti_hookd::ganeti::event::{Event, EventRecord, Fate};
use ganeti_hookd::ganeti::job::{Status, Timestamp};
use serde_json::{Value, json};

use crate::desk::{CLUSTER, Desk, EPOCH, HERE, Life, THERE, delay, id, job};

/// The records of all events, as far as they are not about holds, which the journal adds.
fn records(desk: &Desk) -> Vec<Value> {
    let events = desk.written.iter().filter_map(|change| match change {
        Change::Event(seq, event, state) => Some((*seq, event, state.as_str())),
        _ => None,
    });
    let record = |(seq, event, state): (i64, &Event, &str)| {
        serde_json::to_value(EventRecord::new(seq, event, Fate { state, ..Fate::default() })).unwrap()
    };
    events.map(record).collect()
}

fn times(record: &Value) -> [Option<f64>; 4] {
    ["executed_at", "start_delay", "lock_wait", "execution"].map(|key| record[key].as_f64())
}

/// Seconds since the epoch.
fn at(after: i64) -> Option<f64> {
    Some((EPOCH + after) as f64)
}

fn notices(desk: &Desk) -> Vec<Notice> {
    let notice = |change: &Change| match change {
        Change::Notice(notice) => Some(notice.clone()),
        _ => None,
    };
    desk.written.iter().filter_map(notice).collect()
}

#[test]
fn an_event_has_the_same_name_everywhere_and_another_in_another_cluster() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 0).ends(0, Status::Error, 0));
    let received = (EPOCH * 1_000_000) + 1;
    assert_eq!(records(&desk)[0]["id"], format!("{CLUSTER}/{received}/1.0.post"));
    // A configuration that cannot be read does not make it another cluster.
    desk.give(Input::Cluster(None));
    desk.put(delay(2, 0).waits(0, 0).ends(0, Status::Error, 0));
    assert!(records(&desk)[1]["id"].as_str().unwrap().starts_with(CLUSTER));
}

#[test]
fn a_retry_does_not_change_when_an_opcode_began_to_execute() {
    let mut desk = Desk::new();
    let begun = delay(1, 0).waits(0, 2).runs(0, 5);
    desk.put(begun.clone());
    desk.end("1.0.pre");
    let mut waits_again = begun.clone();
    waits_again.ops[0].status = Status::Waiting;
    desk.put(waits_again.clone());
    desk.put(waits_again.runs(0, 20).ends(0, Status::Success, 30));
    let [pre, post] = &records(&desk)[..] else { panic!() };
    assert_eq!(times(pre), [at(5), Some(2.0 - 1e-6), Some(3.0), None]);
    assert_eq!(times(post), [at(5), Some(2.0 - 1e-6), Some(3.0), Some(25.0)]);
}

#[test]
fn it_does_not_change_through_a_restart_either() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 2).runs(0, 5));
    let jobs = desk.written.iter().filter_map(|change| match change {
        Change::Job(id, tracked) => Some((*id, tracked.clone())),
        _ => None,
    });
    let remembered = Remembered {
        jobs: jobs.collect(),
        numbers: Numbers::new(1, []),
        next_seq: 2,
        next_run: 2,
        ..Default::default()
    };
    let mut desk = Desk::again(remembered);
    desk.serial = Some(1);
    desk.queue.insert(id(1), delay(1, 0).waits(0, 2).runs(0, 20).ends(0, Status::Success, 30));
    desk.settle();
    assert_eq!(times(&records(&desk)[0]), [at(5), Some(2.0 - 1e-6), Some(3.0), Some(25.0)]);
}

#[test]
fn a_later_opcode_is_delayed_since_the_end_of_the_one_before() {
    let mut desk = Desk::new();
    let codes = ["OP_TEST_DELAY", "OP_TAGS_SET"];
    let first = job(1, &codes, 0).waits(0, 1).runs(0, 2).ends(0, Status::Success, 10);
    desk.put(first.waits(1, 14).runs(1, 15).ends(1, Status::Success, 16));
    let told: Vec<_> = records(&desk).iter().map(|record| record["start_delay"].clone()).collect();
    assert_eq!(told, [json!(1.0 - 1e-6), json!(1.0 - 1e-6), json!(4.0), json!(4.0)]);
}

#[test]
fn what_has_disappeared_has_no_end_also_when_its_file_is_gone() {
    for is_gone in [false, true] {
        let mut desk = Desk::new();
        desk.alive.insert(50);
        let job = delay(1, 0).by(50).waits(0, 1).runs(0, 3);
        desk.put(job.clone());
        desk.end("1.0.pre");
        if is_gone {
            desk.queue.remove(&id(1));
        }
        desk.dies(50);
        let post = &records(&desk)[1];
        assert_eq!((&post["status"], &post["ended"]), (&json!("disappeared"), &Value::Null), "{is_gone}");
        assert_eq!(times(post), [at(3), Some(1.0 - 1e-6), Some(2.0), None], "{is_gone}");
        assert!(post["id"].as_str().unwrap().starts_with(CLUSTER));
    }
}

#[test]
fn how_long_a_job_stood_still_is_written_with_what_ended_its_hold() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).waits(0, 0));
    desk.put(delay(1, 0).by(50).runs(0, 0));
    assert!(desk.stands(50));
    desk.wait(1.5);
    let commits = |desk: &Desk| {
        let commits = desk.done.iter().filter_map(|effect| match effect {
            ganeti_hookd::engine::effect::Effect::Commit(changes) => Some(changes.clone()),
            _ => None,
        });
        commits.collect::<Vec<_>>()
    };
    let before = commits(&desk).len();
    desk.end("1.0.pre");
    let last = &commits(&desk)[before..];
    assert_eq!(last.len(), 1, "no further commit: {last:?}");
    let held = last[0].iter().find_map(|change| match change {
        Change::Held(key, received, held) => Some((key.to_string(), *received, held.as_secs_f64())),
        _ => None,
    });
    assert_eq!(held, Some(("1.0.pre".to_owned(), Timestamp::from((EPOCH, 1)), 1.5)));
}

#[test]
fn the_feed_tells_of_a_takeover_and_of_a_time_nobody_watched() {
    let desk = Desk::new();
    assert_eq!(notices(&desk), [], "a first start follows nothing");
    let since = Some(Timestamp::from((EPOCH - 60, 0)));
    let past = Past { last_written: since, ..Past::default() };
    let mut desk = Desk::again(Remembered { past, next_seq: 1, next_run: 1, ..Default::default() });
    desk.settle();
    assert_eq!(notices(&desk), [Notice::Gap { time: EPOCH as f64, since: Some((EPOCH - 60) as f64) }]);
    for (master, more) in [(THERE, 0), (HERE, 1), (HERE, 1)] {
        desk.master = Some(master);
        desk.give(Input::ClusterChanged);
        desk.settle();
        assert_eq!(notices(&desk).len(), 1 + more, "{master}");
    }
    assert_eq!(notices(&desk)[1], Notice::Takeover { time: EPOCH as f64, node: HERE.to_owned() });
}
