//! The records of buffered calls in the bytes that an event carries (`preload/src/layout.rs` draws them).
//!
//! Nothing is believed that was not checked: what is read here may come from a damaged trace. Long outputs are passed over, not
//! copied.

use rr_preload::layout::RECORD_BYTES;
use rr_preload::records::{self, Head, Record};

use crate::bytes::{Bytes, Reader};

/// Maximum number of bytes of a call's outputs that are kept.
const SHORT: usize = 64;

/// A record of a buffered call, with the beginning of its outputs.
#[derive(Clone, Copy, Debug)]
pub struct RecordPrefix {
    number: i64,
    result: i64,
    outputs: [u8; SHORT],
    len: usize,
    end: usize,
}

impl RecordPrefix {
    /// It as a record that ends as far from its own beginning as the whole one.
    pub fn record(&self) -> Record<'_> {
        Record {
            number: self.number,
            result: self.result,
            outputs: &self.outputs[..self.len],
            end: self.end,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<RecordPrefix> {
        let head = Head::of(reader.word()?);
        let result = reader.word()? as i64;
        let mut outputs = [0; SHORT];
        let len = head.outputs.min(SHORT);
        let rest = head.record() - RECORD_BYTES as usize - len;
        let whole = reader.fill(&mut outputs[..len]) && reader.skip(rest);
        whole.then_some(RecordPrefix {
            number: head.number,
            result,
            outputs,
            len,
            end: head.record(),
        })
    }
}

impl Bytes {
    /// Calls `each` with every record, as [`RecordPrefix`] has it. Says whether there are whole records and nothing else.
    pub fn each_record(&self, mut each: impl FnMut(&Record<'_>)) -> bool {
        let mut reader = self.reader();
        while !reader.is_at_end() {
            // Few records are cut: most need no copy.
            if let Some(record) = records::at(reader.here(), 0) {
                reader.skip(record.end);
                let outputs = &record.outputs[..record.outputs.len().min(SHORT)];
                each(&Record { outputs, ..record });
                continue;
            }
            let Some(brief) = RecordPrefix::read(&mut reader) else {
                return false;
            };
            each(&brief.record());
        }
        true
    }

    /// The record that begins `at` bytes from the beginning.
    pub fn record_at(&self, at: usize) -> Option<RecordPrefix> {
        let mut reader = self.reader();
        reader.skip(at).then(|| RecordPrefix::read(&mut reader)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn bytes(number: u64, outputs: u64) -> Vec<u8> {
        let mut bytes = (number | outputs << 12 | 0xabcd << 32).to_le_bytes().to_vec();
        bytes.extend(5u64.to_le_bytes());
        bytes.extend((0..outputs).map(|n| n as u8));
        bytes.resize(bytes.len().next_multiple_of(8), 7);
        bytes
    }

    #[test]
    fn they_are_the_records_of_the_slice() {
        let all = [bytes(0, 3), bytes(228, 200), bytes(39, 0), bytes(9, 64)].concat();
        let given = Bytes::from(all.clone());
        for cut in 0..=all.len() {
            let part = Bytes::from(all[..cut].to_vec());
            let mut seen = Vec::new();
            let mut see = |r: &Record<'_>| seen.push((r.number, r.result, r.outputs.to_vec(), r.end));
            let whole = part.each_record(&mut see);
            assert_eq!(whole, records::are_whole(&all[..cut]), "{cut}");
            let short = |r: Record<'_>| {
                (
                    r.number,
                    r.result,
                    r.outputs[..r.outputs.len().min(SHORT)].to_vec(),
                    (16 + r.outputs.len()).next_multiple_of(8),
                )
            };
            let expected: Vec<_> = records::iter(&all[..cut]).map(short).collect();
            assert_eq!(seen, expected);
            // In two parts it is the same.
            seen.clear();
            let mut parts = Bytes::default();
            parts.push(&Arc::new(all.clone()), 0..cut);
            parts.push(&Arc::new(all.clone()), cut..all.len());
            let mut see = |r: &Record<'_>| seen.push((r.number, r.result, r.outputs.to_vec(), r.end));
            assert!(parts.each_record(&mut see) && parts.count() <= 2);
            assert_eq!(seen, records::iter(&all).map(short).collect::<Vec<_>>());
        }
        assert_eq!(given.record_at(24).map(|r| r.number), Some(228));
        assert!(given.record_at(all.len()).is_none() && given.record_at(usize::MAX).is_none());
    }
}
