//! The index of stored contents, which lives from one checkpoint to the next.
//!
//! A checkpoint is read while its predecessors are still being compressed, written or synced, and it refers to
//! their blocks all the same. Two things make that sound:
//!
//! * a [`StoredBlock`] is shared: where it lies is filled in when it is written, which is before any later
//!   checkpoint is completed, because they are completed in order;
//! * a [`WriteStatus`] is shared: whether the checkpoint that a block belongs to made it to its final name. One that
//!   refers to a block of a checkpoint that failed is dropped in its turn, and the captures that are read after
//!   the failure do not refer to it any more. So nothing on disk ever refers to a file that is not there.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::baseline::Baseline;
use crate::block::BlockRef;
use crate::write_status::WriteStatus;

/// A block of a checkpoint that may be still on its way to the disk.
#[derive(Debug)]
pub(crate) struct StoredBlock {
    /// Of the checkpoint in whose file it is.
    pub status: Arc<WriteStatus>,
    /// The place of the block, as soon as it is written.
    pub place: OnceLock<BlockRef>,
}

/// Contents that a checkpoint can refer to: those of the blocks that the capture before, read whole, has pages in.
///
/// One table for all captures, so that one which finds little changed costs little. A capture adds its blocks while it is
/// read. In the end it either settles how much of each block is in use now ([`ContentIndex::settle`]), and the blocks that are in use no
/// more go; or it failed, and its own blocks go ([`ContentIndex::forget`]), so that nothing is different from before.
#[derive(Default)]
pub(crate) struct ContentIndex {
    pages: HashMap<u128, PageLocation>,
    /// By number; those of blocks that have gone are given again.
    blocks: Vec<Option<IndexedBlock>>,
    free: Vec<u32>,
    /// The pages of the capture before.
    pub baseline: Option<Baseline>,
}

/// The place of a page: number of the block, and place in the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageLocation {
    pub block: u32,
    pub slot: u16,
}

/// A block in the table.
pub(crate) struct IndexedBlock {
    pub block: Arc<StoredBlock>,
    /// The digests of its pages.
    pages: Vec<u128>,
    /// The number of its pages that the last capture has that was read whole.
    live: u16,
}

impl IndexedBlock {
    /// Says if a new checkpoint may refer to the block. It may not if the block's file failed. It may not either if too
    /// little of the block is in use to keep it alive: a restore decompresses whole blocks, and with this bound at most
    /// four times what it needs.
    fn is_of_use(&self) -> bool {
        u64::from(self.live) * 4 >= self.pages.len() as u64 && !self.block.status.has_failed()
    }
}

impl ContentIndex {
    /// A new block, without pages yet.
    pub fn add_block(&mut self, status: &Arc<WriteStatus>) -> (u32, Arc<StoredBlock>) {
        let block = Arc::new(StoredBlock {
            status: status.clone(),
            place: OnceLock::new(),
        });
        let known = Some(IndexedBlock {
            block: block.clone(),
            pages: Vec::new(),
            live: 0,
        });
        match self.free.pop() {
            Some(number) => {
                self.blocks[number as usize] = known;
                (number, block)
            }
            None => {
                self.blocks.push(known);
                (self.blocks.len() as u32 - 1, block)
            }
        }
    }

    /// Adds a page to a block, after those that it has.
    pub fn add_page(&mut self, block: u32, digest: u128) {
        if let Some(known) = &mut self.blocks[block as usize] {
            let slot = known.pages.len() as u16;
            known.pages.push(digest);
            self.pages.insert(digest, PageLocation { block, slot });
        }
    }

    /// Finds a content, in whatever file it is.
    pub fn find(&self, digest: u128) -> Option<PageLocation> {
        self.pages.get(&digest).copied()
    }

    /// A block of an earlier capture, if a checkpoint may refer to it.
    pub fn usable(&self, number: u32) -> Option<&Arc<StoredBlock>> {
        let known = self.blocks.get(number as usize)?.as_ref()?;
        known.is_of_use().then_some(&known.block)
    }

    /// A capture was read whole: `live` says how many pages of each block it has (0 beyond its end).
    pub fn settle(&mut self, live: &[u16]) {
        for number in 0..self.blocks.len() {
            let now = live.get(number).copied().unwrap_or(0);
            match &mut self.blocks[number] {
                Some(known) if now > 0 => known.live = now,
                Some(_) => self.forget(number as u32),
                None => {}
            }
        }
    }

    /// A block is to be referred to no more.
    pub fn forget(&mut self, number: u32) {
        let Some(known) = self.blocks[number as usize].take() else {
            return;
        };
        for (slot, digest) in known.pages.iter().enumerate() {
            let place = PageLocation {
                block: number,
                slot: slot as u16,
            };
            // The content may be in a newer block by now.
            if self.pages.get(digest) == Some(&place) {
                self.pages.remove(digest);
            }
        }
        self.free.push(number);
    }
}
