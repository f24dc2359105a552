//! Blocks: compressed runs of pages in a checkpoint file.
//!
//! A block holds up to [`BLOCK_PAGES`] pages that were captured one after the
//! other, compressed together, so that neighbours help each other; pages that do
//! not shrink are kept as they are. A [`BlockRef`] says everything needed to get
//! the pages back: file, place, length, codec and checksum of the bytes. So a page
//! that was stored by an earlier checkpoint is found in one step, without that
//! checkpoint's index, and a file that was exchanged is noticed.

use rr_tracee::ids::PAGE;

use crate::checksum::checksum_matches;
use crate::compression::Compression;

/// Bytes of a page.
pub const PAGE_BYTES: usize = PAGE as usize;

/// Pages that the writer puts into one block.
pub const BLOCK_PAGES: usize = 64;

/// Pages that a reader accepts in one block.
pub const MAX_BLOCK_PAGES: usize = 256;

/// The place of the pages of a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockRef {
    /// The event of the checkpoint whose file holds it.
    pub event: u64,
    /// Offset of its first byte in that file.
    pub offset: u64,
    /// Bytes in the file.
    pub length: u32,
    /// Pages in it.
    pub pages: u16,
    /// The codec of the bytes in the file.
    pub compression: Compression,
    /// XXH3-64 of the bytes in the file.
    pub checksum: u64,
}

impl BlockRef {
    /// Bytes of its pages.
    pub fn raw_len(&self) -> usize {
        self.pages as usize * PAGE_BYTES
    }

    /// A fault of the reference itself, whatever the file holds.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if self.pages == 0 || self.pages as usize > MAX_BLOCK_PAGES {
            Some("block with an impossible number of pages")
        } else if self.length == 0 || self.length as usize > self.raw_len() {
            Some("block with an impossible length")
        } else {
            None
        }
    }

    /// Puts the pages into `pages`, from the bytes in the file; what is wrong with these otherwise.
    pub(crate) fn unpack(&self, bytes: &[u8], pages: &mut Vec<u8>) -> Result<(), String> {
        if !checksum_matches(bytes, self.checksum) {
            return Err("checksum of a page block does not match".into());
        }
        let done = self.compression.decompress(bytes, self.raw_len(), pages);
        done.map_err(|e| format!("page block does not decompress: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Compressor;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn pack(raw: &[u8]) -> (BlockRef, Vec<u8>) {
        let (compression, bytes) = Compressor::new(1).compress(raw);
        (reference(raw, &bytes, compression), bytes)
    }

    fn reference(raw: &[u8], bytes: &[u8], compression: Compression) -> BlockRef {
        let pages = (raw.len() / PAGE_BYTES) as u16;
        BlockRef {
            event: 1,
            offset: 0,
            length: bytes.len() as u32,
            pages,
            compression,
            checksum: xxh3_64(bytes),
        }
    }

    fn unpack(block: &BlockRef, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut pages = vec![9; 3 * PAGE_BYTES];
        block.unpack(bytes, &mut pages).map(|()| pages)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_was_packed_comes_back(pages in 1usize..5, seed in any::<u64>(), noise in 0u64..9) {
            let mut x = seed | 1;
            let raw: Vec<u8> = (0..pages * PAGE_BYTES).map(|i| {
                x ^= x << 13; x ^= x >> 7; x ^= x << 17;
                if x % 8 < noise { x as u8 } else { (i / 64) as u8 }
            }).collect();
            let (block, bytes) = pack(&raw);
            prop_assert!(bytes.len() <= raw.len());
            prop_assert_eq!(block.fault(), None);
            prop_assert_eq!(unpack(&block, &bytes).unwrap(), raw);
        }
    }

    #[test]
    fn a_stream_of_another_length_is_refused() {
        let raw = vec![5; 2 * PAGE_BYTES];
        let (whole, bytes) = pack(&raw);
        for pages in [1, 3] {
            let block = BlockRef { pages, ..whole };
            assert!(unpack(&block, &bytes).unwrap_err().contains("decompress"));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let raw: Vec<u8> = (0..PAGE_BYTES).map(|i| (i / 100) as u8).collect();
        let (block, bytes) = pack(&raw);
        for bit in 0..bytes.len() * 8 {
            let mut rotten = bytes.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(unpack(&block, &rotten).is_err(), "bit {bit}");
        }
    }
}
