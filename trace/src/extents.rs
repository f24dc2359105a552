//! Extents: the data of a group without what it holds already.
//!
//! The next program reads from a pipe the bytes that one program writes into it, and both are recorded: the same bytes stand
//! in a group twice, a moment apart. Data frames then hold them once, and an Extents frame says how the data are put together:
//!
//! ```text
//! data        | A: 128 KiB read from a file      | B, C, …: 16 KiB read from the pipe, each a part of A     | 64 KiB of zeros |
//! Data frames | A                                |
//! Extents      | 0, 128 Ki                        | 0, 16 Ki | 16 Ki, 16 Ki | …                             | ZEROS, 64 Ki    |
//! ```
//!
//! The payload is a list of entries of 8 bytes, two little-endian numbers of 32 bits: where in the Data frames of the
//! group the extent begins (all ones: it is zeros), and its length, which is not 0. A group with an Extents frame has at most
//! [`BATCH_DATA_MAX`] bytes of data.
//!
//! References never leave their group, so reading can begin at any group as before; and a copy refers to stored bytes,
//! never to another copy, so putting together takes one step.
//!
//! Equal bytes are found at the speed of memcmp, by their places: where the last copy ended, the next one is likely to go
//! on; if not, a table of the beginnings of stored blocks is asked, once per block.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use rr_preload::layout::RECORD_BYTES;
use rr_preload::records;

use crate::bytes::Bytes;
use crate::error::{Malformed, Result};
use crate::event::Event;
use crate::message::{self, BATCH_DATA_MAX, Data};

/// The place of an extent that is zeros.
const ZEROS: u32 = u32::MAX;
/// Bytes of an entry.
const ENTRY: usize = 8;
/// Bytes of a block: a copy is as long as this at least …
const BLOCK: usize = 4096;
/// … but one that continues the last one may be as short as this, or as what is left of a string; shorter strings are not looked at.
const CONTINUED: usize = 256;
/// The number of bytes that are compared first, and hashed.
const HEAD: usize = 64;
/// Maximum number of bytes of an event that share the block that they were read into …
const SHARED: u64 = 16 << 10;
/// … if they are in at most this number of parts.
const PARTS: usize = 64;
/// Zeros that are shared by all.
const ZEROS_SHARED: usize = 64 << 10;
/// Entries of the table of blocks: more than a group has, a power of two.
const SLOTS: usize = 4096;

/// A part of the data of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Extent {
    /// Its offset in the stored bytes, or [`ZEROS`].
    at: u32,
    len: u32,
}

/// The plan of how the data of a group are stored.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    /// The bytes to store, in order.
    pub(crate) stored: Vec<&'a [u8]>,
    stored_len: u32,
    extents: Vec<Extent>,
    /// There are zeros or copies.
    saves: bool,
}

/// A run of stored bytes that copies may refer to.
#[derive(Clone, Copy)]
struct Source<'a> {
    bytes: &'a [u8],
    at: u32,
}

/// A place in a source: number and offset.
type Place = (usize, usize);

/// Makes a [`Plan`].
struct Planner<'a> {
    plan: Plan<'a>,
    sources: Vec<Source<'a>>,
    /// Beginnings of blocks, by the hash of their first bytes.
    table: Vec<Option<Place>>,
    /// The end of the last copy.
    expected: Place,
}

impl<'a> Plan<'a> {
    /// The payload of the Extents frame, if one is needed.
    pub(crate) fn payload(&self) -> Option<Vec<u8>> {
        let entry = |p: &Extent| [p.at.to_le_bytes(), p.len.to_le_bytes()].concat();
        self.saves.then(|| self.extents.iter().flat_map(entry).collect())
    }

    fn extent(&mut self, at: u32, len: usize) {
        let len = len as u32;
        match self.extents.last_mut() {
            Some(last) if at != ZEROS && last.at != ZEROS && last.at + last.len == at => last.len += len,
            Some(last) if at == ZEROS && last.at == ZEROS => last.len += len,
            _ => self.extents.push(Extent { at, len }),
        }
    }

    fn store(&mut self, bytes: &'a [u8]) {
        if bytes.is_empty() {
            return;
        }
        self.extent(self.stored_len, bytes.len());
        self.stored_len += bytes.len() as u32;
        self.stored.push(bytes);
    }
}

/// Plans how to store the data of these events.
pub(crate) fn plan(events: &[Event]) -> Plan<'_> {
    let total: u64 = events
        .iter()
        .flat_map(message::blobs)
        .map(|b| b.len() as u64)
        .sum();
    if total > BATCH_DATA_MAX || total < 2 * BLOCK as u64 {
        let stored = events.iter().flat_map(message::blobs).collect();
        return Plan {
            stored,
            ..Plan::default()
        };
    }
    let mut planner = Planner {
        plan: Plan::default(),
        sources: Vec::new(),
        table: Vec::new(),
        expected: (0, 0),
    };
    for event in events {
        for records in event.buffered.parts() {
            let mut from = 0;
            for output in outputs(records) {
                planner.plan.store(&records[from..output.start]);
                planner.string(&records[output.clone()]);
                from = output.end;
            }
            planner.plan.store(&records[from..]);
        }
        message::effects(event).for_each(|bytes| planner.string(bytes));
    }
    planner.plan
}

/// The outputs in the records of buffered calls that are worth a look. If these bytes are no records, it does not matter.
fn outputs(records: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    records::iter(records)
        .map(move |record| {
            let start = at + RECORD_BYTES as usize;
            at = record.end;
            start..start + record.outputs.len()
        })
        .filter(|output| output.len() >= CONTINUED)
}

impl<'a> Planner<'a> {
    /// Adds a string of bytes that another may repeat.
    fn string(&mut self, bytes: &'a [u8]) {
        // Bytes before `from` are in the plan; bytes between `from` and `at` are to be stored.
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            let continues = from == at && at > 0;
            if rest.len() < CONTINUED && !continues {
                break;
            }
            let zeros = zeros_at(rest);
            let found = if zeros >= BLOCK { None } else { self.find(rest) };
            if zeros < BLOCK && found.is_none() {
                if rest.len() < BLOCK {
                    break;
                }
                // This will be the source that is pushed next.
                self.table.resize(SLOTS, None);
                self.table[slot(rest)] = Some((self.sources.len(), at - from));
                at += BLOCK;
                continue;
            }
            self.stored_run(&bytes[from..at]);
            self.plan.saves = true;
            if let Some(((source, offset), len)) = found {
                self.plan.extent(self.sources[source].at + offset as u32, len);
                self.expected = (source, offset + len);
                at += len;
            } else {
                self.plan.extent(ZEROS, zeros);
                at += zeros;
            }
            from = at;
        }
        self.stored_run(&bytes[from..]);
    }

    /// Bytes of a string that are stored.
    fn stored_run(&mut self, bytes: &'a [u8]) {
        let at = self.plan.stored_len;
        self.plan.store(bytes);
        if bytes.len() >= BLOCK {
            self.sources.push(Source { bytes, at });
        }
    }

    /// Finds stored bytes that begin like these: their place, and how many are equal.
    fn find(&self, rest: &[u8]) -> Option<(Place, usize)> {
        // Bytes that were read in two parts may be written in one, and the other way round.
        let (source, offset) = self.expected;
        let here = self.sources.get(source)?;
        let expected = if offset < here.bytes.len() {
            (source, offset)
        } else {
            (source + 1, 0)
        };
        if let Some(len) = self.matching(expected, rest) {
            let ends = |bytes: &[u8], from: usize| from + len == bytes.len();
            let whole = ends(rest, 0) || ends(self.sources[expected.0].bytes, expected.1);
            if len >= CONTINUED || whole {
                return Some((expected, len));
            }
        }
        if rest.len() < BLOCK {
            return None;
        }
        let place = self.table.get(slot(rest)).copied()??;
        let len = self.matching(place, rest)?;
        (len >= BLOCK).then_some((place, len))
    }

    fn matching(&self, (source, offset): Place, rest: &[u8]) -> Option<usize> {
        let there = self.sources.get(source)?.bytes.get(offset..)?;
        let n = there.len().min(rest.len());
        let mut equal = HEAD.min(n);
        if there[..equal] != rest[..equal] {
            return None;
        }
        while equal < n {
            let end = (equal + BLOCK).min(n);
            if there[equal..end] != rest[equal..end] {
                let differs = there[equal..end]
                    .iter()
                    .zip(&rest[equal..end])
                    .position(|(a, b)| a != b);
                return Some(equal + differs.unwrap_or(0));
            }
            equal = end;
        }
        Some(n)
    }
}

/// The entry of the table for a block.
fn slot(block: &[u8]) -> usize {
    xxhash_rust::xxh3::xxh3_64(&block[..HEAD.min(block.len())]) as usize % SLOTS
}

/// With how many zeros this begins, in whole blocks (the last one may be shorter).
fn zeros_at(bytes: &[u8]) -> usize {
    static NONE: [u8; BLOCK] = [0; BLOCK];
    let blocks = bytes
        .chunks(BLOCK)
        .take_while(|block| **block == NONE[..block.len()]);
    blocks.map(<[u8]>::len).sum()
}

/// The extents that an Extents frame tells of.
pub(crate) struct Extents(Vec<Extent>);

impl Extents {
    /// From the payload. `stored` is how many bytes the Data frames of the group have, `total` how many the events.
    pub(crate) fn read(payload: &[u8], stored: u64, total: u64) -> Result<Extents, Malformed> {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n: u32, b| n << 8 | u32::from(*b));
        let (entries, odd) = payload.split_at(payload.len() / ENTRY * ENTRY);
        let extents: Vec<Extent> = entries
            .chunks_exact(ENTRY)
            .map(|entry| Extent {
                at: number(&entry[..4]),
                len: number(&entry[4..]),
            })
            .collect();
        let mut sum = 0;
        for Extent { at, len } in &extents {
            sum += u64::from(*len);
            if *len == 0 || *at != ZEROS && u64::from(*at) + u64::from(*len) > stored {
                return Err(Malformed::new(format!(
                    "an extent of {len} bytes from byte {at} on, of {stored} that are stored"
                )));
            }
        }
        if !odd.is_empty() || sum != total || total > BATCH_DATA_MAX || stored > BATCH_DATA_MAX {
            return Err(Malformed::new(format!(
                "events with {total} bytes of data, but {sum} bytes in extents of {stored} that are stored"
            )));
        }
        Ok(Extents(extents))
    }
}

/// The data of a group, put together: gives the next bytes, as many as it is asked for.
pub(crate) struct Assembly<'a> {
    stored: &'a Arc<Vec<u8>>,
    extents: std::vec::IntoIter<Extent>,
    /// The rest of the extent under way.
    current: Extent,
}

impl<'a> Assembly<'a> {
    /// From what the Data frames hold, the first `len` bytes of `stored`, and the extents, if there are any.
    pub(crate) fn new(stored: &'a Arc<Vec<u8>>, len: usize, extents: Option<Extents>) -> Assembly<'a> {
        let len = len as u32;
        let extents = extents.unwrap_or(Extents(vec![Extent { at: 0, len }]));
        Assembly {
            stored,
            extents: extents.0.into_iter(),
            current: Extent { at: ZEROS, len: 0 },
        }
    }

    /// Takes the next extent, or as much as `most` of it; `None` if there is none.
    fn next(&mut self, most: usize) -> Option<(u32, usize)> {
        if self.current.len == 0 {
            self.current = self.extents.next()?;
        }
        let Extent { at, len } = self.current;
        let now = most.min(len as usize);
        if at != ZEROS {
            self.current.at += now as u32;
        }
        self.current.len -= now as u32;
        Some((at, now))
    }
}

impl Data for Assembly<'_> {
    // They are there: the lengths were compared, and the extents are within what is stored.
    fn take(&mut self, len: u64) -> Result<Vec<u8>> {
        let len = len.min(BATCH_DATA_MAX) as usize;
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            match self.next(len - out.len()) {
                Some((ZEROS, now)) => out.resize(out.len() + now, 0),
                Some((at, now)) => out.extend_from_slice(&self.stored[at as usize..at as usize + now]),
                None => break,
            }
        }
        Ok(out)
    }

    fn share(&mut self, len: u64) -> Result<Bytes> {
        // Sharing keeps the whole block in memory, and a part has its price too.
        if len < SHARED {
            return Ok(self.take(len)?.into());
        }
        static NONE: LazyLock<Arc<Vec<u8>>> = LazyLock::new(|| Arc::new(vec![0; ZEROS_SHARED]));
        let len = len.min(BATCH_DATA_MAX) as usize;
        let mut out = Bytes::default();
        while out.len() < len {
            match self.next(len - out.len()) {
                Some((ZEROS, now)) => {
                    for done in (0..now).step_by(ZEROS_SHARED) {
                        out.push(&NONE, 0..ZEROS_SHARED.min(now - done));
                    }
                }
                Some((at, now)) => out.push(self.stored, at as usize..at as usize + now),
                None => break,
            }
        }
        Ok(if out.count() > PARTS {
            out.to_vec().into()
        } else {
            out
        })
    }
}

#[cfg(test)]
mod tests;
