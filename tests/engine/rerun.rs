//! What somebody wants to run again runs once more, marked, behind everything else, and holds nobody.

use std::collections::BTreeMap;

use ganeti_hookd::engine::change::{Change, EventState, Remembered, Rerun, RunKey, Undelivered};
use ganeti_hookd::engine::input::{CommitError, Input, Recorded, Written};
use ganeti_hookd::engine::plan::{Plan, Target};
use ganeti_hookd::engine::settings::{PreMode, Settings};
use ganeti_hookd::ganeti::event::{Event, Phase};
use ganeti_hookd::ganeti::job::Status;
use ganeti_hookd::ganeti::opcodes::View;

use crate::desk::{Desk, HERE, Life, THERE, delay, ended, id, job};
use crate::live::undelivered;

/// An event as the journal has it after a script `10-a` has run for it, in run 40.
fn recorded(event: Undelivered) -> Recorded {
    let directory = format!("global-{}.d", event.event.key.phase);
    let key = RunKey { node: HERE.to_owned(), directory, script: "10-a".to_owned() };
    let event = Undelivered { runs: [(key, (1, true))].into(), ..event };
    Recorded { event, state: EventState::Done, runs: 1, last_run: 40 }
}

/// The post of the only opcode of a job, number `seq`.
fn post(seq: i64, job: i64) -> Recorded {
    recorded(undelivered(seq, id(job), 0, "OP_TEST_DELAY"))
}

fn pre(seq: i64, job: i64) -> Recorded {
    let mut event = undelivered(seq, id(job), 0, "OP_TEST_DELAY");
    (event.event.key.phase, event.event.status) = (Phase::Pre, None);
    recorded(event)
}

/// Somebody wants this to run again.
fn ask(desk: &mut Desk, found: Option<Recorded>, script: Option<&str>) {
    let (asked, rerun) = (desk.answers.len() as u64, Rerun { script: script.map(str::to_owned) });
    let scripts = desk.scripts.iter().map(|script| (*script).to_owned()).collect();
    desk.give(Input::Rerun { asked, found: Ok(found.map(Box::new)), rerun, scripts });
    desk.settle();
}

/// What the last one who asked was answered.
fn answer(desk: &Desk) -> &str {
    match &desk.answers.last().unwrap().1 {
        Ok(()) => "yes",
        Err(why) => why,
    }
}

/// A master that has 100 events of old.
fn desk() -> Desk {
    let mut desk = Desk::again(Remembered { next_seq: 101, next_run: 1, ..Default::default() });
    desk.settle();
    desk
}

#[test]
fn it_runs_once_more_with_the_next_attempt_late_and_marked() {
    let mut desk = desk();
    ask(&mut desk, Some(post(5, 7)), None);
    assert_eq!(answer(&desk), "yes");
    assert_eq!(desk.ran, ["10-a 7.0.post succeeded late=yes attempt=2 rerun=yes"]);
    desk.end("7.0.post");
    // Its number is higher than those of the runs before, of which only the journal knows.
    let started = desk.written.iter().find_map(|change| match change {
        Change::RunStart(run) => Some(run.id),
        _ => None,
    });
    assert!(started > Some(40), "{started:?}");
    let about_it = |change: &&Change| matches!(change, Change::Rerun(5, _) | Change::EventState(5, _));
    let changes: Vec<&Change> = desk.written.iter().filter(about_it).collect();
    assert_eq!(changes, [&Change::Rerun(5, Rerun::default()), &Change::EventState(5, EventState::Done)]);
    assert!(!desk.written.contains(&Change::Late(5)), "it was in time when it ran first");
}

#[test]
fn nobody_is_answered_and_nothing_begins_before_the_journal_has_it() {
    let mut desk = desk();
    desk.disk_is_full = true;
    ask(&mut desk, Some(post(5, 7)), None);
    assert!(desk.answers.is_empty() && desk.ran.is_empty());
    // It is stalled now, and says so to the next.
    desk.give(Input::Rerun {
        asked: 9,
        found: Ok(Some(Box::new(post(6, 8)))),
        rerun: Rerun::default(),
        scripts: vec![],
    });
    assert!(answer(&desk).contains("the journal cannot be written"));
    desk.disk_is_full = false;
    desk.wait(10.0);
    assert_eq!(desk.answers[1..], [(0, Ok(()))]);
    assert_eq!(desk.ran, ["10-a 7.0.post succeeded late=yes attempt=2 rerun=yes"]);
}

#[test]
fn what_cannot_run_again_is_refused_with_the_reason() {
    let mut desk = desk();
    ask(&mut desk, None, None);
    assert_eq!(answer(&desk), "there is no such event in the history");
    ask(&mut desk, Some(Recorded { state: EventState::Pending, ..post(5, 7) }), None);
    assert_eq!(answer(&desk), "its hooks have not all ended yet; wait until they have");
    ask(&mut desk, Some(post(5, 7)), Some("20-b"));
    assert_eq!(answer(&desk), format!("there is no script 20-b for it on {HERE}; 10-a"));
    let start = recorded(undelivered(5, id(7), 0, "OP_INSTANCE_STARTUP"));
    ask(&mut desk, Some(Recorded { event: Undelivered { plan: None, ..start.event }, ..start }), None);
    assert!(answer(&desk).starts_with("what its scripts are given is not stored"), "{}", answer(&desk));
    // Twice at once: the second is refused.
    ask(&mut desk, Some(post(6, 8)), None);
    assert_eq!(answer(&desk), "yes");
    ask(&mut desk, Some(post(6, 8)), None);
    assert!(answer(&desk).starts_with("its hooks have not all ended yet"));
    assert_eq!(desk.ran.len(), 1);
    desk.master = Some(THERE);
    desk.give(Input::ClusterChanged);
    desk.settle();
    ask(&mut desk, Some(post(5, 7)), None);
    assert_eq!(answer(&desk), format!("this node is not master; the master is {THERE}"));
    desk.give(Input::Stop);
    ask(&mut desk, Some(post(5, 7)), None);
    assert_eq!(answer(&desk), "the daemon is stopping");
}

#[test]
fn what_the_settings_leave_out_does_not_run_again() {
    let mut settings = Settings::default();
    settings.hooks.pre = PreMode::Off;
    settings.hooks.skip_opcodes = vec!["OP_TAGS_*".to_owned()];
    let mut desk = Desk::before_start(settings, Remembered { next_seq: 101, ..Default::default() });
    desk.settle();
    ask(&mut desk, Some(pre(5, 7)), None);
    assert_eq!(answer(&desk), "hooks.pre is \"off\"");
    ask(&mut desk, Some(recorded(undelivered(6, id(7), 0, "OP_TAGS_SET"))), None);
    assert_eq!(answer(&desk), "hooks.skip-opcodes names its opcode");
    ask(&mut desk, Some(post(7, 7)), None);
    assert_eq!((answer(&desk), desk.ran.len()), ("yes", 1));
}

#[test]
fn an_end_that_is_not_written_yet_is_no_end() {
    let mut desk = desk();
    ask(&mut desk, Some(post(5, 7)), None);
    desk.scripts.clear();
    let running = desk.running.pop().unwrap();
    let outcome = Default::default();
    desk.give(Input::RunEnded { run: running.run, seq: running.seq, outcome });
    // The journal still has the runs of before.
    let found = Ok(Some(Box::new(post(5, 7))));
    desk.give(Input::Rerun { asked: 9, found, rerun: Rerun::default(), scripts: vec![] });
    assert!(answer(&desk).starts_with("its hooks have not all ended yet"));
}

#[test]
fn it_is_written_before_the_history_forgets_in_the_same_commit() {
    let mut desk = desk();
    let forgets = |change: &Change| matches!(change, Change::Prune(..));
    let is_it = |change: &Change| matches!(change, Change::Rerun(..));
    // So much later that something is forgotten again; nothing of that is written yet.
    desk.now.steady += std::time::Duration::from_secs(4000);
    let effects = desk.engine.take(desk.now, Input::Quiet);
    assert!(effects.is_empty() && desk.engine.has_more(), "that is to be written: {effects:?}");
    let found = Ok(Some(Box::new(post(5, 7))));
    desk.written.clear();
    desk.give(Input::Rerun { asked: 0, found, rerun: Rerun::default(), scripts: vec![] });
    desk.settle();
    let place = |of: &dyn Fn(&Change) -> bool| desk.written.iter().position(of).unwrap();
    assert!(place(&is_it) < place(&forgets), "{:?}", desk.written);
}

#[test]
fn what_its_job_has_to_deliver_comes_before_it_also_what_comes_later() {
    let mut desk = desk();
    desk.put(job(7, &["OP_TEST_DELAY", "OP_TEST_DELAY"], 0).runs(0, 0));
    assert_eq!(desk.ran.len(), 1, "the pre of its first opcode runs");
    ask(&mut desk, Some(post(5, 7)), None);
    desk.put(
        job(7, &["OP_TEST_DELAY", "OP_TEST_DELAY"], 0).runs(0, 0).ends(0, Status::Success, 0).runs(1, 0),
    );
    for event in ["7.0.pre", "7.0.post", "7.1.pre"] {
        desk.end(event);
    }
    let order = ["7.0.pre", "7.0.post", "7.1.pre", "7.0.post"];
    let ran = desk.ran.iter().map(|ran| ran.split(' ').nth(1).unwrap());
    assert_eq!(ran.collect::<Vec<_>>(), order);
    assert!(desk.ran[3].ends_with("rerun=yes") && !desk.ran[1].contains("rerun"), "{:?}", desk.ran);
}

#[test]
fn it_neither_holds_its_job_nor_keeps_it_from_being_held_for_what_comes() {
    let mut desk = desk();
    desk.alive.insert(50);
    let two = || job(7, &["OP_TEST_DELAY", "OP_TEST_DELAY"], 0).by(50);
    // Another job's hooks take all workers: it waits.
    for n in 20..50 {
        desk.put(ended(n, 0));
    }
    ask(&mut desk, Some(pre(5, 7)), None);
    assert!(!desk.ran.iter().any(|ran| ran.contains("rerun")));
    desk.put(two().runs(0, 0));
    assert!(desk.stands(50), "what is to run again does not keep it from being held");
    assert_eq!(desk.ran.last().unwrap(), "10-a 7.0.pre - late=no attempt=1");
    desk.end("7.0.pre");
    assert!(!desk.stands(50), "it goes on though its pre is to run again");
    while desk.running.iter().any(|run| !run.env.contains_key("GANETI_HOOKD_RERUN")) {
        let event = desk.running[0].env["GANETI_HOOKD_EVENT"].clone();
        desk.end(&event);
    }
    assert!(
        desk.ran.last().unwrap().ends_with("7.0.pre - late=yes attempt=2 rerun=yes"),
        "{:?}",
        desk.ran.last()
    );
    assert!(!desk.stands(50));
}

#[test]
fn one_script_runs_alone_and_no_other_node_is_asked() {
    let view = View { nodes: vec![HERE.to_owned(), THERE.to_owned()], ..View::default() };
    let start = recorded(undelivered(5, id(7), 0, "OP_INSTANCE_STARTUP"));
    let start = || {
        let event = Undelivered { plan: Some(view.clone()), ..start.event.clone() };
        Some(Recorded { event, ..start.clone() })
    };
    let plan = |desk: &mut Desk| {
        let request = desk.plans.pop().unwrap();
        assert_eq!(request.given.as_ref(), Some(&view), "what was stored");
        let target =
            |node: &String| Target { node: node.clone(), address: Some(([198, 51, 100, 2], 1811).into()) };
        let targets = view.nodes.iter().map(target).collect();
        desk.give(Input::Planned { seq: 5, plan: Plan { view: view.clone(), targets }, problem: None });
        desk.settle();
    };
    let mut desk = desk();
    desk.scripts = vec!["10-a", "20-b"];
    ask(&mut desk, start(), Some("20-b"));
    plan(&mut desk);
    assert_eq!(desk.ran, ["20-b 7.0.post succeeded late=yes attempt=1 rerun=yes"]);
    desk.end("7.0.post");
    assert_eq!((desk.ran.len(), desk.asked.len()), (1, 0));
    // Without a name everything runs that ran, and the other nodes' directories.
    ask(&mut desk, start(), None);
    plan(&mut desk);
    desk.end("7.0.post");
    assert_eq!((desk.ran.len(), desk.asked.len()), (3, 1));
    assert_eq!(desk.asked[0].env["GANETI_HOOKD_RERUN"], "yes");
}

#[test]
fn after_a_crash_it_goes_on_where_it_was_still_marked() {
    let event = undelivered(5, id(7), 0, "OP_TEST_DELAY");
    let key = |script: &str| RunKey {
        node: HERE.to_owned(),
        directory: "global-post.d".to_owned(),
        script: script.to_owned(),
    };
    // The first had ended once more, the second was under way, the third has run before only.
    let runs =
        BTreeMap::from([(key("10-a"), (2, true)), (key("20-b"), (2, false)), (key("30-c"), (1, false))]);
    let event = Undelivered { runs, rerun: Some(Rerun::default()), ..event };
    let mut desk =
        Desk::again(Remembered { undelivered: vec![event], next_seq: 6, next_run: 1, ..Default::default() });
    desk.scripts = vec!["10-a", "20-b", "30-c"];
    desk.settle();
    desk.end("7.0.post");
    desk.end("7.0.post");
    assert_eq!(
        desk.ran,
        [
            "20-b 7.0.post succeeded late=yes attempt=3 rerun=yes",
            "30-c 7.0.post succeeded late=yes attempt=2 rerun=yes",
        ]
    );
    assert!(!desk.written.contains(&Change::Adopt(5)), "whether it was late the first time stays written");
}

#[test]
fn through_a_failover_it_goes_on_when_this_node_is_master_again() {
    let mut desk = desk();
    desk.scripts = vec!["10-a", "20-b"];
    ask(&mut desk, Some(post(5, 7)), None);
    desk.master = Some(THERE);
    desk.give(Input::ClusterChanged);
    desk.settle();
    desk.end("7.0.post");
    assert_eq!(desk.ran.len(), 1, "in standby nothing begins");
    assert!(desk.written.contains(&Change::EventState(5, EventState::Standby)));
    desk.master = Some(HERE);
    desk.give(Input::ClusterChanged);
    desk.settle();
    assert_eq!(desk.ran[1..], ["20-b 7.0.post succeeded late=yes attempt=1 rerun=yes"]);
}

#[test]
fn a_journal_that_is_written_anew_keeps_the_mark_and_what_counts() {
    let mut desk = desk();
    desk.scripts = vec!["10-a", "20-b"];
    ask(&mut desk, Some(post(5, 7)), None);
    desk.end("7.0.post");
    desk.written.clear();
    let damage = CommitError { text: "database disk image is malformed".to_owned(), damaged: true };
    let effects = desk.engine.take(desk.now, Input::Committed(Err(damage)));
    let anew = effects.into_iter().find_map(|effect| match effect {
        ganeti_hookd::engine::effect::Effect::WriteAnew(changes) => Some(changes),
        _ => None,
    });
    let anew = anew.unwrap();
    let of_it: Vec<&Change> = anew.iter().filter(|change| is_of(change, 5)).collect();
    let place = |of: fn(&Change) -> bool| of_it.iter().position(|change| of(change)).unwrap();
    let mark = place(|change| matches!(change, Change::Rerun(..)));
    assert!(place(|change| matches!(change, Change::Event(..))) < mark, "{of_it:?}");
    assert!(mark < place(|change| matches!(change, Change::RunStart(_))), "{of_it:?}");
    // The one that has ended, and nothing else.
    assert_eq!(of_it.iter().filter(|change| matches!(change, Change::RunEnd(..))).count(), 1);
    assert!(of_it.iter().any(|change| matches!(change, Change::Event(_, Event { late: false, .. }, _))));
    desk.give(Input::Committed(Ok(Written::default())));
    desk.settle();
}

fn is_of(change: &Change, event: i64) -> bool {
    match change {
        Change::Event(seq, ..) | Change::Rerun(seq, _) | Change::RunEnd(seq, ..) => *seq == event,
        Change::RunStart(run) => run.seq == event,
        _ => false,
    }
}

#[test]
fn a_job_of_the_same_number_is_not_let_go_by_an_older_ones_pre() {
    let mut desk = desk();
    desk.alive.insert(50);
    ask(&mut desk, Some(pre(5, 7)), None);
    assert_eq!(desk.ran, ["10-a 7.0.pre - late=yes attempt=2 rerun=yes"]);
    desk.put(delay(7, 500).by(50).runs(0, 0));
    assert!(!desk.stands(50), "hooks of its number have yet to end: it is late, and nobody holds it");
    desk.end("7.0.pre");
    assert_eq!(desk.ran[1], "10-a 7.0.pre - late=yes attempt=1");
}
