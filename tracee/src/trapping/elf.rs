//! The executable parts of a program's file, and the tables that say where functions begin (elf(5)).

use crate::read_at::ReadAt;

/// A part of a file that is mapped as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub offset: u64,
    pub vaddr: u64,
    pub len: u64,
}

/// The parts named by a file's headers (elf(5)).
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The code: the sections with code, or the executable segments of a file without sections. Some linkers put all that is only
    /// read into such a segment, too.
    pub code: Vec<Part>,
    /// The tables that say where functions begin, the most reliable one first.
    pub tables: Vec<(Table, Part)>,
}

/// A table of functions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Table {
    /// `.eh_frame`
    Frames,
    /// `.symtab` or `.dynsym`
    Symbols,
    /// `.gopclntab`
    Go,
}

impl Layout {
    /// Reads the headers. `None` if the file is no 64-bit executable or library.
    pub fn of(file: &impl ReadAt) -> Option<Layout> {
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
        let table_of = |section: &[u8]| {
            const SHT_PROGBITS: u32 = 1;
            const SHT_SYMTAB: u32 = 2;
            const SHT_DYNSYM: u32 = 11;
            const SHT_X86_64_UNWIND: u32 = 0x7000_0001;
            match int(section, 4)? as u32 {
                SHT_SYMTAB | SHT_DYNSYM => Some(Table::Symbols),
                SHT_PROGBITS | SHT_X86_64_UNWIND => {
                    let mut name = [0; 11];
                    let at = names?.checked_add(u64::from(int(section, 0)? as u32))?;
                    let read = file.read_up_to(&mut name, at).ok()?;
                    match &name[..read] {
                        name if name.starts_with(b".eh_frame\0") => Some(Table::Frames),
                        b".gopclntab\0" => Some(Table::Go),
                        _ => None,
                    }
                }
                _ => None,
            }
        };
        let is_code = |section: &[u8]| {
            const SHT_NOBITS: i32 = 8;
            const SHF_EXECINSTR: u64 = 4;
            let flags = word(section, 8).unwrap_or(0);
            flags & SHF_EXECINSTR != 0 && int(section, 4) != Some(SHT_NOBITS)
        };
        let mut code = Vec::new();
        for section in sections {
            let part = || {
                Some(Part {
                    vaddr: word(section, 16)?,
                    offset: word(section, 24)?,
                    len: word(section, 32)?,
                })
            };
            layout.tables.extend(table_of(section).zip(part()));
            if is_code(section) {
                code.extend(part());
            }
        }
        if !code.is_empty() {
            layout.code = code;
        }
        layout.tables.sort_by_key(|(table, _)| *table);
        Some(layout)
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn int(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
