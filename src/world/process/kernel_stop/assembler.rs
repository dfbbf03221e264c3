//! An assembler for the few BPF instructions that the program needs, with labels.
//!
//! The instruction set is RFC 9669 and Linux: Documentation/bpf/standardization/
//! instruction-set.rst; what a helper takes and returns is in bpf-helpers(7). An
//! instruction is eight bytes: opcode, registers, offset, immediate.

use std::collections::BTreeMap;

use super::Reason;

/// A register. Helpers take R1 to R5 and answer in R0; R6 to R9 survive a call; R10 is
/// the upper end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R10 = 10,
}

/// How much is loaded or stored. The values are those of the opcode's size bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// When a jump is taken. The values are those of the opcode's code bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Both are equal.
    Equal = 0x10,
    /// The register is above the other, without signs.
    Above = 0x20,
    /// They differ.
    Differs = 0x50,
    /// The register is below the other, without signs.
    Below = 0xa0,
    /// The register is below the other, with signs.
    SignedBelow = 0xc0,
}

/// The kernel's functions that the program calls (Linux: include/uapi/linux/bpf.h,
/// `__BPF_FUNC_MAPPER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    SendSignal = 109,
    ProbeReadKernel = 113,
    ProbeReadUserStr = 114,
    GetNsCurrentPidTgid = 120,
}

// Classes and sources of an opcode.
const LOAD_WIDE: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const ADD: u8 = 0x07;
const MOVE: u8 = 0xb7;
const JUMP: u8 = 0x05;
const FROM_REGISTER: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// The immediate of a wide load is a map's descriptor (`BPF_PSEUDO_MAP_FD`).
const IS_MAP: u8 = 1;

/// One instruction, before its label is known.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    opcode: u8,
    to: u8,
    from: u8,
    offset: i16,
    immediate: i32,
}

/// Instructions, one after the other.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    labels: BTreeMap<String, usize>,
    jumps: Vec<(usize, String)>,
}

impl Assembler {
    /// `to = value`
    pub fn set(&mut self, to: Register, value: i32) {
        self.push(MOVE, to as u8, 0, 0, value);
    }

    /// `to = from`
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(MOVE | FROM_REGISTER, to as u8, from as u8, 0, 0);
    }

    /// `to = value`, all 64 bits
    pub fn set_wide(&mut self, to: Register, value: u64) {
        self.wide(to, 0, value);
    }

    /// `to = the map with this descriptor`
    pub fn set_map(&mut self, to: Register, fd: i32) {
        self.wide(to, IS_MAP, u64::from(fd.cast_unsigned()));
    }

    /// `to += value`
    pub fn add(&mut self, to: Register, value: i32) {
        self.push(ADD, to as u8, 0, 0, value);
    }

    /// `to = the address of the stack's byte at -below`
    pub fn address(&mut self, to: Register, below: i16) {
        self.copy(to, Register::R10);
        self.add(to, -i32::from(below));
    }

    /// `to = *(from + offset)`
    pub fn load(&mut self, size: Size, to: Register, from: Register, offset: i16) {
        self.push(LOAD | size as u8, to as u8, from as u8, offset, 0);
    }

    /// `*(to + offset) = from`
    pub fn store(&mut self, size: Size, to: Register, offset: i16, from: Register) {
        self.push(STORE | size as u8, to as u8, from as u8, offset, 0);
    }

    /// `if register WHEN value goto label`
    pub fn jump_if(&mut self, register: Register, when: When, value: i32, label: &str) {
        self.jumps.push((self.code.len(), label.to_owned()));
        self.push(JUMP | when as u8, register as u8, 0, 0, value);
    }

    /// `if register WHEN other goto label`
    pub fn jump_if_register(&mut self, register: Register, when: When, other: Register, label: &str) {
        self.jumps.push((self.code.len(), label.to_owned()));
        self.push(JUMP | FROM_REGISTER | when as u8, register as u8, other as u8, 0, 0);
    }

    /// `goto label`
    pub fn jump(&mut self, label: &str) {
        self.jumps.push((self.code.len(), label.to_owned()));
        self.push(JUMP, 0, 0, 0, 0);
    }

    /// `label:`
    pub fn label(&mut self, label: &str) {
        self.labels.insert(label.to_owned(), self.code.len());
    }

    /// `r0 = helper(r1, ...)`; R1 to R5 are undefined afterwards.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, 0, 0, 0, helper as i32);
    }

    /// `return r0`
    pub fn exit(&mut self) {
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// The bytes, in the order of a little-endian machine as all that Debian's are.
    ///
    /// # Errors
    /// A label that is jumped to and is nowhere, or too far away.
    pub fn assemble(mut self) -> Result<Vec<u8>, Reason> {
        for (at, label) in &self.jumps {
            let offset = self.labels.get(label).map(|target| *target as i64 - *at as i64 - 1);
            let offset = offset.and_then(|offset| i16::try_from(offset).ok());
            self.code[*at].offset = offset.ok_or_else(|| Reason(format!("no way to the label {label}")))?;
        }
        Ok(self.code.iter().flat_map(Instruction::bytes).collect())
    }

    fn wide(&mut self, to: Register, from: u8, value: u64) {
        let [low, high] = [value as u32, (value >> 32) as u32].map(u32::cast_signed);
        self.push(LOAD_WIDE, to as u8, from, 0, low);
        self.push(0, 0, 0, 0, high);
    }

    fn push(&mut self, opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        self.code.push(Instruction { opcode, to, from, offset, immediate });
    }
}

impl Instruction {
    fn bytes(&self) -> [u8; 8] {
        let [o0, o1] = self.offset.to_le_bytes();
        let [i0, i1, i2, i3] = self.immediate.to_le_bytes();
        [self.opcode, self.from << 4 | self.to, o0, o1, i0, i1, i2, i3]
    }
}

#[cfg(test)]
mod tests {
    use super::Register::{R0, R1, R2, R6, R10};
    use super::*;

    fn bytes(write: impl FnOnce(&mut Assembler)) -> Vec<u8> {
        let mut asm = Assembler::default();
        write(&mut asm);
        asm.assemble().unwrap()
    }

    #[test]
    fn instructions_are_as_the_kernels_macros_make_them() {
        // Linux: include/linux/filter.h, BPF_MOV64_IMM and so on.
        assert_eq!(bytes(|asm| asm.set(R1, 19)), [0xb7, 0x01, 0, 0, 19, 0, 0, 0]);
        assert_eq!(bytes(|asm| asm.copy(R6, R1)), [0xbf, 0x16, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(|asm| asm.add(R2, -4)), [0x07, 0x02, 0, 0, 0xfc, 0xff, 0xff, 0xff]);
        assert_eq!(bytes(|asm| asm.load(Size::Double, R1, R6, 112)), [0x79, 0x61, 112, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(|asm| asm.load(Size::Byte, R1, R10, -8)), [0x71, 0xa1, 0xf8, 0xff, 0, 0, 0, 0]);
        assert_eq!(bytes(|asm| asm.store(Size::Word, R10, -16, R0)), [0x63, 0x0a, 0xf0, 0xff, 0, 0, 0, 0]);
        assert_eq!(bytes(|asm| asm.call(Helper::SendSignal)), [0x85, 0, 0, 0, 109, 0, 0, 0]);
        assert_eq!(bytes(Assembler::exit), [0x95, 0, 0, 0, 0, 0, 0, 0]);
        let map = [0x18, 0x11, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(bytes(|asm| asm.set_map(R1, 7)), map);
        let wide = [0x18, 0x01, 0, 0, 0xf0, 0xde, 0xbc, 0x9a, 0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12];
        assert_eq!(bytes(|asm| asm.set_wide(R1, 0x1234_5678_9abc_def0)), wide);
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let code = bytes(|asm| {
            asm.jump_if(R0, When::Equal, 3, "end");
            asm.jump_if_register(R1, When::Differs, R2, "end");
            asm.jump("end");
            asm.label("end");
            asm.exit();
        });
        assert_eq!(code[..8], [0x15, 0, 2, 0, 3, 0, 0, 0]);
        assert_eq!(code[8..16], [0x5d, 0x21, 1, 0, 0, 0, 0, 0]);
        assert_eq!(code[16..24], [0x05, 0, 0, 0, 0, 0, 0, 0]);
        let mut lost = Assembler::default();
        lost.jump("nowhere");
        assert!(lost.assemble().unwrap_err().to_string().contains("nowhere"));
    }
}
