//! The ring: system call buffers in memory that a tracee shares with the recorder.
//!
//! Most intervals record little, which is read out of the tracee's own memory. If much is recorded,
//! that would be half of the work. So an address space that has recorded [`MUCH`] gets a ring. The
//! library writes into one of its slots (`rr_preload::layout::Control::records`). A slot with a large
//! interval is *lent* to the thread that writes the trace, which copies it later, and the library
//! continues in another.
//!
//! Invariant: nobody writes to a lent slot, unless the program itself writes into rr's area. So the
//! slot is copied once, and only the copy is read. If there is no free slot, the recorder copies at
//! once: nobody waits.
//!
//! ```text
//! RING ──► slot 0: RECORDS_BYTES | slot 1 | … | slot RING_SLOTS − 1
//! ```
//!
//! The memory is a memfd that the tracee makes and rr opens through `/proc`. Its descriptor is closed
//! before the program continues. A fork does not inherit the ring (`MADV_DONTFORK`): it continues with
//! its own copy of the buffer at `RECORDS`.

use std::num::NonZero;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use rr_preload::layout;
use rr_trace::Lend;
use rr_tracee::{Addr, rr_area};

/// Minimum number of bytes of records of a large interval.
pub(crate) const LARGE: usize = 16 << 10;

/// A ring, mapped into our own memory.
#[derive(Debug)]
pub(crate) struct Ring {
    start: NonNull<u8>,
    /// Slots that hold nothing. The last used one comes first, because it is in the CPU's caches.
    free: Mutex<Vec<u64>>,
}

// SAFETY: the mapping belongs to no thread. `free` says who may use which part of it.
unsafe impl Send for Ring {}

// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Sets the size of the ring's file, and maps it.
    pub(crate) fn map(file: &std::fs::File) -> std::io::Result<Ring> {
        file.set_len(layout::RING_BYTES)?;
        let len = const { NonZero::new(layout::RING_BYTES as usize).unwrap() };
        // SAFETY: a new mapping, wherever there is room.
        let start = unsafe { mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Ring {
            start: start.cast(),
            free: Mutex::new((0..layout::RING_SLOTS).rev().collect()),
        })
    }

    /// Takes a slot that holds nothing.
    pub(crate) fn take(self: &Arc<Ring>) -> Option<Arc<Slot>> {
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        let ring = Arc::clone(self);
        Some(Arc::new(Slot { ring, number }))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and no slot is left that refers to it.
        let _ = unsafe { munmap(self.start.cast(), layout::RING_BYTES as usize) };
    }
}

/// A slot in use: by the library, or by its borrower.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) ring: Arc<Ring>,
    number: u64,
}

impl Slot {
    /// Address of the slot in the tracee.
    fn address(&self) -> Addr {
        rr_area::RING + self.number * layout::RECORDS_BYTES
    }

    /// A copy of a part of the slot.
    pub fn copy(&self, range: &Range<usize>) -> Vec<u8> {
        let mut copy = Vec::with_capacity(range.len());
        self.copy_to(range, &mut copy);
        copy
    }

    /// Reads a part of the slot in place, while no task of its address space runs.
    pub(crate) fn view<R>(&self, range: &Range<usize>, look: impl FnOnce(&[u8]) -> R) -> R {
        let end = range.end.min(layout::RECORDS_BYTES as usize);
        let start = range.start.min(end);
        let at = self.number as usize * layout::RECORDS_BYTES as usize + start;
        // SAFETY: the range lies within the slot, and the slot within the mapping. Nobody writes there,
        // because the library of a stopped task does not.
        look(unsafe { std::slice::from_raw_parts(self.ring.start.as_ptr().add(at), end - start) })
    }

    fn copy_to(&self, range: &Range<usize>, buf: &mut Vec<u8>) {
        let end = range.end.min(layout::RECORDS_BYTES as usize);
        let start = range.start.min(end);
        let at = self.number as usize * layout::RECORDS_BYTES as usize + start;
        buf.reserve(end - start);
        // SAFETY: the range lies within the slot, and the slot within the mapping; there is room in
        // `buf`. If the program writes there meanwhile, the copy has old or new bytes, both of which
        // are valid.
        unsafe {
            let from = self.ring.start.as_ptr().add(at);
            let to = buf.as_mut_ptr().add(buf.len());
            std::ptr::copy_nonoverlapping(from, to, end - start);
            buf.set_len(buf.len() + (end - start));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut free = self.ring.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(self.number);
    }
}

/// Records of an interval that are still in their slot.
#[derive(Debug)]
pub(crate) struct DeferredRecords {
    pub(crate) slot: Arc<Slot>,
    pub(crate) range: Range<usize>,
}

impl Lend for DeferredRecords {
    fn size(&self) -> usize {
        self.range.len()
    }

    fn copy_to(&self, buf: &mut Vec<u8>) {
        self.slot.copy_to(&self.range, buf);
    }
}

/// Place where the library of an address space writes records.
#[derive(Debug, Default)]
pub(crate) enum Place {
    /// In the tracee's own memory, at `RECORDS`.
    #[default]
    Own,
    /// Same as `Own`, because a ring is not possible.
    OwnForEver,
    /// In a slot of a ring.
    Ring(Arc<Slot>),
}

impl Place {
    /// Address of the place.
    pub fn address(&self) -> Addr {
        match self {
            Place::Own | Place::OwnForEver => Addr(layout::RECORDS),
            Place::Ring(slot) => slot.address(),
        }
    }
}

/// Records taken out of buffers for the next event: first those of our own, then those that are lent.
#[derive(Debug, Default)]
pub(crate) struct IntervalRecords {
    own: Vec<u8>,
    lent: Option<DeferredRecords>,
}

impl IntervalRecords {
    /// Adds records.
    pub fn push(&mut self, records: Vec<u8>) {
        self.copy_deferred();
        if self.own.is_empty() {
            self.own = records;
        } else {
            self.own.extend(records);
        }
    }

    /// Adds records that stay in their place for now.
    pub fn lend(&mut self, lent: DeferredRecords) {
        self.copy_deferred();
        self.lent = Some(lent);
    }

    fn copy_deferred(&mut self) {
        if let Some(lent) = self.lent.take() {
            lent.copy_to(&mut self.own);
        }
    }

    /// Both parts.
    pub fn into_parts(self) -> (Vec<u8>, Option<DeferredRecords>) {
        (self.own, self.lent)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A ring whose slots begin with their numbers.
    fn ring() -> Arc<Ring> {
        let mut file = tempfile::tempfile().unwrap();
        for n in 0..layout::RING_SLOTS {
            let mut slot = vec![n as u8; 8];
            slot.resize(layout::RECORDS_BYTES as usize, 0xee);
            file.write_all(&slot).unwrap();
        }
        Arc::new(Ring::map(&file).unwrap())
    }

    #[test]
    fn slots_are_lent_and_come_back() {
        let ring = ring();
        let mut slots: Vec<Arc<Slot>> = std::iter::from_fn(|| ring.take()).collect();
        assert_eq!(slots.len() as u64, layout::RING_SLOTS);
        let third = slots.remove(3);
        assert_eq!(third.copy(&(6..10)), [3, 3, 0xee, 0xee]);
        assert_eq!(third.address(), rr_area::RING + 3 * layout::RECORDS_BYTES);
        let lent = DeferredRecords {
            slot: third,
            range: 0..2,
        };
        assert!(ring.take().is_none());
        drop(lent);
        assert_eq!(ring.take().map(|slot| slot.number), Some(3));
    }

    #[test]
    fn nothing_is_read_beyond_a_slot() {
        let slot = ring().take().unwrap();
        let end = layout::RECORDS_BYTES as usize;
        assert_eq!(slot.copy(&(end - 1..end + 100)), [0xee]);
        assert!(slot.copy(&(end + 5..end + 100)).is_empty());
    }

    #[test]
    fn what_is_taken_stays_in_order() {
        let ring = ring();
        let lent = |range| DeferredRecords {
            slot: ring.take().unwrap(),
            range,
        };
        let mut taken = IntervalRecords::default();
        taken.push(vec![10]);
        taken.lend(lent(0..1));
        taken.lend(lent(0..2));
        let (own, last) = taken.into_parts();
        assert_eq!((own, last.map(|l| l.size())), (vec![10, 0], Some(2)));
        let mut taken = IntervalRecords::default();
        taken.lend(lent(0..1));
        let first = taken.lent.as_ref().map(|l| l.slot.number as u8);
        taken.push(vec![11, 12]);
        assert_eq!(taken.into_parts().0, [first.unwrap(), 11, 12]);
    }
}
