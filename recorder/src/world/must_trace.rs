//! What the program has done that makes calls of a kind traced calls from then on.

use rr_tracee::{Tid, limits};

/// What the program has done that makes calls of a kind traced calls from then on.
#[derive(Debug)]
pub(crate) struct MustTrace {
    /// True if some task has opened `/proc/PID/mem`.
    pub memory_files: bool,
    /// True if a `status` of `/proc` has been opened, which would show rr.
    pub status_files: bool,
    /// True if some task may have a limit of the size of files (`RLIMIT_FSIZE`): a write beyond it
    /// causes a signal.
    pub file_sizes_limited: bool,
    /// True if the program has called userfaultfd(2): closing a file may end the work of an object.
    pub userfaults: bool,
}

impl MustTrace {
    /// The state in which the program begins, with our limits.
    pub fn inherited() -> MustTrace {
        MustTrace {
            memory_files: false,
            status_files: false,
            file_sizes_limited: limits_file_sizes(0),
            userfaults: false,
        }
    }
}

/// Returns whether a process (0: our own) has a limit of the size of files.
pub(crate) fn limits_file_sizes(pid: i32) -> bool {
    limits::soft(Tid(pid), libc::RLIMIT_FSIZE).is_some_and(|limit| limit != libc::RLIM_INFINITY)
}
