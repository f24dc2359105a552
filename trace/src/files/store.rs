//! The store beside the traces: contents that all traces of a user share, and an index of the files that they came from (`files` draws it).
//!
//! Keeps: the index leads only to contents that are what their name says, or that are compared with their name before they are used.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::{Once, OnceLock};

use nix::fcntl::{OFlag, openat, readlinkat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use rr_tracee::FileId;

use super::key::Key;
use super::place::{Place, temporary_name};
use crate::copy::{self, Content};
use crate::dir::{file_name, file_of};

/// The store beside the traces.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) contents: Place,
    index: OwnedFd,
    /// Done once leftovers of other runs were looked for.
    swept: Once,
}

impl Store {
    pub(super) fn open(path: &Path) -> io::Result<Store> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path.join("index"))?;
        // A user who can write to it decides what future traces contain.
        let m = std::fs::metadata(path)?;
        if m.uid() != nix::unistd::geteuid().as_raw() || m.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others can write to the store of mapped files",
            ));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let contents = Place {
            path: path.to_owned(),
            fd: nix::fcntl::open(path, flags, Mode::empty())?,
        };
        let index = openat(&contents.fd, "index", flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        Ok(Store {
            contents,
            index,
            swept: Once::new(),
        })
    }

    /// The contents of the file in this state, if they are known.
    pub(super) fn find(&self, key: &Key) -> Option<FileId> {
        let target = readlinkat(&self.index, &*key.name()).ok()?;
        let (name, since) = match target.to_str()?.split_once('.') {
            Some((name, boot)) => (name.to_owned(), Some(boot.to_owned())),
            None => (target.to_str()?.to_owned(), None),
        };
        let id = file_of(&name)?;
        match since {
            Some(boot) if boot != boot_id() => self.has_survived(id).then(|| {
                // From now on it is known to be on the disk.
                let _ = self.enter(key, &name);
                id
            }),
            _ => Some(id),
        }
    }

    /// Says if contents that were written before the machine was started are on the disk; if not, they are removed.
    pub(super) fn has_survived(&self, id: FileId) -> bool {
        let content = self.contents.open(id).and_then(|file| copy::name(&file));
        let whole = content.is_ok_and(|there| there == id);
        if !whole {
            // Another recorder may have been faster.
            let _ = unlinkat(&self.contents.fd, &*file_name(id), UnlinkatFlags::NoRemoveDir);
        }
        whole
    }

    /// Writes contents into the store, unless they are there.
    pub(super) fn import(&self, id: FileId, content: &Content, key: Option<&Key>) -> io::Result<File> {
        // Only those who add to the store tidy it: reading a directory of thousands takes milliseconds.
        self.swept.call_once(|| self.contents.sweep());
        let there = self.contents.open(id).and_then(|file| {
            let same = file.metadata()?.len() == content.len && copy::name(&file)? == id;
            same.then_some(file).ok_or(io::ErrorKind::InvalidData.into())
        });
        let file = match there {
            Ok(there) => there,
            Err(_) => {
                let temporary = self.contents.temporary()?;
                content.write(&temporary.file)?;
                temporary.publish(id)?;
                self.contents.open(id)?
            }
        };
        if let Some(key) = key {
            // The disk is not waited for; so this holds until the machine is started anew.
            self.enter(key, &format!("{}.{}", file_name(id), boot_id()))?;
        }
        Ok(file)
    }

    /// Removes contents that no trace links any more, and the index entries of the files that had them.
    pub(super) fn forget(&self, id: FileId, keys: &[Key]) {
        let links = self
            .contents
            .open(id)
            .and_then(|file| Ok(file.metadata()?.nlink()));
        // A recorder that is about to link the file has it open, and copies it instead.
        if links.is_ok_and(|links| links == 1) {
            // The store is a cache: what stays is removed by `prune_store`.
            let _ = unlinkat(&self.contents.fd, &*file_name(id), UnlinkatFlags::NoRemoveDir);
            for key in keys {
                let _ = unlinkat(&self.index, &*key.name(), UnlinkatFlags::NoRemoveDir);
            }
        }
    }

    /// Makes an index entry.
    pub(super) fn enter(&self, key: &Key, target: &str) -> io::Result<()> {
        let temporary = temporary_name();
        symlinkat(target, &self.index, &*temporary)?;
        Ok(renameat(&self.index, &*temporary, &self.index, &*key.name())?)
    }
}

/// The kernel's name for its present run (random(4)).
pub(super) fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        // Without it nothing holds longer than this process.
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.map_or_else(|_| temporary_name(), |id| id.trim().to_owned())
    })
}
