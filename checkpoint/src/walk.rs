//! The walk over the pages of a capture: which of them are there, and which must be read.
//!
//! Keeps: a page that must be read, or that is as it was, is given to the sink once; all others can be told from the image and the files
//! of the trace.

use rr_tracee::ids::PAGE;
use rr_tracee::pagemap::{Method, method};
use rr_tracee::{Addr, AddrRange, AddressSpace, Backing, Mapping};

use crate::block::PAGE_BYTES;
use crate::capture::{Changes, ObjectSource, SpaceSource, Unchanged, is_forked, must_read};
use crate::error::Result;

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
    let mut walk = Walk { from, buffer, sink };
    groups(space).iter().try_for_each(|group| walk.group(group))?;
    let in_place = from.source.finish().map_err(WalkError::Lost)?;
    for (addr, bytes) in &from.extra {
        let anonymous = space.at(*addr).is_some_and(|m| m.backing == Backing::Anonymous);
        give(*addr, bytes, anonymous, sink)?;
    }
    Ok(in_place)
}

/// Gives the pages of an object to `sink`.
pub(crate) fn walk_object(from: &ObjectSource, sink: &mut dyn PageSink) -> Result<(), WalkError> {
    from.pages
        .iter()
        .try_for_each(|(offset, bytes)| give(Addr(*offset), bytes, true, sink))
}

/// Mappings whose pages are asked about together, ascending.
struct Group<'a> {
    mappings: Vec<&'a Mapping>,
    /// All are.
    is_anonymous: bool,
}

impl<'a> Group<'a> {
    fn new(first: &'a Mapping) -> Group<'a> {
        Group {
            mappings: vec![first],
            is_anonymous: first.backing == Backing::Anonymous,
        }
    }

    fn add(&mut self, next: &'a Mapping) {
        self.mappings.push(next);
        self.is_anonymous &= next.backing == Backing::Anonymous;
    }

    /// From its first page to its last.
    fn range(&self) -> AddrRange {
        AddrRange::new(
            self.mappings[0].range.start,
            self.mappings[self.mappings.len() - 1].range.end,
        )
    }
}

/// The mappings whose pages are read from the source, in groups that are asked about together: a small process
/// has dozens of mappings with a few pages each. A group never reaches across a mapping that is not read, which
/// could hold any number of pages. Large anonymous mappings stay by themselves.
fn groups(space: &AddressSpace) -> Vec<Group<'_>> {
    // The other method looks at every page of a range, be there something or not.
    let together = method() == Method::Scan;
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut open = false;
    for mapping in space.iter() {
        let is_read = is_forked(mapping);
        let is_large = mapping.backing == Backing::Anonymous && mapping.range.len() >= LARGE;
        if is_read {
            match groups.last_mut().filter(|_| open && together && !is_large) {
                Some(group) => group.add(mapping),
                None => groups.push(Group::new(mapping)),
            }
        }
        open = is_read && !is_large;
    }
    groups
}

/// A walk over the pages of an address space.
struct Walk<'a> {
    from: &'a SpaceSource,
    /// Room for a piece.
    buffer: &'a mut [u8],
    sink: &'a mut dyn PageSink,
}

impl Walk<'_> {
    /// Gives the pages of a group.
    fn group(&mut self, group: &Group<'_>) -> Result<(), WalkError> {
        let range = group.range();
        let parts = match self.from.changes {
            Changes::Since {
                unchanged: Unchanged::Pages(_),
                ..
            } if group.is_anonymous => self.from.changes.parts(range),
            _ => Vec::new(),
        };
        if parts.is_empty() || parts.len() > FEW_PARTS {
            return self.populated(group, range);
        }
        parts
            .into_iter()
            .try_for_each(|(part, is_unchanged)| match is_unchanged {
                true => self.unchanged(group, part),
                false => self.populated(group, part),
            })
    }

    /// Gives the pages in `range`, a part of the group's, as far as they are there.
    fn populated(&mut self, group: &Group<'_>, range: AddrRange) -> Result<(), WalkError> {
        let mut mappings = &group.mappings[..];
        let mut runs = Vec::new();
        let mut rest = Vec::new();
        let mut at = range.start;
        while at < range.end {
            runs.clear();
            let left = AddrRange::new(at, range.end);
            let step = self.from.source.read(|p| match group.is_anonymous {
                true => p.pagemap()?.step_anonymous(left, &mut runs),
                false => p.pagemap()?.step(left, &mut runs),
            });
            at = step.map_err(WalkError::Lost)?;
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
                    for (part, is_unchanged) in self.from.changes.parts(part) {
                        rest.clear();
                        match is_unchanged {
                            true => self.sink.unchanged(part, anonymous, &mut rest),
                            false => rest.push(part),
                        }
                        for part in &rest {
                            self.read(*part, anonymous)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives the pages in `range`, a part of an anonymous group's, all of which are unchanged if they are there and not the shared zero
    /// page. The source is asked for the exceptions: a fork has no zero pages of memory that was only read.
    fn unchanged(&mut self, group: &Group<'_>, range: AddrRange) -> Result<(), WalkError> {
        let hollow = self.from.source.read(|p| p.pagemap()?.hollow(range));
        let hollow = hollow.map_err(WalkError::Lost)?;
        if hollow.len() > FEW_PARTS {
            return self.populated(group, range);
        }
        let mut rest = Vec::new();
        for there in range.without(hollow.iter().copied()) {
            let parts = group
                .mappings
                .iter()
                .filter_map(|mapping| mapping.range.intersect(there));
            for part in parts {
                self.sink.unchanged(part, true, &mut rest);
            }
        }
        for part in rest {
            self.read(part, true)?;
        }
        // Pages that the kernel has swapped out meanwhile are not there, either.
        hollow
            .into_iter()
            .try_for_each(|part| self.populated(group, part))
    }

    /// Reads and gives the pages of a run.
    fn read(&mut self, run: AddrRange, anonymous: bool) -> Result<(), WalkError> {
        let mut start = run.start;
        while start < run.end {
            let bytes = &mut self.buffer[..(run.end - start).min(PIECE) as usize];
            let read = self.from.source.read(|p| p.read(start, bytes));
            read.map_err(WalkError::Lost)?;
            give(start, bytes, anonymous, self.sink)?;
            start = start + bytes.len() as u64;
        }
        Ok(())
    }
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
