//! Arrows point one way (design, section 10): `main -> cli -> daemon -> edges -> core`.
//!
//! The core is given bytes, snapshots and the time and returns what should be done; it
//! knows no clock, file, process or database. Edges do not know each other. This test
//! reads the sources, without their tests, and looks at every path that they name.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use Layer::{Base, Cli, Core, Daemon, Edge, Root};

/// Where a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// Decides; knows nothing of the world.
    Core,
    /// A small tool that edges share.
    Base,
    /// Does; knows one part of the world.
    Edge,
    /// Owns the state.
    Daemon,
    /// The commands.
    Cli,
    /// `main.rs` and the list of parts.
    Root,
}

impl Layer {
    /// The layers that a part of this one may use; parts of a layer may use each other
    /// only if the layer itself is named.
    fn may_use(self) -> &'static [Self] {
        match self {
            Core => &[Core],
            Base => &[Core, Base],
            Edge => &[Core, Base],
            Daemon => &[Core, Base, Edge],
            Cli => &[Core, Base, Edge, Daemon],
            Root => &[Core, Base, Edge, Daemon, Cli],
        }
    }
}

/// Every part, the longer name first where one is within another.
const PARTS: &[(&str, Layer)] = &[
    ("config", Core),
    ("dispatch", Core),
    ("event", Core),
    ("hook::outcome", Core),
    ("hook::plan", Core),
    ("hook::run", Edge),
    ("hook::scripts", Edge),
    ("hook", Core),
    ("job", Core),
    ("machine", Core),
    ("numbers", Core),
    ("opcodes", Core),
    ("recording", Core),
    ("replay", Core),
    ("settings", Core),
    ("status", Core),
    ("tracker", Core),
    ("clock", Base),
    ("fault", Base),
    ("deadline", Base),
    ("http", Base),
    ("regular_file", Base),
    ("shortage", Base),
    ("signals", Base),
    ("unchanged", Base),
    ("api", Edge),
    ("cluster", Edge),
    ("journal", Edge),
    ("noded", Edge),
    ("process", Edge),
    ("queue", Edge),
    ("daemon", Daemon),
    ("cli", Cli),
    ("lib", Root),
    ("main", Root),
];

/// What the core does not name, and everything below it.
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

/// The part that a module belongs to.
fn part_of(module: &str) -> Option<(&'static str, Layer)> {
    PARTS.iter().copied().find(|(part, _)| is_within(module, part))
}

/// Whether a path is `outer` or below it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What is wrong with the arrows of a module with this source.
fn findings(module: &str, source: &str) -> Vec<String> {
    let Some((part, layer)) = part_of(module) else {
        return vec![format!("{module}: say in tests/arrows.rs, PARTS, where it belongs")];
    };
    let paths = paths(&code(source));
    let world = paths.iter().filter(|path| layer == Core && THE_WORLD.iter().any(|w| is_within(path, w)));
    let mut found: Vec<String> = world.map(|path| format!("{module}: the core names {path}")).collect();
    for used in paths.iter().filter_map(|path| within_the_crate(module, path)) {
        match part_of(&used) {
            Some((other, _)) if other == part => {}
            Some((_, other)) if layer.may_use().contains(&other) => {}
            Some((_, other)) => found.push(format!("{module} ({layer:?}) uses {used} ({other:?})")),
            None => {}
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
        ("machine", "use std::fs::File;", "machine: the core names std::fs::File"),
        ("job::parse", "use std::{fmt, fs};", "job::parse: the core names std::fs"),
        ("hook::plan", "fn f() { std::env::var(NAME) }", "hook::plan: the core names std::env::var"),
        ("tracker", "fn f() { g(Instant::now()) }", "tracker: the core names Instant::now"),
        ("event", "use crate::journal::Journal;", "event (Core) uses journal::Journal (Edge)"),
        ("hook::plan", "use super::run::run;", "hook::plan (Core) uses hook::run::run (Edge)"),
        (
            "replay",
            "use crate::{job::{self, JobId},\n    queue::scan};",
            "replay (Core) uses queue::scan (Edge)",
        ),
        ("journal::load", "use crate::queue::scan;", "journal::load (Edge) uses queue::scan (Edge)"),
        ("process", "use crate::daemon::now;", "process (Edge) uses daemon::now (Daemon)"),
        ("daemon::start", "crate::cli::run()", "daemon::start (Daemon) uses cli::run (Cli)"),
        ("gadget", "", "gadget: say in tests/arrows.rs, PARTS, where it belongs"),
    ] {
        assert_eq!(findings(module, source), [finding], "{source}");
    }
    for (module, source) in [
        (
            "machine",
            "use crate::job::{Job, Status};\n/// Like std::fs.\n#[cfg(test)]\nmod tests { use std::fs; }",
        ),
        ("journal::load", "use super::{FILE, schema::apply};\nuse crate::tracker::Tracked;"),
        ("process::livelock", "use crate::regular_file::{self, ReadError};"),
        ("settings", "Self::Notify => notify_mode()"),
    ] {
        assert_eq!(findings(module, source), [""; 0], "{source}");
    }
}
