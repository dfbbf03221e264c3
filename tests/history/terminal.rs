//! Tables on a terminal, which script(1) makes.

use std::process::Command;

use crate::fixture::Written;
use crate::harness::PROGRAM;

/// What the program prints on a terminal of this width.
fn on_terminal(written: &Written, width: usize, variables: &[(&str, &str)], args: &[&str]) -> String {
    let program = written.program();
    let words = program.get_args().map(|word| word.to_str().unwrap()).chain(args.iter().copied());
    let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    let line = format!("stty cols {width} rows 24 -onlcr; {PROGRAM} {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("NO_COLOR");
    let output = script.envs(variables.iter().copied()).stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// The history without the event whose time is the test's own.
const HISTORY: [&str; 3] = ["events", "--until", "2026-11-28 12:00"];

/// The control characters of the colours, as people see them.
fn visible(text: &str) -> String {
    text.replace('\u{1b}', "^[")
}

#[test]
fn print_all() {
    let written = Written::new();
    for (w, vars) in [(80, &[][..]), (120, &[]), (200, &[]), (80, &[("NO_COLOR", "1")])] {
        println!("{}", visible(&on_terminal(&written, w, vars, &HISTORY)));
    }
    println!("{}", visible(&on_terminal(&written, 80, &[], &["replay", "fixtures/recordings/archive"])));
    println!("{}", visible(&on_terminal(&written, 80, &[], &["replay", "--utc", "fixtures/recordings/archive", "--speed", "100000"])));
}
