//! A recording as a list of runs of native hooks, each with its opcode.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ganeti_hookd::engine::environment;
use ganeti_hookd::engine::replay::Replay;
use ganeti_hookd::engine::settings::StatusWords;
use ganeti_hookd::ganeti::config::ClusterConfig;
use ganeti_hookd::ganeti::event::{EventKey, Phase};
use ganeti_hookd::ganeti::job::JobId;
use ganeti_hookd::ganeti::opcodes::{self, Scene, View};
use ganeti_hookd::ganeti::recording::parse_line;
use serde_json::{Map, Value};

pub struct Recording {
    /// What `replay` makes of the recording, by event.
    replayed: BTreeMap<EventKey, Replayed>,
    /// Contents of `config.data` by time.
    configs: Vec<(f64, String)>,
    opcodes: Vec<Opcode>,
    native: Vec<Native>,
}

/// What the hooks of an event get.
pub struct Replayed {
    pub view: View,
    pub environment: BTreeMap<String, String>,
}

/// An opcode that began to execute.
pub struct Opcode {
    pub job: String,
    index: usize,
    running: f64,
    ended: f64,
    input_before: Map<String, Value>,
    input: Map<String, Value>,
}

/// One native hook on one node.
struct Native {
    time: f64,
    node: String,
    path: String,
    phase: Phase,
    environment: BTreeMap<String, String>,
}

/// The native hooks of one opcode and phase on all nodes.
pub struct Run<'a> {
    pub opcode: &'a Opcode,
    pub phase: Phase,
    pub path: String,
    pub nodes: BTreeSet<String>,
    environment: BTreeMap<String, String>,
}

/// Configurations around an opcode.
pub struct Configs {
    before: Option<ClusterConfig>,
    after: Option<ClusterConfig>,
}

pub fn scenarios(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("native-hooks.jsonl").exists())
        .collect()
}

fn replay(path: &Path) -> BTreeMap<EventKey, Replayed> {
    let mut replay = Replay::default();
    let mut views = BTreeMap::new();
    for (number, text) in fs::read(path).unwrap().split(|byte| *byte == b'\n').enumerate() {
        let Some(line) = parse_line(number + 1, text).unwrap() else { continue };
        for (seq, event) in replay.line(&line).unwrap() {
            let view = replay.view(&event);
            let (facts, words) = (replay.cluster(), StatusWords::Design);
            let environment = environment::common(seq, &event, &view.variables, &facts, words);
            views.insert(event.key, Replayed { view, environment });
        }
    }
    views
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Recording {
    pub fn read(scenario: &Path) -> Recording {
        let mut recording = Recording {
            replayed: replay(&scenario.join("events.jsonl")),
            configs: Vec::new(),
            opcodes: Vec::new(),
            native: Vec::new(),
        };
        for event in lines(&scenario.join("events.jsonl")) {
            let (Some(time), Some(path), Some(content)) =
                (event["t"].as_f64(), event["path"].as_str(), event["content"].as_str())
            else {
                continue;
            };
            if path == "config.data" {
                recording.configs.push((time, content.to_owned()));
            } else if path.starts_with("job-") && event["initial"] != true {
                recording.add_version(time, path, content);
            }
        }
        let native = lines(&scenario.join("native-hooks.jsonl"));
        recording.native = native.iter().map(Native::new).collect();
        recording
    }

    fn add_version(&mut self, time: f64, job: &str, content: &str) {
        let version: Value = serde_json::from_str(content).unwrap();
        for (index, op) in version["ops"].as_array().unwrap().iter().enumerate() {
            if op["exec_timestamp"].is_null() {
                continue;
            }
            let input = op["input"].as_object().unwrap();
            let known = self.opcodes.iter_mut().find(|known| known.job == job && known.index == index);
            let Some(known) = known else {
                self.opcodes.push(Opcode {
                    job: job.to_owned(),
                    index,
                    running: time,
                    ended: f64::INFINITY,
                    input_before: input.clone(),
                    input: input.clone(),
                });
                continue;
            };
            if known.ended.is_infinite() {
                known.input = input.clone();
                if op["status"] == "success" || op["status"] == "error" {
                    known.ended = time;
                }
            }
        }
    }

    /// What `replay` makes of a run's event.
    pub fn replayed(&self, run: &Run<'_>) -> Option<&Replayed> {
        let job = JobId::from_file_name(run.opcode.job.as_bytes())?;
        let op = u32::try_from(run.opcode.index).ok()?;
        self.replayed.get(&EventKey { job, op, phase: run.phase })
    }

    /// All runs. A native line that fits no opcode, or more than one, is an error.
    pub fn runs(&self) -> Vec<Run<'_>> {
        let mut runs: Vec<Run> = Vec::new();
        for native in &self.native {
            let opcode = self.opcode_of(native);
            let same =
                runs.iter_mut().find(|run| std::ptr::eq(run.opcode, opcode) && run.phase == native.phase);
            if let Some(run) = same {
                assert_eq!(run.environment, native.environment, "nodes of {}", opcode.job);
                run.nodes.insert(native.node.clone());
            } else {
                runs.push(Run {
                    opcode,
                    phase: native.phase,
                    path: native.path.clone(),
                    nodes: BTreeSet::from([native.node.clone()]),
                    environment: native.environment.clone(),
                });
            }
        }
        runs
    }

    fn opcode_of(&self, native: &Native) -> &Opcode {
        let mut fitting: Vec<&Opcode> = self.opcodes.iter().filter(|op| native.fits(op)).collect();
        if fitting.len() > 1 {
            // Groups are verified side by side; variables are named after nodes.
            fitting.retain(|op| self.names(op, native.phase) == native.names());
        }
        match fitting[..] {
            [opcode] => opcode,
            _ => panic!(
                "{} {:?} at {} fits {:?}",
                native.path,
                native.phase,
                native.time,
                fitting.iter().map(|op| &op.job).collect::<Vec<_>>()
            ),
        }
    }

    fn names(&self, opcode: &Opcode, phase: Phase) -> BTreeSet<String> {
        let configs = self.configs(opcode, phase);
        let view = opcodes::view(&opcode.scene(phase, &configs), phase);
        view.variables.into_keys().collect()
    }

    /// The configuration when the opcode began, and when its post hooks ran: Ganeti
    /// writes it before it runs them.
    pub fn configs(&self, opcode: &Opcode, phase: Phase) -> Configs {
        let at = |time: f64| {
            let found = self.configs.iter().rev().find(|(t, _)| *t < time)?;
            Some(ClusterConfig::parse(found.1.as_bytes()).unwrap())
        };
        Configs {
            before: at(opcode.running),
            after: match phase {
                Phase::Pre => None,
                Phase::Post => at(opcode.ended),
            },
        }
    }
}

impl Opcode {
    pub fn code(&self) -> &str {
        self.input["OP_ID"].as_str().unwrap()
    }

    /// The input as it was when the opcode began to execute.
    pub fn input(&self) -> Value {
        Value::Object(self.input_before.clone())
    }

    pub fn scene<'a>(&'a self, phase: Phase, configs: &'a Configs) -> Scene<'a> {
        let post = phase == Phase::Post;
        Scene {
            op_code: self.code(),
            input_before: &self.input_before,
            input: if post { &self.input } else { &self.input_before },
            before: configs.before.as_ref(),
            after: configs.after.as_ref(),
        }
    }
}

impl Native {
    fn new(line: &Value) -> Native {
        let environment = line["env"].as_object().unwrap().iter();
        Native {
            time: line["t"].as_f64().unwrap(),
            node: line["node"].as_str().unwrap().to_owned(),
            path: line["hpath"].as_str().unwrap().to_owned(),
            phase: match line["phase"].as_str() {
                Some("pre") => Phase::Pre,
                _ => Phase::Post,
            },
            environment: environment
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
        }
    }

    fn names(&self) -> BTreeSet<String> {
        specialised(&self.environment).into_keys().collect()
    }

    /// By time, code and the object's name.
    fn fits(&self, op: &Opcode) -> bool {
        let object = |variable: &str, fields: &[&str]| {
            let Some(native) = self.environment.get(variable) else {
                return true;
            };
            let mut given = fields.iter().filter_map(|field| op.input.get(*field)?.as_str());
            given.next().is_none_or(|given| given == native)
        };
        (op.running..=op.ended).contains(&self.time)
            && self.environment["GANETI_OP_CODE"] == op.code()
            && object("GANETI_OP_TARGET", &["instance_name", "node_name"])
            && object("GANETI_GROUP_NAME", &["group_name"])
    }
}

impl Run<'_> {
    pub fn master(&self) -> &str {
        &self.environment["GANETI_MASTER"]
    }

    pub fn object_type(&self) -> &str {
        &self.environment["GANETI_OBJECT_TYPE"]
    }

    /// A variable that all hooks have.
    pub fn common(&self, name: &str) -> Option<&String> {
        self.environment.get(name)
    }

    /// The variables that not all hooks have.
    pub fn specialised(&self) -> BTreeMap<String, String> {
        specialised(&self.environment)
    }
}

fn specialised(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let common = |name: &str| {
        let rest = name.strip_prefix("GANETI_").unwrap_or(name);
        matches!(rest, "PATH" | "CLUSTER" | "MASTER" | "OP_CODE" | "OBJECT_TYPE" | "DATA_DIR")
            || rest.starts_with("HOOKS_")
    };
    environment
        .iter()
        .filter(|(name, _)| !common(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
