//! Functions of a Go program, by the table that its runtime unwinds with (`.gopclntab`). Go's compiler writes no `.eh_frame`, and
//! the table stays when a program is stripped. Its format is documented in Go's `src/internal/abi/symtab.go` and
//! `debug/gosym/pclntab.go`:
//!
//! ```text
//! 0   4  magic: fffffffb until Go 1.15, fffffffa 1.16, fffffff0 1.18, fffffff1 from 1.20 on
//! 4   2  zero
//! 6   1  smallest instruction: 1
//! 7   1  size of a pointer: 8
//! 8   8  number of functions n
//!
//! until 1.15   16: table at 16
//! 1.16         16: files, names, units, files, pc table; 56: offset of the table
//! from 1.18    16: files; 24: address of the code; names, units, files, pc table; 64: offset of the table
//!
//! table:  n times begin and offset, then the end of the last function
//! ```
//!
//! Each number in the table has eight bytes and is an address, until 1.18: there it has four and counts from the code's address. A
//! position-independent program does not have that address in its file.

use std::ops::Range;

use crate::trapping::elf::{int, word};

/// The addresses of the functions in the table. Empty if the format is not known.
pub(super) fn read(bytes: &[u8]) -> Vec<Range<u64>> {
    functions(bytes).unwrap_or_default()
}

fn functions(bytes: &[u8]) -> Option<Vec<Range<u64>>> {
    const SHAPE: [u8; 4] = [0, 0, 1, 8];
    if bytes.get(4..8)? != SHAPE {
        return None;
    }
    let (table, size, base) = match int(bytes, 0)? as u32 {
        0xffff_fffb => (16, 8, 0),
        0xffff_fffa => (word(bytes, 56)?, 8, 0),
        0xffff_fff0 | 0xffff_fff1 => match word(bytes, 24)? {
            0 => return None,
            base => (word(bytes, 64)?, 4, base),
        },
        _ => return None,
    };
    let begin = |n: usize| {
        let at = usize::try_from(table)
            .ok()?
            .checked_add(n.checked_mul(2 * size)?)?;
        match size {
            8 => word(bytes, at),
            _ => base.checked_add(u64::from(int(bytes, at)? as u32)),
        }
    };
    let count = usize::try_from(word(bytes, 8)?).ok()?;
    // A damaged number must not cost memory.
    let ranges = (0..count).map_while(|n| Some(begin(n)?..begin(n + 1)?));
    Some(ranges.filter(|range| !range.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(all: &[u64]) -> Vec<u8> {
        all.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn ints(all: &[u32]) -> Vec<u8> {
        all.iter().flat_map(|int| int.to_le_bytes()).collect()
    }

    fn magic(last: u8) -> Vec<u8> {
        vec![last, 0xff, 0xff, 0xff, 0, 0, 1, 8]
    }

    #[test]
    fn all_formats_are_read() {
        let expected = [0x401000..0x401040, 0x401040..0x401100];
        let table = words(&[0x401000, 0, 0x401040, 0, 0x401100]);
        let old = [magic(0xfb), words(&[2]), table.clone()].concat();
        assert_eq!(read(&old), expected);
        let middle = [magic(0xfa), words(&[2, 9, 9, 9, 9, 9, 64]), table].concat();
        assert_eq!(read(&middle), expected);
        let new = |base| {
            let header = words(&[2, 9, base, 9, 9, 9, 9, 72]);
            [magic(0xf1), header, ints(&[0, 0, 0x40, 0, 0x100])].concat()
        };
        assert_eq!(read(&new(0x401000)), expected);
        assert!(read(&new(0)).is_empty(), "the address is not in the file");
    }

    #[test]
    fn a_damaged_table_has_the_functions_before_the_damage() {
        let table = words(&[0x401000, 0, 0x401040, 0]);
        let cut = [magic(0xfb), words(&[u64::MAX]), table].concat();
        assert_eq!(read(&cut), vec![0x401000..0x401040]);
        let wrong = [magic(0xfa), words(&[2, 9, 9, 9, 9, 9, u64::MAX])].concat();
        assert!(read(&wrong).is_empty());
        for len in 0..cut.len() {
            read(&cut[..len]);
        }
        assert!(read(&[0; 64]).is_empty());
    }
}
