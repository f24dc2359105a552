//! One capture being read: pages come in, blocks go out to be compressed.
//!
//! A page is looked at in this order: zero; content already stored (in this file or an earlier one); else it
//! joins the block under way. Full blocks go to the compressing threads, and from there to the thread that
//! writes files (`assemble`), which gives the buffers back: there is a fixed number of these, so memory is
//! bounded, and a reader that is faster than the others waits here.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::assemble::{Compressed, Message, Packed, Reading};
use crate::block::{BLOCK_PAGES, PAGE_BYTES};
use crate::compression::Compressor;
use crate::error::{Error, Result};
use crate::image::SessionImage;
use crate::index::{PageIndex, PageTarget, Run, ZERO_BLOCK};
use crate::known::{Block, Fate, Known, KnownBlock, Place};
use crate::stats::CheckpointStats;

/// A block on its way to a compressing thread.
pub(crate) struct Job {
    number: u64,
    block: Arc<Block>,
    raw: Vec<u8>,
    /// Taken when it is answered.
    reply: Option<Sender<Message>>,
}

impl Job {
    /// What a compressing thread does.
    pub fn run(mut self, compressor: &mut Compressor) {
        let (compression, bytes) = compressor.compress(&self.raw);
        let checksum = xxh3_64(&bytes);
        self.answer(Some(Compressed {
            compression,
            bytes,
            checksum,
        }));
    }

    fn answer(&mut self, packed: Option<Compressed>) {
        if let Some(reply) = self.reply.take() {
            let answer = Packed {
                number: self.number,
                block: self.block.clone(),
                raw: std::mem::take(&mut self.raw),
                packed,
            };
            // If nobody waits any more, the checkpoint has been given up.
            let _ = reply.send(Message::Packed(answer));
        }
    }
}

impl Drop for Job {
    /// Whatever becomes of a compressing thread, somebody is told.
    fn drop(&mut self) {
        self.answer(None);
    }
}

/// Buffers for blocks: no more of them than memory is to be used, and those that are done with come back.
pub(crate) struct Buffers {
    back: Receiver<Vec<u8>>,
    made: usize,
    max: usize,
}

/// Buffers that are kept between two captures.
const SPARE: usize = 8;

impl Buffers {
    /// Up to `max` buffers, coming back over `back`.
    pub fn new(back: Receiver<Vec<u8>>, max: usize) -> Buffers {
        let max = max.max(1);
        Buffers { back, made: 0, max }
    }

    /// An empty buffer; waits for one to come back if none may be made.
    fn take(&mut self) -> Result<Vec<u8>> {
        let mut buffer = match self.back.try_recv() {
            Ok(buffer) => buffer,
            Err(_) if self.made < self.max => {
                self.made += 1;
                Vec::with_capacity(BLOCK_PAGES * PAGE_BYTES)
            }
            Err(_) => {
                let gone = |_| Error::Writer("the thread that writes checkpoint files is gone".into());
                self.back.recv().map_err(gone)?
            }
        };
        buffer.clear();
        Ok(buffer)
    }

    /// Frees most of those that are not in use.
    fn trim(&mut self) {
        while self.back.len() > SPARE && self.back.try_recv().is_ok() {
            self.made -= 1;
        }
    }
}

/// Not yet in the new table.
const UNMAPPED: u32 = u32::MAX;

/// What a store works with.
pub(crate) struct Tools<'a> {
    pub jobs: &'a Sender<Job>,
    /// Where compressed blocks go.
    pub reply: &'a Sender<Message>,
    pub buffers: &'a mut Buffers,
    /// Contents that may be referred to.
    pub previous: &'a Known,
}

/// A capture being read.
pub(crate) struct Store<'a> {
    tools: Tools<'a>,
    /// Its number among all captures.
    number: u64,
    fate: Arc<Fate>,
    /// Blocks that were sent to be compressed.
    sent: u64,
    /// The block under way: its number in the table, and its pages.
    open: Option<(u32, Vec<u8>)>,
    /// For every block of the previous table: its number in the new one.
    moved: Vec<u32>,
    now: Known,
    index: PageIndex,
    runs: Vec<Run>,
    stats: CheckpointStats,
    begin: Instant,
}

impl<'a> Store<'a> {
    pub fn new(tools: Tools<'a>, number: u64, fate: Arc<Fate>) -> Store<'a> {
        tools.buffers.trim();
        Store {
            number,
            fate,
            sent: 0,
            open: None,
            moved: vec![UNMAPPED; tools.previous.blocks.len()],
            now: Known::default(),
            index: PageIndex::default(),
            runs: Vec::new(),
            stats: CheckpointStats::default(),
            begin: Instant::now(),
            tools,
        }
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
        self.index
            .insert(target, runs)
            .map_err(|page| self.dropped(format!("page {page} of {target} was handed over twice")))
    }

    fn dropped(&self, why: String) -> Error {
        let event = self.fate.event;
        Error::Dropped { event, why }
    }

    /// Where this content is, if it is stored already.
    fn find(&mut self, hash: u128) -> Option<Place> {
        if let Some(place) = self.now.pages.get(&hash) {
            return Some(*place);
        }
        let old = *self.tools.previous.pages.get(&hash)?;
        let known = &self.tools.previous.blocks[old.block as usize];
        if self.moved[old.block as usize] == UNMAPPED {
            if !known.is_of_use() {
                return None;
            }
            self.moved[old.block as usize] = self.now.blocks.len() as u32;
            let known = known.clone();
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
        let (block, mut raw) = match self.open.take() {
            Some(open) => open,
            None => {
                let raw = self.tools.buffers.take()?;
                // Its place in the table is taken now; its place in the file will be known when it is written.
                let block = Block {
                    fate: self.fate.clone(),
                    place: OnceLock::new(),
                };
                self.now.blocks.push(KnownBlock {
                    block: Arc::new(block),
                    pages: 0,
                    live: 0,
                });
                (self.now.blocks.len() as u32 - 1, raw)
            }
        };
        let place = Place {
            block,
            slot: (raw.len() / PAGE_BYTES) as u16,
        };
        raw.extend_from_slice(bytes);
        let known = &mut self.now.blocks[block as usize];
        known.pages += 1;
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
        let job = Job {
            number: self.number,
            block: self.now.blocks[block as usize].block.clone(),
            raw,
            reply: Some(self.tools.reply.clone()),
        };
        self.sent += 1;
        let gone = |_| Error::Writer("the compressing threads are gone".into());
        self.tools.jobs.send(job).map_err(gone)?;
        if self.fate.has_failed() {
            // The thread that writes the file knows why, and says it.
            return Err(self.dropped("its file could not be written".into()));
        }
        Ok(())
    }

    /// All pages were taken. What is known now is for the next capture; the rest for the thread that writes.
    /// `given` are the statistics that the store cannot know.
    pub fn finish(mut self, image: SessionImage, given: CheckpointStats) -> Result<(Reading, Known)> {
        if let Some((block, raw)) = self.open.take() {
            self.send(block, raw)?;
        }
        let pages = &self.stats;
        let stats = CheckpointStats {
            pages_scanned: pages.pages_scanned,
            pages_zero: pages.pages_zero,
            pages_referenced: pages.pages_referenced,
            pages_stored: pages.pages_stored,
            tasks: image.tasks.len() as u64,
            ..given
        };
        let reading = Reading {
            fate: self.fate.clone(),
            image,
            index: std::mem::take(&mut self.index),
            blocks: self.now.blocks.iter().map(|b| b.block.clone()).collect(),
            sent: self.sent,
            stats,
            begin: self.begin,
        };
        Ok((reading, std::mem::take(&mut self.now)))
    }
}

impl Drop for Store<'_> {
    /// The buffer of a capture that failed goes back, by the way of all.
    fn drop(&mut self) {
        if let Some((block, raw)) = self.open.take() {
            let _ = self.send(block, raw);
        }
    }
}

const ZEROS: &[u8] = &[0; PAGE_BYTES];
