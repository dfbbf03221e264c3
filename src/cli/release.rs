//! `ganeti-hookd release`

use std::io::{self, Write};
use std::path::Path;

use super::{Failure, failed, say};
use crate::daemon::read_settings;
use crate::engine::settings::Settings;
use crate::world::process::held_file;

/// Let every job process go on that a daemon which is gone has left stopped
///
/// The unit runs it whenever the daemon has ended. A process that an administrator has
/// stopped is left alone. While a daemon runs, it ends that daemon's holds.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub(super) fn run(&self, config: &Path) -> Result<(), Failure> {
        let settings = read_settings(config).unwrap_or_else(|error| {
            // A daemon that ran may have died since the file went bad.
            say(&format!("{error}\nthe defaults are used"));
            Settings::default()
        });
        let run_dir = &settings.paths.run_dir;
        let pids =
            held_file::release(run_dir).map_err(|error| failed(format!("{}: {error}", run_dir.display())))?;
        let mut out = io::stdout().lock();
        for pid in pids {
            writeln!(out, "process {pid} goes on")?;
        }
        Ok(())
    }
}
