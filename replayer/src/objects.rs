//! Shared memory objects of a replay, as real files.
//!
//! If an object is a file of the trace ([`rr_tracee::objects`]), that file is mapped directly: this
//! costs nothing, whatever its size. Nothing can write to it, because it is open for reading only.
//! Before an event changes such an object, or lets the program change it, a memfd with a copy of the
//! file takes the object's place in all address spaces. In a pack a file is only a part of a larger
//! file, so there the object is a copy from the beginning.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use rr_trace::TraceReader;
use rr_trace::event::{Event, EventNumber};
use rr_tracee::objects::{exposed, objects_in};
use rr_tracee::remote::Remote;
use rr_tracee::{
    Addr, AddrRange, AddressSpace, FileId, ObjectId, SpaceOp, Stopped, Tid, TraceeFd, procfs, sparse,
};

use crate::backings::{Backings, FEW_OBJECTS, Object};
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::space::perform;
use crate::world::World;

fn failed(what: &str, object: ObjectId) -> impl FnOnce(std::io::Error) -> Failure {
    let what = format!("{what} shared memory object {}", object.0);
    move |source| Failure::Other(Box::new(Error::Os { what, source }))
}

impl Backings {
    /// Makes an object with the contents `content` (zeros if `None`): the file itself, or a copy if the
    /// object `may_change`.
    pub fn create_object(
        &mut self,
        remote: Remote,
        real: Tid,
        reader: &TraceReader,
        (object, size, content): (ObjectId, u64, Option<FileId>),
        may_change: bool,
    ) -> Result<Remote, Failure> {
        let Some(content) = content else {
            return self.create_memfd(remote, real, object, size, None);
        };
        let file = reader.open_file(content)?;
        let length = file.size().map_err(failed("measuring", object))?;
        if length != size {
            let what = format!(
                "{} has {length} bytes and should have {size}",
                file.path().display()
            );
            let event = EventNumber::default();
            return Err(Failure::Other(Box::new(Error::BadTrace { event, what })));
        }
        // In a pack, other files follow in the same file.
        if may_change || !file.is_whole_file() {
            let part = file.start()..file.start() + size;
            return self.create_memfd(remote, real, object, size, Some((file.file(), part)));
        }
        let (remote, opened) = self.file(remote, reader, content)?;
        let made = Object {
            file: Arc::new(file.file().try_clone().map_err(failed("opening", object))?),
            fd: opened.fd,
            original: true,
        };
        self.objects.insert(object, made);
        Ok(remote)
    }

    pub fn create_memfd(
        &mut self,
        mut remote: Remote,
        real: Tid,
        object: ObjectId,
        size: u64,
        content: Option<(&File, Range<u64>)>,
    ) -> Result<Remote, Failure> {
        let name = remote.param(b"rr-object\0")?;
        let args = [name.0, libc::MFD_CLOEXEC.into(), 0, 0, 0, 0];
        let fd;
        (remote, fd) = remote.must("memfd_create", libc::SYS_memfd_create, args)?;
        let fd = fd as i32;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(procfs::fd_path(real, TraceeFd(fd)))
            .map_err(failed("opening", object))?;
        if let Some((content, part)) = content {
            sparse::copy(content, part, &file, 0).map_err(failed("filling", object))?;
        }
        file.set_len(Addr(size).page_ceil().0)
            .map_err(failed("sizing", object))?;
        let original = false;
        let file = Arc::new(file);
        self.objects.insert(object, Object { file, fd, original });
        Ok(remote)
    }

    /// Replaces an object that is a file of the trace by a memfd with a copy. The caller maps the
    /// memfd.
    fn copy_original(&mut self, stopped: Stopped, object: ObjectId) -> Result<Stopped, Failure> {
        let Some(old) = self.objects.remove(&object) else {
            return Ok(stopped);
        };
        let size = old.file.metadata().map_err(failed("measuring", object))?.len();
        let real = stopped.tid();
        let remote = Remote::ours(stopped)?;
        let remote = self.create_memfd(remote, real, object, size, Some((&old.file, 0..size)))?;
        Ok(remote.finish()?)
    }

    pub fn resize_object(&mut self, object: ObjectId, size: u64) -> Result<(), Failure> {
        let Some(known) = self.objects.get(&object) else {
            return Ok(());
        };
        // Nobody has the object mapped any more: otherwise it would be a copy by now.
        if known.original {
            return Ok(());
        }
        let bytes = Addr(size).page_ceil().0;
        known
            .file
            .set_len(size.min(bytes))
            .and_then(|()| known.file.set_len(bytes))
            .map_err(failed("resizing", object))
    }

    /// Forgets the objects that none of these spaces maps, if there are many objects: each memfd uses
    /// two descriptors. Such an object will not be mapped again, because the recorder forgets it too
    /// before it makes a new object. Returns the descriptors in the tasks' table that the caller must
    /// close (the trace's files stay open).
    pub fn forget_unmapped<'a>(&mut self, spaces: impl Iterator<Item = &'a AddressSpace>) -> Vec<i32> {
        if self.objects.len() < self.sweep_at {
            return Vec::new();
        }
        let mapped: BTreeSet<ObjectId> = spaces.flat_map(|s| s.objects().map(|(id, ..)| id)).collect();
        self.sweep_at = FEW_OBJECTS.max(2 * mapped.len());
        let unmapped = self.objects.extract_if(|id, _| !mapped.contains(id));
        unmapped.filter(|(_, o)| !o.original).map(|(_, o)| o.fd).collect()
    }

    fn has_originals(&self) -> bool {
        self.objects.values().any(|o| o.original)
    }

    fn is_original(&self, object: ObjectId) -> bool {
        self.objects.get(&object).is_some_and(|o| o.original)
    }
}

impl World {
    /// Before these operations of an event: copies the objects that the operations change, or let the
    /// program change.
    pub fn copy_exposed(&mut self, reader: &TraceReader, event: &Event, ops: &[SpaceOp]) -> Result<()> {
        if !self.backings.has_originals() {
            return Ok(());
        }
        let Some(space) = self.tasks.get(&event.tid).and_then(|t| self.spaces.get(&t.space)) else {
            return Ok(());
        };
        let exposed: Vec<ObjectId> = ops.iter().flat_map(|op| exposed(op, space)).collect();
        self.copy_originals(reader, event.number, exposed)
    }

    /// Before the writes of an event: copies the objects that are written.
    pub fn copy_written(&mut self, reader: &TraceReader, event: &Event) -> Result<()> {
        if !self.backings.has_originals() {
            return Ok(());
        }
        let written = event.writes.iter().filter_map(|write| {
            let range = AddrRange::sized(write.addr, write.data.len() as u64);
            Some(objects_in(self.spaces.get(&write.space)?, range))
        });
        let directly = event.object_writes.iter().map(|write| write.object);
        let written: Vec<ObjectId> = written.flatten().chain(directly).collect();
        self.copy_originals(reader, event.number, written)
    }

    /// Updates the objects after operations that have been carried out for `tid`.
    pub fn follow_ops(&mut self, tid: Tid, ops: &[SpaceOp]) {
        if let Some(space) = self.tasks.get(&tid).and_then(|t| self.spaces.get(&t.space)) {
            self.objects.follow(ops, space);
        }
    }

    /// Updates the objects after the writes of an event.
    pub fn follow_writes(&mut self, event: &Event) {
        for write in &event.object_writes {
            self.objects.written_directly(write.object);
        }
        for write in &event.writes {
            if let Some(space) = self.spaces.get(&write.space) {
                let range = AddrRange::sized(write.addr, write.data.len() as u64);
                self.objects.written(space, range);
            }
        }
    }

    /// Replaces those of `objects` that are files of the trace by copies, wherever they are mapped.
    fn copy_originals(
        &mut self,
        reader: &TraceReader,
        event: EventNumber,
        objects: Vec<ObjectId>,
    ) -> Result<()> {
        for object in objects {
            if self.backings.is_original(object) {
                self.copy_object(reader, object).map_err(|f| f.at(event))?;
            }
        }
        Ok(())
    }

    fn copy_object(&mut self, reader: &TraceReader, object: ObjectId) -> Result<(), Failure> {
        for (id, space) in &self.spaces {
            let ops: Vec<SpaceOp> = space
                .objects()
                .filter(|(o, ..)| *o == object)
                .map(|(.., mapping)| SpaceOp::Map(mapping.clone()))
                .collect();
            let Some(task) = self.tasks.values_mut().find(|t| t.space == *id) else {
                continue;
            };
            if ops.is_empty() {
                continue;
            }
            let mut stopped = task.take()?;
            if self.backings.is_original(object) {
                stopped = self.backings.copy_original(stopped, object)?;
            }
            let stopped = perform(stopped, &ops, &mut self.backings, reader)?;
            task.give(stopped);
        }
        Ok(())
    }
}
