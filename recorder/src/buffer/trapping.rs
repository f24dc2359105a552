//! `RDRAND`, `RDSEED`, `CPUID` and, for a portable trace, `XGETBV` are made to trap ([`rr_tracee::trapping`]), and their results are part
//! of the trap's event.
//!
//! This happens when a program is executed, and when its own loader maps code, in the same event:
//! before the code can run. A file is searched once ([`crate::buffer::searched`]). Keeps I2 with these limits: code
//! that cannot be proven, that a program generates or maps without the loader keeps its instructions,
//! and only what it writes is compared (`rr_preload::payload`). A `CPUID` there traps all the same where
//! the processor can be made to ([`rr_tracee::cpuid`]). The recording notes such code ([`crate::buffer::native`]).

use rr_tracee::memory::ReadMemory;
use rr_tracee::trapping::{LENGTH_MOST, Trapping};
use rr_tracee::{Addr, Registers, SpaceId, SpaceOp, Tid};

use crate::buffer::edits::Edits;
use crate::buffer::native::note_native;
use crate::buffer::sites::code_mapped;
use crate::error::Result;
use crate::world::model::World;

/// Makes these instructions trap in code that `ops` have mapped, and notes those that do not. The model has been changed
/// already.
pub(crate) fn trap_instructions(
    world: &mut World,
    tid: Tid,
    id: SpaceId,
    ops: &[SpaceOp],
    edits: &mut Edits,
) -> Result<()> {
    if let Some(space) = world.spaces.get(&id) {
        note_native(&space.library.sites, &mut world.mapped.searched, ops, true);
    }
    let mut traps = Vec::new();
    for (range, file, offset) in code_mapped(ops) {
        for place in world.mapped.searched.part(file, offset..offset + range.len()) {
            let at = range.start + (place.offset - offset);
            let mut now = [0];
            let read = world.task(tid)?.memory.read(at, &mut now);
            if read.is_ok() && now == [place.kind.own()] {
                traps.push((at, place.kind));
            }
        }
    }
    for (at, kind) in traps {
        edits.push(at, vec![kind.trap()]);
        world.space_mut(id).library.sites.add_trap(at, kind);
    }
    Ok(())
}

/// Returns the task's instruction, if it is one that was made to trap and has trapped.
pub(crate) fn trapping_at(world: &World, tid: Tid, regs: &Registers) -> Result<Option<Trapping>> {
    let mut code = [0u8; LENGTH_MOST];
    let task = world.task(tid)?;
    let got = task.memory.read_some(Addr(regs.rip), &mut code)?;
    let trapping = Trapping::of(&code[..got]);
    let sites = world.spaces.get(&task.space).map(|s| &s.library.sites);
    // The program may have such a trapping instruction of its own.
    let is_ours = |trapping: &Trapping| {
        let at = Addr(regs.rip) + trapping.opcode();
        sites.is_some_and(|sites| sites.rewritten.iter().any(|s| s.start == at && s.stub.is_none()))
    };
    Ok(trapping.filter(is_ours))
}
