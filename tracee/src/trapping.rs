//! Instructions that ask the processor for a value that differs from run to run, or from machine to machine:
//! finds them in a program's files, so that they can be replaced by instructions that trap.
//!
//! No processor can be told to trap on `RDRAND`, `RDSEED` and `RDPID`, and not every one on `CPUID`, so rr finds them
//! before they are executed. It looks up their bytes in the executable parts of a file, and proves each hit by
//! following the code from the beginning of the hit's function (`proof`). Unwind tables, symbols, and the tables of Go's runtime
//! say where functions begin (`functions`). A hit that cannot be proven stays unchanged: stripped assembly code without
//! unwind tables, and code that a program generates. Such hits are found, too ([`Search::unproven`]): a program that has none,
//! and that generates no code, cannot see on which CPU it runs.
//!
//! ```text
//! [66] [REX] 0f c7 f0+register    rdrand (f8+register: rdseed)
//! [66] [REX] 0f 21 f0+register    mov register, dr6 (rdseed: dr7): privileged, so that it traps as rdtsc does, with SIGSEGV
//! f3 [REX] 0f c7 f8+register      rdpid, replaced in the same way
//! 0f a2                           cpuid
//! 0f 09                           wbinvd: privileged, too
//! 0f 01 d0                        xgetbv
//! 0f 01 f8                        swapgs: privileged, too
//! ```
//!
//! `XGETBV` shows which components of extended state the processor has. That matters only to a trace that is to be replayed
//! where these are others (`--portable`).
//!
//! Only one byte changes, inside one instruction of the same length and registers: any execution sees either the old
//! or the new instruction.

mod elf;
mod functions;
mod proof;

use std::io;

use iced_x86::{Instruction, Mnemonic};

use crate::components::LEN;
use crate::read_at::ReadAt;
use crate::register_read::{Access, OPCODE, TRAP};
use elf::{Layout, Part};
use functions::Functions;
use proof::Function;

/// The instructions that are replaced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// `RDRAND`, `RDSEED` and `RDPID`.
    RegisterRead,
    /// `CPUID`.
    Cpuid,
    /// `XGETBV`.
    Components,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::RegisterRead, Kind::Cpuid, Kind::Components];

    /// The program's opcode, up to the byte that is replaced.
    const fn opcode(self) -> &'static [u8] {
        match self {
            Kind::RegisterRead => &[0x0f, OPCODE],
            Kind::Cpuid => &[0x0f, 0xa2],
            Kind::Components => &[0x0f, 0x01, 0xd0],
        }
    }

    /// The byte of the program's opcode that is replaced.
    pub const fn own(self) -> u8 {
        let opcode = self.opcode();
        opcode[opcode.len() - 1]
    }

    /// The byte that replaces it.
    pub const fn trap(self) -> u8 {
        match self {
            Kind::RegisterRead => TRAP,
            Kind::Cpuid => 0x09,
            Kind::Components => 0xf8,
        }
    }

    fn is(self, instruction: &Instruction) -> bool {
        match self {
            Kind::RegisterRead => matches!(
                instruction.mnemonic(),
                Mnemonic::Rdrand | Mnemonic::Rdseed | Mnemonic::Rdpid
            ),
            Kind::Cpuid => instruction.mnemonic() == Mnemonic::Cpuid,
            Kind::Components => instruction.mnemonic() == Mnemonic::Xgetbv,
        }
    }
}

/// The byte of a file that is replaced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Its offset in the file.
    pub offset: u64,
    /// Its instruction.
    pub kind: Kind,
}

/// Number of bytes of an instruction that [`Trapping::of`] needs.
pub const LENGTH_MOST: usize = 5;

/// An instruction that has been made to trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trapping {
    /// It reads a random number, or the number of the processor.
    RegisterRead(Access),
    /// It is a `CPUID`.
    Cpuid,
    /// It is an `XGETBV`.
    Components,
}

impl Trapping {
    /// The instruction that begins with these bytes.
    pub fn of(code: &[u8]) -> Option<Trapping> {
        match code {
            [0x0f, second, ..] if *second == Kind::Cpuid.trap() => Some(Trapping::Cpuid),
            [0x0f, 0x01, third, ..] if *third == Kind::Components.trap() => Some(Trapping::Components),
            _ => Access::of(code).map(Trapping::RegisterRead),
        }
    }

    /// Offset of the replaced byte in the instruction.
    pub fn opcode(self) -> u64 {
        match self {
            Trapping::RegisterRead(access) => access.opcode(),
            Trapping::Cpuid => 1,
            Trapping::Components => 2,
        }
    }

    fn len(self) -> usize {
        match self {
            Trapping::RegisterRead(access) => access.len(),
            Trapping::Cpuid => 2,
            Trapping::Components => LEN as usize,
        }
    }
}

/// The places in a file, ascending. Empty for a file that is no program or library.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Search {
    /// The instructions that are proven.
    pub proven: Vec<Place>,
    /// Bytes that may be an instruction, or something else: nothing is proven.
    pub unproven: Vec<Place>,
}

/// Searches a file.
pub fn find(file: &impl ReadAt) -> io::Result<Search> {
    let mut search = Search::default();
    let Some(layout) = Layout::of(file) else {
        return Ok(search);
    };
    // Some files have no such bytes. Then nothing else of them is read.
    let mut read: Vec<Functions> = Vec::new();
    for code in &layout.code {
        for hit in hits(file, *code)? {
            let mut verdicts = layout.tables.iter().enumerate().map(|(n, (table, part))| {
                if n == read.len() {
                    read.push(Functions::read(file, *table, *part));
                }
                verdict(file, &read[n], *code, hit)
            });
            match verdicts.find_map(|verdict| verdict) {
                Some(Verdict::Is) => search.proven.push(hit),
                Some(Verdict::IsNot) => {}
                None => search.unproven.push(hit),
            }
        }
    }
    for places in [&mut search.proven, &mut search.unproven] {
        places.sort_unstable();
        places.dedup();
    }
    Ok(search)
}

/// The places of such instructions' bytes in this part of the file, not yet proven.
fn hits(file: &impl ReadAt, code: Part) -> io::Result<Vec<Place>> {
    const STEP: usize = 256 << 10;
    let end = code.offset.saturating_add(code.len);
    let finders = Kind::ALL.map(|kind| (kind, memchr::memmem::Finder::new(kind.opcode())));
    // Most files are smaller, and to clear memory takes longer than to search it.
    let mut buffer = vec![0; code.len.min(STEP as u64) as usize];
    let (mut found, mut at) = (Vec::new(), code.offset);
    while at < end {
        let len = (STEP as u64).min(end - at) as usize;
        let got = file.read_up_to(&mut buffer[..len], at)?;
        let bytes = &buffer[..got];
        let is_register = |n: usize| bytes.get(n + 2).is_some_and(|form| *form >= 0xf0);
        for (kind, finder) in &finders {
            let hits = finder
                .find_iter(bytes)
                .filter(|n| *kind != Kind::RegisterRead || is_register(*n));
            found.extend(hits.map(|n| Place {
                offset: at + (n + kind.opcode().len() - 1) as u64,
                kind: *kind,
            }));
        }
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

/// The result of the search for the instruction that a hit belongs to.
enum Verdict {
    /// It is proven to be an instruction.
    Is,
    /// It belongs to another instruction.
    IsNot,
}

/// Looks for a hit's bytes in its function.
fn verdict(file: &impl ReadAt, functions: &Functions, code: Part, hit: Place) -> Option<Verdict> {
    let place = hit.offset - code.offset + code.vaddr;
    let std::ops::Range { start, end } = functions.around(place)?;
    let inside = start >= code.vaddr && end <= code.vaddr.checked_add(code.len)?;
    if !inside || end - start > 1 << 20 {
        return None;
    }
    let mut bytes = vec![0; (end - start) as usize];
    file.read_exact_at(&mut bytes, code.offset + (start - code.vaddr))
        .ok()?;
    let function = Function { start, bytes: &bytes };
    let is_other = |instruction: &Instruction| !hit.kind.is(instruction);
    let Some(instruction) = function.instruction_at(place) else {
        // Handlers of exceptions, and parts of functions that are seldom executed, are reached from elsewhere. To leave them as
        // they are needs no proof.
        let other = function.in_line(place).filter(is_other);
        return other.map(|_| Verdict::IsNot);
    };
    if is_other(&instruction) {
        return Some(Verdict::IsNot);
    }
    let first = (instruction.ip() - start) as usize;
    let code = &mut bytes[first..first + instruction.len()];
    *code.get_mut((place - instruction.ip()) as usize)? = hit.kind.trap();
    let trapping = Trapping::of(code)?;
    let is_whole = trapping.len() == code.len() && instruction.ip() + trapping.opcode() == place;
    is_whole.then_some(Verdict::Is)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn library(paths: [&str; 2]) -> Option<File> {
        let file = paths.iter().find_map(|path| File::open(path).ok());
        if file.is_none() {
            eprintln!("skipped: there is no {} here", paths[0]);
        }
        file
    }

    /// The places of a kind, each with the bytes of its instruction.
    fn found(file: &File, kind: Kind) -> Vec<[u8; 3]> {
        let places = find(file).unwrap().proven;
        assert!(places.is_sorted());
        let of_kind = places.iter().filter(|place| place.kind == kind);
        let code = |place: &Place| {
            let mut code = [0; 3];
            file.read_exact_at(&mut code, place.offset - 1).unwrap();
            code
        };
        of_kind.map(code).collect()
    }

    /// The C++ library has such instructions, in functions that no symbol names.
    #[test]
    fn random_numbers_are_found_in_a_stripped_library() {
        let paths = [
            "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
            "/usr/lib64/libstdc++.so.6",
        ];
        let Some(library) = library(paths) else { return };
        let found = found(&library, Kind::RegisterRead);
        assert!(!found.is_empty());
        for code in found {
            assert!(code[..2] == [0x0f, 0xc7] && code[2] >= 0xf0, "{code:x?}");
        }
    }

    /// The dynamic loader asks for the features of the processor.
    #[test]
    fn cpuid_is_found_in_the_loader() {
        let paths = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-x86-64.so.2"];
        let Some(loader) = library(paths) else { return };
        let found = found(&loader, Kind::Cpuid);
        assert!(found.len() >= 5, "{found:x?}");
        assert!(found.iter().all(|code| code[..2] == [0x0f, 0xa2]), "{found:x?}");
    }

    /// The loader asks which state it has to save.
    #[test]
    fn xgetbv_is_found_in_the_loader() {
        let paths = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-x86-64.so.2"];
        let Some(loader) = library(paths) else { return };
        let found = found(&loader, Kind::Components);
        assert!(!found.is_empty());
        assert!(
            found.iter().all(|code| code[0] == 0x01 && code[1] == 0xd0),
            "{found:x?}"
        );
    }

    #[test]
    fn other_files_have_none() {
        assert_eq!(
            find(&File::open("/etc/passwd").unwrap()).unwrap(),
            Search::default()
        );
    }

    #[test]
    fn a_trapping_instruction_is_known_by_its_bytes() {
        assert_eq!(Trapping::of(&[0x0f, 0x09, 0x90]), Some(Trapping::Cpuid));
        assert_eq!(Trapping::of(&[0x0f, 0xa2, 0x90]), None);
        assert_eq!(Trapping::of(&[0x0f]), None);
        assert_eq!(Trapping::of(&[0x0f, 0x01, 0xf8]), Some(Trapping::Components));
        assert_eq!(Trapping::of(&[0x0f, 0x01, 0xd0]), None);
        let random = Trapping::of(&[0x48, 0x0f, 0x21, 0xf0]);
        assert!(matches!(random, Some(Trapping::RegisterRead(_))));
        assert_eq!(random.map(Trapping::opcode), Some(2));
    }
}
