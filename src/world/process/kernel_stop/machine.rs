//! What of the program depends on the processor: the system calls that rename a file, and
//! where the kernel keeps their arguments.

/// A processor's architecture, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    /// The system calls that rename a file.
    pub renames: &'static [Rename],
    /// Where `struct pt_regs` has a kernel function's first argument.
    pub first_argument: i16,
    /// Where it has a process's stack pointer.
    pub stack_pointer: i16,
    /// Where it has the address of a process's next instruction.
    pub program_counter: i16,
}

/// A system call that renames a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Rename {
    /// Its number.
    pub number: i32,
    /// The kernel's function for it. It takes one argument: the `struct pt_regs` with what
    /// the process had in its registers.
    pub function: &'static str,
    /// Where that `struct pt_regs` has the new name.
    pub new_name: i16,
}

/// amd64. Linux: arch/x86/entry/syscalls/syscall_64.tbl; arch/x86/include/asm/ptrace.h,
/// `struct pt_regs`, in which RSI is the second argument of a system call and R10 the
/// fourth (syscall(2)), and RDI the first of a function.
#[cfg_attr(not(any(test, target_arch = "x86_64")), expect(dead_code, reason = "another machine's"))]
pub const AMD64: Machine = Machine {
    renames: &[
        Rename { number: 82, function: "__x64_sys_rename", new_name: 13 * 8 },
        Rename { number: 264, function: "__x64_sys_renameat", new_name: 7 * 8 },
        Rename { number: 316, function: "__x64_sys_renameat2", new_name: 7 * 8 },
    ],
    first_argument: 14 * 8,
    stack_pointer: 19 * 8,
    program_counter: 16 * 8,
};

/// arm64, which has no `rename`. Linux: include/uapi/asm-generic/unistd.h;
/// arch/arm64/include/asm/ptrace.h, `struct pt_regs`, which begins with X0, X1, ..., X30, SP, PC: X3 is
/// the fourth argument of a system call (syscall(2)), X0 the first of a function.
#[cfg_attr(not(any(test, target_arch = "aarch64")), expect(dead_code, reason = "another machine's"))]
pub const ARM64: Machine = Machine {
    renames: &[
        Rename { number: 38, function: "__arm64_sys_renameat", new_name: 3 * 8 },
        Rename { number: 276, function: "__arm64_sys_renameat2", new_name: 3 * 8 },
    ],
    first_argument: 0,
    stack_pointer: 31 * 8,
    program_counter: 32 * 8,
};

/// The machine that this program is for; `None` where nobody has tried.
#[cfg(target_arch = "x86_64")]
pub const HERE: Option<&Machine> = Some(&AMD64);
/// The machine that this program is for; `None` where nobody has tried.
#[cfg(target_arch = "aarch64")]
pub const HERE: Option<&Machine> = Some(&ARM64);
/// The machine that this program is for; `None` where nobody has tried.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const HERE: Option<&Machine> = None;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_c_library_agrees() {
        let numbers: Vec<i64> = AMD64.renames.iter().map(|rename| rename.number.into()).collect();
        assert_eq!(numbers, [libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2]);
        // The registers as ptrace(2) shows them, which is how pt_regs begins.
        let new_names: Vec<i16> = AMD64.renames.iter().map(|rename| rename.new_name).collect();
        let [rsi, r10] = [
            std::mem::offset_of!(libc::user_regs_struct, rsi),
            std::mem::offset_of!(libc::user_regs_struct, r10),
        ]
        .map(|offset| offset as i16);
        assert_eq!(new_names, [rsi, r10, r10]);
        assert_eq!(AMD64.first_argument as usize, std::mem::offset_of!(libc::user_regs_struct, rdi));
        assert_eq!(AMD64.stack_pointer as usize, std::mem::offset_of!(libc::user_regs_struct, rsp));
        assert_eq!(AMD64.program_counter as usize, std::mem::offset_of!(libc::user_regs_struct, rip));
    }

    #[test]
    fn arm64_has_no_rename() {
        let calls: Vec<_> = ARM64.renames.iter().map(|rename| (rename.number, rename.new_name)).collect();
        assert_eq!(calls, [(38, 24), (276, 24)]);
    }
}
