//! `READ_IMPLIES_EXEC` (personality(2)): what a task maps or makes readable is executable, too, as far as its file system allows.
//!
//! Keeps: the model has the rights that the kernel has given. Few programs ask for this (old emulators, `setarch -X`), so the
//! rights are read from the kernel after each of their calls, instead of following its rules.

use rr_trace::event::MemWrite;
use rr_tracee::{Registers, SpaceId, SpaceOp, Tid, procfs};

use crate::buffer::native::note_generated;
use crate::buffer::restore::apply_ops;
use crate::error::Result;
use crate::memory::unfinished::changed_rights;
use crate::world::model::World;

/// The argument that only asks (personality(2)).
const ASK: u32 = u32::MAX;

/// Handles the exit of personality(2).
pub(crate) fn note_personality(world: &mut World, tid: Tid, entry: &Registers, result: i64) -> Result<()> {
    let wanted = entry.rdi as u32;
    if wanted == ASK || result < 0 {
        return Ok(());
    }
    let implies = wanted & libc::READ_IMPLIES_EXEC as u32 != 0;
    world.task_mut(tid)?.settings.read_implies_exec = implies;
    if implies {
        note_generated(&mut world.mapped.searched);
    }
    Ok(())
}

/// The task has carried out `ops`, and the model of `id`, its address space, follows them: adds the rights that the kernel has
/// given besides.
pub(crate) fn add_implied_rights(
    world: &mut World,
    tid: Tid,
    id: SpaceId,
    ops: &mut Vec<SpaceOp>,
    writes: &mut Vec<MemWrite>,
) -> Result<()> {
    if ops.is_empty() || !world.task(tid)?.settings.read_implies_exec {
        return Ok(());
    }
    let more = changed_rights(&world.space_mut(id).model, &procfs::program_maps(tid)?);
    apply_ops(world, tid, id, &more, false, writes)?;
    ops.extend(more);
    Ok(())
}
