//! The hooks directories: what is in them, and what in them will not do what it is meant to.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{Finding, fail, note, ok};
use crate::engine::directories::HooksPath;
use crate::engine::settings::Settings;
use crate::ganeti::event::{Phase, PostStatus};
use crate::ganeti::opcodes;
use crate::world::hook::scripts::{Hooks, Script};
use crate::world::hook::startable::obstacle;

/// Bytes of a script that are read.
const READ_MAX: u64 = 64 * 1024;

/// Checks every directory that the daemon looks for scripts in.
pub fn check(settings: &Settings) -> Vec<Finding> {
    let mut hooks = Hooks::new(&settings.paths.hooks_dir);
    let there = hooks.directories();
    let mut findings: Vec<Finding> = [Phase::Pre, Phase::Post]
        .into_iter()
        .flat_map(|phase| directory(&mut hooks, &HooksPath::Global.directory(phase), Some(phase)))
        .collect();
    for name in &there {
        if let Some((HooksPath::Opcode(opcode), phase)) = HooksPath::of_directory(name) {
            findings.extend(unknown(name, &opcode, phase));
            findings.extend(directory(&mut hooks, name, Some(phase)));
        } else if is_native(settings, name) {
            findings.extend(directory(&mut hooks, name, None));
        }
    }
    findings
}

/// Whether it is a directory of Ganeti's that the daemon runs, too.
fn is_native(settings: &Settings, directory: &str) -> bool {
    let is_wanted = |path: &str| {
        [PostStatus::Failed, PostStatus::Disappeared]
            .into_iter()
            .any(|status| settings.hooks.wants_native(status, path))
    };
    opcodes::codes()
        .filter_map(opcodes::hook_path)
        .any(|path| HooksPath::Native(path).directory(Phase::Post) == directory && is_wanted(path))
}

/// What is in a directory; of which phase, where it is one of global hooks.
fn directory(hooks: &mut Hooks, name: &str, global: Option<Phase>) -> Vec<Finding> {
    let dir = hooks.path_of(name);
    let scripts = match hooks.list(name) {
        Ok(scripts) => scripts,
        Err(refusal) => return vec![fail(name, refusal)],
    };
    let mut findings = passed_over(&dir, &scripts, name);
    if scripts.is_empty() {
        findings.push(note(name, format!("no script in {}", dir.display())));
    }
    for script in scripts {
        let doubts = global.map(|phase| doubts(&script, phase)).unwrap_or_default();
        findings.push(hook(name, &script));
        findings.extend(doubts.into_iter().map(|doubt| note(name, format!("{} {doubt}", script.name))));
    }
    findings
}

/// Whether a hook will run.
fn hook(check: &str, Script { name, path, refusal, .. }: &Script) -> Finding {
    match (refusal, obstacle(path)) {
        (Some(refusal), _) => fail(check, format!("{name} is refused: {refusal}")),
        (None, Some(obstacle)) => fail(check, format!("{name} will not start: {obstacle}")),
        (None, None) => ok(check, name),
    }
}

/// What is in a hooks directory and is no hook.
fn passed_over(dir: &Path, scripts: &[Script], check: &str) -> Vec<Finding> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| scripts.iter().all(|script| script.name != *name)).collect();
    names.sort();
    let why = "it is no executable file (chmod 755), or its name has more than letters, digits, _ and -";
    names.iter().map(|name| note(check, format!("{} does not run: {why}", name.escape_debug()))).collect()
}

/// What a script for Ganeti's own hooks does not know when it is called for global ones.
fn doubts(script: &Script, phase: Phase) -> Vec<&'static str> {
    let Ok(Some(text)) = text(&script.path) else { return vec![] };
    let reads = |name: &str| text.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes()));
    let is_whole = (text.len() as u64) < READ_MAX;
    let path = "reads GANETI_HOOKS_PATH, which says \"global\" here: GANETI_HOOKD_HOOKS_PATH has the opcode's \
                own, and hooks.native-post runs Ganeti's own post hooks of jobs that died";
    let status =
        "never reads GANETI_POST_STATUS: it runs after failures, too, and may take them for successes";
    let is_blind = phase == Phase::Post && is_whole && !reads("POST_STATUS");
    [reads("GANETI_HOOKS_PATH").then_some(path), is_blind.then_some(status)].into_iter().flatten().collect()
}

/// The beginning of a script; `None` of a program that is no text.
fn text(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    File::open(path)?.take(READ_MAX).read_to_end(&mut text)?;
    Ok(Some(text).filter(|text| !text.contains(&0)))
}

/// A directory for an opcode that nobody knows.
fn unknown(directory: &str, opcode: &str, phase: Phase) -> Option<Finding> {
    let known = || opcodes::codes().filter_map(|code| Some((code, HooksPath::of_opcode(code)?)));
    let meant = HooksPath::Opcode(opcode.to_owned());
    if known().any(|(_, path)| path == meant) {
        return None;
    }
    // Who thinks of Ganeti's own directories takes the hooks path for the opcode.
    let of_path = known().find(|(code, _)| opcodes::hook_path(code) == Some(opcode));
    let plain = opcode.to_ascii_lowercase().replace('_', "-");
    let plain = plain.strip_prefix("op-").unwrap_or(&plain);
    let nearest = || {
        let distance = |path: &HooksPath| match path {
            HooksPath::Opcode(name) => distance(plain, name),
            _ => usize::MAX,
        };
        known().min_by_key(|(_, path)| distance(path)).filter(|(_, path)| distance(path) <= plain.len() / 2)
    };
    let hint = of_path.or_else(nearest).map(|(_, path)| format!("; is {} meant?", path.directory(phase)));
    let what = format!("there is no opcode of this name that is known{}", hint.unwrap_or_default());
    Some(note(directory, what))
}

/// How many characters have to be changed, put in or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn hint(directory: &str) -> Option<String> {
        let (path, phase) = HooksPath::of_directory(directory).unwrap();
        let HooksPath::Opcode(opcode) = path else { panic!("{directory}") };
        let what = unknown(directory, &opcode, phase)?.what;
        Some(what.split_once("; is ").map_or(String::new(), |(_, rest)| rest.replace(" meant?", "")))
    }

    #[test]
    fn a_directory_for_no_opcode_is_told_what_may_be_meant() {
        assert_eq!(hint("global-instance-startup-post.d"), None);
        let hints = [
            ("global-instance-start-post.d", "global-instance-startup-post.d"),
            ("global-node-modify-pre.d", "global-node-set-params-pre.d"),
            ("global-OP_INSTANCE_CREATE-pre.d", "global-instance-create-pre.d"),
            ("global-cluster_verify-pre.d", "global-cluster-verify-pre.d"),
            ("global-instance-crate-post.d", "global-instance-create-post.d"),
            ("global-zzzzzzzzzzzzzzzz-post.d", ""),
        ];
        for (directory, meant) in hints {
            assert_eq!(hint(directory).as_deref(), Some(meant), "{directory}");
        }
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, expected) in [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("abc", "abc", 0)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_text_is_judged_and_no_more_than_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("10-a");
        let script =
            Script { name: "10-a".to_owned(), path: path.clone(), file: path.clone(), refusal: None };
        let count = |text: &[u8], phase: Phase| {
            fs::write(&path, text).unwrap();
            doubts(&script, phase).len()
        };
        assert_eq!(count(b"#!/bin/sh\n", Phase::Pre), 0);
        assert_eq!(count(b"#!/bin/sh\n", Phase::Post), 1);
        assert_eq!(count(b"case $GANETI_HOOKS_PATH in esac", Phase::Pre), 1);
        assert_eq!(count(b"echo $GANETI_POST_STATUS", Phase::Post), 0);
        assert_eq!(count(b"event['post_status']", Phase::Post), 0, "it may have put the names together");
        assert_eq!(count(b"\x7fELF\0GANETI_HOOKS_PATH", Phase::Post), 0, "a program");
        let long = [vec![b'#'; 70_000], b"\n$GANETI_HOOKS_PATH".to_vec()].concat();
        assert_eq!(count(&long, Phase::Post), 0, "what is not read is not judged");
    }
}
