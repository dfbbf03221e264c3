use super::*;
use crate::ganeti::event::{EventKey, Phase};
use crate::ganeti::job::JobId;

fn event(job: i64) -> Event {
    Event {
        key: EventKey { job: JobId::try_from(job).unwrap(), op: 0, phase: Phase::Pre },
        received: Timestamp::from_micros(1),
        op_count: 1,
        op_code: "OP_TEST_DELAY".to_owned(),
        status: None,
        executed: true,
        late: false,
        time: Timestamp::from_micros(5),
    }
}

fn run(seq: i64, id: i64) -> RunStart {
    let (node, script) = ("node1".to_owned(), "10-a".to_owned());
    RunStart { id, seq, node, script, attempt: 1, started: Timestamp::from_micros(5) }
}

#[test]
fn an_events_number_never_comes_again_not_even_when_all_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    for (seq, job) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(journal.next_seq(), seq);
        journal.commit(&[Change::Event(seq, event(job), EventState::Done)]).unwrap();
    }
    journal.commit(&[Change::Prune(Timestamp::from_micros(6))]).unwrap();
    drop(journal);
    let mut journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.next_seq(), 4);
    // Nor when that is forgotten a second time.
    journal.commit(&[Change::Prune(Timestamp::from_micros(6))]).unwrap();
    drop(journal);
    assert_eq!(Journal::open(dir.path()).unwrap().next_seq(), 4);
}

#[test]
fn a_run_of_an_event_never_takes_another_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let pending = |seq, job| Change::Event(seq, event(job), EventState::Pending);
    let done = Change::EventState(2, EventState::Done);
    let runs = [run(1, 1), run(2, 2), run(1, 3), run(2, 4)].map(Change::RunStart);
    journal.commit(&[&[pending(1, 1), pending(2, 2)][..], &runs, &[done]].concat()).unwrap();
    drop(journal);
    let mut journal = Journal::open(dir.path()).unwrap();
    let next = journal.next_run();
    journal.commit(&[Change::RunStart(run(1, next))]).unwrap();
    let outcome = Outcome { code: Some(7), ..Outcome::default() };
    journal.commit(&[Change::RunEnd(1, next, Timestamp::from_micros(9), outcome)]).unwrap();
    let mut ended = Vec::new();
    History::open(dir.path())
        .unwrap()
        .unwrap()
        .events(&Filter::default(), |found| {
            ended.push((found.seq, found.runs.iter().map(|run| run.code).collect::<Vec<_>>()));
            true
        })
        .unwrap();
    assert_eq!(ended, [(1, vec![None, None, Some(7)]), (2, vec![None, None])]);
}

#[test]
fn what_another_node_was_to_deliver_is_loaded_as_far_back_as_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let at = |job, time| Event { time: Timestamp::from_micros(time), ..event(job) };
    let standby = |seq, event| Change::Event(seq, event, EventState::Standby);
    journal.commit(&[standby(1, at(1, 10)), standby(2, at(2, 20)), standby(3, at(3, 30))]).unwrap();
    journal.commit(&[Change::RunStart(run(1, 80)), Change::RunStart(run(3, 7))]).unwrap();
    drop(journal);
    let mut journal = Journal::open(dir.path()).unwrap();
    let loaded = journal.load(Timestamp::from_micros(20)).unwrap();
    assert_eq!(loaded.standby.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(loaded.standby[1].runs[&("node1".to_owned(), "10-a".to_owned())], (1, false));
    assert_eq!(journal.next_run(), 8, "higher than any of theirs");
    assert_eq!(journal.first_event_time().unwrap(), Some(Timestamp::from_micros(10)));
}
