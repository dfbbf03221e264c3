//! Who reads costs no commit: they are counted in the journal's log.

use std::fs;
use std::path::Path;
use std::thread;

use ganeti_hookd::engine::change::EventState;

use super::http::{Coming, ask, get};
use super::served::{Served, post};
use crate::harness::{Job, Tree};

/// Readers of the feed, besides one that takes nothing.
const READERS: usize = 29;

/// Commits in a journal's log (SQLite: "WAL file format"): each ends with a frame that tells the size
/// of the journal after it.
fn commits(journal: &Path) -> usize {
    let log = fs::read(journal.with_extension("db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = log[32..].chunks_exact(24 + page).filter(|frame| frame[8..16] == log[16..24]);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

/// Streams, the first of which nobody reads, and requests that wait for what comes.
struct Readers {
    streams: Vec<Coming>,
    waits: Vec<thread::JoinHandle<String>>,
}

impl Readers {
    fn start(socket: &Path) -> Self {
        let end = get(socket, "/v1/events").cursor();
        let streams = (0..=READERS).map(|_| ask(socket, "GET", &format!("/v1/events?stream=1&after={end}")));
        let wait = |_| {
            let (socket, target) = (socket.to_owned(), format!("/v1/events?wait=60&after={end}"));
            thread::spawn(move || get(&socket, &target).body)
        };
        Self { streams: streams.collect(), waits: (0..10).map(wait).collect() }
    }

    /// Waits until all of them have been told that this job's last event is done.
    fn are_told_of(self, job: i64) {
        for mut stream in self.streams.into_iter().skip(1) {
            let is_it = |line: &serde_json::Value| {
                line["event"] == format!("{job}.0.post") && line["state"] == "done"
            };
            while !is_it(&stream.line().unwrap()) {}
        }
        assert!(self.waits.into_iter().all(|wait| !wait.join().unwrap().is_empty()));
    }
}

#[test]
fn readers_write_nothing() {
    let mut node = Served::new();
    let journal = node.queue("../state/journal.db");
    node.commit(&[post(1, 1, 1, EventState::Done)]);
    let readers = Readers::start(&node.socket());
    let before = commits(&journal);
    for seq in 2..=40 {
        node.commit(&[post(seq, seq, 1, EventState::Done)]);
    }
    readers.are_told_of(40);
    assert_eq!(commits(&journal) - before, 39);
}

/// The commits of four jobs from the first's beginning until their hooks have ended, and all who read have been
/// told so.
fn commits_of_jobs(has_readers: bool) -> usize {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let journal = tree.path("state/journal.db");
    let mut waiting: Vec<Job> = (1..=4).map(Job::delay).collect();
    waiting.iter_mut().for_each(|job| tree.put(job.waits(0)));
    daemon.wait_status("the jobs", |status| status["jobs_tracked"] == 4);
    // What a start writes has been written.
    daemon.fence();
    let readers = has_readers.then(|| Readers::start(&tree.path("hookd/hookd.sock")));
    let before = commits(&journal);
    for (id, job) in (1..).zip(&mut waiting) {
        tree.put(job.runs(0));
        daemon.wait_done(&[&format!("{id}.0.pre")]);
        tree.put(job.succeeds(0));
        daemon.wait_done(&[&format!("{id}.0.post")]);
    }
    readers.into_iter().for_each(|readers| readers.are_told_of(4));
    commits(&journal) - before
}

#[test]
fn an_event_takes_as_many_commits_with_readers_as_without() {
    let [without, with] = [false, true].map(commits_of_jobs);
    println!("commits of eight events: {without} without readers, {with} with {READERS} and one stuck");
    assert!(without > 0 && without == with, "{without} without readers, {with} with");
}
