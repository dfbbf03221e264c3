//! Circles: modules that name each other, also by way of others.
//!
//! Looked at is a folder at a time, with the modules directly in it; what stands deeper
//! counts for the one that it is in. The folder's own file (`mod.rs`) is one of them: it
//! stands on its children, so a child does not name what that file defines if the file
//! uses the child. To declare a child (`mod`) or to hand on what it has (`pub use`) is no
//! use of it, and who names something by way of that file names the module it comes from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{code, is_within, paths, within_the_crate};

/// The modules that each module names.
pub type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The arrows of these sources.
pub fn arrows(sources: &[(String, String)]) -> Arrows {
    let all = Crate::new(sources);
    all.modules.keys().map(|module| (module.clone(), all.named_by(module))).collect()
}

/// The folders that there are.
pub fn folders(arrows: &Arrows) -> BTreeSet<&str> {
    arrows.keys().filter_map(|module| Some(module.rsplit_once("::")?.0)).collect()
}

/// The circles between the modules directly in a folder, each as `a -> b -> a`.
pub fn circles(folder: &str, own_file: OwnFile, arrows: &Arrows) -> BTreeSet<String> {
    let part = |module| part(folder, module).filter(|part| own_file == OwnFile::Counts || *part != folder);
    let mut between = Arrows::new();
    for (from, named) in arrows {
        let Some(from) = part(from) else { continue };
        let named = named.iter().filter_map(|to| part(to)).filter(|to| *to != from);
        between.entry(from.to_owned()).or_default().extend(named.map(str::to_owned));
    }
    shortest(&between)
}

/// Whether a folder's own file is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OwnFile {
    /// As one of the modules in it.
    Counts,
    /// It joins them, and they may name it.
    LeftOut,
}

/// The module directly in a folder that a module is or is in; the folder's own file is one.
fn part<'a>(folder: &str, module: &'a str) -> Option<&'a str> {
    let below = module.strip_prefix(folder)?;
    let Some(names) = below.strip_prefix("::") else { return below.is_empty().then_some(module) };
    let end = names.find("::").unwrap_or(names.len());
    Some(&module[..module.len() - names.len() + end])
}

/// For each arrow that a way leads back from, the shortest such circle.
fn shortest(arrows: &Arrows) -> BTreeSet<String> {
    let all = arrows.iter().flat_map(|(from, named)| named.iter().map(move |to| (from, to)));
    let mut found = BTreeSet::new();
    for mut circle in all.filter_map(|(from, to)| way(arrows, to, from)) {
        let first = (0..circle.len()).min_by_key(|at| circle[*at]).unwrap_or(0);
        circle.rotate_left(first);
        circle.push(circle[0]);
        found.insert(circle.join(" -> "));
    }
    found
}

/// The shortest way along the arrows, with both ends.
fn way<'a>(arrows: &'a Arrows, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = VecDeque::from([vec![from]]);
    while let Some(way) = ways.pop_front() {
        let end = *way.last()?;
        if end == to {
            return Some(way);
        }
        for next in arrows.get(end).into_iter().flatten().filter(|next| seen.insert(next)) {
            ways.push_back([way.as_slice(), &[next.as_str()]].concat());
        }
    }
    None
}

/// One file.
struct Module {
    /// Its code without what it takes into its scope.
    code: String,
    /// The paths of its `use`.
    taken: BTreeSet<String>,
    /// Those of its `pub use`.
    handed_on: BTreeSet<String>,
}

impl Module {
    fn new(source: &str) -> Module {
        let mut module = Module { code: String::new(), taken: BTreeSet::new(), handed_on: BTreeSet::new() };
        let all = code(source);
        let mut statements = all.split_inclusive([';', '}']).peekable();
        while let Some(statement) = statements.next() {
            let mut statement = statement.to_owned();
            let Some(start) = use_in(&statement) else {
                module.code += &statement;
                continue;
            };
            while !statement.ends_with(';') && statements.peek().is_some() {
                statement.extend(statements.next());
            }
            let (before, used) = statement.split_at(start);
            let line = before.rsplit('\n').next().unwrap_or_default();
            let into = if line.contains("pub") { &mut module.handed_on } else { &mut module.taken };
            into.extend(paths(used.trim_start_matches("use ")));
            module.code += before;
        }
        module
    }

    /// Whether the code has this name for itself: no field, method, definition or path's end.
    fn uses(&self, name: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(name).any(|(at, _)| {
            let (before, after) = (&self.code[..at], &self.code[at + name.len()..]);
            let defined = ["fn ", "mod "].iter().any(|word| before.ends_with(word));
            let is_field = after.starts_with(':') && !after.starts_with("::");
            !defined
                && !is_field
                && !before.ends_with(|c| is_part(c) || ".:".contains(c))
                && !after.starts_with(is_part)
        })
    }
}

/// Where the `use` of a statement begins.
fn use_in(statement: &str) -> Option<usize> {
    let is_line = |at: &usize| {
        let line = statement[..*at].rsplit('\n').next().unwrap_or_default().trim();
        line.is_empty() || line == "pub" || (line.starts_with("pub(") && line.ends_with(')'))
    };
    statement.match_indices("use ").map(|(at, _)| at).find(is_line)
}

/// All modules but the crate's root.
struct Crate {
    modules: BTreeMap<String, Module>,
}

impl Crate {
    fn new(sources: &[(String, String)]) -> Crate {
        let files = sources.iter().filter(|(module, _)| !["lib", "main"].contains(&module.as_str()));
        Crate { modules: files.map(|(module, source)| (module.clone(), Module::new(source))).collect() }
    }

    /// The modules that one names, itself left out.
    fn named_by(&self, module: &str) -> BTreeSet<String> {
        let own = &self.modules[module];
        let mut found: BTreeSet<&str> =
            paths(&own.code).iter().chain(&own.taken).filter_map(|path| self.origin(module, path)).collect();
        for path in &own.handed_on {
            let name = path.rsplit("::").next().unwrap_or_default();
            let origin = self.origin(module, path);
            found.extend(origin.filter(|origin| !is_within(origin, module) || own.uses(name)));
        }
        found.remove(module);
        found.into_iter().map(str::to_owned).collect()
    }

    /// The module that what a path names comes from; none if from another crate.
    fn origin(&self, module: &str, path: &str) -> Option<&str> {
        let mut path = self.seen_from_root(module, path)?;
        // A glob could lead around for ever.
        for _ in 0..16 {
            let (owner, name) = self.owner(&path)?;
            let own = &self.modules[owner];
            let ending = format!("::{name}");
            let mut imports = own.taken.iter().chain(&own.handed_on);
            let Some(import) = imports.find(|import| !name.is_empty() && import.ends_with(&ending)) else {
                return Some(owner);
            };
            path = self.seen_from_root(owner, import)?;
        }
        None
    }

    /// The deepest module on a path, and the name that follows it.
    fn owner(&self, path: &str) -> Option<(&str, String)> {
        let found =
            self.modules.keys().filter(|module| is_within(path, module)).max_by_key(|module| module.len())?;
        let name = path[found.len()..].split("::").nth(1).unwrap_or_default();
        Some((found, name.to_owned()))
    }

    /// A path as seen from the crate's root, also of one that begins with a child.
    fn seen_from_root(&self, module: &str, path: &str) -> Option<String> {
        let path = path.trim_start_matches("self::");
        let below = format!("{module}::{path}");
        let child = path.split("::").next().unwrap_or_default();
        let is_child = self.modules.contains_key(&format!("{module}::{child}"));
        if is_child { Some(below) } else { within_the_crate(module, path) }
    }
}
