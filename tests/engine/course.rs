//! The whole course of a job, effect by effect: nothing is missing, and nothing is done in vain.

use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::settings::Settings;
use ganeti_hookd::ganeti::job::Status;

use crate::desk::{Desk, Life, delay};

/// The names of all effects but the log's lines since so many.
fn since(desk: &Desk, effects: usize) -> String {
    let name = |effect: &Effect| {
        let text = format!("{effect:?}");
        text.split(|c: char| !c.is_alphabetic()).next().unwrap().to_owned()
    };
    let names = desk.done[effects..].iter().filter(|effect| !matches!(effect, Effect::Log(..))).map(name);
    names.collect::<Vec<_>>().join(" ")
}

/// What is to be done at the start, and then for one job of one opcode that ends well.
fn course(kernel_stops: Result<String, String>) -> Vec<String> {
    let mut desk = Desk::before_start(Settings::default(), Default::default());
    desk.kernel_stops = kernel_stops;
    desk.settle();
    let mut steps = vec![since(&desk, 0)];
    desk.serial = Some(1);
    desk.alive.insert(50);
    let (comes, waits) = (delay(1, 0), delay(1, 0).by(50).waits(0, 0));
    let runs = delay(1, 0).by(50).runs(0, 0);
    let ends = runs.clone().ends(0, Status::Success, 1);
    let step = |desk: &mut Desk, what: &dyn Fn(&mut Desk)| {
        let before = desk.done.len();
        what(desk);
        since(desk, before)
    };
    for version in [comes, waits, runs] {
        steps.push(step(&mut desk, &|desk| desk.put(version.clone())));
    }
    steps.push(step(&mut desk, &|desk| desk.end("1.0.pre")));
    steps.push(step(&mut desk, &|desk| desk.put(ends.clone())));
    steps.push(step(&mut desk, &|desk| desk.end("1.0.post")));
    steps.push(step(&mut desk, &|desk| desk.wait(10.0)));
    steps
}

#[test]
fn a_job_is_held_and_nothing_is_done_in_vain() {
    let steps = course(Err("not here".to_owned()));
    assert_eq!(
        steps,
        [
            "AskMaster ReadSerial Summary CountNodes AskCluster LookForPreHooks LoadKernelStop StartGuard \
             Watch ReadSerial LoadKernelStop AskMaster Scan Commit Summary Ready Recollect CountNodes \
             LookForPreHooks Commit",
            "Read ReadSerial LookForPreHooks",
            "Read Find LookForPreHooks",
            "Read Stop AskMaster Prepare Commit Start Announce",
            "Continue Commit Announce",
            "Read Unwatch AskMaster Prepare Commit Start Announce JobEnded",
            "Commit Announce",
            "",
        ]
    );
}

#[test]
fn a_job_is_held_exactly_and_nothing_is_done_in_vain() {
    let steps = course(Ok("fentry".to_owned()));
    assert_eq!(
        steps,
        [
            "AskMaster ReadSerial Summary CountNodes AskCluster LookForPreHooks LoadKernelStop StartGuard \
             Watch ReadSerial AskMaster Scan Commit Summary Ready Recollect CountNodes LookForPreHooks Commit",
            "Read ReadSerial Attach LookForPreHooks",
            "Read Find Arm LookForPreHooks",
            "Read Stop AskMaster Prepare Commit Start Announce",
            "Continue Commit Announce",
            "Read Unwatch AskMaster Prepare Commit Start Announce JobEnded",
            "Commit Announce",
            "Detach",
        ]
    );
}

#[test]
fn a_scan_that_brings_the_serial_has_it_read_no_second_time() {
    let mut desk = Desk::new();
    desk.serial = Some(1);
    desk.put(delay(1, 0));
    let before = desk.done.len();
    desk.give(Input::Overflow);
    desk.settle();
    let effects = since(&desk, before);
    assert!(effects.contains("Scan") && !effects.contains("ReadSerial"), "{effects}");
}

#[test]
fn a_version_that_tells_nothing_new_is_not_written() {
    let mut desk = Desk::new();
    desk.put(delay(1, 0));
    let written = desk.written.len();
    desk.put(delay(1, 0).waits(0, 0));
    assert_eq!(desk.written.len(), written, "{:?}", &desk.written[written..]);
}
