//! The state of a call that waits for children or tracees.

/// A current call of wait4(2) or waitid(2).
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// True if the kernel makes pause(2) instead.
    pub(crate) is_paused: bool,
    /// True if a tracee has news.
    pub(crate) is_woken: bool,
}
