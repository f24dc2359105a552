//! The functions of a file, by the tables that it has.

mod frames;
mod go;
mod symbols;

use std::ops::Range;

use super::elf::{Part, Table};
use crate::read_at::ReadAt;

/// Maximum size of a table that is read.
const TABLE_MOST: usize = 256 << 20;

/// The addresses of each function, by beginning.
#[derive(Default)]
pub(super) struct Functions(Vec<Range<u64>>);

impl Functions {
    /// Reads a table. There are no functions in one that cannot be read or is too large.
    pub fn read(file: &impl ReadAt, table: Table, part: Part) -> Functions {
        let len = usize::try_from(part.len).ok().filter(|len| *len < TABLE_MOST);
        let mut bytes = vec![0; len.unwrap_or(0)];
        if file.read_exact_at(&mut bytes, part.offset).is_err() {
            return Functions::default();
        }
        let mut functions = match table {
            Table::Frames => frames::read(&bytes, part.vaddr),
            Table::Symbols => symbols::read(&bytes),
            Table::Go => go::read(&bytes),
        };
        functions.sort_unstable_by_key(|function| (function.start, function.end));
        Functions(functions)
    }

    /// The addresses of the function that a place belongs to.
    pub fn around(&self, place: u64) -> Option<Range<u64>> {
        let after = self.0.partition_point(|function| function.start <= place);
        let function = self.0.get(after.checked_sub(1)?)?;
        function.contains(&place).then(|| function.clone())
    }
}
