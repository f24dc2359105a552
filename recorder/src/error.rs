//! What can end a recording.

use rr_tracee::Tid;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The recording failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started.
    #[error("cannot start {program}: {why}")]
    Start {
        /// The program as given.
        program: String,
        /// The reason.
        why: String,
    },
    /// This machine does not let us record.
    #[error("{what}: {errno}; {advice}")]
    Capability {
        /// What was refused.
        what: &'static str,
        /// The kernel's answer.
        errno: nix::errno::Errno,
        /// What to do about it.
        advice: &'static str,
    },
    /// The clock that ends turns could not be started.
    #[error(transparent)]
    Ticker(#[from] rr_tracee::ticker::NoTicker),
    /// A tracee could not be handled.
    #[error(transparent)]
    Tracee(#[from] rr_tracee::Error),
    /// The trace could not be written.
    #[error(transparent)]
    Trace(#[from] rr_trace::Error),
    /// The checkpoint writer could not be started.
    #[error(transparent)]
    Checkpoint(#[from] rr_checkpoint::Error),
    /// No more descriptors for shared memory objects, of which each needs one.
    #[error(
        "rr cannot open any more files (the program has {objects} shared memory objects); a higher hard limit of open \
         files (ulimit -Hn) helps"
    )]
    TooManyFiles {
        /// How many objects there are.
        objects: usize,
    },
    /// A task is something that cannot be recorded.
    #[error("task {tid}: {what}")]
    Unsupported {
        /// The task.
        tid: Tid,
        /// What it is.
        what: &'static str,
    },
    /// A task did something that the recorder does not understand.
    #[error("task {tid}: {what}; please report this as a bug of rr")]
    Unexpected {
        /// The task.
        tid: Tid,
        /// What it did.
        what: String,
    },
}
