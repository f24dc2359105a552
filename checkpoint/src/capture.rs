//! Captures: the parts that a recorder hands over at a checkpoint.
//!
//! The recorder stops the world for as long as it takes to fill in a [`CaptureRequest`]: the image, one
//! [`SharedSource`] per address space, and copies of the few pages that are not preserved by these. Everything
//! else happens in the writer while the program runs on.
//!
//! | pages | come from |
//! |---|---|
//! | anonymous, copied on write | the source of their address space, if the kernel has a page there |
//! | the same, as at an earlier capture ([`Changes`]) | what was stored then: they are not read |
//! | private file pages, never written | the mapped file in the trace: nothing is captured |
//! | `MADV_DONTFORK`, `MADV_WIPEONFORK` ranges | [`SpaceSource::extra`], copied in the pause ([`copy_unforkable`]) |
//! | shared memory objects | [`ObjectSource`]: what is mapped of them, copied in the pause, once however often it is mapped |
//! | those that are files of the trace | that file: nothing is captured ([`rr_tracee::objects`]) |
//! | rr's own | not captured |

use std::fs::File;
use std::os::unix::fs::FileExt;

use rr_trace::event::EventNumber;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{PageKind, Pagemap, Run};
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, ForkPolicy, Mapping, Memory, ObjectId, SpaceId, Tid, sparse,
};

use crate::error::Result;
use crate::image::SessionImage;
use crate::index::captured;
use crate::source::SharedSource;

/// Everything that a checkpoint is made from. When it is dropped, whether it was written or not, every
/// frozen process in it is killed.
#[derive(Debug)]
pub struct CaptureRequest {
    /// The image at the event.
    pub image: SessionImage,
    /// One source for every address space of the image.
    pub spaces: Vec<SpaceSource>,
    /// The contents of every shared memory object of the image that is not a file of the trace.
    pub objects: Vec<ObjectSource>,
    /// The time that the program stood still for this, in µs; it goes into the statistics.
    pub pause_us: u64,
}

impl CaptureRequest {
    /// Says if the program can take pages out of its frozen processes, by making a file shorter that these have mapped
    /// privately. If so, the program must not go on before the pages are read
    /// ([`CheckpointWriter::wait_until_read`](crate::CheckpointWriter::wait_until_read)).
    pub fn is_exposed(&self) -> bool {
        let mut mappings = self.image.spaces.iter().flat_map(|s| s.space.iter());
        mappings.any(|m| matches!(m.backing, Backing::CopyOnWrite { .. }))
    }
}

impl Drop for CaptureRequest {
    fn drop(&mut self) {
        for space in &self.spaces {
            space.source.abandon("the checkpoint was given up");
        }
    }
}

/// The pages of one address space.
#[derive(Debug)]
pub struct SpaceSource {
    /// Its id.
    pub space: SpaceId,
    /// The process to read from.
    pub source: SharedSource,
    /// Whole pages, copied in the pause, of mappings whose fork policy is not `Copy`; the source is not
    /// asked for these. Absent ones are as when untouched.
    pub extra: Vec<(Addr, Vec<u8>)>,
    /// The pages that need not be read.
    pub changes: Changes,
}

/// The difference between the memory of an address space and an earlier capture of it, as far as it is known without reading.
#[derive(Clone, Default, Debug)]
pub enum Changes {
    /// Nothing is known: all is read.
    #[default]
    Unknown,
    /// Nothing is different in some of it.
    Since {
        /// The event of that capture. If it was not read whole, or not the last one that was, all is read.
        event: EventNumber,
        /// The pages that are the same.
        unchanged: Unchanged,
    },
}

/// Pages that are as they were.
#[derive(Clone, Debug)]
pub enum Unchanged {
    /// All that are there.
    All,
    /// These, but for such as are the shared zero page, or not there, in the source. Ascending, apart from each other.
    Pages(Vec<AddrRange>),
}

impl Changes {
    /// The parts of `range` of which is known that they are as at that capture (`true`), and the others; in order.
    pub(crate) fn parts(&self, range: AddrRange) -> Vec<(AddrRange, bool)> {
        let unchanged = match self {
            Changes::Unknown => &[][..],
            Changes::Since { unchanged, .. } => match unchanged {
                Unchanged::All => return vec![(range, true)],
                Unchanged::Pages(pages) => pages,
            },
        };
        let first = unchanged.partition_point(|part| part.end <= range.start);
        let mut parts = Vec::new();
        let mut at = range.start;
        for part in unchanged[first..].iter().map_while(|part| part.intersect(range)) {
            parts.extend((at < part.start).then(|| (AddrRange::new(at, part.start), false)));
            parts.push((part, true));
            at = part.end;
        }
        parts.extend((at < range.end).then(|| (AddrRange::new(at, range.end), false)));
        parts
    }
}

/// The contents of a shared memory object.
#[derive(Debug)]
pub struct ObjectSource {
    /// Its id.
    pub object: ObjectId,
    /// Runs of whole pages by offset (the last one filled up with zeros); what is missing is zero.
    pub pages: Vec<(u64, Vec<u8>)>,
}

impl ObjectSource {
    /// A copy of what `file`, which is the object (a file or memfd), holds in these parts: whole pages, ascending,
    /// apart from each other ([`SessionImage::mapped_parts`]). Holes are skipped.
    pub fn from_file(object: ObjectId, file: &File, parts: &[AddrRange]) -> std::io::Result<ObjectSource> {
        let size = file.metadata()?.len();
        let mut pages = Vec::new();
        for part in parts {
            let end = size.min(part.end.0);
            let mut at = part.start.0;
            while at < end {
                let Some(data) = sparse::next_data(file, at, end)? else {
                    break;
                };
                let range = AddrRange::new(Addr(data.start.max(at)), Addr(data.end)).to_pages();
                let mut bytes = vec![0; range.len() as usize];
                let wanted = (size.min(range.end.0) - range.start.0) as usize;
                file.read_exact_at(&mut bytes[..wanted], range.start.0)?;
                pages.push((range.start.0, bytes));
                at = range.end.0;
            }
        }
        Ok(ObjectSource { object, pages })
    }
}

/// Copies what a fork of this process would not have: the pages with data in mappings whose fork policy is
/// not `Copy`. For [`SpaceSource::extra`]; to be called in the pause. Costs nothing if there are none.
pub fn copy_unforkable(tid: Tid, space: &AddressSpace) -> Result<Vec<(Addr, Vec<u8>)>> {
    let mut pages = Vec::new();
    let memory = Memory::of(tid);
    for mapping in space
        .iter()
        .filter(|m| captured(&m.backing) && m.fork != ForkPolicy::Copy)
    {
        for run in Pagemap::open(tid)?.populated(mapping.range)? {
            if must_read(mapping, run) {
                pages.push((run.0.start, memory.read_vec(run.0.start, run.0.len() as usize)?));
            }
        }
    }
    Ok(pages)
}

/// Says if the source is asked for the pages of a mapping: a fork has them.
pub fn is_forked(mapping: &Mapping) -> bool {
    captured(&mapping.backing) && mapping.fork == ForkPolicy::Copy
}

/// Says if the contents of these pages of a mapping are known only from reading them.
pub(crate) fn must_read(mapping: &Mapping, (_, kind): Run) -> bool {
    // A page-cache page under a mapping that the model backs with zeros (the vDSO's, for example) holds
    // something that the trace has nowhere else.
    kind == PageKind::Private || mapping.backing == Backing::Anonymous
}
