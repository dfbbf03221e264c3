//! What was worked out from a file or directory, kept while that is the same.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use crate::engine::input::Stamp;
use crate::world::clock::now;

/// File systems tell the time of a change as coarsely as this, in seconds: most by the
/// kernel's tick (at most 10 ms), vfat by two seconds.
const COARSENESS: i64 = 2;

/// What tells a file from a later version of itself and from another file in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// The identity of what `stat` was asked of.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        is_settled(self.changed.0)
    }
}

/// Whether a change after this one, in seconds since the epoch, would be told by another time:
/// not when it was just now, or, after the clock was set back, is to come.
fn is_settled(changed: i64) -> bool {
    (now().as_micros() / 1_000_000).saturating_sub(changed) > COARSENESS
}

/// What tells this version of a file from others; `None` while that is too young.
pub fn stamp(metadata: &Metadata) -> Option<Stamp> {
    let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    is_settled(seconds).then(|| Stamp {
        inode: metadata.ino(),
        size: metadata.size(),
        changed: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
    })
}

/// A value, and the identity that its source had.
#[derive(Clone, Debug)]
pub struct Kept<T>(Option<(Identity, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Kept<T> {
    /// The value, if its source is still the same.
    pub fn get(&self, identity: &Identity) -> Option<&T> {
        self.0.as_ref().filter(|(kept, _)| kept == identity).map(|(_, value)| value)
    }

    /// Keeps what was read from a source that had this identity *before* it was read.
    pub fn keep(&mut self, identity: Identity, value: T) {
        self.0 = identity.is_settled().then_some((identity, value));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// The change time cannot be set; that of a file that was there long before can be had.
    fn settled() -> Identity {
        Identity::of(&fs::metadata("/proc/self/exe").unwrap())
    }

    #[test]
    fn what_has_just_changed_is_not_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let identity = Identity::of(&file.path().metadata().unwrap());
        let mut kept = Kept::default();
        kept.keep(identity, ());
        assert_eq!(kept.get(&identity), None);
        // Nor is what is from tomorrow, by a clock that was set back.
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let tomorrow = tomorrow.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        kept.keep(Identity { changed: (tomorrow.cast_signed(), 0), ..settled() }, ());
        assert_eq!(kept.get(&identity), None);
    }

    #[test]
    fn only_what_is_settled_has_a_stamp() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(stamp(&file.path().metadata().unwrap()), None);
        let old = fs::metadata("/proc/self/exe").unwrap();
        let stamped = stamp(&old).unwrap();
        assert_eq!((stamped.inode, stamped.size), (old.ino(), old.size()));
        assert_eq!(stamped.changed, old.ctime() * 1_000_000_000 + old.ctime_nsec());
    }

    #[test]
    fn a_value_is_kept_until_its_source_changes_in_any_way() {
        let long_ago = Identity { changed: (1, 0), ..settled() };
        let mut kept = Kept::default();
        kept.keep(long_ago, 7);
        assert_eq!(kept.get(&long_ago), Some(&7));
        for other in [
            Identity { device: long_ago.device + 1, ..long_ago },
            Identity { inode: long_ago.inode + 1, ..long_ago },
            Identity { size: long_ago.size + 1, ..long_ago },
            Identity { modified: (2, 0), ..long_ago },
            Identity { changed: (1, 1), ..long_ago },
        ] {
            assert_eq!(kept.get(&other), None);
        }
    }
}
