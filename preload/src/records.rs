//! Records as the rest of rr reads them ([`crate::layout`] shows them).
//!
//! The records may come from a damaged trace, so every field is checked before it is used.

use crate::layout::RECORD_BYTES;
use crate::payload::{self, Digest};

/// The result of one buffered call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The number of the call.
    pub number: i64,
    /// Its result.
    pub result: i64,
    /// The outputs of the call, or the description of its change.
    pub outputs: &'a [u8],
    /// Offset of the next record.
    pub end: usize,
}

impl Record<'_> {
    /// The digest of the bytes that the call has handed to the outside world.
    pub fn payload(&self) -> Option<Digest> {
        let digest = <[u8; 4]>::try_from(self.outputs).ok()?;
        let is_digest = payload::is_buffered(self.number.try_into().ok()?);
        is_digest.then(|| Digest::of_value(u32::from_le_bytes(digest)))?
    }
}

/// The fields of the first word of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The number of the call.
    pub number: i64,
    /// Length of the outputs.
    pub outputs: usize,
}

impl Head {
    /// Splits the word into its fields.
    pub fn of(word: u64) -> Head {
        Head {
            number: (word & 0xfff) as i64,
            outputs: (word >> 12 & 0xf_ffff) as usize,
        }
    }

    /// Length of the whole record, in bytes.
    pub fn record(self) -> usize {
        (RECORD_BYTES as usize + self.outputs).next_multiple_of(8)
    }
}

/// The record at `at`, if there is a complete one.
pub fn at(records: &[u8], at: usize) -> Option<Record<'_>> {
    let (first, rest) = records.get(at..)?.split_first_chunk::<8>()?;
    let (result, rest) = rest.split_first_chunk::<8>()?;
    let head = Head::of(u64::from_le_bytes(*first));
    let end = at + head.record();
    (end <= records.len()).then_some(Record {
        number: head.number,
        result: i64::from_le_bytes(*result),
        outputs: rest.get(..head.outputs)?,
        end,
    })
}

/// All records in order, up to the first incomplete one.
pub fn iter(records: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let record = at(records, next)?;
        next = record.end;
        Some(record)
    })
}

/// Returns whether the bytes consist of complete records only.
pub fn are_whole(records: &[u8]) -> bool {
    iter(records).last().map_or(0, |last| last.end) == records.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, outputs: u64) -> Vec<u8> {
        let mut bytes = (number | outputs << 12 | 0xabcd << 32).to_le_bytes().to_vec();
        bytes.resize((16 + outputs).next_multiple_of(8) as usize, 7);
        bytes
    }

    #[test]
    fn records_are_found_and_a_cut_is_noticed() {
        let all = [record(0, 3), record(228, 16), record(39, 0)].concat();
        let numbers: Vec<i64> = iter(&all).map(|r| r.number).collect();
        assert_eq!(numbers, [0, 228, 39]);
        assert!(are_whole(&all) && are_whole(&[]));
        let ends: Vec<usize> = iter(&all).map(|r| r.end).collect();
        for cut in 1..all.len() {
            assert_eq!(are_whole(&all[..cut]), ends.contains(&cut), "{cut}");
        }
    }
}
