//! Files that are mapped privately and change all the same.
//!
//! Whether a private mapping shows what becomes of its file later is unspecified (mmap(2)); Linux shows it in pages
//! that the process has not written to, and pages beyond the end of the file come and go with its size. A file of the trace does
//! not change (I2). So *a file that is mapped privately becomes a shared memory object before it changes*, be it by `write` and its
//! kin, by another size, or because somebody may write to it through a shared mapping: then all private mappings of the file, in
//! all address spaces, become private mappings of that object ([`Backing::CopyOnWrite`]), and the kernel does the same in replay
//! as it did in the recording. Pages that a process had written to by then are among the writes of the event.

use std::path::Path;

use rr_trace::event::{MemWrite, ObjectWrite};
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{PageKind, Pagemap};
use rr_tracee::{
    Addr, AddrRange, Backing, Error as TraceeError, FileId, Mapping, Memory, ObjectId, Prot, SpaceId,
    SpaceOp, Tid, procfs,
};

use crate::error::{Error, Result};
use crate::session::RecordSession;

/// What the next event does beside what its call did in the address space of its task.
#[derive(Debug, Default)]
pub(crate) struct Besides {
    /// In other address spaces, and where mappings of files become those of objects.
    pub others: Vec<(SpaceId, SpaceOp)>,
    /// What the processes' own pages hold there.
    pub writes: Vec<MemWrite>,
    /// What came into objects where nobody has them mapped shared.
    pub object_writes: Vec<ObjectWrite>,
}

impl RecordSession {
    /// The file at a path of ours has changed in the bytes `start..start + len`, or in its size (`sizes`, before and now). If
    /// a private mapping shows that, it becomes an object: this one, after these operations.
    pub(crate) fn changed_privately(
        &mut self,
        path: &Path,
        (start, len): (u64, u64),
        sizes: (u64, u64),
    ) -> Result<Option<(ObjectId, SpaceOp)>> {
        let Some(mapped) = self.mapped.mapped_at(path) else {
            return Ok(None);
        };
        let contents = mapped.private.to_vec();
        let resized = (sizes.0 != sizes.1).then(|| {
            let from = Addr(sizes.0.min(sizes.1)).page_floor();
            AddrRange::new(from, Addr(u64::MAX))
        });
        let written = AddrRange::sized(Addr(start), len);
        let shows = |m: &Mapping| {
            let Backing::File { offset, .. } = m.backing else {
                return false;
            };
            let bytes = AddrRange::sized(Addr(offset), m.range.len());
            let changed = [Some(written), resized].into_iter().flatten();
            changed.into_iter().any(|c| bytes.intersect(c).is_some())
        };
        let mut spaces = self.spaces.keys();
        if !spaces.any(|id| self.mappings_of(*id, &contents).any(shows)) {
            return Ok(None);
        }
        self.mapped.become_object(&self.files, path)
    }

    /// This object, which has been a file of the trace so far, may change from now on: private mappings of the file are
    /// mappings of it.
    pub(crate) fn map_object_privately(&mut self, object: ObjectId) -> Result<()> {
        let Some((inode, contents)) = self.mapped.private_of(object) else {
            return Ok(());
        };
        let contents = contents.to_vec();
        // The change may make the file shorter.
        self.capture.wait_until_read();
        let spaces: Vec<SpaceId> = self.spaces.keys().copied().collect();
        for id in spaces {
            let mappings: Vec<Mapping> = self.mappings_of(id, &contents).cloned().collect();
            let Some(leader) = self.leader(id).filter(|_| !mappings.is_empty()) else {
                continue;
            };
            match self.remap(leader, id, mappings, (object, inode.1)) {
                // Nothing of it is to be seen any more.
                Err(Error::Tracee(TraceeError::Died(_))) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn remap(
        &mut self,
        tid: Tid,
        id: SpaceId,
        mappings: Vec<Mapping>,
        (object, inode): (ObjectId, u64),
    ) -> Result<()> {
        // Contents can be those of several files.
        let lines = procfs::maps(tid)?;
        let of_file = |m: &Mapping| {
            lines
                .iter()
                .any(|l| l.range.contains(m.range.start) && l.inode == inode)
        };
        for mapping in mappings.into_iter().filter(of_file) {
            let Backing::File { offset, .. } = mapping.backing else {
                continue;
            };
            let range = mapping.range;
            // Code that is rewritten there is the program's own again, as if the program were to write to it.
            let sites = &mut self.space_mut(id).library.sites;
            let restored = sites.follow(&SpaceOp::Protect(range, Prot::RW));
            let mut writes = Vec::new();
            self.restore(tid, id, restored, &mut writes)?;
            writes.extend(own_pages(tid, id, range)?);
            let op = SpaceOp::Map(Mapping {
                backing: Backing::CopyOnWrite { object, offset },
                ..mapping
            });
            self.space_mut(id).model.apply(&op);
            self.besides.others.push((id, op));
            self.besides.writes.extend(writes);
        }
        Ok(())
    }

    /// Whether anybody has mapped these contents, or the object that such a file has become.
    pub(crate) fn is_mapped_privately(&self, contents: &[FileId], object: Option<ObjectId>) -> bool {
        let mut spaces = self.spaces.keys();
        spaces.any(|id| self.shows_privately(*id, contents, object))
    }

    /// Whether this space has.
    pub(crate) fn shows_privately(&self, id: SpaceId, contents: &[FileId], object: Option<ObjectId>) -> bool {
        let copies =
            |m: &&Mapping| matches!(m.backing, Backing::CopyOnWrite { object: o, .. } if Some(o) == object);
        let mut mappings = self.spaces.get(&id).into_iter().flat_map(|s| s.model.iter());
        self.mappings_of(id, contents).next().is_some() || mappings.any(|m| copies(&m))
    }

    /// What a space has mapped of these contents.
    fn mappings_of(&self, id: SpaceId, contents: &[FileId]) -> impl Iterator<Item = &Mapping> {
        let mappings = self.spaces.get(&id).into_iter().flat_map(|s| s.model.iter());
        mappings.filter(|m| matches!(m.backing, Backing::File { file, .. } if contents.contains(&file)))
    }
}

/// The pages of a private mapping that the process has written to.
fn own_pages(tid: Tid, space: SpaceId, range: AddrRange) -> rr_tracee::Result<Vec<MemWrite>> {
    let memory = Memory::of(tid);
    let mut writes = Vec::new();
    for (run, kind) in Pagemap::open(tid)?.populated(range)? {
        if kind == PageKind::Private {
            writes.push(MemWrite {
                space,
                addr: run.start,
                data: memory.read_vec(run.start, run.len() as usize)?,
            });
        }
    }
    Ok(writes)
}
