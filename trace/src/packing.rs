//! Writing a pack (`pack` draws it).
//!
//! Keeps: under the name that was asked for there is a whole pack or what was there before. It is written under a temporary name, made
//! durable, and renamed; whatever goes wrong, the temporary file is removed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rr_tracee::FileId;

use crate::copy;
use crate::debug_files::DebugFiles;
use crate::dictionary::{self, Dictionaries, Dictionary};
use crate::dir::file_name;
use crate::error::{Error, Result};
use crate::event::EventNumber;
use crate::hold::Hold;
use crate::member::Member;
use crate::name::{Name, Note};
use crate::pack::{EXTENSION, Entry, HEADER_LEN, OBJECTS, Place, Table, alignment, encode};
use crate::parallel::Asked;
use crate::reader::TraceReader;
use crate::recompress::{Recompression, payloads};

/// Temporary files older than this belong to nobody.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A pack that is being written.
pub struct PackWriter<'a> {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    uuid: [u8; 16],
    /// The offset at which the next member begins.
    at: u64,
    table: Table,
    /// Contents that are there, by their alignment.
    known: HashMap<(u64, FileId), Place>,
    /// Mapped files go to this directory, which other packs use, too; and what events have in common.
    objects: Option<PathBuf>,
    /// None of it is deleted meanwhile.
    hold: Option<Hold>,
    asked: Asked<'a>,
}

impl<'a> PackWriter<'a> {
    /// A pack at `path`, where nothing may be, of the trace with this uuid.
    pub fn create(path: &Path, uuid: [u8; 16], asked: Asked<'a>) -> Result<PackWriter<'a>> {
        let temporary = temporary(path);
        let failed = |source| not_written(path, source);
        sweep(directory_of(path));
        if path.symlink_metadata().is_ok() {
            return Err(Error::Exists {
                path: path.to_owned(),
            });
        }
        let file = create(&temporary).map_err(failed)?;
        Ok(PackWriter {
            target: path.to_owned(),
            temporary,
            file,
            uuid,
            at: HEADER_LEN as u64,
            table: Table::new(),
            known: HashMap::new(),
            objects: None,
            hold: None,
            asked,
        })
    }

    /// Puts what it has in common with the packs beside it into the directory that they share, from now on.
    pub fn share(&mut self) -> Result<()> {
        let dir = self.target.parent().unwrap_or(Path::new("")).join(OBJECTS);
        std::fs::create_dir_all(&dir).map_err(|source| not_written(&dir, source))?;
        self.hold = Some(Hold::of(&dir)?);
        self.objects = Some(dir);
        Ok(())
    }

    /// The length of the pack as it is now.
    pub fn length(&self) -> u64 {
        self.at + encode(&self.uuid, &self.table, self.at).1.len() as u64
    }

    /// Takes over everything of a trace but its checkpoints: segments are made smaller by `threads` threads.
    pub fn add_trace(&mut self, reader: &TraceReader, threads: usize) -> Result<()> {
        for name in reader.plain_members()? {
            self.add(name, &reader.open_member(name)?)?;
        }
        let dictionaries = self.objects.as_deref().map(Dictionaries::new);
        let dictionary = match &dictionaries {
            Some(dictionaries) => self.dictionary_for(reader, dictionaries)?,
            None => None,
        };
        let recompression = Recompression::new(threads, self.asked, dictionary.zip(dictionaries.as_ref()));
        for first in reader.segments() {
            self.add_with(Name::Segment(*first), |out| {
                recompression.segment(reader, *first, |bytes| out.append(bytes))
            })?;
        }
        Ok(())
    }

    /// Adds files with debug information, by the build ids of the programs that they belong to, in hexadecimal digits.
    pub fn add_debug_files(&mut self, files: &[(String, PathBuf)]) -> Result<()> {
        let mut added = DebugFiles::default();
        for (build_id, path) in files {
            let reading = |e| Error::io(path, "reading", e);
            let file = File::open(path).map_err(reading)?;
            let id = copy::name(&file).map_err(reading)?;
            // Several programs may have the same one.
            if !self.table.contains_key(&Name::File(id)) {
                self.add(Name::File(id), &Member::whole(file, path.clone()))?;
            }
            added.insert(build_id.clone(), id);
        }
        let text = added.text();
        self.add_with(Name::Note(Note::DebugFiles), |out| out.append(text.as_bytes()))
    }

    /// The dictionary that the events of a trace resemble most. A new one, made of them, if they resemble none.
    fn dictionary_for(
        &self,
        reader: &TraceReader,
        dictionaries: &Dictionaries,
    ) -> Result<Option<Arc<Dictionary>>> {
        let content = payloads(reader, dictionary::LONGEST)?;
        let sample = dictionary::sample(&content);
        let failed = |source| not_written(&self.target, source);
        let mut best: Option<(usize, Arc<Dictionary>)> = None;
        let all = dictionaries.all();
        for id in &all {
            if (self.asked)() {
                return Err(Error::Interrupted);
            }
            let known = dictionaries.get(*id)?;
            let len = known.length_of(&sample).map_err(failed)?;
            if best.as_ref().is_none_or(|(least, _)| len < *least) {
                best = Some((len, known));
            }
        }
        let alone = dictionary::length_alone(&sample).map_err(failed)?;
        let resembles = best.as_ref().is_some_and(|(len, _)| 4 * len <= 3 * alone);
        if !resembles && all.len() < dictionary::MOST && !content.is_empty() {
            let (made, file) = Dictionary::make(content).map_err(failed)?;
            let path = dictionaries.path_of(made.id);
            self.put_shared(&path, |to| {
                to.write_all_at(&file, 0)
                    .map_err(|source| not_written(&path, source))
            })?;
            return dictionaries.get(made.id).map(Some);
        }
        Ok(best.map(|(_, known)| known))
    }

    /// Adds a checkpoint that `write` writes.
    pub fn add_checkpoint<T, E: From<Error>>(
        &mut self,
        event: EventNumber,
        write: impl FnOnce(&mut MemberWriter<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.add_with(Name::Checkpoint(event), write)
    }

    /// Notes the present contents, to come back to them.
    pub fn mark(&self) -> Mark {
        Mark {
            at: self.at,
            table: self.table.clone(),
            known: self.known.clone(),
        }
    }

    /// Takes back what was added since then.
    pub fn back_to(&mut self, mark: &Mark) -> Result<()> {
        (self.at, self.table, self.known) = (mark.at, mark.table.clone(), mark.known.clone());
        let cut = self.file.set_len(self.at);
        cut.map_err(|source| not_written(&self.target, source))
    }

    /// Adds a member as it is.
    fn add(&mut self, name: Name, member: &Member) -> Result<()> {
        let reading = |e| Error::io(member.path(), "reading", e);
        let size = member.size().map_err(reading)?;
        if let Name::File(id) = name
            && self.objects.is_some()
        {
            return self.add_shared(id, member, size);
        }
        self.align(name);
        let at = self.at;
        let sum = copy_member(member, size, (&self.file, at, &self.target), self.asked)?;
        self.enter(name, sum, size)
    }

    /// Puts the contents of a mapped file where other packs find them, too, unless they are there.
    fn add_shared(&mut self, id: FileId, member: &Member, size: u64) -> Result<()> {
        let Some(dir) = &self.objects else { return Ok(()) };
        let path = dir.join(file_name(id));
        let is_there = || {
            let there = File::open(&path)?;
            Ok::<bool, io::Error>(there.metadata()?.len() == size && copy::name(&there)? == id)
        };
        if !is_there().unwrap_or(false) {
            self.put_shared(&path, |to| {
                let sum = copy_member(member, size, (to, 0, &path), self.asked)?;
                must_be(id, sum, member.path())?;
                to.set_len(size).map_err(|source| not_written(&path, source))
            })?;
        }
        self.table.insert(
            Name::File(id),
            Entry {
                place: Place::Shared,
                len: size,
                sum: id,
            },
        );
        Ok(())
    }

    /// Makes a file in the directory that packs share: it gets its name when it is on the disk.
    fn put_shared(&self, path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
        let temporary = temporary(path);
        let failed = |source| not_written(path, source);
        let file = create(&temporary).map_err(failed)?;
        let made = write(&file).and_then(|()| {
            file.set_permissions(std::fs::Permissions::from_mode(0o444))
                .and_then(|()| file.sync_all())
                .and_then(|()| std::fs::rename(&temporary, path))
                .map_err(failed)
        });
        if made.is_err() {
            // The error has been reported already.
            let _ = std::fs::remove_file(&temporary);
        }
        made
    }

    /// Adds a member that `write` writes.
    fn add_with<T, E: From<Error>>(
        &mut self,
        name: Name,
        write: impl FnOnce(&mut MemberWriter<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.align(name);
        let mut out = MemberWriter {
            file: &self.file,
            path: &self.target,
            start: self.at,
            len: 0,
        };
        let written = write(&mut out)?;
        let len = out.len;
        let read = copy::walk_part(&self.file, self.at..self.at + len, |_, _| Ok(()));
        let (sum, _) = read.map_err(|source| not_written(&self.target, source))?;
        self.enter(name, sum, len)?;
        Ok(written)
    }

    /// Goes to where a member of this name may begin.
    fn align(&mut self, name: Name) {
        self.at = self.at.next_multiple_of(alignment(name));
    }

    /// Enters what has been written after the last member into the table.
    fn enter(&mut self, name: Name, sum: FileId, len: u64) -> Result<()> {
        if let Name::File(id) = name {
            must_be(id, sum, &name.path_in(&self.target))?;
        }
        let kind = (alignment(name), sum);
        let place = match self.known.get(&kind) {
            Some(place) => *place,
            None => {
                let place = Place::Here(self.at);
                self.known.insert(kind, place);
                self.at = (self.at + len).next_multiple_of(alignment(name));
                place
            }
        };
        // Bytes that were written twice go; up to the next member there are zeros.
        let end = self.file.set_len(self.at);
        end.map_err(|source| not_written(&self.target, source))?;
        self.table.insert(name, Entry { place, len, sum });
        Ok(())
    }

    /// Makes it durable, and gives it its name. Returns its length.
    pub fn finish(self) -> Result<u64> {
        let failed = |source| not_written(&self.target, source);
        let (header, table) = encode(&self.uuid, &self.table, self.at);
        self.file.write_all_at(&table, self.at).map_err(failed)?;
        self.file.write_all_at(&header, 0).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        let dir = directory_of(&self.target);
        if let Some(objects) = &self.objects {
            sync(objects).map_err(failed)?;
        }
        std::fs::rename(&self.temporary, &self.target).map_err(failed)?;
        sync(dir).map_err(failed)?;
        Ok(self.at + table.len() as u64)
    }
}

impl Drop for PackWriter<'_> {
    fn drop(&mut self) {
        // If it has its name, there is no such file any more.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// The contents of a pack at some time.
pub struct Mark {
    at: u64,
    table: Table,
    known: HashMap<(u64, FileId), Place>,
}

/// A member that is being written.
pub struct MemberWriter<'a> {
    file: &'a File,
    path: &'a Path,
    start: u64,
    len: u64,
}

impl MemberWriter<'_> {
    /// The number of its bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Says if it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes at its end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_at(self.len, bytes)
    }

    /// Writes at a place in it.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, self.start + offset);
        written.map_err(|source| not_written(self.path, source))?;
        self.len = self.len.max(offset + bytes.len() as u64);
        Ok(())
    }
}

/// Copies a member of this size, but for its holes, to a place in another file. Returns the hash of the contents.
pub(crate) fn copy_member(
    member: &Member,
    size: u64,
    (to, at, path): (&File, u64, &Path),
    asked: Asked<'_>,
) -> Result<FileId> {
    let mut failed = None;
    let part = member.start()..member.start() + size;
    let copied = copy::walk_part(member.file(), part, |offset, bytes| {
        let written = match asked() {
            true => Err(Error::Interrupted),
            false => to
                .write_all_at(bytes, at + offset)
                .map_err(|source| not_written(path, source)),
        };
        written.map_err(|e| {
            failed = Some(e);
            io::Error::other("not written")
        })
    });
    match (failed, copied) {
        (Some(e), _) => Err(e),
        (None, Err(e)) => Err(Error::io(member.path(), "reading", e)),
        (None, Ok((sum, len))) if len == size => Ok(sum),
        (None, Ok((_, len))) => Err(Error::damaged(
            member.path(),
            len,
            "it ends here while it is read",
        )),
    }
}

/// The name under which a file is written that will be called so.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{TEMPORARY}{}", std::process::id()))
}

/// The part of such a name before the number of the process.
const TEMPORARY: &str = ".tmp-";

/// The directory that a path names a file in.
pub fn directory_of(path: &Path) -> &Path {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new("."))
}

/// Removes what writers that were killed have left in a directory long ago.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with('.') && name.contains(&*format!(".{EXTENSION}{TEMPORARY}"));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if ours && age().is_some_and(|age| age > STALE) {
            // Somebody else may be faster.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn must_be(id: FileId, sum: FileId, path: &Path) -> Result<()> {
    match id == sum {
        true => Ok(()),
        false => Err(Error::damaged(path, 0, "the contents do not match the name")),
    }
}

pub(crate) fn not_written(path: &Path, source: io::Error) -> Error {
    Error::NotWritten {
        path: path.to_owned(),
        source: Arc::new(source),
    }
}
