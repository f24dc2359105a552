//! The access rights of registered pages: first in the model, then in the kernel.
//!
//! Only a task of the address space can change its rights. So a change is part of an event of whatever task has caused it, and is due
//! until a task of the space goes on. No task executes the program's code meanwhile (I1). Invariant: when one does, the kernel has the
//! rights of the model.

use rr_tracee::remote::{Remote, RemoteCall};
use rr_tracee::{AddrRange, Prot, SpaceId, SpaceOp, Stopped, Tid};

use crate::checkpoint::snapshots::may_call;
use crate::error::Result;
use crate::world::model::World;

/// Sets access rights in the model of an address space. Returns the operations for the event.
pub(crate) fn set_rights(world: &mut World, id: SpaceId, rights: Vec<(AddrRange, Prot)>) -> Vec<SpaceOp> {
    let Some(space) = world.spaces.get_mut(&id) else {
        return vec![];
    };
    let mut ops = Vec::new();
    for (range, prot) in rights {
        // Only what changes, and only where something is mapped.
        let parts = space.model.within(range);
        for part in parts.iter().filter(|part| part.prot != prot) {
            let op = SpaceOp::Protect(part.range, prot);
            // (There are no rewritten sites in these pages: the rights of code do not change the sites' bytes.)
            let _ = space.apply(&op);
            space.userfaults.due.push((part.range, prot));
            ops.push(op);
        }
    }
    ops
}

/// The changes of access rights that follow from the program's own changes of its address space.
pub(crate) fn follow_ops(world: &mut World, tid: Tid, ops: &[SpaceOp]) -> Result<Vec<SpaceOp>> {
    let id = world.task(tid)?.space;
    let Some(space) = world.spaces.get_mut(&id).filter(|s| s.userfaults.has_regions()) else {
        return Ok(vec![]);
    };
    let follows = ops.iter().flat_map(|op| space.userfaults.regions.follow(op));
    let rights = follows.collect();
    Ok(set_rights(world, id, rights))
}

/// Before a task goes on: makes the changes that are due in its address space.
pub(crate) fn make_due(world: &mut World, tid: Tid, stopped: Stopped) -> Result<Stopped> {
    let task = world.task(tid)?;
    let (id, tgid) = (task.space, task.tgid);
    let is_due = world
        .spaces
        .get(&id)
        .is_some_and(|s| !s.userfaults.due.is_empty());
    if !is_due || !may_call(&stopped)? {
        return Ok(stopped);
    }
    let due = std::mem::take(&mut world.space_mut(id).userfaults.due);
    let call = |(range, prot): &(AddrRange, Prot)| RemoteCall {
        what: "remote mprotect",
        number: libc::SYS_mprotect,
        args: [range.start.0, range.len(), u64::from(prot.0), 0, 0, 0],
    };
    let calls: Vec<RemoteCall> = due.iter().map(call).collect();
    Ok(Remote::new(stopped, tgid)?.all(&calls)?.finish()?)
}
