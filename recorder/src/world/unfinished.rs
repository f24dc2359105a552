//! What must be known of a task that may die in the middle of a call.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rr_tracee::procfs::MapsLine;
use rr_tracee::syscalls::Emulated;
use rr_tracee::{Addr, ObjectId, Registers, SpaceId};

/// A call that changes an address space in which a task of another process lives on if this task is
/// killed.
#[derive(Debug)]
pub struct Unfinished {
    pub(crate) emulated: Emulated,
    pub(crate) entry: Registers,
    /// The file that the call maps.
    pub(crate) file: Option<File>,
}

impl Unfinished {
    /// The call's file, if this line shows a mapping of it.
    pub(crate) fn maps(&self, line: &MapsLine) -> Option<&File> {
        let same = |file: &&File| file.metadata().is_ok_and(|m| m.ino() == line.inode);
        self.file.as_ref().filter(same)
    }
}

/// Words that the kernel writes when a task leaves its memory: it marks the locks of the task's robust
/// list, gives locks to those that wait for them ([`crate::call::pi_futex`]), and clears the word of
/// `set_tid_address(2)` if other tasks have that memory, too.
#[derive(Debug)]
pub struct Leaving {
    pub(crate) space: SpaceId,
    /// Words in the address space's own memory.
    pub(crate) words: Vec<Addr>,
    /// Locks in shared memory objects, as object and offset.
    pub(crate) shared: Vec<(ObjectId, u64)>,
}
