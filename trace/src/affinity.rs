//! Which CPUs background threads run on.
//!
//! A recorder or replayer binds itself and its tracees to one CPU; a thread started after that inherits the
//! binding and would take time from the tracees. So callers say what they had before.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Lets the calling thread run on these CPUs, if any are named. A refusal costs time and nothing else.
pub(crate) fn apply(cpus: Option<&CpuSet>) {
    if let Some(cpus) = cpus
        && let Err(e) = sched_setaffinity(Pid::from_raw(0), cpus)
    {
        tracing::debug!("background thread of the trace stays on its CPU: sched_setaffinity: {e}");
    }
}
