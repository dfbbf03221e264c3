//! What the cluster says of itself: ssconf files in Ganeti's data directory, and its
//! configuration.

mod configuration;
pub mod deaths;
pub mod locks;
mod luxi;
pub mod own_name;

pub use configuration::{Configuration, Found, Source};

use std::path::{Path, PathBuf};

use crate::engine::environment::ClusterFacts;
use crate::engine::input::ClusterId;
use crate::ganeti::config;
use crate::ganeti::ssconf::{self, NO_MASTER};
use crate::world::regular_file;
use crate::world::unchanged::{Identity, Kept};

/// The file with the master's name (Ganeti: `ssconf.py`, `SS_MASTER_NODE`).
pub const MASTER_NODE: &str = "ssconf_master_node";

/// The file with the cluster's name (Ganeti: `ssconf.py`, `SS_CLUSTER_NAME`).
const CLUSTER_NAME: &str = "ssconf_cluster_name";

/// The file with the names of the nodes that are not offline, one a line (Ganeti:
/// `ssconf.py`, `SS_ONLINE_NODES`).
pub const ONLINE_NODES: &str = "ssconf_online_nodes";

/// The file with the names of all nodes, one a line (Ganeti: `ssconf.py`, `SS_NODE_LIST`).
const NODE_LIST: &str = "ssconf_node_list";

/// The largest ssconf file, in bytes (Ganeti: `ssconf.py`, `_MAX_SIZE`).
const SSCONF_LIMIT: u64 = 128 * 1024;

/// How much of its configuration is read for a cluster's UUID and name at first, in bytes: the
/// cluster's own part comes first, and has about 6 KB.
const ID_WITHIN: u64 = 64 * 1024;

/// Why the cluster's word is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("{path} {error}")]
pub struct SsconfError {
    path: PathBuf,
    error: String,
}

/// The cluster as seen from its data directory. A file that has not changed is not read twice.
#[derive(Clone, Debug)]
pub struct Cluster {
    data_dir: PathBuf,
    master: Kept<Option<String>>,
    name: Kept<Option<String>>,
    id: Kept<Option<ClusterId>>,
}

impl Cluster {
    /// The cluster with this data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            master: Kept::default(),
            name: Kept::default(),
            id: Kept::default(),
        }
    }

    /// The master's name; `None` when this node belongs to no cluster, or to one that is
    /// being destroyed.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn master(&mut self) -> Result<Option<String>, SsconfError> {
        let master = value(&self.data_dir, MASTER_NODE, &mut self.master)?;
        Ok(master.filter(|name| name != NO_MASTER))
    }

    /// What every hook is told about the cluster with this master; what cannot be read is
    /// left out.
    pub fn facts(&mut self, master: Option<String>) -> ClusterFacts {
        ClusterFacts {
            data_dir: self.data_dir.display().to_string(),
            name: value(&self.data_dir, CLUSTER_NAME, &mut self.name).unwrap_or_default(),
            master,
        }
    }

    /// Which cluster it is, by its configuration as this node has it; `None` where there is none
    /// that can be read.
    pub fn id(&mut self) -> Option<ClusterId> {
        let path = self.data_dir.join(configuration::FILE);
        let identity = Identity::of(&path.symlink_metadata().ok()?);
        if let Some(id) = self.id.get(&identity) {
            return id.clone();
        }
        let id = id_in(&path).map(|(uuid, name)| ClusterId { uuid: uuid.into(), name });
        self.id.keep(identity, id.clone());
        id
    }

    /// The number of nodes that are not marked offline; 0 when it is not known.
    pub fn online_nodes(&self) -> usize {
        let nodes = text(&self.data_dir.join(ONLINE_NODES)).unwrap_or_default().unwrap_or_default();
        nodes.lines().filter(|line| !line.trim().is_empty()).count()
    }
}

/// The cluster's UUID and name in a configuration. Ganeti writes it anew at every change, and it may
/// have many megabytes: they are read only where its beginning does not say them.
fn id_in(path: &Path) -> Option<(String, String)> {
    let head = regular_file::head(path, ID_WITHIN).ok().flatten()?;
    config::cluster_id(&head).or_else(|| {
        let whole = regular_file::read(path, configuration::SIZE_LIMIT).ok().flatten()?;
        config::cluster_id(&whole)
    })
}

/// The name in a ssconf file; `None` when there is none.
fn value(
    data_dir: &Path,
    name: &str,
    kept: &mut Kept<Option<String>>,
) -> Result<Option<String>, SsconfError> {
    let path = data_dir.join(name);
    let identity = path.symlink_metadata().ok().map(|metadata| Identity::of(&metadata));
    if let Some(value) = identity.and_then(|identity| kept.get(&identity)) {
        return Ok(value.clone());
    }
    let text = text(&path)?.unwrap_or_default();
    let value = ssconf::name(&text).map_err(|error| SsconfError { path, error: error.to_string() })?;
    let value = value.map(str::to_owned);
    if let Some(identity) = identity {
        kept.keep(identity, value.clone());
    }
    Ok(value)
}

/// A ssconf file; `None` when there is none.
fn text(path: &Path) -> Result<Option<String>, SsconfError> {
    let text = match regular_file::read(path, SSCONF_LIMIT) {
        Ok(Some(bytes)) => {
            String::from_utf8(bytes).map_err(|_| "cannot be read: it is not UTF-8 text".to_owned())
        }
        Ok(None) => return Ok(None),
        Err(error) => Err(error.to_string()),
    };
    text.map(Some).map_err(|error| SsconfError { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_known_by_the_beginning_of_its_configuration() {
        const UUID: &str = "0a1b2c3d-0000-4000-8000-000000000001";
        let dir = tempfile::tempdir().unwrap();
        let id = |text: String| {
            std::fs::write(dir.path().join(configuration::FILE), text).unwrap();
            Cluster::new(dir.path()).id().map(|id| (id.uuid.to_string(), id.name))
        };
        let cluster = format!(r#""cluster":{{"cluster_name":"c.example","tags":[],"uuid":"{UUID}"}}"#);
        let padding = format!(r#""nodes":{{"x":"{}"}}"#, "x".repeat(ID_WITHIN as usize));
        let known = Some((UUID.to_owned(), "c.example".to_owned()));
        assert_eq!(id(format!(r#"{{"version":3000000,{cluster},{padding}}}"#)), known);
        // What comes after it is not looked at, in whatever state it is.
        assert_eq!(id(format!(r#"{{"version":3000000,{cluster},{}"#, &padding[..40])), known);
        // It need not come first.
        assert_eq!(id(format!("{{{padding},{cluster}}}")), known);
        assert_eq!(id(format!("{{{padding}}}")), None);
        assert_eq!(id("[]".to_owned()), None);
    }
}
