//! The errors of making and reading checkpoints.

use std::path::{Path, PathBuf};

use rr_tracee::{Addr, ObjectId, SpaceId};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, from code of the caller.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// An operation on a checkpoint failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// There is one writer for a trace at a time.
    #[error("{}: another rr writes checkpoints there; try again when it has ended", path.display())]
    Busy {
        /// The directory of checkpoints.
        path: PathBuf,
    },
    /// A checkpoint file is torn, rotten or hostile.
    #[error("{}: damaged checkpoint: {why} (at offset {offset}); replay from an earlier checkpoint or with --from-start", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The offset in it.
        offset: u64,
        /// The fault.
        why: String,
    },
    /// A checkpoint file was written by a later version.
    #[error("{}: checkpoint format {version} is newer than this rr understands ({supported}); use the rr that recorded it, or --from-start", path.display())]
    Future {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The latest that we know.
        supported: u32,
    },
    /// A checkpoint file belongs to another trace.
    #[error("{}: checkpoint of another trace ({}, not {}); remove it from this trace's directory", path.display(), hex(found), hex(expected))]
    OtherTrace {
        /// The file.
        path: PathBuf,
        /// The uuid in it.
        found: [u8; 16],
        /// The uuid of the trace.
        expected: [u8; 16],
    },
    /// A file's name speaks of another event than its contents.
    #[error("{}: holds the checkpoint of event {found}, not {expected}; rename it or remove it", path.display())]
    OtherEvent {
        /// The file.
        path: PathBuf,
        /// The event in it.
        found: u64,
        /// The event of its name.
        expected: u64,
    },
    /// The checkpoint has no such address space.
    #[error("checkpoint at event {event} has no address space {}", space.0)]
    NoSpace {
        /// The checkpoint's event.
        event: u64,
        /// The space asked for.
        space: SpaceId,
    },
    /// The checkpoint has no such shared memory object.
    #[error("checkpoint at event {event} has no shared memory object {}", object.0)]
    NoObject {
        /// The checkpoint's event.
        event: u64,
        /// The object asked for.
        object: ObjectId,
    },
    /// Restored pages could not be put where they belong.
    #[error("storing {len} bytes at {addr} while restoring: {source}")]
    Store {
        /// First byte (for a shared memory object: offset).
        addr: Addr,
        /// Number of bytes.
        len: usize,
        /// The caller's error.
        source: BoxedError,
    },
    /// A file of the trace could not be opened for comparison.
    #[error("opening mapped file {file} of the trace: {source}")]
    MappedFile {
        /// Its content hash.
        file: rr_tracee::FileId,
        /// The caller's error.
        source: BoxedError,
    },
    /// A shared memory object of the live session could not be read for comparison.
    #[error("reading shared memory object {}: {source}", object.0)]
    LiveObject {
        /// Its id.
        object: ObjectId,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The trace could not be read.
    #[error(transparent)]
    Trace(#[from] rr_trace::Error),
    /// A tracee could not be read.
    #[error(transparent)]
    Tracee(#[from] rr_tracee::Error),
    /// A capture did not come to its end: a process was lost, or what was handed over did not fit together.
    #[error("checkpoint at event {event} dropped: {why}")]
    Dropped {
        /// The checkpoint's event.
        event: u64,
        /// The reason.
        why: String,
    },
    /// A writer thread could not be started or did not survive.
    #[error("checkpoint writer: {0}")]
    Writer(String),
}

impl Error {
    /// There is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let path = path.to_path_buf();
        move |source| Error::Io { what, path, source }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Error {
        Error::Damaged {
            path: path.to_path_buf(),
            offset,
            why: why.into(),
        }
    }
}

fn hex(uuid: &[u8; 16]) -> String {
    uuid.iter().map(|b| format!("{b:02x}")).collect()
}
