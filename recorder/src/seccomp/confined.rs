//! What a task is confined by: its mode, its filters, and the promise to get no privileges.

use std::sync::Arc;

use super::allowed::Allowed;
use super::filter::Filter;

/// Whether the recorder itself is confined, and with it all that it records.
fn is_confined_outside() -> bool {
    // SAFETY: prctl with plain numbers.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) > 0 }
}

/// What a task has confined itself with. Threads and children inherit it, and exec(2) keeps it.
#[derive(Clone, Debug, Default)]
pub struct Confined {
    /// Its mode.
    pub mode: Mode,
    /// It gets no privileges by exec (`PR_SET_NO_NEW_PRIVS`). For the kernel that can be so for rr's sake.
    pub no_new_privs: bool,
}

/// The mode of a task (`PR_GET_SECCOMP`).
#[derive(Clone, Debug, Default)]
pub enum Mode {
    /// All calls are allowed.
    #[default]
    Free,
    /// read(2), write(2), exit(2) and rt_sigreturn(2) are.
    Strict,
    /// Filters decide.
    Filtered(Arc<Filter>),
}

impl Confined {
    /// What the first program inherits.
    pub fn inherited() -> Confined {
        // SAFETY: prctl with plain numbers.
        let no_new_privs = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } == 1;
        Confined {
            mode: Mode::Free,
            no_new_privs,
        }
    }

    /// Whether any call may be refused.
    pub fn is_confined(&self) -> bool {
        self.mode_number() != 0
    }

    /// What `PR_GET_SECCOMP` says.
    pub(super) fn mode_number(&self) -> i32 {
        match self.mode {
            Mode::Free if is_confined_outside() => 2,
            Mode::Free => 0,
            Mode::Strict => 1,
            Mode::Filtered(_) => 2,
        }
    }

    /// Calls that its library may make without asking.
    pub fn allowed(&self) -> Allowed {
        match &self.mode {
            Mode::Free => Allowed::ALL,
            // All is left to the recorder.
            Mode::Strict => Allowed::ALL,
            Mode::Filtered(filter) => filter.allowed,
        }
    }

    /// Whether even the time-stamp counter is forbidden.
    pub fn is_strict(&self) -> bool {
        matches!(self.mode, Mode::Strict)
    }
}
