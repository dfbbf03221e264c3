//! Arrows point one way (design, section 10): `cli -> daemon -> world -> engine -> ganeti`.
//!
//! A folder below `src` is a floor, and a floor knows only those below it. The two lowest
//! are pure: they are given bytes, snapshots and the time and return what should be done;
//! they know no clock, file, process, thread or database. This test reads the sources,
//! without their tests, and looks at every path that they name. Nothing is listed by hand:
//! a new file stands where its folder does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders below `src`, the lowest first.
const FLOORS: &[&str] = &["ganeti", "engine", "world", "daemon", "cli"];

/// The floors that know nothing of the world.
const PURE: &[&str] = &["ganeti", "engine"];

/// What the pure floors do not name, and everything below it.
const THE_WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "crossbeam_channel",
    "jiff",
    "libc",
    "notify",
    "rusqlite",
    "rustix",
    "sd_notify",
    "signal_hook",
    "tiny_http",
    "walkdir",
];

/// How high a module stands: its folder's place in [`FLOORS`]; `None` for the crate's root.
fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| is_within(module, floor))
}

/// Whether a path is `outer` or below it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What is wrong with the arrows of a module with this source.
fn findings(module: &str, source: &str) -> Vec<String> {
    let Some(floor) = floor_of(module) else {
        let is_root = ["lib", "main"].contains(&module);
        return if is_root {
            vec![]
        } else {
            vec![format!("{module} stands in none of the folders {FLOORS:?}")]
        };
    };
    let paths = paths(&code(source));
    let world = paths
        .iter()
        .filter(|path| PURE.contains(&FLOORS[floor]) && THE_WORLD.iter().any(|world| is_within(path, world)));
    let mut found: Vec<String> = world.map(|path| format!("{module}: a pure floor names {path}")).collect();
    for used in paths.iter().filter_map(|path| within_the_crate(module, path)) {
        if floor_of(&used).is_some_and(|other| other > floor) {
            found.push(format!("{module} uses {used}, which stands above it"));
        }
    }
    found
}

/// A path as seen from the crate's root; none for paths to elsewhere.
fn within_the_crate(module: &str, path: &str) -> Option<String> {
    if let Some(path) = path.strip_prefix("crate::") {
        return Some(path.to_owned());
    }
    let mut above: Vec<&str> = module.split("::").collect();
    let mut rest = path;
    while let Some(path) = rest.strip_prefix("super::") {
        above.pop();
        rest = path;
    }
    if rest == path {
        return None;
    }
    above.push(rest);
    Some(above.join("::"))
}

/// A source without its comments and tests.
fn code(source: &str) -> String {
    let tests = source.find("#[cfg(test)]\nmod ").unwrap_or(source.len());
    let lines = source[..tests].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path of at least two names in the code; `a::{b, c::d}` is two.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        rest = tree(&rest[start..], "", &mut found);
    }
    found
}

/// Reads one tree of names below `above`; returns what follows it.
fn tree<'a>(text: &'a str, above: &str, found: &mut BTreeSet<String>) -> &'a str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let path = if above.is_empty() { name.to_owned() } else { format!("{above}::{name}") };
    let Some(below) = rest.strip_prefix("::") else {
        found.extend((!above.is_empty()).then(|| path.trim_end_matches("::self").to_owned()));
        return rest;
    };
    let Some(group) = below.strip_prefix('{') else { return tree(below, &path, found) };
    rest = group.trim_start();
    while !rest.is_empty() && !rest.starts_with('}') {
        let after = tree(rest, &path, found);
        rest = after.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.len() == after.len() && !rest.starts_with('}') {
            return rest;
        }
    }
    rest.strip_prefix('}').unwrap_or(rest)
}

/// The sources, with the names of their modules.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        let entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        open.extend(entries.iter().filter(|path| path.is_dir() && !path.ends_with("tests")).cloned());
        let files = entries.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
        for file in files.filter(|file| !file.ends_with("tests.rs")) {
            let module = file.strip_prefix(&root).unwrap().with_extension("");
            let module = module.to_str().unwrap().replace('/', "::");
            let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
            found.push((module, fs::read_to_string(file).unwrap()));
        }
    }
    found
}

#[test]
fn arrows_point_one_way() {
    let sources = sources();
    assert!(sources.len() >= 40, "{} sources: some were not found", sources.len());
    let findings: Vec<String> =
        sources.iter().flat_map(|(module, source)| findings(module, source)).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn wrong_arrows_are_found() {
    for (module, source, finding) in [
        ("engine::holds", "use std::fs::File;", "engine::holds: a pure floor names std::fs::File"),
        ("ganeti::job::parse", "use std::{fmt, fs};", "ganeti::job::parse: a pure floor names std::fs"),
        ("ganeti::x", "fn f() { std::env::var(NAME) }", "ganeti::x: a pure floor names std::env::var"),
        ("engine::jobs", "fn f() { g(Instant::now()) }", "engine::jobs: a pure floor names Instant::now"),
        (
            "ganeti::event",
            "use crate::engine::Engine;",
            "ganeti::event uses engine::Engine, which stands above it",
        ),
        (
            "engine::replay",
            "use crate::{ganeti::job::{self, JobId},\n    world::queue::scan};",
            "engine::replay uses world::queue::scan, which stands above it",
        ),
        (
            "world::process",
            "use super::super::daemon::now;",
            "world::process uses daemon::now, which stands above it",
        ),
        ("daemon::start", "crate::cli::run()", "daemon::start uses cli::run, which stands above it"),
        ("gadget", "", &format!("gadget stands in none of the folders {FLOORS:?}")),
    ] {
        assert_eq!(findings(module, source), [finding], "{source}");
    }
    for (module, source) in [
        (
            "engine::transitions",
            "use crate::ganeti::job::Job;\n/// Like std::fs.\n#[cfg(test)]\nmod tests { use std::fs; }",
        ),
        ("world::journal::load", "use super::{FILE, schema::apply};\nuse crate::engine::Engine;"),
        ("engine::settings", "Self::Notify => notify_mode()"),
        ("lib", "pub mod cli;"),
    ] {
        assert_eq!(findings(module, source), [""; 0], "{source}");
    }
}
