//! Paths as a task sees them.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rr_tracee::Tid;

/// `path`, relative to `dir`, as task `tid` sees it.
pub(crate) fn seen_by(tid: Tid, dir: PathBuf, path: &[u8]) -> PathBuf {
    let path = std::ffi::OsStr::from_bytes(path);
    match path.as_bytes().strip_prefix(b"/") {
        Some(rest) => PathBuf::from(format!("/proc/{tid}/root")).join(std::ffi::OsStr::from_bytes(rest)),
        None => dir.join(path),
    }
}
