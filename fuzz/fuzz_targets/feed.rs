//! The feed's questions: parameters, cursors, names of events, times. What is not understood is a
//! problem that names the parameter; what is, a journal answers, and all that it answers was asked
//! for.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ganeti_hookd::cli::times::{Moment, Zone};
use ganeti_hookd::engine::change::{Change, EventState};
use ganeti_hookd::ganeti::about::{About, Reason, Trail};
use ganeti_hookd::ganeti::event::{Event, EventKey, Phase, PostStatus};
use ganeti_hookd::ganeti::event_name::EventName;
use ganeti_hookd::ganeti::job::Timestamp;
use ganeti_hookd::ganeti::object::{Object, ObjectKind};
use ganeti_hookd::world::api::FeedQuestion;
use ganeti_hookd::world::http::Request;
use ganeti_hookd::world::journal::{Cursor, Filter, History, HistoryEvent, Journal, Told};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// A journal with a few events.
struct Fixture {
    _dir: TempDir,
    history: History,
}

thread_local! {
    static FIXTURE: LazyLock<Fixture> = const { LazyLock::new(fixture) };
}

fn event(job: i64) -> Event {
    let (kind, status) = match job % 3 {
        0 => (ObjectKind::Instance, PostStatus::Succeeded),
        1 => (ObjectKind::Node, PostStatus::Failed),
        _ => (ObjectKind::Cluster, PostStatus::Disappeared),
    };
    let object = Object { kind, name: Some(format!("web{job}.example.com")) };
    let reason = Trail(vec![Reason("gnt:user".to_owned(), format!("Reason {job} \u{e4}"), 1.5)]);
    Event {
        key: EventKey { job: job.try_into().expect("above 0"), op: 0, phase: Phase::Post },
        received: Timestamp::from_micros(job),
        op_count: 1,
        op_code: if job % 2 == 0 { "OP_TEST_DELAY" } else { "OP_INSTANCE_STARTUP" }.to_owned(),
        status: Some(status),
        executed: true,
        late: false,
        time: Timestamp::from_micros(job * 1_000_000),
        about: Arc::new(About { object: Some(object), reason, ..About::default() }),
    }
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let mut journal = Journal::open(dir.path()).expect("a journal");
    let events: Vec<Change> = (1..=6).map(|job| Change::Event(job, event(job), EventState::Done)).collect();
    journal.commit(&events).expect("room");
    drop(journal);
    let history = History::open(dir.path()).expect("a journal").expect("a journal");
    Fixture { _dir: dir, history }
}

/// Whether a filter means an event, as one who reads its fields' meaning would say.
fn means(filter: &Filter, event: &Event) -> bool {
    let (object, wanted) = (event.about.object.as_ref(), filter.object.as_ref());
    let name = object.and_then(|object| object.name.as_deref()).unwrap_or_default();
    let is_named = |wanted: &String| name == wanted || name.starts_with(&format!("{wanted}."));
    filter.job.is_none_or(|job| job == event.key.job)
        && wanted.and_then(|wanted| wanted.kind).is_none_or(|kind| object.is_some_and(|object| object.kind == kind))
        && wanted.and_then(|wanted| wanted.name.as_ref()).is_none_or(is_named)
        && filter.op_code.as_ref().is_none_or(|code| code.contains('*') || *code == event.op_code)
        && filter.status.is_none_or(|status| event.status == Some(status))
        && filter.since.is_none_or(|since| event.time >= since)
        && filter.until.is_none_or(|until| event.time < until)
        && !filter.failed
}

/// Whether a filter says everything by fields that [`means`] knows to the end.
fn is_simple(filter: &Filter) -> bool {
    let name = filter.object.as_ref().and_then(|object| object.name.as_ref());
    let mut texts = name.into_iter().chain(&filter.op_code);
    filter.reason.is_none() && texts.all(|text| !text.contains(['*', '\0']))
}

fn ask(history: &History, question: &FeedQuestion) {
    let filter = &question.filter;
    let mut answered = Vec::new();
    let keep = |found: HistoryEvent| {
        answered.push(found.event);
        true
    };
    history.events(filter, keep).expect("an answer");
    assert!(answered.iter().all(|event| means(filter, event)), "{filter:?} {answered:?}");
    if is_simple(filter) {
        let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
        let expected = (1..=6).map(event).filter(|event| means(filter, event)).take(limit);
        assert_eq!(answered, expected.collect::<Vec<_>>(), "{filter:?}");
    }
    let each = |_: Cursor, told: Told| {
        serde_json::from_str::<serde_json::Value>(&told.to_json()).expect("JSON");
        true
    };
    history.feed(question.after, filter, each).expect("an answer");
}

fuzz_target!(|text: &str| {
    let request = Request { method: "GET".to_owned(), target: format!("/v1/events?{text}"), ..Request::default() };
    match FeedQuestion::of(&request) {
        Ok(question) => {
            assert!(question.wait <= Duration::from_secs(60));
            assert!(question.filter.limit.is_some_and(|limit| (1..=1000).contains(&limit)));
            FIXTURE.with(|fixture| ask(&fixture.history, &question));
        }
        Err(problem) => {
            let answer = problem.answer();
            let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert!(answer.status == 400 && body["detail"].is_string(), "{body}");
        }
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse::<Cursor>().ok(), Some(cursor));
    }
    if let Ok(name) = text.parse::<EventName>() {
        assert_eq!(name.to_string().parse::<EventName>().ok(), Some(name));
    }
    if let Ok(moment) = text.parse::<Moment>() {
        let then = moment.resolve(Zone::default(), Timestamp::default());
        assert!(!Zone::default().show(then).is_empty());
    }
});
