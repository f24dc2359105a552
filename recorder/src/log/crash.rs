//! The signals that killed processes.

use rr_trace::event::EventNumber;
use rr_tracee::Tid;

/// Maximum number of crashes that are listed.
pub(crate) const CRASHES: usize = 100;

/// A signal that killed a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// The event of the signal.
    pub event: EventNumber,
    /// The thread that got the signal.
    pub tid: Tid,
    /// The signal.
    pub signal: i32,
}

/// Returns whether a signal dumps core by default (signal(7), "Standard signals").
pub(crate) fn dumps_core(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGQUIT
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGABRT
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGSEGV
            | libc::SIGXCPU
            | libc::SIGXFSZ
            | libc::SIGSYS
    )
}
