//! Hooks that mean harm, or are badly made: the daemon goes on, and leaves nothing behind.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Daemon, Job, Tree, wait_for};

/// The processes that the daemon has started and not waited for.
fn children(daemon: &Daemon<'_>) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid().as_raw_nonzero())).unwrap();
    let children = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children.flat_map(|pids| pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Those of them that are dead.
fn zombies(daemon: &Daemon<'_>) -> Vec<String> {
    let stat = |pid: &String| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    children(daemon).iter().map(stat).filter(|stat| stat.contains(") Z ")).collect()
}

fn assert_no_zombies(daemon: &Daemon<'_>) {
    wait_for(
        || zombies(daemon).is_empty().then_some(()),
        || format!("the end of zombies: {:?}", zombies(daemon)),
    );
}

/// The only event's runs, by script.
fn runs(tree: &Tree) -> impl Fn(&str) -> Value {
    let runs = tree.event("1.0.post")["runs"].as_array().unwrap().clone();
    move |script| runs.iter().find(|run| run["script"] == script).unwrap().clone()
}

#[test]
fn hooks_that_do_not_want_to_end_are_ended() {
    let tree = Tree::new();
    tree.set("hooks.timeout", "\"300ms\"");
    tree.set("hooks.output-limit", "\"4KiB\"");
    // Deaf to everything that can be ignored.
    tree.hook("post", "10-deaf", "trap '' TERM HUP INT QUIT; while :; do sleep 600; done");
    tree.hook("post", "20-loud", "trap '' TERM; while :; do echo noise; done");
    tree.hook("post", "30-leaves-its-session", "exec setsid -w sh -c \"trap '' TERM; sleep 600\"");
    tree.hook("post", "40-stops-itself", "kill -STOP $$");
    tree.hook("post", "50-leaves-pipes-open", "for i in 1 2 3; do setsid sleep 600 & done; echo done");
    tree.hook("post", "60-forks", "for i in 1 2 3 4 5; do (exit 3) & done; exit 4");
    tree.hook("post", "70-ends-its-group", "kill -KILL 0");
    tree.hook("post", "80-removes-itself", "rm \"$0\"; echo gone");
    tree.hook("post", "90-still-runs", "echo yes");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let run = runs(&tree);
    for script in ["10-deaf", "20-loud"] {
        assert_eq!((&run(script)["signal"], &run(script)["code"]), (&json!(9), &json!(null)), "{script}");
        assert!(run(script)["error"].as_str().unwrap().contains("ran longer"), "{script}");
    }
    for script in ["30-leaves-its-session", "40-stops-itself"] {
        assert!(run(script)["error"].as_str().unwrap().contains("ran longer"), "{script}");
    }
    assert!(run("20-loud")["output"].as_str().unwrap().len() == 4096 && run("20-loud")["dropped"] != 0);
    assert_eq!((&run("50-leaves-pipes-open")["code"], &run("60-forks")["code"]), (&json!(0), &json!(4)));
    assert_eq!(run("70-ends-its-group")["signal"], 9);
    assert_eq!((&run("80-removes-itself")["code"], &run("90-still-runs")["code"]), (&json!(0), &json!(0)));
    assert_no_zombies(&daemon);
    let pid = daemon.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("at most{peak}");
}

#[test]
fn what_a_hook_has_started_is_ended_with_it() {
    let tree = Tree::new();
    tree.set("hooks.timeout", "\"1s\"");
    tree.hook("post", "10-has-a-child", "sleep 600 & echo $!; wait");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let child: u32 = runs(&tree)("10-has-a-child")["output"].as_str().unwrap().trim().parse().unwrap();
    let stat = || fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    wait_for(|| (stat().is_empty() || stat().contains(") Z ")).then_some(()), stat);
}

#[test]
fn a_script_that_is_being_written_is_waited_for() {
    let tree = Tree::new();
    tree.hook("post", "10-slow", "exit 0");
    let path = tree.path("hooks/global-post.d/10-slow");
    let writer = fs::File::options().append(true).open(&path).unwrap();
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_status("it waits", |status| status["running"].as_array().unwrap().len() == 1);
    drop(writer);
    daemon.wait_done(&["1.0.post"]);
    assert_eq!(tree.event("1.0.post")["runs"][0]["code"], 0);
}

#[test]
fn thousands_of_scripts_run_one_after_the_other() {
    let count: usize = std::env::var("HOOKD_SCRIPTS").ok().map_or(1_000, |count| count.parse().unwrap());
    let tree = Tree::new();
    for number in 0..10_000 {
        let name = tree.path(&format!("hooks/global-post.d/{number:05}"));
        let target = if number < count { "/bin/true" } else { "/etc/passwd" };
        symlink(target, name).unwrap();
    }
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    // Each thousand may take its time.
    for number in (0..count).step_by(1000) {
        let has_begun = |event: &Value| event["runs"].as_array().is_some_and(|runs| runs.len() > number);
        daemon.wait(&format!("run {number}"), |events| events.iter().any(has_begun));
    }
    daemon.wait_done(&["1.0.post"]);
    let runs = tree.event("1.0.post")["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), count);
    assert!(runs.iter().enumerate().all(|(i, run)| run["script"] == format!("{i:05}") && run["code"] == 0));
}

/// A line of `/proc/PID/status`, a mask.
fn mask(status: &str, name: &str) -> u64 {
    let text = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
    u64::from_str_radix(text, 16).unwrap()
}

#[test]
fn hooks_inherit_no_signal_that_somebody_had_ignored_or_blocked() {
    let tree = Tree::new();
    tree.file_hook("post", "10-signals", "#!/bin/cat /proc/self/status\n");
    tree.hook("post", "20-ends", "exit 7");
    let signals = "CHLD,INT,QUIT,HUP,USR1,ALRM,RTMIN+3";
    let by = ["nohup", "env", &format!("--ignore-signal={signals}"), "--block-signal=TERM,USR2,RTMAX"];
    let mut daemon = Daemon::spawn(&tree, &[], &by);
    daemon.wait_ready();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let run = runs(&tree);
    assert_eq!(run("20-ends")["code"], 7, "with SIGCHLD ignored nobody could tell");
    let status = run("10-signals")["output"].as_str().unwrap().to_owned();
    // 32 and 33 are the C library's own: nothing can set them by way of it.
    let ignored = mask(&status, "SigIgn") & !(0b11 << 31);
    assert_eq!((mask(&status, "SigBlk"), ignored), (0, 0), "{status}");
    assert_no_zombies(&daemon);
    // Nor is the daemon itself deaf.
    daemon.signal(Signal::HUP);
    daemon.wait_log("configuration read again", 1);
    assert!(daemon.stop().0.success());
}

#[test]
fn a_hook_that_is_no_program_is_an_error_and_no_more() {
    let tree = Tree::new();
    tree.file_hook("post", "10-empty", "");
    tree.file_hook("post", "20-elf", "\u{7f}ELF\u{2}\u{1}\u{1}");
    tree.file_hook(
        "post",
        "30-itself",
        &format!("#!{}\n", tree.path("hooks/global-post.d/30-itself").display()),
    );
    tree.file_hook("post", "40-directory", "#!/\n");
    tree.file_hook("post", "50-long", &format!("#!/bin/{}\n", "x".repeat(100_000)));
    symlink("/dev/zero", tree.path("hooks/global-post.d/60-device")).unwrap();
    symlink("70-loop", tree.path("hooks/global-post.d/70-loop")).unwrap();
    tree.hook("post", "90-runs", "exit 0");
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let event = tree.event("1.0.post");
    let runs = event["runs"].as_array().unwrap();
    let bad =
        runs.iter().filter(|run| run["error"].as_str().is_some_and(|e| e.starts_with("cannot be started")));
    assert_eq!((runs.len(), bad.count()), (6, 5), "{event:#}");
    assert_eq!(runs[5]["code"], 0);
    assert_no_zombies(&daemon);
}

/// Has a job's hooks run, and waits until there is one child more than before, which waits to become the next.
fn wait_for_one_that_waits(tree: &Tree, daemon: &Daemon<'_>, before: &[String]) -> String {
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    // It is made when that has been told.
    let find = || match children(daemon).into_iter().filter(|pid| !before.contains(pid)).collect::<Vec<_>>() {
        one if one.len() == 1 => one.into_iter().next(),
        _ => None,
    };
    wait_for(find, || format!("one child more than {before:?}, not {:?}", children(daemon)))
}

#[test]
fn what_waits_to_become_a_hook_ends_with_the_daemon() {
    for how in [Signal::KILL, Signal::TERM] {
        let tree = Tree::with_log();
        let daemon = tree.start();
        let before = children(&daemon);
        let waits = wait_for_one_that_waits(&tree, &daemon, &before);
        let after = [before, vec![waits]].concat();
        daemon.signal(how);
        let living = || after.iter().filter(|pid| fs::exists(format!("/proc/{pid}")).unwrap()).count();
        wait_for(|| (living() == 0).then_some(()), || format!("the end of {after:?} after {how:?}"));
    }
}

#[test]
fn what_waits_to_become_a_hook_and_was_stopped_delays_none() {
    let tree = Tree::with_log();
    // Both phases have ended, and so it waits.
    let daemon = tree.start();
    let before = children(&daemon);
    let waits = wait_for_one_that_waits(&tree, &daemon, &before);
    kill_process(Pid::from_raw(waits.parse().unwrap()).unwrap(), Signal::STOP).unwrap();
    tree.put(&Job::ended(2));
    daemon.wait_done(&["2.0.post"]);
    assert_eq!(tree.hook_log().len(), 4, "{:?}", tree.hook_log());
    assert_no_zombies(&daemon);
}
