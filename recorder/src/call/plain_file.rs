//! Descriptors of calls that never wait for a tracee.

use rr_tracee::{Tid, TraceeFd, procfs};

/// Returns whether a descriptor is a regular file, a directory or a block device: reading it never
/// waits for a tracee.
pub(crate) fn is_plain_file(tid: Tid, fd: TraceeFd) -> bool {
    use std::os::unix::fs::FileTypeExt;
    // A descriptor that is not open gives an error at once.
    std::fs::metadata(procfs::fd_path(tid, fd)).map_or(true, |m| {
        m.is_file() || m.is_dir() || m.file_type().is_block_device()
    })
}
