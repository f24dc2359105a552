//! The checkpoint files of a trace: in a directory, or in a pack.
//!
//! Only reading goes through here. Writers have a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rr_trace::event::EventNumber;
use rr_trace::pack::Pack;
use rr_trace::{Member, TraceReader};

use crate::collection::open_referred;
use crate::error::{Error, Result};
use crate::file::{checkpoint_path, open_file};

/// The place of checkpoint files.
#[derive(Clone, Debug)]
pub enum Files {
    /// In this directory of checkpoints.
    Directory(Arc<Path>),
    /// In this pack.
    Pack(Arc<Pack>),
}

impl From<&Path> for Files {
    fn from(dir: &Path) -> Files {
        Files::Directory(dir.into())
    }
}

impl From<&PathBuf> for Files {
    fn from(dir: &PathBuf) -> Files {
        dir.as_path().into()
    }
}

impl From<&TraceReader> for Files {
    fn from(reader: &TraceReader) -> Files {
        match reader.pack() {
            Some(pack) => Files::Pack(Arc::clone(pack)),
            None => {
                let any = reader.checkpoint_path(EventNumber(0));
                any.parent().unwrap_or(Path::new("")).into()
            }
        }
    }
}

impl Files {
    /// A path that tells them from those of other traces.
    pub(crate) fn path(&self) -> Arc<Path> {
        match self {
            Files::Directory(dir) => Arc::clone(dir),
            Files::Pack(pack) => pack.path().into(),
        }
    }

    /// The path of a checkpoint, for messages.
    pub(crate) fn path_of(&self, event: EventNumber) -> PathBuf {
        match self {
            Files::Directory(dir) => checkpoint_path(dir, event),
            Files::Pack(pack) => pack.checkpoint_path(event),
        }
    }

    /// Opens a checkpoint.
    pub(crate) fn open(&self, event: EventNumber) -> Result<Member> {
        let what = "opening a checkpoint";
        match self {
            Files::Directory(dir) => {
                let path = checkpoint_path(dir, event);
                open_file(&path, what).map(|file| Member::whole(file, path))
            }
            Files::Pack(pack) => in_pack(pack, event, what),
        }
    }

    /// Opens what has the blocks of the checkpoint at an event, whether that was removed or not.
    pub(crate) fn open_referred(&self, event: EventNumber) -> Result<Member> {
        match self {
            Files::Directory(dir) => open_referred(dir, event).map(|(path, file)| Member::whole(file, path)),
            Files::Pack(pack) => in_pack(pack, event, "opening a checkpoint that a later one refers to"),
        }
    }
}

fn in_pack(pack: &Pack, event: EventNumber, what: &'static str) -> Result<Member> {
    pack.checkpoint(event).map_err(|e| match e {
        rr_trace::Error::Io { path, source, .. } => Error::io(what, &path)(source.kind().into()),
        e => e.into(),
    })
}
