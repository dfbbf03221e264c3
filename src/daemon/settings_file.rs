//! The daemon's configuration file, and why a daemon does not start.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::settings::{DEFAULT_PATH, Findings, Settings};
use crate::world::cluster::own_name::own_name;
use crate::world::hook::trust::{Refusal, follow};
use crate::world::journal::JournalError;
use crate::world::regular_file;
use crate::world::shortage::explain;

/// The largest configuration file, in bytes.
const CONFIG_LIMIT: u64 = 1024 * 1024;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{path}: {error}")]
    Unreadable {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The configuration says something that cannot be.
    #[error("{path} is not a good configuration:\n{findings}")]
    Settings {
        /// The configuration file.
        path: PathBuf,
        /// Everything that is wrong with it.
        findings: Findings,
    },
    /// Another daemon runs.
    #[error("another ganeti-hookd runs with the state directory {0}; one is enough")]
    Locked(PathBuf),
    /// It had to end.
    #[error("the daemon ends: {0}")]
    Defect(String),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The system says no.
    #[error("{what}: {}", explain(error))]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
}

/// Says what was tried when the system said no.
pub fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Io { what: what.into(), error }
}

/// The settings in a configuration file; the defaults where the default one is missing.
///
/// # Errors
/// When the file cannot be read, or says something that cannot be.
pub fn read_settings(path: &Path) -> Result<Settings, StartError> {
    let unreadable = |error: String| StartError::Unreadable { path: path.to_owned(), error };
    // The administrator's own file may well be a link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let bytes = match regular_file::read(&target, CONFIG_LIMIT) {
        Ok(Some(bytes)) => bytes,
        Ok(None) if path == Path::new(DEFAULT_PATH) => return Ok(Settings::default()),
        Ok(None) => return Err(unreadable("there is no such file".to_owned())),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))?;
    Settings::parse(&text).map_err(|findings| StartError::Settings { path: path.to_owned(), findings })
}

/// Why somebody else could have written this configuration file, if so: who may, says which
/// directory's scripts run as root.
pub fn distrusted(path: &Path) -> Option<Refusal> {
    let followed = path.exists().then(|| follow(path))?;
    followed.err().map(|distrust| distrust.refusal(path))
}

/// This node's name, as in `ssconf_master_node`. To be told it may take seconds.
pub fn node_name(settings: &Settings) -> String {
    if settings.master.name.is_empty() { own_name() } else { settings.master.name.clone() }
}
