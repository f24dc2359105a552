//! The watched places, and the guard.

use rr_tracee::task::Watch;
use rr_tracee::{Addr, Tid};

/// The watched places of the debugged process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    pub(super) process: Option<Tid>,
    pub(super) places: Vec<Watch>,
    /// The guard for the task of the pending event.
    pub(super) guard: Vec<Watch>,
    /// The address at which the task of the pending event stops before the instruction.
    pub(super) stop: Option<Addr>,
    /// Number of changes: a task whose debug registers have another generation is armed anew.
    pub(super) generation: u64,
}
