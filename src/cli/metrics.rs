//! `ganeti-hookd metrics`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::new_file::{NewFile, named};
use super::status::ask;
use super::{Failure, failed};
use crate::engine::metrics::PREFIX;
use crate::engine::settings::Settings;

/// What node_exporter's textfile collector reads ends so.
const ENDING: &str = "prom";

/// Print metrics in Prometheus' text format
///
/// With --textfile they are written into a file for node_exporter's textfile collector, as a whole
/// or not at all. Where no daemon answers, or this node is not the master, that file is removed:
/// what is not true any more must not stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write them into this file, whose name ends in .prom
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(&self, settings: &Settings) -> Result<(), Failure> {
        if let Some(file) = &self.textfile
            && file.extension().is_none_or(|ending| ending != ENDING)
        {
            let what =
                format!("{}: the name must end in .{ENDING}, node_exporter reads no other", file.display());
            return Err(Failure::Usage(what));
        }
        let answer = ask(&settings.paths.run_dir, "/metrics");
        match (&self.textfile, answer) {
            (None, answer) => Ok(io::stdout().lock().write_all(&answer.map_err(failed)?)?),
            (Some(file), Ok(text)) if is_masters(&text) => write(file, &text),
            (Some(file), Ok(_)) => remove(file),
            (Some(file), Err(error)) => remove(file).and(Err(failed(error))),
        }
    }
}

/// Whether the master's daemon says this.
fn is_masters(text: &[u8]) -> bool {
    let line = format!("{PREFIX}is_master 1");
    text.split(|byte| *byte == b'\n').any(|said| said == line.as_bytes())
}

/// Puts this in the place of the file, for all to read. Until then it has no name that the collector
/// reads.
fn write(file: &Path, text: &[u8]) -> Result<(), Failure> {
    let mut new = NewFile::begin(file)?;
    new.write_all(text).map_err(|error| named(file, &error))?;
    new.put(0o644)
}

fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(file, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_put_in_place_as_a_whole_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, target) = (dir.path().join("x.prom"), dir.path().join("target"));
        fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &file).unwrap();
        write(&file, b"first").unwrap();
        write(&file, b"second").unwrap();
        assert_eq!(
            (fs::read(&file).unwrap(), fs::read(&target).unwrap()),
            (b"second".to_vec(), b"mine".to_vec())
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert!(!file.exists());
        fs::create_dir(&file).unwrap();
        assert!(write(&file, b"x").is_err() && remove(&file).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing of it is left");
    }

    #[test]
    fn only_the_master_s_metrics_are_for_the_file() {
        assert!(is_masters(b"a 1\nganeti_hookd_is_master 1\nb 2\n"));
        assert!(!is_masters(b"ganeti_hookd_is_master 0\n") && !is_masters(b"x ganeti_hookd_is_master 1\n"));
    }
}
