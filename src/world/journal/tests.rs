use super::*;
use crate::engine::change::{EventState, RunStart};
use crate::engine::outcome::Outcome;
use crate::ganeti::event::{Event, EventKey, Phase};

/// The pre of a job's only opcode.
pub fn event(job: i64) -> Event {
    Event {
        key: EventKey { job: JobId::try_from(job).unwrap(), op: 0, phase: Phase::Pre },
        received: Timestamp::from_micros(1),
        op_count: 1,
        op_code: "OP_TEST_DELAY".to_owned(),
        status: None,
        executed: true,
        late: false,
        time: Timestamp::from_micros(5),
        about: Default::default(),
    }
}

fn run(seq: i64, id: i64) -> RunStart {
    let (node, script) = ("node1".to_owned(), "10-a".to_owned());
    RunStart {
        id,
        seq,
        node,
        directory: "global-pre.d".to_owned(),
        script,
        attempt: 1,
        started: Timestamp::from_micros(5),
    }
}

fn load(dir: &Path) -> Remembered {
    Journal::open(dir).unwrap().load(Timestamp::default()).unwrap()
}

fn seqs(dir: &Path) -> Vec<i64> {
    let mut seqs = Vec::new();
    let history = History::open(dir).unwrap().unwrap();
    let mut each = |found: HistoryEvent| {
        seqs.push(found.seq);
        true
    };
    history.events(&Filter::default(), &mut each).unwrap();
    seqs
}

#[test]
fn an_events_number_never_comes_again_not_even_when_all_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    for seq in 1..4 {
        journal.commit(&[Change::Event(seq, event(seq), EventState::Done)]).unwrap();
    }
    let prune = [Change::Prune(Timestamp::from_micros(6), 100)];
    journal.commit(&prune).unwrap();
    drop(journal);
    assert_eq!(load(dir.path()).next_seq, 4);
    // Nor when that is forgotten a second time.
    Journal::open(dir.path()).unwrap().commit(&prune).unwrap();
    assert_eq!((load(dir.path()).next_seq, seqs(dir.path())), (4, vec![]));
}

#[test]
fn the_history_is_forgotten_a_piece_at_a_time_and_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let at = |seq, time, state| {
        Change::Event(seq, Event { time: Timestamp::from_micros(time), ..event(seq) }, state)
    };
    let (done, pending) = (EventState::Done, EventState::Pending);
    journal
        .commit(&[
            at(1, 1, done),
            at(2, 2, pending),
            at(3, 3, done),
            at(4, 4, EventState::Standby),
            at(5, 9, done),
            // The clock was set back.
            at(6, 1, done),
            Change::RunStart(run(1, 1)),
            Change::RunStart(run(3, 1)),
        ])
        .unwrap();
    let mut prune = |limit| {
        let written = journal.commit(&[Change::Prune(Timestamp::from_micros(9), limit)]).unwrap();
        let runs: i64 = journal.db.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
        (written.more_to_prune, seqs(dir.path()), runs)
    };
    assert_eq!(prune(0), (true, vec![1, 2, 3, 4, 5, 6], 2));
    assert_eq!(prune(2), (true, vec![2, 4, 5, 6], 0));
    assert_eq!(prune(1), (false, vec![2, 5, 6], 0));
    assert_eq!(prune(9), (false, vec![2, 5, 6], 0));
    assert_eq!(load(dir.path()).next_seq, 7);
}

#[test]
fn when_the_last_was_noticed_is_written_with_what_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let micros = Timestamp::from_micros;
    let at = |seq, time| Change::Event(seq, Event { time: micros(time), ..event(seq) }, EventState::Done);
    journal.commit(&[at(1, 2), at(2, 4), at(3, 3), at(4, 9)]).unwrap();
    let mut forgotten = |limit| {
        journal.commit(&[Change::Prune(micros(9), limit)]).unwrap();
        load(dir.path()).past.forgotten
    };
    // Never earlier than it was.
    let times = [None, Some(2), Some(4), Some(4), Some(4)].map(|time| time.map(micros));
    assert_eq!([0, 1, 1, 9, 9].map(&mut forgotten), times);
}

#[test]
fn a_number_that_could_not_be_written_is_given_out_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    // No such event: the run refers to nothing.
    let changes = [Change::Event(8, event(1), EventState::Done), Change::RunStart(run(9, 1))];
    assert!(journal.commit(&changes).is_err());
    assert_eq!((journal.last_seq, seqs(dir.path())), (8, vec![]));
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
    let next = load(dir.path()).next_run;
    let mut journal = Journal::open(dir.path()).unwrap();
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
    let journal = Journal::open(dir.path()).unwrap();
    let loaded = journal.load(Timestamp::from_micros(20)).unwrap();
    assert_eq!(loaded.standby.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(loaded.standby[1].runs[&run(3, 7).key()], (1, false));
    assert_eq!(loaded.next_run, 8, "higher than any of theirs");
    assert_eq!((loaded.next_seq, loaded.past.highest_told), (4, 3));
}

#[test]
fn a_reader_who_takes_its_time_keeps_nothing_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let many: Vec<Change> = (1..=600).map(|seq| Change::Event(seq, event(seq), EventState::Done)).collect();
    journal.commit(&many).unwrap();
    let history = History::open(dir.path()).unwrap().unwrap();
    let mut seen = Vec::new();
    let look = |found: HistoryEvent| {
        seen.push(found.seq);
        journal.commit(&[Change::Late(found.seq)]).unwrap();
        if found.seq % 100 == 0 {
            // Waits for every reader, and for none of them long.
            let clear = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            let busy = journal.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], clear).unwrap();
            assert_eq!(busy, 0, "somebody reads at event {}", found.seq);
        }
        found.seq < 599
    };
    history.events(&Filter { after: 3, ..Filter::default() }, look).unwrap();
    assert_eq!(seen, (4..=599).collect::<Vec<_>>());
    let count = |limit| {
        let mut count = 0;
        let each = |_| {
            count += 1;
            true
        };
        history.events(&Filter { limit: Some(limit), ..Filter::default() }, each).unwrap();
        count
    };
    assert_eq!([0, 1, 255, 256, 257, 512, 600, 1000].map(count), [0, 1, 255, 256, 257, 512, 600, 600]);
}

#[test]
fn a_reader_who_is_the_last_to_close_leaves_the_files_as_they_are() {
    let [dir, left] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.commit(&[Change::Event(1, event(1), EventState::Done)]).unwrap();
    // What a daemon leaves that was killed.
    for part in ["", "-wal"] {
        let name = format!("{FILE}{part}");
        std::fs::copy(dir.path().join(&name), left.path().join(&name)).unwrap();
        let file = std::fs::File::options().write(true).open(left.path().join(&name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
    }
    assert_eq!(seqs(left.path()), [1]);
    assert!(left.path().join(format!("{FILE}-wal")).metadata().unwrap().len() > 0);
    assert_eq!(last_written(left.path()), Some(Timestamp::from_micros(1_000_000_000)));
}
