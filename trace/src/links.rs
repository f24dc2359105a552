//! A trace as it is at a moment, while it is recorded: a directory of hard links, for a reader that takes long.
//!
//! Keeps: the directory is a whole trace, whatever the recorder deletes from its own. Mapped files are linked after the end of the events is
//! fixed, so every file that these events refer to is there (I5). The recorder makes no holes in a checkpoint that has a second name.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::linkat;

use crate::dir::{BEGINNING, HEADER, Part, TraceDir};
use crate::error::{Error, Result};
use crate::hold::Hold;
use crate::name::Note;
use crate::reader::TraceReader;

/// A directory of links, which is removed in the end.
#[derive(Debug)]
pub struct Links {
    path: PathBuf,
}

impl Links {
    /// Makes the links to the trace in the directory `to`, which must not be there, on the same file system.
    pub fn make(trace: &Path, to: &Path) -> Result<(Links, TraceReader)> {
        let _hold = Hold::of(trace)?;
        let from = TraceDir::open(trace)?;
        let links = Links { path: to.to_owned() };
        let made = TraceDir::create(to)?;
        let link = |part: Option<Part>, name: &str| link(&from, &made, part, name);
        link(None, HEADER)?;
        link(None, BEGINNING)?;
        for note in Note::ALL {
            link(None, note.file_name())?;
        }
        for first in from.numbers(Part::Segments, "seg")? {
            link(Some(Part::Segments), &crate::dir::segment_name(first))?;
        }
        // The last segment grows; from here on the reader knows where it ends.
        let reader = TraceReader::open(to)?;
        for file in from.files()? {
            link(Some(Part::Files), &crate::dir::file_name(file))?;
        }
        for extension in ["ckpt", "blocks"] {
            for event in from.numbers(Part::Checkpoints, extension)? {
                link(Some(Part::Checkpoints), &format!("{:016}.{extension}", event.0))?;
            }
        }
        Ok((links, reader))
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // Links that stay are removed with the trace.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Links one file, if it is there.
fn link(from: &TraceDir, to: &TraceDir, part: Option<Part>, name: &str) -> Result<()> {
    let in_dir = |dir: &TraceDir| dir.path_of(part, name);
    let linked = match part {
        Some(part) => linkat(
            &from.open_part(part)?,
            name,
            &to.open_part(part)?,
            name,
            AtFlags::empty(),
        ),
        None => linkat(from.fd(), name, to.fd(), name, AtFlags::empty()),
    };
    match linked {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::io(&in_dir(to), "linking a file of the trace", e)),
    }
}
