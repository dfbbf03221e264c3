//! Why the kernel cannot stop processes for us, in words.

use std::io;

use rustix::io::Errno;

/// Where the kernel says whether it is locked down (kernel_lockdown(7)).
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Why exact hold is not to be had, or failed: for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub(super) String);

/// The kernel said no to a call.
pub(super) fn refused(call: &str, error: &io::Error) -> Reason {
    let hint = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => not_permitted(std::fs::read_to_string(LOCKDOWN).ok().as_deref()),
        Some(Errno::NOSYS) => "; the kernel has none (CONFIG_BPF_SYSCALL, CONFIG_PERF_EVENTS)",
        Some(Errno::TOOBIG) => "; too many processes are armed",
        Some(Errno::NOTSUP | Errno::INVAL | Errno::NODEV | Errno::NOENT) => {
            "; the kernel does not know this way"
        }
        _ => "",
    };
    // ENOTSUPP, which is only the kernel's own and has no words.
    let error = if error.raw_os_error() == Some(524) { "not supported" } else { &error.to_string() };
    Reason(format!("{call}: {error}{hint}"))
}

/// Why a call is not permitted: `lockdown` is what the kernel says of that.
fn not_permitted(lockdown: Option<&str>) -> &'static str {
    if lockdown.is_some_and(|text| text.contains("[confidentiality]")) {
        "; the kernel is locked down (confidentiality)"
    } else {
        "; needs CAP_BPF and CAP_PERFMON, and in a container a system call filter that lets \
         bpf and perf_event_open pass"
    }
}

/// The verifier did not like a program: its last words.
pub(super) fn rejected(error: &io::Error, log: &[u8]) -> Reason {
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let words = |line: &&str| !line.trim().is_empty() && !line.starts_with("processed ");
    match text.lines().rfind(words) {
        Some(line) => Reason(format!("the kernel refuses the program: {} ({error})", line.trim())),
        None => refused("bpf(2)", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_last_words_are_told() {
        let error = io::Error::from(Errno::INVAL);
        let log = b"0: (85) call 113\nunknown func bpf_probe_read_kernel#113\nprocessed 9 insns\n\0\0";
        let words = rejected(&error, log).to_string();
        assert!(words.contains("unknown func bpf_probe_read_kernel#113 (Invalid argument"), "{words}");
        assert!(rejected(&error, &[0]).to_string().starts_with("bpf(2): Invalid argument"));
    }

    #[test]
    fn what_is_not_permitted_says_what_is_needed() {
        let words = refused("bpf(2)", &Errno::PERM.into()).to_string();
        assert!(words.contains("CAP_BPF") || words.contains("locked down"), "{words}");
        assert_eq!(
            refused("bpf(2)", &io::Error::from_raw_os_error(524)).to_string(),
            "bpf(2): not supported"
        );
        assert!(not_permitted(Some("none [integrity] confidentiality")).contains("CAP_BPF"));
        assert!(not_permitted(Some("none integrity [confidentiality]")).contains("locked down"));
    }
}
