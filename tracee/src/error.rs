//! Errors of operations on a tracee.

use crate::ids::{Addr, Tid};

/// Result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on a tracee failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task died under us (`SIGKILL`, a sibling's `exit_group` or `execve`).
    /// Its exit status, if there is one, comes from waiting for it.
    #[error("task {0} died")]
    Died(Tid),
    /// The kernel refused an operation.
    #[error("{what} of task {tid}: {errno}")]
    Kernel {
        /// The task.
        tid: Tid,
        /// The operation, in the kernel's words.
        what: &'static str,
        /// The kernel's answer.
        errno: nix::errno::Errno,
    },
    /// Memory of the tracee could not be read or written in full.
    #[error("{what} {len} bytes at {addr} of task {tid}: {errno}")]
    Memory {
        /// The task whose memory it is.
        tid: Tid,
        /// "reading" or "writing".
        what: &'static str,
        /// First byte.
        addr: Addr,
        /// Number of bytes.
        len: usize,
        /// The kernel's answer.
        errno: nix::errno::Errno,
    },
    /// A file in `/proc` could not be read or had an unexpected form.
    #[error("{path}: {why}")]
    Proc {
        /// The file.
        path: String,
        /// The failure.
        why: String,
    },
    /// A task stopped in a way that the current operation does not allow.
    #[error("task {tid}: unexpected stop while {doing}: {stop}")]
    UnexpectedStop {
        /// The task.
        tid: Tid,
        /// The current operation.
        doing: &'static str,
        /// The stop, described.
        stop: String,
    },
    /// The trace has extended state that this processor has no room for.
    #[error(
        "the extended state of task {tid} is another processor's: components are in use that this one does not have (a \
         program that uses what --portable did not show it?)"
    )]
    OtherState {
        /// The task.
        tid: Tid,
    },
}

impl Error {
    /// The error for a failed kernel call on `tid`; `ESRCH` means that the task died.
    pub fn kernel(tid: Tid, what: &'static str, errno: nix::errno::Errno) -> Self {
        if errno == nix::errno::Errno::ESRCH {
            Error::Died(tid)
        } else {
            Error::Kernel { tid, what, errno }
        }
    }
}
