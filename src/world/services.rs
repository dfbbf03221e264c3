//! Ports that the administrator may have changed (services(5)).

use std::path::Path;

use super::regular_file;

/// Where ports are named.
const SERVICES: &str = "/etc/services";

/// The largest file of this kind that is read, in bytes.
const LIMIT: u64 = 4 * 1024 * 1024;

/// The TCP port of a service, or the usual one where the system does not name it (Ganeti:
/// `netutils.py`, `GetDaemonPort`).
pub fn tcp_port(service: &str, usual: u16) -> u16 {
    let services = regular_file::read(Path::new(SERVICES), LIMIT).ok().flatten().unwrap_or_default();
    port_in(&String::from_utf8_lossy(&services), service).unwrap_or(usual)
}

/// The first TCP port of this name or alias in a text of lines `NAME PORT/PROTOCOL ALIAS...`.
pub fn port_in(services: &str, service: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (name, port) = (words.next()?, words.next()?);
        let port = port.strip_suffix("/tcp")?.parse().ok()?;
        (name == service || words.any(|alias| alias == service)).then_some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_name_and_alias() {
        let services = "# ganeti-noded 1/tcp\nganeti-noded\t1898/udp\nganeti-noded 1899/tcp # ours\n\
                        other 70000/tcp ganeti-noded\nnoded 7/tcp x ganeti-alias\nganeti-noded 1900/tcp\n";
        assert_eq!(port_in(services, "ganeti-noded"), Some(1899));
        assert_eq!(port_in(services, "ganeti-alias"), Some(7));
        assert_eq!((port_in(services, "ganeti-nod"), port_in("", "x")), (None, None));
        assert_eq!(tcp_port("no service of this name", 1811), 1811);
    }
}
