//! What a task leaves in memory that others have when it dies: words that the kernel writes, and the changes of an interval or a call
//! that is not replayed.

use std::collections::HashSet;

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Memory, ObjectId, Prot, SpaceId, SpaceOp, Tid, pagemap, rr_area};

use crate::buffer::control::forget_records;
use crate::buffer::restore::apply_ops;
use crate::call::pi_futex::{awaited_locks, let_owners_in};
use crate::error::Result;
use crate::memory::objects::object_change;
use crate::memory::unfinished::carried_out;
use crate::world::model::World;
use crate::world::task::Task;
use crate::world::unfinished::Leaving;

/// The words that the kernel writes when a task, whose memory still exists, leaves it.
pub(crate) fn words_of_leaving(world: &World, tid: Tid) -> Result<Leaving> {
    let task = world.task(tid)?;
    let space = task.space;
    let mut words = robust_words(tid, &task.memory);
    let mut shared = shared_words(world, space, &mut words);
    for (waiting, word) in awaited_locks(world) {
        let mut private = vec![word];
        shared.extend(shared_words(world, waiting, &mut private));
        words.extend(private.into_iter().filter(|_| waiting == space));
    }
    words.extend((!task.settings.clear_child_tid.is_null()).then_some(task.settings.clear_child_tid));
    Ok(Leaving { space, words, shared })
}

/// The contents of these words after the kernel has written them.
pub(crate) fn left_behind(world: &mut World, tid: Tid, leaving: &Leaving) -> Result<Vec<MemWrite>> {
    let_owners_in(world);
    let mut writes = Vec::new();
    for (object, offset) in &leaving.shared {
        writes.extend(object_change(world, *object, *offset, 4)?.1);
    }
    let space = leaving.space;
    let others = |t: &&Task| t.space == space && t.tid != tid && !t.life.exited;
    if let Some(witness) = world.tasks.values().find(others) {
        for addr in &leaving.words {
            if let Ok(data) = witness.memory.read_vec(*addr, 4) {
                writes.push(MemWrite {
                    space,
                    addr: *addr,
                    data,
                });
            }
        }
    }
    Ok(writes)
}

/// Removes the words that lie in shared memory objects from `words`, and returns them as object and
/// offset.
fn shared_words(world: &World, space: SpaceId, words: &mut Vec<Addr>) -> Vec<(ObjectId, u64)> {
    let mut shared = Vec::new();
    let Some(space) = world.spaces.get(&space) else {
        return shared;
    };
    words.retain(|word| {
        let Some(mapping) = space.model.at(*word) else {
            return false;
        };
        let in_object = mapping.shared_at(*word);
        shared.extend(in_object);
        in_object.is_none()
    });
    shared
}

/// A process that shares another's memory is killed, in the middle of an interval or of a call
/// (`interrupted`) that is not replayed. All its changes that the other can see become part of its
/// end. That is much data, but rare.
pub(crate) fn left_in_space(
    world: &mut World,
    tid: Tid,
    interrupted: bool,
) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
    let (mut ops, mut writes) = (Vec::new(), Vec::new());
    let ran = world.task(tid)?.interval.ran;
    let Some(survivor) = world.survivor(tid).filter(|_| interrupted || ran) else {
        return Ok((ops, writes));
    };
    if ran {
        forget_records(world, survivor)?;
    }
    let space = world.task(survivor)?.space;
    let (changed, refreshed) = carried_out(world, tid, survivor)?;
    ops.extend(changed);
    writes.extend(refreshed);
    apply_ops(world, survivor, space, &ops, false, &mut writes)?;
    let model = world.spaces.get(&space).map(|s| &s.model);
    let writable = model.into_iter().flat_map(|m| m.iter());
    for mapping in
        writable.filter(|m| m.prot.has(Prot::WRITE) && m.range.intersect(rr_area::area()).is_none())
    {
        writes.extend(pages_there(world, survivor, mapping.range)?);
    }
    Ok((ops, writes))
}

/// The contents of the existing pages of `range`, as `tid` sees them.
fn pages_there(world: &World, tid: Tid, range: AddrRange) -> Result<Vec<MemWrite>> {
    const PIECE: u64 = 1 << 20;
    let task = world.task(tid)?;
    let mut writes = Vec::new();
    for (mut run, _) in pagemap::populated(tid, range)? {
        while !run.is_empty() {
            let (addr, len) = (run.start, run.len().min(PIECE));
            let data = task.memory.read_up_to(addr, len as usize)?;
            if !data.is_empty() {
                let space = task.space;
                writes.push(MemWrite { space, addr, data });
            }
            run = AddrRange::new(addr + len, run.end);
        }
    }
    Ok(writes)
}

/// A task dies in the middle of an interval, which is not replayed: its possible writes to memory
/// that other processes share become part of its end. The page table says which pages these are.
pub(crate) fn left_in_shared(world: &World, tid: Tid) -> Result<Vec<MemWrite>> {
    let task = world.task(tid)?;
    let mut writes = Vec::new();
    if !task.interval.ran {
        return Ok(writes);
    }
    let others = world.spaces.iter().filter(|(id, _)| **id != task.space);
    let seen: HashSet<ObjectId> = others
        .flat_map(|(_, s)| s.model.objects().map(|(o, ..)| o))
        .collect();
    let model = world.spaces.get(&task.space).map(|s| &s.model);
    let shared = model.into_iter().flat_map(|m| m.shared());
    for (_, _, mapping) in shared.filter(|(o, _, m)| seen.contains(o) && m.prot.has(Prot::WRITE)) {
        writes.extend(pages_there(world, tid, mapping.range)?);
    }
    Ok(writes)
}

/// Same as [`left_in_shared`], for a task that is already gone: it was killed in
/// another stop, and we resumed it from there when it had reached its exit stop. Its page table is
/// gone, too, so this takes all memory that it could write to.
pub(crate) fn left_in_objects(world: &mut World, tid: Tid) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
    let task = world.task(tid)?;
    let (mut ops, mut writes) = (Vec::new(), Vec::new());
    let Some(space) = world.spaces.get(&task.space).filter(|_| task.interval.ran) else {
        return Ok((ops, writes));
    };
    let writable = space.model.shared().filter(|(_, _, m)| m.prot.has(Prot::WRITE));
    let writable: Vec<_> = writable.map(|(object, view, _)| (object, view)).collect();
    let own = task.space;
    for (object, view) in writable {
        let others = world.spaces.iter().filter(|(id, _)| **id != own);
        let shown: Vec<_> = others
            .flat_map(|(id, s)| s.model.objects().map(|o| (*id, o)))
            .filter(|(_, (o, ..))| *o == object)
            .map(|(id, (_, other, mapping))| (id, other, mapping.range.start))
            .collect();
        if shown.is_empty() {
            continue;
        }
        if world.mapped.file(object).is_some() {
            let (more, shown) = object_change(world, object, view.start.0, view.len())?;
            ops.extend(more);
            writes.extend(shown);
            continue;
        }
        for (id, other, start) in shown {
            let (Some(bytes), Some(leader)) = (view.intersect(other), world.leader(id)) else {
                continue;
            };
            let addr = start + (bytes.start - other.start);
            let memory = &world.task(leader)?.memory;
            writes.push(MemWrite {
                space: id,
                addr,
                data: memory.read_up_to(addr, bytes.len() as usize)?,
            });
        }
    }
    Ok((ops, writes))
}

/// The futex words of the robust locks that a task holds: the kernel marks them when it dies (get_robust_list(2),
/// Documentation/locking/robust-futexes.rst).
///
/// ```text
/// head ─► next entry   8    (the list ends where it points back to the head)
///         futex offset 8    from an entry to its futex word, signed
///         pending      8    an entry that is being locked or unlocked
/// ```
fn robust_words(tid: Tid, memory: &Memory) -> Vec<Addr> {
    /// `ROBUST_LIST_LIMIT` of the kernel.
    const LIMIT: usize = 2048;
    let (mut head, mut len) = (0u64, 0usize);
    // SAFETY: the kernel stores a pointer and a size into our two variables.
    let got = unsafe { libc::syscall(libc::SYS_get_robust_list, tid.0, &raw mut head, &raw mut len) };
    if got != 0 || head == 0 {
        return Vec::new();
    }
    let read = |addr: u64| memory.read_u64(Addr(addr)).ok();
    let (Some(offset), Some(pending)) = (read(head + 8), read(head + 16)) else {
        return Vec::new();
    };
    // The lowest bit of an entry's address marks priority inheritance.
    let word = |entry: u64| Addr((entry & !1).wrapping_add(offset));
    let mut words: Vec<Addr> = Vec::new();
    let mut entry = read(head);
    while let Some(at) = entry.filter(|at| *at & !1 != head && words.len() < LIMIT) {
        words.push(word(at));
        entry = read(at & !1);
    }
    words.extend((pending & !1 != 0).then(|| word(pending)));
    words
}
