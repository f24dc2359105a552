//! What there is in the task for breakpoints that are passed, and the last pass.

use std::collections::BTreeMap;

use rr_tracee::{Addr, AddrRange};

use crate::probe::Stub;

/// The breakpoint that was passed last of those that are counted and noted.
#[derive(Clone, Debug)]
pub(crate) struct LastPass {
    pub addr: Addr,
    /// How often it had been passed by then.
    pub count: u64,
    /// How often the goal had been met by then, this pass included.
    pub goals: u64,
}

/// What is in the code of the event's task for breakpoints that are passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passes {
    /// How often each was passed.
    pub(super) passed: BTreeMap<Addr, u32>,
    pub(super) here: BTreeMap<Addr, Pass>,
    /// The counters in use, by number.
    pub(super) counters: Vec<Addr>,
    /// Where rewritten sites are, roughly.
    pub sites: Vec<AddrRange>,
}

/// A copy of what is at one breakpoint, or a stub for it.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) stub: Stub,
    /// Its jump has been written over the program's instructions.
    pub(super) is_patched: bool,
    /// The window, if it is that of the goal.
    pub(super) goal: Option<AddrRange>,
    /// How often the breakpoint had been counted when the stub was made.
    pub(super) counted: u64,
    /// How often a task has come between the replaced instructions since.
    pub(super) detours: u64,
}

impl Passes {
    pub fn rooms(&self) -> impl Iterator<Item = AddrRange> {
        self.here.values().map(|pass| pass.stub.room)
    }

    /// Whether there is a stub or a copy for a place.
    pub fn has(&self, at: Addr) -> bool {
        self.here.contains_key(&at)
    }

    /// Whether the task itself reads memory for conditions.
    pub(super) fn ask(&self) -> bool {
        self.here.values().any(|pass| pass.stub.asking.is_some())
    }

    pub(super) fn around(&self, rip: Addr) -> Option<&Pass> {
        self.here.values().find(|pass| pass.stub.room.contains(rip))
    }
}

/// What an `int3` of a stub means.
pub(crate) enum Trapped {
    /// It is the end of a count: the task is to be before the breakpoint.
    At(Addr),
    /// The task has jumped into the window of this breakpoint: there it goes on.
    Moved(Addr, Addr),
}
