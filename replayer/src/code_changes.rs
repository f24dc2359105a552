//! Changes of the program's code: what is known of the code there, and patches of ours, are out of date.
//!
//! Keeps I8: patches are removed before the program's memory changes under them.

use rr_tracee::{AddrRange, Prot, SpaceId, SpaceOp};

use crate::session::ReplaySession;

/// The memory of an address space is about to change in a range: removes patches there, and forgets
/// its sites.
pub(crate) fn code_changes(
    session: &mut ReplaySession,
    space: SpaceId,
    range: AddrRange,
) -> rr_tracee::Result<()> {
    let overlay = session.code.overlays.get_mut(&space).filter(|o| !o.is_empty());
    if overlay.is_none()
        && !session.code.sites.contains_key(&space)
        && session.stoppoints.breakpoints.wanted.is_empty()
    {
        return Ok(());
    }
    if let (Some(overlay), Some(task)) = (overlay, session.world.tasks.values().find(|t| t.space == space)) {
        overlay.clear(&task.memory(), range)?;
        if let Some(put) = session.stoppoints.breakpoints.put.get_mut(&space) {
            put.retain(|addr| overlay.has(*addr));
        }
    }
    let executable = |m: &rr_tracee::Mapping| m.prot.has(Prot::EXEC);
    let in_code = session
        .world
        .spaces
        .get(&space)
        .is_some_and(|s| s.touching(range).any(executable));
    if in_code {
        session.code.sites.remove(&space);
    }
    session.stoppoints.breakpoints.stale = true;
    Ok(())
}

/// Same as [`code_changes`], for operations on an address space.
pub(crate) fn code_is_mapped(
    session: &mut ReplaySession,
    space: SpaceId,
    ops: &[SpaceOp],
) -> rr_tracee::Result<()> {
    for op in ops {
        match op {
            SpaceOp::Map(mapping) => {
                if mapping.prot.has(Prot::EXEC) {
                    session.code.sites.remove(&space);
                }
                code_changes(session, space, mapping.range)?;
            }
            SpaceOp::Unmap(range) | SpaceOp::Discard(range) => code_changes(session, space, *range)?,
            SpaceOp::Move { from, to, .. } => {
                code_changes(session, space, *from)?;
                code_changes(session, space, AddrRange::sized(*to, from.len()))?;
            }
            SpaceOp::Protect(..)
            | SpaceOp::SetFork(..)
            | SpaceOp::CreateObject { .. }
            | SpaceOp::ResizeObject { .. } => {}
        }
    }
    Ok(())
}

/// Notes that a process has a new address space, which needs the breakpoints, too.
pub(crate) fn space_begins(session: &mut ReplaySession) {
    session.stoppoints.breakpoints.stale = true;
}

/// Forgets an address space that is gone.
pub(crate) fn forget_code(session: &mut ReplaySession, space: SpaceId) {
    session.code.overlays.remove(&space);
    session.code.sites.remove(&space);
    session.stoppoints.breakpoints.put.remove(&space);
    session.stoppoints.breakpoints.stale = true;
}
