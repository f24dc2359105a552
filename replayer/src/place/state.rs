//! The state that names a place, and the goals of counting.

use std::cell::RefCell;
use std::rc::Rc;

use rr_tracee::digest::ChunkDigest;
use rr_tracee::{Addr, ExtendedState, Memory, Registers};

use crate::overlay::CodeOverlay;

/// Goal that ends the counting of breakpoints that do not stop the user.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// The instruction is about to be executed for this time, as the position counts.
    Count(Addr, u64),
    /// The state is equal to this.
    Place(Rc<RefCell<Place>>),
}

impl Goal {
    /// The instruction at the goal.
    pub fn addr(&self) -> Addr {
        match self {
            Goal::Count(addr, _) => *addr,
            Goal::Place(place) => place.borrow().addr(),
        }
    }
}

/// The state of a task inside an interval.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) regs: Registers,
    pub(super) xstate: ExtendedState,
    pub(super) digests: Vec<ChunkDigest>,
    /// Number of changes of the address space that are still to be made.
    pub(super) changes: usize,
    /// Number of bytes of the interval's records that are used.
    pub(super) used: u64,
    /// Words that have distinguished other moments from this one.
    pub(super) words: Vec<(Addr, u64)>,
    /// The chunk that differed last.
    pub(super) suspect: Option<Addr>,
    /// Source of its memory.
    pub(super) memory: Memory,
    pub(super) overlay: CodeOverlay,
}

impl Place {
    pub fn addr(&self) -> Addr {
        Addr(self.regs.rip)
    }

    pub fn regs(&self) -> &Registers {
        &self.regs
    }

    pub fn words(&self) -> &[(Addr, u64)] {
        &self.words
    }

    pub fn changes(&self) -> usize {
        self.changes
    }
}
