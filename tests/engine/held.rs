//! Who is held, who is not, and what is said of that.

use ganeti_hookd::engine::effect::Effect;
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
    desk.put(delay(1, 0).by(50).runs(0, 0));
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
    assert_eq!(desk.events(), ["1.0.pre (late) OP_TEST_DELAY pending"]);
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
