//! ssconf files: what Ganeti writes of the cluster for its nodes, one value a line (Ganeti:
//! `ssconf.py`).

use super::text::{is_plain, plain};

/// What the file with the master's name says while a cluster is being destroyed (Ganeti:
/// `src/Ganeti/WConfd/Ssconf.hs`, `mkSSConf`).
pub const NO_MASTER: &str = "NO MASTER";

/// The longest name of a node or a cluster, in bytes (RFC 1035).
pub const NAME_MAX: usize = 255;

/// Bytes of a line that is no name that are quoted.
const QUOTE_MAX: usize = 64;

/// A line that is no name.
#[derive(Debug, thiserror::Error)]
#[error("begins with \"{}\", which is no name; gnt-cluster redist-conf writes it anew", plain(.0, QUOTE_MAX))]
pub struct NoName(String);

/// The name in the first line of such a file; `None` where that is empty.
///
/// # Errors
/// When there is something else.
pub fn name(text: &str) -> Result<Option<&str>, NoName> {
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) if !is_name(line) => Err(NoName(line.to_owned())),
        line => Ok(line),
    }
}

/// Whether a text can be the name of a node or a cluster: it fits into a variable and into a line.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_a_name_or_there_is_none() {
        assert_eq!(name("node1.example.com\nx\0\n").unwrap(), Some("node1.example.com"));
        assert_eq!(name(" NO MASTER \r\n").unwrap(), Some(NO_MASTER));
        assert_eq!(name("\nx").unwrap(), None);
        assert_eq!(name("").unwrap(), None);
        assert!(name(&"x".repeat(NAME_MAX)).is_ok());
    }

    #[test]
    fn what_no_node_can_be_called_is_no_name() {
        for bad in ["a\0b", "a\u{1b}[31mb", "a\u{2066}b", &"x".repeat(NAME_MAX + 1)] {
            let error = name(bad).unwrap_err().to_string();
            assert!(error.len() < 160 && error.chars().all(is_plain), "{error}");
        }
        assert!(!is_name("") && is_name("x"));
    }
}
