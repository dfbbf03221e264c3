//! What `status` tells is what happened.

use ganeti_hookd::engine::change::Remembered;
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::{Input, Version};
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::engine::settings::{PreMode, Settings};
use ganeti_hookd::engine::status::{Counters, HeldJob, RunningHook};
use ganeti_hookd::ganeti::job::Status;

use crate::desk::{CLUSTER, Desk, EPOCH, HERE, Life, delay, id, job};

/// A job that executes, held for its pre hooks.
fn hold(desk: &mut Desk, job: i64, pid: u32) {
    desk.alive.insert(pid);
    desk.put(delay(job, 0).by(pid).waits(0, 0));
    let after = i64::try_from(desk.now.steady.as_secs()).unwrap() - 100;
    desk.put(delay(job, 0).by(pid).runs(0, after));
    assert!(desk.stands(pid));
}

#[test]
fn each_thing_is_counted_when_it_happens() {
    let mut desk = Desk::new();
    hold(&mut desk, 1, 50);
    desk.end("1.0.pre");
    desk.put(delay(1, 0).by(50).runs(0, 0).ends(0, Status::Success, 1));
    desk.end_with("1.0.post", Outcome { code: Some(1), ..Outcome::default() });
    let mut counters = Counters {
        versions_read: 3,
        events: 2,
        runs: 2,
        runs_failed: 1,
        scans: 1,
        holds: 1,
        ..Counters::default()
    };
    assert_eq!(desk.engine.status(desk.now).counters, counters);
    assert_eq!(desk.log.last().unwrap(), "1.0.post: hook 10-a exited with 1");
    assert!(desk.metrics().contains("\nganeti_hookd_runs_failed_total 1\n"));

    // Held for too long.
    hold(&mut desk, 2, 60);
    desk.wait(60.0);
    counters = Counters { versions_read: 5, events: 3, holds: 2, holds_timed_out: 1, ..counters };
    assert_eq!(desk.engine.status(desk.now).counters, counters);

    // Let go on by somebody else between two scripts.
    desk.scripts.push("20-b");
    hold(&mut desk, 3, 70);
    desk.stopped.clear();
    desk.end("3.0.pre");
    counters = Counters {
        versions_read: 7,
        events: 4,
        events_late: 1,
        runs: 3,
        holds: 3,
        holds_late: 1,
        ..counters
    };
    assert_eq!(desk.engine.status(desk.now).counters, counters);

    // Not held at all: nobody knows its process.
    desk.put(delay(4, 0).runs(0, 61));
    counters = Counters { versions_read: 8, events: 5, events_late: 2, holds_missed: 1, ..counters };
    assert_eq!(desk.engine.status(desk.now).counters, counters);

    desk.give(Input::Overflow);
    desk.give(Input::Version { id: id(9), version: Version::Bad("is no job".to_owned(), None) });
    desk.disk_is_full = true;
    desk.put(delay(5, 61));
    desk.wait(1.0);
    let Counters { overflows, bad_files, journal_errors, .. } = desk.engine.status(desk.now).counters;
    assert_eq!((overflows, bad_files, journal_errors), (1, 1, 1));
}

#[test]
fn what_cannot_be_read_is_told_until_it_can() {
    let mut desk = Desk::new();
    let bad_files = |desk: &Desk| desk.engine.status(desk.now).bad_files;
    desk.unreadable.insert(id(1));
    desk.put(delay(1, 0));
    assert_eq!(bad_files(&desk)["job-1"], "EIO");
    desk.wait(1.0);
    let lines = desk.log.iter().filter(|line| line.contains("job-1: EIO; trying again every second"));
    assert_eq!(lines.count(), 1);
    desk.unreadable.clear();
    desk.wait(1.0);
    assert!(bad_files(&desk).is_empty());
}

#[test]
fn lines_that_were_only_counted_are_said_at_the_end() {
    let mut desk = Desk::new();
    for n in 1..=25 {
        desk.give(Input::Version { id: id(n), version: Version::Bad("is no job".to_owned(), None) });
    }
    assert!(!desk.log.iter().any(|line| line.contains("job-25")));
    desk.give(Input::Stop);
    assert!(
        desk.log
            .iter()
            .any(|line| line.contains("job-25") && line.ends_with("(the last of 5 lines like it)"))
    );
}

#[test]
fn who_is_held_is_told_with_the_hook_that_it_waits_for() {
    let mut desk = Desk::new();
    hold(&mut desk, 1, 50);
    desk.pass(2.0);
    let status = desk.engine.status(desk.now);
    assert_eq!((&*status.role, &*status.node, status.master.as_deref()), ("master", HERE, Some(HERE)));
    assert_eq!(status.started, EPOCH as f64);
    let held = HeldJob {
        job: id(1),
        event: "1.0.pre".to_owned(),
        pid: 50,
        seconds: 2.0,
        late: false,
        hook: Some("10-a".to_owned()),
    };
    let running = RunningHook {
        event: "1.0.pre".to_owned(),
        script: "10-a".to_owned(),
        node: HERE.to_owned(),
        seconds: 2.0,
    };
    assert_eq!((status.held, status.running), (vec![held], vec![running]));
    assert_eq!((status.jobs_tracked, status.jobs_open, status.processes_watched), (1, 1, 1));
    assert_eq!((status.undelivered, status.lag_seconds), (1, 2.0));
}

#[test]
fn that_an_open_job_is_in_the_archive_is_said_once() {
    let mut desk = Desk::new();
    desk.serial = Some(1);
    desk.archive.insert(id(1), delay(1, 0).by(50).runs(0, 0));
    for _ in 0..3 {
        desk.give(Input::Hint(id(1)));
        desk.settle();
    }
    let lines = desk.log.iter().filter(|line| line.contains("job 1 has not ended and is in the archive"));
    assert_eq!(lines.count(), 1);
    assert_eq!(desk.events(), ["1.0.pre (late) OP_TEST_DELAY pending"], "nobody knows how it ended");
}

#[test]
fn the_last_ten_failures_are_told() {
    let mut desk = Desk::new();
    for n in 1..=15 {
        desk.put(delay(n, 0).waits(0, 0).ends(0, Status::Error, 0));
        desk.end_with(&format!("{n}.0.post"), Outcome { code: Some(1), ..Outcome::default() });
    }
    let failures = desk.engine.status(desk.now).last_failures;
    assert_eq!((failures.len(), &*failures[9].event), (10, "15.0.post"));
}

#[test]
fn of_an_opcode_that_nobody_knows_it_is_said_once() {
    let mut desk = Desk::new();
    for n in 1..=2 {
        desk.put(job(n, &["OP_OF_TOMORROW"], 0).waits(0, 0).ends(0, Status::Error, 0));
    }
    desk.put(delay(3, 0).waits(0, 0).ends(0, Status::Error, 0));
    let said: Vec<_> = desk.log.iter().filter(|line| line.contains("is not known to this version")).collect();
    assert!(said.len() == 1 && said[0].starts_with("OP_OF_TOMORROW"), "{said:?}");
}

#[test]
fn that_an_open_job_has_vanished_is_said_once() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0));
    desk.queue.clear();
    for _ in 0..3 {
        desk.give(Input::Hint(id(1)));
        desk.settle();
    }
    assert_eq!(desk.log.iter().filter(|line| line.contains("job 1 has vanished")).count(), 1);
}

#[test]
fn it_is_at_rest_while_nothing_is_under_way_but_hooks_and_holds() {
    let mut desk = Desk::before_start(Settings::default(), Remembered::default());
    assert!(!desk.engine.is_at_rest(), "it has not begun");
    desk.settle();
    assert!(desk.engine.is_at_rest());
    hold(&mut desk, 1, 50);
    assert!(desk.engine.is_at_rest() && desk.running.len() == 1);
    desk.give(Input::Hint(id(1)));
    assert!(!desk.engine.is_at_rest(), "a job is to be looked at");
    desk.settle();
    desk.give(Input::Overflow);
    while desk.engine.has_more() {
        desk.give(Input::Quiet);
    }
    assert!(!desk.engine.is_at_rest() && desk.scans.len() == 1, "the queue is being listed");
    desk.settle();
    assert!(desk.engine.is_at_rest());
    desk.disk_is_full = true;
    desk.put(delay(2, 0).runs(0, 0));
    assert!(!desk.engine.is_at_rest() && !desk.engine.has_more(), "the journal cannot be written");
    desk.disk_is_full = false;
    desk.wait(5.0);
    assert!(desk.engine.is_at_rest());
    desk.give(Input::Stop);
    assert!(!desk.engine.is_at_rest() && !desk.engine.has_more());
}

#[test]
fn opcodes_that_wait_for_their_locks_are_told_of_and_those_first_that_have_waited_longest() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).waits(0, 20));
    desk.put(delay(2, 0).waits(0, 10));
    desk.put(delay(3, 0));
    desk.put(delay(4, 0).runs(0, 5));
    let waiting = |desk: &Desk| {
        let events = desk.engine.waiting(desk.now).events();
        events.map(|event| (event.key.to_string(), event.about.cluster.clone())).collect::<Vec<_>>()
    };
    let here = |key: &str| (key.to_owned(), Some(CLUSTER.into()));
    assert_eq!(waiting(&desk), [here("2.0.pre"), here("1.0.pre")]);
    let metrics = desk.metrics();
    for (state, jobs) in [("queued", 1), ("waiting", 2), ("running", 1)] {
        let line = format!("\nganeti_hookd_jobs{{state=\"{state}\"}} {jobs}\n");
        assert!(metrics.contains(&line), "{line} {metrics}");
    }
    desk.queue.remove(&id(2));
    desk.give(Input::Hint(id(2)));
    desk.settle();
    assert_eq!(waiting(&desk), [here("1.0.pre")], "nobody knows what becomes of one that has vanished");
}

#[test]
fn that_a_job_is_gone_is_said_again_when_it_was_back() {
    let mut desk = Desk::new();
    for _ in 0..2 {
        desk.put(delay(1, 0).runs(0, 0));
        desk.queue.clear();
        desk.give(Input::Hint(id(1)));
        desk.settle();
    }
    assert_eq!(desk.log.iter().filter(|line| line.contains("job 1 has vanished")).count(), 2);
}

#[test]
fn what_is_wrong_with_the_daemon_itself_is_told() {
    let mut desk = Desk::new();
    let problems = |desk: &Desk| desk.engine.status(desk.now).problems.join("; ");
    for _ in 0..2 {
        desk.give(Input::Api(Err("the socket is in use".to_owned())));
    }
    assert_eq!(desk.log.iter().filter(|line| *line == "the socket is in use").count(), 1);
    assert_eq!(problems(&desk), "API: the socket is in use");
    desk.give(Input::Api(Ok(())));
    assert_eq!(problems(&desk), "");
    (0..2).for_each(|_| desk.give(Input::Panicked("the planner has failed".to_owned())));
    assert!(problems(&desk).contains("the planner has failed; "), "{}", problems(&desk));
    assert_eq!(desk.engine.status(desk.now).counters.panics, 2);
}

#[test]
fn who_was_stopped_too_late_is_counted_and_said() {
    let mut desk = Desk::new();
    desk.stops_land_late = true;
    hold(&mut desk, 1, 50);
    hold(&mut desk, 2, 60);
    let counters = desk.engine.status(desk.now).counters;
    assert_eq!((counters.holds, counters.holds_late), (2, 2));
    assert!(desk.log.iter().any(|line| line.starts_with("job 2 had got further when it was stopped")));
}

#[test]
fn that_other_paths_need_a_restart_is_said_each_time() {
    let mut desk = Desk::new();
    let mut settings = Settings::default();
    settings.paths.queue_dir = "/srv/queue".into();
    for (settings, lines) in [(settings.clone(), 1), (settings, 2), (Settings::default(), 2)] {
        desk.give(Input::Reloaded(Ok((Box::new(settings), HERE.to_owned()))));
        desk.settle();
        let said = desk.log.iter().filter(|line| line.contains("needs a restart"));
        assert_eq!(said.count(), lines);
    }
}

#[test]
fn that_there_is_no_guard_is_a_problem_while_jobs_are_held() {
    let mut desk = Desk::new();
    desk.give(Input::GuardEnded);
    desk.give(Input::GuardStarted(Err("EAGAIN".to_owned())));
    let problems = |desk: &Desk| desk.engine.status(desk.now).problems.len();
    assert_eq!(problems(&desk), 1);
    let reloaded = |pre| {
        let mut settings = Settings::default();
        settings.hooks.pre = pre;
        Input::Reloaded(Ok((Box::new(settings), HERE.to_owned())))
    };
    desk.give(reloaded(PreMode::Hold));
    assert_eq!(problems(&desk), 1);
    desk.give(reloaded(PreMode::Notify));
    assert_eq!(problems(&desk), 0);
}

#[test]
fn who_waits_for_a_job_hears_when_it_is_forgotten() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0).runs(0, 0));
    desk.queue.clear();
    desk.give(Input::Hint(id(1)));
    desk.settle();
    let has_ended = |desk: &Desk| desk.done.iter().any(|effect| *effect == Effect::JobEnded(id(1)));
    assert!(!has_ended(&desk), "it may come back");
    desk.pass(40.0 * 86_400.0);
    desk.put(delay(2, 0));
    assert!(has_ended(&desk));
}

#[test]
fn a_line_about_a_hold_is_about_its_event() {
    let mut desk = Desk::new();
    hold(&mut desk, 1, 50);
    desk.wait(61.0);
    let fields = desk.done.iter().rev().find_map(|effect| match effect {
        Effect::Log(_, text, topic) if text.contains("goes on") => Some(topic.fields().collect::<Vec<_>>()),
        _ => None,
    });
    let fields = fields.unwrap();
    for field in [("GANETI_EVENT", "1.0.pre"), ("GANETI_OP_CODE", "OP_TEST_DELAY")] {
        assert!(fields.contains(&(field.0, field.1.to_owned())), "{fields:?}");
    }
}

#[test]
fn of_several_that_are_held_each_waits_for_its_own_hook() {
    let mut desk = Desk::new();
    desk.scripts.push("20-b");
    hold(&mut desk, 1, 50);
    desk.end("1.0.pre");
    hold(&mut desk, 2, 60);
    let held = desk.engine.status(desk.now).held;
    let hooks: Vec<_> = held.iter().map(|held| (held.job, held.hook.as_deref())).collect();
    assert_eq!(hooks, [(id(1), Some("20-b")), (id(2), Some("10-a"))]);
}
