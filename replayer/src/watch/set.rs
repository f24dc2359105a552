//! The watched places, and the guard.

use rr_tracee::Tid;
use rr_tracee::task::Watch;

/// The watched places of the debugged process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    pub(super) process: Option<Tid>,
    pub(super) places: Vec<Watch>,
    /// The guard: of the task of the pending event.
    pub(super) guard: Vec<Watch>,
    /// Counts the changes: a task whose debug registers are of another is armed anew.
    pub(super) generation: u64,
}
