//! The names of the objects of userfaultfd(2).

use std::os::unix::fs::MetadataExt;

use rr_tracee::{Tid, TraceeFd, procfs};

/// An object: the inode of its pipe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ObjectKey(pub u64);

impl ObjectKey {
    /// The object that a descriptor may refer to: it is one if some address space has it.
    pub fn of(tid: Tid, fd: TraceeFd) -> Option<ObjectKey> {
        let meta = std::fs::metadata(procfs::fd_path(tid, fd)).ok()?;
        let is_pipe = meta.mode() & libc::S_IFMT == libc::S_IFIFO;
        is_pipe.then_some(ObjectKey(meta.ino()))
    }
}
