//! Scratch memory: the kernel puts the outputs of calls that may block there (I3).
//!
//! Only a current call needs scratch memory, for its outputs. It gets whole pages of rr's area, and
//! keeps them until its task enters the next call. At first only the beginning of the area is mapped,
//! and more when it is needed: mapped memory counts against the program's limits (`ulimit -v`), which
//! the program must not notice.

use rr_tracee::ids::PAGE;
use rr_tracee::{Addr, AddrRange, rr_area};

use crate::error::Result;

/// Number of bytes that are mapped at a time.
pub(crate) const STEP: u64 = 1 << 20;

/// The scratch memory of an address space.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    /// The ranges in use, in order, without overlaps.
    used: Vec<AddrRange>,
    /// End of the mapped part.
    pub(crate) end: Addr,
    /// True if the kernel refused to map more.
    pub(crate) exhausted: bool,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            used: Vec::new(),
            end: rr_area::initial_end(),
            exhausted: false,
        }
    }
}

impl Scratch {
    /// The scratch memory of a fork: the same part is mapped, and none is in use.
    pub fn forked(&self) -> Scratch {
        Scratch {
            used: Vec::new(),
            ..*self
        }
    }

    /// The gaps up to `end`, in order.
    fn gaps(&self, end: Addr) -> impl Iterator<Item = AddrRange> {
        let starts = std::iter::once(rr_area::SCRATCH).chain(self.used.iter().map(|r| r.end));
        let ends = self.used.iter().map(|r| r.start).chain([end]);
        starts.zip(ends).map(|(start, end)| AddrRange::new(start, end))
    }

    /// Takes `len` bytes, or fewer if the area is full. `Err` is the address up to which the area must
    /// be mapped first.
    pub fn take(&mut self, len: u64) -> Result<Option<AddrRange>, Addr> {
        let len = len.min(rr_area::SCRATCH_MOST).next_multiple_of(PAGE);
        let limit = if self.exhausted {
            self.end
        } else {
            rr_area::SCRATCH_END
        };
        let found = match self.gaps(limit).find(|gap| gap.len() >= len) {
            Some(gap) => AddrRange::sized(gap.start, len),
            None => match self.gaps(limit).max_by_key(|gap| gap.len()) {
                Some(gap) if !gap.is_empty() => gap,
                _ => return Ok(None),
            },
        };
        if found.end > self.end {
            return Err(found.end);
        }
        let at = self.used.partition_point(|r| r.start < found.start);
        self.used.insert(at, found);
        Ok(Some(found))
    }

    /// Gives a range back.
    pub fn release(&mut self, range: AddrRange) {
        self.used.retain(|r| *r != range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_given_and_taken_back() {
        let mut scratch = Scratch::default();
        let one = scratch.take(1).unwrap().unwrap();
        assert_eq!(one, AddrRange::sized(rr_area::SCRATCH, PAGE));
        let two = scratch.take(3 * PAGE - 1).unwrap().unwrap();
        assert_eq!(two, AddrRange::sized(one.end, 3 * PAGE));
        scratch.release(one);
        // Too large for the gap, and then exactly its size.
        assert_eq!(scratch.take(2 * PAGE).unwrap().unwrap().start, two.end);
        assert_eq!(scratch.take(PAGE).unwrap().unwrap(), one);
    }

    #[test]
    fn it_grows_to_the_end_of_the_area_and_then_gives_what_there_is() {
        let mut scratch = Scratch::default();
        loop {
            match scratch.take(rr_area::SCRATCH_MOST) {
                Ok(Some(range)) => assert!(!range.is_empty() && range.end <= rr_area::SCRATCH_END),
                Ok(None) => break,
                Err(end) => scratch.end = Addr(end.0.next_multiple_of(STEP)).min(rr_area::SCRATCH_END),
            }
        }
        assert_eq!(
            scratch.used.iter().map(|r| r.len()).sum::<u64>(),
            rr_area::SCRATCH_END - rr_area::SCRATCH
        );
        let mut small = Scratch {
            exhausted: true,
            ..Scratch::default()
        };
        let room = small.end - rr_area::SCRATCH;
        assert_eq!(
            small.take(room - PAGE).unwrap().unwrap().len(),
            room.min(rr_area::SCRATCH_MOST).min(room - PAGE)
        );
    }
}
