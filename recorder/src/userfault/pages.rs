//! Sets of pages.
//!
//! Invariant: the ranges of a set are whole pages, are not empty, and do not touch each other.

use std::collections::BTreeMap;

use rr_tracee::{Addr, AddrRange};

/// A set of pages, as ranges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pages {
    /// The ends of the ranges, by their starts.
    ends: BTreeMap<Addr, Addr>,
}

impl Pages {
    /// Returns whether the page at an address is in the set.
    pub fn contains(&self, addr: Addr) -> bool {
        let before = self.ends.range(..=addr).next_back();
        before.is_some_and(|(_, end)| addr < *end)
    }

    /// The parts of the set in `range`, in order.
    pub fn within(&self, range: AddrRange) -> Vec<AddrRange> {
        let before = self.ends.range(..range.start).next_back();
        let inside = self.ends.range(range.start..range.end.max(range.start));
        before
            .into_iter()
            .chain(inside)
            .filter_map(|(start, end)| AddrRange::new(*start, *end).intersect(range))
            .collect()
    }

    /// Adds the pages of `range`.
    pub fn insert(&mut self, range: AddrRange) {
        let mut range = range.to_pages();
        if range.is_empty() {
            return;
        }
        self.remove(range);
        if let Some((start, end)) = self.ends.range(..range.start).next_back()
            && *end == range.start
        {
            range.start = *start;
        }
        if let Some(end) = self.ends.remove(&range.end) {
            range.end = end;
        }
        self.ends.insert(range.start, range.end);
    }

    /// Removes the pages of `range`.
    pub fn remove(&mut self, range: AddrRange) {
        let range = range.to_pages();
        for part in self.within(range) {
            let Some((start, end)) = self
                .ends
                .range(..=part.start)
                .next_back()
                .map(|(start, end)| (*start, *end))
            else {
                continue;
            };
            self.ends.remove(&start);
            for left in AddrRange::new(start, end).without([part].into_iter()) {
                self.ends.insert(left.start, left.end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rr_tracee::ids::PAGE;

    use super::*;

    fn range(first: u64, pages: u64) -> AddrRange {
        AddrRange::sized(Addr(first * PAGE), pages * PAGE)
    }

    /// A deterministic sequence of changes, also carried out on single pages.
    #[test]
    fn ranges_agree_with_single_pages() {
        let (mut pages, mut single) = (Pages::default(), BTreeSet::new());
        let mut state = 1u64;
        for _ in 0..5000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let (first, count) = (state >> 33 & 31, 1 + (state >> 40 & 7));
            if state >> 50 & 1 == 0 {
                pages.insert(range(first, count));
                single.extend(first..first + count);
            } else {
                pages.remove(range(first, count));
                (first..first + count).for_each(|page| {
                    single.remove(&page);
                });
            }
            for page in 0..48 {
                assert_eq!(pages.contains(Addr(page * PAGE + 5)), single.contains(&page));
            }
            let apart = pages.ends.iter().zip(pages.ends.iter().skip(1));
            assert!(apart.into_iter().all(|((_, end), (next, _))| end < next));
            let within = pages
                .within(range(first, count))
                .iter()
                .map(|r| r.len() / PAGE)
                .sum::<u64>();
            assert_eq!(within as usize, single.range(first..first + count).count());
        }
    }
}
