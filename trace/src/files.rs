//! Contents of mapped files, each once.
//!
//! A trace holds the contents of every file that the recorded program mapped, as `files/<hash>`. So that recording the
//! same programs again copies nothing, a *store* beside the traces keeps them for all:
//!
//! ```text
//! STORE/<hash>          the contents, read-only; traces hard-link it
//! STORE/notes/<hash>.…  what recorders have found out about the contents (`notes`)
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
//! says its name; another thread writes the file later (`later`). Events that refer to the file are written after it
//! ([`FileStore::settle`]).

mod key;
mod later;
pub(crate) mod notes;
mod place;
mod places;
mod store;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sched::CpuSet;
use rr_tracee::FileId;

use crate::copy::{self, Content};
use crate::dir::{Part, TraceDir, file_name};
use crate::error::{Error, Result};
use crate::event::{Event, EventNumber};
use key::Key;
use later::Later;
use place::Place;
use places::{Job, Places};
use store::Store;

/// Files with more data than this are not kept in memory to be written later.
const AT_ONCE: u64 = 64 << 20;

/// The contents of mapped files, while a trace is written. Usable from any thread.
#[derive(Debug)]
pub struct FileStore {
    places: Arc<Places>,
    later: Later,
    seen: Mutex<Seen>,
}

#[derive(Default, Debug)]
struct Seen {
    /// Files that were added, by their state then.
    known: HashMap<Key, FileId>,
    /// Files that are in the trace, or will be soon.
    present: HashMap<FileId, Present>,
    /// The event that is recorded now, if uses are noted ([`FileStore::note_uses`]).
    now: EventNumber,
}

/// A file that is in the trace, or will be soon.
#[derive(Debug)]
struct Present {
    /// The number of its bytes.
    bytes: u64,
    /// The last event that refers to it or can be about to.
    used: EventNumber,
}

impl Seen {
    /// A file with these contents was added. Returns whether they were there already.
    fn add(&mut self, id: FileId, bytes: u64) -> bool {
        let used = self.now;
        self.present.insert(id, Present { bytes, used }).is_some()
    }

    /// A file was added or is referred to. Returns whether its contents are there.
    fn touch(&mut self, id: FileId) -> bool {
        let now = self.now;
        self.present
            .get_mut(&id)
            .map(|present| present.used = now)
            .is_some()
    }
}

impl FileStore {
    /// For the trace in `dir`, with the store in directory `store`. A store that cannot be used is done without.
    pub(crate) fn new(dir: &TraceDir, store: Option<&Path>, cpus: CpuSet) -> Result<FileStore> {
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
        Ok(FileStore {
            later: Later::new(&places, cpus),
            places,
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
        {
            let mut seen = self.seen();
            if let Some(id) = seen.known.get(&key).copied()
                && seen.touch(id)
            {
                return Ok(id);
            }
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
        if let Some(present) = self.seen().present.get(&id) {
            return Ok(present.bytes);
        }
        let files = &self.places.files;
        let length = files.open(id).and_then(|file| Ok(file.metadata()?.len()));
        length.map_err(|e| Error::io(&files.path.join(file_name(id)), "measuring", e))
    }

    /// Notes the files that an event refers to. Events are given in order, all or none.
    pub(crate) fn note_uses(&self, event: &Event) {
        let mut seen = self.seen();
        seen.now = event.number;
        for op in event.ops.iter().chain(event.others.iter().map(|(_, op)| op)) {
            if let Some(id) = op.file()
                && !seen.touch(id)
            {
                tracing::error!(
                    "event {} refers to the file {id}, which is not in the trace",
                    event.number
                );
            }
        }
        // What is added from now on is for a later event.
        seen.now = event.number.next();
    }

    /// Deletes files that no event after `event` refers to, but none of `needed`. A file that is added again later is stored again.
    pub(crate) fn forget(&self, event: EventNumber, needed: &BTreeSet<FileId>) -> Result<()> {
        let mut seen = self.seen();
        let is_unused = |(id, present): (&FileId, &Present)| {
            (present.used <= event && !needed.contains(id)).then_some(*id)
        };
        let unused: Vec<FileId> = seen.present.iter().filter_map(is_unused).collect();
        for id in unused {
            seen.present.remove(&id);
            let keys = seen
                .known
                .extract_if(|_, of| *of == id)
                .map(|(key, _)| key)
                .collect();
            // Under the lock: before whoever adds the file again.
            self.later.push(Job::Delete { id, keys })?;
        }
        Ok(())
    }

    /// What an earlier recorder has found out about these contents, if the store has it.
    pub fn note(&self, id: FileId, kind: &str) -> Option<Vec<u8>> {
        self.places.store.as_ref()?.note(id, kind).ok()
    }

    /// Tells later recorders what was found out about these contents. If that fails, they find it out again.
    pub fn set_note(&self, id: FileId, kind: &str, bytes: &[u8]) {
        if let Some(store) = &self.places.store
            && let Err(e) = store.set_note(id, kind, bytes)
        {
            tracing::debug!("{}: no note about {id}: {e}", store.contents.path.display());
        }
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
        if self.seen().touch(id) {
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
                self.seen().add(id, key.size);
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
        if !self.seen().add(id, len) {
            temporary.publish(id).map_err(fail)?;
            self.places.unsynced().push(id);
        }
        Ok(id)
    }

    /// Lets contents be written that are not there yet. With the `key` of a file that has them, for other traces too.
    fn write(&self, id: FileId, content: Content, key: Option<Key>) -> Result<()> {
        let known = self.seen().add(id, content.len);
        if known && key.is_none() {
            return Ok(());
        }
        self.later.push(Job::Write { id, content, key })
    }
}
