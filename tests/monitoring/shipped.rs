//! The alert rules and the dashboard, as they are shipped.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use ganeti_hookd::cli::Args;
use serde_json::Value;

/// A file of `packaging/monitoring`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/monitoring").join(name)
}

pub const RULES: &str = "ganeti-hookd.rules.yml";

pub fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// One alert rule: its name, and the lines that belong to it as one line.
pub fn alerts() -> Vec<(String, String)> {
    let text = read(RULES);
    let rules = text.split("- alert: ").skip(1).map(|rule| {
        let (name, rest) = rule.split_once('\n').unwrap();
        (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    rules.collect()
}

/// The dashboard.
pub fn dashboard() -> Value {
    serde_json::from_str(&read("ganeti-hookd.dashboard.json")).unwrap()
}

/// Panels of the dashboard that show something.
pub fn panels() -> Vec<Value> {
    let panels = dashboard()["panels"].as_array().unwrap().clone();
    panels.into_iter().filter(|panel| panel["type"] != "row").collect()
}

/// What the dashboard asks of Prometheus.
pub fn expressions() -> Vec<String> {
    let targets = panels().into_iter().flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_alert_says_what_to_do_and_how_bad_it_is() {
    let program = Args::command();
    let known: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
    let alerts = alerts();
    assert!(alerts.len() >= 12, "{alerts:?}");
    for (name, rule) in alerts {
        assert!(rule.contains("severity: critical") || rule.contains("severity: warning"), "{name}");
        let (_, description) = rule.split_once("description: >- ").unwrap_or_else(|| panic!("{name}"));
        let said: Vec<&str> = description.split('`').skip(1).step_by(2).collect();
        assert!(!said.is_empty(), "{name} names no command");
        for command in said {
            let mut words = command.split(' ');
            match words.next().unwrap() {
                "ganeti-hookd" => {
                    let subcommand = words.next().unwrap();
                    assert!(known.contains(&subcommand), "{name}: {command}");
                    let sub = program.find_subcommand(subcommand).unwrap();
                    for option in words.filter_map(|word| word.strip_prefix("--")) {
                        let is_known = sub.get_arguments().any(|arg| arg.get_long() == Some(option));
                        assert!(is_known, "{name}: {command} has no --{option}");
                    }
                }
                "systemctl" | "journalctl" | "gnt-job" | "gnt-cluster" => {}
                other => panic!("{name}: {other} is no command of a master"),
            }
        }
        for (page, section) in [("ganeti-hookd(8), ", "ganeti-hookd.8"), ("hookd.toml(5), ", "hookd.toml.5")]
        {
            let Some((_, title)) = description.split_once(page) else { continue };
            let title = title.trim_end_matches('.');
            let page = fs::read_to_string(path("../man").join(section)).unwrap();
            let titles = page.lines().filter_map(|line| line.strip_prefix(".SH "));
            assert!(titles.map(|line| line.trim_matches('"')).any(|line| line == title), "{name}: {title}");
        }
    }
}

#[test]
fn each_alert_is_tested() {
    let tests = read("ganeti-hookd.rules.test.yml");
    for (name, _) in alerts() {
        let tested: Vec<&str> = tests.split(&format!("alertname: {name}\n")).skip(1).collect();
        let fires = |rest: &&&str| rest.trim_start().starts_with("exp_alerts:");
        assert!(tested.iter().any(|rest| fires(&rest)), "{name} is never seen to fire");
        assert!(tested.iter().any(|rest| !fires(&rest)), "{name} is never seen not to fire");
    }
}

#[test]
fn each_panel_has_a_place_of_its_own_and_says_what_it_shows() {
    let panels = dashboard()["panels"].as_array().unwrap().clone();
    let cells = |panel: &Value| {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        assert!(x + w <= 24, "{panel}");
        (y..y + h).flat_map(move |y| (x..x + w).map(move |x| (x, y))).collect::<Vec<_>>()
    };
    let mut all: Vec<(u64, u64)> = panels.iter().flat_map(cells).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "panels lie over one another");
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=panels.len() as u64).collect::<Vec<_>>());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(["stat", "timeseries", "table"].contains(&panel["type"].as_str().unwrap()), "{panel}");
        assert!(
            !panel["title"].as_str().unwrap().is_empty() && !panel["targets"].as_array().unwrap().is_empty()
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
    }
}
