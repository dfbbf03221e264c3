//! A history that is known in every detail.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ganeti_hookd::engine::change::{Change, EventState, RunStart};
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::ganeti::about::{About, Reason, Trail};
use ganeti_hookd::ganeti::event::{Event, PostStatus};
use ganeti_hookd::ganeti::job::Timestamp;
use ganeti_hookd::ganeti::object::{Object, ObjectKind};
use ganeti_hookd::world::clock;
use ganeti_hookd::world::journal::Journal;

use crate::harness::Tree;
use crate::harness::tree::Said;

/// 2026-11-28 10:00:00 UTC.
pub const BEGIN: i64 = 1_795_860_000;

/// An hour before UTC, all the year.
const TIME_ZONE: &str = "XYZ-1";

/// A history on the disk.
pub struct Written {
    pub tree: Tree,
    pub journal: Journal,
}

impl Written {
    /// With jobs 41 to 45.
    pub fn new() -> Self {
        let mut written = Self::empty();
        written.commit(&all());
        written
    }

    /// Without an event.
    pub fn empty() -> Self {
        let tree = Tree::new();
        std::fs::create_dir(tree.path("state")).unwrap();
        let journal = Journal::open(&tree.path("state")).unwrap();
        Self { tree, journal }
    }

    pub fn commit(&mut self, changes: &[Change]) {
        self.journal.commit(changes).unwrap();
    }

    /// The program, in a time zone and with a terminal that are the same everywhere.
    pub fn program(&self) -> Command {
        let mut program = self.tree.program();
        program.env("TZ", TIME_ZONE).env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
        program
    }

    pub fn cli(&self, args: &[&str]) -> Said {
        let output = self.program().args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// An event so many seconds after the beginning.
pub fn event(key: &str, op_code: &str, status: Option<PostStatus>, after: i64) -> Event {
    Event {
        key: key.parse().unwrap(),
        received: Timestamp::from((BEGIN - 10, 0)),
        op_count: 1,
        op_code: op_code.to_owned(),
        status,
        executed: true,
        late: false,
        time: Timestamp::from((BEGIN + after, 0)),
        about: Arc::default(),
    }
}

/// It is about this.
pub fn about(event: Event, kind: ObjectKind, name: &str) -> Event {
    let about =
        About { object: Some(Object { kind, name: Some(name.to_owned()) }), ..(*event.about).clone() };
    Event { about: Arc::new(about), ..event }
}

/// A migration that failed, with all that can be told of it.
fn migration() -> Event {
    let event = about(
        event("41.0.post", "OP_INSTANCE_MIGRATE", Some(PostStatus::Failed), 0),
        ObjectKind::Instance,
        "web1.example.com",
    );
    let reason = |source: &str, text: &str| Reason(source.to_owned(), text.to_owned(), BEGIN as f64);
    let micros = |micros: i64| Some(Timestamp::from_micros((BEGIN - 10) * 1_000_000 + micros));
    let about = About {
        cluster: Some("11111111-2222-3333-4444-555555555555".into()),
        started: micros(1_250_000),
        executed: micros(1_290_000),
        ended: micros(10_000_000),
        reason: Trail(vec![
            reason("gnt:client:gnt-instance", "migrate"),
            reason("gnt:user", "kernel update"),
            reason("gnt:opcode:node_migrate", "job=40;index=1"),
            reason("gnt:opcode:instance_migrate", "job=41;index=0"),
        ]),
        error: Some("Node 'x\n' is offline".to_owned()),
        ..(*event.about).clone()
    };
    Event { about: Arc::new(about), ..event }
}

/// A run of a script, and what came of it.
pub fn run(id: i64, seq: i64, script: &str, code: Option<i32>) -> Vec<Change> {
    let start = RunStart {
        id,
        seq,
        node: "node1.example.com".to_owned(),
        directory: "global-post.d".to_owned(),
        script: script.to_owned(),
        attempt: 1,
        started: Timestamp::from((BEGIN, 0)),
    };
    let outcome = Outcome { code, output: format!("said by {script}\n"), ..Outcome::default() };
    vec![Change::RunStart(start), Change::RunEnd(seq, id, Timestamp::from((BEGIN + 1, 0)), outcome)]
}

fn all() -> Vec<Change> {
    let done = |seq, event| Change::Event(seq, event, EventState::Done);
    let startup = |key, status, after| {
        about(event(key, "OP_INSTANCE_STARTUP", status, after), ObjectKind::Instance, "web10.example.com")
    };
    let late = Event { late: true, ..startup("42.0.post", Some(PostStatus::Succeeded), 125) };
    let evacuation = event("43.0.post", "OP_NODE_MIGRATE", Some(PostStatus::Disappeared), 300);
    let now = Timestamp::from_micros(clock::now().as_micros() - 3_600_000_000);
    let recent = event("45.0.post", "OP_TAGS_SET", Some(PostStatus::Succeeded), 0);
    let mut changes = vec![
        done(1, migration()),
        Change::Held(
            "41.0.post".parse().unwrap(),
            Timestamp::from((BEGIN - 10, 0)),
            Duration::from_millis(500),
        ),
        done(2, startup("42.0.pre", None, 120)),
        done(3, late),
        done(4, about(evacuation, ObjectKind::Node, "web1.example.com")),
        Change::Event(5, event("44.1.pre", "OP_TEST_DELAY", None, 301), EventState::Pending),
        done(6, about(Event { time: now, ..recent }, ObjectKind::Cluster, "cluster.example.com")),
    ];
    changes.extend(run(1, 1, "10-mail", Some(0)));
    changes.extend(run(2, 3, "10-mail", Some(0)));
    changes.extend(run(3, 3, "20-check", Some(1)));
    changes
}
