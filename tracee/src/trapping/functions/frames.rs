//! Functions by the unwind tables (`.eh_frame`; LSB 5.0, 10.6.1). Nearly all compiled code has them, also in stripped files.

use std::ops::Range;

use crate::trapping::elf::int;

/// The addresses of the functions that the section at `vaddr` describes.
pub(super) fn read(bytes: &[u8], vaddr: u64) -> Vec<Range<u64>> {
    let mut functions = Vec::new();
    let (mut at, mut last) = (0, None);
    while let Some((next, function)) = entry(bytes, vaddr, at, &mut last) {
        functions.extend(function);
        at = next;
    }
    functions
}

/// The offset behind the entry at `at`, and the function that the entry describes. `None` at the end. `last` is the last
/// common part, and whether it is as usual.
fn entry(
    bytes: &[u8],
    vaddr: u64,
    at: usize,
    last: &mut Option<(usize, bool)>,
) -> Option<(usize, Option<Range<u64>>)> {
    // Each entry: its length without this word; the distance to its common part, or 0 if it is one; start and length of
    // the code.
    let len = int(bytes, at)? as u32 as usize;
    let id = int(bytes, at + 4)? as u32 as usize;
    if len == 0 || len == u32::MAX as usize {
        return None;
    }
    let mut function = || {
        let common = (at + 4).checked_sub(id)?;
        let usual = match *last {
            Some((known, usual)) if known == common => usual,
            _ => is_usual(bytes.get(common..)?) == Some(true),
        };
        *last = Some((common, usual));
        let own = vaddr.checked_add(at as u64 + 8)?;
        let start = own.wrapping_add_signed(int(bytes, at + 8)?.into());
        let end = start.checked_add(u64::from(int(bytes, at + 12)? as u32))?;
        usual.then_some(start..end)
    };
    let function = if id == 0 { None } else { function() };
    Some((at + len + 4, function))
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
