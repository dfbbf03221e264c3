//! Whether a process stands where the kernel has stopped it.

use super::machine;
use crate::world::process::stat;

/// Whether a process is stopped by a signal and its first thread returns to this place: the
/// stack pointer and the address of the next instruction.
pub fn stands_at(pid: u32, stack_pointer: u64, program_counter: u64) -> bool {
    is_stopped(pid) && place(pid).is_some_and(|text| is_place(&text, [program_counter, stack_pointer]))
}

/// Whether a process is stopped by a signal and its first thread is in a system call that
/// renames a file (Linux: proc(5), `/proc/PID/syscall`). `false` also where that cannot be
/// told, and on arm64, whose kernel forgets the number when it stops a process (Linux:
/// arch/arm64/kernel/signal.c, `forget_syscall`). A job process publishes from its first thread (Ganeti: `jqueue/exec.py`, `main`).
pub fn standing_in_rename(pid: u32) -> bool {
    is_stopped(pid) && place(pid).is_some_and(|text| is_rename(&text))
}

/// The same, but `true` also of one that is stopped by a signal where it cannot be told.
pub fn may_stand_in_rename(pid: u32) -> bool {
    is_stopped(pid) && place(pid).is_none_or(|text| is_rename(&text))
}

/// Whether a process that is not stopped waits within a system call that renames a file; `None`
/// while it runs or waits for a processor, or where it cannot be told.
pub fn is_in_rename(pid: u32) -> Option<bool> {
    let text = place(pid).filter(|text| !text.starts_with("running"))?;
    Some(is_rename(&text))
}

fn is_stopped(pid: u32) -> bool {
    matches!(stat::read(pid), Ok(Some(stat)) if stat.state == b'T')
}

fn place(pid: u32) -> Option<String> {
    String::from_utf8(stat::read_at_once(pid, "syscall").ok()?).ok()
}

/// Whether a line ends so, from the end: program counter, stack pointer.
fn is_place(syscall: &str, place: [u64; 2]) -> bool {
    let fields = syscall.split_ascii_whitespace().rev().take(2);
    let values = fields.map(|field| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok());
    values.eq(place.map(Some))
}

/// `NUMBER ARGUMENTS... SP PC`, `-1 SP PC` outside of a system call, or `running`.
fn is_rename(syscall: &str) -> bool {
    let number = syscall.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    let renames = machine::HERE.map_or(&[][..], |machine| machine.renames);
    renames.iter().any(|rename| Some(rename.number) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_kernels_line_is_read() {
        assert!(is_rename("82 0x7ffd 0x7ffe 0x0 0x0 0x0 0x0 0x7ffc 0x7f00\n"));
        assert!(is_rename("264 0xffffff9c 0x7ffe"));
        assert!(!is_rename("1 0x1 0x7ffe"));
        assert!(!is_rename("-1 0x7ffd 0x7f00"));
        assert!(!is_rename("running"));
    }

    #[test]
    fn a_place_is_a_lines_end() {
        let line = "82 0x7ffd 0x7ffe 0x0 0x0 0x0 0x0 0x7ffc 0x7f00\n";
        assert!(is_place(line, [0x7f00, 0x7ffc]) && is_place("-1 0x7ffc 0x7f00", [0x7f00, 0x7ffc]));
        assert!(!is_place(line, [0x7f02, 0x7ffc]) && !is_place(line, [0x7f00, 0x7ff0]));
        assert!(!is_place("running\n", [0, 0]) && !is_place("", [0, 0]));
    }

    #[test]
    fn who_runs_does_not_stand() {
        assert!(!standing_in_rename(std::process::id()) && !may_stand_in_rename(std::process::id()));
        assert_eq!(is_in_rename(std::process::id()), Some(false));
        assert!(!standing_in_rename(u32::MAX));
    }
}
