//! Contents of mapped files, each once.
//!
//! A trace holds the contents of every file that the recorded program mapped, as `files/<hash>`. So that recording the
//! same programs again copies nothing, a *store* beside the traces keeps them for all:
//!
//! ```text
//! STORE/<hash>          the contents, read-only; traces hard-link it
//! STORE/index/<key>     symbolic link to <hash>.<boot>; key: device, inode, size, mtime and ctime of the file it was copied from
//! ```
//!
//! `<boot>` is the kernel's run that it was written in. Nobody waited for the disk then: so in a later run contents are compared with
//! their name when they are used first, and the entry loses that part.
//!
//! Into the store, contents are reflinked where the file system can, else copied: never linked, because somebody
//! could change the original in place. Invariants: what bears a hash as its name is complete before it gets the
//! name, so any number of recorders can share a store; and an
//! index entry is only made for a file whose last change is old enough that another one would have given another ctime. The store is
//! a cache: whatever goes wrong with it, the trace gets a copy of its own.
//!
//! The thread that adds a file does not wait for the disk: it reads the file (as the program that maps the file does) and
//! says its name; another thread writes the file (`later`). Events that refer to the file are written after it
//! ([`FileStore::settle`]).

mod later;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use rr_tracee::FileId;

use crate::copy::{self, Content};
use crate::dir::{Part, TraceDir, file_name};
use crate::error::{Error, Result};
use later::{Job, Later};

const TEMPORARY: &str = ".tmp-";

/// Temporary files older than this belong to nobody.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A file changed less long ago than this could change again without a new ctime (file systems count in
/// ticks of some milliseconds, some in seconds).
const SETTLED: Duration = Duration::from_secs(2);

/// Files with more data than this are not kept in memory to be written later.
const AT_ONCE: u64 = 64 << 20;

/// Facts that tell one state of a file from another without reading it.
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

    /// Says if a change after now would show in the key.
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

/// The contents of mapped files, while a trace is written. Usable from any thread.
#[derive(Debug)]
pub struct FileStore {
    places: Arc<Places>,
    later: Later,
    seen: Mutex<Seen>,
}

/// The two places for contents.
#[derive(Debug)]
struct Places {
    files: Place,
    store: Option<Store>,
    /// Files that are in the trace but perhaps not on the disk.
    unsynced: Mutex<Vec<FileId>>,
}

#[derive(Default, Debug)]
struct Seen {
    /// Files that were added, by their state then.
    known: HashMap<Key, FileId>,
    /// Files that are in the trace, or will be soon, and the number of their bytes.
    present: HashMap<FileId, u64>,
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
        let unsynced = Mutex::default();
        let places = Arc::new(Places {
            files,
            store,
            unsynced,
        });
        let path = places.files.path.clone();
        let later = Later::start(&places).map_err(|e| Error::io(&path, "starting a thread to write", e))?;
        Ok(FileStore {
            places,
            later,
            seen: Mutex::default(),
        })
    }

    /// Stores the contents of a regular file, which is open for reading, and says under which name. Nothing is
    /// copied if they are there already, and nothing is read if this very state of the file was stored before.
    ///
    /// They are in the trace when [`FileStore::settle`] returns.
    pub fn add(&self, file: &File) -> Result<FileId> {
        let fail = |e: io::Error| {
            let name = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)));
            Error::io(&name.unwrap_or_default(), "storing a mapped file", e)
        };
        let key = Key::of(file).map_err(fail)?;
        if let Some(id) = self.seen().known.get(&key) {
            return Ok(*id);
        }
        let id = match self.find(&key)? {
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
        let content = Content {
            len: bytes.len() as u64,
            parts: vec![(0, bytes.to_vec())],
        };
        self.write(id, content, None)?;
        Ok(id)
    }

    /// The number of bytes that were stored under this name.
    pub fn length(&self, id: FileId) -> Result<u64> {
        if let Some(len) = self.seen().present.get(&id) {
            return Ok(*len);
        }
        let files = &self.places.files;
        let length = files.open(id).and_then(|file| Ok(file.metadata()?.len()));
        length.map_err(|e| Error::io(&files.path.join(file_name(id)), "measuring", e))
    }

    /// Waits until all that was added is in the trace.
    pub fn settle(&self) -> Result<()> {
        self.later.settle()
    }

    /// Makes what was stored durable.
    pub fn sync(&self) -> Result<()> {
        self.settle()?;
        let ids = std::mem::take(&mut *self.places.unsynced());
        let files = &self.places.files;
        for id in ids {
            let path = files.path.join(file_name(id));
            let synced = files.open(id).and_then(|file| file.sync_all());
            synced.map_err(|e| Error::io(&path, "syncing", e))?;
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks this state of a file up in the store. The contents that are found are going to be in the trace.
    fn find(&self, key: &Key) -> Result<Option<FileId>> {
        let Some(store) = &self.places.store else {
            return Ok(None);
        };
        let Some(id) = store.find(key) else {
            return Ok(None);
        };
        if self.seen().present.contains_key(&id) {
            return Ok(Some(id));
        }
        let there = store.contents.open(id).and_then(|file| {
            if file.metadata()?.len() != key.size {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not what it was"));
            }
            Ok(file)
        });
        match there {
            Ok(file) => {
                self.seen().present.insert(id, key.size);
                self.later.push(Job::Link { id, file })?;
                Ok(Some(id))
            }
            Err(e) => {
                let path = store.contents.path.display();
                tracing::debug!("{path}: {id}: {e}; reading the file again");
                Ok(None)
            }
        }
    }

    /// Reads a file, which will be written into the store and the trace.
    fn import(&self, file: &File, key: &Key) -> Result<FileId> {
        let fail = |e: io::Error| Error::io(&self.places.files.path, "storing a mapped file", e);
        if let Some((id, content)) = copy::read(file, AT_ONCE).map_err(fail)? {
            let settled = key.is_settled() && Key::of(file).map_err(fail)? == *key;
            self.write(id, content, settled.then_some(*key))?;
            return Ok(id);
        }
        // Memory is not for such files.
        let temporary = self.places.files.temporary().map_err(fail)?;
        let id = copy::copy(file, &temporary.file).map_err(fail)?;
        let len = temporary.file.metadata().map_err(fail)?.len();
        if self.seen().present.insert(id, len).is_none() {
            temporary.publish(id).map_err(fail)?;
            self.places.unsynced().push(id);
        }
        Ok(id)
    }

    /// Lets contents be written that are not there yet. With the `key` of a file that has them, for other traces too.
    fn write(&self, id: FileId, content: Content, key: Option<Key>) -> Result<()> {
        let known = self.seen().present.insert(id, content.len).is_some();
        if known && key.is_none() {
            return Ok(());
        }
        self.later.push(Job::Write { id, content, key })
    }
}

impl Places {
    fn unsynced(&self) -> MutexGuard<'_, Vec<FileId>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what was left for later.
    fn perform(&self, job: Job) -> Result<()> {
        let fail = |e| Error::io(&self.files.path, "storing a mapped file", e);
        match job {
            Job::Link { id, file } => match &self.store {
                Some(store) => self.link_or_copy(store, id, &file).map_err(fail),
                None => Ok(()),
            },
            Job::Write { id, content, key } => {
                if let Some(store) = &self.store {
                    match store
                        .import(id, &content, key.as_ref())
                        .and_then(|copy| self.link_or_copy(store, id, &copy))
                    {
                        Ok(()) => return Ok(()),
                        Err(e) => {
                            let path = store.contents.path.display();
                            tracing::warn!("{path}: {e}; the mapped file is copied into the trace alone");
                        }
                    }
                }
                let write = || {
                    let temporary = self.files.temporary()?;
                    content.write(&temporary.file)?;
                    temporary.publish(id)
                };
                write().map_err(|e| Error::io(&self.files.path.join(file_name(id)), "writing", e))?;
                self.unsynced().push(id);
                Ok(())
            }
        }
    }

    /// Brings contents from the store, where `file` has them, into the trace.
    fn link_or_copy(&self, store: &Store, id: FileId, file: &File) -> io::Result<()> {
        let name = file_name(id);
        match linkat(
            &store.contents.fd,
            &*name,
            &self.files.fd,
            &*name,
            AtFlags::empty(),
        ) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
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
                self.unsynced().push(id);
                Ok(())
            }
        }
    }
}

/// The store beside the traces.
#[derive(Debug)]
struct Store {
    contents: Place,
    index: OwnedFd,
    /// Done once leftovers of other runs were looked for.
    swept: Once,
}

impl Store {
    fn open(path: &Path) -> io::Result<Store> {
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
    fn find(&self, key: &Key) -> Option<FileId> {
        let target = readlinkat(&self.index, &*key.name()).ok()?;
        let (name, since) = match target.to_str()?.split_once('.') {
            Some((name, boot)) => (name.to_owned(), Some(boot.to_owned())),
            None => (target.to_str()?.to_owned(), None),
        };
        let id = u128::from_str_radix(&name, 16)
            .ok()
            .map(FileId)
            .filter(|id| name.len() == 32 && file_name(*id) == name)?;
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
    fn has_survived(&self, id: FileId) -> bool {
        let content = self.contents.open(id).and_then(|file| copy::name(&file));
        let whole = content.is_ok_and(|there| there == id);
        if !whole {
            // Another recorder may have been faster.
            let _ = unlinkat(&self.contents.fd, &*file_name(id), UnlinkatFlags::NoRemoveDir);
        }
        whole
    }

    /// Writes contents into the store, unless they are there.
    fn import(&self, id: FileId, content: &Content, key: Option<&Key>) -> io::Result<File> {
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

    /// Makes an index entry.
    fn enter(&self, key: &Key, target: &str) -> io::Result<()> {
        let temporary = temporary_name();
        symlinkat(target, &self.index, &*temporary)?;
        Ok(renameat(&self.index, &*temporary, &self.index, &*key.name())?)
    }
}

/// The kernel's name for its present run (random(4)).
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        // Without it nothing holds longer than this process.
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.map_or_else(|_| temporary_name(), |id| id.trim().to_owned())
    })
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
            // A file that stays is swept later.
            let _ = unlinkat(&self.place.fd, &*self.name, UnlinkatFlags::NoRemoveDir);
        }
    }
}
