//! Comparing a stored checkpoint with a replayed session (I4).
//!
//! Two questions: is the image the same ([`compare_images`]), and is every page ([`compare_space`],
//! [`compare_object`])? A page can be stored, or be as when untouched; and it can be there in the live process
//! or not. It is compared with what it must be in all cases but one: neither stored nor there as a private
//! page, when both are the mapping's backing and so the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use rr_tracee::ids::PAGE;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::Pagemap;
use rr_tracee::{Addr, AddrRange, AddressSpace, Backing, FileId, Mapping, Memory, ObjectId, SpaceId};

pub use images::compare_images;
pub use pair::compare_checkpoints;

use crate::block::{BLOCK_PAGES, PAGE_BYTES};
use crate::capture::{must_read, next_data};
use crate::error::{BoxedError, Error, Result};
use crate::index::{PageTarget, captured};
use crate::restore::Checkpoint;

mod images;
mod pair;

/// A page that is not the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Whose page.
    pub target: PageTarget,
    /// The first byte that differs (for an object: its offset).
    pub addr: Addr,
    /// The mapping, for people: range and name.
    pub mapping: String,
    /// The byte in the checkpoint.
    pub expected: u8,
    /// The byte in the live process; nothing if the page cannot be read there.
    pub found: Option<u8>,
    /// How many bytes of the page differ.
    pub bytes: usize,
}

impl Difference {
    /// Offset of the first byte that differs in its page.
    pub fn offset_in_page(&self) -> u64 {
        self.addr.0 % PAGE
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            target,
            addr,
            mapping,
            expected,
            found,
            bytes,
        } = self;
        let offset = self.offset_in_page();
        write!(
            f,
            "{target}, {mapping}: byte at {addr} (offset {offset:#x} of its page) "
        )?;
        match found {
            Some(found) => write!(
                f,
                "is {found:#04x} and should be {expected:#04x} ({bytes} bytes of the page differ)"
            ),
            None => write!(f, "cannot be read and should be {expected:#04x}"),
        }
    }
}

/// Opens `files/<FileId>` of the trace.
pub type OpenFile<'a> = dyn Fn(FileId) -> std::result::Result<File, BoxedError> + 'a;

/// Collects differences from several threads.
struct Report<'a> {
    target: PageTarget,
    name: &'a (dyn Fn(Addr) -> String + Sync),
    found: Mutex<Vec<Difference>>,
}

impl Report<'_> {
    /// Compares runs of whole pages (`live` shorter: the rest cannot be read).
    fn compare(&self, addr: Addr, expected: &[u8], live: &[u8]) {
        if expected == live {
            return;
        }
        for (i, page) in expected.chunks(PAGE_BYTES).enumerate() {
            let at = i * PAGE_BYTES;
            let other = &live[live.len().min(at)..live.len().min(at + page.len())];
            if page == other {
                continue;
            }
            let differs = |j: &usize| other.get(*j) != Some(&page[*j]);
            let Some(first) = (0..page.len()).find(differs) else {
                continue;
            };
            let addr = addr + (at + first) as u64;
            let bytes = (first..page.len()).filter(differs).count();
            let (expected, found) = (page[first], other.get(first).copied());
            let difference = Difference {
                target: self.target,
                addr,
                mapping: (self.name)(addr),
                expected,
                found,
                bytes,
            };
            self.found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(difference);
        }
    }

    /// The first `limit` of them in order of address.
    fn into_first(self, limit: usize) -> Vec<Difference> {
        let mut all = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.sort_by_key(|d| d.addr);
        all.truncate(limit);
        all
    }
}

/// Compares every private page of an address space with the live process that `live` reads, which must
/// be stopped: those in the checkpoint, and those of the process that the checkpoint has not. `model` says
/// what is mapped in the process. The first `limit` differences in order of address are returned.
pub fn compare_space(
    checkpoint: &Checkpoint,
    space: SpaceId,
    model: &AddressSpace,
    live: &Memory,
    open: &OpenFile<'_>,
    limit: usize,
) -> Result<Vec<Difference>> {
    let target = PageTarget::Space(space);
    let name = |addr: Addr| match model.at(addr) {
        Some(m) => format!(
            "mapping {} {}",
            m.range,
            if m.name.is_empty() { "(anonymous)" } else { &m.name }
        ),
        None => "no mapping".into(),
    };
    let report = Report {
        target,
        name: &name,
        found: Mutex::default(),
    };

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
    Ok(report.into_first(limit))
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

/// What `len` bytes of a mapping are when nobody has written to them.
fn untouched(
    mapping: &Mapping,
    at: Addr,
    len: usize,
    files: &mut HashMap<FileId, Arc<File>>,
    open: &OpenFile<'_>,
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let Backing::File { file: id, offset } = mapping.backing else {
        return Ok(bytes);
    };
    let failed = |source: BoxedError| Error::MappedFile { file: id, source };
    let file = match files.entry(id) {
        Entry::Occupied(e) => e.into_mut(),
        Entry::Vacant(e) => e.insert(Arc::new(open(id).map_err(failed)?)),
    };
    // Beyond the end of the file its last page is zero (mmap(2)).
    let mut n = 0;
    while n < len {
        match file.read_at(&mut bytes[n..], offset + (at - mapping.range.start) + n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e.into())),
        }
    }
    Ok(bytes)
}

/// Compares every mapped page of a shared memory object with the file that stands for it in the live session. The
/// first `limit` differences in order of offset are returned.
pub fn compare_object(
    checkpoint: &Checkpoint,
    object: ObjectId,
    live: &File,
    limit: usize,
) -> Result<Vec<Difference>> {
    let target = PageTarget::Object(object);
    let name = |_: Addr| "shared memory".to_owned();
    let report = Report {
        target,
        name: &name,
        found: Mutex::default(),
    };
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
        while let Some(data) = next_data(live, at, end).map_err(failed)? {
            let data = AddrRange::new(Addr(at.max(data.start.0)), data.end).to_pages();
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
    Ok(report.into_first(limit))
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
