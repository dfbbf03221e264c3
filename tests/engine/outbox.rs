//! Who sends, and when it is written how far an outbox is.

use std::time::Duration;

use ganeti_hookd::engine::change::{Change, EventState, Remembered};
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::outbox_progress::{Progress, Report};
use ganeti_hookd::engine::settings::Settings;

use crate::desk::{Desk, HERE, Life, THERE, delay, ended};

const OUTBOX: &str = "[[outbox]]\nname = \"a\"\nurl = \"https://a/\"\nsecret-file = \"/key\"\n";

fn desk(master: &'static str) -> Desk {
    let settings = Settings::parse(OUTBOX).unwrap();
    let mut desk = Desk::before_start(settings, Remembered::default());
    desk.master = Some(master);
    desk.settle();
    desk
}

fn fails_over(desk: &mut Desk, master: &'static str) {
    desk.master = Some(master);
    desk.give(Input::ClusterChanged);
    desk.settle();
}

/// Where the last of those effects stands.
fn last(desk: &Desk, is_it: impl Fn(&Effect) -> bool) -> Option<usize> {
    desk.done.iter().rposition(is_it)
}

fn sends(desk: &Desk, wanted: bool) -> Option<usize> {
    last(desk, |effect| matches!(effect, Effect::Outboxes { sends, .. } if *sends == wanted))
}

fn writes(desk: &Desk, is_it: impl Fn(&Change) -> bool) -> Option<usize> {
    last(desk, |effect| matches!(effect, Effect::Commit(changes) if changes.iter().any(&is_it)))
}

/// The outbox says how far it is.
fn says(desk: &mut Desk, progress: Progress) {
    let report = Box::new(Report { progress, state: "ok".to_owned(), ..Report::default() });
    desk.give(Input::Outbox { name: "a".to_owned(), report });
    desk.settle();
}

fn places_written(desk: &Desk) -> Vec<i64> {
    let place = |change: &Change| match change {
        Change::Outbox(_, progress) => Some(progress.cursor),
        _ => None,
    };
    desk.written.iter().filter_map(place).collect()
}

#[test]
fn a_new_master_sends_when_what_it_adopts_is_written() {
    let mut desk = desk(THERE);
    assert!(sends(&desk, false).is_some() && sends(&desk, true).is_none());
    desk.put(ended(1, 0));
    desk.disk_is_full = true;
    fails_over(&mut desk, HERE);
    assert_eq!(sends(&desk, true), None, "it would take what is its own for the other's");
    desk.disk_is_full = false;
    desk.now.steady += Duration::from_secs(5);
    desk.settle();
    let adopted = writes(&desk, |change| matches!(change, Change::Adopt(_)));
    assert!(adopted.is_some() && adopted < sends(&desk, true));
}

#[test]
fn a_reload_has_nobody_send_before_what_is_adopted_is_written() {
    let reload = |desk: &mut Desk, node: &str| {
        let settings = Box::new(Settings::parse(OUTBOX).unwrap());
        desk.give(Input::Reloaded(Ok((settings, node.to_owned()))));
        desk.settle();
    };
    let first_sends = |desk: &Desk| {
        desk.done.iter().position(|effect| matches!(effect, Effect::Outboxes { sends: true, .. }))
    };
    // It makes this node the master.
    let mut renamed = desk(THERE);
    renamed.put(ended(1, 0));
    reload(&mut renamed, THERE);
    // It comes while the journal cannot be written.
    let mut stalled = desk(THERE);
    stalled.put(ended(1, 0));
    stalled.disk_is_full = true;
    fails_over(&mut stalled, HERE);
    reload(&mut stalled, HERE);
    stalled.disk_is_full = false;
    stalled.now.steady += Duration::from_secs(5);
    stalled.settle();
    for desk in [renamed, stalled] {
        let adopted = writes(&desk, |change| matches!(change, Change::Adopt(_)));
        assert!(adopted.is_some() && adopted < first_sends(&desk), "{adopted:?} {:?}", first_sends(&desk));
    }
}

#[test]
fn an_old_master_stops_sending_before_what_was_its_own_is_the_others() {
    let mut desk = desk(HERE);
    desk.scripts = vec!["10-a", "20-b"];
    desk.put(delay(1, 0).runs(0, 0));
    desk.put(ended(1, 0));
    assert!(sends(&desk, true).is_some());
    fails_over(&mut desk, THERE);
    desk.end("1.0.pre");
    let left = writes(&desk, |change| matches!(change, Change::EventState(_, EventState::Standby)));
    assert!(left.is_some() && sends(&desk, false) < left && sends(&desk, true) < sends(&desk, false));
}

#[test]
fn a_takeover_that_comes_to_nothing_has_nobody_send() {
    let mut desk = desk(THERE);
    desk.put(ended(1, 0));
    desk.disk_is_full = true;
    fails_over(&mut desk, HERE);
    fails_over(&mut desk, THERE);
    desk.disk_is_full = false;
    desk.now.steady += Duration::from_secs(5);
    desk.settle();
    assert_eq!(sends(&desk, true), None);
}

#[test]
fn how_far_it_is_is_written_with_what_is_written_anyway() {
    let mut desk = desk(HERE);
    let at = |cursor| Progress { cursor, ..Progress::default() };
    says(&mut desk, at(1));
    assert_eq!(places_written(&desk), [1], "where a new one begins is written at once");
    (2..9).for_each(|cursor| says(&mut desk, at(cursor)));
    assert_eq!(places_written(&desk), [1], "an event that is sent costs no commit");
    desk.put(ended(1, 0));
    assert_eq!(places_written(&desk), [1, 8]);
    says(&mut desk, at(9));
    desk.now.steady += Duration::from_secs(1);
    desk.settle();
    assert_eq!(places_written(&desk), [1, 8, 9], "nor is it kept back for ever");
    says(&mut desk, Progress { ended: Some("410".to_owned()), ..at(9) });
    assert_eq!(places_written(&desk), [1, 8, 9, 9], "what must not be forgotten is written at once");
}

#[test]
fn a_journal_that_cannot_be_written_gets_it_once() {
    let mut desk = desk(HERE);
    desk.disk_is_full = true;
    for cursor in 1..50 {
        says(&mut desk, Progress { cursor, ..Progress::default() });
        desk.now.steady += Duration::from_secs(1);
        desk.settle();
    }
    desk.disk_is_full = false;
    desk.now.steady += Duration::from_secs(2);
    desk.settle();
    desk.now.steady += Duration::from_secs(2);
    desk.settle();
    let written = places_written(&desk);
    assert!(written.len() <= 2 && written.last() == Some(&49), "{written:?}");
}

#[test]
fn a_damaged_journal_is_written_anew_with_it() {
    let mut desk = desk(HERE);
    says(&mut desk, Progress { cursor: 7, ..Progress::default() });
    desk.journal_is_damaged = true;
    desk.put(ended(1, 0));
    let anew = desk.done.iter().rev().find_map(|effect| match effect {
        Effect::WriteAnew(changes) => Some(changes.clone()),
        _ => None,
    });
    let has = |change: &Change| matches!(change, Change::Outbox(_, progress) if progress.cursor == 7);
    assert!(anew.unwrap().iter().any(has));
}

#[test]
fn history_is_kept_as_long_as_something_of_it_may_be_sent() {
    let day = Duration::from_secs(86_400);
    let keep = |text: &str| Settings::parse(text).unwrap().keep();
    assert_eq!(keep("[history]\nkeep = \"1d\"\n"), day);
    assert_eq!(keep(&format!("[history]\nkeep = \"1d\"\n{OUTBOX}")), 3 * day);
    assert_eq!(keep(&format!("[history]\nkeep = \"9d\"\n{OUTBOX}")), 9 * day);
}

#[test]
fn what_stands_in_an_outboxes_way_is_told_on_the_master() {
    let mut desk = desk(HERE);
    let how_it_is = |desk: &Desk| {
        let status = desk.engine.status(desk.now);
        let outbox = &status.outboxes[0];
        (
            outbox.name.clone(),
            outbox.state.clone(),
            outbox.last_success,
            outbox.trouble.clone(),
            status.problems,
        )
    };
    let it_is = |state: &str, last_success: Option<f64>, trouble: Option<&str>, problems: &[&str]| {
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect::<Vec<_>>();
        ("a".to_owned(), state.to_owned(), last_success, trouble.map(str::to_owned), problems)
    };
    assert_eq!(how_it_is(&desk), it_is("starting", None, None, &[]));
    says(&mut desk, Progress { last_success: Some(1_500_000), ..Progress::default() });
    assert_eq!(how_it_is(&desk), it_is("ok", Some(1.5), None, &[]));
    let trouble = |is_problem| Report {
        state: "failing".to_owned(),
        trouble: Some("it does not answer".to_owned()),
        is_problem,
        ..Report::default()
    };
    for (is_problem, problems) in [(false, &[][..]), (true, &["outbox: a: it does not answer"])] {
        desk.give(Input::Outbox { name: "a".to_owned(), report: Box::new(trouble(is_problem)) });
        assert_eq!(how_it_is(&desk), it_is("failing", None, Some("it does not answer"), problems));
    }
    assert!(desk.log.iter().any(|line| line.starts_with("a: it does not answer; what is to be sent waits")));
    fails_over(&mut desk, THERE);
    assert_eq!(how_it_is(&desk), it_is("standby", None, Some("it does not answer"), &[]));
}
