//! The numbers that tasks have in the pid namespaces of others (pid_namespaces(7)).
//!
//! rr knows a task by its number in rr's own namespace ([`Tid`]). A program in a namespace of its own knows the same task by
//! another number. Whatever rr answers in the kernel's place, a call that names a task or the news of one, is about the
//! numbers of the program.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::ids::Tid;
use crate::procfs;

/// The number of a task, a process or a process group in the pid namespace of a program (the kernel's `pid_vnr`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vpid(pub i32);

impl Vpid {
    /// The number that the kernel gives for a task which has none in that namespace.
    pub const NONE: Vpid = Vpid(0);
}

/// The number of a task as `reader` sees it; [`Vpid::NONE`] if the task has none in that namespace.
pub fn number_for(reader: Tid, tid: Tid) -> Vpid {
    if is_ours(reader) {
        return Vpid(tid.0);
    }
    seen_from(reader, tid, &procfs::numbers(tid))
}

/// The number of a process's group as `reader` sees it.
pub fn group_for(reader: Tid, process: Tid) -> Vpid {
    if is_ours(reader) {
        return procfs::group(process).map_or(Vpid::NONE, Vpid);
    }
    seen_from(reader, process, &procfs::groups(process))
}

/// Returns whether numbers have the same meaning for a task and for us.
pub fn is_ours(tid: Tid) -> bool {
    static OURS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let ours = OURS.get_or_init(|| std::fs::read_link("/proc/self/ns/pid").ok());
    // A task of which nothing can be read is gone, or about to be.
    procfs::pid_namespace(tid).is_none_or(|theirs| ours.as_ref() == Some(&theirs))
}

/// Picks the number that counts in the reader's namespace from those of a task in all its namespaces.
fn seen_from(reader: Tid, tid: Tid, numbers: &[i32]) -> Vpid {
    let depth = procfs::numbers(reader).len();
    let Some(generations) = numbers.len().checked_sub(depth).filter(|_| depth > 0) else {
        return Vpid::NONE;
    };
    let namespace = ancestor(tid, generations);
    match namespace.is_some() && namespace == ancestor(reader, 0) {
        true => Vpid(numbers[depth - 1]),
        false => Vpid::NONE,
    }
}

/// The inode number of the namespace so many generations above that of a task (ioctl_nsfs(2)).
fn ancestor(tid: Tid, generations: usize) -> Option<u64> {
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    let mut namespace = File::open(format!("/proc/{tid}/ns/pid")).ok()?;
    for _ in 0..generations {
        // SAFETY: NS_GET_PARENT takes no argument; it returns a new descriptor or an error.
        let parent = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
        if parent < 0 {
            return None;
        }
        // SAFETY: the kernel has just made the descriptor, and nobody else owns it.
        namespace = unsafe { File::from_raw_fd(parent) };
    }
    Some(namespace.metadata().ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_our_own_namespace_the_numbers_are_the_same() {
        let us = Tid(std::process::id() as i32);
        assert!(is_ours(us));
        assert_eq!(number_for(us, us), Vpid(us.0));
        assert_eq!(group_for(us, us), Vpid(procfs::group(us).unwrap()));
        assert_eq!(seen_from(us, us, &procfs::numbers(us)), Vpid(us.0));
        assert_eq!(seen_from(us, us, &[]), Vpid::NONE);
    }
}
