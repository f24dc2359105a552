//! Entries into system calls whose events are still to come.

use rr_trace::event::MemWrite;
use rr_tracee::{Registers, Tid};

/// An entry into a system call that is not recorded yet.
#[derive(Debug)]
pub(crate) struct PendingEntry {
    pub tid: Tid,
    pub entry: Registers,
    /// The kernel's write at the entry, which other tasks can see while the call waits.
    pub write: Option<MemWrite>,
}

impl PendingEntry {
    /// The number of its events.
    pub fn events(&self) -> u64 {
        1 + u64::from(self.write.is_some())
    }
}
