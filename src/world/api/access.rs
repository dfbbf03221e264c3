//! Who may ask through the socket: root and the daemon's user all that there is, the members of a
//! group what changes nothing.
//!
//! The socket's mode keeps others out (unix(7)); who is at the other end of a connection the kernel
//! tells.

use std::ffi::{CStr, CString};
use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{io, ptr};

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Uid, geteuid};

use super::SOCKET;

/// The most bytes of an entry of the group database that are read: the names of its members.
const ENTRY_MAX: usize = 1024 * 1024;

/// What a mode lets the group do.
const GROUP: u32 = 0o070;

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

/// Which group this is. To look it up may take long (nsswitch.conf(5)).
///
/// # Errors
/// Why it is not known, and what to do.
pub fn look_up(group: &str) -> Result<u32, String> {
    let why = match gid_of(group) {
        Ok(Some(gid)) => return Ok(gid),
        Ok(None) => "there is no such group".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "api.group: {group}: {why}; only root may ask. Make the group or mend hookd.toml, and \
         `systemctl reload ganeti-hookd`"
    ))
}

/// Lets the members of this group connect to the socket in the run directory, and pass through that
/// to it, not see what is in it. A directory that others may pass through is left alone, and
/// what another group may do there is not for this one.
///
/// # Errors
/// What cannot be changed.
pub fn let_in(run_dir: &Path, gid: u32) -> Result<(), String> {
    let metadata = metadata_of(run_dir)?;
    let mode = mode_of(&metadata);
    if mode & 0o001 == 0 {
        let before = if metadata.gid() == gid { mode } else { mode & !GROUP };
        set(run_dir, before | 0o010, Some(gid))?;
    }
    set(&run_dir.join(SOCKET), 0o660, Some(gid))
}

/// Lets nobody but the owner connect any more. The directory is closed, too, if it is as
/// [`let_in`] leaves one of ours.
///
/// # Errors
/// What cannot be changed.
pub fn shut(run_dir: &Path) -> Result<(), String> {
    set(&run_dir.join(SOCKET), 0o600, None)?;
    if mode_of(&metadata_of(run_dir)?) == 0o710 { set(run_dir, 0o700, None) } else { Ok(()) }
}

fn metadata_of(path: &Path) -> Result<Metadata, String> {
    path.metadata().map_err(|error| cannot(path, &error))
}

fn mode_of(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

/// Gives it this mode and this group. At no moment may a group do what another one may.
fn set(path: &Path, mode: u32, gid: Option<u32>) -> Result<(), String> {
    let change = |mode| fs::set_permissions(path, Permissions::from_mode(mode));
    let is_others = |gid: &u32| path.metadata().map_or(true, |metadata| metadata.gid() != *gid);
    let owned = match gid.filter(is_others) {
        Some(gid) => change(mode & !GROUP).and_then(|()| chown(path, None, Some(gid))),
        None => Ok(()),
    };
    owned.and_then(|()| change(mode)).map_err(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &io::Error) -> String {
    format!("api.group: {}: {error}", path.display())
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
    fn a_directory_is_opened_no_further_than_need_be_and_closed_again() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        fs::write(run_dir.join(SOCKET), "").unwrap();
        let gid = run_dir.metadata().unwrap().gid();
        let modes =
            || [run_dir.join(SOCKET), run_dir.clone()].map(|path| mode_of(&metadata_of(&path).unwrap()));
        let tried = |gid, before| {
            fs::set_permissions(&run_dir, Permissions::from_mode(before)).unwrap();
            let_in(&run_dir, gid).unwrap();
            let is_open = modes();
            shut(&run_dir).unwrap();
            (is_open, modes())
        };
        // Before, while a group is let in, after.
        for [before, open, shut] in [[0o700, 0o710, 0o700], [0o750; 3], [0o755; 3], [0o1777; 3]] {
            assert_eq!(tried(gid, before), ([0o660, open], [0o600, shut]), "{before:o}");
        }
        // Another one than the directory's: who is not root has none to give it to.
        if geteuid().is_root() {
            for (other, [before, open, shut]) in
                [(gid + 1, [0o750, 0o710, 0o700]), (gid + 2, [0o770, 0o710, 0o700]), (gid + 3, [0o755; 3])]
            {
                assert_eq!(tried(other, before), ([0o660, open], [0o600, shut]), "{before:o}");
            }
        }
    }

    #[test]
    fn whoever_is_of_our_user_may_do_all() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&here), Peer::Owner);
        assert_eq!((Peer::Owner.share_of(64), Peer::Reader.share_of(64)), (64, 48));
    }
}
