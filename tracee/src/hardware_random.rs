//! `RDRAND` and `RDSEED`: finds them in a program's files, and replaces them by instructions that trap.
//!
//! No processor can be told to trap on them, so rr finds them before they are executed. It looks up
//! their bytes in the executable parts of a file, and proves each hit by decoding from the beginning of
//! the hit's function. `.eh_frame` (LSB 5.0, 10.6.1) says where functions begin. Stripped files have
//! it, too. A hit that cannot be proven stays unchanged: code without unwind tables (Go, some static
//! programs), and code that a program generates.
//!
//! ```text
//! [66] [REX] 0f c7 f0+register    rdrand (f8+register: rdseed)
//! [66] [REX] 0f 21 f0+register    mov register, dr6 (rdseed: dr7): privileged, so that it traps as rdtsc does, with SIGSEGV
//! ```
//!
//! Only one byte changes, inside one instruction of the same length and register: any execution sees
//! either the old or the new instruction.

use std::io;

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use crate::read_at::ReadAt;
use crate::regs::{NOT_IN_SYSCALL, Registers};

/// The second byte of the opcode.
pub const OPCODE: u8 = 0xc7;
/// The byte that replaces it.
pub const TRAP: u8 = 0x21;

/// Maximum size of an `.eh_frame` that is read.
const FRAMES_MOST: usize = 256 << 20;

/// Number of bytes of an instruction that [`Access::of`] needs.
pub const LENGTH_MOST: usize = 5;

/// Returns a value for an instruction that has trapped, from the kernel's generator.
pub fn value() -> u64 {
    let mut value = [0; 8];
    // SAFETY: eight bytes of ours. The kernel returns that few at once, since its generator is ready
    // before programs run.
    unsafe { libc::getrandom(value.as_mut_ptr().cast(), value.len(), 0) };
    u64::from_ne_bytes(value)
}

/// An instruction that reads the random number generator and has been made to trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Number of the register, as instructions encode it.
    register: u8,
    /// Number of bytes written to the register.
    width: u8,
    /// Length of the instruction.
    len: u8,
}

impl Access {
    /// The access whose instruction begins with these bytes.
    pub fn of(code: &[u8]) -> Option<Access> {
        let (wide, rest) = match code {
            [0x66, rest @ ..] => (2, rest),
            _ => (4, code),
        };
        let (rex, rest) = match rest {
            // Bit 2 would be part of the number of the debug register.
            [rex @ 0x40..=0x4f, rest @ ..] if rex & 4 == 0 => (*rex, rest),
            _ => (0, rest),
        };
        let [0x0f, TRAP, form @ 0xf0..=0xff, ..] = rest else {
            return None;
        };
        Some(Access {
            register: form & 7 | (rex & 1) << 3,
            width: if rex & 8 != 0 { 8 } else { wide },
            len: (code.len() - rest.len() + 3) as u8,
        })
    }

    /// Offset of the opcode's second byte in the instruction.
    pub fn opcode(self) -> u64 {
        u64::from(self.len) - 2
    }

    /// The registers after the instruction has returned `value`.
    pub fn carried_out(self, regs: &Registers, value: u64) -> Registers {
        /// CF is set; OF, SF, ZF, AF and PF are cleared.
        const CARRY: u64 = 1;
        const CLEARED: u64 = 1 << 11 | 1 << 7 | 1 << 6 | 1 << 4 | 1 << 2;
        let mut after = Registers {
            rip: regs.rip + u64::from(self.len),
            orig_rax: NOT_IN_SYSCALL,
            eflags: regs.eflags & !CLEARED | CARRY,
            ..*regs
        };
        let place = match self.register {
            0 => &mut after.rax,
            1 => &mut after.rcx,
            2 => &mut after.rdx,
            3 => &mut after.rbx,
            4 => &mut after.rsp,
            5 => &mut after.rbp,
            6 => &mut after.rsi,
            7 => &mut after.rdi,
            8 => &mut after.r8,
            9 => &mut after.r9,
            10 => &mut after.r10,
            11 => &mut after.r11,
            12 => &mut after.r12,
            13 => &mut after.r13,
            14 => &mut after.r14,
            _ => &mut after.r15,
        };
        *place = match self.width {
            2 => *place & !0xffff | value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => value,
        };
        after
    }
}

/// A part of a file that is mapped as a whole.
#[derive(Clone, Copy, Debug)]
struct Part {
    offset: u64,
    vaddr: u64,
    len: u64,
}

/// The parts named by a file's headers (elf(5)).
#[derive(Debug, Default)]
struct Layout {
    code: Vec<Part>,
    /// `.eh_frame`
    frames: Option<Part>,
}

impl Layout {
    /// Reads the headers. `None` if the file is no 64-bit executable or library.
    fn of(file: &impl ReadAt) -> Option<Layout> {
        const HEADER: usize = 64;
        const PROGRAM: usize = 56;
        const SECTION: usize = 64;
        const PT_LOAD: u32 = 1;
        const PF_X: u32 = 1;
        let mut head = [0; HEADER];
        file.read_exact_at(&mut head, 0).ok()?;
        if head[..6] != *b"\x7fELF\x02\x01" {
            return None;
        }
        let table = |at: usize, size: usize, entry: usize| {
            let count = usize::from(half(&head, size + 2)?);
            let mut table = vec![0; count * entry];
            let read = file.read_exact_at(&mut table, word(&head, at)?);
            (usize::from(half(&head, size)?) == entry && read.is_ok()).then_some(table)
        };
        let mut layout = Layout::default();
        for entry in table(32, 54, PROGRAM)?.chunks_exact(PROGRAM) {
            if int(entry, 0)? as u32 == PT_LOAD && int(entry, 4)? as u32 & PF_X != 0 {
                layout.code.push(Part {
                    offset: word(entry, 8)?,
                    vaddr: word(entry, 16)?,
                    len: word(entry, 32)?,
                });
            }
        }
        let sections = table(40, 58, SECTION).unwrap_or_default();
        let sections: Vec<&[u8]> = sections.chunks_exact(SECTION).collect();
        let names = sections.get(usize::from(half(&head, 62)?));
        let names = names.and_then(|names| word(names, 24));
        layout.frames = sections.iter().find_map(|section| {
            let mut name = [0; 10];
            let at = names?.checked_add(u64::from(int(section, 0)? as u32))?;
            file.read_exact_at(&mut name, at).ok()?;
            (name == *b".eh_frame\0").then_some(Part {
                vaddr: word(section, 16)?,
                offset: word(section, 24)?,
                len: word(section, 32)?,
            })
        });
        Some(layout)
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Offsets of [`OPCODE`] in all such instructions of a file that are proven, ascending. Empty for a
/// file that is no program or library.
pub fn find(file: &impl ReadAt) -> io::Result<Vec<u64>> {
    let Some(layout) = Layout::of(file) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    // Most files have no such bytes. Then nothing else of them is read.
    let mut frames: Option<Frames> = None;
    for code in &layout.code {
        for hit in hits(file, *code)? {
            if frames.is_none() {
                frames = layout.frames.and_then(|part| Frames::read(file, part));
            }
            let Some(frames) = &frames else {
                return Ok(Vec::new());
            };
            if is_proven(file, frames, *code, hit) {
                found.push(hit);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Offsets of such instructions' bytes in this part of the file, not yet proven.
fn hits(file: &impl ReadAt, code: Part) -> io::Result<Vec<u64>> {
    const STEP: usize = 256 << 10;
    let end = code.offset.saturating_add(code.len);
    let finder = memchr::memmem::Finder::new(&[0x0f, OPCODE]);
    let mut buffer = vec![0; STEP];
    let (mut found, mut at) = (Vec::new(), code.offset);
    while at < end {
        let len = (STEP as u64).min(end - at) as usize;
        let got = read_up_to(file, &mut buffer[..len], at)?;
        let bytes = &buffer[..got];
        let is_register = |n: &usize| bytes.get(n + 2).is_some_and(|form| *form >= 0xf0);
        found.extend(
            finder
                .find_iter(bytes)
                .filter(is_register)
                .map(|n| at + n as u64 + 1),
        );
        // A hit may begin in the last two bytes, so these are read again.
        match got {
            0..3 => break,
            _ => at += got as u64 - 2,
        }
        if got < len || at + 2 >= end {
            break;
        }
    }
    Ok(found)
}

fn read_up_to(file: &impl ReadAt, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at + got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

/// Returns whether the hit is an instruction, decoded from the beginning of its function.
fn is_proven(file: &impl ReadAt, frames: &Frames, code: Part, hit: u64) -> bool {
    proof(file, frames, code, hit).is_some()
}

fn proof(file: &impl ReadAt, frames: &Frames, code: Part, hit: u64) -> Option<()> {
    let place = hit - code.offset + code.vaddr;
    let (start, end) = frames.function_around(place)?;
    let inside = start >= code.vaddr && end <= code.vaddr.checked_add(code.len)?;
    if !inside || end - start > 1 << 20 {
        return None;
    }
    let mut bytes = vec![0; (end - start) as usize];
    file.read_exact_at(&mut bytes, code.offset + (start - code.vaddr))
        .ok()?;
    let mut decoder = Decoder::with_ip(64, &bytes, start, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        if instruction.next_ip() <= place {
            continue;
        }
        let reads = matches!(instruction.mnemonic(), Mnemonic::Rdrand | Mnemonic::Rdseed);
        let first = (instruction.ip() - start) as usize;
        let code = &mut bytes[first..first + instruction.len()];
        *code.get_mut((place - instruction.ip()) as usize)? = TRAP;
        let access = Access::of(code)?;
        let whole = usize::from(access.len) == code.len() && instruction.ip() + access.opcode() == place;
        return (reads && whole).then_some(());
    }
    None
}

/// The contents of `.eh_frame`.
struct Frames {
    bytes: Vec<u8>,
    vaddr: u64,
}

impl Frames {
    /// Reads the section. `None` if it cannot be read or is too large.
    fn read(file: &impl ReadAt, part: Part) -> Option<Frames> {
        let len = usize::try_from(part.len).ok().filter(|len| *len < FRAMES_MOST)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, part.offset).ok()?;
        let vaddr = part.vaddr;
        Some(Frames { bytes, vaddr })
    }

    /// Beginning and end of the function that a place belongs to.
    fn function_around(&self, place: u64) -> Option<(u64, u64)> {
        let bytes = &self.bytes;
        let mut at = 0;
        loop {
            // Each entry: its length without this word; the distance to its common part, or 0 if it is
            // one; start and length of the code.
            let len = int(bytes, at)? as u32 as usize;
            let id = int(bytes, at + 4)? as u32 as usize;
            if len == 0 || len == u32::MAX as usize {
                return None;
            }
            if id != 0 && is_usual(bytes.get((at + 4).checked_sub(id)?..)?) == Some(true) {
                let own = self.vaddr.checked_add(at as u64 + 8)?;
                let start = own.wrapping_add_signed(int(bytes, at + 8)?.into());
                let end = start.checked_add(int(bytes, at + 12)? as u32 as u64)?;
                if (start..end).contains(&place) {
                    return Some((start, end));
                }
            }
            at += len + 4;
        }
    }
}

/// Returns whether entries with this common part give the start in four bytes relative to itself
/// (`DW_EH_PE_pcrel`, `DW_EH_PE_sdata4`), as all compilers do.
fn is_usual(common: &[u8]) -> Option<bool> {
    const USUAL: u8 = 0x1b;
    let (version, text) = common.get(8..)?.split_first()?;
    let (augmentation, mut rest) = text.split_at(text.iter().position(|byte| *byte == 0)?);
    let mut skip = |count: usize| {
        rest = rest.get(count..)?;
        rest.first().copied()
    };
    let mut next = skip(1)?;
    // Two factors, a register (one byte in the first version), and the length of what follows: numbers
    // whose last byte is below 0x80.
    let numbers = 3 + usize::from(augmentation.first() == Some(&b'z'));
    for n in 0..numbers {
        while next & 0x80 != 0 && !(n == 2 && *version == 1) {
            next = skip(1)?;
        }
        next = skip(1)?;
    }
    for letter in augmentation.iter().skip(1) {
        match letter {
            b'R' => return Some(next == USUAL),
            b'P' => {
                let size = match next & 7 {
                    0 | 4 => 8,
                    3 => 4,
                    2 => 2,
                    _ => return None,
                };
                next = skip(1 + size)?;
            }
            b'L' => next = skip(1)?,
            b'S' | b'B' => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn all_forms_are_known() {
        // rdrand eax, ax, rax, r9d, r15; rdseed rdi
        let forms: [(&[u8], u8, u8); 6] = [
            (&[0x0f, TRAP, 0xf0], 0, 4),
            (&[0x66, 0x0f, TRAP, 0xf0], 0, 2),
            (&[0x48, 0x0f, TRAP, 0xf0], 0, 8),
            (&[0x41, 0x0f, TRAP, 0xf1], 9, 4),
            (&[0x49, 0x0f, TRAP, 0xf7], 15, 8),
            (&[0x48, 0x0f, TRAP, 0xff], 7, 8),
        ];
        for (code, register, width) in forms {
            let access = Access::of(code).unwrap();
            assert_eq!((access.register, access.width), (register, width), "{code:x?}");
            assert_eq!(usize::from(access.len), code.len());
            assert_eq!(code[access.opcode() as usize], TRAP);
            // The original instruction is decoded in the same way.
            let mut own = code.to_vec();
            own[access.opcode() as usize] = OPCODE;
            let decoded = Decoder::with_ip(64, &own, 0, DecoderOptions::NONE).decode();
            assert!(matches!(decoded.mnemonic(), Mnemonic::Rdrand | Mnemonic::Rdseed));
            assert_eq!(decoded.op0_register().size(), usize::from(width));
            assert_eq!(decoded.op0_register().number(), usize::from(register));
            assert!(Access::of(&own).is_none());
            let trap = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).decode();
            assert_eq!((trap.mnemonic(), trap.len()), (Mnemonic::Mov, code.len()));
            let (to, from) = (trap.op0_register(), trap.op1_register());
            assert_eq!((to.number(), from.is_dr()), (usize::from(register), true));
        }
    }

    #[test]
    fn registers_after_it() {
        let regs = Registers {
            rip: 0x1000,
            rcx: 0x1111_2222_3333_4444,
            eflags: 0x246 | 1 << 11,
            ..Registers::default()
        };
        let after = |code: &[u8]| {
            Access::of(code)
                .unwrap()
                .carried_out(&regs, 0x5555_6666_7777_8888)
        };
        let short = after(&[0x66, 0x0f, TRAP, 0xf1]);
        assert_eq!((short.rcx, short.rip), (0x1111_2222_3333_8888, 0x1004));
        assert_eq!(short.eflags, 0x203);
        assert_eq!(after(&[0x0f, TRAP, 0xf1]).rcx, 0x7777_8888);
        assert_eq!(after(&[0x48, 0x0f, TRAP, 0xf1]).rcx, 0x5555_6666_7777_8888);
    }

    /// The C++ library has such instructions, in functions that no symbol names.
    #[test]
    fn they_are_found_in_a_stripped_library() {
        let Some(library) = [
            "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
            "/usr/lib64/libstdc++.so.6",
        ]
        .iter()
        .find_map(|path| File::open(path).ok()) else {
            eprintln!("skipped: there is no libstdc++ here");
            return;
        };
        let found = find(&library).unwrap();
        assert!(!found.is_empty());
        for place in found {
            let mut code = [0; 3];
            library.read_exact_at(&mut code, place - 1).unwrap();
            assert!(
                code[0] == 0x0f && code[1] == OPCODE && code[2] >= 0xf0,
                "{code:x?}"
            );
        }
        assert!(find(&File::open("/etc/passwd").unwrap()).unwrap().is_empty());
    }
}
