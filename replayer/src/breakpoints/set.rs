//! The breakpoints of the debugged process, and the ways in which they are passed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rr_tracee::{Addr, AddrRange, SpaceId, Tid};

use crate::condition::Program;
use crate::passes::{LastPass, Passes};
use crate::place::Goal;
use crate::probe::WhereTrue;

/// Places that stop a task, with the parts of their conditions that the task can evaluate: it need not
/// stop if all of these programs are false. Without any, it always stops.
pub(crate) type Halting = BTreeMap<Addr, Vec<Arc<Program>>>;

/// The breakpoints of the debugged process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breakpoints {
    /// Its recorded pid.
    pub process: Option<Tid>,
    pub wanted: BTreeSet<Addr>,
    /// The breakpoints that are counted instead of stopping; true if the last pass is noted.
    pub counted: BTreeMap<Addr, bool>,
    /// The breakpoints that stop only if one of these conditions is true, or cannot be evaluated.
    pub conditions: Halting,
    /// The task's action if one is true.
    pub where_true: WhereTrue,
    /// The condition that ends the counting.
    pub goal: Option<Goal>,
    /// The last pass that was noted.
    pub last: Option<LastPass>,
    /// The ways in which breakpoints are passed.
    pub passes: Passes,
    /// Addresses where `int3` has been put.
    pub put: HashMap<SpaceId, BTreeSet<Addr>>,
    /// True if the placed breakpoints may differ from the wanted ones.
    pub stale: bool,
}

impl Breakpoints {
    /// Returns whether a breakpoint is wanted in a range.
    pub fn within(&self, range: AddrRange) -> bool {
        self.wanted.range(range.start..range.end).next().is_some()
    }

    /// Returns whether an `int3` has been put at `addr`.
    pub fn is_put(&self, space: SpaceId, addr: Addr) -> bool {
        self.put.get(&space).is_some_and(|put| put.contains(&addr))
    }
}
