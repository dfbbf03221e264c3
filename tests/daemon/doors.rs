//! Who else may ask the daemon: the members of a group, whoever asks for metrics over TCP, and a file
//! for node_exporter.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use ganeti_hookd::world::api;
use ganeti_hookd::world::http::{Response, exchange};
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde_json::{Value, json};

use super::directories::wait_idle;
use crate::harness::{Daemon, Job, OTHER_NODE, Tree, wait_for};

/// A group that every Debian has, and its number.
const GROUP: (&str, u32) = ("daemon", 1);

/// Somebody who is nobody in particular.
const SOMEBODY: u32 = 65_534;

/// A tree whose directory others may enter.
fn entered() -> Tree {
    let tree = Tree::with_log();
    fs::set_permissions(tree.path(""), Permissions::from_mode(0o755)).unwrap();
    tree
}

/// Does something as somebody of this group; only this thread changes.
fn as_member<T: Send>(group: u32, what: impl FnOnce() -> T + Send) -> T {
    let become_somebody = move || {
        let (uid, gid) = (Uid::from_raw(SOMEBODY), Gid::from_raw(group));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        what()
    };
    std::thread::scope(|scope| scope.spawn(become_somebody).join().unwrap())
}

fn problems(daemon: &Daemon<'_>, text: &str) -> Value {
    let is_there = |status: &Value| status["problems"].to_string().contains(text);
    daemon.wait_status(&format!("the problem {text}"), is_there)["problems"].clone()
}

fn no_problem(daemon: &Daemon<'_>) {
    daemon.wait_status("no problem", |status| status["problems"] == json!([]));
}

fn wait_open(tree: &Tree) {
    let mode = || fs::metadata(tree.path("hookd/hookd.sock")).unwrap().mode() & 0o777;
    wait_for(|| (mode() == 0o660).then_some(()), || format!("{:o}\n{}", mode(), tree.log()));
}

#[test]
fn members_of_a_group_read_and_change_nothing() {
    let tree = entered();
    tree.set("api.group", &format!("{:?}", GROUP.0));
    let daemon = tree.start();
    wait_open(&tree);
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let run_dir = tree.path("hookd");
    let ask = |method: &str, target: &str| api::request(&run_dir, method, target);
    as_member(GROUP.1, || {
        for target in ["/v1/status", "/metrics", "/v1/events", "/v1/jobs/1", "/v1/waiting", "/v1/changes"] {
            assert_eq!(ask("GET", target).unwrap().status, 200, "{target}");
        }
        let refused = ask("POST", "/v1/rerun?event=1.0.post").unwrap();
        assert_eq!(refused.status, 403, "{}", api::detail(&refused.body));
        assert_eq!(ask("GET", "/v1/rerun?event=1.0.post").unwrap().status, 405);
        for denied in [fs::read_dir(&run_dir).err(), fs::read(run_dir.join("held")).err()] {
            assert_eq!(denied.unwrap().kind(), ErrorKind::PermissionDenied);
        }
    });
    let denied = as_member(SOMEBODY, || ask("GET", "/v1/status").unwrap_err().kind());
    assert_eq!(denied, ErrorKind::PermissionDenied, "nobody else");
    assert_eq!(tree.event("1.0.post")["runs"].as_array().unwrap().len(), 1, "nothing ran again");
    assert_eq!(ask("POST", "/v1/rerun?event=1.0.post").unwrap().status, 200, "root may");
    let said = tree.cli(&["check"]).out;
    assert!(said.contains("ok    api.group      members of daemon may read"), "{said}");
    assert!(said.contains("ok    permissions"), "{said}");
}

#[test]
fn a_group_that_does_not_exist_is_a_problem_until_it_is_mended() {
    let tree = entered();
    tree.set("api.group", "\"there-is-no-such-group\"");
    let daemon = tree.start();
    let said = problems(&daemon, "api.group: there-is-no-such-group: there is no such group");
    assert!(said.to_string().contains("systemctl reload ganeti-hookd"), "{said}");
    assert!(
        tree.cli(&["check"]).out.contains("FAIL  api.group      there is no group there-is-no-such-group")
    );
    tree.set("api.group", &format!("{:?}", GROUP.0));
    daemon.signal(Signal::HUP);
    no_problem(&daemon);
    wait_open(&tree);
    tree.set("api.group", "\"\"");
    daemon.signal(Signal::HUP);
    let mode = || fs::metadata(tree.path("hookd/hookd.sock")).unwrap().mode() & 0o777;
    wait_for(|| (mode() == 0o600).then_some(()), || tree.log());
}

#[test]
fn readers_leave_connections_to_root() {
    let tree = entered();
    tree.set("api.group", &format!("{:?}", GROUP.0));
    let _daemon = tree.start();
    wait_open(&tree);
    let socket = tree.path("hookd/hookd.sock");
    let open =
        || (0..60).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap()).collect::<Vec<_>>();
    // They say nothing, and are refused from the 49th on.
    let streams = as_member(GROUP.1, open);
    let mut last = streams.last().unwrap();
    let mut said = String::new();
    last.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert_eq!(api::request(&tree.path("hookd"), "GET", "/v1/status").unwrap().status, 200);
}

/// An address where nobody listens.
fn address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn scrape(address: SocketAddr, method: &str, target: &str) -> io::Result<Response> {
    exchange(TcpStream::connect(address)?, method, "x", target, b"", 1 << 20)
}

#[test]
fn metrics_alone_are_told_over_tcp() {
    let tree = Tree::with_log();
    let address = address();
    tree.set("api.metrics-listen", &format!("\"{address}\""));
    let daemon = tree.start();
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    let answer = scrape(address, "GET", "/metrics").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200);
    assert!(text.contains("\nganeti_hookd_events_total 2\n"), "{text}");
    for (method, target, status) in [
        ("GET", "/v1/status", 404),
        ("GET", "/v1/events", 404),
        ("GET", "/", 404),
        ("POST", "/v1/rerun?event=1.0.post", 404),
        ("POST", "/metrics", 405),
    ] {
        assert_eq!(scrape(address, method, target).unwrap().status, status, "{method} {target}");
    }
    assert!(
        tree.cli(&["check"]).out.contains(&format!("ok    metrics-listen metrics are told at {address}"))
    );
    // Who only connects wakes nobody.
    let _silent = TcpStream::connect(address).unwrap();
    wait_idle(&daemon);
    tree.set("api.metrics-listen", "\"\"");
    daemon.signal(Signal::HUP);
    let refused = || scrape(address, "GET", "/metrics").is_err().then_some(());
    wait_for(refused, || tree.log());
}

#[test]
fn an_address_that_is_taken_is_a_problem_and_hooks_run_all_the_same() {
    let tree = Tree::with_log();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    tree.set("api.metrics-listen", &format!("\"{address}\""));
    let daemon = tree.start();
    problems(&daemon, &format!("api.metrics-listen: {address}: Address already in use"));
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    drop(other);
    daemon.signal(Signal::HUP);
    no_problem(&daemon);
    assert_eq!(scrape(address, "GET", "/metrics").unwrap().status, 200);
}

#[test]
fn who_is_slow_is_left_and_who_comes_in_masses_is_told_so() {
    let tree = Tree::new();
    let address = address();
    tree.set("api.metrics-listen", &format!("\"{address}\""));
    let _daemon = tree.start();
    let begin = Instant::now();
    let mut drip = TcpStream::connect(address).unwrap();
    let silent: Vec<TcpStream> = (0..7).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut ninth = TcpStream::connect(address).unwrap();
    let mut said = String::new();
    ninth.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    // A byte now and then puts the end off for nobody.
    drip.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let is_left = || {
        let _ = drip.write_all(b"G");
        match drip.read(&mut [0]) {
            Ok(0) => Some(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(()),
            _ => None,
        }
    };
    wait_for(is_left, || "it is left".to_owned());
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    drop(silent);
    wait_for(|| scrape(address, "GET", "/metrics").ok().filter(|answer| answer.status == 200), || tree.log());
}

#[test]
fn the_textfile_is_the_master_s_and_goes_when_it_is_not_true_any_more() {
    let tree = Tree::with_log();
    let file = tree.path("ganeti-hookd.prom");
    let write = || tree.cli(&["metrics", "--textfile", file.to_str().unwrap()]);
    let daemon = tree.start();
    let said = write();
    assert!(said.code == Some(0) && said.out.is_empty() && said.err.is_empty(), "{said:?}");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nganeti_hookd_is_master 1\n") && text.ends_with('\n'), "{text}");
    assert!(tree.cli(&["metrics"]).out.contains("\nganeti_hookd_is_master 1\n"));

    tree.put_data("ssconf_master_node", OTHER_NODE);
    daemon.wait_status("standby", |status| status["role"] == "standby");
    assert_eq!((write().code, file.exists()), (Some(0), false), "it is another's now");
    tree.put_data("ssconf_master_node", crate::harness::NODE);
    daemon.wait_status("master", |status| status["role"] == "master");
    assert_eq!((write().code, file.exists()), (Some(0), true));
    drop(daemon);
    let said = write();
    assert!(said.err.contains("the daemon is not running"), "{said:?}");
    assert_eq!((said.code, file.exists()), (Some(1), false), "nobody answers");
    let said = tree.cli(&["metrics", "--textfile", "/tmp/metrics.txt"]);
    assert!(said.code == Some(2) && said.err.contains("must end in .prom"), "{said:?}");
}
