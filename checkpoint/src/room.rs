//! Room on the disk: a checkpoint never takes the last of it.
//!
//! A recording without a checkpoint is worth more than one without its end. So what is left when the disk is nearly full is
//! left to the events: a checkpoint fails as on a full disk, and recording goes on.

use std::fs::File;
use std::io;

use nix::sys::statvfs::fstatvfs;

/// The part of the disk that is left, as its reciprocal.
const PART: u64 = 64;
/// But not more than this.
const MOST: u64 = 64 << 20;

/// An error unless there is room for this number of bytes of a file.
pub(crate) fn must_be_there(file: &File, bytes: usize) -> io::Result<()> {
    let disk = fstatvfs(file)?;
    let (all, free) = (disk.blocks(), disk.blocks_available());
    let unit = disk.fragment_size();
    let left = (all.saturating_mul(unit) / PART).min(MOST);
    // Some file systems do not say how large they are.
    if all > 0 && free.saturating_mul(unit) < (bytes as u64).saturating_add(left) {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    Ok(())
}
