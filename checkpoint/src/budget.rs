//! The budget of a writer: keeps what its directory holds within a number of bytes, while checkpoints are being made.
//!
//! Runs on the thread that publishes them, so that nobody who takes a checkpoint waits for it. When the budget is exceeded,
//! those go that are missed least ([`crate::retention`]), and some more than needed, so that not each new checkpoint
//! reads all the others.
//!
//! *The latest published checkpoint stays, whatever it takes.* So do the blocks that it refers to, and checkpoints that are
//! being made refer to no others: what a capture refers to is new, or was referred to by the one before.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rr_trace::event::EventNumber;
use rr_trace::hold::Deletion;

use crate::collection::{Collection, bytes_on_disk, is_linked};
use crate::error::Result;
use crate::retention::{Limit, thin};

/// The number of bytes that a trace's checkpoints may take on the disk.
#[derive(Clone, Default, Debug)]
pub struct Budget {
    /// The limit in bytes.
    pub bytes: u64,
    /// Checkpoints that are never removed.
    pub kept: Vec<EventNumber>,
}

impl Budget {
    /// Says if the budget is the reason that so many checkpoints are missing, where `checkpoints` take `used` bytes: they were made before,
    /// and removed. If they were made again, they would be removed again.
    pub fn is_full_for(&self, missing: u64, used: u64, checkpoints: u64) -> bool {
        let Some(each) = used.checked_div(checkpoints) else {
            return false;
        };
        let free = self.bytes.saturating_sub(used);
        used / 3 >= self.bytes / 4 && each.saturating_mul(missing) > free
    }
}

/// The part of the budget that is free after checkpoints were removed, as its reciprocal.
const FREE: u64 = 8;

/// The budget, and what is used of it.
#[derive(Debug)]
pub(crate) struct Keeper {
    dir: PathBuf,
    uuid: [u8; 16],
    budget: Budget,
    used: u64,
    /// The number of removed ones, for others to see.
    removed: Arc<AtomicU64>,
    /// The user has been told that it is too small.
    warned: bool,
}

impl Keeper {
    pub fn new(dir: PathBuf, uuid: [u8; 16], budget: Budget, removed: Arc<AtomicU64>) -> Keeper {
        let used = bytes_on_disk(&dir).unwrap_or(0);
        Keeper {
            dir,
            uuid,
            budget,
            used,
            removed,
            warned: false,
        }
    }

    /// Checkpoints with this number of bytes on the disk were published.
    pub fn add(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Checkpoints were published and others were removed.
    pub fn look(&mut self) {
        self.used = bytes_on_disk(&self.dir).unwrap_or(self.used);
    }

    /// Keeps within the budget, but whatever happens those at these events, the latest among them.
    pub fn keep(&mut self, events: impl Iterator<Item = EventNumber>) {
        if self.used <= self.budget.bytes {
            return;
        }
        // Somebody may need them all (`rr_trace::Hold`): then the budget waits.
        let trace = self.dir.parent().unwrap_or(&self.dir);
        let Some(_deletion) = Deletion::begin(trace) else {
            return;
        };
        if is_linked(&self.dir).unwrap_or(false) {
            return;
        }
        let events: Vec<EventNumber> = self.budget.kept.iter().copied().chain(events).collect();
        if let Err(e) = self.make_room(&events) {
            tracing::warn!("checkpoints are not kept within their budget: {e}");
            self.budget.bytes = u64::MAX;
        }
    }

    /// Removes some until the disk says that it is enough: for a file with many holes it needs more than for what is in it.
    fn make_room(&mut self, kept: &[EventNumber]) -> Result<()> {
        let goal = self.budget.bytes - self.budget.bytes / FREE;
        let mut more = 0;
        while self.used > self.budget.bytes {
            let mut collection = Collection::read(&self.dir, &self.uuid)?;
            thin(&mut collection, Limit::Bytes(goal.saturating_sub(more)), kept);
            let (needed, count) = (collection.bytes(), collection.checkpoints().count());
            let removed = collection.apply()?;
            self.removed
                .fetch_add(removed.events.len() as u64, Ordering::Relaxed);
            tracing::debug!("checkpoints removed: {removed:?}");
            self.used = bytes_on_disk(&self.dir)?;
            let before = more;
            more = self.used.saturating_sub(needed);
            if removed.events.is_empty() && more <= before {
                self.warn(needed, count);
                break;
            }
        }
        Ok(())
    }

    /// Says once that it is too small.
    fn warn(&mut self, needed: u64, count: usize) {
        if needed > self.budget.bytes && !self.warned {
            self.warned = true;
            tracing::warn!(
                "the budget for checkpoints is too small: {needed} bytes for the {count} that are kept whatever they take, and the limit is {}",
                self.budget.bytes
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_full_if_it_is_the_reason_that_checkpoints_are_missing() {
        let budget = Budget {
            bytes: 1200,
            kept: vec![],
        };
        assert!(!budget.is_full_for(9, 0, 0));
        // Two more of 100 bytes have room.
        assert!(!budget.is_full_for(2, 1000, 10));
        assert!(budget.is_full_for(3, 1000, 10));
        // These checkpoints were not thinned.
        assert!(!budget.is_full_for(30, 800, 8));
        assert!(budget.is_full_for(1, 1300, 13));
    }
}
