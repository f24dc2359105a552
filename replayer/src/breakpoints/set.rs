//! The breakpoints of the debugged process, and what is known of how they are passed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rr_tracee::{Addr, AddrRange, SpaceId, Tid};

use crate::condition::Program;
use crate::passes::{LastPass, Passes};
use crate::place::Goal;
use crate::probe::WhereTrue;

/// Places that stop a task, with what it can find out itself about their conditions: it need not stop where all of these
/// programs are false. Without any, it stops always.
pub(crate) type Halting = BTreeMap<Addr, Vec<Arc<Program>>>;

/// The breakpoints of the debugged process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breakpoints {
    /// Its recorded pid.
    pub(super) process: Option<Tid>,
    pub(super) wanted: BTreeSet<Addr>,
    /// Those of them that stop nobody, but are counted; and whether the last pass of them is noted.
    pub counted: BTreeMap<Addr, bool>,
    /// Those that stop somebody only if one of these is true, or cannot be told.
    pub conditions: Halting,
    /// What the task does where one is true.
    pub where_true: WhereTrue,
    /// What ends the counting.
    pub goal: Option<Goal>,
    /// The last pass that was noted.
    pub last: Option<LastPass>,
    /// How they are passed.
    pub passes: Passes,
    /// Where `int3` has been put for them.
    pub(super) put: HashMap<SpaceId, BTreeSet<Addr>>,
    /// What has been put may not be what is wanted.
    pub(super) stale: bool,
}

impl Breakpoints {
    /// Whether one is wanted in a range.
    pub fn within(&self, range: AddrRange) -> bool {
        self.wanted.range(range.start..range.end).next().is_some()
    }

    /// Whether an `int3` has been put there.
    pub fn is_put(&self, space: SpaceId, addr: Addr) -> bool {
        self.put.get(&space).is_some_and(|put| put.contains(&addr))
    }
}
