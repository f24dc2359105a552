//! System V segments (shmat(2)): objects like any other, known by their ids.

use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, Backing, ForkPolicy, Mapping, Registers, SpaceOp, Tid, procfs};

use crate::error::Result;
use crate::world::model::World;

/// The operations for a System V segment (shmat(2)): an object like any other, known by its id.
pub(crate) fn attached_ops(world: &mut World, tid: Tid, entry: &Registers, at: Addr) -> Result<Vec<SpaceOp>> {
    let maps = procfs::maps(tid)?;
    let Some(line) = maps.iter().find(|l| l.range.start == at) else {
        return Ok(vec![]);
    };
    world.forget_unmapped_objects();
    let mut ops = Vec::new();
    let object = match world.mapped.segment(entry.rdi) {
        Some(object) => object,
        None => {
            let bytes = world.task(tid)?.memory.read_vec(at, line.range.len() as usize)?;
            let content = if bytes.iter().all(|b| *b == 0) {
                None
            } else {
                Some(world.files.add_bytes(&bytes)?)
            };
            let (object, op) = world.mapped.create_segment(entry.rdi, line.range.len(), content);
            ops.push(op);
            object
        }
    };
    let backing = Backing::Shared { object, offset: 0 };
    let name = line.path(tid).into();
    ops.push(SpaceOp::Map(Mapping {
        range: line.range,
        prot: line.prot,
        backing,
        fork: ForkPolicy::Copy,
        name,
    }));
    Ok(ops)
}
