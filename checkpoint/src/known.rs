//! What is known about stored contents, from one checkpoint to the next.
//!
//! A checkpoint is read while its predecessors are still being compressed, written or synced, and it refers to
//! their blocks all the same. Two things make that sound:
//!
//! * a [`Block`] is shared: where it lies is filled in when it is written, which is before any later
//!   checkpoint is completed, because they are completed in order;
//! * a [`Fate`] is shared: whether the checkpoint that a block belongs to made it to its final name. One that
//!   refers to a block of a checkpoint that failed is dropped in its turn, and the captures that are read after
//!   the failure do not refer to it any more. So nothing on disk ever refers to a file that is not there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::block::BlockRef;

/// Whether a checkpoint can be referred to.
#[derive(Debug)]
pub(crate) struct Fate {
    /// Its event.
    pub event: u64,
    failed: AtomicBool,
}

impl Fate {
    pub fn new(event: u64) -> Arc<Fate> {
        let failed = AtomicBool::new(false);
        Arc::new(Fate { event, failed })
    }

    /// There is not going to be such a file, and its temporary one is gone.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// A block of a checkpoint that may be still on its way to the disk.
#[derive(Debug)]
pub(crate) struct Block {
    /// Of the checkpoint in whose file it is.
    pub fate: Arc<Fate>,
    /// Where, as soon as it is written.
    pub place: OnceLock<BlockRef>,
}

/// Contents that a checkpoint can refer to: those of the previous one's pages.
#[derive(Default)]
pub(crate) struct Known {
    pub pages: HashMap<u128, Place>,
    pub blocks: Vec<KnownBlock>,
}

/// Where a page is: index into the table of blocks, and place in the block.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub block: u32,
    pub slot: u16,
}

/// A block in the table.
#[derive(Clone)]
pub(crate) struct KnownBlock {
    pub block: Arc<Block>,
    /// Pages in it.
    pub pages: u16,
    /// How many of them were in use.
    pub live: u16,
}

impl KnownBlock {
    /// Whether a new checkpoint may refer to it. Not if its file failed; and not if too little of it is in use
    /// to be kept alive, since a restore decompresses whole blocks: with this bound, at most four times what
    /// it needs.
    pub fn is_of_use(&self) -> bool {
        u32::from(self.live) * 4 >= u32::from(self.pages) && !self.block.fate.has_failed()
    }
}
