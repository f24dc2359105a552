//! Captures: the parts that a recorder hands over at a checkpoint, and the walk over their pages.
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
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rr_trace::event::EventNumber;
use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{Method, PageKind, Pagemap, Run, method};
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, ForkPolicy, Mapping, Memory, ObjectId, SpaceId, Tid,
};

use crate::block::PAGE_BYTES;
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
    fn parts(&self, range: AddrRange) -> Vec<(AddrRange, bool)> {
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
                let Some(data) = next_data(file, at, end)? else {
                    break;
                };
                let range = AddrRange::new(Addr(data.start.0.max(at)), data.end).to_pages();
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

/// The first stretch of data at or after `from` in a file of `size` bytes (lseek(2), SEEK_DATA).
pub(crate) fn next_data(file: &File, from: u64, size: u64) -> std::io::Result<Option<AddrRange>> {
    let seek = |offset: u64, whence: i32| -> std::io::Result<Option<u64>> {
        // SAFETY: plain numbers; only this file's offset, which nobody uses, changes.
        let r = unsafe { libc::lseek(file.as_raw_fd(), offset as i64, whence) };
        let e = std::io::Error::last_os_error();
        match (r, e.raw_os_error()) {
            (0.., _) => Ok(Some(r as u64)),
            (_, Some(libc::ENXIO)) => Ok(None), // nothing but a hole
            (_, Some(libc::EINVAL)) if whence == libc::SEEK_DATA => Ok(Some(offset)), // unknown here: all is data
            (_, Some(libc::EINVAL)) => Ok(Some(size)),
            _ => Err(e),
        }
    };
    let Some(start) = seek(from, libc::SEEK_DATA)?.filter(|&s| s < size) else {
        return Ok(None);
    };
    let end = seek(start, libc::SEEK_HOLE)?.unwrap_or(size).min(size);
    Ok(Some(AddrRange::new(Addr(start), Addr(end))))
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

/// Bytes that are read in one piece, under the source's lock.
const PIECE: u64 = 1 << 20;

/// Anonymous mappings that are asked about by themselves: what is saved for each page is more than the call costs.
const LARGE: u64 = 4 << 20;

/// The most parts, changed and unchanged by turns, that are asked about one by one: the kernel looks at an unchanged page five times
/// as fast, but each part is a call.
const FEW_PARTS: usize = 64;

/// The receiver of the pages of a walk.
pub(crate) trait PageSink {
    /// A page: its number, its bytes, and whether it is zero where nothing is stored.
    fn page(&mut self, number: u64, bytes: &[u8], zero_untouched: bool) -> Result<()>;

    /// Pages that are as they were at the capture before. Adds those of which it does not know what that was to `rest`: they
    /// are read.
    fn unchanged(&mut self, pages: AddrRange, zero_untouched: bool, rest: &mut Vec<AddrRange>);
}

/// The reason why a walk ended early.
pub(crate) enum WalkError {
    /// The source cannot be read to its end.
    Lost(String),
    /// The sink failed.
    Sink(crate::error::Error),
}

/// Gives every page of an address space that must be read to `sink`. Says whether the source was read in
/// place to the end. The source is finished (a frozen process killed) as soon as the last page is read.
pub(crate) fn walk_space(
    from: &SpaceSource,
    space: &AddressSpace,
    buffer: &mut Vec<u8>,
    sink: &mut dyn PageSink,
) -> Result<bool, WalkError> {
    buffer.resize(PIECE as usize, 0);
    for group in groups(space) {
        let range = AddrRange::new(group[0].range.start, group[group.len() - 1].range.end);
        let parts = match from.changes {
            Changes::Since {
                unchanged: Unchanged::Pages(_),
                ..
            } if group.iter().all(|m| m.backing == Backing::Anonymous) => from.changes.parts(range),
            _ => Vec::new(),
        };
        if parts.is_empty() || parts.len() > FEW_PARTS {
            walk_populated(from, &group, range, buffer, sink)?;
            continue;
        }
        for (part, is_unchanged) in parts {
            match is_unchanged {
                true => walk_unchanged(from, &group, part, buffer, sink)?,
                false => walk_populated(from, &group, part, buffer, sink)?,
            }
        }
    }
    let in_place = from.source.finish().map_err(WalkError::Lost)?;
    for (addr, bytes) in &from.extra {
        let anonymous = space.at(*addr).is_some_and(|m| m.backing == Backing::Anonymous);
        give(*addr, bytes, anonymous, sink)?;
    }
    Ok(in_place)
}

/// Gives the pages in `range`, a part of the group's, as far as they are there.
fn walk_populated(
    from: &SpaceSource,
    group: &[&Mapping],
    range: AddrRange,
    buffer: &mut [u8],
    sink: &mut dyn PageSink,
) -> Result<(), WalkError> {
    let all_anonymous = group.iter().all(|m| m.backing == Backing::Anonymous);
    let mut mappings = group;
    let mut runs = Vec::new();
    let mut rest = Vec::new();
    let mut at = range.start;
    while at < range.end {
        runs.clear();
        let left = AddrRange::new(at, range.end);
        at = from
            .source
            .read(|p| match all_anonymous {
                true => p.pagemap()?.step_anonymous(left, &mut runs),
                false => p.pagemap()?.step(left, &mut runs),
            })
            .map_err(WalkError::Lost)?;
        for &(range, kind) in &runs {
            // Runs and mappings both ascend. A run can go on through several mappings.
            while mappings.first().is_some_and(|m| m.range.end <= range.start) {
                mappings = &mappings[1..];
            }
            for mapping in mappings.iter().take_while(|m| m.range.start < range.end) {
                let Some(part) = range.intersect(mapping.range) else {
                    continue;
                };
                if !must_read(mapping, (part, kind)) {
                    continue;
                }
                let anonymous = mapping.backing == Backing::Anonymous;
                for (part, is_unchanged) in from.changes.parts(part) {
                    rest.clear();
                    match is_unchanged {
                        true => sink.unchanged(part, anonymous, &mut rest),
                        false => rest.push(part),
                    }
                    for part in &rest {
                        read_run(from, *part, anonymous, buffer, sink)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Gives the pages in `range`, a part of an anonymous group's, all of which are unchanged if they are there and not the shared zero page.
/// The source is asked for the exceptions: a fork has no zero pages of memory that was only read.
fn walk_unchanged(
    from: &SpaceSource,
    group: &[&Mapping],
    range: AddrRange,
    buffer: &mut [u8],
    sink: &mut dyn PageSink,
) -> Result<(), WalkError> {
    let hollow = from
        .source
        .read(|p| p.pagemap()?.hollow(range))
        .map_err(WalkError::Lost)?;
    if hollow.len() > FEW_PARTS {
        return walk_populated(from, group, range, buffer, sink);
    }
    let mut rest = Vec::new();
    for there in range.without(hollow.iter().copied()) {
        for part in group.iter().filter_map(|mapping| mapping.range.intersect(there)) {
            sink.unchanged(part, true, &mut rest);
        }
    }
    for part in rest {
        read_run(from, part, true, buffer, sink)?;
    }
    // Pages that the kernel has swapped out meanwhile are not there, either.
    hollow
        .into_iter()
        .try_for_each(|part| walk_populated(from, group, part, buffer, sink))
}

/// The mappings whose pages are read from the source, in groups that are asked about together: a small process
/// has dozens of mappings with a few pages each. A group never reaches across a mapping that is not read, which
/// could hold any number of pages. Large anonymous mappings stay by themselves.
fn groups(space: &AddressSpace) -> Vec<Vec<&Mapping>> {
    // The other method looks at every page of a range, be there something or not.
    let together = method() == Method::Scan;
    let mut groups: Vec<Vec<&Mapping>> = Vec::new();
    let mut open = false;
    for mapping in space.iter() {
        let is_read = is_forked(mapping);
        let is_large = mapping.backing == Backing::Anonymous && mapping.range.len() >= LARGE;
        if is_read {
            match groups.last_mut().filter(|_| open && together && !is_large) {
                Some(group) => group.push(mapping),
                None => groups.push(vec![mapping]),
            }
        }
        open = is_read && !is_large;
    }
    groups
}

/// Gives the pages of a run to `sink`.
fn read_run(
    from: &SpaceSource,
    run: AddrRange,
    anonymous: bool,
    buffer: &mut [u8],
    sink: &mut dyn PageSink,
) -> Result<(), WalkError> {
    let mut start = run.start;
    while start < run.end {
        let bytes = &mut buffer[..(run.end - start).min(PIECE) as usize];
        from.source
            .read(|p| p.read(start, bytes))
            .map_err(WalkError::Lost)?;
        give(start, bytes, anonymous, sink)?;
        start = start + bytes.len() as u64;
    }
    Ok(())
}

/// Gives the pages of an object to `sink`.
pub(crate) fn walk_object(from: &ObjectSource, sink: &mut dyn PageSink) -> Result<(), WalkError> {
    from.pages
        .iter()
        .try_for_each(|(offset, bytes)| give(Addr(*offset), bytes, true, sink))
}

fn give(addr: Addr, bytes: &[u8], zero_untouched: bool, sink: &mut dyn PageSink) -> Result<(), WalkError> {
    if addr.page_floor() != addr || !bytes.len().is_multiple_of(PAGE_BYTES) {
        return Err(WalkError::Lost(format!(
            "{} bytes at {addr} are not whole pages",
            bytes.len()
        )));
    }
    for (i, page) in bytes.chunks_exact(PAGE_BYTES).enumerate() {
        sink.page(addr.0 / PAGE + i as u64, page, zero_untouched)
            .map_err(WalkError::Sink)?;
    }
    Ok(())
}
