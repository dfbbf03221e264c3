//! Compares our view of every opcode in the recordings with what Ganeti's own
//! hooks saw, variable by variable and node by node.
//!
//! A recording is a folder below `fixtures/recordings`; `recording.rs` reads it,
//! `allowed.rs` lists the differences there may be, each with its reason.

#![expect(clippy::unwrap_used, reason = "a recording that is not as expected ends the test")]

mod allowed;
mod recording;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ganeti_hookd::ganeti::event::Phase;
use ganeti_hookd::ganeti::opcodes::{self, View};
use recording::{Recording, Run};

#[derive(Default)]
struct Totals {
    runs: usize,
    compared: usize,
    equal: usize,
    different: usize,
    missing: usize,
    /// How often each allowed difference was met.
    allowed: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

#[test]
fn our_view_is_what_native_hooks_saw() {
    let mut totals = Totals::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings");
    let mut scenarios = recording::scenarios(&folder);
    scenarios.sort();
    assert!(!scenarios.is_empty(), "no recordings");
    for path in scenarios {
        let recording = Recording::read(&path);
        for run in recording.runs() {
            totals.compare(&recording, &run);
        }
    }
    totals.print();
    assert!(totals.failures.is_empty(), "{}", totals.failures.join("\n"));
    assert!(totals.runs > 100, "only {} runs", totals.runs);
    let unused = allowed::unused(&totals.allowed);
    assert!(unused.is_empty(), "never met, remove: {unused:?}");
}

impl Totals {
    fn compare(&mut self, recording: &Recording, run: &Run) {
        self.runs += 1;
        let configs = recording.configs(run.opcode, run.phase);
        let scene = run.opcode.scene(run.phase, &configs);
        let view = opcodes::view(&scene, run.phase);
        self.compare_variables(run, &view);
        self.compare_nodes(run, &view);
        let replayed = recording.replayed(run);
        if replayed.is_none_or(|replayed| replayed.view != view) {
            self.fail(run, format!("replayed: {:?}, not {view:?}", replayed.map(|replayed| &replayed.view)));
        }
        for name in [
            "PATH",
            "GANETI_CLUSTER",
            "GANETI_MASTER",
            "GANETI_OP_CODE",
            "GANETI_OBJECT_TYPE",
            "GANETI_DATA_DIR",
        ] {
            let ours = replayed.and_then(|replayed| replayed.environment.get(name));
            if ours != run.common(name) {
                self.fail(run, format!("{name}: native {:?}, ours {ours:?}", run.common(name)));
            }
        }
        let code = run.opcode.code();
        let table = (opcodes::hook_path(code), opcodes::object_type(code));
        if table != (Some(run.path.as_str()), run.object_type()) {
            self.fail(run, format!("{table:?}, not {}", run.path));
        }
    }

    fn compare_variables(&mut self, run: &Run, view: &View) {
        let native = run.specialised();
        let names: BTreeSet<&String> = native.keys().chain(view.variables.keys()).collect();
        for name in names {
            self.compared += 1;
            let (theirs, ours) = (native.get(name), view.variables.get(name));
            if theirs == ours {
                self.equal += 1;
                continue;
            }
            match ours {
                None => self.missing += 1,
                Some(_) => self.different += 1,
            }
            match allowed::reason(run, name, theirs, ours) {
                Some(reason) => *self.allowed.entry(reason).or_default() += 1,
                None => self.fail(run, format!("{name}: native {theirs:?}, ours {ours:?}")),
            }
        }
    }

    fn compare_nodes(&mut self, run: &Run, view: &View) {
        let ours: BTreeSet<String> = view.nodes.iter().cloned().collect();
        if ours == run.nodes {
            return;
        }
        match allowed::nodes_reason(run, &ours) {
            Some(reason) => *self.allowed.entry(reason).or_default() += 1,
            None => self.fail(run, format!("nodes: native {:?}, ours {ours:?}", run.nodes)),
        }
    }

    fn fail(&mut self, run: &Run, text: String) {
        let (job, code) = (&run.opcode.job, run.opcode.code());
        self.failures.push(format!("{job} {code} {:?}: {text}", run.phase));
    }

    fn print(&self) {
        println!(
            "{} runs; variables: {} compared, {} equal, {} different, {} missing",
            self.runs, self.compared, self.equal, self.different, self.missing
        );
        for (reason, count) in &self.allowed {
            println!("  allowed {count:4} times: {reason}");
        }
    }
}

impl Run<'_> {
    fn is(&self, code: &str, phase: Phase) -> bool {
        self.opcode.code() == code && self.phase == phase
    }

    /// Whether the opcode said so itself, before Ganeti decided.
    fn gives(&self, field: &str) -> bool {
        !self.opcode.input()[field].is_null()
    }
}
