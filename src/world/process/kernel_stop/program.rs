//! The program that runs in the kernel when a process renames a file.
//!
//! ```text
//! tgid = the process's ID in our PID namespace        else leave
//! tgid is armed                                        else leave
//! name = the new name that it asks for
//! name is QUEUE/job-DIGITS, or cannot be read          else leave
//! delete tgid from the armed                           else leave (it was disarmed just now)
//! answer = send SIGSTOP to the process
//! signalled[tgid] = answer, stack pointer, address of the next instruction
//! ```
//!
//! A signal that is sent during a system call is delivered when the process returns from
//! it, so the rename is done and nothing after it. The deletion decides: whoever of the
//! program and [`disarm`](super::KernelStop::disarm) deletes the entry has its way, and one
//! arming gives one stop, whatever the process's threads do. A name that the kernel cannot
//! read without waiting (its page is not in memory) counts as a job's: to stop in vain can
//! be made good, not to stop cannot.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::Reason;
use super::assembler::Register::{self, R0, R1, R2, R3, R4, R6, R7, R8, R10};
use super::assembler::{Assembler, Helper, Size, When};
use super::attachment::Attachment;
use super::machine::{Machine, Rename};

/// The longest a job number is in decimal.
const DIGITS: usize = 20;

/// Room for the new name on the stack, which has 512 bytes.
const NAME_ROOM: i16 = 464;

/// The longest beginning of a job file's path that fits with its number and the final zero.
pub const LONGEST_PREFIX: usize = NAME_ROOM as usize - DIGITS - 1;

// Where things are on the stack, counted down from its upper end.
const TGID: i16 = 4;
const PID_AND_TGID: i16 = 8;
const ADDRESS: i16 = 16;
const PROGRAM_COUNTER: i16 = 24;
const STACK_POINTER: i16 = 32;
const ANSWER: i16 = 40;
const NAME: i16 = ANSWER + NAME_ROOM;

/// What the program is made for.
#[derive(Debug)]
pub struct Parameters<'a> {
    /// The processor.
    pub machine: &'static Machine,
    /// How job files' paths begin, up to their numbers: each form of the queue's path.
    pub prefixes: &'a [Vec<u8>],
    /// Our PID namespace: the device (the kernel's `dev_t`) and inode of `/proc/self/ns/pid`.
    pub namespace: (u64, u64),
    /// The map of the armed.
    pub armed: BorrowedFd<'a>,
    /// The map of those that the signal was sent to.
    pub signalled: BorrowedFd<'a>,
}

/// The program for an attachment, in bytes: for one of the renames, or for all of them
/// where the attachment sees all system calls.
///
/// # Errors
/// A label that is missing.
pub fn assemble(to: Attachment, rename: &Rename, parameters: &Parameters<'_>) -> Result<Vec<u8>, Reason> {
    let mut asm = Assembler::default();
    find_argument(&mut asm, to, rename, parameters.machine);
    leave_unless_armed(&mut asm, parameters);
    read_name(&mut asm);
    for (number, prefix) in parameters.prefixes.iter().enumerate() {
        compare_name(&mut asm, prefix, &format!("not-prefix-{number}"));
    }
    asm.jump("leave");
    stop(&mut asm, parameters);
    asm.label("leave");
    asm.set(R0, 0);
    asm.exit();
    asm.assemble()
}

/// R7 = where the kernel has the process's registers; R8 = where the one with the address of
/// the new name.
fn find_argument(asm: &mut Assembler, to: Attachment, rename: &Rename, machine: &Machine) {
    match to {
        // The context is an array of the function's arguments: here its only one.
        Attachment::Fentry => asm.load(Size::Double, R7, R1, 0),
        // The context is the pt_regs of the function.
        Attachment::Kprobe => asm.load(Size::Double, R7, R1, machine.first_argument),
        // The context is an array of the tracepoint's arguments: pt_regs, number
        // (Linux: include/trace/events/syscalls.h, sys_enter).
        Attachment::RawTracepoint => return find_argument_by_number(asm, machine),
    }
    asm.copy(R8, R7);
    asm.add(R8, rename.new_name.into());
}

fn find_argument_by_number(asm: &mut Assembler, machine: &Machine) {
    asm.load(Size::Double, R6, R1, 8);
    asm.load(Size::Double, R7, R1, 0);
    asm.copy(R8, R7);
    for rename in machine.renames {
        asm.jump_if(R6, When::Equal, rename.number, rename.function);
    }
    asm.jump("leave");
    for rename in machine.renames {
        asm.label(rename.function);
        asm.add(R8, rename.new_name.into());
        asm.jump("argument-found");
    }
    asm.label("argument-found");
}

/// Writes the process's ID to TGID.
fn leave_unless_armed(asm: &mut Assembler, parameters: &Parameters<'_>) {
    asm.set_wide(R1, parameters.namespace.0);
    asm.set_wide(R2, parameters.namespace.1);
    asm.address(R3, PID_AND_TGID);
    asm.set(R4, 8);
    asm.call(Helper::GetNsCurrentPidTgid);
    asm.jump_if(R0, When::Differs, 0, "leave");
    asm.set_map(R1, parameters.armed.as_raw_fd());
    asm.address(R2, TGID);
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, When::Equal, 0, "leave");
}

/// Writes the new name to NAME.
fn read_name(asm: &mut Assembler) {
    read_register(asm, R8, 0, ADDRESS);
    asm.jump_if(R0, When::Differs, 0, "leave");
    asm.address(R1, NAME);
    asm.set(R2, NAME_ROOM.into());
    asm.load(Size::Double, R3, R10, -ADDRESS);
    asm.call(Helper::ProbeReadUserStr);
    asm.jump_if(R0, When::SignedBelow, 0, "stop");
}

/// Writes a register of the process to the stack: the one at `from + offset`.
fn read_register(asm: &mut Assembler, from: Register, offset: i16, to: i16) {
    asm.address(R1, to);
    asm.set(R2, 8);
    asm.copy(R3, from);
    asm.add(R3, offset.into());
    asm.call(Helper::ProbeReadKernel);
}

/// Goes to `stop` if the name is the prefix with digits.
fn compare_name(asm: &mut Assembler, prefix: &[u8], otherwise: &str) {
    let mut at = -NAME;
    let mut rest = prefix;
    while !rest.is_empty() {
        let (size, length) = match rest.len() {
            8.. => (Size::Double, 8),
            4.. => (Size::Word, 4),
            2.. => (Size::Half, 2),
            _ => (Size::Byte, 1),
        };
        let (piece, after) = rest.split_at(length);
        let value = piece.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        asm.load(size, R1, R10, at);
        asm.set_wide(R2, value);
        asm.jump_if_register(R1, When::Differs, R2, otherwise);
        at += length as i16;
        rest = after;
    }
    for digit in 0..=DIGITS as i16 {
        asm.load(Size::Byte, R1, R10, at + digit);
        if digit > 0 {
            asm.jump_if(R1, When::Equal, 0, "stop");
        }
        asm.jump_if(R1, When::Below, i32::from(b'0'), otherwise);
        asm.jump_if(R1, When::Above, i32::from(b'9'), otherwise);
    }
    asm.label(otherwise);
}

fn stop(asm: &mut Assembler, parameters: &Parameters<'_>) {
    asm.label("stop");
    asm.set_map(R1, parameters.armed.as_raw_fd());
    asm.address(R2, TGID);
    asm.call(Helper::MapDelete);
    asm.jump_if(R0, When::Differs, 0, "leave");
    read_register(asm, R7, parameters.machine.stack_pointer, STACK_POINTER);
    read_register(asm, R7, parameters.machine.program_counter, PROGRAM_COUNTER);
    asm.set(R1, libc::SIGSTOP);
    asm.call(Helper::SendSignal);
    asm.store(Size::Double, R10, -ANSWER, R0);
    asm.set_map(R1, parameters.signalled.as_raw_fd());
    asm.address(R2, TGID);
    asm.address(R3, ANSWER);
    asm.set(R4, 0);
    asm.call(Helper::MapUpdate);
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::machine::{AMD64, ARM64};
    use super::*;

    /// The program's instructions, as numbers whose lowest byte is the opcode.
    fn code(machine: &'static Machine, to: Attachment, rename: usize, prefixes: &[&[u8]]) -> Vec<u64> {
        let map = std::fs::File::open("/dev/null").unwrap();
        let prefixes: Vec<Vec<u8>> = prefixes.iter().map(|prefix| prefix.to_vec()).collect();
        let (namespace, armed, signalled) = ((4, 0xf000_0001), map.as_fd(), map.as_fd());
        let parameters = Parameters { machine, prefixes: &prefixes, namespace, armed, signalled };
        let bytes = assemble(to, &machine.renames[rename], &parameters).unwrap();
        bytes.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    const COPY_R8_R7: u64 = 0x78bf;
    const ADD_R8: u64 = 0x0807;
    const ADD_R3: u64 = 0x0307;
    const LOAD_R7_R1: u64 = 0x1779;
    const LOAD_R6_R1: u64 = 0x1679;

    const fn offset(value: u64) -> u64 {
        value << 16
    }

    const fn immediate(value: u64) -> u64 {
        value << 32
    }

    #[test]
    fn the_new_names_register_is_each_machines_own() {
        let begins = |machine, to, rename| code(machine, to, rename, &[b"/q/job-"])[..3].to_vec();
        let expected =
            |argument, name| vec![LOAD_R7_R1 | offset(argument), COPY_R8_R7, ADD_R8 | immediate(name)];
        assert_eq!(begins(&AMD64, Attachment::Fentry, 0), expected(0, 104));
        assert_eq!(begins(&AMD64, Attachment::Fentry, 1), expected(0, 56));
        assert_eq!(begins(&AMD64, Attachment::Fentry, 2), expected(0, 56));
        assert_eq!(begins(&AMD64, Attachment::Kprobe, 0), expected(112, 104));
        assert_eq!(begins(&ARM64, Attachment::Fentry, 0), expected(0, 24));
        assert_eq!(begins(&ARM64, Attachment::Kprobe, 1), expected(0, 24));
    }

    #[test]
    fn the_tracepoints_program_knows_the_renames_by_their_numbers() {
        let begin = |machine| code(machine, Attachment::RawTracepoint, 0, &[b"/q/job-"]);
        let equal = |number: u64, skipped: u64| 0x0615 | offset(skipped) | immediate(number);
        let amd64 = begin(&AMD64);
        assert_eq!(amd64[..3], [LOAD_R6_R1 | offset(8), LOAD_R7_R1, COPY_R8_R7]);
        assert_eq!(amd64[3..6], [equal(82, 3), equal(264, 4), equal(316, 5)]);
        assert_eq!([amd64[7], amd64[9], amd64[11]], [104, 56, 56].map(|name| ADD_R8 | immediate(name)));
        let arm64 = begin(&ARM64);
        assert_eq!(arm64[3..5], [equal(38, 2), equal(276, 3)]);
        assert_eq!([arm64[6], arm64[8]], [24, 24].map(|name| ADD_R8 | immediate(name)));
    }

    #[test]
    fn where_the_process_stands_is_each_machines_own() {
        for (machine, places) in [(&AMD64, [152, 128]), (&ARM64, [248, 256])] {
            let code = code(machine, Attachment::Fentry, 0, &[b"/q/job-"]);
            let added = code.iter().filter(|code| **code & 0xffff == ADD_R3);
            let offsets: Vec<u64> = added.map(|code| code >> 32).filter(|offset| *offset < 1 << 31).collect();
            assert_eq!(
                offsets,
                [0, places[0], places[1]],
                "the name's address, the stack, the next instruction"
            );
        }
    }

    #[test]
    fn prefixes_are_compared_in_pieces() {
        let code = code(&AMD64, Attachment::Fentry, 0, &[b"/queues/q/job-", b"/x/job-"]);
        let wide: Vec<u64> = code
            .windows(2)
            .filter(|pair| pair[0] & 0xffff_ffff == 0x0218)
            .map(|pair| pair[0] >> 32 | pair[1] >> 32 << 32)
            .collect();
        let number = |text: &[u8]| text.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        // The first is the namespace's inode.
        let pieces: [&[u8]; 6] = [b"/queues/", b"q/jo", b"b-", b"/x/j", b"ob", b"-"];
        assert_eq!(wide, [&[0xf000_0001], &pieces.map(number)[..]].concat());
        assert_eq!(code.last(), Some(&0x95));
    }
}
