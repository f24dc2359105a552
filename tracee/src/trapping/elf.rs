//! The executable parts of a program's file, and its unwind tables (elf(5)).

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
    pub code: Vec<Part>,
    /// `.eh_frame`
    pub frames: Option<Part>,
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

pub(super) fn int(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
