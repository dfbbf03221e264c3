//! Completions of words that the history has: what clap knows nothing of.

use clap::{Arg, Command};
use clap_complete::Shell;

/// What `ganeti-hookd complete` calls the words of an argument.
fn kind(arg: &Arg) -> Option<&'static str> {
    match arg.get_id().as_str() {
        "job" => Some("job"),
        "event" => Some("event"),
        "op_code" => Some("opcode"),
        "object" => Some("object"),
        "script" => Some("script"),
        "subject" => Some("subject"),
        _ => None,
    }
}

/// An argument whose words the history has.
struct Known<'a> {
    command: &'a str,
    id: &'a str,
    /// Its option; none of a positional one.
    long: Option<&'a str>,
    kind: &'static str,
}

fn known(command: &Command) -> Vec<Known<'_>> {
    let mut known = Vec::new();
    for command in command.get_subcommands() {
        for arg in command.get_arguments() {
            let Some(kind) = kind(arg) else { continue };
            known.push(Known {
                command: command.get_name(),
                id: arg.get_id().as_str(),
                long: arg.get_long(),
                kind,
            });
        }
    }
    known
}

/// A shell's completions with the words of the history in them.
pub fn completed(shell: Shell, text: &str, command: &Command) -> String {
    let add = match shell {
        Shell::Bash => in_bash,
        Shell::Zsh => in_zsh,
        Shell::Fish => in_fish,
        other => panic!("nothing is known of {other}"),
    };
    let text = known(command).iter().fold(text.to_owned(), |text, known| add(&text, known));
    match shell {
        Shell::Zsh => text.replace("\nautoload -U is-at-least\n", ZSH_FUNCTION),
        _ => text,
    }
}

/// Nothing of it is expanded by the shell, whatever the words are.
fn in_bash(text: &str, known: &Known<'_>) -> String {
    let ask = format!("mapfile -t COMPREPLY < <(\"$1\" complete {} \"${{cur}}\" 2>/dev/null)", known.kind);
    match known.long {
        Some(long) => {
            let option = format!("                --{long})\n                    ");
            text.replace(
                &format!("{option}COMPREPLY=($(compgen -f \"${{cur}}\"))"),
                &format!("{option}{ask}"),
            )
        }
        None => {
            let command = known.command;
            let (before, after) =
                text.split_once(&format!("        ganeti__hookd__subcmd__{command})\n")).unwrap();
            let (opts, after) = after.split_once('\n').unwrap();
            let first = format!(
                "            if [[ ${{cur}} != -* && ${{prev}} == {command} ]] ; then\n                {ask}\n                return 0\n            fi"
            );
            format!("{before}        ganeti__hookd__subcmd__{command})\n{opts}\n{first}\n{after}")
        }
    }
}

const ZSH_FUNCTION: &str = r#"
autoload -U is-at-least

_ganeti-hookd_history() {
    local -a found
    found=(${(f)"$(ganeti-hookd complete ${@[-1]} "$PREFIX" 2>/dev/null)"})
    compadd "${@[1,-2]}" -a found
}
"#;

fn in_zsh(text: &str, known: &Known<'_>) -> String {
    let is_of = |line: &str| match known.long {
        Some(long) => line.starts_with(&format!("'--{long}=[")),
        None => line.contains(&format!(":{} -- ", known.id)),
    };
    each_line(text, is_of, |line| {
        line.replace(":_default' \\", &format!(":_ganeti-hookd_history {}' \\", known.kind))
    })
}

fn in_fish(text: &str, known: &Known<'_>) -> String {
    let ask = format!("-f -a '(ganeti-hookd complete {} (commandline -ct) 2>/dev/null)'", known.kind);
    let when =
        format!("complete -c ganeti-hookd -n \"__fish_ganeti_hookd_using_subcommand {}\"", known.command);
    match known.long {
        Some(long) => {
            let option = format!("{when} -l {long} ");
            each_line(text, |line| line.starts_with(&option), |line| format!("{line} {ask}"))
        }
        None => format!("{text}{when} {ask}\n"),
    }
}

fn each_line(text: &str, is_meant: impl Fn(&str) -> bool, change: impl Fn(&str) -> String) -> String {
    text.lines().map(|line| if is_meant(line) { change(line) } else { line.to_owned() } + "\n").collect()
}
