//! The data that goes from one thread of the writer to the next (`writer` draws them).
//!
//! Keeps: each capture ends as one [`Outcome`], in the order of the events.

use std::sync::Arc;
use std::time::Instant;

use rr_trace::event::EventNumber;

use crate::compression::Compression;
use crate::content_index::StoredBlock;
use crate::error::{Error, Result};
use crate::gauge::Held;
use crate::image::SessionImage;
use crate::index::{PageIndex, Run};
use crate::stats::CheckpointStats;
use crate::temporary::Temporary;
use crate::write_status::WriteStatus;

/// A message to the thread that writes files (`assemble`).
pub(crate) enum Message {
    /// A compressed block.
    Packed(Packed),
    /// The capture of this number was read whole. It counts as unwritten as long as it waits.
    Read(u64, Box<CapturedImage>, Held),
    /// The capture of this number was dropped.
    Dropped(u64, Arc<WriteStatus>, Error),
}

/// A block on its way back.
pub(crate) struct Packed {
    /// The number of its capture.
    pub number: u64,
    pub block: Arc<StoredBlock>,
    /// The pages; the buffer is to be used again.
    pub raw: Vec<u8>,
    /// Nothing if the compressing thread did not survive.
    pub packed: Option<Compressed>,
}

/// A block as the file has it.
pub(crate) struct Compressed {
    pub compression: Compression,
    pub bytes: Vec<u8>,
    pub checksum: u64,
}

/// A capture that was read, except for its blocks.
pub(crate) struct CapturedImage {
    pub status: Arc<WriteStatus>,
    pub image: SessionImage,
    /// Without its table of blocks.
    pub index: PageIndex,
    /// The blocks for the table.
    pub blocks: Vec<Arc<StoredBlock>>,
    /// The number of them that are its own.
    pub sent: u64,
    pub stats: CheckpointStats,
    pub begin: Instant,
}

impl CapturedImage {
    /// Bytes of memory, about.
    pub fn weight(&self) -> u64 {
        let runs: usize = self.index.targets.values().map(Vec::len).sum();
        let index = runs * size_of::<Run>() + self.blocks.len() * size_of::<Arc<StoredBlock>>();
        index as u64 + self.image.weight()
    }
}

/// A checkpoint that is written, or dropped.
pub(crate) struct AssemblyResult {
    pub status: Arc<WriteStatus>,
    pub result: Result<Box<CompletedFile>>,
}

/// A file that is complete but for its name.
pub(crate) struct CompletedFile {
    pub status: Arc<WriteStatus>,
    /// The checkpoints that it refers to.
    pub needs: Vec<Arc<WriteStatus>>,
    pub temporary: Temporary,
    /// When its event was recorded.
    pub time_ns: u64,
    pub stats: CheckpointStats,
}

/// The outcome of one submitted capture.
#[derive(Debug)]
pub struct Outcome {
    /// Its event.
    pub event: EventNumber,
    /// The statistics of the checkpoint that is on disk now; or why it was dropped.
    pub result: Result<CheckpointStats>,
}
