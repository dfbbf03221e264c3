//! The commands beside a daemon: what they print and how they exit.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::tree::Said;
use crate::harness::{Daemon, Job, NODE, Tree, wait_for};

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A command that did what it was asked.
fn done(said: Said) -> String {
    assert!(said.code == Some(0) && said.err.is_empty(), "{said:?}");
    said.out
}

/// A tree in which job 1 has ended well, job 2 badly, and a hook of job 2 failed.
fn two_jobs(tree: &Tree) -> Daemon<'_> {
    tree.hook("post", "20-check", "echo \"all $GANETI_POST_STATUS\"; [ $GANETI_JOB_ID = 1 ]");
    let daemon = tree.start();
    let mut first = Job::new(1, &["OP_TAGS_SET"]);
    tree.put(first.runs(0));
    daemon.wait_done(&["1.0.pre"]);
    tree.put(first.succeeds(0));
    daemon.wait_done(&["1.0.post"]);
    tree.put(Job::delay(2).waits(0).fails(0));
    daemon.wait_done(&["2.0.post"]);
    daemon
}

#[test]
fn status_says_how_things_are() {
    let tree = Tree::with_log();
    let daemon = two_jobs(&tree);
    let text = done(tree.cli(&["status"]));
    for line in [
        format!("role       master ({NODE}; the master is {NODE})"),
        "jobs       2 in the queue, 0 open, 0 processes watched".to_owned(),
        "events     3 noticed, 0 late, 0 undelivered".to_owned(),
        "hooks      5 run, 1 failed, 0 running".to_owned(),
        format!("failed     2.0.post 20-check on {NODE}: exited with 1"),
    ] {
        assert!(text.lines().any(|said| said == line), "{line:?} is not in\n{text}");
    }
    let daemons = |text: &str| text.lines().next().unwrap().to_owned();
    assert!(daemons(&done(tree.cli(&["status", "--utc"]))).ends_with('Z'), "{text}");
    assert!(!daemons(&text).ends_with('Z'), "{text}");
    let status: Value = serde_json::from_str(&done(tree.cli(&["status", "--json"]))).unwrap();
    assert_eq!((&status["role"], &status["node"]), (&json!("master"), &json!(NODE)));
    assert_eq!(status["pid"], daemon.pid().as_raw_nonzero().get());
    let metrics = done(tree.cli(&["status", "--metrics"]));
    assert!(lines(&metrics).contains(&"ganeti_hookd_runs_failed_total 1"), "{metrics}");
    drop(daemon);
    let said = tree.cli(&["status"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(said.err.contains("the daemon is not running; start it with"), "{}", said.err);
}

#[test]
fn nagios_is_told_in_one_line_and_an_exit_code() {
    let tree = Tree::with_log();
    let said = |args: &[&str]| {
        let said = tree.cli(&[&["status", "--nagios"], args].concat());
        assert!(said.err.is_empty() && said.out.lines().count() == 1, "{said:?}");
        (said.code.unwrap(), said.out)
    };
    let (code, line) = said(&[]);
    assert!(code == 2 && line.starts_with("GANETI-HOOKD CRITICAL - "), "{line}");
    assert!(line.contains("the daemon is not running; start it with"), "{line}");
    let daemon = two_jobs(&tree);
    let (code, line) = said(&[]);
    let (text, figures) = line.trim().split_once(" | ").unwrap();
    assert_eq!((code, text), (0, "GANETI-HOOKD OK - master; 0 jobs open, 0 events undelivered"));
    let expected = "lag=0.000s;300;3600;0 jobs_open=0;;;0 undelivered=0;;;0 held=0;;;0 running=0;;;0 events=3c;;;0 \
                    runs=5c;;;0 runs_failed=1c;;;0 holds=0c;;;0 holds_late=0c;;;0 holds_missed=0c;;;0 \
                    holds_timed_out=0c;;;0";
    assert_eq!(figures, expected);
    tree.put_bytes(7, b"is no job");
    daemon.wait_status("the bad file", |status| status["bad_files"] != json!({}));
    assert_eq!(said(&[]).0, 1);
    tree.set("hooks.colour", "\"red\"");
    kill_process(daemon.pid(), Signal::HUP).unwrap();
    daemon.wait_status("the problem", |status| status["problems"] != json!([]));
    let (code, line) = said(&[]);
    assert!(code == 3 && line.contains("UNKNOWN") && line.contains("hooks.colour: unknown key"), "{line}");
    let good = tree.path("good.toml");
    fs::write(&good, fs::read_to_string(tree.config()).unwrap().replace("hooks.colour = \"red\"\n", ""))
        .unwrap();
    let (code, line) = said(&["--config", good.to_str().unwrap()]);
    assert!(code == 2 && line.starts_with("GANETI-HOOKD CRITICAL - configuration: "), "{line}");
}

#[test]
fn status_shows_what_runs() {
    let tree = Tree::new();
    tree.log_hook("post", "10-waits", "until [ -e DIR/gate ]; do sleep 0.02; done");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_hooks(1);
    let text = done(tree.cli(&["status"]));
    assert!(text.contains(&format!("running    1.0.post 10-waits on {NODE} for ")), "{text}");
    assert!(text.contains("1 undelivered, the oldest "), "{text}");
}

#[test]
fn events_is_a_table_like_those_of_ganeti() {
    let tree = Tree::with_log();
    let _daemon = two_jobs(&tree);
    let events = |args: &[&str]| done(tree.cli(&[&["events"], args].concat()));
    let usual = events(&[]);
    let titles: Vec<&str> = usual.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["Seq", "Time", "Event", "OpCode", "Object", "Status", "Late", "State", "Runs"]);
    assert!(usual.lines().nth(3).unwrap().ends_with("10-log=0,20-check=1"), "{usual}");
    let fields = "event,job,op,op_count,op_code,phase,status,executed,late,state,runs,failed,output";
    assert_eq!(
        lines(&events(&["-o", fields, "--no-headers", "--separator", ":"])),
        [
            "1.0.pre:1:0:1:OP_TAGS_SET:pre:-:yes:no:done:10-log=0:0:",
            "1.0.post:1:0:1:OP_TAGS_SET:post:succeeded:yes:no:done:10-log=0,20-check=0:0:all succeeded\\n",
            "2.0.post:2:0:1:OP_TEST_DELAY:post:failed:no:no:done:10-log=0,20-check=1:1:all failed\\n",
        ]
    );
    let short = ["--no-headers", "--separator=|", "-o", "event"];
    assert_eq!(lines(&events(&[&["--job", "1"], &short[..]].concat())), ["1.0.pre", "1.0.post"]);
    assert_eq!(lines(&events(&[&["--failed"], &short[..]].concat())), ["2.0.post"]);
    let more = events(&["-o", "+failed"]);
    assert!(more.lines().next().unwrap().ends_with(" Failed"), "{more}");
    assert_eq!(json_lines(&events(&["--json"])), tree.events());
    assert_eq!(json_lines(&events(&["--json", "--job", "2"])), tree.events()[2..]);
}

#[test]
fn events_says_what_it_does_not_know() {
    let tree = Tree::new();
    let said = tree.cli(&["events"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("there is no history in ") && said.err.contains("has `ganeti-hookd run` been"));
    let said = tree.cli(&["events", "-o", "event,colour"]);
    assert!(
        said.err.contains("there is no field \"colour\"; fields are seq, id, time, event"),
        "{}",
        said.err
    );
    assert_eq!(said.code, Some(2));
    let said = tree.cli(&["events", "--job", "zero"]);
    assert!(said.err.contains("job numbers are whole numbers from 1"), "{}", said.err);
    assert_eq!(said.code, Some(2));
}

#[test]
fn events_follows_and_prints_each_event_when_its_hooks_have_ended() {
    let tree = Tree::new();
    tree.log_hook(
        "post",
        "10-waits",
        "[ $GANETI_JOB_ID != 2 ] || until [ -e DIR/gate ]; do sleep 0.02; done",
    );
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let mut follow =
        tree.program().args(["events", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&said.next().unwrap().unwrap()).unwrap() };
    assert_eq!([next()["event"].clone(), next()["event"].clone()], ["1.0.pre", "1.0.post"]);
    tree.put(&Job::ended(2));
    assert_eq!(next()["event"], "2.0.pre");
    tree.put(&Job::ended(3));
    assert_eq!([next()["event"].clone(), next()["event"].clone()], ["3.0.pre", "3.0.post"]);
    fs::write(tree.path("gate"), "").unwrap();
    let last = next();
    assert_eq!((&last["event"], &last["runs"][0]["code"]), (&json!("2.0.post"), &json!(0)));
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn a_follower_who_does_not_read_keeps_nothing_open() {
    let tree = Tree::new();
    tree.hook("post", "10-loud", "head -c 8000 /dev/zero | tr '\\0' x");
    let daemon = tree.start();
    (1..=20).for_each(|id| tree.put(&Job::ended(id)));
    let posts: Vec<String> = (1..=20).map(|id| format!("{id}.0.post")).collect();
    daemon.wait_done(&posts.iter().map(String::as_str).collect::<Vec<_>>());
    let mut follow =
        tree.program().args(["events", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let pipe = follow.stdout.take().unwrap();
    let fills = || (rustix::io::ioctl_fionread(&pipe).unwrap() > 24 * 1024).then_some(());
    wait_for(fills, || "a pipe that fills".to_owned());
    let journal = rusqlite::Connection::open(tree.path("state").join("journal.db")).unwrap();
    journal.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    // Waits for whoever reads, for a while.
    let busy = journal.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    assert_eq!(busy, Ok(0));
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn env_shows_what_a_hook_got_or_would_get() {
    let tree = Tree::new();
    tree.hook("post", "10-keep", r"tr '\0' '\n' </proc/$$/environ >DIR/environ");
    let daemon = tree.start();
    tree.put(Job::delay(1).waits(0).fails(0));
    daemon.wait_done(&["1.0.post"]);
    let mut got: Vec<String> =
        fs::read_to_string(tree.path("environ")).unwrap().lines().map(str::to_owned).collect();
    got.sort();
    let mut said: Vec<String> =
        done(tree.cli(&["env", "1", "0", "post"])).lines().map(str::to_owned).collect();
    said.sort();
    assert_eq!(said, got);
    // One that has not come yet, and one that is in the archive.
    tree.put(&Job::delay(2));
    let env: Value = serde_json::from_str(&done(tree.cli(&["env", "2", "0", "pre", "--json"]))).unwrap();
    assert_eq!(env["GANETI_HOOKD_EVENT"], "2.0.pre");
    tree.put(&Job::ended(3));
    daemon.wait_done(&["3.0.post"]);
    tree.archive(3);
    let env = done(tree.cli(&["env", "3", "0", "post"]));
    assert!(lines(&env).contains(&"GANETI_POST_STATUS=succeeded"), "{env}");
}

#[test]
fn env_says_what_is_wrong() {
    let tree = Tree::new();
    tree.put(&Job::delay(1));
    for (args, code, words) in [
        (["env", "9", "0", "pre"], 1, "there is no job 9 in "),
        (["env", "1", "1", "pre"], 1, "job 1 has no opcode 1; it has 1"),
        (["env", "0", "0", "pre"], 2, "job numbers are whole numbers from 1"),
        (["env", "1", "0", "during"], 2, "during"),
    ] {
        let said = tree.cli(&args);
        assert!(said.code == Some(code) && said.err.contains(words), "{args:?}: {said:?}");
    }
}

#[test]
fn check_finds_what_is_wrong_and_says_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Tree::with_log();
    tree.put_data("config.data", r#"{"serial_no": 1, "cluster": {}}"#);
    fs::write(tree.path("hooks/global-pre.d/notes.txt"), "").unwrap();
    let said = tree.cli(&["check"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for line in
        ["FAIL  daemon", "ok    master         this node", "note  global-pre.d   notes.txt does not run"]
    {
        assert!(said.out.contains(line), "{line:?} is not in\n{}", said.out);
    }
    assert!(said.out.contains("systemctl start ganeti-hookd"), "{}", said.out);
    tree.file_hook("post", "20-dos", "#!/bin/sh\r\necho\r\n");
    tree.file_hook("post", "30-none", "echo\n");
    tree.file_hook("post", "40-gone", "#!/no/such/python\n");
    let said = tree.cli(&["check"]).out;
    for (name, why) in
        [("20-dos", "CR LF"), ("30-none", "#!/bin/sh"), ("40-gone", "/no/such/python: No such file")]
    {
        let line = said.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.starts_with("FAIL") && line.contains("will not start") && line.contains(why), "{line}");
        fs::remove_file(tree.path("hooks/global-post.d").join(name)).unwrap();
    }
    let daemon = tree.start();
    let said = tree.cli(&["check", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let findings = json_lines(&said.out);
    let verdict =
        |check: &str| findings.iter().find(|finding| finding["check"] == check).unwrap()["verdict"].clone();
    for check in ["configuration", "queue", "inotify", "master", "livelocks", "state", "pidfd", "daemon"] {
        assert_eq!(verdict(check), "ok", "{check}");
    }
    drop(daemon);
    let script = tree.path("hooks/global-pre.d/10-log");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o777)).unwrap();
    fs::rename(tree.path("queue"), tree.path("elsewhere")).unwrap();
    let said = tree.cli(&["check"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for words in [&format!("chmod go-w {}", script.display()), "is paths.queue-dir right"] {
        let is_failure = |line: &&str| line.starts_with("FAIL") && line.contains(words);
        assert!(said.out.lines().any(|line| is_failure(&line)), "{words:?} is not in\n{}", said.out);
    }
}

#[test]
fn wrong_words_and_paths_are_named() {
    let tree = Tree::new();
    fs::write(tree.path("a-file"), "").unwrap();
    let a_file = tree.path("a-file").display().to_string();
    for (args, code, words) in [
        (vec![], 2, "Usage: ganeti-hookd"),
        (vec!["dance"], 2, "unrecognized subcommand 'dance'"),
        (vec!["status", "--colour"], 2, "unexpected argument '--colour'"),
        (vec!["events", "--json", "-o", "event"], 2, "cannot be used with"),
        (vec!["replay", "/no/such/recording"], 1, "/no/such/recording: No such file or directory"),
        (vec!["replay", "--speed", "0", "x"], 2, "must be a number above 0"),
        (vec!["record", "--out", a_file.as_str()], 1, "a-file: File exists"),
        (vec!["replay", "--live", a_file.as_str(), "x"], 1, "x: No such file"),
        (vec!["env", "1", "0", "during"], 2, "a phase is pre or post"),
    ] {
        let said = tree.cli(&args);
        assert!(said.code == Some(code) && said.err.contains(words), "{args:?}: {said:?}");
    }
}

#[test]
fn a_recording_that_does_not_begin_leaves_no_file() {
    let tree = Tree::new();
    fs::rename(tree.path("queue"), tree.path("elsewhere")).unwrap();
    let out = tree.path("recording");
    let said = tree.cli(&["record", "--out", &out.display().to_string()]);
    assert!(said.code == Some(1) && said.err.contains("cannot watch"), "{said:?}");
    assert!(!out.exists());
}

#[test]
fn a_bad_configuration_is_exit_code_78_and_names_the_key() {
    let tree = Tree::new();
    tree.set("hooks.pre", "\"sometimes\"");
    tree.set("hooks.colour", "1");
    for command in [&["run"][..], &["status"], &["events"], &["check"], &["env", "1", "0", "pre"]] {
        let said = tree.cli(command);
        assert_eq!(said.code, Some(78), "{said:?}");
        for words in [
            "hookd.toml is not a good configuration",
            "hooks.pre: must be one of \"hold\", \"notify\", \"off\", not \"sometimes\"",
            "hooks.colour: unknown key; keys of [hooks] are pre, ",
        ] {
            assert!(said.err.contains(words), "{}", said.err);
        }
    }
    fs::remove_file(tree.config()).unwrap();
    let said = tree.cli(&["run"]);
    assert!(said.code == Some(78) && said.err.contains("hookd.toml: there is no such file"), "{said:?}");
}

#[test]
fn a_recording_of_a_live_queue_tells_the_same_events() {
    let tree = Tree::new();
    let daemon = tree.start();
    let mut before = Job::delay(1);
    tree.put(&before);
    let recording = tree.path("recording.jsonl");
    let mut recorder = tree.program().args(["record", "--out"]).arg(&recording).spawn().unwrap();
    let recorded = |text: &str, count| {
        let read = || fs::read_to_string(&recording).unwrap_or_default();
        wait_for(
            || (read().matches(text).count() >= count).then_some(()),
            || format!("{text} in\n{}", read()),
        );
    };
    // Last of what was there when it began.
    recorded("ssconf_master_node", 1);
    recorded("job-1", 1);
    tree.put(before.runs(0));
    recorded("job-1\"", 2);
    tree.put(before.succeeds(0));
    let mut dies = Job::new(2, &["OP_TEST_DELAY", "OP_TEST_DELAY"]);
    let process = tree.process_of(&mut dies);
    tree.put(dies.runs(0));
    daemon.wait_done(&["2.0.pre"]);
    recorded("job-2\"", 1);
    process.kill();
    recorded("\"exit\"", 1);
    tree.put(&Job::ended(3));
    daemon.wait_done(&["1.0.post", "2.0.post", "3.0.post"]);
    recorded("job-3\"", 1);
    tree.archive(3);
    recorded("archive/0/job-3", 1);
    kill_process(Pid::from_child(&recorder), Signal::TERM).unwrap();
    assert!(recorder.wait().unwrap().success());
    let replayed = json_lines(&done(tree.cli(&["replay", &recording.display().to_string()])));
    assert_eq!(what_happened(&replayed), what_happened(&tree.events()));
}

#[test]
fn a_recording_has_the_keys_of_secrets_and_not_their_values() {
    let tree = Tree::new();
    let mut job = Job::new(1, &["OP_INSTANCE_CREATE"]);
    job.op(0)["input"]["osparams_private"] = serde_json::json!({"root-key": "s3cret-of-job"});
    tree.put(job.runs(0));
    let config = r#"{"cluster":{"osparams_private_cluster":{"os":{"key":"s3cret-of-cluster"}}}}"#;
    tree.put_data("config.data", config);
    let record = |name: &str, more: &[&str]| {
        let recording = tree.path(name);
        let mut command = tree.program();
        let mut recorder = command.args(["record", "--out"]).arg(&recording).args(more).spawn().unwrap();
        let read = || fs::read_to_string(&recording).unwrap_or_default();
        wait_for(|| read().contains("job-1").then_some(()), read);
        wait_for(|| read().contains("config.data").then_some(()), read);
        kill_process(Pid::from_child(&recorder), Signal::TERM).unwrap();
        assert!(recorder.wait().unwrap().success());
        read()
    };
    let text = record("blanked.jsonl", &[]);
    assert!(!text.contains("s3cret") && text.contains("root-key"), "{text}");
    let text = record("whole.jsonl", &["--with-secrets"]);
    assert!(text.contains("s3cret-of-job") && text.contains("s3cret-of-cluster"), "{text}");
}

/// Events without what depends on how soon somebody looked, by job.
fn what_happened(events: &[Value]) -> Vec<String> {
    let mut told: Vec<(i64, String)> = events
        .iter()
        .map(|event| {
            let status = event["status"].as_str().unwrap_or("-");
            let words = [&event["event"], &event["op_code"]].map(|word| word.as_str().unwrap());
            (
                event["job"].as_i64().unwrap(),
                format!("{} {} {status} {}", words[0], words[1], event["executed"]),
            )
        })
        .collect();
    // Jobs run side by side; within a job the order is kept.
    told.sort_by_key(|(job, _)| *job);
    told.into_iter().map(|(_, text)| text).collect()
}

/// A recording without the jobs that were there when it began, unless they changed.
fn without_old_jobs(recording: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let mut is_of_new_job = |line: &Value| {
        let path = line["path"].as_str().filter(|path| path.starts_with("job-"));
        let Some(path) = path.map(str::to_owned) else { return true };
        if line["initial"] == true {
            return false;
        }
        if line["content"].is_string() {
            seen.insert(path.clone());
        }
        seen.contains(&path)
    };
    recording.into_iter().filter(|line| is_of_new_job(line)).collect()
}

/// Plays what came after the beginning of a recording, for a daemon to watch.
fn play_live(name: &str) {
    let tree = Tree::new();
    let live = tree.path("live");
    fs::create_dir(&live).unwrap();
    for key in ["paths.queue-dir", "paths.data-dir", "paths.ganeti-run-dir"] {
        tree.set(key, &format!("{live:?}"));
    }
    let recording =
        fs::read_to_string(format!("{}/fixtures/recordings/{name}/events.jsonl", env!("CARGO_MANIFEST_DIR")))
            .unwrap();
    let recording = without_old_jobs(json_lines(&recording));
    let is_master = |line: &&Value| line["path"] == "ssconf_master_node";
    let master = recording.iter().find(is_master).unwrap()["content"].as_str().unwrap().trim();
    tree.set("master.name", &format!("{master:?}"));
    let text: Vec<String> = recording.iter().map(|line| format!("{line}\n")).collect();
    let path = tree.path("recording.jsonl");
    fs::write(&path, text.concat()).unwrap();

    let daemon = tree.start();
    let length = recording.last().unwrap()["t"].as_f64().unwrap() - recording[0]["t"].as_f64().unwrap();
    let (path, live) = (path.display().to_string(), live.display().to_string());
    let speed = format!("{}", length / 1.5);
    let played = json_lines(&done(tree.cli(&["replay", &path, "--live", &live, "--speed", &speed])));
    assert!(!played.is_empty());
    daemon.wait("all of the recording", |events| events.len() >= played.len());
    assert_eq!(what_happened(&tree.events()), what_happened(&played), "{name}");
    assert_eq!(what_is_told(&tree.events()), what_is_told(&played), "{name}");
}

/// The records of events, as far as they do not tell how the daemon came to know of them.
fn what_is_told(events: &[Value]) -> BTreeMap<String, Value> {
    const OURS: [&str; 6] = ["seq", "late", "time", "held", "state", "runs"];
    let told = events.iter().map(|event| {
        let mut record = event.as_object().unwrap().clone();
        OURS.iter().for_each(|key| drop(record.remove(*key)));
        (record["event"].to_string(), Value::Object(record))
    });
    told.collect()
}

#[test]
fn a_recording_played_live_tells_its_events() {
    for name in ["deaths", "init-destroy", "multi-op"] {
        play_live(name);
    }
}
