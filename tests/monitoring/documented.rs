//! The table of metrics in `docs/metrics.md` is made from their one definition:
//! `GENERATE=1 cargo test --test monitoring` writes it anew.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use ganeti_hookd::cli::Args;
use ganeti_hookd::engine::metrics::{FAMILIES, PREFIX};

use super::shipped::alerts;

const BEGIN: &str = "<!-- made from src/engine/metrics/families.rs -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_table_of_metrics_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (table, tail) = rest.split_once(END).unwrap();
    let mut made = String::from("| metric | kind | tells |\n|---|---|---|\n");
    for family in FAMILIES {
        let labels =
            if family.labels.is_empty() { String::new() } else { format!("{{{}}}", family.labels.join(",")) };
        made +=
            &format!("| `{PREFIX}{}{labels}` | {} | {} |\n", family.name, family.kind.as_str(), family.help);
    }
    if std::env::var_os("GENERATE").is_some() {
        return fs::write(&path, format!("{head}{BEGIN}{made}{END}{tail}")).unwrap();
    }
    assert!(table == made, "docs/metrics.md is out of date: GENERATE=1 cargo test --test monitoring");
}

#[test]
fn each_alert_has_a_way_to_its_cause() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.md");
    let text = fs::read_to_string(path).unwrap();
    let sections: Vec<(&str, &str)> =
        text.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    let titles: Vec<&str> = sections.iter().map(|(title, _)| *title).collect();
    let alerts: Vec<String> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(titles, alerts, "in the order of the rules");
    let program = Args::command();
    for (title, section) in sections {
        // Inline code between single backquotes; shown output stands in blocks.
        let prose: String = section.split("```").step_by(2).collect();
        let commands: Vec<&str> =
            prose.split('`').skip(1).step_by(2).filter(|code| code.contains(' ')).collect();
        assert!(commands.len() >= 2, "{title}: {commands:?}");
        for command in commands.iter().filter_map(|command| command.strip_prefix("ganeti-hookd ")) {
            let words: Vec<&str> = command.split('|').next().unwrap().split_whitespace().collect();
            let known = program.find_subcommand(words[0]).unwrap_or_else(|| panic!("{title}: {command}"));
            for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
                assert!(
                    known.get_arguments().any(|arg| arg.get_long() == Some(option)),
                    "{title}: {command}"
                );
            }
        }
    }
}
