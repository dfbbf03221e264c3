//! Hooks directories: which an event has, here and on other nodes, and in which order.
//!
//! Every event has `global-PHASE.d` and the directory of its opcode, `global-OPCODE-PHASE.d`. A post
//! that Ganeti itself does not run may have the opcode's own, `HPATH-post.d`, too
//! (`hooks.native-post`).

use super::plan::{Plan, Target};
use super::settings::{Hooks, Nodes};
use crate::ganeti::event::{Event, Phase};
use crate::ganeti::opcodes::{self, View};

/// The longest name of an opcode that has a directory, in bytes. Ganeti's longest has 37.
const OPCODE_MAX: usize = 100;

/// A hooks path: what a node daemon is asked for by name, and what a directory is named after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HooksPath {
    /// `global`: of every opcode.
    Global,
    /// `global-instance-startup`: of one opcode, called like this.
    Opcode(String),
    /// `instance-start`: the opcode's own in Ganeti (`HPATH`).
    Native(&'static str),
}

impl HooksPath {
    /// That of an opcode; `None` for what is no opcode's name.
    pub fn of_opcode(op_code: &str) -> Option<Self> {
        let name = op_code.strip_prefix("OP_")?;
        let is_good = (1..=OPCODE_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        is_good.then(|| Self::Opcode(name.to_ascii_lowercase().replace('_', "-")))
    }

    /// The path and phase of a directory for global hooks; `None` for any other name.
    pub fn of_directory(directory: &str) -> Option<(Self, Phase)> {
        [Phase::Pre, Phase::Post].into_iter().find_map(|phase| {
            match directory.strip_suffix(&suffix(phase))?.strip_prefix("global")? {
                "" => Some((Self::Global, phase)),
                rest => {
                    let opcode = rest.strip_prefix('-')?;
                    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                    let is_good = !opcode.is_empty() && opcode.bytes().all(is_name);
                    is_good.then(|| (Self::Opcode(opcode.to_owned()), phase))
                }
            }
        })
    }

    /// What a node daemon is asked for.
    pub fn name(&self) -> String {
        match self {
            Self::Global => "global".to_owned(),
            Self::Opcode(opcode) => format!("global-{opcode}"),
            Self::Native(path) => (*path).to_owned(),
        }
    }

    /// What scripts are told in `GANETI_HOOKS_PATH`.
    pub fn told(&self) -> &'static str {
        match self {
            Self::Global | Self::Opcode(_) => "global",
            Self::Native(path) => path,
        }
    }

    /// The directory of a phase, below the hooks directory.
    pub fn directory(&self, phase: Phase) -> String {
        self.name() + &suffix(phase)
    }
}

/// What the name of each directory of a phase ends in.
fn suffix(phase: Phase) -> String {
    format!("-{phase}.d")
}

/// A script as people are told of it: by its name, where it is of another directory than that of all
/// opcodes `instance-start/10-dns`.
pub fn label(directory: &str, script: &str) -> String {
    let path = [Phase::Pre, Phase::Post].into_iter().find_map(|phase| directory.strip_suffix(&suffix(phase)));
    match path.filter(|path| *path != "global" && script != directory) {
        Some(path) => format!("{path}/{script}"),
        None => script.to_owned(),
    }
}

/// A request to another node, that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The node.
    pub target: Target,
    /// What it is asked for.
    pub path: HooksPath,
}

/// The hooks paths of an event on this node, in the order they run.
pub fn here(event: &Event, view: Option<&View>, hooks: &Hooks) -> Vec<HooksPath> {
    let native = view.and_then(|view| native(event, view, hooks)).map(|(path, _)| path);
    [Some(HooksPath::Global), HooksPath::of_opcode(&event.op_code), native].into_iter().flatten().collect()
}

/// What the nodes of a plan but this one are asked for; for each node in the order it is asked.
pub fn elsewhere(event: &Event, plan: &Plan, hooks: &Hooks, node: &str) -> Vec<Request> {
    if hooks.nodes == Nodes::Master {
        return Vec::new();
    }
    let opcode = HooksPath::of_opcode(&event.op_code).filter(|_| hooks.opcode_directories == Nodes::Targets);
    let nodes = plan.view.nodes.as_slice();
    let global = [Some(HooksPath::Global), opcode].into_iter().flatten().map(|path| (path, nodes));
    let asked = global.chain(native(event, &plan.view, hooks));
    asked
        .flat_map(|(path, nodes)| {
            let targets = plan.targets.iter();
            let targets = targets.filter(move |target| target.node != node && nodes.contains(&target.node));
            targets.map(move |target| Request { target: target.clone(), path: path.clone() })
        })
        .collect()
}

/// The opcode's own hooks, where they are wanted for a post like this, and the nodes that Ganeti
/// would have run them on.
fn native<'a>(event: &Event, view: &'a View, hooks: &Hooks) -> Option<(HooksPath, &'a [String])> {
    let nodes = view.native.as_deref()?;
    let path = opcodes::hook_path(&event.op_code)?;
    hooks.wants_native(event.status?, path).then_some((HooksPath::Native(path), nodes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ganeti::event::{EventKey, PostStatus};
    use crate::ganeti::job::Timestamp;

    fn event(op_code: &str, status: Option<PostStatus>) -> Event {
        let phase = if status.is_some() { Phase::Post } else { Phase::Pre };
        Event {
            key: EventKey { job: 7.try_into().unwrap(), op: 0, phase },
            received: Timestamp::from_micros(1),
            op_count: 1,
            op_code: op_code.to_owned(),
            status,
            executed: true,
            late: false,
            time: Timestamp::from_micros(2),
            about: Default::default(),
        }
    }

    fn names(paths: &[HooksPath]) -> Vec<String> {
        paths.iter().map(HooksPath::name).collect()
    }

    fn hooks(native_post: &[PostStatus], paths: &[&str]) -> Hooks {
        let hooks = crate::engine::settings::Settings::default().hooks;
        let native_paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Hooks { native_post: native_post.to_vec(), native_paths, ..hooks }
    }

    #[test]
    fn names_of_directories_are_read_back() {
        for path in [HooksPath::Global, HooksPath::of_opcode("OP_INSTANCE_STARTUP").unwrap()] {
            for phase in [Phase::Pre, Phase::Post] {
                assert_eq!(HooksPath::of_directory(&path.directory(phase)), Some((path.clone(), phase)));
            }
        }
        for other in [
            "global.d",
            "globally-pre.d",
            "instance-start-post.d",
            "global-pre.d.old",
            "pre.d",
            "global--pre.d",
            "global-\n-pre.d",
        ] {
            assert_eq!(HooksPath::of_directory(other), None, "{other}");
        }
    }

    #[test]
    fn people_are_told_of_a_directory_only_where_it_is_not_that_of_all_opcodes() {
        assert_eq!(label("global-post.d", "10-dns"), "10-dns");
        assert_eq!(label("instance-start-post.d", "10-dns"), "instance-start/10-dns");
        assert_eq!(label("global-tags-set-pre.d", "10-dns"), "global-tags-set/10-dns");
        assert_eq!(label("global-tags-set-pre.d", "global-tags-set-pre.d"), "global-tags-set-pre.d");
    }

    #[test]
    fn what_is_no_opcodes_name_has_no_directory() {
        let long = format!("OP_{}", "A".repeat(101));
        for code in ["OP_", "INSTANCE_STARTUP", "OP_../../X", "OP_a", "OP_A B", "OP_A\0", &long] {
            assert_eq!(HooksPath::of_opcode(code), None, "{code}");
            assert_eq!(names(&here(&event(code, None), None, &hooks(&[], &[]))), ["global"]);
        }
    }

    #[test]
    fn the_opcodes_own_come_last_where_they_are_wanted() {
        let event = event("OP_INSTANCE_STARTUP", Some(PostStatus::Disappeared));
        let view = View { native: Some(vec![]), ..View::default() };
        let of = |view: &View, hooks: &Hooks| names(&here(&event, Some(view), hooks));
        let both = ["global", "global-instance-startup"];
        let all = ["global", "global-instance-startup", "instance-start"];
        let dead = [PostStatus::Disappeared];
        assert_eq!(of(&view, &hooks(&[], &["*"])), both, "nobody wants them");
        assert_eq!(of(&view, &hooks(&[PostStatus::Failed], &["*"])), both, "not after a death");
        assert_eq!(of(&view, &hooks(&dead, &["node-*"])), both, "not of instances");
        assert_eq!(of(&view, &hooks(&dead, &["node-*", "instance-*"])), all);
        assert_eq!(of(&View::default(), &hooks(&dead, &["*"])), both, "Ganeti would not have run them");
    }

    #[test]
    fn other_nodes_are_asked_for_what_runs_there() {
        let event = event("OP_INSTANCE_STARTUP", Some(PostStatus::Disappeared));
        let target = |node: &str| Target { node: node.to_owned(), address: None };
        let nodes = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect::<Vec<_>>();
        let native = Some(nodes(&["node1", "node2"]));
        let view = View { nodes: nodes(&["node1", "node3"]), native, ..View::default() };
        let plan = Plan { view, targets: ["node1", "node2", "node3"].map(target).into() };
        let asked = |hooks: &Hooks| {
            let requests = elsewhere(&event, &plan, hooks, "node1");
            requests.iter().map(|r| format!("{} {}", r.target.node, r.path.name())).collect::<Vec<_>>()
        };
        let hooks = hooks(&[PostStatus::Disappeared], &["*"]);
        assert_eq!(asked(&hooks), ["node3 global", "node2 instance-start"]);
        let targets = Hooks { opcode_directories: Nodes::Targets, ..hooks.clone() };
        assert_eq!(
            asked(&targets),
            ["node3 global", "node3 global-instance-startup", "node2 instance-start"]
        );
        assert!(asked(&Hooks { nodes: Nodes::Master, ..targets }).is_empty());
    }
}
