//! Restores rewritten sites when their stub disappears, or when the program is about to change the
//! code, or steps itself.
//!
//! Invariant: every jump leads to a stub, and the program's writes into its code change the code that
//! it knows. The restoring writes are part of the event that requires them.
//!
//! A task that executes a stub meanwhile would be lost. But no task is stopped there (see
//! [`crate::point`]), and only the task that makes this call has run since.

use rr_trace::event::MemWrite;
use rr_tracee::{Addr, AddrRange, Prot, SpaceId, SpaceOp, Tid};

use crate::buffer::native::{note_generated, note_native};
use crate::error::Result;
use crate::world::model::World;

/// Applies a call's changes of its address space to the model, and restores the sites that they
/// concern. `is_searched`: code that the call has mapped will be searched
/// ([`crate::buffer::trapping::trap_instructions`]).
pub(crate) fn apply_ops(
    world: &mut World,
    tid: Tid,
    id: SpaceId,
    ops: &[SpaceOp],
    is_searched: bool,
    writes: &mut Vec<MemWrite>,
) -> Result<()> {
    if !is_searched && let Some(space) = world.spaces.get(&id) {
        note_native(&space.library.sites, &mut world.mapped.searched, ops, false);
    }
    let space = world.space_mut(id);
    let mut restored = Vec::new();
    for op in ops {
        restored.extend(space.apply(op));
    }
    restore_code(world, tid, id, restored, writes)
}

/// Restores sites after writes to memory as a file, or by `process_vm_writev`.
pub(crate) fn undo_overwritten(world: &mut World, tid: Tid, writes: &mut Vec<MemWrite>) -> Result<()> {
    let written: Vec<_> = writes
        .iter()
        .map(|w| (w.space, AddrRange::sized(w.addr, w.data.len() as u64)))
        .collect();
    for (id, range) in written {
        if let Some(space) = world.spaces.get_mut(&id) {
            let restored = space.library.sites.overwritten(range);
            if space.model.touching(range).any(|m| m.prot.has(Prot::EXEC)) {
                note_generated(&mut world.mapped.searched);
            }
            restore_code(world, tid, id, restored, writes)?;
        }
    }
    Ok(())
}

/// A task steps itself (the trap flag), and the instruction that it executed may have been a jump
/// of ours: the program sees its own code from now on. Returns the address where it continues, or
/// `None` if there is nothing to do.
pub(crate) fn step_without_sites(
    world: &mut World,
    tid: Tid,
    rip: Addr,
) -> Result<Option<(Addr, Vec<MemWrite>)>> {
    let id = world.task(tid)?.space;
    let sites = &mut world.space_mut(id).library.sites;
    if sites.stepped {
        return Ok(None);
    }
    let rip = sites.jumped_from(rip).unwrap_or(rip);
    let restored = sites.give_up();
    let mut writes = Vec::new();
    restore_code(world, tid, id, restored, &mut writes)?;
    Ok(Some((rip, writes)))
}

pub(crate) fn restore_code(
    world: &mut World,
    tid: Tid,
    id: SpaceId,
    bytes: Vec<(Addr, u8)>,
    writes: &mut Vec<MemWrite>,
) -> Result<()> {
    let model = &world.space_mut(id).model;
    let there: Vec<_> = bytes
        .into_iter()
        .filter(|(at, _)| model.at(*at).is_some())
        .collect();
    for (addr, byte) in there {
        let owner = if world.task(tid)?.space == id {
            Some(tid)
        } else {
            world.leader(id)
        };
        let Some(owner) = owner else { continue };
        world.task(owner)?.memory.write_protected(addr, &[byte])?;
        match writes.last_mut() {
            // Adjacent bytes become one write.
            Some(last) if last.space == id && last.addr + last.data.len() as u64 == addr => {
                last.data.push(byte)
            }
            _ => writes.push(MemWrite {
                space: id,
                addr,
                data: vec![byte],
            }),
        }
    }
    Ok(())
}
