//! The records of buffered calls in the bytes that an event carries (`preload/src/layout.rs` draws them).
//!
//! Nothing is believed that was not checked: what is read here may come from a damaged trace. Long outputs are passed over, not
//! copied.

use rr_preload::layout::RECORD_BYTES;
use rr_preload::records::{Head, Record};

use crate::bytes::{Bytes, Reader};

/// So many bytes of a call's outputs are kept.
const SHORT: usize = 64;

/// A record of a buffered call, with the beginning of its outputs.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    number: i64,
    result: i64,
    outputs: [u8; SHORT],
    len: usize,
}

impl Brief {
    /// It as a record that ends nowhere.
    pub fn record(&self) -> Record<'_> {
        Record {
            number: self.number,
            result: self.result,
            outputs: &self.outputs[..self.len],
            end: 0,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Brief> {
        let head = Head::of(reader.word()?);
        let result = reader.word()? as i64;
        let mut outputs = [0; SHORT];
        let len = head.outputs.min(SHORT);
        let rest = head.record() - RECORD_BYTES as usize - len;
        let whole = reader.fill(&mut outputs[..len]) && reader.skip(rest);
        whole.then_some(Brief {
            number: head.number,
            result,
            outputs,
            len,
        })
    }
}

impl Bytes {
    /// The records in these bytes, one after the other, as far as they are whole.
    pub fn records(&self) -> impl Iterator<Item = Brief> {
        let mut reader = self.reader();
        std::iter::from_fn(move || Brief::read(&mut reader))
    }

    /// Calls `each` with every record. Says whether there are whole records and nothing else.
    pub fn each_record(&self, mut each: impl FnMut(&Record<'_>)) -> bool {
        let mut reader = self.reader();
        while !reader.is_at_end() {
            let Some(brief) = Brief::read(&mut reader) else {
                return false;
            };
            each(&brief.record());
        }
        true
    }

    /// The record that begins so many bytes from the beginning.
    pub fn record_at(&self, at: usize) -> Option<Brief> {
        let mut reader = self.reader();
        reader.skip(at).then(|| Brief::read(&mut reader)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rr_preload::records;

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
        let same = records::iter(&all).zip(given.records()).all(|(record, brief)| {
            let outputs = &record.outputs[..record.outputs.len().min(SHORT)];
            let brief = brief.record();
            (record.number, record.result, outputs) == (brief.number, brief.result, brief.outputs)
        });
        assert!(same && given.records().count() == 4);
        for cut in 0..=all.len() {
            let part = Bytes::from(all[..cut].to_vec());
            let mut count = 0;
            let whole = part.each_record(|_| count += 1);
            assert_eq!(whole, records::are_whole(&all[..cut]), "{cut}");
            assert_eq!(count, records::iter(&all[..cut]).count());
        }
        assert_eq!(given.record_at(24).map(|r| r.number), Some(228));
        assert!(given.record_at(all.len()).is_none() && given.record_at(usize::MAX).is_none());
    }
}
