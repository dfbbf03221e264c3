//! `events --follow` reads the feed.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, ChildStdout, Stdio};

use ganeti_hookd::engine::change::{Change, EventState, Notice, Rerun};
use ganeti_hookd::ganeti::event::PostStatus;
use ganeti_hookd::ganeti::job::Timestamp;
use ganeti_hookd::ganeti::object::ObjectKind;
use ganeti_hookd::world::journal::{FILE, Journal};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fixture::{BEGIN, Written, about, event, run};
use crate::harness::wait_for;

/// `events --follow`, and what it says.
struct Follow {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Follow {
    fn new(written: &Written, args: &[&str]) -> Self {
        let mut program = written.program();
        program.args(["events", "--follow"]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err }
    }

    /// The next line on standard output.
    fn out(&mut self) -> String {
        self.out.next().unwrap().unwrap()
    }

    /// The next line on standard error.
    fn err(&mut self) -> String {
        self.err.next().unwrap().unwrap()
    }

    /// The event in the next line, which is JSON.
    fn event(&mut self) -> String {
        let line: Value = serde_json::from_str(&self.out()).unwrap();
        line["event"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    /// Stands still until it is told to go on, and has read nothing meanwhile.
    fn stops(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        wait_for(|| stat().contains(") T ").then_some(()), stat);
    }

    fn goes_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(seq: i64, key: &str, after: i64, state: EventState) -> Change {
    Change::Event(seq, event(key, "OP_TEST_DELAY", Some(PostStatus::Succeeded), after), state)
}

#[test]
fn each_event_comes_when_it_is_over_and_again_after_a_rerun() {
    let mut written = Written::empty();
    written.commit(&[post(1, "1.0.post", 0, EventState::Pending), post(2, "2.0.post", 0, EventState::Done)]);
    let mut follow = Follow::new(&written, &["--json"]);
    assert_eq!(follow.event(), "2.0.post");
    written.commit(&[Change::EventState(1, EventState::Done)]);
    assert_eq!(follow.event(), "1.0.post");
    written.commit(&[Change::Rerun(2, Rerun::default())]);
    written.commit(&[post(3, "3.0.post", 0, EventState::Done)]);
    assert_eq!(follow.event(), "3.0.post", "what runs again is not over");
    written.commit(&[Change::EventState(2, EventState::Done)]);
    assert_eq!(follow.event(), "2.0.post");
}

#[test]
fn filters_choose_what_comes() {
    let mut written = Written::empty();
    let args = ["--object", "web1", "--status", "failed", "--failed", "--no-headers", "-o", "event,runs"];
    let mut follow = Follow::new(&written, &args);
    let failed = |key| event(key, "OP_NODE_MIGRATE", Some(PostStatus::Failed), 0);
    written.commit(&[
        Change::Event(1, about(failed("1.0.post"), ObjectKind::Node, "web2"), EventState::Done),
        Change::Event(2, about(failed("2.0.post"), ObjectKind::Node, "web1"), EventState::Done),
        Change::Event(3, about(failed("3.0.post"), ObjectKind::Node, "web1"), EventState::Pending),
    ]);
    written.commit(&[run(1, 2, "10-ok", Some(0)), run(2, 3, "10-bad", Some(3))].concat());
    written.commit(&[Change::EventState(3, EventState::Done)]);
    assert_eq!(follow.out(), "3.0.post 10-bad=3");
}

fn notices() -> [Change; 2] {
    let time = BEGIN as f64 + 60.0;
    [
        Change::Notice(Notice::Takeover { time, node: "node2\u{1b}[2J".to_owned() }),
        Change::Notice(Notice::Gap { time, since: Some(BEGIN as f64) }),
    ]
}

#[test]
fn notices_are_lines_beside_the_table() {
    let mut written = Written::empty();
    written.commit(&notices());
    written.commit(&[post(1, "1.0.post", 0, EventState::Done)]);
    let mut follow = Follow::new(&written, &["--no-headers", "-o", "event"]);
    assert_eq!(follow.err(), "# 2026-11-28 11:01:00 node2\\u{1b}[2J has become master");
    assert_eq!(
        follow.err(),
        "# 2026-11-28 11:01:00 nobody has watched the queue since 2026-11-28 11:00:00; what was found comes late"
    );
    assert_eq!(follow.out(), "1.0.post");
}

#[test]
fn notices_are_objects_among_the_events() {
    let mut written = Written::empty();
    written.commit(&notices());
    let mut follow = Follow::new(&written, &["--json", "--object", "web1"]);
    let told = [follow.out(), follow.out()].map(|line| serde_json::from_str::<Value>(&line).unwrap());
    assert_eq!(told.map(|notice| notice["type"].clone()), ["takeover", "gap"]);
}

#[test]
fn what_was_forgotten_meanwhile_is_said_to_be_missing() {
    let mut written = Written::empty();
    written.commit(&[post(1, "1.0.post", 0, EventState::Done)]);
    let mut follow = Follow::new(&written, &["--json"]);
    assert_eq!(follow.event(), "1.0.post");
    follow.stops();
    written.commit(&[post(2, "2.0.post", 1, EventState::Done), post(3, "3.0.post", 9, EventState::Done)]);
    written.commit(&[Change::Prune(Timestamp::from((BEGIN + 5, 0)), 100)]);
    follow.goes_on();
    assert_eq!(follow.event(), "3.0.post");
    let said = follow.err();
    assert!(said.starts_with("# events are missing here: ") && said.contains("history.keep"), "{said}");
}

#[test]
fn another_journal_is_followed_from_its_beginning() {
    let mut written = Written::empty();
    written.commit(&[post(1, "1.0.post", 0, EventState::Done)]);
    let mut follow = Follow::new(&written, &["--json"]);
    assert_eq!(follow.event(), "1.0.post");
    let state = written.tree.path("state");
    for part in ["", "-wal", "-shm"] {
        std::fs::rename(state.join(format!("{FILE}{part}")), state.join(format!("old{part}"))).unwrap();
    }
    written.journal = Journal::open(&state).unwrap();
    written.commit(&[post(1, "7.0.post", 0, EventState::Done)]);
    assert_eq!(follow.event(), "7.0.post");
    let said = follow.err();
    assert!(said.contains("events are missing here: ") && said.contains("another journal"), "{said}");
}
