//! A node whose API is served from this process, and whose journal the test writes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ganeti_hookd::engine::change::{Change, EventState, RunStart};
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::engine::settings::{Paths, Settings};
use ganeti_hookd::ganeti::event::{Event, EventKey, Phase, PostStatus};
use ganeti_hookd::ganeti::job::Timestamp;
use ganeti_hookd::world::api::bell::Bell;
use ganeti_hookd::world::api::{self, Api, Backend, Question, SOCKET};
use ganeti_hookd::world::journal::{Journal, put_in_place, replace};
use tempfile::TempDir;

/// No daemon: nobody answers for it, or what it is asked lies there unanswered.
#[derive(Default)]
struct Nobody(Option<Mutex<Vec<Question>>>);

impl Backend for Nobody {
    fn ask(&self, question: Question) -> bool {
        self.0.as_ref().map(|questions| questions.lock().unwrap().push(question)).is_some()
    }
}

/// A node.
pub struct Served {
    paths: Paths,
    journal: Option<Journal>,
    bell: Arc<Bell>,
    api: Option<Api>,
    dir: TempDir,
}

impl Served {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Settings::default().paths;
        paths.state_dir = dir.path().join("state");
        paths.queue_dir = dir.path().join("queue");
        paths.run_dir = dir.path().join("run");
        std::fs::create_dir(&paths.state_dir).unwrap();
        std::fs::create_dir(&paths.queue_dir).unwrap();
        let mut served = Self { paths, journal: None, bell: Bell::new().unwrap(), api: None, dir };
        served.restart();
        served
    }

    /// The daemon ends and starts again.
    pub fn restart(&mut self) {
        (self.api, self.journal) = (None, None);
        self.journal = Some(Journal::open(&self.paths.state_dir).unwrap());
        self.bell = Bell::new().unwrap();
        self.api = Some(api::serve(&self.paths, Arc::clone(&self.bell), Nobody::default()).unwrap());
    }

    /// From now on the daemon is silent: its journal cannot be written.
    pub fn fall_silent(&mut self) {
        self.api = None;
        let silent = Nobody(Some(Mutex::default()));
        self.api = Some(api::serve(&self.paths, Arc::clone(&self.bell), silent).unwrap());
    }

    /// Another journal takes the place of this one.
    pub fn lose_journal(&mut self) {
        // As the daemon does when it is found damaged.
        let state_dir = &self.paths.state_dir;
        let old = self.journal.take().unwrap();
        old.write_anew(state_dir, &[]).unwrap();
        self.journal = Some(replace(|| {
            put_in_place(state_dir, Timestamp::default()).unwrap();
            Journal::open(state_dir).unwrap()
        }));
        drop(old);
        self.bell.history_has_changed();
    }

    /// What the daemon does with changes.
    pub fn commit(&mut self, changes: &[Change]) {
        self.journal.as_mut().unwrap().commit(changes).unwrap();
        self.bell.history_has_changed();
    }

    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    pub fn socket(&self) -> PathBuf {
        self.paths.run_dir.join(SOCKET)
    }

    /// A path in the queue.
    pub fn queue(&self, name: &str) -> PathBuf {
        self.dir.path().join("queue").join(name)
    }
}

/// The post of a job, noticed at this second.
pub fn post(seq: i64, job: i64, second: i64, state: EventState) -> Change {
    let event = Event {
        key: EventKey { job: job.try_into().unwrap(), op: 0, phase: Phase::Post },
        received: Timestamp::from_micros(job),
        op_count: 1,
        op_code: "OP_TEST_DELAY".to_owned(),
        status: Some(PostStatus::Succeeded),
        executed: true,
        late: false,
        time: Timestamp::from_micros(second * 1_000_000),
        about: Default::default(),
    };
    Change::Event(seq, event, state)
}

/// A run of an event that said `output` bytes that are long as JSON.
pub fn run(seq: i64, output: usize) -> [Change; 2] {
    let (node, script, time) = ("node1".to_owned(), "10-a".to_owned(), Timestamp::default());
    let directory = "global-post.d".to_owned();
    let start = RunStart { id: seq, seq, node, directory, script, attempt: 1, started: time };
    let outcome = Outcome { code: Some(0), output: "\u{1}".repeat(output), ..Outcome::default() };
    [Change::RunStart(start), Change::RunEnd(seq, seq, time, outcome)]
}
