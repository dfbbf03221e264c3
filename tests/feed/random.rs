//! Whatever happens to readers, daemons and journals: each reader has seen each event's last
//! state, or was told that it has not.

use std::collections::BTreeMap;

use ganeti_hookd::engine::change::{Change, EventState};
use ganeti_hookd::ganeti::job::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::http::{ask, get};
use super::served::{Served, post};

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// So many events are noticed.
    New(u8),
    /// The state of one of this journal's events changes.
    Change(usize, EventState),
    /// Events before one of them are forgotten.
    Prune(usize, u32),
    Restart,
    /// The journal is lost.
    Lose,
    /// The other node becomes master.
    Failover,
    /// A reader reads a page.
    Page(usize, u32),
    /// A reader is killed when it has seen a page and not saved where it is.
    Killed(usize, u32),
    /// A reader reads a stream, beside what happens, and goes.
    Stream(usize, Box<Step>),
}

fn state() -> impl Strategy<Value = EventState> {
    prop_oneof![Just(EventState::Pending), Just(EventState::Done), Just(EventState::Standby)]
}

fn to_nodes() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6u8).prop_map(Step::New),
        4 => (0..40usize, state()).prop_map(|(event, state)| Step::Change(event, state)),
        2 => (0..40usize, 1..9u32).prop_map(|(event, most)| Step::Prune(event, most)),
        1 => Just(Step::Lose),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let stream = (0..READERS, to_nodes()).prop_map(|(reader, beside)| Step::Stream(reader, Box::new(beside)));
    prop_oneof![
        6 => to_nodes(),
        1 => Just(Step::Restart),
        1 => Just(Step::Failover),
        5 => (0..READERS, 1..9u32).prop_map(|(reader, limit)| Step::Page(reader, limit)),
        2 => (0..READERS, 1..9u32).prop_map(|(reader, limit)| Step::Killed(reader, limit)),
        4 => stream,
    ]
}

const READERS: usize = 3;

/// States by job.
type States = BTreeMap<i64, String>;

#[derive(Default)]
struct Reader {
    cursor: Option<String>,
    /// What each node told.
    seen: [States; 2],
    /// What each node had had when it last said that something is missing.
    excused: [States; 2],
}

/// A node, and the last state of each event that it ever had.
struct Node {
    served: Served,
    number: usize,
    /// The jobs of its journal, by the numbers of their events, from 1.
    jobs: Vec<i64>,
    truth: States,
}

impl Node {
    fn new(number: usize) -> Self {
        Self { served: Served::new(), number, jobs: Vec::new(), truth: States::new() }
    }

    /// An event is noticed.
    fn notices(&mut self, job: i64, state: EventState) {
        self.jobs.push(job);
        let seq = i64::try_from(self.jobs.len()).unwrap();
        self.served.commit(&[post(seq, job, job, state)]);
        self.truth.insert(job, state.as_str().to_owned());
    }

    /// One of its events becomes so.
    fn changes(&mut self, event: usize, state: EventState) {
        let Some(at) = event.checked_rem(self.jobs.len()) else { return };
        let job = self.jobs[at];
        // Of what is forgotten nothing changes.
        if self.everything().contains(&job) {
            self.served.commit(&[Change::EventState(i64::try_from(at).unwrap() + 1, state)]);
            self.truth.insert(job, state.as_str().to_owned());
        }
    }

    /// Events before one of them are forgotten.
    fn forgets(&mut self, event: usize, most: u32) {
        let Some(at) = event.checked_rem(self.jobs.len()) else { return };
        let before = Timestamp::from_micros(self.jobs[at] * 1_000_000);
        self.served.commit(&[Change::Prune(before, most)]);
    }

    fn loses(&mut self) {
        self.served.lose_journal();
        self.jobs.clear();
    }

    /// The jobs that the feed tells of.
    fn everything(&self) -> Vec<i64> {
        let answer = get(&self.served.socket(), "/v1/events?limit=1000");
        answer.lines().iter().filter_map(|line| line["job"].as_i64()).collect()
    }
}

impl Reader {
    fn take(&mut self, node: &Node, lines: &[Value]) {
        for line in lines.iter().filter(|line| line["type"].is_null()) {
            let state = line["state"].as_str().unwrap().to_owned();
            self.seen[node.number].insert(line["job"].as_i64().unwrap(), state);
        }
    }

    fn is_told_of_a_loss(&mut self, node: &Node, told: &Value) {
        self.excused[node.number] = node.truth.clone();
        self.cursor = Some(told["oldest"].as_str().unwrap().to_owned());
    }

    /// What it asks next. Who begins is not owed what is gone.
    fn target(&mut self, node: &Node, more: &str) -> String {
        if self.cursor.is_none() {
            self.excused[node.number] = node.truth.clone();
        }
        let after = self.cursor.as_ref().map(|cursor| format!("&after={cursor}")).unwrap_or_default();
        format!("/v1/events?{more}{after}")
    }

    /// Reads a page. Returns whether there was something.
    fn page(&mut self, node: &Node, limit: u32, is_killed: bool) -> bool {
        let target = self.target(node, &format!("limit={limit}"));
        let answer = get(&node.served.socket(), &target);
        match answer.status {
            200 => {
                self.take(node, &answer.lines());
                if !is_killed {
                    self.cursor = Some(answer.cursor());
                }
                !answer.body.is_empty()
            }
            410 => {
                if !is_killed {
                    self.is_told_of_a_loss(node, &answer.json());
                }
                true
            }
            _ => panic!("{answer:?}"),
        }
    }
}

struct World {
    nodes: [Node; 2],
    master: usize,
    /// The last job.
    last: i64,
    readers: [Reader; READERS],
}

impl World {
    fn new() -> Self {
        Self { nodes: [0, 1].map(Node::new), master: 0, last: 0, readers: Default::default() }
    }

    fn happens(&mut self, step: &Step) {
        let node = &mut self.nodes[self.master];
        match step {
            Step::New(count) => (0..*count).for_each(|_| self.is_noticed()),
            Step::Change(event, state) => node.changes(*event, *state),
            Step::Prune(event, most) => node.forgets(*event, *most),
            Step::Restart => node.served.restart(),
            Step::Lose => node.loses(),
            Step::Failover => self.master = 1 - self.master,
            Step::Page(reader, limit) => {
                self.readers[*reader].page(node, *limit, false);
            }
            Step::Killed(reader, limit) => {
                self.readers[*reader].page(node, *limit, true);
            }
            Step::Stream(reader, beside) => self.stream(*reader, beside),
        }
    }

    /// Both nodes notice an event; it is the master's to deliver.
    fn is_noticed(&mut self) {
        self.last += 1;
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let is_master = number == self.master;
            node.notices(self.last, if is_master { EventState::Pending } else { EventState::Standby });
        }
    }

    /// A reader has a stream open while something happens, and reads on until it knows that.
    fn stream(&mut self, reader: usize, beside: &Step) {
        let node = &self.nodes[self.master];
        let target = self.readers[reader].target(node, "stream=1");
        let mut stream = ask(&node.served.socket(), "GET", &target);
        if stream.status == 410 {
            return self.readers[reader].is_told_of_a_loss(node, &stream.whole().json());
        }
        if stream.status != 200 {
            panic!("{:?}", stream.whole());
        }
        self.readers[reader].cursor = Some(stream.cursor());
        self.happens(beside);
        self.is_noticed();
        let (node, reader) = (&self.nodes[self.master], &mut self.readers[reader]);
        loop {
            // For a moment there was no journal: it has to ask again.
            let Some(line) = stream.line() else { return assert!(matches!(beside, Step::Lose)) };
            match line["type"].as_str() {
                None => reader.take(node, &[line]),
                Some("heartbeat") => {
                    reader.cursor = Some(line["cursor"].as_str().unwrap().to_owned());
                    if reader.seen[node.number].contains_key(&self.last) {
                        return;
                    }
                }
                Some("gap") if line["lost"] == true => return reader.is_told_of_a_loss(node, &line),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Everybody reads on to the end of what the master has.
    fn ends(mut self) -> Result<(), TestCaseError> {
        let node = &self.nodes[self.master];
        let kept = node.everything();
        for reader in &mut self.readers {
            while reader.page(node, 7, false) {}
            for (job, state) in &node.truth {
                let has_seen = reader.seen[node.number].get(job) == Some(state);
                let was_told = reader.excused[node.number].get(job) == Some(state) && !kept.contains(job);
                prop_assert!(has_seen || was_told, "job {job} is {state}, and nobody said so");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_reader_has_seen_each_last_state_or_was_told(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.happens(step));
        world.ends()?;
    }
}
