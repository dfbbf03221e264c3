//! Reading the sources: which modules there are, and every path that their code names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Whether a path is `outer` or below it.
pub fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A path as seen from the crate's root; none for paths to elsewhere.
pub fn within_the_crate(module: &str, path: &str) -> Option<String> {
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

/// A source without its comments, its tests, and where `pub(in PATH)` may be seen.
pub fn code(source: &str) -> String {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut code = lines.collect::<Vec<_>>().join("\n");
    let is_module =
        |rest: &str| rest.lines().nth(1).is_some_and(|line| line.contains("mod ") && line.contains('{'));
    let tests = code.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(|at| is_module(&code[*at..]));
    code.truncate(tests.unwrap_or(code.len()));
    while let Some(start) = code.find("(in ") {
        let end = code[start..].find(')').map_or(code.len(), |end| start + end + 1);
        code.replace_range(start..end, "");
    }
    code
}

/// Every path of at least two names in the code; `a::{b, c::d}` is two.
pub fn paths(code: &str) -> BTreeSet<String> {
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
pub fn sources() -> Vec<(String, String)> {
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
