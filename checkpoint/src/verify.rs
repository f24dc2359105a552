//! Comparing a stored checkpoint with a replayed session (I4).
//!
//! Two questions: is the image the same ([`compare_images`]), and is every page ([`compare_space`],
//! [`compare_object`])? A page can be stored, or be as when untouched; and it can be there in the live process
//! or not. It is compared with what it must be in all cases but one: neither stored nor there as a private
//! page, when both are the mapping's backing and so the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;

use rr_trace::Member;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::Pagemap;
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, FileId, Mapping, Memory, ObjectId, ReadAt, SpaceId, sparse,
};

pub use difference::{Difference, Differences, Line};
pub use images::compare_images;
pub use pair::compare_checkpoints;

use crate::block::{BLOCK_PAGES, PAGE_BYTES};
use crate::capture::must_read;
use crate::error::{BoxedError, Error, Result};
use crate::index::{PageTarget, captured};
use crate::restore::Checkpoint;
use difference::Report;

mod difference;
mod images;
mod pair;

/// Opens what pages of a mapping are when nobody has written to them.
pub type OpenFile<'a> = dyn Fn(Untouched) -> Opened + 'a;

/// A file that was opened, or why it could not be.
pub type Opened = std::result::Result<Member, BoxedError>;

/// The contents of a page in a private mapping that nobody has written to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Untouched {
    /// A part of this file of the trace.
    File(FileId),
    /// A part of this shared memory object, as it is in the live session.
    Object(ObjectId),
}

/// Compares every private page of an address space with the live process that `live` reads, which must
/// be stopped: those in the checkpoint, and those of the process that the checkpoint has not. `model` says
/// what is mapped in the process. Differences are counted, and the first `limit` in
/// order of address are told.
pub fn compare_space(
    checkpoint: &Checkpoint,
    space: SpaceId,
    model: &AddressSpace,
    live: &Memory,
    open: &OpenFile<'_>,
    limit: usize,
) -> Result<Differences> {
    let target = PageTarget::Space(space);
    let report = Report::new(target, limit);

    checkpoint.restore_pages(target, |addr, expected| {
        let mut bytes = vec![0; expected.len()];
        let n = read_pages(live, addr, &mut bytes)?;
        report.compare(addr, expected, &bytes[..n]);
        Ok::<(), rr_tracee::Error>(())
    })?;

    let stored: Vec<AddrRange> = checkpoint.pages(target)?.map(|(range, _)| range).collect();
    let pagemap = Pagemap::open(live.tid())?;
    let mut files = HashMap::new();
    for mapping in model.iter().filter(|m| captured(&m.backing)) {
        for run in pagemap.populated(mapping.range)? {
            if !must_read(mapping, run) {
                continue;
            }
            for rest in without(run.0, &stored) {
                let mut at = rest.start;
                while at < rest.end {
                    let len = (rest.end - at).min((BLOCK_PAGES * PAGE_BYTES) as u64) as usize;
                    let expected = untouched(mapping, at, len, &mut files, open)?;
                    let mut bytes = vec![0; len];
                    let n = read_pages(live, at, &mut bytes)?;
                    report.compare(at, &expected, &bytes[..n]);
                    at = at + len as u64;
                }
            }
        }
    }
    Ok(report.end(|addr| match model.at(addr) {
        Some(mapping) => name_of(mapping, addr),
        None => "no mapping".into(),
    }))
}

/// The name of a mapping's place, for people.
fn name_of(mapping: &Mapping, addr: Addr) -> String {
    let name = match mapping.name.is_empty() {
        true => "(anonymous)",
        false => &mapping.name,
    };
    let at = addr - mapping.range.start;
    let offset = match mapping.backing {
        Backing::File { offset, .. } => format!(", offset {:#x} of the file", offset + at),
        _ => String::new(),
    };
    format!("mapping {} {name}{offset}", mapping.range)
}

/// Reads as many whole pages as can be read, whatever their protection.
fn read_pages(live: &Memory, addr: Addr, bytes: &mut [u8]) -> rr_tracee::Result<usize> {
    match live.read(addr, bytes) {
        Ok(()) => return Ok(bytes.len()),
        Err(e @ rr_tracee::Error::Died(_)) => return Err(e),
        Err(_) => {}
    }
    let mut n = 0;
    for page in bytes.chunks_mut(PAGE_BYTES) {
        if live.read(addr + n as u64, page).is_err() {
            break;
        }
        n += page.len();
    }
    Ok(n)
}

/// The parts of `range` that lie in none of `holes` (ascending, apart from each other).
fn without(range: AddrRange, holes: &[AddrRange]) -> Vec<AddrRange> {
    let mut parts = Vec::new();
    let mut at = range.start;
    let first = holes.partition_point(|h| h.end <= range.start);
    for hole in holes[first..].iter().take_while(|h| h.start < range.end) {
        if at < hole.start {
            parts.push(AddrRange::new(at, hole.start));
        }
        at = hole.end;
    }
    if at < range.end {
        parts.push(AddrRange::new(at, range.end));
    }
    parts
}

/// The bytes of a mapping that nobody has written to, from an address on.
fn untouched(
    mapping: &Mapping,
    at: Addr,
    len: usize,
    files: &mut HashMap<Untouched, Member>,
    open: &OpenFile<'_>,
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let (id, offset) = match mapping.backing {
        Backing::File { file, offset } => (Untouched::File(file), offset),
        Backing::CopyOnWrite { object, offset } => (Untouched::Object(object), offset),
        Backing::Anonymous | Backing::Shared { .. } | Backing::Rr => return Ok(bytes),
    };
    let failed = |source: BoxedError| match id {
        Untouched::File(file) => Error::MappedFile { file, source },
        Untouched::Object(object) => Error::LiveObject {
            object,
            source: std::io::Error::other(source),
        },
    };
    let file = match files.entry(id) {
        Entry::Occupied(e) => e.into_mut(),
        Entry::Vacant(e) => e.insert(open(id).map_err(failed)?),
    };
    // Beyond the end of the file its last page is zero (mmap(2)).
    let read = file.read_up_to(&mut bytes, offset + (at - mapping.range.start));
    read.map_err(|e| failed(e.into()))?;
    Ok(bytes)
}

/// Compares every mapped page of a shared memory object with the file that stands for it in the live session. Differences are
/// counted, and the first `limit` in order of offset are told.
pub fn compare_object(
    checkpoint: &Checkpoint,
    object: ObjectId,
    live: &File,
    limit: usize,
) -> Result<Differences> {
    let target = PageTarget::Object(object);
    let report = Report::new(target, limit);
    let read = |at: Addr, len: usize| -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let size = live.metadata()?.len();
        let n = size.saturating_sub(at.0).min(len as u64) as usize;
        live.read_exact_at(&mut bytes[..n], at.0)?;
        Ok(bytes)
    };
    checkpoint.restore_pages(target, |offset, expected| {
        report.compare(offset, expected, &read(offset, expected.len())?);
        Ok::<(), std::io::Error>(())
    })?;
    let stored: Vec<AddrRange> = checkpoint.pages(target)?.map(|(range, _)| range).collect();
    let failed = |source| Error::LiveObject { object, source };
    let size = live.metadata().map_err(failed)?.len();
    for part in checkpoint.image().mapped_parts(object) {
        let end = size.min(part.end.0);
        let mut at = part.start.0;
        while let Some(data) = sparse::next_data(live, at, end).map_err(failed)? {
            let data = AddrRange::new(Addr(at.max(data.start)), Addr(data.end)).to_pages();
            for rest in without(data, &stored) {
                let mut at = rest.start;
                while at < rest.end {
                    let len = (rest.end - at).min((BLOCK_PAGES * PAGE_BYTES) as u64) as usize;
                    report.compare(at, &vec![0; len], &read(at, len).map_err(failed)?);
                    at = at + len as u64;
                }
            }
            at = data.end.0;
        }
    }
    Ok(report.end(|_| "shared memory".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_without_others() {
        let r = |a, b| AddrRange::new(Addr(a), Addr(b));
        assert_eq!(without(r(10, 20), &[]), [r(10, 20)]);
        assert_eq!(without(r(10, 20), &[r(0, 10), r(20, 30)]), [r(10, 20)]);
        assert_eq!(
            without(r(10, 20), &[r(0, 12), r(14, 15), r(15, 16), r(18, 30)]),
            [r(12, 14), r(16, 18)]
        );
        assert_eq!(without(r(10, 20), &[r(5, 25)]), []);
    }
}
