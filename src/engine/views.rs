//! The views of events: what the opcode's own hooks get, and where they run.
//!
//! A post hook gets what its pre hook was given, and things as they are afterwards. So
//! [`Views`] remembers how things were when an opcode began, until its post.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::environment;
use crate::ganeti::config::ClusterConfig;
use crate::ganeti::event::{Event, EventKey, Phase, PostStatus};
use crate::ganeti::job::{JobId, OpInput, Timestamp};
use crate::ganeti::opcodes::{self, Scene, View};

/// Opcodes that are remembered at most. Far more than run at a time: what is dropped are
/// those of jobs that have vanished.
const REMEMBERED_MAX: usize = 1024;

/// How things were when an opcode began to execute.
#[derive(Debug)]
struct Before {
    received: Timestamp,
    op: u32,
    input: OpInput,
    config: Option<Arc<ClusterConfig>>,
}

/// Works out one view after the other.
#[derive(Debug, Default)]
pub struct Views {
    /// By job: its opcodes run one after the other.
    before: BTreeMap<JobId, Before>,
}

impl Views {
    /// The view of an event.
    ///
    /// `input` is the opcode's input in the newest version of its job file, `config` the
    /// configuration as it is now. `pre_view` is the view that the opcode's pre was given
    /// in an earlier life; asked only when the pre is not remembered.
    pub fn view(
        &mut self,
        event: &Event,
        input: Option<OpInput>,
        config: Option<Arc<ClusterConfig>>,
        pre_view: impl FnOnce() -> Option<View>,
    ) -> View {
        let mut view = match event.key.phase {
            Phase::Pre => self.pre(event, input.unwrap_or_default(), config.clone()),
            Phase::Post => self.post(event, input, config.as_ref(), pre_view),
        };
        if let Some(config) = config {
            let nodes = [Some(&mut view.nodes), view.native.as_mut()];
            nodes.into_iter().flatten().for_each(|nodes| nodes.retain(|node| !config.is_offline(node)));
        }
        view
    }

    fn pre(&mut self, event: &Event, input: OpInput, config: Option<Arc<ClusterConfig>>) -> View {
        let scene = Scene {
            op_code: &event.op_code,
            input_before: &input,
            input: &input,
            before: config.as_deref(),
            after: None,
        };
        let view = opcodes::view(&scene, Phase::Pre);
        let before = Before { received: event.received, op: event.key.op, input, config };
        self.before.insert(event.key.job, before);
        if self.before.len() > REMEMBERED_MAX {
            self.before.pop_first();
        }
        view
    }

    fn post(
        &mut self,
        event: &Event,
        input: Option<OpInput>,
        after: Option<&Arc<ClusterConfig>>,
        pre_view: impl FnOnce() -> Option<View>,
    ) -> View {
        let of_this = |before: &Before| before.received == event.received && before.op == event.key.op;
        let before = self.before.remove(&event.key.job).filter(of_this);
        let input = input.or_else(|| before.as_ref().map(|before| before.input.clone())).unwrap_or_default();
        let scene = Scene {
            op_code: &event.op_code,
            input_before: before.as_ref().map_or(&input, |before| &before.input),
            input: &input,
            before: before.as_ref().and_then(|before| before.config.as_deref()),
            after: after.map(Arc::as_ref),
        };
        let never_executed = !event.executed && event.status.is_some();
        let mut view = match never_executed {
            true => opcodes::view_of_refused(&scene),
            false => opcodes::view(&scene, Phase::Post),
        };
        if scene.before.is_none()
            && let Some(pre) = pre_view()
        {
            complete(&mut view, pre);
        }
        let dry_run = input.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
        // Ganeti itself runs post hooks only after a success, and not after a dry run
        // (Ganeti: `mcpu.py`, `Processor._ExecLU`). Else the post is the master's alone.
        if dry_run || event.status != Some(PostStatus::Succeeded) {
            view.native = (event.executed && !dry_run).then(|| view.nodes.clone());
            view.nodes.truncate(1);
        }
        view
    }
}

/// Adds what only the pre knew. An instance that is in no configuration any more has been
/// removed: its post describes it as it was, and runs where it was (Ganeti:
/// `cmdlib/instance.py`, `LUInstanceRemove.BuildHooksNodes`).
fn complete(view: &mut View, pre: View) {
    const PRIMARY: &str = "GANETI_INSTANCE_PRIMARY";
    const SECONDARIES: &str = "GANETI_INSTANCE_SECONDARIES";
    let is_gone =
        pre.variables.contains_key(PRIMARY) && !view.variables.contains_key("GANETI_POST_INSTANCE_PRIMARY");
    if is_gone {
        let names = [PRIMARY, SECONDARIES].into_iter().filter_map(|name| pre.variables.get(name));
        let names: BTreeSet<&str> = names.flat_map(|names| names.split_whitespace()).collect();
        let others = names.into_iter().filter(|name| view.nodes.first().is_none_or(|master| master != name));
        let others: Vec<String> = others.map(str::to_owned).collect();
        view.nodes.truncate(1);
        view.nodes.extend(others);
    }
    for (name, value) in pre.variables {
        if let Some(rest) = name.strip_prefix("GANETI_").filter(|_| is_gone) {
            view.variables.entry(format!("GANETI_POST_{rest}")).or_insert_with(|| value.clone());
        }
        view.variables.entry(name).or_insert(value);
    }
}

/// What is said of an opcode whose input cannot be read as a whole.
pub fn about_bad_fields(event: EventKey, fields: &[String]) -> String {
    format!(
        "{event}: what the opcode's input holds in {} is not all UTF-8, or is beyond what can be read: \
         that much of it is replaced or left out",
        fields.join(", ")
    )
}

/// Leaves out what no program could be started with; returns the names of what was.
pub fn limit(view: &mut View) -> Vec<String> {
    let mut dropped: Vec<String> = view
        .variables
        .iter()
        .filter(|(name, value)| !is_variable(name, value))
        .map(|(name, _)| name.clone())
        .collect();
    dropped.iter().for_each(|name| drop(view.variables.remove(name)));
    let mut total: usize = view.variables.iter().map(|(name, value)| environment::size(name, value)).sum();
    let mut by_size: Vec<(usize, String)> =
        view.variables.iter().map(|(name, value)| (environment::size(name, value), name.clone())).collect();
    by_size.sort();
    while let Some((size, name)) = by_size.pop()
        && (size > environment::VARIABLE_LIMIT || total > environment::TOTAL_LIMIT)
    {
        total -= size;
        view.variables.remove(&name);
        dropped.push(name);
    }
    dropped
}

/// Whether there can be such a variable: some names and values are parts of an opcode's input,
/// which may be any text.
fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(op_code: &str, phase: Phase, status: Option<PostStatus>) -> Event {
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

    fn config(instances: &str, offline: bool) -> Option<Arc<ClusterConfig>> {
        let text = format!(
            r#"{{"serial_no":1,"cluster":{{"cluster_name":"c","master_node":"m"}},
                "nodes":{{"m":{{"name":"node1"}},"n":{{"name":"node2","offline":{offline}}}}},
                "instances":{instances}}}"#
        );
        Some(Arc::new(ClusterConfig::parse(text.as_bytes()).unwrap()))
    }

    const INSTANCE: &str = r#"{"i":{"name":"web","primary_node":"n","admin_state":"up"}}"#;

    fn input(more: &str) -> Option<OpInput> {
        Some(serde_json::from_str(&format!(r#"{{"instance_name":"web"{more}}}"#)).unwrap())
    }

    const PRE: Phase = Phase::Pre;
    const POST: Phase = Phase::Post;
    const REMOVE: &str = "OP_INSTANCE_REMOVE";
    const START: &str = "OP_INSTANCE_STARTUP";

    fn post(views: &mut Views, status: PostStatus, input: Option<OpInput>, pre: Option<View>) -> View {
        views.view(&event(REMOVE, POST, Some(status)), input, config("{}", false), || pre)
    }

    #[test]
    fn a_removed_instance_keeps_its_variables() {
        let mut views = Views::default();
        let pre = views.view(&event(REMOVE, PRE, None), input(""), config(INSTANCE, false), || None);
        assert_eq!(pre.variables["GANETI_INSTANCE_PRIMARY"], "node2");
        assert_eq!(pre.nodes, ["node1"]);
        let gone = post(&mut views, PostStatus::Succeeded, input(""), None);
        assert_eq!(gone.variables["GANETI_INSTANCE_PRIMARY"], "node2");
        assert_eq!(gone.variables["GANETI_POST_INSTANCE_PRIMARY"], "node2");
        assert_eq!(gone.nodes, ["node1", "node2"]);
        let again = post(&mut views, PostStatus::Succeeded, input(""), Some(pre));
        assert_eq!(again.variables["GANETI_INSTANCE_PRIMARY"], "node2", "after a restart");
        assert_eq!(again.nodes, ["node1", "node2"]);
        assert_eq!(again.variables, gone.variables);
    }

    #[test]
    fn an_instance_that_is_still_there_is_told_as_it_is() {
        let moved = INSTANCE.replace("\"n\"", "\"m\"");
        let pre =
            Views::default().view(&event(START, PRE, None), input(""), config(INSTANCE, false), || None);
        let event = event(START, POST, Some(PostStatus::Succeeded));
        let post = Views::default().view(&event, input(""), config(&moved, false), || Some(pre));
        assert_eq!(post.variables["GANETI_INSTANCE_PRIMARY"], "node2");
        assert_eq!(post.variables["GANETI_POST_INSTANCE_PRIMARY"], "node1");
        assert_eq!(post.nodes, ["node1"], "it is not where it was");
    }

    #[test]
    fn a_post_that_ganeti_would_not_run_is_the_masters_alone() {
        let whole = || Some(vec!["node1".to_owned(), "node2".to_owned()]);
        for (status, more, native) in [
            (PostStatus::Failed, "", whole()),
            (PostStatus::Disappeared, "", whole()),
            (PostStatus::Failed, r#","dry_run":true"#, None),
            (PostStatus::Succeeded, r#","dry_run":true"#, None),
        ] {
            let mut views = Views::default();
            let _ = views.view(&event(REMOVE, PRE, None), input(more), config(INSTANCE, false), || None);
            let view = post(&mut views, status, input(more), None);
            assert_eq!((&view.nodes, view.native), (&vec!["node1".to_owned()], native));
            assert_eq!(view.variables["GANETI_INSTANCE_PRIMARY"], "node2");
        }
        let mut views = Views::default();
        let _ = views.view(&event(REMOVE, PRE, None), input(""), config(INSTANCE, false), || None);
        assert_eq!(post(&mut views, PostStatus::Succeeded, input(""), None).native, None);
    }

    #[test]
    fn what_was_refused_before_it_executed_is_told_by_name_alone() {
        let refused = Event { executed: false, ..event(REMOVE, POST, Some(PostStatus::Failed)) };
        let view =
            |event: &Event, input| Views::default().view(event, input, config(INSTANCE, false), || None);
        let names = |view: &View| view.variables.keys().cloned().collect::<Vec<_>>();
        let told = view(&refused, input(r#","shutdown_timeout":"$(reboot)""#));
        assert!(!names(&told).iter().any(|name| name.ends_with("SHUTDOWN_TIMEOUT")), "{told:?}");
        assert_eq!(told.variables["GANETI_POST_INSTANCE_NAME"], "web");
        assert_eq!(told.native, None, "Ganeti's own hooks have nothing to do with it");
        let executed = Event { executed: true, ..refused.clone() };
        let told = view(&executed, input(r#","shutdown_timeout":120"#));
        assert_eq!(told.variables["GANETI_SHUTDOWN_TIMEOUT"], "120");
        // Nobody has refused what has not been tried.
        let supposed = Event { status: None, ..refused };
        let told = view(&supposed, input(r#","shutdown_timeout":120"#));
        assert_eq!(told.variables["GANETI_SHUTDOWN_TIMEOUT"], "120");
    }

    #[test]
    fn another_job_of_the_number_is_not_remembered() {
        let mut views = Views::default();
        let _ = views.view(&event(REMOVE, PRE, None), input(""), config(INSTANCE, false), || None);
        let other =
            Event { received: Timestamp::from_micros(9), ..event(REMOVE, POST, Some(PostStatus::Succeeded)) };
        let view = views.view(&other, input(""), config("{}", false), || None);
        assert_eq!(view.variables.get("GANETI_INSTANCE_PRIMARY"), None);
    }

    #[test]
    fn offline_nodes_are_left_out() {
        for (offline, nodes) in [(false, &["node1", "node2"][..]), (true, &["node1"])] {
            let config = config(INSTANCE, offline);
            assert_eq!(
                Views::default().view(&event(START, PRE, None), input(""), config, || None).nodes,
                nodes
            );
        }
    }

    #[test]
    fn what_no_program_could_be_started_with_is_left_out() {
        let sizes = [("A", environment::VARIABLE_LIMIT), ("B", 7), ("C", 100_000)];
        let mut view = View::default();
        view.variables.extend(sizes.map(|(name, size)| (name.to_owned(), "x".repeat(size))));
        assert_eq!(limit(&mut view), ["A"]);
        view.variables.extend((0..20).map(|n| (format!("D{n}"), "x".repeat(100_000))));
        let dropped = limit(&mut view);
        assert_eq!((dropped.len(), view.variables.contains_key("B")), (11, true));
        let bad = [("NUL", "a\0b"), ("NUL\0", ""), ("A=B", ""), ("", "x")];
        view.variables.extend(bad.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(limit(&mut view), ["", "A=B", "NUL", "NUL\0"]);
    }
}
