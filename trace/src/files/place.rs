//! A directory of contents that are named by their hash.
//!
//! Keeps: contents are complete before they get their name, and are read-only then.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use rr_tracee::FileId;

use crate::dir::file_name;

const TEMPORARY: &str = ".tmp-";

/// Temporary files older than this belong to nobody.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A directory of contents named by their hash.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
}

impl Place {
    /// Opens contents for reading.
    pub(super) fn open(&self, id: FileId) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.fd, &*file_name(id), flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// A new file that will be named when its contents are known.
    pub(super) fn temporary(&self) -> io::Result<Temporary<'_>> {
        let name = temporary_name();
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, &*name, flags, Mode::from_bits_truncate(0o600))?;
        Ok(Temporary {
            place: self,
            name,
            file: fd.into(),
        })
    }

    /// Removes what killed recorders left behind long ago.
    pub(super) fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            let ours = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(TEMPORARY));
            let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
            if ours && age().is_some_and(|age| age > STALE) {
                // Another recorder may have been faster.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// A name that no other recorder uses now: pid, start of this process's use of the store, and a count.
pub(super) fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{TEMPORARY}{}-{:x}-{count}", std::process::id(), now.as_nanos())
}

/// A file that is being written; removed unless it is published.
pub(super) struct Temporary<'a> {
    place: &'a Place,
    name: String,
    pub(super) file: File,
}

impl Temporary<'_> {
    /// Makes it read-only and gives it its name.
    pub(super) fn publish(self, id: FileId) -> io::Result<()> {
        self.file
            .set_permissions(std::fs::Permissions::from_mode(0o444))?;
        self.publish_as(&file_name(id))
    }

    /// Gives it this name, relative to the directory.
    pub(super) fn publish_as(mut self, name: &str) -> io::Result<()> {
        renameat(self.place.fd.as_fd(), &*self.name, self.place.fd.as_fd(), name)?;
        self.name.clear();
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // A file that stays is swept later.
            let _ = unlinkat(&self.place.fd, &*self.name, UnlinkatFlags::NoRemoveDir);
        }
    }
}
