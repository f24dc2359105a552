//! A digest of the memory that a task could have written. It distinguishes moments of an interval that
//! have the same registers (execution points).
//!
//! Recording and replay compute the digest from their own processes, so it depends on contents only
//! (I4): not on which pages exist, have been copied or are swapped out. Memory that cannot have changed
//! since the last event is left out: memory without write access, and rr's own.
//!
//! ```text
//! chunk = 2 MiB of address space with at least one page that is not all zeros
//! digest = xxh3-64 of (number of the page in the chunk, 8 bytes; its contents, 4096) for each such page
//! ```

use std::fs::File;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::error::{Error, Result};
use crate::ids::{Addr, AddrRange, ObjectId, PAGE, Tid};
use crate::memory::Memory;
use crate::pagemap::Pagemap;
use crate::read_at::ReadAt;
use crate::space::{AddressSpace, Backing, Prot};
use crate::sparse;

/// Size of a chunk in bytes.
pub const CHUNK: u64 = 2 << 20;
/// Number of bytes that are read at once.
const PIECE: u64 = 1 << 20;
const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// The digest of one chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkDigest {
    /// Address of the chunk.
    pub start: Addr,
    /// The digest.
    pub digest: u64,
}

/// The whole address space.
pub const ALL: AddrRange = AddrRange {
    start: Addr(0),
    end: Addr(u64::MAX),
};

/// The chunks of the address space of `tid` that lie `within` a range, with their digests, in order of
/// addresses. `object` returns the file with the contents of a shared memory object. An object without
/// a file is read where it is mapped.
pub fn chunk_digests<'a>(
    tid: Tid,
    space: &AddressSpace,
    within: AddrRange,
    object: impl Fn(ObjectId) -> Option<&'a File>,
) -> Result<Vec<ChunkDigest>> {
    let memory = Memory::of(tid);
    let pagemap = Pagemap::open(tid)?;
    let mut digests = Digests::default();
    let mut buffer = vec![0; PIECE as usize];
    let writable = space.iter().filter(|m| m.prot.has(Prot::WRITE));
    for mapping in writable.filter_map(|m| m.clipped(within)) {
        match mapping.backing {
            Backing::Rr => {}
            // Missing pages count as zeros, and many existing ones are zeros.
            Backing::Anonymous => {
                for (run, _) in pagemap.populated(mapping.range)? {
                    digests.memory(&memory, run, &mut buffer)?;
                }
            }
            Backing::File { .. } | Backing::CopyOnWrite { .. } => {
                digests.memory(&memory, mapping.range, &mut buffer)?
            }
            Backing::Shared { object: id, offset } => match object(id) {
                Some(file) => digests
                    .file(file, offset, mapping.range, &mut buffer)
                    .map_err(|e| Error::Proc {
                        path: format!("shared memory object {}", id.0),
                        why: e.to_string(),
                    })?,
                None => digests.memory(&memory, mapping.range, &mut buffer)?,
            },
        }
    }
    Ok(digests.finish())
}

/// The digest of the contents of each page of these ranges that can be read, to see which ones change.
pub fn page_digests(memory: &Memory, ranges: &[AddrRange]) -> Result<Vec<(Addr, u64)>> {
    let mut digests = Vec::new();
    let mut buffer = vec![0; PIECE as usize];
    for range in ranges {
        each_page(memory, *range, &mut buffer, |at, page| {
            digests.push((at, xxh3_64(page)));
        })?;
    }
    Ok(digests)
}

/// Calls `page` with the address and the contents of each page of a range that can be read.
fn each_page(
    memory: &Memory,
    range: AddrRange,
    buffer: &mut [u8],
    mut page: impl FnMut(Addr, &[u8]),
) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(PIECE) as usize;
        let got = memory.read_some(at, &mut buffer[..len])? & !(PAGE as usize - 1);
        for (n, bytes) in buffer[..got].chunks_exact(PAGE as usize).enumerate() {
            page(at + n as u64 * PAGE, bytes);
        }
        at = at + (got as u64).max(PAGE);
    }
    Ok(())
}

/// The first chunk in which two digests differ.
pub fn first_difference(a: &[ChunkDigest], b: &[ChunkDigest]) -> Option<Addr> {
    let differs = a.iter().zip(b).find(|(a, b)| a != b);
    let starts = differs.map(|(a, b)| a.start.min(b.start));
    let longer = if a.len() > b.len() { a } else { b };
    starts.or_else(|| longer.get(a.len().min(b.len())).map(|s| s.start))
}

#[derive(Default)]
struct Digests {
    done: Vec<ChunkDigest>,
    chunk: Addr,
    hash: Option<Xxh3>,
}

impl Digests {
    fn close(&mut self) {
        if let Some(hash) = self.hash.take() {
            let (start, digest) = (self.chunk, hash.digest());
            self.done.push(ChunkDigest { start, digest });
        }
    }

    fn page(&mut self, at: Addr, bytes: &[u8]) {
        if bytes == ZEROS {
            return;
        }
        let chunk = Addr(at.0 & !(CHUNK - 1));
        if chunk != self.chunk {
            self.close();
            self.chunk = chunk;
        }
        let hash = self.hash.get_or_insert_with(Xxh3::new);
        hash.update(&((at - chunk) / PAGE).to_le_bytes());
        hash.update(bytes);
    }

    /// Adds pages as the task sees them. Pages that it cannot see (beyond the end of a file) count as
    /// zeros.
    fn memory(&mut self, memory: &Memory, range: AddrRange, buffer: &mut [u8]) -> Result<()> {
        each_page(memory, range, buffer, |at, page| self.page(at, page))
    }

    /// Adds pages of a file that is mapped from `offset` on. Holes are zeros.
    fn file(&mut self, file: &File, offset: u64, range: AddrRange, buffer: &mut [u8]) -> std::io::Result<()> {
        let end = offset + range.len();
        let mut at = offset;
        while let Some(data) = sparse::next_data(file, at, end)? {
            let hole = data.end.next_multiple_of(PAGE).min(end);
            at = at.max(data.start & !(PAGE - 1));
            while at < hole {
                let len = (hole - at).min(PIECE) as usize;
                buffer[..len].fill(0);
                file.read_up_to(&mut buffer[..len], at)?;
                for (n, page) in buffer[..len].chunks_exact(PAGE as usize).enumerate() {
                    self.page(range.start + (at - offset) + n as u64 * PAGE, page);
                }
                at += len as u64;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<ChunkDigest> {
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::space::{ForkPolicy, Mapping};

    fn anonymous(bytes: &[u8]) -> (AddressSpace, Tid) {
        let range = AddrRange::sized(Addr(bytes.as_ptr() as u64).page_ceil(), PAGE * 4);
        let mapping = Mapping {
            range,
            prot: Prot::RW,
            backing: Backing::Anonymous,
            fork: ForkPolicy::Copy,
            name: "".into(),
        };
        (
            AddressSpace::from_mappings([mapping]),
            Tid(std::process::id() as i32),
        )
    }

    #[test]
    fn one_bit_changes_the_sum_and_zeros_do_not_count() {
        let mut bytes = vec![0u8; 6 * PAGE as usize];
        let (space, tid) = anonymous(&bytes);
        let sum = || chunk_digests(tid, &space, ALL, |_| None).unwrap();
        // Written, but the page is still zero.
        bytes[PAGE as usize] = 1;
        let one = sum();
        assert_eq!(one.len(), 1);
        bytes[PAGE as usize] = 0;
        assert!(sum().is_empty());
        bytes[2 * PAGE as usize] = 1;
        assert_ne!(sum(), one, "the same contents in another page");
        bytes[2 * PAGE as usize] = 0;
        bytes[PAGE as usize] = 1;
        assert_eq!(sum(), one);
    }

    #[test]
    fn holes_of_objects_are_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16 * CHUNK).unwrap();
        let mapping = Mapping {
            range: AddrRange::sized(Addr(0x10_0000_0000), 8 * CHUNK),
            prot: Prot::RW,
            backing: Backing::Shared {
                object: ObjectId(1),
                offset: CHUNK,
            },
            fork: ForkPolicy::Copy,
            name: "".into(),
        };
        let space = AddressSpace::from_mappings([mapping]);
        let tid = Tid(std::process::id() as i32);
        let sum = || chunk_digests(tid, &space, ALL, |_| Some(&file)).unwrap();
        assert!(sum().is_empty());
        file.write_all_at(b"before the mapping", 5).unwrap();
        assert!(sum().is_empty());
        file.write_all_at(b"x", 3 * CHUNK + 5).unwrap();
        let one = sum();
        assert_eq!(
            one.iter().map(|s| s.start).collect::<Vec<_>>(),
            [Addr(0x10_0000_0000 + 2 * CHUNK)]
        );
        // Zeros that were written are equal to a hole.
        file.write_all_at(&[0; 8192], 4 * CHUNK).unwrap();
        assert_eq!(sum(), one);
    }
}
