//! A planner with a queue and a `config.data` of its own.

use std::fs;
use std::path::Path;

use super::*;
use crate::engine::change::{Change, EventState};
use crate::ganeti::event::{EventKey, Phase, PostStatus};
use crate::ganeti::job::Timestamp;
use crate::world::journal::Journal;

/// A cluster in a directory, and its planner.
struct Cluster {
    dir: tempfile::TempDir,
    planner: Planner,
    answers: Receiver<Message>,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (planner, answers) = start(dir.path());
        Self { dir, planner, answers }
    }

    /// As after a restart.
    fn restart(&mut self) {
        (self.planner, self.answers) = start(self.dir.path());
    }

    fn write_config(&self, serial: u32, instances: &str) {
        let config = format!(
            r#"{{"serial_no":{serial},"cluster":{{"cluster_name":"c","master_node":"m"}},
                "nodes":{{"m":{{"name":"node1","primary_ip":"198.51.100.11"}},
                          "n":{{"name":"node2","primary_ip":"198.51.100.12"}},
                          "o":{{"name":"node3","primary_ip":"198.51.100.13","offline":true}},
                          "p":{{"name":"node4","primary_ip":"nowhere"}}}},
                "instances":{{{instances}}}}}"#
        );
        fs::write(self.dir.path().join("config.data"), config).unwrap();
    }

    fn write_job(&self, path: &str, received: u32, input: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let job = format!(
            r#"{{"id":7,"received_timestamp":[{received},0],"ops":[{{"status":"running","input":{input}}}]}}"#
        );
        fs::write(path, job).unwrap();
    }

    fn plan(&self, event: &Event, given: Option<View>) -> (Plan, Option<String>) {
        self.planner.ask(PlanRequest { seq: 3, event: event.clone(), given, urgent: false });
        match self.answers.recv().unwrap() {
            Message::Input(Input::Planned { seq: 3, plan, problem }) => (plan, problem),
            other => panic!("{other:?}"),
        }
    }
}

fn start(dir: &Path) -> (Planner, Receiver<Message>) {
    let (owner, answers) = unbounded();
    (Planner::start(&paths(dir), owner).unwrap(), answers)
}

fn paths(dir: &Path) -> Paths {
    let mut paths = crate::engine::settings::Settings::default().paths;
    for path in [&mut paths.queue_dir, &mut paths.data_dir, &mut paths.ganeti_run_dir, &mut paths.state_dir] {
        *path = dir.to_owned();
    }
    paths
}

fn event(phase: Phase) -> Event {
    Event {
        key: EventKey { job: 7.try_into().unwrap(), op: 0, phase },
        received: Timestamp::from((5, 0)),
        op_count: 1,
        op_code: "OP_INSTANCE_REMOVE".to_owned(),
        status: (phase == Phase::Post).then_some(PostStatus::Succeeded),
        executed: true,
        late: false,
        time: Timestamp::from((6, 0)),
        about: Default::default(),
    }
}

const INPUT: &str =
    r#"{"OP_ID":"OP_INSTANCE_REMOVE","instance_name":"web","osparams_private":{"password":"hunter2"}}"#;
const INSTANCE: &str = r#""i":{"name":"web","primary_node":"n","admin_state":"up"}"#;

#[test]
fn a_post_has_what_its_pre_had() {
    let cluster = Cluster::new();
    cluster.write_config(1, INSTANCE);
    cluster.write_job("job-7", 5, INPUT);
    let (pre, problem) = cluster.plan(&event(Phase::Pre), None);
    let target =
        |node: &str, address: &str| Target { node: node.to_owned(), address: Some(address.parse().unwrap()) };
    let master = target("node1", "198.51.100.11:1811");
    assert_eq!((problem, pre.targets), (None, vec![master.clone()]));
    assert_eq!(pre.view.variables["GANETI_INSTANCE_PRIMARY"], "node2");
    cluster.write_config(2, "");
    fs::remove_file(cluster.dir.path().join("job-7")).unwrap();
    cluster.write_job("archive/0/job-7", 5, INPUT);
    let (post, _) = cluster.plan(&event(Phase::Post), None);
    assert_eq!(post.targets, [master, target("node2", "198.51.100.12:1811")]);
    assert_eq!(post.view.variables["GANETI_POST_INSTANCE_PRIMARY"], "node2");
}

#[test]
fn after_a_restart_the_journal_has_it() {
    let mut cluster = Cluster::new();
    cluster.write_config(1, INSTANCE);
    cluster.write_job("job-7", 5, INPUT);
    let (pre, _) = cluster.plan(&event(Phase::Pre), None);
    let mut journal = Journal::open(cluster.dir.path()).unwrap();
    let seq = 1;
    journal
        .commit(&[
            Change::Event(seq, event(Phase::Pre), EventState::Pending),
            Change::Plan(seq, pre.view.clone()),
        ])
        .unwrap();
    assert_eq!(journal.load(Timestamp::default()).unwrap().undelivered[0].plan.as_ref(), Some(&pre.view));
    cluster.restart();
    cluster.write_config(2, "");
    let (post, _) = cluster.plan(&event(Phase::Post), None);
    assert_eq!(post.view.nodes, ["node1", "node2"]);
    assert_eq!(post.view.variables["GANETI_INSTANCE_PRIMARY"], "node2");
    let files = fs::read_dir(cluster.dir.path()).unwrap().map(|file| file.unwrap().path());
    for file in files.filter(|file| file.display().to_string().contains("journal")) {
        let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        assert!(!text.contains("hunter2"), "a secret in the journal");
    }
}

#[test]
fn what_was_given_once_does_not_change() {
    let cluster = Cluster::new();
    cluster.write_config(1, "");
    let given = View { nodes: ["node1", "node4", "node9"].map(str::to_owned).into(), ..View::default() };
    let (plan, _) = cluster.plan(&event(Phase::Pre), Some(given.clone()));
    assert_eq!(plan.view, given);
    let nowhere = |node: &str| Target { node: node.to_owned(), address: None };
    assert_eq!(plan.targets[1..], [nowhere("node4"), nowhere("node9")]);
}

#[test]
fn another_job_of_the_number_gives_nothing() {
    let cluster = Cluster::new();
    cluster.write_config(1, INSTANCE);
    cluster.write_job("job-7", 4, INPUT);
    let (plan, _) = cluster.plan(&event(Phase::Pre), None);
    assert_eq!(plan.view.variables.get("GANETI_INSTANCE_NAME"), None);
    assert_eq!(plan.view.nodes, ["node1"]);
}

#[test]
fn a_bad_field_costs_itself_and_is_said_once() {
    let cluster = Cluster::new();
    cluster.write_config(1, INSTANCE);
    let input = INPUT.replace("hunter2", r"hunter2\udc80");
    cluster.write_job("job-7", 5, &input);
    let mut desk = Desk::new(&paths(cluster.dir.path()));
    desk.read_after(0);
    for phase in [Phase::Pre, Phase::Post] {
        let (plan, _) = desk.plan(&event(phase), None);
        assert_eq!(plan.view.variables["GANETI_INSTANCE_PRIMARY"], "node2");
        assert!(plan.view.nodes.contains(&"node1".to_owned()));
    }
    assert_eq!(desk.warnings.len(), 1, "{:?}", desk.warnings);
    let warning = &desk.warnings[0];
    assert!(
        warning.starts_with("7.0.pre: ") && warning.contains("holds in osparams_private is not"),
        "{warning}"
    );
    assert!(!warning.contains("hunter2"), "{warning}");
}

#[test]
fn an_input_that_cannot_be_had_is_not_passed_over_in_silence() {
    let cluster = Cluster::new();
    cluster.write_config(1, INSTANCE);
    for (received, input, why) in [(4, INPUT, "another job's now"), (5, "7", "invalid type")] {
        cluster.write_job("job-7", received, input);
        let (_, warnings) = view_now(&paths(cluster.dir.path()), &event(Phase::Pre));
        assert!(warnings.len() == 1 && warnings[0].contains(why), "{warnings:?}");
    }
}

#[test]
fn without_a_configuration_there_is_a_problem_and_a_plan() {
    let cluster = Cluster::new();
    cluster.write_job("job-7", 5, INPUT);
    let (plan, problem) = cluster.plan(&event(Phase::Pre), None);
    assert_eq!((plan.view.nodes.len(), plan.targets.len()), (0, 0));
    assert!(problem.unwrap().contains("config.data does not exist"));
}

#[test]
fn whoever_waits_is_answered_from_one_reading_and_urgent_ones_first() {
    let cluster = Cluster::new();
    cluster.write_config(1, INSTANCE);
    cluster.write_job("job-7", 5, INPUT);
    let mut desk = Desk::new(&paths(cluster.dir.path()));
    let (requests, inbox) = unbounded();
    let (owner, answers) = unbounded();
    for (seq, urgent) in [(1, false), (2, false), (3, true), (4, false), (5, true)] {
        let event = event(Phase::Pre);
        requests.send(PlanRequest { seq, event, given: None, urgent }).unwrap();
    }
    drop(requests);
    desk.work(&inbox, &owner);
    let answered = answers.try_iter().map(|answer| match answer {
        Message::Input(Input::Planned { seq, plan, .. }) => {
            (seq, plan.view.variables["GANETI_INSTANCE_PRIMARY"].clone())
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(answered.collect::<Vec<_>>(), [3, 5, 1, 2, 4].map(|seq| (seq, "node2".to_owned())));
    assert_eq!(desk.readings, 1);
    // Who comes later wants to know how it is then.
    let (requests, inbox) = unbounded();
    requests.send(PlanRequest { seq: 6, event: event(Phase::Pre), given: None, urgent: false }).unwrap();
    drop(requests);
    desk.work(&inbox, &owner);
    assert_eq!(desk.readings, 2);
}
