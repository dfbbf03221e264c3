//! `ganeti-hookd run`

use std::io::Write;
use std::path::Path;

use super::Failure;
use crate::daemon;

/// Run the daemon in the foreground
///
/// Logs to standard error, with journal priorities under systemd. RUST_LOG=debug shows
/// more. SIGHUP reads the configuration again; SIGTERM ends the daemon.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub(super) fn run(&self, config: &Path) -> Result<(), Failure> {
        init_log();
        Ok(daemon::run(config)?)
    }
}

/// Logs to standard error; for the systemd journal each line begins with its priority
/// (sd-daemon(3)) and has no time of its own.
fn init_log() {
    let mut logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        logger.format(|out, record| {
            let priority = match record.level() {
                log::Level::Error => 3,
                log::Level::Warn => 4,
                log::Level::Info => 6,
                log::Level::Debug | log::Level::Trace => 7,
            };
            let text = record.args().to_string();
            text.lines().try_for_each(|line| writeln!(out, "<{priority}>{line}"))
        });
    } else {
        logger.format_target(false);
    }
    logger.init();
}
