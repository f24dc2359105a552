//! Reading a stored checkpoint: image, statistics, pages.
//!
//! Opening reads and checks everything but the pages, and that the earlier files which pages are referred to
//! are there and of the same trace. Pages are checked as they are read, block by block: a wrong byte anywhere
//! is an error, never a wrong page.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sched::CpuSet;
use rr_trace::Member;
use rr_trace::event::EventNumber;
use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange};

pub use crate::index::PageTarget;

use crate::block::{BlockRef, PAGE_BYTES};
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::file::{Contents, Header, open_file, read_block};
use crate::files::Files;
use crate::image::SessionImage;
use crate::index::{Run, ZERO_BLOCK};
use crate::stats::CheckpointStats;

/// The place of the contents of pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageSource {
    /// Zeros (where the backing is something else).
    Zero,
    /// In a block, from this place in it on.
    Block(BlockRef, u16),
}

/// An opened checkpoint. Can be used from several threads.
///
/// ```no_run
/// use rr_checkpoint::Checkpoint;
/// use rr_checkpoint::restore::PageTarget;
/// use rr_trace::TraceReader;
/// use rr_tracee::Addr;
///
/// let reader = TraceReader::open("trace".as_ref())?;
/// for event in reader.checkpoints()? {
///     let checkpoint = Checkpoint::open_at(&reader, event, &reader.header().uuid)?;
///     for task in &checkpoint.image().tasks {
///         // The page that the stack pointer is in, if the program has written to it.
///         let page = Addr(task.regs.rsp & !0xfff);
///         let bytes = checkpoint.read_page(PageTarget::Space(task.space), page)?;
///         println!("event {event}, task {}: {:?}", task.tid, bytes.map(|bytes| bytes.len()));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    files: Files,
    /// The path that tells its trace from others.
    key: Arc<Path>,
    member: Member,
    contents: Contents,
    /// Earlier files, opened when needed.
    others: Mutex<HashMap<u64, Member>>,
    cache: Arc<BlockCache>,
    /// True if others use the cache too.
    is_shared: bool,
    /// For each block whether several targets have pages in it (address spaces that were forked from each other).
    wanted_twice: Vec<bool>,
    pub(crate) cpus: Option<CpuSet>,
}

/// Memory that a thread reads blocks into, one after the other.
#[derive(Default, Debug)]
pub(crate) struct Room {
    packed: Vec<u8>,
    pages: Vec<u8>,
}

/// Earlier files that are kept open (a long recording refers to hundreds).
const OPEN_FILES: usize = 64;

/// Bytes of decompressed blocks that a checkpoint keeps if it shares none with others.
const CACHED: usize = 8 << 20;

impl Checkpoint {
    /// Opens a checkpoint file; `trace` is the uuid of the trace that it must belong to, if that is known.
    pub fn open(path: &Path, trace: Option<&[u8; 16]>) -> Result<Checkpoint> {
        let file = open_file(path, "opening a checkpoint")?;
        let files = path.parent().unwrap_or(Path::new("")).into();
        Self::of_member(files, Member::whole(file, path.to_path_buf()), trace)
    }

    fn of_member(files: Files, member: Member, trace: Option<&[u8; 16]>) -> Result<Checkpoint> {
        let contents = Contents::read(&member, member.path())?;
        if let Some(trace) = trace {
            let event = EventNumber(contents.header.event);
            contents.header.must_be_of(member.path(), trace, event)?;
        }
        let checkpoint = Checkpoint {
            key: files.path(),
            files,
            member,
            wanted_twice: contents.index.wanted_twice(),
            contents,
            others: Mutex::default(),
            cache: Arc::new(BlockCache::new(CACHED)),
            is_shared: false,
            cpus: None,
        };
        checkpoint
            .references()
            .into_iter()
            .try_for_each(|event| checkpoint.file_of(event.0).map(drop))?;
        Ok(checkpoint)
    }

    /// Opens the checkpoint at an event, of the trace with this uuid.
    pub fn open_at(files: impl Into<Files>, event: EventNumber, trace: &[u8; 16]) -> Result<Checkpoint> {
        let files = files.into();
        let member = files.open(event)?;
        let checkpoint = Self::of_member(files, member, Some(trace))?;
        checkpoint
            .contents
            .header
            .must_be_of(checkpoint.path(), trace, event)?;
        Ok(checkpoint)
    }

    /// The CPUs that threads of [`Checkpoint::restore_pages`] may use, for a caller that is bound to fewer.
    pub fn set_cpus(&mut self, cpus: CpuSet) {
        self.cpus = Some(cpus);
    }

    /// Shares decompressed blocks with all checkpoints that were given the same cache.
    pub fn share(&mut self, cache: Arc<BlockCache>) {
        self.cache = cache;
        self.is_shared = true;
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.member.path()
    }

    /// The last event that has happened.
    pub fn event(&self) -> EventNumber {
        EventNumber(self.contents.header.event)
    }

    /// The uuid of its trace.
    pub fn uuid(&self) -> [u8; 16] {
        self.contents.header.uuid
    }

    /// The image.
    pub fn image(&self) -> &SessionImage {
        &self.contents.image
    }

    /// Its statistics: how long the program stood still for it, its pages and sizes.
    pub fn stats(&self) -> &CheckpointStats {
        &self.contents.stats
    }

    /// Bytes of the pages that it gives back: of private memory that was written to, of all processes, and of shared memory.
    pub fn resident_bytes(&self) -> u64 {
        let runs = self.contents.index.targets.values().flatten();
        runs.map(|run| u64::from(run.count) * PAGE).sum()
    }

    /// The earlier checkpoints whose files it needs, ascending.
    pub fn references(&self) -> Vec<EventNumber> {
        self.contents
            .index
            .references(self.contents.header.event)
            .into_iter()
            .map(EventNumber)
            .collect()
    }

    /// The pages in the snapshot of a target, ascending. All others are as when untouched.
    pub fn pages(&self, target: PageTarget) -> Result<impl Iterator<Item = (AddrRange, PageSource)>> {
        Ok(self.runs(target)?.iter().map(|run| {
            let source = match run.block {
                ZERO_BLOCK => PageSource::Zero,
                i => PageSource::Block(self.contents.index.blocks[i as usize], run.slot),
            };
            (run.range(), source)
        }))
    }

    /// The page at `addr` (for an object: offset); nothing if it is as when untouched.
    pub fn read_page(&self, target: PageTarget, addr: Addr) -> Result<Option<Vec<u8>>> {
        let page = addr.0 / PAGE;
        let runs = self.runs(target)?;
        let after = runs.partition_point(|r| r.page <= page);
        let Some(run) = runs[..after]
            .last()
            .filter(|r| page - r.page < u64::from(r.count))
        else {
            return Ok(None);
        };
        if run.block == ZERO_BLOCK {
            return Ok(Some(vec![0; PAGE_BYTES]));
        }
        let bytes = self.block(&self.contents.index.blocks[run.block as usize])?;
        let at = (usize::from(run.slot) + (page - run.page) as usize) * PAGE_BYTES;
        Ok(Some(bytes[at..at + PAGE_BYTES].to_vec()))
    }

    pub(crate) fn runs(&self, target: PageTarget) -> Result<&[Run]> {
        let event = self.contents.header.event;
        match target {
            PageTarget::Space(space) if self.image().spaces.iter().all(|s| s.id != space) => {
                Err(Error::NoSpace { event, space })
            }
            PageTarget::Object(object) if self.image().objects.iter().all(|o| o.id != object) => {
                Err(Error::NoObject { event, object })
            }
            _ => Ok(self
                .contents
                .index
                .targets
                .get(&target)
                .map_or(&[], Vec::as_slice)),
        }
    }

    /// The pages of a block of this file or an earlier one.
    fn block(&self, block: &BlockRef) -> Result<Arc<Vec<u8>>> {
        self.cache.get(&self.key, block, || {
            let mut pages = Vec::new();
            self.read(block, &mut Vec::new(), &mut pages)?;
            Ok(pages)
        })
    }

    /// Calls `with` with the pages of a block, which come into `room` if nobody else will want them.
    pub(crate) fn with_block<T>(
        &self,
        index: u32,
        room: &mut Room,
        with: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let block = &self.contents.index.blocks[index as usize];
        if self.is_shared || self.wanted_twice[index as usize] {
            return with(&self.block(block)?);
        }
        self.read(block, &mut room.packed, &mut room.pages)?;
        with(&room.pages)
    }

    /// Reads a block: its bytes in the file into `packed`, its pages into `pages`.
    fn read(&self, block: &BlockRef, packed: &mut Vec<u8>, pages: &mut Vec<u8>) -> Result<()> {
        let member = self.file_of(block.event)?;
        let path = self.files.path_of(EventNumber(block.event));
        read_block(&member, &path, block, packed, pages)
    }

    /// The file of the checkpoint at `event`; an earlier one is checked to be what it should be.
    fn file_of(&self, event: u64) -> Result<Member> {
        if event == self.contents.header.event {
            return Ok(self.member.clone());
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = others.get(&event) {
            return Ok(file.clone());
        }
        let member = self.files.open_referred(EventNumber(event))?;
        let header = Header::read(&member, member.path())?;
        header.must_be_of(member.path(), &self.contents.header.uuid, EventNumber(event))?;
        if others.len() >= OPEN_FILES {
            others.clear();
        }
        others.insert(event, member.clone());
        Ok(member)
    }
}
