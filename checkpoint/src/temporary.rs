//! A checkpoint file under its temporary name.
//!
//! Keeps: a file that does not get its final name is removed, whatever goes wrong.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::room;

/// A file that is removed unless it got its final name.
pub(crate) struct Temporary {
    pub path: PathBuf,
    pub file: File,
}

impl Temporary {
    pub fn create(path: PathBuf) -> Result<Temporary> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(Error::io("creating a checkpoint", &path))?;
        Ok(Temporary { path, file })
    }

    pub fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        room::must_be_there(&self.file, bytes.len())
            .and_then(|()| self.file.write_all_at(bytes, at))
            .map_err(Error::io("writing a checkpoint", &self.path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is no such file, which is fine.
        let _ = std::fs::remove_file(&self.path);
    }
}
