//! Settings: from the text of `hookd.toml` to values that can be relied on.
//!
//! Every key is optional. Everything that is wrong with a file is found in one go; each
//! finding names the key and says what is allowed.

mod outbox;

pub use outbox::{OUTBOX_KEYS, Outbox};

use core::net::SocketAddr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use crate::ganeti::event::PostStatus;

/// Where the configuration file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/ganeti-hookd/hookd.toml";

/// How pre hooks relate to the opcode (`hooks.pre`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreMode {
    /// The job process is held still until the pre hooks have ended.
    Hold,
    /// Pre hooks run beside the opcode.
    Notify,
    /// No pre hooks.
    Off,
}

/// The words in `GANETI_POST_STATUS` (`hooks.status-words`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWords {
    /// `succeeded`, `failed`, `disappeared`.
    Design,
    /// `success`, `error`, `disappeared`.
    Upstream,
}

/// The nodes that hooks run on (`hooks.nodes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// The nodes that the opcode's own hooks run on.
    Targets,
    /// The master alone.
    Master,
}

/// `[paths]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Ganeti's job queue.
    pub queue_dir: PathBuf,
    /// Ganeti's data directory: `config.data`, `ssconf_*`, certificates.
    pub data_dir: PathBuf,
    /// The directory of the hooks directories.
    pub hooks_dir: PathBuf,
    /// Ganeti's run directory: livelocks, wconfd's socket.
    pub ganeti_run_dir: PathBuf,
    /// The journal's directory.
    pub state_dir: PathBuf,
    /// The directory of the daemon's socket.
    pub run_dir: PathBuf,
}

/// `[hooks]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// How pre hooks relate to the opcode.
    pub pre: PreMode,
    /// The longest a job is held, 100 ms to 1 h.
    pub hold_limit: Duration,
    /// The longest a script may run, 100 ms to 1 day.
    pub timeout: Duration,
    /// Scripts at the same time, 1 to 256.
    pub workers: usize,
    /// Bytes of output kept of each run, 0 to 16 MiB.
    pub output_limit: usize,
    /// The words in `GANETI_POST_STATUS`.
    pub status_words: StatusWords,
    /// The nodes that hooks run on.
    pub nodes: Nodes,
    /// Opcodes without scripts: names in which `*` stands for anything.
    pub skip_opcodes: Vec<String>,
    /// The nodes that scripts in an opcode's directory run on.
    pub opcode_directories: Nodes,
    /// The posts for which the opcode's own post hooks run: those that Ganeti has none for.
    pub native_post: Vec<PostStatus>,
    /// Which of the opcodes' own: hooks paths in which `*` stands for anything.
    pub native_paths: Vec<String>,
}

impl Hooks {
    /// Whether the opcode's events run no scripts.
    pub fn skips(&self, op_code: &str) -> bool {
        self.skip_opcodes.iter().any(|pattern| matches(pattern, op_code))
    }

    /// Whether the opcode's own post hooks, of this hooks path, run for a post like this.
    pub fn wants_native(&self, status: PostStatus, path: &str) -> bool {
        self.native_post.contains(&status) && self.native_paths.iter().any(|pattern| matches(pattern, path))
    }
}

/// `[master]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// This node's name, as in `ssconf_master_node`; empty for the system's full name.
    pub name: String,
    /// What finished this long before a failover is delivered again, 0 to 1 h.
    pub failover_window: Duration,
}

/// `[history]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// How long events are kept, 1 s to 10 years.
    pub keep: Duration,
}

/// `[deaths]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deaths {
    /// Ganeti is told at once that a job process has died.
    pub tell_ganeti: bool,
}

/// `[api]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// The group whose members may read through the socket; empty for nobody but root.
    pub group: String,
    /// Where metrics alone are told over TCP.
    pub metrics_listen: Option<SocketAddr>,
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[paths]`.
    pub paths: Paths,
    /// `[hooks]`.
    pub hooks: Hooks,
    /// `[master]`.
    pub master: Master,
    /// `[history]`.
    pub history: History,
    /// `[deaths]`.
    pub deaths: Deaths,
    /// `[api]`.
    pub api: Api,
    /// All of `[[outbox]]`.
    pub outboxes: Vec<Outbox>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            paths: Paths {
                queue_dir: "/var/lib/ganeti/queue".into(),
                data_dir: "/var/lib/ganeti".into(),
                hooks_dir: "/etc/ganeti/hooks".into(),
                ganeti_run_dir: "/var/run/ganeti".into(),
                state_dir: "/var/lib/ganeti-hookd".into(),
                run_dir: "/run/ganeti-hookd".into(),
            },
            hooks: Hooks {
                pre: PreMode::Hold,
                hold_limit: Duration::from_secs(60),
                timeout: Duration::from_secs(5 * 60),
                workers: 16,
                output_limit: 64 * 1024,
                status_words: StatusWords::Design,
                nodes: Nodes::Targets,
                skip_opcodes: Vec::new(),
                opcode_directories: Nodes::Master,
                native_post: Vec::new(),
                native_paths: vec!["*".to_owned()],
            },
            master: Master { name: String::new(), failover_window: Duration::from_secs(30) },
            history: History { keep: Duration::from_secs(30 * 24 * 60 * 60) },
            deaths: Deaths::default(),
            api: Api::default(),
            outboxes: Vec::new(),
        }
    }
}

impl Settings {
    /// How long history is kept: also as long as something in it may still be sent.
    pub fn keep(&self) -> Duration {
        self.outboxes.iter().map(|outbox| outbox.give_up).fold(self.history.keep, Duration::max)
    }

    /// The settings in the text of a configuration file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Findings> {
        let file: Table = text.parse().map_err(|error: toml::de::Error| {
            Findings(vec![Finding { key: String::new(), what: error.to_string().trim_end().to_owned() }])
        })?;
        let mut settings = Self::default();
        let mut findings = Vec::new();
        for (section, value) in file {
            match value {
                Value::Table(table) if SECTIONS.contains(&section.as_str()) => {
                    for (key, value) in table {
                        let key = format!("{section}.{key}");
                        if let Err(what) = settings.set(&key, &value) {
                            findings.push(Finding { key, what });
                        }
                    }
                }
                value if section == OUTBOX => settings.outboxes = Outbox::all(&value, &mut findings),
                value => {
                    let what = misplaced(&section, &value);
                    findings.push(Finding { key: section, what });
                }
            }
        }
        if findings.is_empty() { Ok(settings) } else { Err(Findings(findings)) }
    }

    /// Sets one key; the error says what is allowed.
    fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let (paths, hooks) = (&mut self.paths, &mut self.hooks);
        match key {
            "paths.queue-dir" => paths.queue_dir = path(value)?,
            "paths.data-dir" => paths.data_dir = path(value)?,
            "paths.hooks-dir" => paths.hooks_dir = path(value)?,
            "paths.ganeti-run-dir" => paths.ganeti_run_dir = path(value)?,
            "paths.state-dir" => paths.state_dir = path(value)?,
            "paths.run-dir" => paths.run_dir = path(value)?,
            "hooks.pre" => hooks.pre = one_of(value, &PRE_MODES)?,
            "hooks.hold-limit" => hooks.hold_limit = duration(value, "100ms", "1h")?,
            "hooks.timeout" => hooks.timeout = duration(value, "100ms", "1day")?,
            "hooks.workers" => hooks.workers = number(value, 1, 256)?,
            "hooks.output-limit" => hooks.output_limit = size(value)?,
            "hooks.status-words" => hooks.status_words = one_of(value, &STATUS_WORDS)?,
            "hooks.nodes" => hooks.nodes = one_of(value, &NODES)?,
            "hooks.skip-opcodes" => hooks.skip_opcodes = opcodes(value)?,
            "hooks.opcode-directories" => hooks.opcode_directories = one_of(value, &OPCODE_DIRECTORIES)?,
            "hooks.native-post" => hooks.native_post = statuses(value)?,
            "hooks.native-paths" => hooks.native_paths = hooks_paths(value)?,
            "master.name" => self.master.name = string(value)?.to_owned(),
            "master.failover-window" => self.master.failover_window = duration(value, "0s", "1h")?,
            "deaths.tell-ganeti" => self.deaths.tell_ganeti = truth(value)?,
            "history.keep" => self.history.keep = duration(value, "1s", "3650days")?,
            "api.group" => self.api.group = group(value)?,
            "api.metrics-listen" => self.api.metrics_listen = address(value)?,
            _ => return Err(unknown(key)),
        }
        Ok(())
    }
}

/// The list of outboxes.
const OUTBOX: &str = "outbox";

const SECTIONS: [&str; 6] = ["paths", "hooks", "master", "history", "deaths", "api"];

/// Every key there is.
pub const KEYS: [&str; 23] = [
    "paths.queue-dir",
    "paths.data-dir",
    "paths.hooks-dir",
    "paths.ganeti-run-dir",
    "paths.state-dir",
    "paths.run-dir",
    "hooks.pre",
    "hooks.hold-limit",
    "hooks.timeout",
    "hooks.workers",
    "hooks.output-limit",
    "hooks.status-words",
    "hooks.nodes",
    "hooks.skip-opcodes",
    "hooks.opcode-directories",
    "hooks.native-post",
    "hooks.native-paths",
    "master.name",
    "master.failover-window",
    "history.keep",
    "deaths.tell-ganeti",
    "api.group",
    "api.metrics-listen",
];

const PRE_MODES: [(&str, PreMode); 3] =
    [("hold", PreMode::Hold), ("notify", PreMode::Notify), ("off", PreMode::Off)];
const STATUS_WORDS: [(&str, StatusWords); 2] =
    [("design", StatusWords::Design), ("upstream", StatusWords::Upstream)];
const NODES: [(&str, Nodes); 2] = [("targets", Nodes::Targets), ("master", Nodes::Master)];
const OPCODE_DIRECTORIES: [(&str, Nodes); 2] = [("master", Nodes::Master), ("targets", Nodes::Targets)];

/// The posts that Ganeti runs no hooks for.
const NATIVE_POSTS: [PostStatus; 2] = [PostStatus::Disappeared, PostStatus::Failed];

/// The longest name of a group, in bytes (Linux: `LOGIN_NAME_MAX`).
const GROUP_MAX: usize = 255;

/// The largest `hooks.output-limit`, in bytes.
const OUTPUT_LIMIT_MAX: u64 = 16 * 1024 * 1024;

fn unknown(key: &str) -> String {
    let section = key.split('.').next().unwrap_or_default();
    let known: Vec<&str> =
        KEYS.iter().filter_map(|known| known.strip_prefix(section)?.strip_prefix('.')).collect();
    format!("unknown key; keys of [{section}] are {}", known.join(", "))
}

fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("must be a string in quotes, not {value}"))
}

fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("must be true or false, not {value}"))
}

fn path(value: &Value) -> Result<PathBuf, String> {
    let path = Path::new(string(value)?);
    if path.is_absolute() {
        Ok(path.to_owned())
    } else {
        Err(format!("must be an absolute path, not {value}"))
    }
}

fn one_of<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, meaning)| *meaning).ok_or_else(
        || {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("must be one of {}, not {value}", words.join(", "))
        },
    )
}

fn duration(value: &Value, min: &str, max: &str) -> Result<Duration, String> {
    let parse = |text: &str| humantime::parse_duration(text).ok();
    value
        .as_str()
        .and_then(parse)
        .filter(|duration| parse(min) <= Some(*duration) && Some(*duration) <= parse(max))
        .ok_or_else(|| {
            format!("must be a duration such as \"90s\", \"5m\" or \"2h\" from {min} to {max}, not {value}")
        })
}

fn number(value: &Value, min: usize, max: usize) -> Result<usize, String> {
    value
        .as_integer()
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("must be a whole number from {min} to {max}, not {value}"))
}

fn size(value: &Value) -> Result<usize, String> {
    let bytes = match value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64()),
        _ => None,
    };
    bytes
        .filter(|bytes| *bytes <= OUTPUT_LIMIT_MAX)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| format!("must be a size such as \"64KiB\" from 0 to 16MiB, not {value}"))
}

/// The name of a group, or none.
fn group(value: &Value) -> Result<String, String> {
    let name = string(value)?;
    let is_name = |c: char| !c.is_control() && !c.is_whitespace() && !":,/".contains(c);
    let is_good = name.len() <= GROUP_MAX && name.chars().all(is_name);
    is_good
        .then(|| name.to_owned())
        .ok_or_else(|| format!("must be the name of a group, or \"\", not {value}"))
}

/// Where to listen, or nowhere.
fn address(value: &Value) -> Result<Option<SocketAddr>, String> {
    let text = value.as_str();
    if text == Some("") {
        return Ok(None);
    }
    let address = text.and_then(|text| text.parse().ok());
    address.filter(|address: &SocketAddr| address.port() != 0).map(Some).ok_or_else(|| {
        format!(
            "must be an address and a port such as \"127.0.0.1:9713\" or \"[::1]:9713\", or \"\", not {value}"
        )
    })
}

fn opcodes(value: &Value) -> Result<Vec<String>, String> {
    list(value, |name| is_opcode_pattern(name).then(|| name.to_owned())).ok_or_else(|| {
        format!("must be a list of opcodes such as [\"OP_TEST_DELAY\", \"OP_CLUSTER_VERIFY_*\"], not {value}")
    })
}

fn statuses(value: &Value) -> Result<Vec<PostStatus>, String> {
    let status = |word: &str| NATIVE_POSTS.into_iter().find(|status| status.as_str() == word);
    list(value, status).ok_or_else(|| {
        let words = NATIVE_POSTS.map(|status| format!("\"{}\"", status.as_str())).join(", ");
        format!("must be a list of none, one or both of {words}, not {value}")
    })
}

fn hooks_paths(value: &Value) -> Result<Vec<String>, String> {
    list(value, |path| is_hooks_path_pattern(path).then(|| path.to_owned())).ok_or_else(|| {
        format!("must be a list of hooks paths such as [\"instance-*\", \"node-add\"], not {value}")
    })
}

/// A list of strings, each of which means something.
fn list<T>(value: &Value, meaning: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(|item| meaning(item.as_str()?)).collect()
}

fn is_opcode_pattern(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_*".contains(&b))
}

fn is_hooks_path_pattern(path: &str) -> bool {
    !path.is_empty()
        && path.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-*".contains(&b))
}

/// Whether `text` is of the form of `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(text) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else { return false };
    // Taking each part where it comes first leaves the most for the others.
    let mut left = text;
    middle.split('*').all(|part| left.split_once(part).map(|(_, after)| left = after).is_some())
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key, e.g. `hooks.pre`; empty when the file is not TOML.
    pub key: String,
    /// What is wrong and what is allowed.
    pub what: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Findings(pub Vec<Finding>);

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Finding { key, what }) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            match key.as_str() {
                "" => write!(f, "{separator}{what}")?,
                key => write!(f, "{separator}{key}: {what}")?,
            }
        }
        Ok(())
    }
}

/// What is wrong with something at the top of the file that is no known section.
fn misplaced(name: &str, value: &Value) -> String {
    let home = KEYS.iter().find_map(|key| key.split_once('.').filter(|(_, key)| *key == name));
    match (value, home) {
        (_, _) if SECTIONS.contains(&name) => {
            format!("is a section; write [{name}] on a line of its own, and its keys below")
        }
        (Value::Table(_), _) => {
            format!("unknown section; sections are [{}] and [[{OUTBOX}]]", SECTIONS.join("], ["))
        }
        (_, Some((section, _))) => format!("stands in no section; write it below [{section}]"),
        (_, None) => format!("unknown key; sections are [{}], each with its own keys", SECTIONS.join("], [")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The defaults, as the design states them.
    const DEFAULTS: &str = r#"
        [paths]
        queue-dir = "/var/lib/ganeti/queue"
        data-dir  = "/var/lib/ganeti"
        hooks-dir = "/etc/ganeti/hooks"
        ganeti-run-dir = "/var/run/ganeti"
        state-dir = "/var/lib/ganeti-hookd"
        run-dir   = "/run/ganeti-hookd"
        [hooks]
        pre = "hold"
        hold-limit = "60s"
        timeout = "5m"
        workers = 16
        output-limit = "64KiB"
        status-words = "design"
        nodes = "targets"
        skip-opcodes = []
        opcode-directories = "master"
        native-post = []
        native-paths = ["*"]
        [master]
        name = ""
        failover-window = "30s"
        [history]
        keep = "30d"
        [deaths]
        tell-ganeti = false
        [api]
        group = ""
        metrics-listen = ""
    "#;

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        assert_eq!(Settings::parse(DEFAULTS), Ok(Settings::default()));
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
    }

    #[test]
    fn every_key_can_be_set() {
        let table: Table = DEFAULTS.parse().unwrap();
        for key in KEYS {
            let (section, name) = key.split_once('.').unwrap();
            assert!(table[section].get(name).is_some(), "{key} is not in the documented defaults");
        }
    }

    #[test]
    fn what_stands_outside_of_a_section_is_told_where_it_belongs() {
        let findings = Settings::parse("hooks = 3\nhold-limit = \"5s\"\n").unwrap_err().to_string();
        insta::assert_snapshot!(findings, @r#"
        hold-limit: stands in no section; write it below [hooks]
        hooks: is a section; write [hooks] on a line of its own, and its keys below
        "#);
    }

    #[test]
    fn findings_name_the_key_and_what_is_allowed() {
        let findings = Settings::parse(
            "[hooks]\npre = \"wait\"\nworkers = 0\ntimeout = 5\noutput-limit = \"1TiB\"\nskip-opcodes = [\"op\"]\nopcode-directories = \"all\"\nnative-post = [\"succeeded\"]\nnative-paths = [\"Instance\"]\nnodez = 1\n[paths]\nqueue-dir = \"queue\"\n[hook]\n[api]\ngroup = \"a:b\"\nmetrics-listen = \"localhost:9713\"\n",
        )
        .unwrap_err()
        .to_string();
        insta::assert_snapshot!(findings, @r#"
        api.group: must be the name of a group, or "", not "a:b"
        api.metrics-listen: must be an address and a port such as "127.0.0.1:9713" or "[::1]:9713", or "", not "localhost:9713"
        hook: unknown section; sections are [paths], [hooks], [master], [history], [deaths], [api] and [[outbox]]
        hooks.native-paths: must be a list of hooks paths such as ["instance-*", "node-add"], not ["Instance"]
        hooks.native-post: must be a list of none, one or both of "disappeared", "failed", not ["succeeded"]
        hooks.nodez: unknown key; keys of [hooks] are pre, hold-limit, timeout, workers, output-limit, status-words, nodes, skip-opcodes, opcode-directories, native-post, native-paths
        hooks.opcode-directories: must be one of "master", "targets", not "all"
        hooks.output-limit: must be a size such as "64KiB" from 0 to 16MiB, not "1TiB"
        hooks.pre: must be one of "hold", "notify", "off", not "wait"
        hooks.skip-opcodes: must be a list of opcodes such as ["OP_TEST_DELAY", "OP_CLUSTER_VERIFY_*"], not ["op"]
        hooks.timeout: must be a duration such as "90s", "5m" or "2h" from 100ms to 1day, not 5
        hooks.workers: must be a whole number from 1 to 256, not 0
        paths.queue-dir: must be an absolute path, not "queue"
        "#);
    }

    #[test]
    fn of_names_addresses_and_patterns_it_is_known_which_are_good() {
        let is_good = |key: &str, value: &str| {
            let (section, name) = key.split_once('.').unwrap();
            Settings::parse(&format!("[{section}]\n{name} = {value}\n")).is_ok()
        };
        for (key, good, bad) in [
            (
                "api.group",
                &[r#""www-data""#, r#""""#][..],
                &[r#""a b""#, r#""a\u0007""#, r#""a,b""#, "7"][..],
            ),
            ("api.metrics-listen", &[r#""127.0.0.1:9713""#, r#""[::1]:1""#], &[r#""127.0.0.1:0""#]),
            ("hooks.native-paths", &[r#"["instance-*"]"#, r#"["node2-add"]"#], &[r#"["a_b"]"#, r#"[""]"#]),
            ("hooks.skip-opcodes", &[r#"["OP_TEST_*"]"#, r#"["OP_2"]"#], &[r#"["OP-2"]"#, r#"[""]"#]),
            ("deaths.tell-ganeti", &["true", "false"], &["1"]),
        ] {
            assert!(good.iter().all(|value| is_good(key, value)), "{key}: {good:?}");
            assert!(!bad.iter().any(|value| is_good(key, value)), "{key}: {bad:?}");
        }
        assert!(Settings::parse("[deaths]\ntell-ganeti = true\n").unwrap().deaths.tell_ganeti);
        let outbox = "[[outbox]]\nname = \"a_b-1\"\nurl = \"https://a/\"\nsecret-file = \"/key\"\n";
        assert_eq!(Settings::parse(outbox).unwrap().outboxes[0].name, "a_b-1");
    }

    #[test]
    fn stars_in_opcodes_stand_for_anything() {
        let hooks = |pattern: &str| Hooks { skip_opcodes: vec![pattern.into()], ..Settings::default().hooks };
        assert!(hooks("OP_CLUSTER_VERIFY_*").skips("OP_CLUSTER_VERIFY_GROUP"));
        assert!(!hooks("OP_CLUSTER_VERIFY_*").skips("OP_CLUSTER_VERIFY"));
        assert!(hooks("*_TEST_*").skips("OP_TEST_DELAY"));
        assert!(hooks("OP_TEST_DELAY").skips("OP_TEST_DELAY"));
    }

    #[test]
    fn a_pattern_of_many_stars_costs_no_time() {
        // Trying every split of the text would take longer than there is time.
        let many = format!("{}X", "*A".repeat(40));
        assert!(!matches(&many, &"A".repeat(100)));
        assert!(matches(&"*".repeat(1000), "OP_TEST_DELAY"));
    }

    /// The same by trying every split of the text.
    fn matches_naively(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|skip| matches_naively(rest, &text[skip..])),
            [first, rest @ ..] => {
                text.split_first().is_some_and(|(head, tail)| head == first && matches_naively(rest, tail))
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn patterns_match_what_some_split_matches(pattern in "[AB*]{0,6}", text in "[AB]{0,8}") {
            let expected = matches_naively(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(&pattern, &text), expected);
        }
    }

    /// A value of any type, now and then one that some key takes.
    fn any_value() -> impl Strategy<Value = String> {
        let quoted =
            prop_oneof!["[a-z0-9/]{0,8}", "[0-9]{1,20}(ms|s|m|h|d|KiB|TiB)", Just("hold".to_owned())];
        let scalar = prop_oneof![
            quoted.prop_map(|text| format!("\"{text}\"")),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| Value::from(n).to_string()),
            any::<bool>().prop_map(|b| b.to_string()),
            Just("1979-05-27".to_owned()),
        ];
        let list =
            prop::collection::vec(scalar.clone(), 0..3).prop_map(|list| format!("[{}]", list.join(",")));
        prop_oneof![4 => scalar, 1 => list, 1 => Just("{ a = 1 }".to_owned())]
    }

    proptest! {
        #[test]
        fn one_bad_value_is_one_finding_that_names_its_key(
            key in prop::sample::select(KEYS.to_vec()),
            value in any_value(),
        ) {
            let (section, name) = key.split_once('.').unwrap();
            if let Err(Findings(findings)) = Settings::parse(&format!("[{section}]\n{name} = {value}\n")) {
                prop_assert_eq!(findings.len(), 1);
                prop_assert_eq!(&findings[0].key, key);
                prop_assert!(findings[0].what.starts_with("must be "), "{}", findings[0].what);
            }
        }

        #[test]
        fn any_text_is_settings_or_findings(text in "[\\[\\]a-z.=\"\\n0-9{} -]{0,80}") {
            if let Err(Findings(findings)) = Settings::parse(&text) {
                prop_assert!(!findings.is_empty());
                prop_assert!(findings.iter().all(|finding| !finding.what.is_empty()));
            }
        }
    }
}
