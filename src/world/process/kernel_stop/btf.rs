//! Finding a function in the kernel's description of its own types (Linux:
//! Documentation/bpf/btf.rst; Debian's kernels have it in `/sys/kernel/btf/vmlinux`).

use super::Reason;

/// Where the kernel has its description.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The number that it begins with.
const MAGIC: u16 = 0xeb9f;

/// `BTF_KIND_FUNC`
const FUNCTION: u32 = 12;

/// The kernel's types, as far as they are read.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Understands the header.
    ///
    /// # Errors
    /// When the format is another one.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Reason> {
        Self::parse(bytes).ok_or_else(|| unknown_format("its header"))
    }

    /// `struct btf_header`: magic (2 bytes), version, flags, then words: length of the
    /// header, offset and length of the types, offset and length of the strings.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let magic = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
        let field = |index: usize| word(bytes, 4 + 4 * index).map(|word| word as usize);
        let body = bytes.get(field(0)?..).filter(|_| magic == MAGIC)?;
        let section = |offset: usize, length: usize| body.get(offset..offset.checked_add(length)?);
        Some(Self { types: section(field(1)?, field(2)?)?, strings: section(field(3)?, field(4)?)? })
    }

    /// The ID of a function, `None` if the kernel has none of that name.
    ///
    /// # Errors
    /// When there is a kind of type that nobody here knows.
    pub fn function(&self, name: &str) -> Result<Option<u32>, Reason> {
        let (mut at, mut id) = (0, 0);
        while at < self.types.len() {
            id += 1;
            let header = [0, 4].map(|offset| word(self.types, at + offset));
            let [Some(name_offset), Some(info)] = header else { return Err(unknown_format("its types")) };
            let kind = info >> 24 & 0x1f;
            if kind == FUNCTION && self.has_string(name_offset as usize, name) {
                return Ok(Some(id));
            }
            let more = size_of_rest(kind, (info & 0xffff) as usize);
            at += 12 + more.ok_or_else(|| unknown_format(&format!("the kind of type {kind}")))?;
        }
        Ok(None)
    }

    /// Whether this very string is there.
    fn has_string(&self, offset: usize, text: &str) -> bool {
        let there = self.strings.get(offset..).and_then(|rest| rest.strip_prefix(text.as_bytes()));
        there.is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// What follows the common part of a type (Linux: include/uapi/linux/btf.h).
fn size_of_rest(kind: u32, members: usize) -> Option<usize> {
    match kind {
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => Some(0),
        // integer, variable, declaration tag
        1 | 14 | 17 => Some(4),
        // array
        3 => Some(12),
        // enumeration, function's prototype
        6 | 13 => Some(8 * members),
        // structure, union, section, enumeration of 64 bits
        4 | 5 | 15 | 19 => Some(12 * members),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn unknown_format(what: &str) -> Reason {
    Reason(format!("{VMLINUX} has an unknown format: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description with these types, each a kind, number of members and name, and what follows.
    fn btf(types: &[(u32, u32, u32, &[u32])], strings: &[u8]) -> Vec<u8> {
        let words = |(kind, members, name, rest): &(u32, u32, u32, &[u32])| {
            [&[*name, kind << 24 | members, 0], *rest].concat()
        };
        let types: Vec<u32> = types.iter().flat_map(words).collect();
        let length = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let mut bytes: Vec<u8> = header.iter().chain(&types).flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_function_is_found_by_its_whole_name() {
        let strings = b"\0rename\0rename2\0";
        let types: [(u32, u32, u32, &[u32]); 4] =
            [(1, 0, 1, &[32]), (13, 2, 0, &[0; 4]), (12, 0, 8, &[]), (12, 0, 1, &[])];
        let bytes = btf(&types, strings);
        let btf = Btf::new(&bytes).unwrap();
        assert_eq!(btf.function("rename"), Ok(Some(4)));
        assert_eq!(btf.function("rename2"), Ok(Some(3)));
        assert_eq!(btf.function("renam"), Ok(None));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let bytes = btf(&[(31, 0, 0, &[])], b"\0");
        assert!(Btf::new(&bytes).unwrap().function("x").unwrap_err().to_string().contains("type 31"));
        assert!(Btf::new(b"\x7fELF").is_err());
        assert!(Btf::new(&bytes[..30]).is_err());
    }
}
