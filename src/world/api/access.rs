//! Who may ask through the socket: root and the daemon's user all that there is, the members of a
//! group what changes nothing.
//!
//! The socket's mode keeps others out (unix(7)); who is at the other end of a connection the kernel
//! tells.

use std::ffi::{CStr, CString};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{io, ptr};

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, geteuid};

use super::SOCKET;

/// The most bytes of an entry of the group database that are read: the names of its members.
const ENTRY_MAX: usize = 1024 * 1024;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Root, or the daemon's own user: all that there is.
    Owner,
    /// A member of the group: what changes nothing.
    Reader,
}

impl Peer {
    /// As the kernel tells it.
    pub fn of(stream: &UnixStream) -> Self {
        let is_owner = |uid: Uid| uid.is_root() || uid == geteuid();
        match socket_peercred(stream) {
            Ok(peer) if is_owner(peer.uid) => Self::Owner,
            _ => Self::Reader,
        }
    }

    /// How many of so many places such may have together; some stay free for the owner.
    pub fn share_of(self, places: usize) -> usize {
        match self {
            Self::Owner => places,
            Self::Reader => places - places / 4,
        }
    }
}

/// Lets the members of this group connect to the socket in the run directory; nobody but its owner
/// where the name is empty. To look a group up may take long (nsswitch.conf(5)).
///
/// # Errors
/// Which group there is not, or what cannot be changed; nobody but its owner may connect then.
pub fn let_in(run_dir: &Path, group: &str) -> Result<(), String> {
    let socket = run_dir.join(SOCKET);
    let set = |path: &Path, mode, gid| {
        let set = chown(path, None, gid)
            .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)));
        set.map_err(|error| format!("api.group: {}: {error}", path.display()))
    };
    if group.is_empty() {
        return set(&socket, 0o600, None);
    }
    let gid = match gid_of(group) {
        Ok(Some(gid)) => gid,
        other => {
            set(&socket, 0o600, None)?;
            let why =
                other.err().map_or_else(|| "there is no such group".to_owned(), |error| error.to_string());
            return Err(format!(
                "api.group: {group}: {why}; only root may ask. Make the group or mend hookd.toml, and \
                 `systemctl reload ganeti-hookd`"
            ));
        }
    };
    // To pass through the directory, not to see what is in it.
    set(run_dir, 0o710, Some(gid))?;
    set(&socket, 0o660, Some(gid))
}

/// The number of a group; `None` where there is none of this name.
///
/// # Errors
/// When the group database cannot be read.
#[expect(unsafe_code, reason = "rustix has nothing that asks the group database")]
pub fn gid_of(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let mut buffer = vec![0; 1024];
    loop {
        // SAFETY: `group` is plain data for which zeros are a value, and is read only when the call
        // says that it has been filled in.
        let mut group: libc::group = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        let name: &CStr = &name;
        // SAFETY: all pointers are valid for the length of the call, the buffer for as many bytes as is
        // said, and nothing that points into it is used afterwards.
        let code = unsafe {
            libc::getgrnam_r(name.as_ptr(), &raw mut group, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        match code {
            0 => return Ok((!found.is_null()).then_some(group.gr_gid)),
            libc::ERANGE if buffer.len() < ENTRY_MAX => buffer.resize(buffer.len() * 4, 0),
            // What some databases say of a name that is not there (getgrnam(3)).
            libc::ENOENT | libc::ESRCH => return Ok(None),
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        assert_eq!(gid_of("root").unwrap(), Some(0));
        for none in ["there-is-no-such-group", "", "a\0b"] {
            assert_eq!(gid_of(none).unwrap(), None, "{none:?}");
        }
    }

    #[test]
    fn whoever_is_of_our_user_may_do_all() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&here), Peer::Owner);
        assert_eq!((Peer::Owner.share_of(64), Peer::Reader.share_of(64)), (64, 48));
    }
}
