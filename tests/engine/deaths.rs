//! Deaths that are told to Ganeti: which, and when.

use ganeti_hookd::engine::change::{Change, Remembered};
use ganeti_hookd::engine::effect::{Death, Effect};
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::settings::Settings;
use ganeti_hookd::ganeti::event::PostStatus;
use ganeti_hookd::ganeti::job::Status;

use crate::desk::{Desk, HERE, Life as _, THERE, delay, id};

fn desk(tell_ganeti: bool) -> Desk {
    let mut settings = Settings::default();
    settings.deaths.tell_ganeti = tell_ganeti;
    let mut desk = Desk::before_start(settings, Remembered::default());
    desk.settle();
    desk.alive.insert(50);
    desk
}

/// A job's process dies while its opcode executes.
fn death(desk: &mut Desk) {
    executes(desk);
    desk.end("1.0.pre");
    desk.dies(50);
    desk.settle();
}

/// A job's opcode executes.
fn executes(desk: &mut Desk) {
    desk.put(delay(1, 0).by(50).waits(0, 1));
    desk.put(delay(1, 0).by(50).runs(0, 3));
}

/// A death that cannot be written, nor told therefore.
fn unwritten() -> Desk {
    let mut desk = desk(true);
    executes(&mut desk);
    desk.end("1.0.pre");
    desk.disk_is_full = true;
    desk.dies(50);
    desk.wait(1.0);
    assert_eq!(tellings(&desk), []);
    desk
}

/// What Ganeti was to be told, and how many effects came before each.
fn tellings(desk: &Desk) -> Vec<(usize, Death)> {
    let tellings = desk.done.iter().enumerate().filter_map(|(at, effect)| match effect {
        Effect::TellGaneti(death) => Some((at, death.clone())),
        _ => None,
    });
    tellings.collect()
}

#[test]
fn a_death_is_told_once_when_it_is_written_and_hooks_do_not_wait_for_that() {
    let mut desk = desk(true);
    death(&mut desk);
    let [(at, death)] = &tellings(&desk)[..] else { panic!("{:?}", desk.done) };
    assert_eq!((death.job, death.process.pid), (id(1), 50));
    let written = desk.done.iter().position(|effect| match effect {
        Effect::Commit(changes) => changes.iter().any(|change| {
            matches!(change, Change::Event(seq, event, _) if Some(*seq) == death.seq && event.status.is_some())
        }),
        _ => false,
    });
    assert!(written.unwrap() < *at, "it is written before");
    desk.end("1.0.post");
    assert_eq!(desk.ran.last().unwrap(), "10-a 1.0.post disappeared late=no attempt=1");
    desk.wait(600.0);
    assert_eq!(tellings(&desk).len(), 1);
}

#[test]
fn what_came_of_it_is_written_and_counted() {
    for (result, told, counted) in [
        (Ok(true), Some(true), (1, 0)),
        (Ok(false), None, (0, 0)),
        (Err("wconfd does not answer".to_owned()), Some(false), (0, 1)),
    ] {
        let mut desk = desk(true);
        death(&mut desk);
        let (_, Death { seq, job, .. }) = tellings(&desk).remove(0);
        desk.give(Input::GanetiTold { seq, job, result: result.clone() });
        desk.settle();
        let written = desk.written.iter().find_map(|change| match change {
            Change::ToldGaneti(of, told) => Some((Some(*of), *told)),
            _ => None,
        });
        assert_eq!(written, told.map(|told| (seq, told)), "{result:?}");
        let counters = desk.engine.status(desk.now).counters;
        assert_eq!((counters.deaths_told, counters.deaths_not_told), counted, "{result:?}");
        assert_eq!(desk.log.iter().any(|line| line.contains("was not told")), result.is_err());
        // Luxid rewrites the whole job then: that is no second end.
        desk.put(delay(1, 0).by(50).runs(0, 3).ends(0, Status::Error, 9));
        assert_eq!(desk.events().len(), 2);
    }
}

#[test]
fn it_is_told_of_no_death_but_the_masters_own_that_was_watched() {
    let mut off = desk(false);
    death(&mut off);
    assert_eq!(tellings(&off), []);

    let mut found = desk(true);
    found.alive.clear();
    executes(&mut found);
    found.wait(2.0);
    assert!(found.events().last().unwrap().contains("disappeared"));
    assert_eq!(tellings(&found), [], "it was dead when it was looked for");

    let mut standby = desk(true);
    executes(&mut standby);
    standby.master = Some(THERE);
    standby.give(Input::ClusterChanged);
    standby.settle();
    standby.dies(50);
    standby.wait(2.0);
    assert_eq!(tellings(&standby), []);
}

#[test]
fn a_failover_before_it_is_written_leaves_it_to_the_other_master() {
    let mut desk = unwritten();
    desk.master = Some(THERE);
    desk.give(Input::ClusterChanged);
    desk.settle();
    desk.disk_is_full = false;
    desk.wait(5.0);
    assert_eq!(tellings(&desk), []);
}

#[test]
fn it_is_not_told_of_what_was_not_written_before_nobody_wanted_that_any_more() {
    let mut desk = unwritten();
    desk.give(Input::Reloaded(Ok((Box::default(), HERE.to_owned()))));
    desk.settle();
    desk.disk_is_full = false;
    desk.wait(5.0);
    assert!(desk.events().last().unwrap().contains("disappeared"));
    assert_eq!(tellings(&desk), []);
}

#[test]
fn of_a_job_whose_file_is_gone_it_is_known_whether_its_opcode_had_begun() {
    for begun in [false, true] {
        let mut desk = desk(false);
        let job = delay(1, 0).by(50).waits(0, 1);
        desk.put(if begun { job.runs(0, 3) } else { job });
        desk.queue.clear();
        desk.give(Input::Hint(id(1)));
        desk.settle();
        desk.dies(50);
        let events = desk.written.iter().rev().filter_map(|change| match change {
            Change::Event(_, event, _) => Some((event.status, event.executed)),
            _ => None,
        });
        assert_eq!(events.take(1).collect::<Vec<_>>(), [(Some(PostStatus::Disappeared), begun)]);
        assert_eq!(desk.engine.status(desk.now).jobs_open, 0);
    }
}

#[test]
fn while_nobody_knows_who_is_master_a_process_that_was_found_dead_may_be_anothers() {
    let mut desk = desk(false);
    desk.alive.clear();
    desk.master_error = true;
    executes(&mut desk);
    desk.wait(2.0);
    let is_told = |desk: &Desk| desk.events().iter().any(|event| event.contains("disappeared"));
    assert!(!is_told(&desk), "{:?}", desk.events());
    desk.master_error = false;
    desk.wait(2.0);
    assert!(is_told(&desk), "{:?}", desk.events());
}
