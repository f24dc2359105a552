//! Changes of memory that another process shares (`vfork`, `CLONE_VM`), made by a call in the middle of
//! which its task was killed.
//!
//! The call has no event, and its effect becomes part of the task's end. Where the kernel's mappings
//! differ from the model, the kernel is right. But the kernel does not say exactly what is mapped there
//! (a file may be deleted, a descriptor closed by then). So the file to be mapped is noted before such
//! a call is made ([`Unfinished`]).

use std::fs::File;

use rr_trace::event::MemWrite;
use rr_tracee::procfs::MapsLine;
use rr_tracee::syscalls::Emulated;
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, ForkPolicy, Mapping, Registers, SpaceOp, Tid, TraceeFd, pagemap,
    procfs,
};

use crate::checkpoint::changes::forget_baseline;
use crate::error::Result;
use crate::memory::objects::refresh_objects;
use crate::memory::shm::attached_ops;
use crate::world::model::World;
use crate::world::unfinished::Unfinished;

/// Notes that a task is about to make a call that changes its address space.
pub(crate) fn note_unfinished(
    world: &mut World,
    tid: Tid,
    emulated: Emulated,
    entry: &Registers,
) -> Result<()> {
    let shapes = matches!(
        emulated,
        Emulated::Mmap | Emulated::Mremap | Emulated::Shmat | Emulated::Madvise
    );
    let unfinished = (shapes && world.survivor(tid).is_some()).then(|| {
        let path = procfs::fd_path(tid, TraceeFd(entry.r8 as i32));
        // Opening a pipe would wait for its other end.
        let file = emulated == Emulated::Mmap
            && entry.r10 as i32 & libc::MAP_ANONYMOUS == 0
            && std::fs::metadata(&path).is_ok_and(|m| m.is_file());
        Box::new(Unfinished {
            emulated,
            entry: *entry,
            file: file.then(|| File::open(path).ok()).flatten(),
        })
    });
    world.task_mut(tid)?.at_call.unfinished = unfinished;
    Ok(())
}

/// Notes that the call maps this file, which is new.
pub(crate) fn note_unfinished_file(world: &mut World, tid: Tid, file: &File) -> Result<()> {
    if let Some(unfinished) = &mut world.task_mut(tid)?.at_call.unfinished {
        unfinished.file = file.try_clone().ok();
    }
    Ok(())
}

/// The rights of the kernel's mappings `there` that differ from the model's.
pub(crate) fn changed_rights(model: &AddressSpace, there: &[MapsLine]) -> Vec<SpaceOp> {
    let changed = there.iter().flat_map(|line| {
        let others = model
            .touching(line.range)
            .filter(|m| m.backing != Backing::Rr && m.prot != line.prot);
        let ranges = others.filter_map(|m| m.range.intersect(line.range));
        ranges.map(|range| SpaceOp::Protect(range, line.prot))
    });
    changed.collect()
}

/// The changes that an unfinished call of `dead` has made in its address space, in which `survivor`
/// lives on: the differences between the kernel and the model.
pub(crate) fn carried_out(
    world: &mut World,
    dead: Tid,
    survivor: Tid,
) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
    let unfinished = world.task_mut(dead)?.at_call.unfinished.take();
    forget_baseline(world, survivor);
    let (mut ops, mut writes) = (Vec::new(), Vec::new());
    let id = world.task(survivor)?.space;
    let Some(space) = world.spaces.get(&id) else {
        return Ok((ops, writes));
    };
    let known: Vec<Mapping> = space
        .model
        .iter()
        .filter(|m| m.backing != Backing::Rr)
        .cloned()
        .collect();
    let there = procfs::program_maps(survivor)?;
    for mapping in &known {
        let gone = mapping.range.without(there.iter().map(|l| l.range));
        ops.extend(gone.into_iter().map(SpaceOp::Unmap));
    }
    ops.extend(changed_rights(&space.model, &there));
    for line in &there {
        for range in line.range.without(known.iter().map(|m| m.range)) {
            let offset = line.offset + (range.start - line.range.start);
            let part = MapsLine {
                range,
                offset,
                ..line.clone()
            };
            let (before, backing) = mapped_there(world, survivor, unfinished.as_deref(), &part)?;
            ops.extend(before);
            ops.push(SpaceOp::Map(Mapping {
                range,
                prot: line.prot,
                backing,
                fork: ForkPolicy::Copy,
                name: line.path(survivor).into(),
            }));
        }
    }
    let (more, shown) = refresh_objects(world, id, &ops)?;
    ops.extend(more);
    writes.extend(shown);
    if let Some(advised) = unfinished.filter(|u| u.emulated == Emulated::Madvise) {
        let range = AddrRange::sized(Addr(advised.entry.rdi), advised.entry.rsi).to_pages();
        ops.extend(pages_thrown_away(world, survivor, range)?);
    }
    Ok((ops, writes))
}

/// The backing of a part of the address space that the model does not know, and the operations that
/// must come first.
fn mapped_there(
    world: &mut World,
    tid: Tid,
    unfinished: Option<&Unfinished>,
    line: &MapsLine,
) -> Result<(Vec<SpaceOp>, Backing)> {
    if line.inode == 0 && !line.shared {
        return Ok((vec![], Backing::Anonymous));
    }
    if let Some(file) = unfinished.and_then(|u| u.maps(line)) {
        world.forget_unmapped_objects();
        let file = file.try_clone();
        if let Some(file) = world.mapped.opened(file)?
            && let Some(opened) =
                world
                    .mapped
                    .open_file((&world.files, &world.objects), file, line.offset, line.shared)?
        {
            return Ok((opened.before, opened.backing));
        }
    }
    match unfinished {
        // The mapping was moved from another place.
        Some(moved) if moved.emulated == Emulated::Mremap => {
            let id = world.task(tid)?.space;
            let source = world
                .spaces
                .get(&id)
                .and_then(|s| s.model.at(Addr(moved.entry.rdi)));
            let backing = source.map(|m| match m.backing {
                Backing::File { file, .. } => Backing::File {
                    file,
                    offset: line.offset,
                },
                Backing::Shared { object, .. } => Backing::Shared {
                    object,
                    offset: line.offset,
                },
                Backing::CopyOnWrite { object, .. } => Backing::CopyOnWrite {
                    object,
                    offset: line.offset,
                },
                Backing::Anonymous | Backing::Rr => Backing::Anonymous,
            });
            if let Some(backing) = backing {
                return Ok((vec![], backing));
            }
        }
        Some(attached) if attached.emulated == Emulated::Shmat => {
            let mut ops = attached_ops(world, tid, &attached.entry, line.range.start)?;
            if let Some(SpaceOp::Map(mapping)) = ops.pop() {
                return Ok((ops, mapping.backing));
            }
        }
        _ => {}
    }
    // For example a device: store its current contents.
    let mut bytes = vec![0; line.range.len() as usize];
    world.task(tid)?.memory.read_some(line.range.start, &mut bytes)?;
    let file = world.files.add_bytes(&bytes)?;
    Ok((vec![], Backing::File { file, offset: 0 }))
}

/// The pages of this range that an advice may have thrown away, if nobody knows whether it was
/// taken: the missing ones (for these it makes no difference).
pub(crate) fn pages_thrown_away(world: &World, tid: Tid, range: AddrRange) -> Result<Vec<SpaceOp>> {
    let id = world.task(tid)?.space;
    let parts = world
        .spaces
        .get(&id)
        .map(|s| s.model.within(range))
        .unwrap_or_default();
    let mut ops = Vec::new();
    let private = |m: &Mapping| {
        matches!(
            m.backing,
            Backing::Anonymous | Backing::File { .. } | Backing::CopyOnWrite { .. }
        )
    };
    for part in parts.into_iter().filter(private) {
        let populated = pagemap::populated(tid, part.range)?;
        let gone = part.range.without(populated.into_iter().map(|(range, _)| range));
        ops.extend(gone.into_iter().map(SpaceOp::Discard));
    }
    Ok(ops)
}

/// Notes that a call that changes an address space is over.
pub(crate) fn end_unfinished(world: &mut World, tid: Tid) -> Result<()> {
    world.task_mut(tid)?.at_call.unfinished = None;
    Ok(())
}
