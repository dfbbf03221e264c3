//! ssconf files: the name in the first line, or an error; never something else.
#![no_main]

use std::sync::LazyLock;

use ganeti_hookd::ganeti::text::is_plain;
use ganeti_hookd::world::cluster::Cluster;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a directory"));

/// Ganeti's own limit (`ssconf.py`, `_MAX_SIZE`).
const LIMIT: usize = 128 * 1024;

fuzz_target!(|data: &[u8]| {
    std::fs::write(DIR.path().join("ssconf_master_node"), data).expect("room");
    let mut cluster = Cluster::new(DIR.path());
    let naive = String::from_utf8(data.to_vec()).ok().filter(|_| data.len() <= LIMIT).and_then(|text| {
        let line = text.split('\n').next().unwrap_or_default().trim().to_owned();
        let is_name = line.len() <= 255 && line.chars().all(is_plain);
        // What Ganeti writes while a cluster is being destroyed.
        is_name.then(|| (!line.is_empty() && line != "NO MASTER").then_some(line))
    });
    assert_eq!(cluster.master().ok(), naive);
    let _ = cluster.facts(None);
});
