//! One checkpoint file in the making: pages come in, blocks go out.
//!
//! A page is looked at in this order: zero; content already stored (in this file or an earlier one); else it
//! joins the block under way. Full blocks go to the compressing threads and come back in any order; what
//! waits there is bounded, so memory is too. What is known about stored contents ([`Known`]) passes to the
//! next checkpoint only when this one's file has its final name: nothing ever refers to a file that is not
//! there.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rr_trace::event::EventNumber;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::block::{BLOCK_PAGES, BlockRef, PAGE_BYTES, pack};
use crate::codec;
use crate::error::{Error, Result};
use crate::file::{HEADER_LEN, Header, checkpoint_path, pack_section, temporary_path};
use crate::image::SessionImage;
use crate::index::{PageIndex, PageTarget, Run, ZERO_BLOCK};
use crate::stats::CheckpointStats;

/// A block on its way to a compressing thread.
pub(crate) struct Job {
    block: u32,
    raw: Vec<u8>,
    quality: i32,
    reply: Sender<Packed>,
}

/// A block on its way back.
struct Packed {
    block: u32,
    bytes: Vec<u8>,
    checksum: u64,
    /// The buffer, to be used again.
    raw: Vec<u8>,
}

impl Job {
    /// What a compressing thread does.
    pub fn run(self) {
        let bytes = pack(&self.raw, self.quality);
        let packed = Packed {
            block: self.block,
            checksum: xxh3_64(&bytes),
            bytes,
            raw: self.raw,
        };
        // If nobody waits any more, the checkpoint has been given up.
        let _ = self.reply.send(packed);
    }
}

/// Contents that a checkpoint can refer to: those of the previous one's pages.
#[derive(Default)]
pub(crate) struct Known {
    pages: HashMap<u128, Place>,
    blocks: Vec<KnownBlock>,
}

#[derive(Clone, Copy)]
struct Place {
    block: u32,
    slot: u16,
}

#[derive(Clone, Copy)]
struct KnownBlock {
    block: BlockRef,
    /// How many of its pages were in use.
    live: u16,
}

impl KnownBlock {
    /// Whether too little of it is in use to be kept alive: a restore decompresses whole blocks. With this
    /// bound, it decompresses at most eight times what it needs.
    fn is_sparse(&self) -> bool {
        self.live * 8 < self.block.pages
    }
}

/// Not yet in the new table.
const UNMAPPED: u32 = u32::MAX;

/// A checkpoint file in the making; dropped unfinished, it leaves nothing behind.
pub(crate) struct Store<'a> {
    dir: &'a Path,
    temporary: Temporary,
    uuid: [u8; 16],
    event: EventNumber,
    file: File,
    end: u64,
    jobs: &'a Sender<Job>,
    quality: i32,
    reply: (Sender<Packed>, Receiver<Packed>),
    in_flight: usize,
    max_in_flight: usize,
    spare: Vec<Vec<u8>>,
    /// The block under way: its number in the table, and its pages.
    open: Option<(u32, Vec<u8>)>,
    previous: &'a Known,
    /// For every block of `previous`: its number in the new table.
    moved: Vec<u32>,
    now: Known,
    index: PageIndex,
    runs: Vec<Run>,
    stats: CheckpointStats,
    begin: Instant,
}

/// A file that is removed unless it got its final name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is no such file, which is fine.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a store works with.
pub(crate) struct Tools<'a> {
    pub dir: &'a Path,
    pub uuid: [u8; 16],
    pub jobs: &'a Sender<Job>,
    pub quality: i32,
    /// Blocks that may wait for compression.
    pub max_in_flight: usize,
    /// Contents that may be referred to.
    pub previous: &'a Known,
}

impl<'a> Store<'a> {
    pub fn create(tools: &Tools<'a>, event: EventNumber) -> Result<Store<'a>> {
        let path = temporary_path(tools.dir, event);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(Error::io("creating a checkpoint", &path))?;
        Ok(Store {
            dir: tools.dir,
            temporary: Temporary(path),
            uuid: tools.uuid,
            event,
            file,
            end: HEADER_LEN as u64,
            jobs: tools.jobs,
            quality: tools.quality,
            reply: unbounded(),
            in_flight: 0,
            max_in_flight: tools.max_in_flight.max(1),
            spare: Vec::new(),
            open: None,
            previous: tools.previous,
            moved: vec![UNMAPPED; tools.previous.blocks.len()],
            now: Known::default(),
            index: PageIndex::default(),
            runs: Vec::new(),
            stats: CheckpointStats::default(),
            begin: Instant::now(),
        })
    }

    /// Takes one page of the target that [`Store::end_target`] will name. `zero_untouched`: where nothing
    /// is stored there are zeros.
    pub fn page(&mut self, number: u64, bytes: &[u8], zero_untouched: bool) -> Result<()> {
        self.stats.pages_scanned += 1;
        let place = if bytes == ZEROS {
            self.stats.pages_zero += 1;
            if zero_untouched {
                return Ok(());
            }
            Place {
                block: ZERO_BLOCK,
                slot: 0,
            }
        } else {
            let hash = xxh3_128(bytes);
            match self.find(hash) {
                Some(place) => {
                    self.stats.pages_referenced += 1;
                    place
                }
                None => {
                    self.stats.pages_stored += 1;
                    self.add(hash, bytes)?
                }
            }
        };
        let page = Run {
            page: number,
            count: 1,
            block: place.block,
            slot: place.slot,
        };
        match self.runs.last_mut() {
            Some(last)
                if place.block != ZERO_BLOCK
                    && last.block == place.block
                    && last.page + u64::from(last.count) == number
                    && u32::from(last.slot) + last.count == u32::from(place.slot) =>
            {
                last.count += 1;
            }
            _ => self.runs.push(page),
        }
        Ok(())
    }

    /// All pages since the last call belong to `target`.
    pub fn end_target(&mut self, target: PageTarget) -> Result<()> {
        let runs = std::mem::take(&mut self.runs);
        self.index.insert(target, runs).map_err(|page| Error::Dropped {
            event: self.event.0,
            why: format!("page {page} of {target} was handed over twice"),
        })
    }

    /// Where this content is, if it is stored already.
    fn find(&mut self, hash: u128) -> Option<Place> {
        if let Some(place) = self.now.pages.get(&hash) {
            return Some(*place);
        }
        let old = *self.previous.pages.get(&hash)?;
        let known = self.previous.blocks[old.block as usize];
        if known.is_sparse() {
            return None;
        }
        if self.moved[old.block as usize] == UNMAPPED {
            self.moved[old.block as usize] = self.now.blocks.len() as u32;
            self.now.blocks.push(KnownBlock { live: 0, ..known });
        }
        let place = Place {
            block: self.moved[old.block as usize],
            slot: old.slot,
        };
        self.now.blocks[place.block as usize].live += 1;
        self.now.pages.insert(hash, place);
        Some(place)
    }

    /// Puts new content into the block under way.
    fn add(&mut self, hash: u128, bytes: &[u8]) -> Result<Place> {
        let (block, mut raw) = self.open.take().unwrap_or_else(|| {
            // Its place in the table is taken now; its place in the file will be known when it is compressed.
            let block = BlockRef {
                event: self.event.0,
                offset: 0,
                length: 0,
                pages: 0,
                checksum: 0,
            };
            self.now.blocks.push(KnownBlock { block, live: 0 });
            let raw = self
                .spare
                .pop()
                .unwrap_or_else(|| Vec::with_capacity(BLOCK_PAGES * PAGE_BYTES));
            (self.now.blocks.len() as u32 - 1, raw)
        });
        let place = Place {
            block,
            slot: (raw.len() / PAGE_BYTES) as u16,
        };
        raw.extend_from_slice(bytes);
        let known = &mut self.now.blocks[block as usize];
        known.block.pages += 1;
        known.live += 1;
        self.now.pages.insert(hash, place);
        if raw.len() < BLOCK_PAGES * PAGE_BYTES {
            self.open = Some((block, raw));
        } else {
            self.send(block, raw)?;
        }
        Ok(place)
    }

    fn send(&mut self, block: u32, raw: Vec<u8>) -> Result<()> {
        while self.in_flight >= self.max_in_flight {
            self.receive()?;
        }
        let job = Job {
            block,
            raw,
            quality: self.quality,
            reply: self.reply.0.clone(),
        };
        self.jobs
            .send(job)
            .map_err(|_| Error::Writer("the compressing threads are gone".into()))?;
        self.in_flight += 1;
        // Writing what is ready now keeps the buffers few.
        while let Ok(packed) = self.reply.1.try_recv() {
            self.write_block(packed)?;
        }
        Ok(())
    }

    /// Waits for one block to come back.
    fn receive(&mut self) -> Result<()> {
        match self.reply.1.recv_timeout(std::time::Duration::from_secs(60)) {
            Ok(packed) => self.write_block(packed),
            Err(_) => Err(Error::Writer("a compressing thread does not answer".into())),
        }
    }

    fn write_block(&mut self, packed: Packed) -> Result<()> {
        self.in_flight -= 1;
        let at = self.append(&packed.bytes)?;
        let block = &mut self.now.blocks[packed.block as usize].block;
        block.offset = at;
        block.length = packed.bytes.len() as u32;
        block.checksum = packed.checksum;
        let mut raw = packed.raw;
        raw.clear();
        self.spare.push(raw);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.end;
        self.file
            .write_all_at(bytes, at)
            .map_err(Error::io("writing a checkpoint", &self.temporary.0))?;
        self.end += bytes.len() as u64;
        Ok(at)
    }

    /// Writes the rest, syncs the file and gives it its name. What is known is for the next checkpoint.
    /// `given` are the statistics that the store cannot know.
    pub fn finish(
        mut self,
        image: &SessionImage,
        given: CheckpointStats,
    ) -> Result<(CheckpointStats, Known)> {
        if let Some((block, raw)) = self.open.take() {
            self.send(block, raw)?;
        }
        while self.in_flight > 0 {
            self.receive()?;
        }
        self.index.blocks = self.now.blocks.iter().map(|b| b.block).collect();
        let event = self.event.0;
        let unfit = |why: String| Error::Dropped { event, why };
        if let Some(why) = self.index.fault(image, HEADER_LEN as u64..self.end) {
            return Err(unfit(format!("pages and image do not fit together: {why}")));
        }
        let (index, index_section) = pack_section(codec::encode_index(&self.index).map_err(unfit)?, self.end);
        self.append(&index)?;
        let (image_bytes, image_section) = pack_section(codec::encode_image(image).map_err(unfit)?, self.end);
        self.append(&image_bytes)?;
        let write_ms = self.begin.elapsed().as_millis() as u64;
        let pages = &self.stats;
        let mut stats = CheckpointStats {
            pages_scanned: pages.pages_scanned,
            pages_zero: pages.pages_zero,
            pages_referenced: pages.pages_referenced,
            pages_stored: pages.pages_stored,
            write_ms,
            tasks: image.tasks.len() as u64,
            ..given
        };
        let (stats_bytes, stats_section) =
            pack_section(codec::encode_stats(&stats).map_err(unfit)?, self.end);
        self.append(&stats_bytes)?;
        stats.bytes = self.end;
        let sections = [index_section, image_section, stats_section];
        let header = Header {
            uuid: self.uuid,
            event,
            file_len: self.end,
            sections,
        };
        let path = &self.temporary.0;
        self.file
            .write_all_at(&header.encode(), 0)
            .map_err(Error::io("writing a checkpoint", path))?;
        self.file
            .sync_all()
            .map_err(Error::io("syncing a checkpoint", path))?;
        let last = checkpoint_path(self.dir, self.event);
        std::fs::rename(path, &last).map_err(Error::io("renaming a checkpoint", path))?;
        File::open(self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::io("syncing the directory of checkpoints", self.dir))?;
        Ok((stats, self.now))
    }
}

const ZEROS: &[u8] = &[0; PAGE_BYTES];
