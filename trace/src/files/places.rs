//! The two places for contents: the trace, and the store beside the traces if there is one.
//!
//! Keeps: a job that was done leaves the contents in the trace, whatever goes wrong with the store.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use rr_tracee::FileId;

use super::key::Key;
use super::place::Place;
use super::store::Store;
use crate::copy::{self, Content};
use crate::dir::file_name;
use crate::error::{Error, Result};

/// Something that was left for later.
#[derive(Debug)]
pub(super) enum Job {
    /// Bring these contents from the store into the trace.
    Link { id: FileId, file: File },
    /// Write these contents into the trace, and the store; with a key, for the index too.
    Write {
        id: FileId,
        content: Content,
        key: Option<Key>,
    },
    /// Delete these contents from the trace, and from the store unless other traces have them; `keys` are those of files that had them.
    Delete { id: FileId, keys: Vec<Key> },
}

impl Job {
    /// The number of bytes of memory that it takes until it is done.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Job::Link { .. } | Job::Delete { .. } => 0,
            Job::Write { content, .. } => content.weight(),
        }
    }
}

/// The two places for contents.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) files: Place,
    pub(super) store: Option<Store>,
    /// Files that are in the trace but perhaps not on the disk.
    pub(super) unsynced: Mutex<Vec<FileId>>,
}

impl Places {
    pub(super) fn unsynced(&self) -> MutexGuard<'_, Vec<FileId>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what was left for later.
    pub(super) fn perform(&self, job: Job) -> Result<()> {
        let fail = |e| Error::io(&self.files.path, "storing a mapped file", e);
        match job {
            Job::Delete { id, keys } => {
                self.unsynced().retain(|unsynced| *unsynced != id);
                match unlinkat(&self.files.fd, &*file_name(id), UnlinkatFlags::NoRemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(e) => {
                        let path = self.files.path.join(file_name(id));
                        return Err(Error::io(&path, "deleting a mapped file", e));
                    }
                }
                if let Some(store) = &self.store {
                    store.forget(id, &keys);
                }
                Ok(())
            }
            Job::Link { id, file } => match &self.store {
                Some(store) => self.link_or_copy(store, id, &file).map_err(fail),
                None => Ok(()),
            },
            Job::Write { id, content, key } => {
                if let Some(store) = &self.store {
                    match store
                        .import(id, &content, key.as_ref())
                        .and_then(|copy| self.link_or_copy(store, id, &copy))
                    {
                        Ok(()) => return Ok(()),
                        Err(e) => {
                            let path = store.contents.path.display();
                            tracing::warn!("{path}: {e}; the mapped file is copied into the trace alone");
                        }
                    }
                }
                let write = || {
                    let temporary = self.files.temporary()?;
                    content.write(&temporary.file)?;
                    temporary.publish(id)
                };
                write().map_err(|e| Error::io(&self.files.path.join(file_name(id)), "writing", e))?;
                self.unsynced().push(id);
                Ok(())
            }
        }
    }

    /// Brings contents from the store, where `file` has them, into the trace.
    pub(super) fn link_or_copy(&self, store: &Store, id: FileId, file: &File) -> io::Result<()> {
        let name = file_name(id);
        match linkat(
            &store.contents.fd,
            &*name,
            &self.files.fd,
            &*name,
            AtFlags::empty(),
        ) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            // Another file system, too many links, not our file …
            Err(_) => {
                let temporary = self.files.temporary()?;
                if copy::copy(file, &temporary.file)? != id {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the contents do not match the name",
                    ));
                }
                temporary.publish(id)?;
                self.unsynced().push(id);
                Ok(())
            }
        }
    }
}
