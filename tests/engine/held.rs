//! Who is held, who is not, and what is said of that.

use ganeti_hookd::engine::effect::{Effect, ScriptRun};
use ganeti_hookd::engine::input::{Input, Version};
use ganeti_hookd::engine::settings::{Nodes, Settings};

use crate::desk::{Desk, Life, delay, id, job};

/// Jobs that were told to stop.
fn stops(desk: &Desk) -> usize {
    desk.done.iter().filter(|effect| matches!(effect, Effect::Stop { .. })).count()
}

fn says(desk: &Desk, what: &str) -> bool {
    desk.log.iter().any(|line| line.contains(what))
}

#[test]
fn without_pre_hooks_here_a_job_is_held_only_for_those_of_other_nodes() {
    for (online, code, expected) in
        [(1, "OP_INSTANCE_STARTUP", 0), (2, "OP_TEST_DELAY", 0), (2, "OP_INSTANCE_STARTUP", 1)]
    {
        let mut settings = Settings::default();
        settings.hooks.nodes = Nodes::Targets;
        let mut desk = Desk::before_start(settings, Default::default());
        desk.scripts.clear();
        desk.settle();
        desk.give(Input::OnlineNodes(online));
        desk.alive.insert(50);
        desk.queue.insert(id(1), job(1, &[code], 0).by(50).waits(0, 0));
        desk.put(job(1, &[code], 0).by(50).waits(0, 0));
        desk.give(Input::OnlineNodes(online));
        desk.put(job(1, &[code], 0).by(50).runs(0, 0));
        assert_eq!(stops(&desk), expected, "{online} nodes, {code}");
    }
}

#[test]
fn an_opcode_that_began_long_ago_is_not_stopped() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, -10).by(50).waits(0, -10));
    desk.put(delay(1, -10).by(50).runs(0, -3));
    assert_eq!(stops(&desk), 0);
    assert!(says(&desk, "job 1 is not held: its opcode began 3.0 s ago; its pre hooks run late"));
}

#[test]
fn an_opcode_that_began_while_the_journal_could_not_be_written_is_not_stopped() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).waits(0, 0));
    desk.disk_is_full = true;
    desk.put(delay(2, 0));
    desk.wait(1.0);
    desk.put(delay(1, 0).by(50).runs(0, 1));
    desk.disk_is_full = false;
    desk.wait(1.0);
    assert_eq!(stops(&desk), 0);
    assert_eq!(desk.ran, ["10-a 1.0.pre - late=yes attempt=1"]);
}

#[test]
fn a_pre_whose_job_could_not_be_stopped_is_late_though_no_script_is_left() {
    let mut desk = Desk::new();
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).waits(0, 0));
    desk.alive.clear();
    desk.scripts.clear();
    desk.put(delay(1, 0).by(50).runs(0, 0));
    assert_eq!(stops(&desk), 1);
    assert_eq!(desk.events(), ["1.0.pre (late) OP_TEST_DELAY done"]);
}

#[test]
fn a_job_whose_file_is_large_is_held_unless_it_changed_while_it_was_read() {
    for (changes, expected) in [(false, 1), (true, 0)] {
        let mut desk = Desk::new();
        desk.alive.insert(50);
        desk.put(delay(1, 0).by(50).waits(0, 0));
        desk.large.insert(id(1));
        let job = delay(1, 0).by(50).runs(0, 0);
        desk.put(job.clone());
        if changes {
            desk.give(Input::Hint(id(1)));
        }
        desk.give(Input::LargeRead { reading: 1, id: id(1), version: Version::Queued(&job, None) });
        assert_eq!(stops(&desk), expected);
    }
}

/// A job that executes, whose number an older job had that died; the older one's pre, of two scripts,
/// is still under way.
fn a_job_of_a_number_that_is_used_again() -> Desk {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b"];
    desk.alive.extend([50, 60]);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    assert!(desk.stands(50));
    desk.queue.clear();
    desk.dies(50);
    desk.put(delay(1, 1).by(60).waits(0, 1));
    desk.put(delay(1, 1).by(60).runs(0, 1));
    assert!(desk.stands(60));
    desk
}

#[test]
fn a_job_does_not_stand_still_for_hooks_of_an_older_job_of_its_number() {
    let mut desk = a_job_of_a_number_that_is_used_again();
    desk.wait(1.0);
    desk.end("1.0.pre");
    assert_eq!(desk.ran.last().unwrap(), "20-b 1.0.pre - late=yes attempt=1");
    desk.wait(2.1);
    assert!(!desk.stands(60), "none of its own has begun");
    assert!(says(&desk, "none of its hooks could begin within 3 s"));
}

#[test]
fn the_end_of_an_older_jobs_pre_does_not_let_go_a_job_of_its_number() {
    let mut desk = a_job_of_a_number_that_is_used_again();
    desk.end("1.0.pre");
    desk.end("1.0.pre");
    assert!(desk.stands(60));
    // The older one's post.
    desk.end("1.0.post");
    desk.end("1.0.post");
    assert_eq!(desk.ran.last().unwrap(), "10-a 1.0.pre - late=no attempt=1");
    desk.end("1.0.pre");
    desk.end("1.0.pre");
    assert!(!desk.stands(60));
}

#[test]
fn a_job_of_which_a_hook_has_run_stands_still_while_the_next_cannot_begin() {
    let mut desk = Desk::new();
    desk.scripts = vec!["10-a", "20-b"];
    desk.alive.insert(50);
    desk.put(delay(1, 0).by(50).runs(0, 0));
    desk.end("1.0.pre");
    for _ in 0..5 {
        let ScriptRun { run, seq, .. } = desk.running.remove(0);
        desk.give(Input::Postponed { run, seq, error: "EAGAIN".to_owned() });
        desk.wait(1.0);
    }
    assert!(desk.stands(50));
    desk.end("1.0.pre");
    assert!(!desk.stands(50));
}
