//! Deleting the beginning of a trace while it is recorded: a flight recorder keeps only the last part.
//!
//! Replay of what stays begins at a checkpoint, the new beginning. A kill at any moment leaves a trace that replays from there or from
//! an earlier beginning, because of the order:
//!
//! 1. The file `beginning` names the checkpoint, and the processes that live there ([`Trimmer::begin_at`]). From here on all before counts
//!    for nothing.
//! 2. Checkpoints before it go (rr-checkpoint knows how).
//! 3. Segments before it go, the oldest first, and then mapped files that nothing refers to that stays ([`Trimmer::delete`]).
//!
//! A mapped file stays if the checkpoint's image refers to it, or an event after the checkpoint, or if it was added after the
//! checkpoint's event: the event that refers to it comes soon.

use std::collections::BTreeSet;
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};
use rr_tracee::FileId;

use crate::beginning::Beginning;
use crate::dir::{Part, TraceDir, segment_name};
use crate::error::{Error, Result};
use crate::event::EventNumber;
use crate::files::FileStore;
use crate::hold::Deletion;
use crate::process_log::ProcessLog;

/// Deletes the beginning of a trace that is being written.
#[derive(Clone, Debug)]
pub struct Trimmer {
    pub(crate) dir: TraceDir,
    pub(crate) uuid: [u8; 16],
    pub(crate) files: Arc<FileStore>,
    pub(crate) log: Arc<ProcessLog>,
}

impl Trimmer {
    /// Begins to delete. `None`: somebody holds the trace now ([`crate::Hold`]).
    pub fn deletion(&self) -> Option<Deletion> {
        Deletion::begin(self.dir.path())
    }

    /// Lets the trace begin at the checkpoint at `event`, which is there. Events must ascend from call to call.
    pub fn begin_at(&self, _deletion: &Deletion, event: EventNumber) -> Result<()> {
        let processes = self.log.begin_at(event);
        Beginning { event, processes }.write(&self.dir, &self.uuid)
    }

    /// Deletes the segments that hold nothing after `event`, where the trace begins, and the mapped files that nothing refers to that
    /// stays; `needed` are those that the checkpoint there refers to.
    pub fn delete(&self, _deletion: &Deletion, event: EventNumber, needed: &BTreeSet<FileId>) -> Result<()> {
        let segments = self.dir.numbers(Part::Segments, "seg")?;
        let part = self.dir.open_part(Part::Segments)?;
        for (first, next) in segments.iter().zip(segments.iter().skip(1)) {
            if *next > event.next() {
                break;
            }
            let name = segment_name(*first);
            match unlinkat(&part, &*name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => {
                    let path = self.dir.path_of(Some(Part::Segments), &name);
                    return Err(Error::io(&path, "deleting a segment", e));
                }
            }
        }
        self.files.forget(event, needed)?;
        // Another thread deletes files; readers that wait for this deletion wait for that, too.
        self.files.settle()
    }

    /// For each segment its first event, and its bytes on the disk.
    pub fn segments(&self) -> Result<Vec<(EventNumber, u64)>> {
        let numbers = self.dir.numbers(Part::Segments, "seg")?;
        let size = |first: EventNumber| {
            let path = self.dir.path_of(Some(Part::Segments), &segment_name(first));
            std::fs::symlink_metadata(path).map_or(0, |meta| bytes_on_disk(&meta))
        };
        Ok(numbers.into_iter().map(|first| (first, size(first))).collect())
    }

    /// The bytes of the mapped files on the disk.
    pub fn bytes_of_files(&self) -> Result<u64> {
        let path = self.dir.path().join(Part::Files.name());
        let entries = std::fs::read_dir(&path).map_err(|e| Error::io(&path, "listing", e))?;
        let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
        Ok(sizes.map(|meta| bytes_on_disk(&meta)).sum())
    }
}

fn bytes_on_disk(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    meta.blocks() * 512
}
