//! Contents of mapped files, each once.
//!
//! A trace holds the contents of every file that the recorded program mapped, as `files/<hash>`. So that recording the
//! same programs again copies nothing, a *store* beside the traces keeps them for all:
//!
//! ```text
//! STORE/<hash>          the contents, read-only; traces hard-link it
//! STORE/index/<key>     symbolic link to <hash>; key: device, inode, size, mtime and ctime of the file it was copied from
//! ```
//!
//! Into the store, contents are reflinked where the file system can, else copied: never linked, because somebody
//! could change the original in place. Invariants: what bears a hash as its name is complete before it gets the
//! name, and in the store durable too, so any number of recorders can share a store; and an
//! index entry is only made for a file whose last change is old enough that another one would have given another ctime. The store is
//! a cache: whatever goes wrong with it, the trace gets a copy of its own.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use rr_tracee::FileId;

use crate::copy;
use crate::dir::{Part, TraceDir, file_name};
use crate::error::{Error, Result};

const TEMPORARY: &str = ".tmp-";

/// Temporary files older than this belong to nobody.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A file changed less long ago than this could change again without a new ctime (file systems count in
/// ticks of some milliseconds, some in seconds).
const SETTLED: Duration = Duration::from_secs(2);

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Key {
    fn of(file: &File) -> io::Result<Key> {
        let m = file.metadata()?;
        if !m.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let (mtime, ctime) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
        Ok(Key {
            dev: m.dev(),
            ino: m.ino(),
            size: m.size(),
            mtime,
            ctime,
        })
    }

    /// Whether a change after now would show in the key.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ctime = Duration::new(
            self.ctime.0.max(0) as u64,
            self.ctime.1.clamp(0, 999_999_999) as u32,
        );
        ctime + SETTLED < now
    }

    /// Its name in the index.
    fn name(&self) -> String {
        let Key {
            dev,
            ino,
            size,
            mtime,
            ctime,
        } = self;
        format!(
            "{dev:x}-{ino:x}-{size:x}-{:x}.{:x}-{:x}.{:x}",
            mtime.0, mtime.1, ctime.0, ctime.1
        )
    }
}

/// Where the contents of mapped files go while a trace is written. Usable from any thread.
#[derive(Debug)]
pub struct FileStore {
    files: Place,
    store: Option<Store>,
    seen: Mutex<Seen>,
}

#[derive(Default, Debug)]
struct Seen {
    /// Files that were added, by their state then.
    known: HashMap<Key, FileId>,
    /// What is in the trace.
    present: HashSet<FileId>,
    /// What is in the trace but perhaps not on the disk.
    unsynced: Vec<FileId>,
}

impl FileStore {
    /// For the trace in `dir`, with the store in directory `store`. A store that cannot be used is done without.
    pub(crate) fn new(dir: &TraceDir, store: Option<&Path>) -> Result<FileStore> {
        let files = Place {
            path: dir.path().join(Part::Files.name()),
            fd: dir.open_part(Part::Files)?,
        };
        let store = store.and_then(|path| {
            Store::open(path)
                .inspect_err(|e| {
                    tracing::warn!(
                        "{}: {e}; mapped files are copied into the trace instead",
                        path.display()
                    );
                })
                .ok()
        });
        Ok(FileStore {
            files,
            store,
            seen: Mutex::default(),
        })
    }

    /// Stores the contents of a regular file, which is open for reading, and says under which name. Nothing is
    /// copied if they are there already, and nothing is read if this very state of the file was stored before.
    pub fn add(&self, file: &File) -> Result<FileId> {
        let fail = |e: io::Error| {
            let name = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)));
            Error::io(&name.unwrap_or_default(), "storing a mapped file", e)
        };
        let key = Key::of(file).map_err(fail)?;
        if let Some(id) = self.seen().known.get(&key) {
            return Ok(*id);
        }
        let known = self.store.as_ref().and_then(|store| store.find(&key));
        let id = match known.filter(|id| self.take_from_store(*id, key.size)) {
            Some(id) => id,
            None => self.import(file, &key)?,
        };
        // Only if this state is the one that was copied.
        if key.is_settled() && Key::of(file).map_err(fail)? == key {
            self.seen().known.insert(key, id);
        }
        Ok(id)
    }

    /// Stores these bytes.
    pub fn add_bytes(&self, bytes: &[u8]) -> Result<FileId> {
        let id = copy::hash(bytes);
        if self.seen().present.contains(&id) {
            return Ok(id);
        }
        let fail = |e| Error::io(&self.files.path.join(file_name(id)), "writing", e);
        let temporary = self.files.temporary().map_err(fail)?;
        io::Write::write_all(&mut &temporary.file, bytes).map_err(fail)?;
        temporary.publish(id).map_err(fail)?;
        self.arrived(id, true);
        Ok(id)
    }

    /// How many bytes were stored under this name.
    pub fn length(&self, id: FileId) -> Result<u64> {
        let length = self.files.open(id).and_then(|file| Ok(file.metadata()?.len()));
        length.map_err(|e| Error::io(&self.files.path.join(file_name(id)), "measuring", e))
    }

    /// Makes what was stored durable.
    pub fn sync(&self) -> Result<()> {
        let ids = std::mem::take(&mut self.seen().unsynced);
        for id in ids {
            let path = self.files.path.join(file_name(id));
            let synced = self.files.open(id).and_then(|file| file.sync_all());
            synced.map_err(|e| Error::io(&path, "syncing", e))?;
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, id: FileId, unsynced: bool) {
        let mut seen = self.seen();
        if seen.present.insert(id) && unsynced {
            seen.unsynced.push(id);
        }
    }

    /// Brings contents from the store into the trace, if the store really has them.
    fn take_from_store(&self, id: FileId, size: u64) -> bool {
        let Some(store) = &self.store else { return false };
        if self.seen().present.contains(&id) {
            return true;
        }
        let taken = store.contents.open(id).and_then(|file| {
            if file.metadata()?.len() != size {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not what it was"));
            }
            self.link_or_copy(store, id, &file)
        });
        if let Err(e) = &taken {
            tracing::debug!(
                "{}: {id}: {e}; reading the file again",
                store.contents.path.display()
            );
        }
        taken.is_ok()
    }

    fn link_or_copy(&self, store: &Store, id: FileId, file: &File) -> io::Result<()> {
        let name = file_name(id);
        match linkat(
            &store.contents.fd,
            &*name,
            &self.files.fd,
            &*name,
            AtFlags::empty(),
        ) {
            Ok(()) | Err(Errno::EEXIST) => {
                self.arrived(id, false);
                Ok(())
            }
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
                self.arrived(id, true);
                Ok(())
            }
        }
    }

    /// Copies a file, into the store and from there into the trace, or straight into the trace.
    fn import(&self, file: &File, key: &Key) -> Result<FileId> {
        if let Some(store) = &self.store {
            match store
                .import(file, key)
                .and_then(|(id, copy)| self.link_or_copy(store, id, &copy).map(|()| id))
            {
                Ok(id) => return Ok(id),
                Err(e) => {
                    let path = store.contents.path.display();
                    tracing::warn!("{path}: {e}; the mapped file is copied into the trace alone");
                }
            }
        }
        let import = || {
            let temporary = self.files.temporary()?;
            let id = copy::copy(file, &temporary.file)?;
            if !self.seen().present.contains(&id) {
                temporary.publish(id)?;
                self.arrived(id, true);
            }
            Ok(id)
        };
        import().map_err(|e: io::Error| Error::io(&self.files.path, "storing a mapped file", e))
    }
}

/// The store beside the traces.
#[derive(Debug)]
struct Store {
    contents: Place,
    index: OwnedFd,
    /// Whether what others left behind was looked for.
    swept: Once,
}

impl Store {
    fn open(path: &Path) -> io::Result<Store> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path.join("index"))?;
        // Whoever can write to it decides what future traces contain.
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

    /// What the file in this state contains, as far as is known.
    fn find(&self, key: &Key) -> Option<FileId> {
        let target = readlinkat(&self.index, &*key.name()).ok()?;
        let target = target.to_str().filter(|t| t.len() == 32)?;
        u128::from_str_radix(target, 16)
            .ok()
            .map(FileId)
            .filter(|id| file_name(*id) == target)
    }

    /// Copies a file into the store.
    fn import(&self, file: &File, key: &Key) -> io::Result<(FileId, File)> {
        // Only those who add to the store tidy it: reading a directory of thousands takes milliseconds.
        self.swept.call_once(|| self.contents.sweep());
        let temporary = self.contents.temporary()?;
        let id = copy::copy(file, &temporary.file)?;
        let there = self.contents.open(id);
        match there.and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((len, there)) if len == temporary.file.metadata()?.len() => {
                drop(temporary);
                self.remember(file, key, id)?;
                Ok((id, there))
            }
            _ => {
                temporary.file.sync_all()?;
                temporary.publish(id)?;
                nix::unistd::fsync(&self.contents.fd)?;
                let copy = self.contents.open(id)?;
                self.remember(file, key, id)?;
                Ok((id, copy))
            }
        }
    }

    /// Makes an index entry, if the file is still in the state that the key names and that state is settled: then
    /// this is the state that was copied.
    fn remember(&self, file: &File, key: &Key, id: FileId) -> io::Result<()> {
        if !key.is_settled() || Key::of(file)? != *key {
            return Ok(());
        }
        let temporary = temporary_name();
        symlinkat(&*file_name(id), &self.index, &*temporary)?;
        Ok(renameat(&self.index, &*temporary, &self.index, &*key.name())?)
    }
}

/// A directory of contents named by their hash.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    fd: OwnedFd,
}

impl Place {
    /// Opens contents for reading.
    fn open(&self, id: FileId) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.fd, &*file_name(id), flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// A new file that will be named when its contents are known.
    fn temporary(&self) -> io::Result<Temporary<'_>> {
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
    fn sweep(&self) {
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
fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{TEMPORARY}{}-{:x}-{count}", std::process::id(), now.as_nanos())
}

/// A file that is being written; removed unless it is published.
struct Temporary<'a> {
    place: &'a Place,
    name: String,
    file: File,
}

impl Temporary<'_> {
    /// Makes it read-only and gives it its name.
    fn publish(mut self, id: FileId) -> io::Result<()> {
        self.file
            .set_permissions(std::fs::Permissions::from_mode(0o444))?;
        renameat(
            self.place.fd.as_fd(),
            &*self.name,
            self.place.fd.as_fd(),
            &*file_name(id),
        )?;
        self.name.clear();
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // What stays is swept later.
            let _ = unlinkat(&self.place.fd, &*self.name, UnlinkatFlags::NoRemoveDir);
        }
    }
}
