//! This node's name, as Ganeti knows the node: the full name that the system's own name stands
//! for, in lower case (Ganeti: `netutils.py`, `Hostname.GetFqdn`; Python: `socket.getfqdn`). The
//! system's own name may well be a short one, and `/etc/hosts` or DNS may come to know the full
//! one later than we start.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::{NODE_LIST, text};
use crate::world::{failpoints, panics};

/// How long the answer is waited for where nothing can go on without it. The resolver may take
/// longer than that (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_secs(10);

/// The name as the system tells it now; its own where nobody tells the full one in time.
pub fn own_name() -> String {
    let (sender, answer) = mpsc::channel();
    let asking = ask(move |name| drop(sender.send(name)));
    let name = asking.ok().and_then(|()| answer.recv_timeout(PATIENCE).ok());
    name.unwrap_or_else(|| system_name().to_lowercase())
}

/// Asks for the name on a thread of its own, since that may take long, and tells it.
///
/// # Errors
/// When there is no thread to be had.
pub fn ask(tell: impl FnOnce(String) + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("own-name".to_owned()).spawn(move || {
        let system = system_name();
        // Whoever asked does not ask again before there is an answer.
        let names = panics::caught(|| {
            failpoints::defect("own-name");
            names_of(&system)
        });
        tell(full_name(system, names.unwrap_or_default()).to_lowercase());
    })?;
    Ok(())
}

/// Why it cannot be known whether this node, by this name, is the master of that one; `None`
/// when it can.
pub fn doubt(data_dir: &Path, name: &str, master: &str) -> Option<String> {
    if name == master {
        return None;
    }
    let what = match text(&data_dir.join(NODE_LIST)) {
        Ok(Some(nodes)) if nodes.lines().any(|node| node.trim() == name) => return None,
        Ok(Some(_)) => format!("{name} is none of the cluster's nodes ({NODE_LIST})"),
        _ if name.contains('.') => return None,
        _ => format!("{name} is no full name"),
    };
    Some(format!(
        "nobody can tell which node this is: {what}; hostname --fqdn has to print the node's name as Ganeti \
         has it (/etc/hosts, DNS), or set master.name"
    ))
}

/// Calls `handler` whenever the system is given another name, on a thread of its own (Linux:
/// `kernel/utsname_sysctl.c`, the file can be polled).
///
/// # Errors
/// When there is no such file or no thread to be had.
pub fn watch(mut handler: impl FnMut() + Send + 'static) -> io::Result<()> {
    let name = File::open("/proc/sys/kernel/hostname")?;
    thread::Builder::new().name("hostname".to_owned()).spawn(move || {
        loop {
            match poll(&mut [PollFd::new(&name, PollFlags::PRI)], None) {
                Ok(_) => panics::insist(|| {
                    failpoints::defect("hostname");
                    handler();
                }),
                Err(Errno::INTR) => {}
                Err(errno) => return log::error!("cannot wait for another name of the system: {errno}"),
            }
        }
    })?;
    Ok(())
}

/// What the system calls itself (uname(2)).
fn system_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The first of a host's names that is a full one; its first where none is, and the system's own
/// where there are none.
fn full_name(system: String, names: Vec<String>) -> String {
    let full = names.iter().position(|name| name.contains('.')).unwrap_or_default();
    names.into_iter().nth(full).unwrap_or(system)
}

/// All names of the address that a name stands for, the official one first.
fn names_of(name: &str) -> Vec<String> {
    let address = (name, 0).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    match address.map(|address| address.ip()) {
        Some(IpAddr::V4(ip)) => names_of_address(&ip.octets(), libc::AF_INET),
        Some(IpAddr::V6(ip)) => names_of_address(&ip.octets(), libc::AF_INET6),
        None => Vec::new(),
    }
}

#[expect(unsafe_code, reason = "the C library's function; libc does not declare it")]
unsafe extern "C" {
    fn gethostbyaddr_r(
        address: *const c_void,
        length: libc::socklen_t,
        family: c_int,
        host: *mut libc::hostent,
        buffer: *mut c_char,
        size: libc::size_t,
        found: *mut *mut libc::hostent,
        error: *mut c_int,
    ) -> c_int;
}

/// All names of an address (gethostbyaddr_r(3)); none when they take more than 64 KiB.
fn names_of_address(address: &[u8], family: c_int) -> Vec<String> {
    let mut buffer: Vec<c_char> = vec![0; 64 * 1024];
    let mut names = Vec::new();
    // SAFETY: all pointers are to values that live longer than the call, with their lengths. What
    // is found is null or points to `host`, whose name and null-ended list of names are in
    // `buffer`, which is not changed while they are read.
    #[expect(unsafe_code, reason = "no crate here has it")]
    unsafe {
        let mut host: libc::hostent = std::mem::zeroed();
        let (mut found, mut error) = (std::ptr::null_mut(), 0);
        let length = libc::socklen_t::try_from(address.len()).unwrap_or_default();
        let (size, at) = (buffer.len(), buffer.as_mut_ptr());
        let address = address.as_ptr().cast();
        let code = gethostbyaddr_r(address, length, family, &mut host, at, size, &mut found, &mut error);
        if code != 0 || found.is_null() {
            return names;
        }
        let name = |text: *const c_char| CStr::from_ptr(text).to_string_lossy().into_owned();
        names.push(name(host.h_name));
        let mut alias = host.h_aliases;
        while !alias.is_null() && !(*alias).is_null() {
            names.push(name(*alias));
            alias = alias.add(1);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_name_is_the_first_that_has_a_dot() {
        for (names, expected) in [
            (&["alpha.example.org", "alpha"][..], "alpha.example.org"),
            (&["alpha", "alpha.example.org", "alpha.example.com"], "alpha.example.org"),
            (&["beta", "alpha"], "beta"),
            (&[], "system"),
        ] {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(full_name("system".to_owned(), names), expected);
        }
    }

    #[test]
    fn the_resolver_is_asked() {
        // /etc/hosts has it on every machine, whatever else it has.
        let names = names_of_address(&[127, 0, 0, 1], libc::AF_INET);
        assert!(names.iter().any(|name| name.starts_with("localhost")), "{names:?}");
        assert_eq!(names_of(""), [""; 0]);
    }

    #[test]
    fn a_name_that_no_node_has_is_doubtful() {
        let dir = tempfile::tempdir().unwrap();
        let doubt = |name| doubt(dir.path(), name, "alpha.example.org");
        assert_eq!((doubt("alpha.example.org"), doubt("beta.example.org")), (None, None));
        assert!(doubt("alpha").unwrap().contains("alpha is no full name"));
        std::fs::write(dir.path().join(NODE_LIST), "alpha.example.org\nbeta.example.org\n").unwrap();
        assert_eq!(doubt("beta.example.org"), None);
        assert!(doubt("alpha.local").unwrap().contains("none of the cluster's nodes"));
    }
}
