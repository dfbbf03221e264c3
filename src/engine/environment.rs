//! The environment of a hook script (design, section 6).

use std::collections::BTreeMap;

use crate::engine::settings::StatusWords;
use crate::ganeti::event::{Event, Phase};
use crate::ganeti::opcodes;

/// The environment of one run: what the script gets, and nothing else.
pub type Environment = BTreeMap<String, String>;

/// What the cluster says of itself, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Ganeti's data directory.
    pub data_dir: String,
    /// The cluster's name.
    pub name: Option<String>,
    /// The master node's name.
    pub master: Option<String>,
}

/// The directory of the global hooks of a phase, below the hooks directory.
pub fn directory(phase: Phase) -> &'static str {
    match phase {
        Phase::Pre => "global-pre.d",
        Phase::Post => "global-post.d",
    }
}

/// The search path of every hook (Ganeti: `constants.HOOKS_PATH`).
const PATH: &str = "/sbin:/bin:/usr/sbin:/usr/bin";

/// The version of the hooks interface (Ganeti: `constants.HOOKS_VERSION`).
const HOOKS_VERSION: &str = "2";

/// The most bytes that one variable takes (Linux: `MAX_ARG_STRLEN`).
pub const VARIABLE_LIMIT: usize = 128 * 1024;

/// The most bytes that the specialised variables of a script take. Linux allows a quarter
/// of the limit on the stack, usually 2 MiB, for all of them and the arguments.
pub const TOTAL_LIMIT: usize = 1024 * 1024;

/// The bytes that a variable takes: name, `=`, value, the byte that ends it, and the
/// pointer to it.
pub fn size(name: &str, value: &str) -> usize {
    name.len() + value.len() + 2 + size_of::<usize>()
}

/// The variables that every script of an event gets, on every node and attempt alike:
/// those that all hooks have, and the opcode's specialised ones.
pub fn common(
    seq: i64,
    event: &Event,
    specialised: &BTreeMap<String, String>,
    cluster: &ClusterFacts,
    words: StatusWords,
) -> Environment {
    let mut env: Environment = [
        ("PATH", PATH.to_owned()),
        ("GANETI_HOOKS_VERSION", HOOKS_VERSION.to_owned()),
        ("GANETI_HOOKS_PATH", "global".to_owned()),
        ("GANETI_HOOKS_PHASE", event.key.phase.to_string()),
        ("GANETI_OP_CODE", event.op_code.clone()),
        ("GANETI_OBJECT_TYPE", opcodes::object_type(&event.op_code).to_owned()),
        ("GANETI_DATA_DIR", cluster.data_dir.clone()),
        ("GANETI_JOB_ID", event.key.job.to_string()),
        ("GANETI_HOOKD_EVENT", event.key.to_string()),
        ("GANETI_HOOKD_SEQ", seq.to_string()),
        ("GANETI_HOOKD_OP_INDEX", event.key.op.to_string()),
        ("GANETI_HOOKD_OP_COUNT", event.op_count.to_string()),
        ("GANETI_HOOKD_LATE", yes_no(event.late)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    if let Some(name) = opcodes::cluster_name(&event.op_code, specialised).or(cluster.name.as_deref()) {
        set("GANETI_CLUSTER", name);
    }
    if let Some(master) = &cluster.master {
        set("GANETI_MASTER", master);
    }
    if let (Phase::Post, Some(status)) = (event.key.phase, event.status) {
        set(
            "GANETI_POST_STATUS",
            match words {
                StatusWords::Design => status.as_str(),
                StatusWords::Upstream => status.upstream(),
            },
        );
        set("GANETI_HOOKD_EXECUTED", &yes_no(event.executed));
    }
    for (name, value) in specialised {
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    env
}

/// The environment of one run on one node: `common`, and what differs by run.
pub fn for_run(common: &Environment, on_master: bool, attempt: u32) -> Environment {
    let mut env = common.clone();
    let role = if on_master { "master" } else { "not_master" };
    env.insert("GANETI_IS_MASTER".to_owned(), role.to_owned());
    env.insert("GANETI_HOOKD_ATTEMPT".to_owned(), attempt.to_string());
    env
}

/// From now on the moment has passed.
pub fn set_late(common: &mut Environment) {
    common.insert("GANETI_HOOKD_LATE".to_owned(), yes_no(true));
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
