//! Arrows point one way (design, section 10): `cli -> daemon -> world -> engine -> ganeti`.
//!
//! A folder below `src` is a floor, and a floor knows only those below it. The two lowest
//! are pure: they are given bytes, snapshots and the time and return what should be done;
//! they know no clock, file, process, thread or database. This test reads the sources,
//! without their tests, and looks at every path that they name. Nothing is listed by hand:
//! a new file stands where its folder does.
//!
//! Nor do arrows lead back: the parts of a floor, the files and folders directly in it,
//! form no circles, and in `ganeti` no folder's do (`arrows::circles` says what counts).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod arrows {
    pub mod circles;
    pub mod source;
}

use arrows::circles::{OwnFile, arrows, circles, folders};
use arrows::source::{code, is_within, paths, sources, within_the_crate};

/// The folders below `src`, the lowest first.
const FLOORS: &[&str] = &["ganeti", "engine", "world", "daemon", "cli"];

/// The floors that know nothing of the world.
const PURE: &[&str] = &["ganeti", "engine"];

/// The floors in which no folder at any depth has a circle, its own file included.
const WITHOUT_CIRCLES: &[&str] = &["ganeti"];

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

/// The modules that write warnings to the log without a `Flow`: what they say comes once in the
/// life of a daemon, of one of its threads, of a journal or of a watch.
const SAY_SELDOM: &[&str] = &[
    "daemon::hands::journal",
    "daemon::start",
    "world::cluster::own_name",
    "world::journal::checkpoints",
    "world::process::exits",
    "world::queue::mounts",
    "world::queue::watch",
];

/// How high a module stands: its folder's place in [`FLOORS`]; `None` for the crate's root.
fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| is_within(module, floor))
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

#[test]
fn no_circles() {
    let arrows = arrows(&sources());
    let mut found = Vec::new();
    for folder in folders(&arrows) {
        if WITHOUT_CIRCLES.iter().any(|floor| is_within(folder, floor)) {
            found.extend(circles(folder, OwnFile::Counts, &arrows));
        } else if FLOORS.contains(&folder) {
            found.extend(circles(folder, OwnFile::LeftOut, &arrows));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The circles in the folder `a` of modules with these sources.
fn circles_in_a(own_file: OwnFile, sources: &[(&str, &str)]) -> Vec<String> {
    let sources = sources.iter().map(|(module, source)| ((*module).to_owned(), (*source).to_owned()));
    circles("a", own_file, &arrows(&sources.collect::<Vec<_>>())).into_iter().collect()
}

#[test]
fn circles_are_found() {
    for (sources, expected) in [
        (
            &[("a::table", "use super::group;"), ("a::group", "use super::table::{Nodes, Opcode};")][..],
            &["a::group -> a::table -> a::group"][..],
        ),
        // By way of a third, and from deeper than the folder.
        (
            &[
                ("a::x", "fn f() { crate::a::y::g() }"),
                ("a::y", ""),
                ("a::y::deep::er", "use super::super::super::z::Z;"),
                ("a::y::deep", ""),
                ("a::z", "use super::{w, x::X};"),
                ("a::w", ""),
            ],
            &["a::x -> a::y -> a::z -> a::x"],
        ),
        // Two that share a module.
        (
            &[("a::x", "use super::{y, z};"), ("a::y", "use super::x;"), ("a::z", "use super::x;")],
            &["a::x -> a::y -> a::x", "a::x -> a::z -> a::x"],
        ),
        // A child names what the folder's own file defines, and that uses the child.
        (&[("a", "mod x;\nfn f() { self::x::g() }"), ("a::x", "use super::Item;")], &["a -> a::x -> a"]),
        (&[("a", "use x::X;"), ("a::x", "use super::*;")], &["a -> a::x -> a"]),
        (&[("a", "pub use x::X;\nstruct A(X);"), ("a::x", "use super::A;")], &["a -> a::x -> a"]),
        (
            &[
                ("a", "pub(crate) use y::{\n    Y, y,\n};"),
                ("a::x", "use super::Y;"),
                ("a::y", "use super::x;"),
            ],
            &["a::x -> a::y -> a::x"],
        ),
        (
            &[
                ("a", ""),
                ("a::x", "use super::y::Z;"),
                ("a::y", "pub use z::Z;"),
                ("a::y::z", "super::super::x::f()"),
            ],
            &["a::x -> a::y -> a::x"],
        ),
    ] {
        assert_eq!(circles_in_a(OwnFile::Counts, sources), expected, "{sources:?}");
    }
}

#[test]
fn what_leads_nowhere_is_no_circle() {
    for sources in [
        &[("a::x", "use super::y;"), ("a::y", "use super::z::Z;"), ("a::z", "")][..],
        // The folder's own file declares its children and hands on what they have.
        &[("a", "mod x;\npub use x::{X, parse};\nstruct A { parse: B }"), ("a::x", "use super::A;")],
        // What it takes from elsewhere is not its own.
        &[("a", "use std::fmt;\nuse crate::b::B;\nuse x::X;"), ("a::x", "use super::{B, fmt};"), ("b", "")],
        &[("a", "use x::X;\nuse y::Y;"), ("a::x", "use super::Y;"), ("a::y", "")],
        // Inside one part, and in tests.
        &[("a", "use x::X;"), ("a::x", "mod y;\nuse y::Y;"), ("a::x::y", "use super::X;")],
        &[("a", "use x::X;"), ("a::x", "#[cfg(test)]\npub mod tests {\n    use super::A;\n}")],
        &[("a", "use x::X;"), ("a::x", "pub(in crate::a) struct X;")],
    ] {
        assert_eq!(circles_in_a(OwnFile::Counts, sources), [""; 0], "{sources:?}");
    }
    let joined = [("a", "use x::X;"), ("a::x", "use super::A;")];
    assert_eq!(circles_in_a(OwnFile::LeftOut, &joined), [""; 0]);
}

#[test]
fn warnings_that_may_come_often_are_counted() {
    let sources = sources();
    let warns = |source: &str| ["log::warn!", "log::error!"].iter().any(|word| source.contains(word));
    let found = sources.iter().filter(|(_, source)| warns(&code(source))).map(|(module, _)| module.as_str());
    let mut found: Vec<&str> = found.collect();
    found.sort();
    assert_eq!(found, SAY_SELDOM);
}
