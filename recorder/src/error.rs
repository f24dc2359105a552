//! Errors that end a recording.

use rr_tracee::Tid;

/// Result type of this crate.
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
        /// The operation that was refused.
        what: &'static str,
        /// The kernel's answer.
        errno: nix::errno::Errno,
        /// Advice for the user.
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
        /// Number of objects.
        objects: usize,
    },
    /// A task is something that cannot be recorded.
    #[error("task {tid}: {what}")]
    Unsupported {
        /// The task.
        tid: Tid,
        /// The property that cannot be recorded.
        what: &'static str,
    },
    /// A task did something that the recorder does not understand.
    #[error("task {tid}: {what}; please report this as a bug of rr")]
    Unexpected {
        /// The task.
        tid: Tid,
        /// The unexpected action.
        what: String,
    },
}
