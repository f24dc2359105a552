//! The places of rewritten code in an address space, and of mappings that could come to change a shared object, as few ranges.
//!
//! The library has to know them. A call that removes stubs, or changes rewritten code, is left to the
//! recorder, which then restores the code (see [`crate::buffer::restore`]); so is one that makes a shared mapping writable. Invariant: everything that was
//! added is in one of the ranges, and there are at most [`GUARDED`] of them, sorted and separate.

use rr_preload::layout::GUARDED;
use rr_tracee::AddrRange;

/// The ranges, in whole pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guarded(Vec<AddrRange>);

impl Guarded {
    /// The ranges.
    pub fn ranges(&self) -> &[AddrRange] {
        &self.0
    }

    /// Adds a range. Returns whether that has changed anything.
    pub fn add(&mut self, range: AddrRange) -> bool {
        let range = range.to_pages();
        if self
            .0
            .iter()
            .any(|r| r.start <= range.start && range.end <= r.end)
        {
            return false;
        }
        self.0.push(range);
        self.0.sort_by_key(|r| r.start);
        self.0.dedup_by(|next, last| {
            let meet = next.start <= last.end;
            if meet {
                last.end = last.end.max(next.end);
            }
            meet
        });
        while self.0.len() > GUARDED {
            let gap = |n: &usize| self.0[*n + 1].start - self.0[*n].end;
            let Some(nearest) = (0..self.0.len() - 1).min_by_key(gap) else {
                break;
            };
            self.0[nearest].end = self.0[nearest + 1].end;
            self.0.remove(nearest + 1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rr_tracee::Addr;

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange::new(Addr(start), Addr(end))
    }

    #[test]
    fn neighbours_are_one() {
        let mut guarded = Guarded::default();
        assert!(guarded.add(range(0x5010, 0x5020)));
        assert!(!guarded.add(range(0x5ff0, 0x5ff8)));
        assert!(guarded.add(range(0x7ff8, 0x8008)));
        assert_eq!(guarded.ranges(), [range(0x5000, 0x6000), range(0x7000, 0x9000)]);
        assert!(guarded.add(range(0x6000, 0x7000)));
        assert_eq!(guarded.ranges(), [range(0x5000, 0x9000)]);
    }

    #[test]
    fn there_are_never_too_many_and_all_is_covered() {
        let mut guarded = Guarded::default();
        let places = (0..100u64).map(|n| n * n * 0x1_0000);
        for start in places.clone() {
            guarded.add(range(start, start + 5));
            let order = guarded.ranges().windows(2).all(|w| w[0].end < w[1].start);
            assert!(order && guarded.ranges().len() <= GUARDED);
        }
        let covered = |at: u64| guarded.ranges().iter().any(|r| r.contains(Addr(at)));
        assert!(places.clone().all(covered));
    }
}
