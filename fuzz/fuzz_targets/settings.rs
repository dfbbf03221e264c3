//! A configuration: settings within their limits, or findings that name what is wrong.
#![no_main]

use std::time::Duration;

use ganeti_hookd::engine::settings::Settings;
use libfuzzer_sys::fuzz_target;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn check(settings: &Settings) {
    let paths = &settings.paths;
    for path in [
        &paths.queue_dir,
        &paths.data_dir,
        &paths.hooks_dir,
        &paths.ganeti_run_dir,
        &paths.state_dir,
        &paths.run_dir,
    ] {
        assert!(path.is_absolute());
    }
    let within = |value: Duration, min: u64, max: Duration| {
        assert!(value >= Duration::from_millis(min) && value <= max, "{value:?}");
    };
    let hooks = &settings.hooks;
    within(hooks.hold_limit, 100, Duration::from_secs(3600));
    within(hooks.timeout, 100, DAY);
    within(settings.master.failover_window, 0, Duration::from_secs(3600));
    within(settings.history.keep, 1000, DAY * 3650);
    assert!((1..=256).contains(&hooks.workers) && hooks.output_limit <= 16 * 1024 * 1024);
    let _ = hooks.skips("OP_CLUSTER_VERIFY_GROUP");
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Settings::parse(text) {
        Ok(settings) => {
            check(&settings);
            // Every section and key of a good file is a known one.
            let table: toml::Table = text.parse().expect("good settings are TOML");
            assert!(table.keys().all(|key| ["paths", "hooks", "master", "history"].contains(&key.as_str())));
            if table.values().all(|section| section.as_table().is_some_and(toml::Table::is_empty)) {
                assert_eq!(settings, Settings::default());
            }
        }
        Err(findings) => {
            assert!(!findings.0.is_empty());
            assert!(findings.0.iter().all(|finding| !finding.what.is_empty()));
            let _ = findings.to_string();
        }
    }
});
