//! What the cluster says of itself: ssconf files in Ganeti's data directory, and its
//! configuration.

mod configuration;
mod wconfd;

pub use configuration::{Configuration, Found, Source};

use std::io;
use std::path::{Path, PathBuf};

use crate::hook::plan::ClusterFacts;
use crate::regular_file::{self, ReadError};

/// The file with the master's name (Ganeti: `ssconf.py`, `SS_MASTER_NODE`).
pub const MASTER_NODE: &str = "ssconf_master_node";

/// What stands in it while a cluster is being destroyed (Ganeti:
/// `src/Ganeti/WConfd/Ssconf.hs`, `mkSSConf`).
const NO_MASTER: &str = "NO MASTER";

/// The file with the cluster's name (Ganeti: `ssconf.py`, `SS_CLUSTER_NAME`).
const CLUSTER_NAME: &str = "ssconf_cluster_name";

/// The file with the names of the nodes that are not offline, one a line (Ganeti:
/// `ssconf.py`, `SS_ONLINE_NODES`).
pub const ONLINE_NODES: &str = "ssconf_online_nodes";

/// The largest ssconf file, in bytes (Ganeti: `ssconf.py`, `_MAX_SIZE`).
const SSCONF_LIMIT: u64 = 128 * 1024;

/// Why the cluster's word is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("{path} {error}")]
pub struct SsconfError {
    path: PathBuf,
    error: ReadError,
}

/// The cluster as seen from its data directory.
#[derive(Clone, Debug)]
pub struct Cluster {
    data_dir: PathBuf,
}

impl Cluster {
    /// The cluster with this data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// The master's name; `None` when this node belongs to no cluster, or to one that is
    /// being destroyed.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn master(&self) -> Result<Option<String>, SsconfError> {
        Ok(self.value(MASTER_NODE)?.filter(|name| name != NO_MASTER))
    }

    /// What every hook is told about the cluster with this master; what cannot be read is
    /// left out.
    pub fn facts(&self, master: Option<String>) -> ClusterFacts {
        ClusterFacts {
            data_dir: self.data_dir.display().to_string(),
            name: self.value(CLUSTER_NAME).unwrap_or_default(),
            master,
        }
    }

    /// The number of nodes that are not marked offline; 0 when it is not known.
    pub fn online_nodes(&self) -> usize {
        let nodes = self.text(ONLINE_NODES).unwrap_or_default().unwrap_or_default();
        nodes.lines().filter(|line| !line.trim().is_empty()).count()
    }

    /// The first line of a ssconf file; `None` when there is none.
    fn value(&self, name: &str) -> Result<Option<String>, SsconfError> {
        let text = self.text(name)?.unwrap_or_default();
        Ok(text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned))
    }

    /// A ssconf file; `None` when there is none.
    fn text(&self, name: &str) -> Result<Option<String>, SsconfError> {
        let path = self.data_dir.join(name);
        let text = match regular_file::read(&path, SSCONF_LIMIT) {
            Ok(Some(bytes)) => {
                String::from_utf8(bytes).map_err(|_| ReadError::Io(io::Error::other("it is not UTF-8 text")))
            }
            Ok(None) => return Ok(None),
            Err(error) => Err(error),
        };
        text.map(Some).map_err(|error| SsconfError { path, error })
    }
}

/// This system's name, by which Ganeti knows the node (Ganeti: `netutils.py`,
/// `Hostname.GetSysName`).
pub fn system_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
