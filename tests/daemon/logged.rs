//! What the systemd journal is told: lines with fields, by its own protocol. The journal here is a
//! socket that stands where the journal's does, in a mount namespace of the daemon's own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use crate::harness::{Daemon, Job, PATIENCE, Tree};

/// Puts a directory of the tree where the journal's socket is, and goes on with the daemon.
const BY: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                  mount --bind \"$JOURNAL\" /run/systemd/journal && exec \"$@\"";

/// The variable by which systemd tells that standard error is the journal's.
fn stream(tree: &Tree) -> String {
    File::options().create(true).append(true).open(tree.path("hookd.log")).unwrap();
    let log = fs::metadata(tree.path("hookd.log")).unwrap();
    format!("{}:{}", log.dev(), log.ino())
}

/// A daemon whose journal is this directory.
fn start<'t>(tree: &'t Tree, journal: &str) -> Daemon<'t> {
    let journal = tree.path(journal).display().to_string();
    let variables = [("JOURNAL_STREAM", stream(tree)), ("JOURNAL", journal)];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut daemon = Daemon::spawn(tree, &variables, &["unshare", "-m", "sh", "-c", BY, "sh"]);
    daemon.wait_ready();
    daemon
}

type Entry = BTreeMap<String, String>;

/// Entries as they come, up to the first that is looked for.
fn until(listener: &UnixDatagram, is_it: impl Fn(&Entry) -> bool) -> Entry {
    let mut buffer = [0; 16 * 1024];
    let mut seen = Vec::new();
    loop {
        let length =
            listener.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}; there came {seen:#?}"));
        let text = String::from_utf8_lossy(&buffer[..length]);
        let fields = text.lines().filter_map(|line| line.split_once('='));
        let entry: Entry = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if is_it(&entry) {
            return entry;
        }
        seen.push(entry);
    }
}

fn entry(fields: &[(&str, &str)]) -> Entry {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The ID of a kind of message, by its subject in the catalog.
fn id(subject: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/ganeti-hookd.catalog");
    let catalog = fs::read_to_string(path).unwrap();
    let (before, _) = catalog.split_once(&format!("\nSubject: {subject}")).unwrap();
    before.rsplit_once("-- ").unwrap().1.to_owned()
}

#[test]
fn the_journal_is_told_what_each_line_is_about() {
    let tree = Tree::with_log();
    tree.hook("post", "20-check", "exit 3");
    fs::create_dir(tree.path("journal")).unwrap();
    let listener = UnixDatagram::bind(tree.path("journal/socket")).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let daemon = start(&tree, "journal");
    let mut job = Job::new(42, &["OP_INSTANCE_MIGRATE"]);
    let process = tree.process_of(&mut job);
    tree.put(job.runs(0));
    let pre = until(&listener, |entry| entry.contains_key("GANETI_EVENT"));
    let expected = entry(&[
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "ganeti-hookd"),
        ("MESSAGE", "42.0.pre OP_INSTANCE_MIGRATE"),
        ("MESSAGE_ID", &id("An event of job")),
        ("GANETI_JOB", "42"),
        ("GANETI_EVENT", "42.0.pre"),
        ("GANETI_OP_CODE", "OP_INSTANCE_MIGRATE"),
    ]);
    assert_eq!(pre, expected);
    daemon.wait_done(&["42.0.pre"]);
    daemon.wait_status("the process is watched", |status| status["processes_watched"] == 1);
    process.kill();
    let died = until(&listener, |entry| entry.get("GANETI_EVENT").is_some_and(|event| event == "42.0.post"));
    assert_eq!(died["MESSAGE"], "42.0.post OP_INSTANCE_MIGRATE disappeared");
    assert_eq!(died["MESSAGE_ID"], id("The process of job"));
    let failed = until(&listener, |entry| entry["PRIORITY"] == "4");
    assert_eq!(failed["MESSAGE"], "42.0.post: hook 20-check exited with 3");
    assert_eq!((&*failed["GANETI_JOB"], &*failed["MESSAGE_ID"]), ("42", &*id("A hook failed")));
    tree.put_bytes(7, b"is no job");
    let bad = until(&listener, |entry| entry["PRIORITY"] == "3");
    assert_eq!(
        (&*bad["GANETI_JOB"], &*bad["MESSAGE_ID"]),
        ("7", &*id("The file of job @GANETI_JOB@ cannot"))
    );
    assert_eq!(tree.log(), "", "nothing is said twice");
}

#[test]
fn where_the_journal_does_not_listen_standard_error_has_the_lines() {
    let tree = Tree::with_log();
    fs::create_dir(tree.path("journal")).unwrap();
    let daemon = start(&tree, "journal");
    tree.put(&Job::ended(1));
    daemon.wait_done(&["1.0.post"]);
    daemon.wait_log("<6>1.0.post OP_TEST_DELAY succeeded", 1);
    // Nor does one that does not read keep the daemon waiting.
    drop(daemon);
    let _silent = UnixDatagram::bind(tree.path("journal/socket")).unwrap();
    let daemon = start(&tree, "journal");
    for id in 2..400 {
        tree.put(&Job::ended(id));
    }
    daemon.wait_done(&["399.0.post"]);
    daemon.wait_log("<6>399.0.post OP_TEST_DELAY succeeded", 1);
}
