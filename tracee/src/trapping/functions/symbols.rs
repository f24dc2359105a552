//! Functions by the symbol table (elf(5)): assembly code often has no unwind tables, but symbols with sizes.

use std::ops::Range;

use crate::trapping::elf::word;

/// The addresses of the functions that the section names.
pub(super) fn read(bytes: &[u8]) -> Vec<Range<u64>> {
    const ENTRY: usize = 24;
    const STT_FUNC: u8 = 2;
    const SHN_UNDEF: [u8; 2] = [0, 0];
    let function = |entry: &[u8]| {
        let (start, size) = (word(entry, 8)?, word(entry, 16)?);
        let is_function = entry[4] & 0xf == STT_FUNC && entry[6..8] != SHN_UNDEF;
        (is_function && size != 0).then_some(start..start.checked_add(size)?)
    };
    bytes.chunks_exact(ENTRY).filter_map(function).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(info: u8, section: u16, value: u64, size: u64) -> Vec<u8> {
        let mut entry = vec![0, 0, 0, 0, info, 0];
        entry.extend(section.to_le_bytes());
        entry.extend(value.to_le_bytes());
        entry.extend(size.to_le_bytes());
        entry
    }

    #[test]
    fn only_functions_with_a_size_count() {
        let all = [
            symbol(0x12, 1, 0x1000, 0x20),
            symbol(0x11, 1, 0x2000, 8),
            symbol(0x12, 0, 0, 0x20),
            symbol(0x02, 1, 0x3000, 0),
            symbol(0x02, 1, u64::MAX, 2),
            symbol(0x02, 1, 0x4000, 1),
        ];
        let mut bytes = all.concat();
        bytes.extend([0; 7]);
        assert_eq!(read(&bytes), [0x1000..0x1020, 0x4000..0x4001]);
    }
}
