//! The thread that writes checkpoint files.
//!
//! Blocks arrive in the order in which they are compressed, which may be any, and are written at once, each
//! into its checkpoint's file (under its temporary name). A checkpoint is completed (its index, image, statistics
//! and header written) when all its blocks are, and when all before it are: then the places of all blocks
//! that it refers to are known. From here it goes to `publish`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use rr_trace::event::EventNumber;

use crate::block::{BlockRef, PAGE_BYTES};
use crate::codec;
use crate::collection::revive;
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::file::{HEADER_LEN, Header, pack_section, temporary_path};
use crate::image::SessionImage;
use crate::index::PageIndex;
use crate::known::{Block, Fate};
use crate::publish::{Finished, Written};
use crate::room;
use crate::stats::CheckpointStats;

/// A message to this thread.
pub(crate) enum Message {
    /// A compressed block.
    Packed(Packed),
    /// The capture of this number was read whole.
    Read(u64, Box<Reading>),
    /// The capture of this number was dropped.
    Dropped(u64, Arc<Fate>, Error),
}

/// A block on its way back.
pub(crate) struct Packed {
    /// The number of its capture.
    pub number: u64,
    pub block: Arc<Block>,
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
pub(crate) struct Reading {
    pub fate: Arc<Fate>,
    pub image: SessionImage,
    /// Without its table of blocks.
    pub index: PageIndex,
    /// The blocks for the table.
    pub blocks: Vec<Arc<Block>>,
    /// The number of them that are its own.
    pub sent: u64,
    pub stats: CheckpointStats,
    pub begin: Instant,
}

/// A file that is removed unless it got its final name.
pub(crate) struct Temporary {
    pub path: PathBuf,
    pub file: File,
}

impl Temporary {
    fn create(path: PathBuf) -> Result<Temporary> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(Error::io("creating a checkpoint", &path))?;
        Ok(Temporary { path, file })
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        room::must_be_there(&self.file, bytes.len())
            .and_then(|()| self.file.write_all_at(bytes, at))
            .map_err(Error::io("writing a checkpoint", &self.path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is no such file, which is fine.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A file in the making.
struct Making {
    fate: Arc<Fate>,
    /// Made with the first block.
    temporary: Option<Temporary>,
    end: u64,
    /// Blocks that were written.
    blocks: u64,
    error: Option<Error>,
    /// The reader has come to an end with it.
    ended: bool,
    read: Option<Box<Reading>>,
}

impl Making {
    fn new(fate: Arc<Fate>) -> Making {
        Making {
            fate,
            temporary: None,
            end: HEADER_LEN as u64,
            blocks: 0,
            error: None,
            ended: false,
            read: None,
        }
    }

    /// Nothing more is to be waited for.
    fn is_over(&self) -> bool {
        let is_whole = |read: &Reading| self.blocks == read.sent;
        self.ended && (self.error.is_some() || self.read.as_deref().is_none_or(is_whole))
    }

    fn fail(&mut self, error: Error) {
        self.temporary = None; // before anybody can see that it failed
        self.fate.fail();
        self.error.get_or_insert(error);
    }

    fn append(&mut self, dir: &Path, bytes: &[u8]) -> Result<u64> {
        let temporary = match &mut self.temporary {
            Some(temporary) => temporary,
            none => {
                let path = temporary_path(dir, EventNumber(self.fate.event));
                let temporary = none.insert(Temporary::create(path)?);
                self.end = revive(dir, EventNumber(self.fate.event), &temporary.file)?;
                temporary
            }
        };
        temporary.write(bytes, self.end)?;
        let at = self.end;
        self.end += bytes.len() as u64;
        Ok(at)
    }

    fn write_block(&mut self, dir: &Path, packed: &Packed) -> Result<()> {
        let Some(Compressed {
            compression,
            bytes,
            checksum,
        }) = &packed.packed
        else {
            return Err(Error::Writer("a compressing thread did not survive".into()));
        };
        let offset = self.append(dir, bytes)?;
        self.blocks += 1;
        // Set once: each block is compressed once.
        let _ = packed.block.place.set(BlockRef {
            event: self.fate.event,
            offset,
            length: bytes.len() as u32,
            pages: (packed.raw.len() / PAGE_BYTES) as u16,
            compression: *compression,
            checksum: *checksum,
        });
        Ok(())
    }

    /// Writes what follows the blocks, and the header.
    fn complete(mut self, dir: &Path, uuid: [u8; 16]) -> Result<Written> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let event = self.fate.event;
        let unfit = |why: String| Error::Dropped { event, why };
        let Some(read) = self.read.take() else {
            return Err(unfit("it was not read".into()));
        };
        let Reading {
            image,
            mut index,
            blocks,
            mut stats,
            begin,
            ..
        } = *read;
        let mut needs: Vec<Arc<Fate>> = Vec::new();
        let expected = blocks.len();
        for block in blocks {
            index.blocks.extend(block.place.get());
            if block.fate.event != event && needs.iter().all(|n| !Arc::ptr_eq(n, &block.fate)) {
                needs.push(block.fate.clone());
            }
        }
        unfailed(event, &needs)?;
        if index.blocks.len() != expected {
            return Err(unfit("a block that it refers to was not written".into()));
        }
        if let Some(why) = index.fault(&image, HEADER_LEN as u64..self.end) {
            return Err(unfit(format!("pages and image do not fit together: {why}")));
        }
        let begin_of_tail = self.end;
        let (mut tail, index_section) = pack_section(codec::encode_index(&index).map_err(unfit)?, self.end);
        let at = |tail: &Vec<u8>| begin_of_tail + tail.len() as u64;
        let (bytes, image_section) = pack_section(codec::encode_image(&image).map_err(unfit)?, at(&tail));
        tail.extend(bytes);
        stats.write_ms = begin.elapsed().as_millis() as u64;
        let (bytes, stats_section) = pack_section(codec::encode_stats(&stats).map_err(unfit)?, at(&tail));
        tail.extend(bytes);
        self.append(dir, &tail)?;
        stats.bytes = self.end;
        let header = Header {
            uuid,
            event,
            file_len: self.end,
            sections: [index_section, image_section, stats_section],
        };
        let Some(temporary) = self.temporary.take() else {
            return Err(unfit("it has no file".into()));
        };
        temporary.write(&header.encode(), 0)?;
        Ok(Written {
            fate: self.fate,
            needs,
            temporary,
            stats,
        })
    }
}

/// An error if a checkpoint that the one at `event` refers to has failed.
pub(crate) fn unfailed(event: u64, needs: &[Arc<Fate>]) -> Result<()> {
    match needs.iter().find(|n| n.has_failed()) {
        Some(n) => Err(Error::Dropped {
            event,
            why: format!(
                "it refers to the checkpoint at event {}, which could not be written",
                n.event
            ),
        }),
        None => Ok(()),
    }
}

/// The thread. Ends when nobody can send any more.
pub(crate) fn run(
    dir: &Path,
    uuid: [u8; 16],
    messages: &Receiver<Message>,
    buffers: &Sender<Vec<u8>>,
    finished: &Sender<Finished>,
) {
    let mut making: BTreeMap<u64, Making> = BTreeMap::new();
    // All before this one are done with.
    let mut next = 0;
    for message in messages {
        match message {
            Message::Packed(packed) => {
                if packed.number >= next {
                    let fate = &packed.block.fate;
                    let entry = making.entry(packed.number);
                    let m = entry.or_insert_with(|| Making::new(fate.clone()));
                    if m.error.is_none()
                        && let Err(e) = m.write_block(dir, &packed)
                    {
                        m.fail(e);
                    }
                }
                // If it is not wanted any more, the reader has ended.
                let _ = buffers.send(packed.raw);
            }
            Message::Read(number, read) => {
                let entry = making.entry(number);
                let m = entry.or_insert_with(|| Making::new(read.fate.clone()));
                (m.ended, m.read) = (true, Some(read));
            }
            Message::Dropped(number, fate, error) => {
                let m = making.entry(number).or_insert_with(|| Making::new(fate));
                m.ended = true;
                m.fail(error);
            }
        }
        while let Some(m) = making.remove(&next) {
            if !m.is_over() {
                making.insert(next, m);
                break;
            }
            next += 1;
            let fate = m.fate.clone();
            let result = m.complete(dir, uuid).map(Box::new);
            if result.is_err() {
                fate.fail();
            }
            // A publisher that is gone has been noticed: the threads are joined.
            let _ = finished.send(Finished { fate, result });
        }
    }
}
