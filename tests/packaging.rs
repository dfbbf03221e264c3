//! What the package has beside the program agrees with it.
//!
//! Completions and the page ganeti-hookd(8) are made from the command line's definition;
//! `GENERATE=1 cargo test --test packaging` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[path = "packaging/history.rs"]
mod history;

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use ganeti_hookd::cli::Args;
use ganeti_hookd::engine::change::{Change, EventState};
use ganeti_hookd::engine::settings::{KEYS, OUTBOX_KEYS, Settings};
use ganeti_hookd::engine::topic::MessageId;
use ganeti_hookd::ganeti::about::About;
use ganeti_hookd::ganeti::event::Event;
use ganeti_hookd::ganeti::job::Timestamp;
use ganeti_hookd::ganeti::object::{Object, ObjectKind};
use ganeti_hookd::world::journal::Journal;
use tempfile::TempDir;

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(packaging(name)).unwrap_or_else(|error| panic!("packaging/{name}: {error}"))
}

/// Compares a generated file with what should be in it, or writes it.
fn is_generated(name: &str, text: &[u8]) {
    let text = std::str::from_utf8(text).unwrap();
    if std::env::var_os("GENERATE").is_some() {
        fs::write(packaging(name), text).unwrap();
    }
    assert!(read(name) == text, "packaging/{name} is out of date: GENERATE=1 cargo test --test packaging");
}

/// The command line as it is printed: a page has no terminal to fit into.
fn command() -> Command {
    let mut command = Args::command().term_width(80);
    command.build();
    command
}

/// The command line without what the daemon alone uses.
fn visible() -> Command {
    let all = Args::command();
    let shown: Vec<Command> = all.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned().collect();
    let global: Vec<Arg> = all.get_arguments().cloned().collect();
    let mut visible = Command::new("ganeti-hookd").version("").args(global).subcommands(shown);
    if let Some(about) = all.get_about() {
        visible = visible.about(about.clone());
    }
    visible
}

/// What bash offers after these words.
fn offered(words: &[&str]) -> Vec<String> {
    let script = packaging("completions/ganeti-hookd.bash");
    let last = words.len() - 1;
    let program = format!(
        ". {}; COMP_WORDS=({}); COMP_CWORD={last}; _ganeti__hookd {:?} {:?} {:?}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.iter().map(|word| format!("{word:?} ")).collect::<String>(),
        words[0],
        words[last],
        words[last - 1],
    );
    lines_of(std::process::Command::new("bash").args(["-c", &program]))
}

/// What a program prints.
fn lines_of(program: &mut std::process::Command) -> Vec<String> {
    let output = program.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_commands_and_their_options() {
    let commands = offered(&["ganeti-hookd", ""]);
    for name in ["run", "events", "check", "help"] {
        assert!(commands.iter().any(|offer| offer == name), "{commands:?}");
    }
    assert!(!commands.iter().any(|offer| offer == "guard"), "{commands:?}");
    assert_eq!(offered(&["ganeti-hookd", "events", "--fo"]), ["--follow"]);
    assert_eq!(offered(&["ganeti-hookd", "status", "--me"]), ["--metrics"]);
    assert_eq!(offered(&["ganeti-hookd", "help", "rep"]), ["replay", "report"]);
}

/// The program with a history of its own, as a command.
struct WithHistory {
    dir: TempDir,
}

impl WithHistory {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("hookd.toml");
        fs::write(&config, format!("[paths]\nstate-dir = {:?}\n", dir.path())).unwrap();
        let program = format!(
            "#!/bin/sh\nexec {} --config {} \"$@\"\n",
            env!("CARGO_BIN_EXE_ganeti-hookd"),
            config.display()
        );
        let this = Self { dir };
        fs::write(this.program(), program).unwrap();
        fs::set_permissions(this.program(), Permissions::from_mode(0o755)).unwrap();
        this
    }

    fn program(&self) -> String {
        self.dir.path().join("ganeti-hookd").display().to_string()
    }

    /// Of jobs about these objects.
    fn with_jobs(self, objects: &[(i64, &str)]) -> Self {
        let event = |(job, name): &(i64, &str)| {
            let object = Object { kind: ObjectKind::Instance, name: Some((*name).to_owned()) };
            let event = Event {
                key: format!("{job}.0.pre").parse().unwrap(),
                received: Timestamp::from((1_795_860_000, 0)),
                op_count: 1,
                op_code: "OP_INSTANCE_STARTUP".to_owned(),
                status: None,
                executed: true,
                late: false,
                time: Timestamp::from((1_795_860_000, 0)),
                about: Arc::new(About { object: Some(object), ..About::default() }),
            };
            Change::Event(*job, event, EventState::Done)
        };
        let changes: Vec<Change> = objects.iter().map(event).collect();
        Journal::open(self.dir.path()).unwrap().commit(&changes).unwrap();
        self
    }
}

#[test]
fn bash_offers_words_of_the_history() {
    let history = WithHistory::new();
    let program = history.program();
    assert_eq!(offered(&[&program, "events", "--job", ""]), [""], "who has no history is told nothing");
    let trap = history.dir.path().join("trap");
    let evil = format!("$(touch {})", trap.display());
    let history = history.with_jobs(&[(417, "web1.example.com"), (42, "web2.example.com"), (5, &evil)]);
    for (words, offer) in [
        (["events", "--job", "4"], &["417", "42"][..]),
        (["events", "--op-code", "OP_"], &["OP_INSTANCE_STARTUP"]),
        (["events", "--object", ""], &["web1.example.com", "web2.example.com"]),
        (["events", "--object", "web2"], &["web2.example.com"]),
    ] {
        assert_eq!(offered(&[&[program.as_str()], &words[..]].concat()), offer, "{words:?}");
    }
    assert_eq!(offered(&[&program, "env", "41"]), ["417"]);
    assert_eq!(offered(&[&program, "timeline", "4"]), ["417", "42"]);
    assert_eq!(offered(&[&program, "timeline", "web2"]), ["web2.example.com"]);
    assert!(!trap.exists());
    drop(history);
}

#[test]
fn completions_follow_the_command_line() {
    for (shell, name) in [
        (Shell::Bash, "ganeti-hookd.bash"),
        (Shell::Zsh, "_ganeti-hookd"),
        (Shell::Fish, "ganeti-hookd.fish"),
    ] {
        let text = rendered(|out| {
            clap_complete::generate(shell, &mut visible(), "ganeti-hookd", out);
            Ok(())
        });
        // clap_complete 4.6 writes the name in two ways, and so finds none of its own cases.
        let text = text.replace("ganeti__subcmd__hookd", "ganeti__hookd");
        let text = history::completed(shell, &text, &visible());
        is_generated(&format!("completions/{name}"), text.as_bytes());
    }
}

#[test]
fn the_page_of_the_program_follows_the_command_line() {
    is_generated("man/ganeti-hookd.8", page().as_bytes());
}

/// The page: what clap knows, a section of each command, and the hand-written end.
fn page() -> String {
    let command = command();
    let man = Man::new(command.clone()).section("8").manual("Ganeti").date("");
    let mut page = rendered(|out| man.render_title(out))
        + &rendered(|out| man.render_name_section(out))
        + &rendered(|out| man.render_synopsis_section(out))
        + &rendered(|out| man.render_description_section(out))
        + &rendered(|out| man.render_options_section(out))
        + ".SH COMMANDS\n";
    for subcommand in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        page += &section(subcommand.get_name(), subcommand);
        for below in subcommand.get_subcommands().filter(|below| below.get_name() != "help") {
            page += &section(&format!("{} {}", subcommand.get_name(), below.get_name()), below);
        }
    }
    page + &read("man/ganeti-hookd.8.end")
}

fn rendered(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    render(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// A command as a subsection: synopsis, description, options that are its own.
fn section(title: &str, command: &Command) -> String {
    let own = command.clone().mut_args(|arg| {
        let inherited = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(inherited)
    });
    let title = title.replace('-', "\\-");
    let man = Man::new(own);
    let body = |text: String| -> String {
        text.lines().filter(|line| !line.starts_with(".SH")).map(|line| format!("{line}\n")).collect()
    };
    format!(".SS {title}\n")
        + &body(rendered(|out| man.render_synopsis_section(out)))
        + ".PP\n"
        + &body(rendered(|out| man.render_description_section(out)))
        + &body(rendered(|out| man.render_options_section(out)))
}

#[test]
fn the_page_of_the_configuration_has_every_key_and_its_default() {
    let page = read("man/hookd.toml.5").replace("\\-", "-").replace("\\(dq", "\"");
    let mut section = String::new();
    let mut documented = Vec::new();
    let mut defaults = String::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix(".SH \"[").and_then(|rest| rest.strip_suffix("]\"")) {
            section = name.to_owned();
            defaults += &format!("[{name}]\n");
        } else if let Some((key, value)) = line.strip_prefix(".BR ").and_then(|key| key.split_once(" \" = "))
        {
            documented.push(format!("{section}.{key}"));
            defaults += &format!("{key} = {}\n", value.strip_suffix('"').unwrap());
        }
    }
    let outbox = defaults.split_off(defaults.find("[[outbox]]").unwrap());
    let (documented, of_outbox): (Vec<String>, Vec<String>) =
        documented.into_iter().partition(|key| !key.starts_with("[outbox]."));
    assert_eq!(documented, KEYS);
    assert_eq!(Settings::parse(&defaults), Ok(Settings::default()));
    // Those of an outbox that must be there have no default.
    assert_eq!(of_outbox, OUTBOX_KEYS[3..].iter().map(|key| format!("[outbox].{key}")).collect::<Vec<_>>());
    OUTBOX_KEYS[..3].iter().for_each(|key| assert!(page.contains(&format!(".TP\n.B {key}\n")), "{key}"));
    assert_eq!(
        Settings::parse(&format!("{outbox}{AN_OUTBOX}")),
        Settings::parse(&format!("[[outbox]]\n{AN_OUTBOX}"))
    );
    assert!(Settings::parse(&format!("{outbox}{AN_OUTBOX}")).is_ok());
}

/// What an outbox must have.
const AN_OUTBOX: &str = "name = \"a\"\nurl = \"https://a/\"\nsecret-file = \"/key\"\n";

#[test]
fn the_configuration_file_shows_an_outbox() {
    let text = read("hookd.toml").split_once("# [[outbox]]\n").unwrap().1.replace("# ", "");
    let shown: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert_eq!(shown, OUTBOX_KEYS);
    let set = Settings::parse(&format!("[[outbox]]\n{text}")).unwrap();
    let only = text.lines().take(3).map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(set, Settings::parse(&format!("[[outbox]]\n{only}")).unwrap(), "the rest are the defaults");
}

#[test]
fn the_configuration_file_shows_every_key_and_its_default() {
    let text = read("hookd.toml");
    assert_eq!(Settings::parse(&text), Ok(Settings::default()), "as it is installed");
    let is_key = |line: &&str| line.starts_with('[') || line.starts_with('#') && !line.starts_with("# ");
    let shown: Vec<&str> = text
        .lines()
        .filter(|line| *line != "#")
        .filter(is_key)
        .map(|line| line.trim_start_matches('#'))
        .collect();
    let mut section = "";
    let mut keys = Vec::new();
    for line in &shown {
        match line.split_once(" = ") {
            Some((key, _)) => keys.push(format!("{section}.{key}")),
            None => section = line.trim_matches(['[', ']']),
        }
    }
    assert_eq!(keys, KEYS);
    assert_eq!(Settings::parse(&shown.join("\n")), Ok(Settings::default()), "with every key set");
}

#[test]
fn the_catalog_explains_each_kind_of_message_once() {
    let catalog = read("ganeti-hookd.catalog");
    let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
    let ids: Vec<&str> = entries.iter().map(|entry| entry.lines().next().unwrap()).collect();
    assert_eq!(ids, MessageId::ALL.map(MessageId::as_str), "in the order of MessageId::ALL");
    let is_id =
        |id: &&str| id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    assert!(ids.iter().all(is_id) && BTreeSet::from_iter(&ids).len() == ids.len(), "{ids:?}");
    for entry in entries {
        let (head, text) = entry.split_once("\n\n").unwrap();
        assert!(head.contains("\nSubject: ") && head.contains("\nDefined-By: ganeti-hookd"), "{entry}");
        let says_what_to_do = ["ganeti-hookd ", "gnt-", "journalctl "].iter().any(|word| text.contains(word));
        assert!(says_what_to_do, "{entry}");
        for field in text.split('@').skip(1).step_by(2) {
            assert!(["GANETI_JOB", "GANETI_EVENT", "GANETI_OP_CODE"].contains(&field), "{entry}");
        }
        let asked = text.split("ganeti-hookd ").skip(1).filter_map(|rest| rest.split_whitespace().next());
        let command = visible();
        for name in asked {
            assert!(command.find_subcommand(name).is_some(), "ganeti-hookd {name}: {entry}");
        }
    }
}
