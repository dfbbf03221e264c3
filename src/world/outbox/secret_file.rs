//! The file of an outbox's secrets: nobody else may read or write it.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::geteuid;

use crate::engine::outbox::signature::Secrets;
use crate::world::regular_file;

/// The largest such file, in bytes.
const LIMIT: u64 = 16 * 1024;

/// What others may be able to do.
const OTHERS: u32 = 0o077;

/// The secrets in a file that is root's (or our own user's) alone.
///
/// # Errors
/// What is wrong with the file, and what to do about it; nothing of what stands in it.
pub fn secrets(path: &Path) -> Result<Secrets, String> {
    let shown = path.display();
    let Some((file, metadata)) = regular_file::open(path).map_err(|error| format!("{shown} {error}"))? else {
        return Err(format!(
            "{shown} does not exist; write a secret into it: (umask 077; (printf whsec_; openssl rand -base64 32) > {shown})"
        ));
    };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(format!("{shown} is owned by user {owner}; only root may own it: chown root {shown}"));
    }
    if mode & OTHERS != 0 {
        return Err(format!("{shown} is open to others (mode {mode:04o}): chmod 600 {shown}"));
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    Secrets::parse(&text).map_err(|error| format!("{shown} {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(secrets(&path).unwrap_err().contains("does not exist"));
        fs::write(&path, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        for (mode, is_good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(secrets(&path).is_ok(), is_good, "{mode:o}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(secrets(&link).unwrap_err().contains("symbolic link"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "hunter2").unwrap();
        let error = secrets(&path).unwrap_err();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
    }
}
