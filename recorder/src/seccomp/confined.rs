//! A task's confinement: its mode, its filters, and the promise to get no privileges.

use std::sync::Arc;

use crate::seccomp::allowed::Allowed;
use crate::seccomp::filter::Filter;

/// True if the recorder itself runs under a seccomp filter, which then also applies to all that it
/// records.
fn is_confined_outside() -> bool {
    // SAFETY: prctl with plain numbers.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) > 0 }
}

/// The confinement that a task has asked for. Threads and children inherit this, and exec(2) keeps it.
#[derive(Clone, Debug, Default)]
pub struct Confined {
    /// The seccomp mode.
    pub mode: Mode,
    /// True if the program has given up new privileges by exec (`PR_SET_NO_NEW_PRIVS`). The kernel's
    /// flag may be set although this one is not, because rr's own filter needs it.
    pub no_new_privs: bool,
}

/// The seccomp mode of a task (`PR_GET_SECCOMP`).
#[derive(Clone, Debug, Default)]
pub enum Mode {
    /// All calls are allowed.
    #[default]
    Free,
    /// Only read(2), write(2), exit(2) and rt_sigreturn(2) are allowed.
    Strict,
    /// Filters decide.
    Filtered(Arc<Filter>),
}

impl Confined {
    /// Returns the confinement that the first program inherits.
    pub fn inherited() -> Confined {
        // SAFETY: prctl with plain numbers.
        let no_new_privs = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } == 1;
        Confined {
            mode: Mode::Free,
            no_new_privs,
        }
    }

    /// True if any call may be refused.
    pub fn is_confined(&self) -> bool {
        self.mode_number() != 0
    }

    /// Returns the result of `PR_GET_SECCOMP`.
    pub(super) fn mode_number(&self) -> i32 {
        match self.mode {
            Mode::Free if is_confined_outside() => 2,
            Mode::Free => 0,
            Mode::Strict => 1,
            Mode::Filtered(_) => 2,
        }
    }

    /// Returns the calls that the task's library may make without asking the filters.
    pub fn allowed(&self) -> Allowed {
        match &self.mode {
            // In strict mode the recorder handles every call.
            Mode::Free | Mode::Strict => Allowed::ALL,
            Mode::Filtered(filter) => filter.allowed,
        }
    }

    /// True in strict mode, which forbids even reading the time-stamp counter.
    pub fn is_strict(&self) -> bool {
        matches!(self.mode, Mode::Strict)
    }
}
