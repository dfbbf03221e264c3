//! What Prometheus is told is what happened, in series that stay few.

use std::collections::BTreeSet;

use ganeti_hookd::engine::change::{Change, EventState, Remembered, Undelivered};
use ganeti_hookd::engine::input::{Input, Past};
use ganeti_hookd::engine::metrics::families::{FAMILIES, Kind};
use ganeti_hookd::engine::metrics::labelled::LABELS_MAX;
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::engine::plan::{Plan, Target};
use ganeti_hookd::ganeti::job::{Status, Timestamp};
use ganeti_hookd::ganeti::opcodes::View;

use crate::desk::{Desk, EPOCH, HERE, Life, delay, job};

/// The value of a series.
fn value(desk: &Desk, series: &str) -> Option<f64> {
    let (text, start) = (desk.metrics(), format!("ganeti_hookd_{series} "));
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

#[track_caller]
fn assert_values(desk: &Desk, values: &[(&str, f64)]) {
    for (series, expected) in values {
        assert_eq!(value(desk, series), Some(*expected), "{series} in\n{}", desk.metrics());
    }
}

/// This one is master now.
fn hears(desk: &mut Desk, master: &'static str) {
    desk.master = Some(master);
    desk.give(Input::ClusterChanged);
    desk.settle();
}

/// An outcome that took so long.
fn took(seconds: f64, code: i32) -> Outcome {
    Outcome { code: Some(code), seconds, ..Outcome::default() }
}

#[test]
fn an_opcode_is_counted_and_timed_once() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 2));
    assert_eq!(value(&desk, "opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"succeeded\"}"), None);
    assert_values(
        &desk,
        &[
            ("jobs{state=\"waiting\"}", 1.0),
            ("jobs{state=\"queued\"}", 0.0),
            ("oldest_waiting_timestamp_seconds", (EPOCH + 2) as f64),
        ],
    );
    desk.pass(100.0);
    desk.put(delay(1, 0).waits(0, 2).runs(0, 72));
    assert_values(
        &desk,
        &[
            ("opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"succeeded\"}", 0.0),
            ("opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"failed\"}", 0.0),
            ("opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"disappeared\"}", 0.0),
            ("opcode_start_delay_seconds_count", 1.0),
            ("opcode_lock_wait_seconds_sum{op_code=\"OP_TEST_DELAY\"}", 70.0),
            ("opcode_lock_wait_seconds_bucket{op_code=\"OP_TEST_DELAY\",le=\"60\"}", 0.0),
            ("opcode_lock_wait_seconds_bucket{op_code=\"OP_TEST_DELAY\",le=\"300\"}", 1.0),
            ("opcode_execution_seconds_count{op_code=\"OP_TEST_DELAY\"}", 0.0),
            ("hook_delay_seconds_sum{phase=\"pre\"}", 28.0),
            ("jobs{state=\"running\"}", 1.0),
        ],
    );
    assert_eq!(value(&desk, "oldest_waiting_timestamp_seconds"), None);
    desk.end_with("1.0.pre", took(0.25, 0));
    desk.put(delay(1, 0).waits(0, 2).runs(0, 72).ends(0, Status::Success, 97));
    desk.end_with("1.0.post", took(3.0, 1));
    assert_values(
        &desk,
        &[
            ("opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"succeeded\"}", 1.0),
            ("opcode_lock_wait_seconds_count{op_code=\"OP_TEST_DELAY\"}", 1.0),
            ("opcode_start_delay_seconds_count", 1.0),
            ("opcode_execution_seconds_sum{op_code=\"OP_TEST_DELAY\"}", 25.0),
            ("last_success_timestamp_seconds{op_code=\"OP_TEST_DELAY\"}", (EPOCH + 97) as f64),
            ("last_event_timestamp_seconds", (EPOCH + 100) as f64),
            ("hook_delay_seconds_sum{phase=\"post\"}", 3.0),
            ("hook_runs_total{phase=\"pre\",script=\"10-a\",result=\"succeeded\"}", 1.0),
            ("hook_runs_total{phase=\"pre\",script=\"10-a\",result=\"failed\"}", 0.0),
            ("hook_runs_total{phase=\"post\",script=\"10-a\",result=\"failed\"}", 1.0),
            ("hook_seconds_sum{phase=\"pre\",script=\"10-a\"}", 0.25),
            ("hook_seconds_bucket{phase=\"post\",script=\"10-a\",le=\"2\"}", 0.0),
            ("jobs{state=\"ended\"}", 1.0),
        ],
    );
}

#[test]
fn what_failed_before_it_executed_waited_to_start_and_did_not_execute() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 4).ends(0, Status::Error, 5));
    assert_values(
        &desk,
        &[
            ("opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"failed\"}", 1.0),
            ("opcode_start_delay_seconds_bucket{le=\"10\"}", 1.0),
            ("opcode_lock_wait_seconds_count{op_code=\"OP_TEST_DELAY\"}", 0.0),
            ("opcode_execution_seconds_count{op_code=\"OP_TEST_DELAY\"}", 0.0),
        ],
    );
    assert_eq!(value(&desk, "last_success_timestamp_seconds{op_code=\"OP_TEST_DELAY\"}"), None);
}

#[test]
fn only_the_first_script_of_an_event_tells_how_late_hooks_are() {
    let mut desk = Desk::new();
    desk.scripts.push("20-b");
    desk.put(delay(1, 0).runs(0, 0));
    desk.pass(50.0);
    desk.end("1.0.pre");
    desk.end("1.0.pre");
    assert_values(
        &desk,
        &[("hook_delay_seconds_count{phase=\"pre\"}", 1.0), ("hook_delay_seconds_sum{phase=\"pre\"}", 0.0)],
    );
}

#[test]
fn a_death_is_counted_with_how_long_it_took_to_notice() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    desk.unreadable.insert(1.try_into().unwrap());
    desk.dies(50);
    assert_values(&desk, &[("death_notice_seconds_count", 0.0)]);
    desk.unreadable.clear();
    desk.wait(1.5);
    assert_values(
        &desk,
        &[
            ("death_notice_seconds_count", 1.0),
            ("death_notice_seconds_sum", 1.5),
            ("opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"disappeared\"}", 1.0),
        ],
    );
    // One whose process ends when it has written its last version has not died.
    desk.alive.insert(60);
    desk.put(delay(2, 1).by(60).runs(0, 1));
    desk.queue.insert(2.try_into().unwrap(), delay(2, 1).by(60).runs(0, 1).ends(0, Status::Success, 2));
    desk.dies(60);
    assert_values(&desk, &[("death_notice_seconds_count", 1.0)]);
}

#[test]
fn a_hold_is_timed_by_how_it_was() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).waits(0, 0));
    desk.put(delay(1, 0).by(50).runs(0, 0));
    desk.pass(4.0);
    assert_values(&desk, &[("oldest_held_timestamp_seconds", EPOCH as f64), ("jobs_held", 1.0)]);
    desk.end("1.0.pre");
    assert_values(
        &desk,
        &[
            ("hold_seconds_sum{how=\"best-effort\"}", 4.0),
            ("hold_seconds_count{how=\"exact\"}", 0.0),
            ("hold_seconds_count{how=\"late\"}", 0.0),
            ("holds_total", 1.0),
        ],
    );
    assert_eq!(value(&desk, "oldest_held_timestamp_seconds"), None);
}

#[test]
fn the_history_tells_what_ended_well_before_the_start() {
    let mut desk = Desk::new();
    let successes = vec![
        ("OP_CLUSTER_VERIFY".to_owned(), Some(Timestamp::from((EPOCH - 3600, 0)))),
        ("OP_TEST_DELAY".to_owned(), None),
    ];
    let last_event = Some(Timestamp::from((EPOCH - 60, 0)));
    desk.give(Input::Recollected(Past { successes, last_event }));
    assert_values(
        &desk,
        &[
            ("last_success_timestamp_seconds{op_code=\"OP_CLUSTER_VERIFY\"}", (EPOCH - 3600) as f64),
            ("last_event_timestamp_seconds", (EPOCH - 60) as f64),
            ("opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"disappeared\"}", 0.0),
            ("start_time_seconds", EPOCH as f64),
        ],
    );
    // It is told late, and what has happened since is newer.
    desk.put(job(1, &["OP_CLUSTER_VERIFY"], 0).runs(0, 1).ends(0, Status::Success, 2));
    let old =
        Past { successes: vec![("OP_CLUSTER_VERIFY".to_owned(), Some(Timestamp::from((1, 0))))], last_event };
    desk.give(Input::Recollected(old));
    assert_values(
        &desk,
        &[("last_success_timestamp_seconds{op_code=\"OP_CLUSTER_VERIFY\"}", (EPOCH + 2) as f64)],
    );
}

#[test]
fn opcodes_are_counted_by_the_node_that_runs_their_hooks() {
    let mut desk = Desk::new();
    hears(&mut desk, "node2.example.com");
    desk.put(job(1, &["OP_CLUSTER_VERIFY"], 0).runs(0, 0).ends(0, Status::Success, 1));
    let counted = "opcodes_total{op_code=\"OP_CLUSTER_VERIFY\",status=\"succeeded\"}";
    let success = "last_success_timestamp_seconds{op_code=\"OP_CLUSTER_VERIFY\"}";
    // The new master must not say that nothing has ended well for long.
    assert_values(&desk, &[(counted, 0.0), (success, (EPOCH + 1) as f64), ("is_master", 0.0)]);
    hears(&mut desk, HERE);
    assert_values(&desk, &[(counted, 1.0), ("takeovers_total", 1.0), ("is_master", 1.0)]);
}

#[test]
fn what_was_this_nodes_before_and_is_again_is_counted_once() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0).ends(0, Status::Success, 1));
    // The pre's script runs; the post waits, is left to the other, and comes back.
    hears(&mut desk, "node2.example.com");
    hears(&mut desk, HERE);
    assert_values(
        &desk,
        &[
            ("opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"succeeded\"}", 1.0),
            ("opcode_execution_seconds_count{op_code=\"OP_TEST_DELAY\"}", 1.0),
        ],
    );
}

#[test]
fn a_node_that_has_no_address_is_a_request_that_failed_and_no_script() {
    let mut desk = Desk::new();
    desk.scripts.clear();
    desk.put(job(1, &["OP_INSTANCE_STARTUP"], 0).runs(0, 0));
    let seq = desk.plans.remove(0).seq;
    let view = View { nodes: vec![HERE.to_owned(), "node2".to_owned()], ..View::default() };
    let targets = vec![Target { node: "node2".to_owned(), address: None }];
    desk.give(Input::Planned { seq, plan: Plan { view, targets }, problem: None });
    desk.settle();
    assert_values(&desk, &[("node_requests_total{node=\"node2\",result=\"failed\"}", 1.0)]);
    assert!(!desk.metrics().contains("hook_runs_total{"), "{}", desk.metrics());
}

#[test]
fn what_an_earlier_life_counted_is_not_counted_again() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0).ends(0, Status::Success, 1));
    let events = desk.written.iter().filter_map(|change| match change {
        Change::Event(seq, event, EventState::Pending) => Some((*seq, event.clone())),
        _ => None,
    });
    let undelivered = events
        .map(|(seq, event)| Undelivered { seq, event, runs: Default::default(), plan: None, rerun: None })
        .collect();
    let mut next = Desk::again(Remembered { undelivered, next_seq: 10, ..Remembered::default() });
    next.settle();
    assert_eq!(value(&next, "opcodes_total{op_code=\"OP_TEST_DELAY\",status=\"succeeded\"}"), None);
    assert_values(
        &next,
        &[("oldest_undelivered_timestamp_seconds", EPOCH as f64), ("events_undelivered", 2.0)],
    );
}

#[test]
fn whatever_comes_series_stay_few_and_name_no_job() {
    let mut desk = Desk::new();
    for n in 1..=400 {
        let code = format!("OP_OF_TOMORROW_{n}");
        desk.put(job(n, &[&code], 0).waits(0, 0).ends(0, Status::Error, 0));
        let outcome = Outcome { error: Some("web1.example.com".to_owned()), ..Outcome::default() };
        desk.end_with(&format!("{n}.0.post"), outcome);
    }
    assert_values(
        &desk,
        &[
            ("opcodes_total{op_code=\"other\",status=\"failed\"}", 400.0 - LABELS_MAX as f64),
            ("opcodes_total{op_code=\"OP_OF_TOMORROW_1\",status=\"failed\"}", 1.0),
        ],
    );
    let text = desk.metrics();
    let series =
        |name: &str| text.lines().filter(|line| line.starts_with(&format!("ganeti_hookd_{name}{{"))).count();
    assert_eq!(series("opcodes_total"), 3 * (LABELS_MAX + 1));
    assert!(!text.contains("web1") && !text.contains("400.0"), "{text}");
}

#[test]
fn each_family_is_told_once_with_its_kind_and_its_labels_alone() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0).ends(0, Status::Success, 1));
    desk.end("1.0.pre");
    let text = desk.metrics();
    let names: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
    for family in FAMILIES {
        let name = format!("ganeti_hookd_{}", family.name);
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        assert_eq!(text.matches(&format!("\n# TYPE {name} {kind}\n")).count(), 1, "{name}");
        let samples = text.lines().filter_map(|line| line.strip_prefix(&name)).filter(|rest| {
            let rest =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| rest.strip_prefix(end)).unwrap_or(rest);
            rest.starts_with(['{', ' '])
        });
        for sample in samples {
            for label in
                sample.split(['{', ',']).filter_map(|part| part.split_once("=\"")).map(|(name, _)| name)
            {
                assert!(label == "le" || family.labels.contains(&label), "{name}{sample}");
            }
        }
    }
    assert!(text.starts_with("# HELP ganeti_hookd_up ") && text.ends_with('\n'));
}
