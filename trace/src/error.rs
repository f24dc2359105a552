//! The errors of reading and writing a trace.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rr_tracee::FileId;

use crate::event::EventNumber;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on a trace failed.
///
/// It can be cloned, because the failure of the writer's background thread is reported to every later call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused an operation on a file.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operation that failed.
        doing: &'static str,
        /// The kernel's answer.
        source: Arc<io::Error>,
    },
    /// The file system is full, or a quota is reached.
    #[error(
        "{}: {source}; what was recorded before is kept, make room (or use -o or _RR_TRACE_DIR for another place) and record again",
        path.display()
    )]
    Full {
        /// The file that could not be written.
        path: PathBuf,
        /// The kernel's answer.
        source: Arc<io::Error>,
    },
    /// There is something already where a trace or a pack was to be made.
    #[error("{}: exists already; name another place, or remove it (rr rm)", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A pack cannot be changed.
    #[error("{}: a pack is never changed; unpack it (rr unpack), and change the directory", path.display())]
    ReadOnly {
        /// The pack.
        path: PathBuf,
    },
    /// A pack, or what was unpacked, could not be written.
    #[error("{}: {source}; nothing is left of it", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: Arc<io::Error>,
    },
    /// Somebody wanted it to end.
    #[error("interrupted")]
    Interrupted,
    /// This is no trace.
    #[error("{}: not a trace: {why}", path.display())]
    NotATrace {
        /// The directory or file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// The trace was written by a program with another format.
    #[error(
        "{}: format version {found}, but this program reads version {known}; use the rr that recorded it, or a newer one",
        path.display()
    )]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// A file of the trace is not what was written.
    #[error("{}: damaged at offset {offset}: {why}; copy the trace again from where it was recorded", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset of the damaged structure, in bytes.
        offset: u64,
        /// The fault.
        why: String,
    },
    /// An event was asked for that the trace does not hold.
    #[error("{}: there is no event {event}: the trace holds {}", path.display(), held(*first, *last))]
    NoSuchEvent {
        /// The trace.
        path: PathBuf,
        /// The event that was asked for.
        event: EventNumber,
        /// The first event that is there.
        first: EventNumber,
        /// The last one.
        last: EventNumber,
    },
    /// A mapped file is not in the trace.
    #[error("{}: the mapped file {file} is missing from the trace: {why}; copy the trace again, with its directory files", path.display())]
    MissingFile {
        /// The place where the file should be.
        path: PathBuf,
        /// Its content.
        file: FileId,
        /// A description of the file that is there instead.
        why: String,
    },
    /// An event does not follow the one before it. A bug of the caller.
    #[error("event {found} was appended where {expected} follows")]
    Numbering {
        /// The number that follows.
        expected: EventNumber,
        /// The number given.
        found: EventNumber,
    },
    /// An event is too large for the format.
    #[error("event {event}: its {what} takes {bytes} bytes, the trace format allows {limit}")]
    TooLarge {
        /// The event.
        event: EventNumber,
        /// The part of it.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// An event says something that no reader would believe. A bug of the caller.
    #[error("event {event}: {why}; please report this")]
    Invalid {
        /// The event.
        event: EventNumber,
        /// The message of the error.
        why: String,
    },
    /// The header is too large for the format.
    #[error(
        "the trace header takes {bytes} bytes, the format allows {limit}: arguments and environment are too long"
    )]
    HeaderTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The writer's background thread panicked. A bug of rr.
    #[error("{}: the trace writer's thread died; please report this with the message above", path.display())]
    WriterDied {
        /// The trace.
        path: PathBuf,
    },
}

/// "events 5 to 9", in words that fit an empty trace too.
fn held(first: EventNumber, last: EventNumber) -> String {
    if last < first {
        "none".into()
    } else {
        format!("{first} to {last}")
    }
}

impl Error {
    /// The error for a failed file operation.
    pub(crate) fn io(path: &Path, doing: &'static str, e: impl Into<io::Error>) -> Error {
        let source = e.into();
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Error::Full {
                path,
                source: Arc::new(source),
            },
            _ => Error::Io {
                path,
                doing,
                source: Arc::new(source),
            },
        }
    }

    /// The error for a damaged structure at `offset`.
    pub(crate) fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Error {
        Error::Damaged {
            path: path.to_owned(),
            offset,
            why: why.into(),
        }
    }
}

/// A message or structure does not say anything that this program could have written.
///
/// It becomes an [`Error::Damaged`] where file and offset are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Malformed {
    /// With these words.
    pub fn new(why: impl Into<String>) -> Malformed {
        Malformed(why.into())
    }

    /// Names the place.
    pub fn at(self, path: &Path, offset: u64) -> Error {
        Error::damaged(path, offset, self.0)
    }
}

impl From<capnp::Error> for Malformed {
    fn from(e: capnp::Error) -> Malformed {
        Malformed(e.to_string())
    }
}

impl From<capnp::NotInSchema> for Malformed {
    fn from(e: capnp::NotInSchema) -> Malformed {
        Malformed(format!("{e}: written by a newer rr?"))
    }
}

impl From<std::str::Utf8Error> for Malformed {
    fn from(e: std::str::Utf8Error) -> Malformed {
        Malformed(format!("text is not UTF-8: {e}"))
    }
}
