//! Pages that are not the same, told so that people find what has written them.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rr_tracee::Addr;
use rr_tracee::ids::PAGE;

use crate::block::PAGE_BYTES;
use crate::index::PageTarget;

/// Bytes of a [`Line`].
const LINE: usize = 16;

/// A page that is not the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The owner of the page.
    pub target: PageTarget,
    /// The first byte that differs (for an object: its offset).
    pub addr: Addr,
    /// The mapping, for people: range, name, and offset in the file.
    pub mapping: String,
    /// The byte in the checkpoint.
    pub expected: u8,
    /// The byte in the live process; nothing if the page cannot be read there.
    pub found: Option<u8>,
    /// The number of bytes of the page that differ.
    pub bytes: usize,
    /// The bytes around it.
    pub line: Line,
}

/// The bytes around the first one that differs, both ways.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The address (for an object: offset) of its first byte, a multiple of its length.
    pub addr: Addr,
    /// In the checkpoint.
    pub expected: Vec<u8>,
    /// In the live process: nothing if the page cannot be read there.
    pub found: Vec<u8>,
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
            ..
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

/// Pages that are not the same.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Differences {
    /// The first of them, in order of address.
    pub first: Vec<Difference>,
    /// The number of pages that differ.
    pub pages: u64,
}

impl Differences {
    /// Says if all pages are the same.
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }
}

/// Collects differences from several threads.
pub(super) struct Report {
    target: PageTarget,
    limit: usize,
    found: Mutex<Differences>,
}

impl Report {
    /// Keeps the first `limit` in order of address.
    pub fn new(target: PageTarget, limit: usize) -> Report {
        Report {
            target,
            limit,
            found: Mutex::default(),
        }
    }

    /// Compares runs of whole pages (`live` shorter: the rest cannot be read).
    pub fn compare(&self, addr: Addr, expected: &[u8], live: &[u8]) {
        if expected == live {
            return;
        }
        for (i, page) in expected.chunks(PAGE_BYTES).enumerate() {
            let at = i * PAGE_BYTES;
            let other = &live[live.len().min(at)..live.len().min(at + page.len())];
            if page != other {
                self.add(addr + at as u64, page, other);
            }
        }
    }

    fn add(&self, addr: Addr, page: &[u8], other: &[u8]) {
        let mut found = self.lock();
        found.pages += 1;
        // Most of many are not looked at.
        let place = found.first.partition_point(|d| d.addr < addr);
        if place >= self.limit {
            return;
        }
        let differs = |j: &usize| other.get(*j) != Some(&page[*j]);
        let Some(first) = (0..page.len()).find(differs) else {
            return;
        };
        let line = first / LINE * LINE;
        let part = |bytes: &[u8]| bytes[bytes.len().min(line)..bytes.len().min(line + LINE)].to_vec();
        let difference = Difference {
            target: self.target,
            addr: addr + first as u64,
            mapping: String::new(),
            expected: page[first],
            found: other.get(first).copied(),
            bytes: (first..page.len()).filter(differs).count(),
            line: Line {
                addr: addr + line as u64,
                expected: part(page),
                found: part(other),
            },
        };
        found.first.insert(place, difference);
        found.first.truncate(self.limit);
    }

    fn lock(&self) -> MutexGuard<'_, Differences> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result. `name` gives the name of an address.
    pub fn end(self, name: impl Fn(Addr) -> String) -> Differences {
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        for difference in &mut found.first {
            difference.mapping = name(difference.addr);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rr_tracee::SpaceId;

    #[test]
    fn all_are_counted_and_the_first_are_told() {
        let report = Report::new(PageTarget::Space(SpaceId(1)), 2);
        let expected = vec![7; 8 * PAGE_BYTES];
        let mut live = expected.clone();
        for page in [6, 2, 4] {
            live[page * PAGE_BYTES + 0x123] = 8;
        }
        live[2 * PAGE_BYTES + 0x12a] = 9;
        report.compare(
            Addr(0x10_0000),
            &expected[4 * PAGE_BYTES..],
            &live[4 * PAGE_BYTES..],
        );
        report.compare(
            Addr(0x8_0000),
            &expected[..4 * PAGE_BYTES],
            &live[..4 * PAGE_BYTES],
        );
        // Cannot be read.
        report.compare(Addr(0x20_0000), &expected[..PAGE_BYTES], &[]);
        let all = report.end(|addr| format!("at {addr}"));
        assert_eq!(all.pages, 4);
        let addrs: Vec<u64> = all.first.iter().map(|d| d.addr.0).collect();
        assert_eq!(addrs, [0x8_2123, 0x10_0123]);
        let first = &all.first[0];
        assert_eq!((first.expected, first.found, first.bytes), (7, Some(8), 2));
        assert_eq!(first.line.addr, Addr(0x8_2120));
        assert_eq!(first.line.expected, [7; 16]);
        assert_eq!(first.line.found, [7, 7, 7, 8, 7, 7, 7, 7, 7, 7, 9, 7, 7, 7, 7, 7]);
        assert_eq!(first.mapping, "at 0x82123");
    }
}
