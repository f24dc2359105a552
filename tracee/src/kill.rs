//! Killing a process.

use crate::ids::Tid;

/// Kills a process (kill(2) with `SIGKILL`). No error if it is gone already.
pub fn kill(tid: Tid) {
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(tid.0, libc::SIGKILL) };
}
