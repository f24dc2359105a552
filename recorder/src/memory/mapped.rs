//! The shared memory objects, and the contents of mapped files.
//!
//! A privately mapped file is kept in the trace as it is when it is mapped. Each inode that is mapped
//! shared and writable becomes one emulated object, so that all processes that map it share it in
//! replay, too. The same happens to a privately mapped file that changes.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use rr_preload::layout::{FILTER_WORDS, filter_bits};
use rr_trace::FileStore;
use rr_tracee::{Backing, FileId, ObjectId, Objects, SpaceOp, Tid, TraceeFd, limits, procfs};

use crate::buffer::searched::Searched;
use crate::error::{Error, Result};

/// Shared memory objects.
#[derive(Debug, Default)]
pub struct Mapped {
    by_inode: HashMap<(u64, u64), ObjectId>,
    /// Files that were mapped privately.
    private: HashMap<(u64, u64), Private>,
    /// The paths of privately mapped files, with their `ctime`, which changes when a file is renamed.
    names: HashMap<(u64, u64), ((i64, i64), String)>,
    /// System V segments by their ids.
    by_segment: HashMap<u64, ObjectId>,
    objects: HashMap<ObjectId, Object>,
    last: u32,
    filter: Filter,
    /// The places found in programs and libraries.
    pub(crate) searched: Searched,
}

/// The files that are or were mapped. The library in the tracees leaves writes to them to us.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// See [`rr_preload::layout::filter_bits`].
    pub words: [u64; FILTER_WORDS],
    /// Number of changes so far.
    pub version: u64,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            words: [0; FILTER_WORDS],
            version: 0,
        }
    }
}

impl Filter {
    fn add(&mut self, device: u64, inode: u64) {
        for (word, bit) in filter_bits(device, inode) {
            if self.words[word] & bit == 0 {
                self.words[word] |= bit;
                self.version += 1;
            }
        }
    }
}

/// State of a file that was mapped privately.
#[derive(Debug, Default)]
struct Private {
    /// The contents that are mapped in replay: those that the file had when it was mapped.
    contents: Vec<FileId>,
    /// The size that was last read.
    size: u64,
}

/// The recording's file of an object. A System V segment has none, and is read where it is mapped.
type Object = Option<File>;

/// Maximum number of open files of rr, as first read.
fn file_limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| limits::soft(Tid(0), libc::RLIMIT_NOFILE).unwrap_or(libc::RLIM_INFINITY))
}

/// The mappings of a file.
#[derive(Debug)]
pub struct MappedFile<'a> {
    /// The file's object, if it is mapped shared.
    pub object: Option<ObjectId>,
    /// The contents of private mappings in replay.
    pub private: &'a [FileId],
    /// Its size in bytes.
    pub size: u64,
    /// The size that was last read, if the file is mapped privately.
    pub former_size: u64,
    /// Its device and inode.
    pub inode: (u64, u64),
}

/// The backing of a new mapping.
#[derive(Debug)]
pub struct Opened {
    /// The backing.
    pub backing: Backing,
    /// Operations that must come before the mapping.
    pub before: Vec<SpaceOp>,
    /// The path shown to people.
    pub name: String,
}

impl Mapped {
    /// The files that are or were mapped.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The recording's file of an object.
    pub fn file(&self, object: ObjectId) -> Option<&File> {
        self.objects.get(&object).and_then(Option::as_ref)
    }

    /// The current size of an object's file.
    pub fn size(&self, object: ObjectId) -> Option<u64> {
        self.file(object)?.metadata().map(|m| m.len()).ok()
    }

    /// All objects that are files.
    pub fn all(&self) -> impl Iterator<Item = ObjectId> {
        self.by_inode.values().copied()
    }

    /// The mappings of the file at a path of ours, and the file's size. `None` if it is not mapped.
    pub fn mapped_at(&self, path: impl AsRef<Path>) -> Option<MappedFile<'_>> {
        if self.by_inode.is_empty() && self.private.is_empty() {
            return None;
        }
        let meta = std::fs::metadata(path).ok()?;
        let inode = (meta.dev(), meta.ino());
        let object = self.by_inode.get(&inode).copied();
        let known = self.private.get(&inode);
        let private = known.map_or(&[][..], |p| &p.contents);
        (object.is_some() || !private.is_empty()).then_some(MappedFile {
            object,
            private,
            size: meta.len(),
            former_size: known.map_or(meta.len(), |p| p.size),
            inode,
        })
    }

    /// Makes an object of the privately mapped file at a path of ours, because the file will change.
    pub fn become_object(&mut self, files: &FileStore, path: &Path) -> Result<Option<(ObjectId, SpaceOp)>> {
        let Some(file) = self.opened(File::open(path))? else {
            return Ok(None);
        };
        let Ok(meta) = file.metadata() else {
            return Ok(None);
        };
        let content = files.add(&file)?;
        let size = files.length(content)?;
        let (object, op) = self.create(file, size, Some(content));
        self.by_inode.insert((meta.dev(), meta.ino()), object);
        Ok(Some((object, op)))
    }

    /// The inode of an object's file, and the contents that private mappings of the file have in
    /// replay.
    pub fn private_of(&self, object: ObjectId) -> Option<((u64, u64), &[FileId])> {
        let (inode, _) = self.by_inode.iter().find(|(_, known)| **known == object)?;
        Some((*inode, &self.private.get(inode)?.contents))
    }

    /// Remembers the file's current size.
    pub fn note_size(&mut self, inode: (u64, u64), size: u64) {
        if let Some(known) = self.private.get_mut(&inode) {
            known.size = size;
        }
    }

    /// Forgets objects that are not mapped any more: if one is mapped again, its contents may have
    /// changed.
    pub fn retain(&mut self, in_use: impl Fn(ObjectId) -> bool) {
        self.by_inode.retain(|_, object| in_use(*object));
        self.by_segment.retain(|_, object| in_use(*object));
        self.objects.retain(|object, _| in_use(*object));
    }

    /// The result of opening a file. Having too many open files is an error, because the file is
    /// needed. A few descriptors are reserved for closing the trace.
    pub fn opened(&self, result: std::io::Result<File>) -> Result<Option<File>> {
        const SPARE: u64 = 16;
        let too_many = match &result {
            Ok(file) => file.as_raw_fd() as u64 + SPARE >= file_limit(),
            Err(e) => matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)),
        };
        if too_many {
            return Err(Error::TooManyFiles {
                objects: self.objects.len(),
            });
        }
        Ok(result.ok())
    }

    /// The object of a System V segment, if it is known.
    pub fn segment(&self, id: u64) -> Option<ObjectId> {
        self.by_segment.get(&id).copied()
    }

    /// A new object for a System V segment.
    pub fn create_segment(&mut self, id: u64, size: u64, content: Option<FileId>) -> (ObjectId, SpaceOp) {
        self.last += 1;
        let object = ObjectId(self.last);
        self.objects.insert(object, None);
        self.by_segment.insert(id, object);
        (
            object,
            SpaceOp::CreateObject {
                object,
                size,
                content,
            },
        )
    }

    /// A new object with initial contents `content`, or zeros.
    pub fn create(&mut self, file: File, size: u64, content: Option<FileId>) -> (ObjectId, SpaceOp) {
        self.last += 1;
        let object = ObjectId(self.last);
        self.objects.insert(object, Some(file));
        (
            object,
            SpaceOp::CreateObject {
                object,
                size,
                content,
            },
        )
    }

    /// The backing of a mapping of descriptor `fd` of task `tid` from `offset` on, shared or private.
    pub fn open(
        &mut self,
        (files, objects): (&FileStore, &Objects),
        (tid, fd): (Tid, TraceeFd),
        offset: u64,
        shared: bool,
    ) -> Result<Option<Opened>> {
        match self.opened(File::open(procfs::fd_path(tid, fd)))? {
            Some(file) => self.open_file((files, objects), file, offset, shared),
            None => Ok(None),
        }
    }

    /// Same as [`Mapped::open`], for an open file.
    pub fn open_file(
        &mut self,
        (files, objects): (&FileStore, &Objects),
        file: File,
        offset: u64,
        shared: bool,
    ) -> Result<Option<Opened>> {
        let link = format!("fd/{}", file.as_raw_fd());
        let name = || procfs::path_of_link("self", &link).unwrap_or_default();
        let Ok(meta) = file.metadata() else {
            return Ok(None);
        };
        if !meta.is_file() {
            // /dev/zero is anonymous memory. Other devices are unknown.
            let name = name();
            let zero = (libc::major(meta.rdev()), libc::minor(meta.rdev())) == (1, 5);
            return Ok((zero && !shared).then(|| Opened {
                backing: Backing::Anonymous,
                before: vec![],
                name,
            }));
        }
        self.filter.add(meta.dev(), meta.ino());
        let key = (meta.dev(), meta.ino());
        // A private mapping: of a stored file, or of a known object.
        if !shared {
            let changed = (meta.ctime(), meta.ctime_nsec());
            let name = match self.names.get(&key) {
                Some((then, name)) if *then == changed => name.clone(),
                _ => {
                    let name = name();
                    self.names.insert(key, (changed, name.clone()));
                    name
                }
            };
            // A private mapping of an object that may have changed shows the changes.
            if let Some(object) = self.by_inode.get(&key).copied()
                && objects.get(object).is_some_and(|state| state.content.is_none())
            {
                return Ok(Some(Opened {
                    backing: Backing::CopyOnWrite { object, offset },
                    before: vec![],
                    name,
                }));
            }
            let content = files.add(&file)?;
            self.searched.search(content, &file, files);
            let known = self.private.entry(key).or_insert(Private {
                size: meta.len(),
                ..Private::default()
            });
            if !known.contents.contains(&content) {
                known.contents.push(content);
            }
            return Ok(Some(Opened {
                backing: Backing::File {
                    file: content,
                    offset,
                },
                before: vec![],
                name,
            }));
        }
        // A shared mapping: of a known object, or of a new one.
        let name = name();
        let mut before = Vec::new();
        let object = match self.by_inode.get(&key) {
            Some(object) => *object,
            None => {
                let content = files.add(&file)?;
                // Size of the stored contents, whatever others do to the file meanwhile.
                let size = files.length(content)?;
                let (object, op) = self.create(file, size, Some(content));
                before.push(op);
                self.by_inode.insert(key, object);
                object
            }
        };
        Ok(Some(Opened {
            backing: Backing::Shared { object, offset },
            before,
            name,
        }))
    }
}
