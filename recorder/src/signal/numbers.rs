//! Signal numbers: bits in masks, default actions, the signals of job control.

use rr_trace::event::Disposition;

/// `SYS_SECCOMP` (sigaction(2)).
pub(crate) const SYS_SECCOMP: i32 = 1;
/// The last real-time signal.
pub(crate) const LAST: i32 = 64;
/// The first real-time signal of the kernel (signal(7)); glibc keeps this and the next for itself.
pub(crate) const FIRST_REAL_TIME: i32 = 32;
/// Signals that stop a process that does not handle them (signal(7)).
pub(crate) const STOPS: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Returns the bit of a signal in a mask.
pub(crate) fn bit(signal: i32) -> u64 {
    1 << ((signal - 1) & 63)
}

/// Returns the effect of `signal` in a process that neither catches nor ignores it (signal(7)).
pub(crate) fn default_action(signal: i32) -> Disposition {
    match signal {
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => Disposition::Ignored,
        stop if is_stop(stop) => Disposition::Stopped,
        _ => Disposition::Fatal,
    }
}

/// Returns whether a signal stops a process that does not handle it.
pub(crate) fn is_stop(signal: i32) -> bool {
    STOPS.contains(&signal)
}

/// Returns whether sending a signal removes other pending signals.
pub(crate) fn is_job_control(signal: i32) -> bool {
    is_stop(signal) || signal == libc::SIGCONT
}
