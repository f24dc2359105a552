//! The thread that writes checkpoint files.
//!
//! Blocks arrive in the order in which they are compressed, which may be any, and are written at once, each
//! into its checkpoint's file (under its temporary name). A checkpoint is completed (its index, image, statistics
//! and header written) when all its blocks are, and when all before it are: then the places of all blocks
//! that it refers to are known. From here it goes to `publish`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use rr_trace::event::EventNumber;

use crate::block::{BlockRef, PAGE_BYTES};
use crate::codec;
use crate::collection::revive;
use crate::error::{Error, Result};
use crate::file::{HEADER_LEN, Header, pack_section, temporary_path};
use crate::gauge::Held;
use crate::pipeline::{AssemblyResult, CapturedImage, CompletedFile, Compressed, Message, Packed};
use crate::temporary::Temporary;
use crate::write_status::{WriteStatus, unfailed};

/// A file in the making.
struct PendingFile {
    status: Arc<WriteStatus>,
    /// Made with the first block.
    temporary: Option<Temporary>,
    end: u64,
    /// Blocks that were written.
    blocks: u64,
    error: Option<Error>,
    /// The reader has come to an end with it.
    ended: bool,
    read: Option<(Box<CapturedImage>, Held)>,
}

impl PendingFile {
    fn new(status: Arc<WriteStatus>) -> PendingFile {
        PendingFile {
            status,
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
        let is_whole = |read: &CapturedImage| self.blocks == read.sent;
        let read = self.read.as_ref().map(|(read, _)| read.as_ref());
        self.ended && (self.error.is_some() || read.is_none_or(is_whole))
    }

    fn fail(&mut self, error: Error) {
        self.temporary = None; // before anybody can see that it failed
        self.status.fail();
        self.error.get_or_insert(error);
    }

    fn append(&mut self, dir: &Path, bytes: &[u8]) -> Result<u64> {
        let temporary = match &mut self.temporary {
            Some(temporary) => temporary,
            none => {
                let path = temporary_path(dir, EventNumber(self.status.event));
                let temporary = none.insert(Temporary::create(path)?);
                self.end = revive(dir, EventNumber(self.status.event), &temporary.file)?;
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
            event: self.status.event,
            offset,
            length: bytes.len() as u32,
            pages: (packed.raw.len() / PAGE_BYTES) as u16,
            compression: *compression,
            checksum: *checksum,
        });
        Ok(())
    }

    /// Writes what follows the blocks, and the header.
    fn complete(mut self, dir: &Path, uuid: [u8; 16]) -> Result<CompletedFile> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let event = self.status.event;
        let unfit = |why: String| Error::Dropped { event, why };
        let Some((read, _held)) = self.read.take() else {
            return Err(unfit("it was not read".into()));
        };
        let CapturedImage {
            image,
            mut index,
            blocks,
            mut stats,
            begin,
            ..
        } = *read;
        let mut needs: Vec<Arc<WriteStatus>> = Vec::new();
        let expected = blocks.len();
        for block in blocks {
            index.blocks.extend(block.place.get());
            if block.status.event != event && needs.iter().all(|n| !Arc::ptr_eq(n, &block.status)) {
                needs.push(block.status.clone());
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
        Ok(CompletedFile {
            status: self.status,
            needs,
            temporary,
            time_ns: image.time_ns,
            stats,
        })
    }
}

/// The thread. Ends when nobody can send any more.
pub(crate) fn run(
    dir: &Path,
    uuid: [u8; 16],
    messages: &Receiver<Message>,
    buffers: &Sender<Vec<u8>>,
    finished: &Sender<AssemblyResult>,
) {
    let mut making: BTreeMap<u64, PendingFile> = BTreeMap::new();
    // All before this one are done with.
    let mut next = 0;
    for message in messages {
        match message {
            Message::Packed(packed) => {
                if packed.number >= next {
                    let status = &packed.block.status;
                    let entry = making.entry(packed.number);
                    let m = entry.or_insert_with(|| PendingFile::new(status.clone()));
                    if m.error.is_none()
                        && let Err(e) = m.write_block(dir, &packed)
                    {
                        m.fail(e);
                    }
                }
                // If it is not wanted any more, the reader has ended.
                let _ = buffers.send(packed.raw);
            }
            Message::Read(number, read, held) => {
                let entry = making.entry(number);
                let m = entry.or_insert_with(|| PendingFile::new(read.status.clone()));
                (m.ended, m.read) = (true, Some((read, held)));
            }
            Message::Dropped(number, status, error) => {
                let m = making.entry(number).or_insert_with(|| PendingFile::new(status));
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
            let status = m.status.clone();
            let result = m.complete(dir, uuid).map(Box::new);
            if result.is_err() {
                status.fail();
            }
            // A publisher that is gone has been noticed: the threads are joined.
            let _ = finished.send(AssemblyResult { status, result });
        }
    }
}
