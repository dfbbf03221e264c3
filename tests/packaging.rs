//! What the package has beside the program agrees with it.
//!
//! Completions and the page ganeti-hookd(8) are made from the command line's definition;
//! `GENERATE=1 cargo test --test packaging` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use ganeti_hookd::cli::Args;
use ganeti_hookd::engine::settings::{KEYS, Settings};

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
        ". {}; COMP_WORDS=({}); COMP_CWORD={last}; _ganeti__hookd {} {:?} {:?}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.iter().map(|word| format!("{word:?} ")).collect::<String>(),
        words[0],
        words[last],
        words[last - 1],
    );
    let output = std::process::Command::new("bash").args(["-c", &program]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
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
    assert_eq!(offered(&["ganeti-hookd", "help", "rep"]), ["replay"]);
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
        page += &section(subcommand);
    }
    page + &read("man/ganeti-hookd.8.end")
}

fn rendered(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    render(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// A command as a subsection: synopsis, description, options that are its own.
fn section(command: &Command) -> String {
    let own = command.clone().mut_args(|arg| {
        let inherited = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(inherited)
    });
    let title = own.get_name().replace('-', "\\-");
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
    assert_eq!(documented, KEYS);
    assert_eq!(Settings::parse(&defaults), Ok(Settings::default()));
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
