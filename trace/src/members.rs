//! The members of a trace, wherever they are: files of a directory, or parts of a pack. *All reading of a trace goes through here.*
//!
//! Writers need a directory (`Members::directory`): a pack is never changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rr_tracee::FileId;

use crate::dir::{Part, TraceDir};
use crate::error::{Error, Result};
use crate::event::EventNumber;
use crate::member::Member;
use crate::name::Name;
use crate::pack::Pack;

/// The members of a trace.
#[derive(Clone, Debug)]
pub(crate) enum Members {
    Directory(TraceDir),
    Pack(Arc<Pack>),
}

impl Members {
    /// The members of a directory, or of a pack.
    pub(crate) fn of(path: &Path) -> Result<Members> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Members::Pack(Arc::new(Pack::open(path)?))),
            // Opening a directory says what is wrong with it.
            _ => TraceDir::open(path).map(Members::Directory),
        }
    }

    /// The path, as it was given.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Members::Directory(dir) => dir.path(),
            Members::Pack(pack) => pack.path(),
        }
    }

    /// The path of a member, for messages.
    pub(crate) fn path_of(&self, name: Name) -> PathBuf {
        name.path_in(self.path())
    }

    /// Opens a member. One that is not there is an [`Error::Io`] of kind `NotFound`.
    pub(crate) fn open(&self, name: Name) -> Result<Member> {
        match self {
            Members::Directory(dir) => {
                let (part, file) = name.place();
                dir.open_file(part, &file)
                    .map(|file| Member::whole(file, self.path_of(name)))
            }
            Members::Pack(pack) => pack.open_member(name),
        }
    }

    /// The length of a member.
    pub(crate) fn size(&self, name: Name) -> Result<u64> {
        match self {
            Members::Directory(_) => {
                let member = self.open(name)?;
                member
                    .size()
                    .map_err(|e| Error::io(member.path(), "measuring", e))
            }
            Members::Pack(pack) => pack.size(name),
        }
    }

    /// First events of the segments, ascending.
    pub(crate) fn segments(&self) -> Result<Vec<EventNumber>> {
        match self {
            Members::Directory(dir) => dir.numbers(Part::Segments, "seg"),
            Members::Pack(pack) => Ok(pack.segments()),
        }
    }

    /// Events of the checkpoints, ascending.
    pub(crate) fn checkpoints(&self) -> Result<Vec<EventNumber>> {
        match self {
            Members::Directory(dir) => dir.numbers(Part::Checkpoints, "ckpt"),
            Members::Pack(pack) => Ok(pack.checkpoints()),
        }
    }

    /// The mapped files.
    pub(crate) fn files(&self) -> Result<Vec<FileId>> {
        match self {
            Members::Directory(dir) => dir.files(),
            Members::Pack(pack) => Ok(pack.files()),
        }
    }

    /// The directory, for writers.
    pub(crate) fn directory(&self) -> Result<&TraceDir> {
        match self {
            Members::Directory(dir) => Ok(dir),
            Members::Pack(pack) => Err(Error::ReadOnly {
                path: pack.path().to_owned(),
            }),
        }
    }
}
