//! Access control lists of files (acl(5)): who may write beside the owner and the world.
//!
//! Where a file has one, the group's bits of its mode are not the group's but the mask, the most
//! that anybody named in the list may do.

use std::io;
use std::path::Path;

use rustix::fs::lgetxattr;
use rustix::io::Errno;

/// The attribute that holds the list (Linux: `XATTR_NAME_POSIX_ACL_ACCESS`).
const ATTRIBUTE: &str = "system.posix_acl_access";

/// The most bytes of an attribute (Linux: `XATTR_SIZE_MAX`).
const SIZE_MAX: usize = 64 * 1024;

/// The layout that is known (Linux: `POSIX_ACL_XATTR_VERSION`).
const VERSION: u32 = 2;

/// Whom an entry of a list is for, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The user of this number.
    User(u32),
    /// The group of this number.
    Group(u32),
    /// The file's group.
    OwnGroup,
}

/// Those whom a file's list lets write, the owner and the world left out; `None` where there
/// is no list.
///
/// # Errors
/// When it cannot be read or understood.
pub fn writers(path: &Path) -> io::Result<Option<Vec<Who>>> {
    let mut list = vec![0; SIZE_MAX];
    let length = match lgetxattr(path, ATTRIBUTE, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let writers = list.get(..length).and_then(parse);
    writers.map(Some).ok_or_else(|| io::Error::other("its access control list is not understood"))
}

/// Those whom a list lets write (Linux: `struct posix_acl_xattr_header` and `_entry`, all
/// little-endian); `None` when it is no list that we know.
pub fn parse(list: &[u8]) -> Option<Vec<Who>> {
    const WRITE: u16 = 2;
    const MASK: u16 = 0x10;
    let (version, entries) = list.split_first_chunk()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let short = |entry: &[u8], at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
    let mut writers = Vec::new();
    let mut mask = WRITE;
    for entry in entries.chunks_exact(8) {
        let (tag, permissions) = (short(entry, 0), short(entry, 2));
        let id = u32::from(short(entry, 4)) | u32::from(short(entry, 6)) << 16;
        let who = match tag {
            MASK => {
                mask = permissions;
                continue;
            }
            0x02 => Who::User(id),
            0x04 => Who::OwnGroup,
            0x08 => Who::Group(id),
            // The owner and the world: the mode's bits are theirs.
            0x01 | 0x20 => continue,
            _ => return None,
        };
        if permissions & WRITE != 0 {
            writers.push(who);
        }
    }
    if mask & WRITE == 0 {
        writers.clear();
    }
    Some(writers)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A list as the kernel keeps it: tags, permissions, numbers.
    pub fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(permissions.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }

    #[test]
    fn who_may_write_is_named() {
        let named = [(1, 7, u32::MAX), (2, 6, 65_534), (2, 4, 7), (4, 5, u32::MAX), (8, 2, 100_000)];
        let with_mask = |mask| parse(&list(&[&named[..], &[(0x10, mask, u32::MAX), (0x20, 5, 0)]].concat()));
        assert_eq!(with_mask(7), Some(vec![Who::User(65_534), Who::Group(100_000)]));
        assert_eq!(with_mask(5), Some(vec![]));
        assert_eq!(parse(&list(&[(1, 7, 0), (4, 6, 0), (0x20, 4, 0)])), Some(vec![Who::OwnGroup]));
    }

    #[test]
    fn what_is_not_understood_is_no_list() {
        for bad in [&b""[..], &[3, 0, 0, 0], &[2, 0, 0, 0, 1], &list(&[(0x40, 7, 0)])] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
