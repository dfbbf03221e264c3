//! Which hooks directories an event has, in which order they run, and before which opcodes a job is
//! held for them.

use ganeti_hookd::engine::change::{Change, EventState};
use ganeti_hookd::engine::effect::{Effect, ScriptRun};
use ganeti_hookd::engine::input::Input;
use ganeti_hookd::engine::settings::{Nodes, Settings};
use ganeti_hookd::ganeti::event::PostStatus;
use ganeti_hookd::ganeti::job::Status;

use crate::desk::{Desk, HERE, Life, THERE, delay, job};

const START: &str = "OP_INSTANCE_STARTUP";

/// A master with these settings, a script of all opcodes, one of starts and Ganeti's own of starts.
fn desk(change: impl FnOnce(&mut Settings)) -> Desk {
    let mut settings = Settings::default();
    change(&mut settings);
    let mut desk = Desk::before_start(settings, Default::default());
    desk.others = vec![("global-instance-startup", "10-b"), ("instance-start", "10-c")];
    desk.settle();
    desk
}

/// A job that starts an instance and disappears while it does.
fn dies(desk: &mut Desk) {
    desk.alive.insert(50);
    desk.put(job(1, &[START], 0).by(50).runs(0, 0));
    desk.plan_on(&[HERE], None);
    desk.end("1.0.pre");
    desk.end("1.0.pre");
    desk.dies(50);
}

/// Scripts with their directories and what they are told in `GANETI_HOOKS_PATH`, as they run.
fn running(desk: &Desk) -> Vec<String> {
    let run = |run: &ganeti_hookd::engine::effect::ScriptRun| {
        let path = run.script.strip_prefix("/hooks").unwrap().display().to_string();
        format!("{path} {}", run.env["GANETI_HOOKS_PATH"])
    };
    desk.running.iter().map(run).collect()
}

fn asked(desk: &Desk) -> Vec<String> {
    let request = |request: &ganeti_hookd::engine::effect::NodeRun| {
        format!("{} {}", request.path.directory(request.phase), request.env["GANETI_HOOKS_PATH"])
    };
    desk.asked.iter().map(request).collect()
}

/// The directories and scripts whose runs the journal has.
fn recorded(desk: &Desk) -> Vec<String> {
    let run = |change: &Change| match change {
        Change::RunStart(run) => Some(format!("{} {}/{}", run.node, run.directory, run.script)),
        _ => None,
    };
    desk.written.iter().filter_map(run).collect()
}

#[test]
fn the_opcodes_directory_comes_after_that_of_all_opcodes() {
    let mut desk = desk(|_| {});
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.plan_on(&[HERE, THERE], None);
    assert_eq!(running(&desk), ["global-pre.d/10-a global"]);
    desk.end("1.0.pre");
    assert_eq!(running(&desk), ["global-instance-startup-pre.d/10-b global"]);
    desk.end("1.0.pre");
    assert!(desk.running.is_empty());
    assert_eq!(asked(&desk), ["global-pre.d global"], "other nodes are asked for one directory");
    let here = [format!("{HERE} global-pre.d/10-a"), format!("{HERE} global-instance-startup-pre.d/10-b")];
    assert!(here.iter().all(|run| recorded(&desk).contains(run)), "{:?}", recorded(&desk));
}

#[test]
fn the_directories_of_other_opcodes_do_not_run() {
    let mut desk = desk(|_| {});
    desk.put(delay(1, 0).runs(0, 0));
    desk.end("1.0.pre");
    assert!(desk.running.is_empty(), "{:?}", running(&desk));
}

#[test]
fn a_node_is_asked_for_the_opcodes_directory_when_the_first_has_ended() {
    let mut desk = desk(|settings| settings.hooks.opcode_directories = Nodes::Targets);
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.plan_on(&[HERE, THERE, "node3.example.com"], None);
    assert_eq!(asked(&desk), ["global-pre.d global", "global-pre.d global"]);
    desk.answer(&["10-there"]);
    assert_eq!(asked(&desk), ["global-pre.d global", "global-instance-startup-pre.d global"]);
    desk.answer(&[]);
    assert_eq!(asked(&desk).len(), 2, "the other node's second");
    desk.end("1.0.pre");
    desk.end("1.0.pre");
    desk.put(job(1, &[START], 0).runs(0, 0).ends(0, Status::Success, 1));
    assert!(desk.plans.is_empty(), "the post waits for the pre's nodes");
    desk.answer(&[]);
    desk.answer(&[]);
    assert_eq!(desk.plans.len(), 1);
    let there = recorded(&desk).into_iter().filter(|run| run.starts_with(THERE)).collect::<Vec<_>>();
    assert_eq!(
        there,
        [
            format!("{THERE} global-pre.d/global-pre.d"),
            format!("{THERE} global-pre.d/10-there"),
            format!("{THERE} global-instance-startup-pre.d/global-instance-startup-pre.d"),
        ]
    );
}

#[test]
fn a_request_that_was_taken_back_comes_before_what_follows_it() {
    let mut desk = desk(|settings| settings.hooks.opcode_directories = Nodes::Targets);
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.disk_is_full = true;
    desk.plan_on(&[HERE, THERE], None);
    assert!(desk.asked.is_empty() && desk.running.is_empty(), "the journal has no beginning");
    desk.disk_is_full = false;
    desk.wait(5.0);
    assert_eq!(running(&desk), ["global-pre.d/10-a global"]);
    assert_eq!(asked(&desk), ["global-pre.d global"]);
    desk.end("1.0.pre");
    desk.end("1.0.pre");
    desk.answer(&[]);
    assert_eq!(asked(&desk), ["global-instance-startup-pre.d global"]);
    desk.answer(&[]);
    assert!(desk.written.contains(&Change::EventState(1, EventState::Done)));
}

#[test]
fn a_script_that_fails_is_named_with_its_directory() {
    let mut desk = desk(|_| {});
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.plan_on(&[HERE], None);
    desk.end("1.0.pre");
    let status = desk.engine.status(desk.now);
    assert_eq!(status.running[0].script, "global-instance-startup/10-b");
    desk.end_with("1.0.pre", ganeti_hookd::engine::outcome::Outcome::not_run("no"));
    let named = |line: &String| line.contains("hook global-instance-startup/10-b");
    assert!(desk.log.iter().any(named), "{:?}", desk.log);
}

#[test]
fn a_directory_that_is_refused_keeps_no_other_from_running() {
    let mut desk = desk(|_| {});
    desk.refused = vec!["global-pre.d"];
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.plan_on(&[HERE], None);
    assert_eq!(running(&desk), ["global-instance-startup-pre.d/10-b global"]);
    assert!(recorded(&desk).contains(&format!("{HERE} global-pre.d/global-pre.d")), "{:?}", recorded(&desk));
    assert!(desk.log.iter().any(|line| line.contains("others may write to it")), "{:?}", desk.log);
}

#[test]
fn a_job_is_held_for_a_pre_hook_of_its_opcode_and_for_no_others() {
    let mut desk = desk(|_| {});
    desk.scripts.clear();
    for (id, code, pid) in [(1, "OP_TEST_DELAY", 50), (2, START, 60)] {
        desk.alive.insert(pid);
        desk.put(job(id, &[code], 0).by(pid).waits(0, 0));
        desk.put(job(id, &[code], 0).by(pid).runs(0, 0));
    }
    let stopped = |effect: &Effect| match effect {
        Effect::Stop { job, .. } => Some(job.get()),
        _ => None,
    };
    assert_eq!(desk.done.iter().filter_map(stopped).collect::<Vec<_>>(), [2], "the other in vain");
    assert!(desk.stands(60));
    desk.plan_on(&[HERE], None);
    assert_eq!(running(&desk), ["global-instance-startup-pre.d/10-b global"]);
    assert_eq!(desk.running[0].env["GANETI_HOOKD_LATE"], "no");
    desk.end("2.0.pre");
    assert!(!desk.stands(60));
}

#[test]
fn who_may_be_armed_follows_the_directories() {
    let mut desk = Desk::before_start(Settings::default(), Default::default());
    desk.kernel_stops = Ok("fentry".to_owned());
    desk.scripts.clear();
    desk.settle();
    let armed = |desk: &Desk| {
        desk.engine.status(desk.now).armed.iter().map(|armed| armed.job.get()).collect::<Vec<_>>()
    };
    for (id, code, pid) in [(1, "OP_TEST_DELAY", 50), (2, START, 60)] {
        desk.alive.insert(pid);
        desk.put(job(id, &[code], 0).by(pid).waits(0, 0));
    }
    assert!(armed(&desk).is_empty());
    desk.others.push(("global-instance-startup", "10-b"));
    desk.put(delay(3, 0));
    assert_eq!(armed(&desk), [2]);
    desk.others = vec![("global-test-delay", "10-b")];
    desk.put(delay(4, 0));
    assert_eq!(armed(&desk), [1]);
    desk.others.push(("instance-start", "10-c"));
    desk.put(delay(5, 0));
    assert_eq!(armed(&desk), [1], "Ganeti runs its own");
}

#[test]
fn ganetis_own_post_hooks_run_for_a_job_that_died() {
    let mut desk = desk(|settings| settings.hooks.native_post = vec![PostStatus::Disappeared]);
    dies(&mut desk);
    desk.plan_on(&[HERE], Some(&[HERE, THERE]));
    assert_eq!(asked(&desk), ["instance-start-post.d instance-start"], "where Ganeti would have run them");
    assert_eq!(running(&desk), ["global-post.d/10-a global"]);
    desk.end("1.0.post");
    assert_eq!(running(&desk), ["global-instance-startup-post.d/10-b global"]);
    desk.end("1.0.post");
    assert_eq!(running(&desk), ["instance-start-post.d/10-c instance-start"]);
    assert_eq!(desk.running[0].env["GANETI_POST_STATUS"], "disappeared");
    desk.end("1.0.post");
    desk.answer(&["10-dns"]);
    let there = format!("{THERE} instance-start-post.d/10-dns");
    assert!(recorded(&desk).contains(&there), "{:?}", recorded(&desk));
}

#[test]
fn ganetis_own_post_hooks_run_only_where_they_are_wanted() {
    let post = |change: &dyn Fn(&mut Settings), native: Option<&[&str]>| {
        let mut desk = desk(change);
        dies(&mut desk);
        desk.plan_on(&[HERE], native);
        while !desk.running.is_empty() {
            desk.end("1.0.post");
        }
        let asked = desk.asked.len();
        (desk.ran.iter().any(|run| run.starts_with("10-c")), asked)
    };
    let both: Option<&[&str]> = Some(&[HERE, THERE]);
    assert_eq!(post(&|_| {}, both), (false, 0), "nobody wants them");
    let of_failed = |settings: &mut Settings| settings.hooks.native_post = vec![PostStatus::Failed];
    assert_eq!(post(&of_failed, both), (false, 0), "it died");
    let of_dead = |settings: &mut Settings| settings.hooks.native_post = vec![PostStatus::Disappeared];
    assert_eq!(post(&of_dead, both), (true, 1));
    assert_eq!(post(&of_dead, None), (false, 0), "Ganeti would have run none");
    let of_others = |settings: &mut Settings| {
        of_dead(settings);
        settings.hooks.native_paths = vec!["node-*".to_owned()];
    };
    assert_eq!(post(&of_others, both), (false, 0), "other paths");
    let at_home = |settings: &mut Settings| {
        of_dead(settings);
        settings.hooks.nodes = Nodes::Master;
    };
    assert_eq!(post(&at_home, both), (true, 0), "on the master alone");
}

#[test]
fn while_a_script_runs_here_no_other_begins_though_another_node_answers() {
    let mut desk = desk(|_| {});
    desk.scripts = vec!["10-a", "20-b"];
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.plan_on(&[HERE, THERE], None);
    desk.answer(&[]);
    assert_eq!(running(&desk), ["global-pre.d/10-a global"]);
}

/// Another node is master.
fn fails_over(desk: &mut Desk, master: &'static str) {
    desk.master = Some(master);
    desk.give(Input::ClusterChanged);
    desk.settle();
}

#[test]
fn a_script_that_was_taken_back_runs_though_another_node_was_asked_meanwhile() {
    let mut desk = desk(|_| {});
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.plan_on(&[HERE, THERE], None);
    let ScriptRun { run, seq, .. } = desk.running.remove(0);
    desk.give(Input::Postponed { run, seq, error: "EAGAIN".to_owned() });
    fails_over(&mut desk, THERE);
    fails_over(&mut desk, HERE);
    assert_eq!(running(&desk), ["global-pre.d/10-a global"]);
    assert_eq!(asked(&desk).len(), 1, "it goes on there");
}

#[test]
fn what_was_taken_back_before_it_was_written_is_written_once() {
    let mut desk = desk(|_| {});
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.disk_is_full = true;
    desk.plan_on(&[HERE, THERE], None);
    desk.disk_is_full = false;
    desk.wait(5.0);
    let runs = [format!("{THERE} global-pre.d/global-pre.d"), format!("{HERE} global-pre.d/10-a")];
    assert_eq!(recorded(&desk), runs);
}

#[test]
fn what_was_planned_once_is_given_when_it_is_planned_again() {
    let mut desk = desk(|_| {});
    desk.put(job(1, &[START], 0).runs(0, 0));
    assert_eq!(desk.plans[0].given, None);
    desk.plan_on(&[HERE, THERE], None);
    let given = |desk: &Desk| desk.plans[0].given.clone().map(|view| view.nodes);
    let mut next = desk.restarted();
    next.settle();
    assert_eq!(given(&next), Some(vec![HERE.to_owned(), THERE.to_owned()]), "after a restart");
    next.disk_is_full = true;
    next.plan_on(&[HERE], None);
    fails_over(&mut next, THERE);
    next.disk_is_full = false;
    next.wait(5.0);
    fails_over(&mut next, HERE);
    assert_eq!(given(&next), Some(vec![HERE.to_owned()]), "after a failover");
}

#[test]
fn what_waits_for_another_node_alone_takes_no_slot() {
    let mut desk = desk(|settings| settings.hooks.workers = 1);
    desk.put(job(1, &[START], 0).runs(0, 0));
    desk.plan_on(&[HERE, THERE], None);
    desk.end("1.0.pre");
    desk.end("1.0.pre");
    assert_eq!(asked(&desk).len(), 1);
    desk.put(delay(2, 0).runs(0, 0));
    assert_eq!(running(&desk), ["global-pre.d/10-a global"]);
}
