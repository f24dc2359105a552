//! All of userfaultfd(2) in an address space, and in a task.

use std::collections::BTreeMap;

use rr_tracee::{Addr, AddrRange, ExtendedState, Prot, Registers};

use super::key::ObjectKey;
use super::object::Object;
use super::regions::Regions;

/// All of userfaultfd(2) in an address space. A fork has none of it.
#[derive(Debug, Default)]
pub(crate) struct Userfaults {
    /// The objects that handle the faults of this address space.
    pub objects: BTreeMap<ObjectKey, Object>,
    pub regions: Regions,
    /// Changes of access rights that the model has and the kernel has not: the next task of the space that continues makes them.
    pub due: Vec<(AddrRange, Prot)>,
}

impl Userfaults {
    /// Returns whether any page is registered.
    pub fn has_regions(&self) -> bool {
        !self.regions.is_empty()
    }
}

/// The place of a task that waits for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// It is stopped at its instruction.
    Standing,
    /// It waits in the kernel.
    InKernel,
    /// It has been woken, and comes out of the kernel.
    Woken,
}

/// A task's wait for a page.
#[derive(Debug)]
pub struct PageWait {
    pub(crate) owner: ObjectKey,
    pub(crate) page: Addr,
    pub(crate) phase: Phase,
    /// The registers at the instruction that has faulted, with which the task goes on.
    pub(crate) regs: Registers,
    /// Extended state, if checkpoints are taken.
    pub(crate) xstate: Option<ExtendedState>,
}

impl PageWait {
    /// The task's extended state, if it cannot be read because the task is in the kernel.
    pub(crate) fn hidden_xstate(&self) -> Option<&ExtendedState> {
        self.xstate.as_ref().filter(|_| self.phase != Phase::Standing)
    }
}
