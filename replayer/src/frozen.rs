//! The frozen forks of captures.
//!
//! Invariant: killed forks are reaped before more are made, and when a session ends.

use std::cell::RefCell;

use nix::errno::Errno;
use rr_tracee::Tid;
use rr_tracee::task::wait;

thread_local! {
    /// Frozen forks that have not been reaped. A tracee belongs to its thread: whatever its session, it
    /// is reaped here.
    static FROZEN: RefCell<Vec<Tid>> = const { RefCell::new(Vec::new()) };
}

/// Reaps the frozen forks of this thread that have been killed.
pub(crate) fn reap() {
    FROZEN.with_borrow_mut(|frozen| {
        frozen.retain(|fork| match wait(Some(*fork), true) {
            Some(report) => !report.is_gone(),
            None => Errno::last() != Errno::ECHILD,
        });
    });
}

/// Adds a fork, which stays frozen until it is killed.
pub(crate) fn add(fork: Tid) {
    FROZEN.with_borrow_mut(|frozen| frozen.push(fork));
}
