//! What the API answers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use ganeti_hookd::engine::change::{Change, EventState, RunStart};
use ganeti_hookd::engine::outcome::Outcome;
use serde_json::json;

use super::http::{Coming, ask, ask_with, get};
use super::jobs::has_thread;
use super::served::{Served, post, run};
use crate::harness::{Tree, wait_for};

const DONE: EventState = EventState::Done;
const PENDING: EventState = EventState::Pending;

/// An answer of this many bytes at most.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

#[test]
fn an_answer_is_bounded_and_the_next_goes_on() {
    let mut node = Served::new();
    for seq in 1..40 {
        node.commit(&[post(seq, seq, 1, DONE)]);
        node.commit(&run(seq, 64 * 1024));
    }
    node.commit(&[post(40, 40, 1, DONE)]);
    node.commit(&run(40, 16 * 1024 * 1024));
    let (mut after, mut answers, mut seen) = (String::new(), 0, Vec::new());
    loop {
        let answer = get(&node.socket(), &format!("/v1/events?{after}"));
        assert!(answer.status == 200 && answer.body.len() <= ANSWER_MAX, "{} bytes", answer.body.len());
        assert_eq!(answer.header("Content-Type"), Some("application/jsonl"));
        let lines = answer.lines();
        let Some(last) = lines.last() else { break };
        if last["seq"] == 40 {
            assert_eq!(last["runs"][0]["dropped"], 16 * 1024 * 1024 - 512 * 1024);
        }
        seen.extend(lines.iter().map(|line| line["seq"].as_i64().unwrap()));
        (after, answers) = (format!("after={}", answer.cursor()), answers + 1);
    }
    assert!(
        seen == (1..=40).collect::<Vec<_>>() && (4..10).contains(&answers),
        "{answers} answers: {seen:?}"
    );
}

#[test]
fn a_wait_is_over_when_there_is_something_wanted_or_after_its_time() {
    let mut node = Served::new();
    node.commit(&[post(1, 1, 1, DONE)]);
    let first = get(&node.socket(), "/v1/events?wait=60");
    assert_eq!(first.lines().len(), 1, "it is there already");
    let begin = Instant::now();
    let nothing = get(&node.socket(), &format!("/v1/events?wait=1&after={}", first.cursor()));
    assert_eq!((nothing.body.as_str(), nothing.cursor()), ("", first.cursor()));
    assert!(begin.elapsed() >= Duration::from_secs(1));
    let socket = node.socket();
    let target = format!("/v1/events?wait=60&job=3&after={}", first.cursor());
    let waiting: Vec<_> = (0..30)
        .map(|_| {
            let (socket, target) = (socket.clone(), target.clone());
            thread::spawn(move || get(&socket, &target))
        })
        .collect();
    node.commit(&[post(2, 2, 2, DONE)]);
    node.commit(&[post(3, 3, 3, PENDING)]);
    for answer in waiting {
        let lines = answer.join().unwrap().lines();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["job"], &lines[0]["state"]), (&json!(3), &json!("pending")));
    }
    let all = get(&socket, "/v1/events?status=disappeared");
    let end = get(&socket, "/v1/events");
    assert_eq!((all.body.as_str(), all.cursor()), ("", end.cursor()), "a filter that leaves nothing");
}

/// The cursor of the next line of a stream, which is a heartbeat.
fn heartbeat(stream: &mut Coming) -> String {
    let line = stream.line().unwrap();
    assert_eq!(line["type"], "heartbeat");
    assert!(line["time"].as_f64().unwrap() > 1e9);
    line["cursor"].as_str().unwrap().to_owned()
}

#[test]
fn a_stream_tells_what_comes_and_where_it_is() {
    let mut node = Served::new();
    let begin = get(&node.socket(), "/v1/events").cursor();
    node.commit(&[post(1, 1, 1, PENDING)]);
    let mut stream = ask(&node.socket(), "GET", &format!("/v1/events?stream=1&after={begin}"));
    assert_eq!((stream.status, stream.cursor()), (200, begin));
    let mut state = || (stream.line().unwrap()["state"].clone(), heartbeat(&mut stream));
    let (first, at) = state();
    assert_eq!(first, "pending");
    node.commit(&[Change::EventState(1, DONE)]);
    let (second, end) = state();
    assert_eq!(second, "done");
    let rest = get(&node.socket(), &format!("/v1/events?after={at}"));
    assert_eq!((rest.lines().len(), rest.cursor()), (1, end));
    node.lose_journal();
    let gap = stream.line().unwrap();
    assert_eq!((&gap["type"], &gap["lost"]), (&json!("gap"), &json!(true)));
    assert!(gap["detail"].as_str().unwrap().contains("another journal"), "{gap}");
    let oldest = get(&node.socket(), "/v1/events").cursor();
    assert_eq!((gap["oldest"].as_str().unwrap(), stream.line()), (oldest.as_str(), None), "and that is all");
}

#[test]
fn a_lost_cursor_is_told_with_the_oldest_one_that_there_is() {
    let mut node = Served::new();
    let begin = get(&node.socket(), "/v1/events").cursor();
    node.commit(&[post(1, 1, 1, DONE), post(2, 2, 9, DONE)]);
    node.commit(&[Change::Prune(ganeti_hookd::ganeti::job::Timestamp::from_micros(5_000_000), 100)]);
    for mode in ["", "&wait=60", "&stream=1"] {
        let answer = get(&node.socket(), &format!("/v1/events?after={begin}{mode}"));
        assert_eq!(answer.status, 410);
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"));
        let problem = answer.json();
        assert_eq!((&problem["title"], &problem["status"]), (&json!("Gone"), &json!(410)));
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["detail"].as_str().unwrap().contains("history.keep"), "{problem}");
        let rest = get(&node.socket(), &format!("/v1/events?after={}", problem["oldest"].as_str().unwrap()));
        assert_eq!(rest.lines()[0]["job"], 2);
    }
}

#[test]
fn what_is_wrong_is_a_problem() {
    let node = Served::new();
    let problem = |method: &str, target: &str| {
        let answer = ask(&node.socket(), method, target).whole();
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{target}");
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status, "{target}");
        (
            answer.status,
            problem["detail"].as_str().unwrap().to_owned(),
            answer.header("Allow").map(str::to_owned),
        )
    };
    for (method, target, status, words) in [
        ("GET", "/index.html", 404, "/v1/events"),
        ("GET", "/v1/event", 404, "/v1/events"),
        ("GET", "/v1/jobs/zero", 404, "whole number"),
        ("GET", "/v1/jobs/7", 404, "no job 7"),
        ("GET", "/v1/jobs/7?limit=1", 400, "there is wait"),
        ("POST", "/v1/events", 405, "GET only"),
        ("HEAD", "/v1/status", 405, "GET only"),
        ("DELETE", "/v1/jobs/7", 405, "GET only"),
        ("GET", "/v1/events?limit=x", 400, "from 1 to 1000"),
        ("GET", "/v1/status?x=1", 400, "there is none"),
        ("GET", "/v1/waiting?x=1", 400, "there is none"),
        ("POST", "/v1/waiting", 405, "GET only"),
        ("GET", "/v1/status", 500, "the daemon is ending"),
    ] {
        let (said, detail, allow) = problem(method, target);
        assert!(said == status && detail.contains(words), "{method} {target}: {said} {detail}");
        assert_eq!(allow.as_deref(), (status == 405).then_some("GET"));
    }
    let mut stream = UnixStream::connect(node.socket()).unwrap();
    stream.write_all(b"this is not HTTP\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n") && said.contains("problem+json"), "{said}");
}

#[test]
fn those_who_wait_leave_room_for_others_and_those_who_have_gone_for_new_ones() {
    let node = Served::new();
    let stream = || ask(&node.socket(), "GET", "/v1/events?stream=1");
    let streams: Vec<Coming> = (0..48).map(|_| stream()).collect();
    assert!(streams.iter().all(|stream| stream.status == 200));
    let refused = stream();
    assert_eq!(refused.status, 503);
    assert!(refused.whole().json()["detail"].as_str().unwrap().contains("too many clients wait"));
    assert_eq!(get(&node.socket(), "/v1/events").status, 200);
    // Nothing happens, and yet it is seen that they have gone.
    drop(streams);
    wait_for(|| (stream().status == 200).then_some(()), || "a place for a stream".to_owned());
}

#[test]
fn who_reads_nothing_holds_up_nobody() {
    let mut node = Served::new();
    for seq in 1..=20 {
        node.commit(&[post(seq, seq, 1, DONE)]);
        node.commit(&run(seq, 64 * 1024));
    }
    let stuck = ask(&node.socket(), "GET", "/v1/events?stream=1");
    let mut other = ask(&node.socket(), "GET", "/v1/events?stream=1&since=5");
    node.commit(&[post(21, 21, 9, DONE)]);
    assert_eq!(other.line().unwrap()["job"], 21);
    let journal = rusqlite::Connection::open(node.queue("../state/journal.db")).unwrap();
    journal.busy_timeout(Duration::from_secs(5)).unwrap();
    let busy = journal.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    assert_eq!(busy, Ok(0), "nothing is kept open");
    drop(stuck);
}

#[test]
fn who_does_not_come_to_the_point_keeps_nobody_out() {
    const ALL: usize = 64;
    let node = Served::new();
    let drips: Vec<UnixStream> = (0..ALL).map(|_| UnixStream::connect(node.socket()).unwrap()).collect();
    let begin = Instant::now();
    let answered = || {
        // Each says a word now and then, and never what it wants.
        drips.iter().for_each(|mut drip| drop(drip.write_all(b"G")));
        let mut stream = UnixStream::connect(node.socket()).unwrap();
        // One that is refused may be told so before it has asked.
        let _ = stream.write_all(b"GET /v1/events HTTP/1.1\r\n\r\n");
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said.starts_with("HTTP/1.1 200 OK\r\n").then_some(())
    };
    wait_for(answered, || "an answer".to_owned());
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

#[test]
fn those_for_whom_something_is_done_leave_room_for_others() {
    for target in ["/v1/rerun?event=1.0.post", "/v1/outbox/resend?name=a", "/v1/outbox/enable?name=a"] {
        let mut node = Served::new();
        node.fall_silent();
        let wanted = || {
            let mut stream = UnixStream::connect(node.socket()).unwrap();
            stream.write_all(format!("POST {target} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        };
        let mut waiting: Vec<UnixStream> = (0..64).map(|_| wanted()).collect();
        // Some are told so at once.
        let mut said = String::new();
        let refused = || {
            waiting.iter_mut().for_each(|stream| drop(stream.read_to_string(&mut said)));
            (said.matches("too many clients wait for something to be done").count() == 8).then_some(())
        };
        wait_for(refused, || format!("eight refusals: {target}"));
        assert_eq!(get(&node.socket(), "/v1/events").status, 200);
    }
}

/// The job of the next event in a stream that is done.
fn done(stream: &mut Coming) -> i64 {
    loop {
        let line = stream.line().unwrap();
        if line["state"] == "done" {
            return line["job"].as_i64().unwrap();
        }
    }
}

#[test]
fn who_is_slow_misses_nothing_and_who_wants_little_is_told_that() {
    let mut node = Served::new();
    node.commit(&[post(1, 1, 1, DONE)]);
    let end = get(&node.socket(), "/v1/events").cursor();
    let stream =
        |filter: &str| ask(&node.socket(), "GET", &format!("/v1/events?stream=1&after={end}{filter}"));
    let [mut slow, mut quick, mut choosy] = ["", "", "&job=30"].map(stream);
    // More than the connection of somebody takes who does not read.
    for seq in 2..=30 {
        node.commit(&[post(seq, seq, 1, PENDING)]);
        node.commit(&run(seq, 64 * 1024));
        node.commit(&[Change::EventState(seq, DONE)]);
        assert_eq!(done(&mut quick), seq);
    }
    assert_eq!((2..=30).map(|_| done(&mut slow)).collect::<Vec<_>>(), (2..=30).collect::<Vec<_>>());
    assert_eq!(done(&mut choosy), 30);
    let end = get(&node.socket(), "/v1/events?status=disappeared").cursor();
    assert_eq!([&mut slow, &mut quick, &mut choosy].map(heartbeat), [(); 3].map(|()| end.clone()));
    // They are all told from one reading again.
    node.commit(&[post(31, 30, 1, DONE)]);
    assert_eq!([&mut slow, &mut quick, &mut choosy].map(done), [30; 3]);
}

#[test]
fn nothing_is_there_for_readers_when_there_are_none() {
    let tree = Tree::with_log();
    let daemon = tree.start();
    let is_there = || has_thread(&daemon, "api-feed");
    assert!(!is_there());
    let stream = ask(&tree.path("hookd/hookd.sock"), "GET", "/v1/events?stream=1");
    wait_for(|| is_there().then_some(()), || "a thread that tells of what is new".to_owned());
    drop(stream);
    wait_for(|| (!is_there()).then_some(()), || "its end".to_owned());
}

#[test]
fn the_page_is_for_people_and_for_no_other_site() {
    let served = Served::new();
    let page = get(&served.socket(), "/");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
    assert!(page.body.contains("data-mode=\"live\"") && !page.body.contains("id=\"events\">"));
    for headers in ["Host: evil.example", "Host: localhost\r\nOrigin: http://evil.example"] {
        for target in ["/", "/v1/events", "/v1/status", "/v1/jobs/1", "/metrics"] {
            let answer = ask_with(&served.socket(), "GET", target, headers).whole();
            let text = format!("{target} {headers}: {answer:?}");
            assert!(answer.status == 403 && answer.json()["title"] == "Forbidden", "{text}");
            assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{text}");
        }
    }
    let rerun = "Host: localhost:8080\r\nOrigin: http://localhost:8080";
    let answer = ask_with(&served.socket(), "POST", "/v1/rerun?event=1.0.post", rerun).whole();
    assert!(answer.status == 403 && answer.body.contains("a browser may only read"), "{answer:?}");
    assert_eq!(ask(&served.socket(), "POST", "/").whole().status, 405);
}

#[test]
fn a_reader_says_how_much_output_it_wants() {
    let mut served = Served::new();
    served.commit(&[post(1, 41, 5, EventState::Done)]);
    served.commit(&run(1, 100));
    let run =
        |query: &str| get(&served.socket(), &format!("/v1/events{query}")).lines()[0]["runs"][0].clone();
    assert_eq!(run("")["output"].as_str().unwrap().len(), 100);
    let short = run("?output=30");
    assert_eq!((short["output"].as_str().unwrap().len(), &short["dropped"]), (30, &serde_json::json!(70)));
    assert_eq!(run("?output=0")["output"], "");
}

#[test]
fn each_is_told_with_as_much_output_as_it_wants_however_it_is_told() {
    let mut node = Served::new();
    let begin = get(&node.socket(), "/v1/events").cursor();
    let wants = ["", "&output=524287", "&output=7", "&output=6", "&output=0"];
    let target = |want: &str, how: &str| format!("/v1/events?after={begin}&status=succeeded{want}{how}");
    let mut streams = wants.map(|want| ask(&node.socket(), "GET", &target(want, "&stream=1")));
    // From here on they follow.
    node.commit(&[post(1, 1, 1, DONE)]);
    let [at, ..] = streams.each_mut().map(|stream| (stream.line(), heartbeat(stream)).1);
    let waits = wants.map(|want| {
        let (socket, target) = (node.socket(), format!("/v1/events?after={at}{want}&wait=60"));
        thread::spawn(move || get(&socket, &target).lines())
    });
    // The first has one character more than is told of any.
    let outputs = ["\u{1d11e}".repeat(512 * 1024 / 4 + 1), "abc".to_owned()];
    let runs = outputs.into_iter().zip([1, 2]).flat_map(|(output, id)| {
        let [Change::RunStart(start), Change::RunEnd(seq, _, time, outcome)] = run(2, 0) else { panic!() };
        let ended = Change::RunEnd(seq, id, time, Outcome { output, ..outcome });
        [Change::RunStart(RunStart { id, ..start }), ended]
    });
    node.commit(&[post(2, 2, 1, DONE)].into_iter().chain(runs).collect::<Vec<_>>());
    for ((want, stream), wait) in wants.into_iter().zip(&mut streams).zip(waits) {
        let read = get(&node.socket(), &format!("/v1/events?after={at}{want}")).lines();
        assert!(read[0]["runs"][1]["output"].is_string());
        assert!(stream.line().as_ref() == read.first(), "a stream with {want:?}");
        assert!(wait.join().unwrap() == read, "a page with {want:?}");
    }
}
