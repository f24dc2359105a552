//! The names of a trace's members, and where a directory has them.
//!
//! Keeps: a name says nothing that depends on where the trace is.

use std::path::{Path, PathBuf};

use rr_tracee::FileId;

use crate::dir::{BEGINNING, HEADER, Part, checkpoint_name, file_name, segment_name};
use crate::event::EventNumber;

/// The name of a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Name {
    /// The header.
    Header,
    /// The segment that begins with this event.
    Segment(EventNumber),
    /// A mapped file.
    File(FileId),
    /// The checkpoint at this event.
    Checkpoint(EventNumber),
    /// A file that others have put beside the recording.
    Note(Note),
    /// Where a trace begins whose first events were deleted.
    Beginning,
}

/// Files that rr itself does not need to replay a trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Note {
    /// `rr ci`: the test and its failure.
    Ci,
    /// `rr ci`: the output of `rr backtrace`.
    Backtrace,
    /// `rr pack --with-debug`: the files with debug information (`debug_files`).
    DebugFiles,
}

impl Note {
    /// All there are.
    pub const ALL: [Note; 3] = [Note::Ci, Note::Backtrace, Note::DebugFiles];

    /// The name of its file.
    pub fn file_name(self) -> &'static str {
        match self {
            Note::Ci => "ci.json",
            Note::Backtrace => "backtrace",
            Note::DebugFiles => "debug",
        }
    }
}

impl Name {
    /// Its place in a directory.
    pub(crate) fn place(self) -> (Option<Part>, String) {
        match self {
            Name::Header => (None, HEADER.to_owned()),
            Name::Segment(first) => (Some(Part::Segments), segment_name(first)),
            Name::File(file) => (Some(Part::Files), file_name(file)),
            Name::Checkpoint(event) => (Some(Part::Checkpoints), checkpoint_name(event)),
            Name::Note(note) => (None, note.file_name().to_owned()),
            Name::Beginning => (None, BEGINNING.to_owned()),
        }
    }

    /// Its path below the trace.
    pub(crate) fn path_in(self, trace: &Path) -> PathBuf {
        match self.place() {
            (Some(part), name) => trace.join(part.name()).join(name),
            (None, name) => trace.join(name),
        }
    }
}
