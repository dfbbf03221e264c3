//! `ganeti-hookd run`

use std::io::Write;
use std::path::Path;

use super::Failure;
use crate::daemon;
use crate::world::journald::{Journald, priority};

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

/// Logs to standard error; to the systemd journal by its own protocol, where that has our standard
/// error and takes the line, else each line begins with its priority (sd-daemon(3)). It has no time of its own
/// then.
fn init_log() {
    let mut logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        let journald = Journald::of_stderr();
        logger.format(move |out, record| {
            let text = record.args().to_string();
            text.lines().try_for_each(|line| match &journald {
                Some(journald) => {
                    journald.say(record, line);
                    Ok(())
                }
                None => writeln!(out, "<{}>{line}", priority(record.level())),
            })
        });
    } else {
        logger.format_target(false);
    }
    logger.init();
}
