//! Privately mapped files that change.
//!
//! It is unspecified if a private mapping shows later changes of its file (mmap(2)). Linux shows them
//! in pages that the process has not written to, and pages beyond the end of the file come and go with
//! its size. A file of the trace does not change (I2). So *a privately mapped file becomes a shared
//! memory object before it changes*: by `write` and similar calls, by another size, or because some
//! process may write to it through a shared mapping. Then all private mappings of the file, in all
//! address spaces, become private mappings of that object ([`Backing::CopyOnWrite`]), and the kernel
//! shows the same in replay as in the recording. Pages that a process had written to by then are among
//! the writes of the event.

use std::path::Path;

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::pagemap::{PageKind, Pagemap};
use rr_tracee::{
    Addr, AddrRange, Backing, Error as TraceeError, FileId, Mapping, Memory, ObjectId, Prot, SpaceId,
    SpaceOp, Tid, procfs,
};

use crate::buffer::restore::restore_code;
use crate::error::{Error, Result};
use crate::session::RecordSession;
use crate::world::model::World;

/// The file at a path of ours has changed in the bytes `start..start + len`, or in its size
/// (`sizes`, before and now). If a private mapping shows the change, the file becomes an object.
/// Returns the object, and the operation that creates it.
pub(crate) fn changed_privately(
    world: &mut World,
    path: &Path,
    (start, len): (u64, u64),
    sizes: (u64, u64),
) -> Result<Option<(ObjectId, SpaceOp)>> {
    let Some(mapped) = world.mapped.mapped_at(path) else {
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
    let mut spaces = world.spaces.keys();
    if !spaces.any(|id| mappings_of(world, *id, &contents).any(shows)) {
        return Ok(None);
    }
    world.mapped.become_object(&world.files, path)
}

/// This object, which was a file of the trace, may change from now on: turns private mappings of
/// the file into mappings of the object.
pub(crate) fn map_object_privately(session: &mut RecordSession, object: ObjectId) -> Result<()> {
    let Some((inode, contents)) = session.world.mapped.private_of(object) else {
        return Ok(());
    };
    let contents = contents.to_vec();
    // The change may make the file shorter.
    session.checkpoints.wait_until_read();
    let spaces: Vec<SpaceId> = session.world.spaces.keys().copied().collect();
    for id in spaces {
        let mappings: Vec<Mapping> = mappings_of(&session.world, id, &contents).cloned().collect();
        let Some(leader) = session.world.leader(id).filter(|_| !mappings.is_empty()) else {
            continue;
        };
        match remap_to_object(&mut session.world, leader, id, mappings, (object, inode.1)) {
            // A dead process's memory is not visible any more.
            Err(Error::Tracee(TraceeError::Died(_))) => {}
            other => other?,
        }
    }
    Ok(())
}

fn remap_to_object(
    world: &mut World,
    tid: Tid,
    id: SpaceId,
    mappings: Vec<Mapping>,
    (object, inode): (ObjectId, u64),
) -> Result<()> {
    // Several files can have the same contents.
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
        // Restore rewritten code there, as if the program were to write to it.
        let sites = &mut world.space_mut(id).library.sites;
        let restored = sites.follow(&SpaceOp::Protect(range, Prot::RW));
        let mut writes = Vec::new();
        restore_code(world, tid, id, restored, &mut writes)?;
        writes.extend(own_pages(tid, id, range)?);
        let op = SpaceOp::Map(Mapping {
            backing: Backing::CopyOnWrite { object, offset },
            ..mapping
        });
        world.space_mut(id).model.apply(&op);
        world.besides.others.push((id, op));
        world.besides.writes.extend(writes);
    }
    Ok(())
}

/// Returns whether any space has mapped these contents, or the object that such a file has become,
/// privately.
pub(crate) fn is_mapped_privately(world: &World, contents: &[FileId], object: Option<ObjectId>) -> bool {
    let mut spaces = world.spaces.keys();
    spaces.any(|id| shows_privately(world, *id, contents, object))
}

/// Same as [`is_mapped_privately`], for one space.
pub(crate) fn shows_privately(
    world: &World,
    id: SpaceId,
    contents: &[FileId],
    object: Option<ObjectId>,
) -> bool {
    let copies =
        |m: &&Mapping| matches!(m.backing, Backing::CopyOnWrite { object: o, .. } if Some(o) == object);
    let mut mappings = world.spaces.get(&id).into_iter().flat_map(|s| s.model.iter());
    mappings_of(world, id, contents).next().is_some() || mappings.any(|m| copies(&m))
}

/// The mappings of these contents in a space.
fn mappings_of<'a>(world: &'a World, id: SpaceId, contents: &[FileId]) -> impl Iterator<Item = &'a Mapping> {
    let mappings = world.spaces.get(&id).into_iter().flat_map(|s| s.model.iter());
    mappings.filter(|m| matches!(m.backing, Backing::File { file, .. } if contents.contains(&file)))
}

/// The pages of a private mapping that are the process's own.
pub(crate) fn own_pages(tid: Tid, space: SpaceId, range: AddrRange) -> rr_tracee::Result<Vec<MemWrite>> {
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
