//! One capture being read: pages come in, blocks go out to be compressed.
//!
//! A page that is known to be unchanged is what it was in the capture before (`baseline`). Others are looked at in this order:
//! zero; content already stored (in this file or an earlier one); else it joins the block under way. Full blocks go to the compressing threads, and from there to the thread that
//! writes files (`assemble`), which gives the buffers back: there is a fixed number of these, so memory is
//! bounded, and a reader that is faster than the others waits here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use rr_trace::event::EventNumber;
use rr_tracee::ids::PAGE;
use rr_tracee::{AddrRange, SpaceId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::baseline::{Baseline, Table, Was, in_order, pages};
use crate::block::{BLOCK_PAGES, MAX_BLOCK_PAGES, PAGE_BYTES};
use crate::compression::Compressor;
use crate::content_index::{ContentIndex, PageLocation, StoredBlock};
use crate::error::{Error, Result};
use crate::image::SessionImage;
use crate::index::{PageIndex, PageTarget, Run, ZERO_BLOCK};
use crate::pipeline::{CapturedImage, Compressed, Message, Packed};
use crate::stats::CheckpointStats;
use crate::write_status::WriteStatus;

/// A block on its way to a compressing thread.
pub(crate) struct Job {
    number: u64,
    block: Arc<StoredBlock>,
    raw: Vec<u8>,
    /// Taken when it is answered.
    reply: Option<Sender<Message>>,
}

impl Job {
    /// Does the work of a compressing thread.
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

/// Not in the table of this capture.
const UNUSED: u32 = u32::MAX;

/// The tools of a store.
pub(crate) struct StoreContext<'a> {
    pub jobs: &'a Sender<Job>,
    /// The receiver of compressed blocks.
    pub reply: &'a Sender<Message>,
    pub buffers: &'a mut Buffers,
    /// Contents that may be referred to.
    pub known: &'a mut ContentIndex,
}

/// A block that the capture has pages in.
struct Used {
    block: Arc<StoredBlock>,
    /// Its number in the table of what is known.
    known: u32,
    /// A bit for each of its pages, by place.
    slots: [u64; MAX_BLOCK_PAGES / 64],
}

impl Used {
    fn mark(&mut self, slots: std::ops::Range<usize>) {
        slots.for_each(|slot| self.slots[slot / 64] |= 1 << (slot % 64));
    }

    fn live(&self) -> u16 {
        self.slots.iter().map(|word| word.count_ones() as u16).sum()
    }
}

/// A capture being read.
pub(crate) struct Store<'a> {
    tools: StoreContext<'a>,
    /// Its number among all captures.
    number: u64,
    status: Arc<WriteStatus>,
    /// Blocks that were sent to be compressed.
    sent: u64,
    /// The block under way: its number in the table of what is known, and its pages.
    open: Option<(u32, Vec<u8>)>,
    /// Blocks that it has pages in: the table of its index.
    used: Vec<Used>,
    /// For every known block its number in that table.
    numbers: Vec<u32>,
    /// Its own blocks, until it is read whole.
    own: Vec<u32>,
    /// The capture before.
    previous: Option<Baseline>,
    /// The same for the next capture.
    now: Baseline,
    index: PageIndex,
    runs: Vec<Run>,
    seen: Vec<AddrRange>,
    stats: CheckpointStats,
    begin: Instant,
}

impl<'a> Store<'a> {
    pub fn new(tools: StoreContext<'a>, number: u64, status: Arc<WriteStatus>) -> Store<'a> {
        tools.buffers.trim();
        Store {
            number,
            sent: 0,
            open: None,
            used: Vec::new(),
            numbers: Vec::new(),
            own: Vec::new(),
            previous: tools.known.baseline.take(),
            now: Baseline {
                event: status.event,
                ..Baseline::default()
            },
            index: PageIndex::default(),
            runs: Vec::new(),
            seen: Vec::new(),
            stats: CheckpointStats::default(),
            begin: Instant::now(),
            status,
            tools,
        }
    }

    /// Takes one page of the target that [`Store::end_target`] will name. `zero_untouched`: where nothing
    /// is stored there are zeros.
    pub fn page(&mut self, number: u64, bytes: &[u8], zero_untouched: bool) -> Result<()> {
        self.stats.pages_scanned += 1;
        Table::see(&mut self.seen, pages(number, 1));
        let place = if bytes == ZEROS {
            self.stats.pages_zero += 1;
            if zero_untouched {
                return Ok(());
            }
            PageLocation {
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
        self.push(Run {
            page: number,
            count: 1,
            block: place.block,
            slot: place.slot,
        });
        Ok(())
    }

    fn push(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last)
                if run.block != ZERO_BLOCK
                    && last.block == run.block
                    && last.page + u64::from(last.count) == run.page
                    && u32::from(last.slot) + last.count == u32::from(run.slot) =>
            {
                last.count += run.count;
            }
            _ => self.runs.push(run),
        }
    }

    /// Takes pages of the address space that [`Store::end_target`] will name which are as they were in the capture at `event`.
    /// Those of which it does not know what that was, or where their contents may be referred to no more, go to `rest`.
    pub fn unchanged(
        &mut self,
        space: SpaceId,
        event: EventNumber,
        range: AddrRange,
        zero_untouched: bool,
        rest: &mut Vec<AddrRange>,
    ) {
        let previous = self.previous.take().filter(|previous| previous.event == event.0);
        let Some(table) = previous.as_ref().and_then(|previous| previous.spaces.get(&space)) else {
            rest.push(range);
            self.previous = previous;
            return;
        };
        let told = table.each(range, |was| {
            let known = match was {
                Was::Stored(run) if run.block == ZERO_BLOCK => Some((run.range(), Some(run))),
                Was::Stored(run) => self.used(run.block).map(|block| {
                    let slot = usize::from(run.slot);
                    self.used[block as usize].mark(slot..slot + run.count as usize);
                    (run.range(), Some(Run { block, ..run }))
                }),
                Was::Untouched(range) if zero_untouched => Some((range, None)),
                Was::Untouched(_) | Was::Unseen(_) => None,
            };
            match (known, was) {
                (Some((range, run)), _) => {
                    self.stats.pages_unchanged += range.len() / PAGE;
                    Table::see(&mut self.seen, range);
                    run.into_iter().for_each(|run| self.push(run));
                }
                (None, Was::Stored(run)) => rest.push(run.range()),
                (None, Was::Untouched(range) | Was::Unseen(range)) => rest.push(range),
            }
            Ok::<(), Infallible>(())
        });
        let Ok(()) = told;
        self.previous = previous;
    }

    /// All pages since the last call belong to `target`.
    pub fn end_target(&mut self, target: PageTarget) -> Result<()> {
        let (runs, seen) = (std::mem::take(&mut self.runs), std::mem::take(&mut self.seen));
        self.index
            .insert(target, runs)
            .map_err(|page| self.dropped(format!("page {page} of {target} was handed over twice")))?;
        if let PageTarget::Space(space) = target {
            let runs = self.index.targets.get(&target).map_or(&[][..], Vec::as_slice);
            let known = |run: &Run| match self.used.get(run.block as usize) {
                Some(used) => Run {
                    block: used.known,
                    ..*run
                },
                None => *run, // zeros
            };
            let table = Table {
                seen: in_order(seen),
                runs: runs.iter().map(known).collect(),
            };
            self.now.spaces.insert(space, table);
        }
        Ok(())
    }

    fn dropped(&self, why: String) -> Error {
        let event = self.status.event;
        Error::Dropped { event, why }
    }

    /// The number of a known block in the table of this capture, if it may refer to it.
    fn used(&mut self, known: u32) -> Option<u32> {
        match self.numbers.get(known as usize) {
            Some(&number) if number != UNUSED => Some(number),
            _ => {
                let block = self.tools.known.usable(known)?.clone();
                Some(self.use_block(known, block))
            }
        }
    }

    fn use_block(&mut self, known: u32, block: Arc<StoredBlock>) -> u32 {
        let number = self.used.len() as u32;
        let len = self.numbers.len().max(known as usize + 1);
        self.numbers.resize(len, UNUSED);
        self.numbers[known as usize] = number;
        self.used.push(Used {
            block,
            known,
            slots: [0; MAX_BLOCK_PAGES / 64],
        });
        number
    }

    /// Finds a content that is stored already.
    fn find(&mut self, digest: u128) -> Option<PageLocation> {
        let PageLocation { block, slot } = self.tools.known.find(digest)?;
        let block = self.used(block)?;
        self.used[block as usize].mark(usize::from(slot)..usize::from(slot) + 1);
        Some(PageLocation { block, slot })
    }

    /// Puts new content into the block under way.
    fn add(&mut self, digest: u128, bytes: &[u8]) -> Result<PageLocation> {
        let (known, mut raw) = match self.open.take() {
            Some(open) => open,
            None => {
                let raw = self.tools.buffers.take()?;
                // Its place in the tables is taken now; its place in the file will be known when it is written.
                let (known, block) = self.tools.known.add_block(&self.status);
                self.own.push(known);
                self.use_block(known, block);
                (known, raw)
            }
        };
        let slot = raw.len() / PAGE_BYTES;
        let block = self.numbers[known as usize];
        self.used[block as usize].mark(slot..slot + 1);
        raw.extend_from_slice(bytes);
        self.tools.known.add_page(known, digest);
        if raw.len() < BLOCK_PAGES * PAGE_BYTES {
            self.open = Some((known, raw));
        } else {
            self.send(known, raw)?;
        }
        Ok(PageLocation {
            block,
            slot: slot as u16,
        })
    }

    fn send(&mut self, known: u32, raw: Vec<u8>) -> Result<()> {
        let number = self.numbers[known as usize];
        let job = Job {
            number: self.number,
            block: self.used[number as usize].block.clone(),
            raw,
            reply: Some(self.tools.reply.clone()),
        };
        self.sent += 1;
        let gone = |_| Error::Writer("the compressing threads are gone".into());
        self.tools.jobs.send(job).map_err(gone)?;
        if self.status.has_failed() {
            // The thread that writes the file knows why, and says it.
            return Err(self.dropped("its file could not be written".into()));
        }
        Ok(())
    }

    /// All pages were taken. `given` are the statistics that the store cannot know.
    pub fn finish(mut self, image: SessionImage, given: CheckpointStats) -> Result<CapturedImage> {
        if let Some((known, raw)) = self.open.take() {
            self.send(known, raw)?;
        }
        let pages = &self.stats;
        let stats = CheckpointStats {
            pages_scanned: pages.pages_scanned,
            pages_zero: pages.pages_zero,
            pages_referenced: pages.pages_referenced,
            pages_stored: pages.pages_stored,
            pages_unchanged: pages.pages_unchanged,
            tasks: image.tasks.len() as u64,
            ..given
        };
        let mut live = vec![0; self.numbers.len()];
        for used in &self.used {
            live[used.known as usize] = used.live();
        }
        self.own.clear();
        self.tools.known.settle(&live);
        self.tools.known.baseline = Some(std::mem::take(&mut self.now));
        Ok(CapturedImage {
            status: self.status.clone(),
            image,
            index: std::mem::take(&mut self.index),
            blocks: self.used.iter().map(|used| used.block.clone()).collect(),
            sent: self.sent,
            stats,
            begin: self.begin,
        })
    }
}

impl Drop for Store<'_> {
    /// Of a capture that failed, the buffer goes back, by the way of all, and nothing stays known.
    fn drop(&mut self) {
        if let Some((known, raw)) = self.open.take() {
            let _ = self.send(known, raw);
        }
        for block in std::mem::take(&mut self.own) {
            self.tools.known.forget(block);
        }
    }
}

const ZEROS: &[u8] = &[0; PAGE_BYTES];
