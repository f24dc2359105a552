//! The stubs and copies in the task for breakpoints that are passed, and the last pass.

use std::collections::BTreeMap;

use rr_tracee::{Addr, AddrRange};

use crate::probe::Stub;

/// Number of passes of a breakpoint in one interval before it gets a stub.
pub(super) const PASSES: u32 = 4;

/// The last pass of the breakpoints that are counted and noted.
#[derive(Clone, Debug)]
pub(crate) struct LastPass {
    pub addr: Addr,
    /// Number of passes of this breakpoint by then.
    pub count: u64,
    /// Number of times that the goal had been met by then, including this pass.
    pub goals: u64,
}

/// The stubs and copies in the code of the event's task for breakpoints that are passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passes {
    /// Number of passes of each breakpoint.
    pub(super) passed: BTreeMap<Addr, u32>,
    pub(crate) here: BTreeMap<Addr, Pass>,
    /// The counters in use, by number.
    pub(super) counters: Vec<Addr>,
    /// Approximate ranges of rewritten sites.
    pub sites: Vec<AddrRange>,
}

/// A copy of the instruction at a breakpoint, or a stub for it.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(super) stub: Stub,
    /// True if the jump has been written over the program's instructions.
    pub(crate) is_patched: bool,
    /// The window, if the stub is at the goal.
    pub(crate) goal: Option<AddrRange>,
    /// Count of the breakpoint when the stub was made.
    pub(super) counted: u64,
    /// Number of times that a task has come between the replaced instructions since.
    pub(super) detours: u64,
}

impl Passes {
    pub fn rooms(&self) -> impl Iterator<Item = AddrRange> {
        self.here.values().map(|pass| pass.stub.room)
    }

    /// Returns whether there is a stub or a copy for a place.
    pub fn has(&self, at: Addr) -> bool {
        self.here.contains_key(&at)
    }

    /// Returns whether the task itself reads memory for conditions.
    pub(super) fn ask(&self) -> bool {
        self.here.values().any(|pass| pass.stub.asking.is_some())
    }

    pub(super) fn around(&self, rip: Addr) -> Option<&Pass> {
        self.here.values().find(|pass| pass.stub.room.contains(rip))
    }
}

/// Meaning of a stub's `int3`.
pub(crate) enum Trapped {
    /// The end of a count: the task must be moved before the breakpoint.
    At(Addr),
    /// The task has jumped into the window of this breakpoint, and continues at the second address.
    Moved(Addr, Addr),
}
