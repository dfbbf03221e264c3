//! The environment of a hook script (design, section 6).

use std::collections::BTreeMap;

use crate::engine::directories::HooksPath;
use crate::engine::settings::StatusWords;
use crate::ganeti::event::{Event, Phase};
use crate::ganeti::opcodes;
use crate::ganeti::ssconf::is_name;

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
    let as_told = opcodes::cluster_name(&event.op_code, specialised).filter(|name| is_name(name));
    if let Some(name) = as_told.or(cluster.name.as_deref().filter(|name| is_name(name))) {
        set("GANETI_CLUSTER", name);
    }
    if let Some(master) = cluster.master.as_deref().filter(|name| is_name(name)) {
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
    for (name, value) in told(event) {
        env.insert(name.to_owned(), value);
    }
    for (name, value) in specialised {
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    env
}

/// What the record tells, as far as scripts are given it.
fn told(event: &Event) -> impl Iterator<Item = (&'static str, String)> {
    let (key, about) = (event.key, &event.about);
    // Ganeti may have refused what has not executed: of its input only a name is told that is one.
    let was_refused = !event.executed && event.status.is_some();
    let object = about.object.as_ref();
    let name = object.and_then(|object| object.name.clone());
    let path = opcodes::hook_path(&event.op_code).map(str::to_owned);
    let (reason, parent) = match was_refused {
        true => (None, None),
        false => (about.reason.users().map(str::to_owned), about.reason.parent(key)),
    };
    [
        ("GANETI_HOOKD_ID", Some(event.id())),
        ("GANETI_HOOKD_HOOKS_PATH", path),
        ("GANETI_HOOKD_OBJECT_TYPE", object.map(|object| object.kind.as_str().to_owned())),
        ("GANETI_HOOKD_OBJECT", name.filter(|name| !was_refused || opcodes::is_name(name))),
        ("GANETI_HOOKD_REASON", reason),
        ("GANETI_HOOKD_PARENT_JOB", parent.map(|parent| parent.job.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    // No program could be started with such a value.
    .filter(|(_, value)| !value.contains('\0'))
}

/// The environment of one run on one node: `common`, and what differs by run.
pub fn for_run(common: &Environment, path: &HooksPath, on_master: bool, attempt: u32) -> Environment {
    let mut env = common.clone();
    env.insert("GANETI_HOOKS_PATH".to_owned(), path.told().to_owned());
    let role = if on_master { "master" } else { "not_master" };
    env.insert("GANETI_IS_MASTER".to_owned(), role.to_owned());
    env.insert("GANETI_HOOKD_ATTEMPT".to_owned(), attempt.to_string());
    env
}

/// Somebody wants it to run again: its moment has passed.
pub fn set_rerun(common: &mut Environment) {
    set_late(common);
    common.insert("GANETI_HOOKD_RERUN".to_owned(), yes_no(true));
}

/// From now on the moment has passed.
pub fn set_late(common: &mut Environment) {
    common.insert("GANETI_HOOKD_LATE".to_owned(), yes_no(true));
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ganeti::about::{About, Reason, Trail};
    use crate::ganeti::event::PostStatus;
    use crate::ganeti::job::Timestamp;
    use crate::ganeti::object::{Object, ObjectKind};

    fn reason(source: &str, text: &str) -> Reason {
        Reason(source.to_owned(), text.to_owned(), 1.0)
    }

    #[test]
    fn a_variable_takes_its_text_and_a_pointer() {
        assert_eq!(size("NAME", "value"), "NAME=value\0".len() + size_of::<*const u8>());
    }

    fn environment(name: &str, executed: bool, status: Option<PostStatus>) -> Environment {
        let trail = vec![
            reason("gnt:opcode:instance_multi_alloc", "job=3;index=0"),
            reason("gnt:user", "kernel update"),
            reason("gnt:opcode:instance_startup", "job=7;index=0"),
        ];
        let object = Object { kind: ObjectKind::Instance, name: Some(name.to_owned()) };
        let about = About {
            cluster: Some("uuid".into()),
            object: Some(object),
            reason: Trail(trail),
            ..About::default()
        };
        let phase = if status.is_some() { "post" } else { "pre" };
        let event = Event {
            key: format!("7.0.{phase}").parse().unwrap(),
            received: Timestamp::from_micros(5),
            op_count: 1,
            op_code: "OP_INSTANCE_STARTUP".to_owned(),
            status,
            executed,
            late: false,
            time: Timestamp::default(),
            about: Arc::new(about),
        };
        common(1, &event, &BTreeMap::new(), &ClusterFacts::default(), StatusWords::Design)
    }

    const TOLD: [&str; 6] = ["ID", "HOOKS_PATH", "OBJECT_TYPE", "OBJECT", "REASON", "PARENT_JOB"];

    /// The values of those variables, `-` for those that are absent.
    fn told(env: &Environment) -> [&str; 6] {
        TOLD.map(|name| env.get(&format!("GANETI_HOOKD_{name}")).map_or("-", String::as_str))
    }

    #[test]
    fn scripts_are_told_what_the_record_tells() {
        let pre = environment("web1", true, None);
        assert_eq!(
            told(&pre),
            ["uuid/5/7.0.pre", "instance-start", "INSTANCE", "web1", "kernel update", "3"]
        );
    }

    #[test]
    fn of_what_was_refused_only_a_name_is_told() {
        let failed = Some(PostStatus::Failed);
        let told_of = |name, executed| told(&environment(name, executed, failed)).map(str::to_owned);
        assert_eq!(
            told_of("../cron.d-evil", false),
            ["uuid/5/7.0.post", "instance-start", "INSTANCE", "-", "-", "-"]
        );
        assert_eq!(told_of("web1", false)[3..], ["web1", "-", "-"]);
        assert_eq!(told_of("../cron.d-evil", true)[3..], ["../cron.d-evil", "kernel update", "3"]);
    }

    #[test]
    fn what_no_cluster_can_be_called_is_not_told() {
        let name = |specialised: &str, fact: &str| {
            let event = Event {
                key: "7.0.post".parse().unwrap(),
                received: Timestamp::default(),
                op_count: 1,
                op_code: "OP_CLUSTER_RENAME".to_owned(),
                status: Some(PostStatus::Succeeded),
                executed: true,
                late: false,
                time: Timestamp::default(),
                about: Arc::default(),
            };
            let specialised = BTreeMap::from([("GANETI_OP_TARGET".to_owned(), specialised.to_owned())]);
            let name = Some(fact.to_owned());
            let facts = ClusterFacts { name: name.clone(), master: name, ..ClusterFacts::default() };
            let env = common(1, &event, &specialised, &facts, StatusWords::Design);
            ["GANETI_CLUSTER", "GANETI_MASTER"].map(|name| env.get(name).cloned().unwrap_or_default())
        };
        assert_eq!(name("old", "new"), ["old", "new"]);
        assert_eq!(name("a\nTo: b", "new"), ["new", "new"]);
        assert_eq!(name("a\nTo: b", "a\0b"), ["", ""]);
    }

    #[test]
    fn what_no_program_could_be_started_with_is_not_told() {
        assert_eq!(told(&environment("web\0", true, None))[3], "-");
    }
}
