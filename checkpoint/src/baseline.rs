//! The pages of the capture before, by address: what an unchanged page is, without looking at it.
//!
//! Invariant: what a [`Table`] says of a page is what the capture saw there. It says nothing of pages at which the capture did not
//! look; and whether the block that a page is in may still be referred to is asked of [`ContentIndex`](crate::content_index::ContentIndex), as for
//! every page. (A capture that was read whole and could not be written afterwards is a baseline, too: its own blocks may not
//! be referred to, those of others may.)

use std::collections::HashMap;

use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange, SpaceId};

use crate::index::Run;

/// The pages of one capture.
#[derive(Default)]
pub(crate) struct Baseline {
    /// Its event.
    pub event: u64,
    pub spaces: HashMap<SpaceId, Table>,
}

/// The pages of an address space.
#[derive(Default)]
pub(crate) struct Table {
    /// Pages that were looked at, or are as in a table before: those in no run were zeros where nothing was stored.
    pub seen: Vec<AddrRange>,
    /// Ascending. Blocks are numbered as in [`ContentIndex`](crate::content_index::ContentIndex).
    pub runs: Vec<Run>,
}

/// A table's answer about pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Was {
    /// Nothing.
    Unseen(AddrRange),
    /// Nothing was stored.
    Untouched(AddrRange),
    /// These.
    Stored(Run),
}

impl Table {
    /// Tells what the pages of `range` were, in order.
    pub fn each<E>(&self, range: AddrRange, mut tell: impl FnMut(Was) -> Result<(), E>) -> Result<(), E> {
        let first = self.seen.partition_point(|seen| seen.end <= range.start);
        let mut at = range.start;
        for seen in self.seen[first..].iter().map_while(|seen| seen.intersect(range)) {
            if at < seen.start {
                tell(Was::Unseen(AddrRange::new(at, seen.start)))?;
            }
            at = seen.start;
            let first = self.runs.partition_point(|run| run.range().end <= seen.start);
            for run in &self.runs[first..] {
                let Some(part) = run.range().intersect(seen) else {
                    break;
                };
                if at < part.start {
                    tell(Was::Untouched(AddrRange::new(at, part.start)))?;
                }
                tell(Was::Stored(run.part(part)))?;
                at = part.end;
            }
            if at < seen.end {
                tell(Was::Untouched(AddrRange::new(at, seen.end)))?;
            }
            at = seen.end;
        }
        if at < range.end {
            tell(Was::Unseen(AddrRange::new(at, range.end)))?;
        }
        Ok(())
    }

    /// A page was looked at.
    pub fn see(seen: &mut Vec<AddrRange>, pages: AddrRange) {
        match seen.last_mut() {
            Some(last) if last.end == pages.start => last.end = pages.end,
            _ => seen.push(pages),
        }
    }
}

/// Brings ranges that are apart from each other in order and joins those that touch.
pub(crate) fn in_order(mut ranges: Vec<AddrRange>) -> Vec<AddrRange> {
    ranges.sort_by_key(|range| range.start);
    let mut joined = Vec::with_capacity(ranges.len());
    ranges
        .into_iter()
        .for_each(|range| Table::see(&mut joined, range));
    joined
}

/// The pages of these numbers.
pub(crate) fn pages(first: u64, count: u64) -> AddrRange {
    AddrRange::sized(Addr(first * PAGE), count * PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::ZERO_BLOCK;

    #[test]
    fn a_table_tells_of_seen_pages_only() {
        let run = |page, count, block, slot| Run {
            page,
            count,
            block,
            slot,
        };
        let table = Table {
            seen: in_order(vec![pages(40, 4), pages(10, 5), pages(15, 10)]),
            runs: vec![run(9, 4, 7, 20), run(16, 2, ZERO_BLOCK, 0), run(42, 2, 8, 0)],
        };
        let told = |first, count| {
            let mut told = Vec::new();
            let all = table.each(pages(first, count), |was| {
                told.push(was);
                Ok::<(), ()>(())
            });
            assert_eq!(all, Ok(()));
            told
        };
        assert_eq!(
            told(8, 30),
            [
                Was::Unseen(pages(8, 2)),
                Was::Stored(run(10, 3, 7, 21)),
                Was::Untouched(pages(13, 3)),
                Was::Stored(run(16, 2, ZERO_BLOCK, 0)),
                Was::Untouched(pages(18, 7)),
                Was::Unseen(pages(25, 13)),
            ]
        );
        assert_eq!(told(43, 1), [Was::Stored(run(43, 1, 8, 1))]);
        assert_eq!(
            told(17, 2),
            [
                Was::Stored(run(17, 1, ZERO_BLOCK, 0)),
                Was::Untouched(pages(18, 1))
            ]
        );
        assert_eq!(told(100, 2), [Was::Unseen(pages(100, 2))]);
    }
}
