//! A small file system of its own. Mounting needs root, as these tests do.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, until dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts one of this size over a directory.
    pub fn over(dir: &Path, size: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "hookd-test"])
            .arg(dir)
            .output()
            .unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "these tests mount file systems, and must run as root: {why}");
        Self(dir.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
