//! Compares two sessions of one trace: images, and every byte that their programs can see.
//!
//! Two sessions at one place of a trace are equal however they came there (I4). Tests check that with
//! this module. A search that ends at the state of a live checkpoint can use it, too.

use rr_checkpoint::compare_images;
use rr_tracee::pagemap::Pagemap;
use rr_tracee::{Addr, AddrRange, Backing, Mapping, Memory};

use crate::error::{Error, Result};
use crate::own_code::with_own_code;
use crate::session::ReplaySession;

/// Number of bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// Maximum size of a part of shared memory that is read as a whole. Of larger parts, only pages touched
/// by one of the two are read.
const WHOLE_MOST: u64 = 64 << 20;
const PAGE: u64 = rr_tracee::ids::PAGE;

impl ReplaySession {
    /// The differences between two sessions; empty if they are in the same state. Reports about `limit`
    /// pages at most.
    pub fn differences(&self, other: &ReplaySession, limit: usize) -> Result<Vec<String>> {
        with_own_code(self, || {
            with_own_code(other, || find_differences(self, other, limit))
        })
    }
}

/// The parts of a mapping that can differ.
fn to_read(mapping: &Mapping, maps: &(Pagemap, Pagemap)) -> rr_tracee::Result<Vec<AddrRange>> {
    let whole = match mapping.backing {
        Backing::Anonymous | Backing::Rr => false,
        Backing::File { .. } | Backing::CopyOnWrite { .. } => true,
        Backing::Shared { .. } => mapping.range.len() <= WHOLE_MOST,
    };
    if whole {
        return Ok(vec![mapping.range]);
    }
    // Pages that both have are read twice.
    let mut runs = maps.0.populated(mapping.range)?;
    runs.extend(maps.1.populated(mapping.range)?);
    Ok(runs.into_iter().map(|(range, _)| range).collect())
}

/// The pages of a range that differ. Pages that neither can read (beyond the end of a file) are equal.
fn different(memories: &(Memory, Memory), range: AddrRange) -> Vec<Addr> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(PIECE);
        let piece = AddrRange::sized(at, len);
        if pages(&memories.0, piece) != pages(&memories.1, piece) {
            for n in 0..len / PAGE {
                let page = AddrRange::sized(at + n * PAGE, PAGE);
                if pages(&memories.0, page) != pages(&memories.1, page) {
                    found.push(page.start);
                }
            }
        }
        at = at + len;
    }
    found
}

/// The first differing bytes of a page, as text.
fn first_difference(memories: &(Memory, Memory), page: Addr) -> String {
    use rr_tracee::memory::ReadMemory;
    let read = |memory: &Memory| memory.read_vec(page, PAGE as usize).unwrap_or_default();
    let (a, b) = (read(&memories.0), read(&memories.1));
    let Some(n) = a.iter().zip(&b).position(|(a, b)| a != b) else {
        return String::new();
    };
    let some = |bytes: &[u8]| format!("{:02x?}", &bytes[n..bytes.len().min(n + 8)]);
    format!(": at {}: {} and {}", page + n as u64, some(&a), some(&b))
}

/// The pages of a range; `None` for those that cannot be read.
fn pages(memory: &Memory, range: AddrRange) -> Vec<Option<Vec<u8>>> {
    use rr_tracee::memory::ReadMemory;
    if let Ok(all) = memory.read_vec(range.start, range.len() as usize) {
        return vec![Some(all)];
    }
    let page = |n| memory.read_vec(range.start + n * PAGE, PAGE as usize).ok();
    (0..range.len() / PAGE).map(page).collect()
}

fn find_differences(session: &ReplaySession, other: &ReplaySession, limit: usize) -> Result<Vec<String>> {
    let failed = |source| Error::Tracee {
        event: session.events.last,
        source,
    };
    let plain = |session: &ReplaySession| -> Result<_> {
        let mut image = session.image()?;
        let tasks = image.tasks.iter_mut();
        tasks.for_each(|task| task.regs = task.regs.without_resume_flag());
        Ok(image)
    };
    let mut report = compare_images(&plain(session)?, &plain(other)?);
    for (id, model) in &session.world.spaces {
        let task_in = |session: &ReplaySession| {
            let found = session.world.tasks.values().find(|task| task.space == *id);
            found.map(|task| task.real)
        };
        let (Some(a), Some(b)) = (task_in(session), task_in(other)) else {
            continue;
        };
        let maps = (
            Pagemap::open(a).map_err(failed)?,
            Pagemap::open(b).map_err(failed)?,
        );
        let memories = (Memory::of(a), Memory::of(b));
        for mapping in model.iter().filter(|m| m.backing != Backing::Rr) {
            for range in to_read(mapping, &maps).map_err(failed)? {
                for page in different(&memories, range) {
                    if report.len() >= limit {
                        return Ok(report);
                    }
                    let bytes = first_difference(&memories, page);
                    report.push(format!(
                        "address space {id}: page {:#x} ({}){bytes}",
                        page.0, mapping.name
                    ));
                }
            }
        }
    }
    Ok(report)
}
