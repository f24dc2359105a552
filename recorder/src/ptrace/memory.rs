//! Words of a tracee's memory (`PTRACE_PEEKTEXT` and similar requests).
//!
//! Invariant: the tracer reads the program's bytes. In rewritten code it sees the original bytes, and
//! rr's own pages do not exist for it.

use nix::errno::Errno;
use rr_trace::event::MemWrite;
use rr_tracee::{Addr, AddrRange, Backing, Prot, SpaceId, Tid, rr_area};

use crate::buffer::restore::undo_overwritten;
use crate::call::parameters::Answered;
use crate::checkpoint::snapshots::lose_snapshots;
use crate::ptrace::access::Request;
use crate::session::RecordSession;
use crate::world::model::World;

const WORD: usize = 8;

/// Returns whether a range belongs to the program, and not to rr.
fn is_of_program(world: &World, tid: Tid, range: AddrRange) -> bool {
    range.intersect(rr_area::area()).is_none()
        && !world.stubs_of(tid).iter().any(|s| s.intersect(range).is_some())
}

/// Memory of this space is about to be changed for a tracer: waits for the checkpoint writer, which
/// may be reading it in place.
pub(crate) fn finish_reading(session: &mut RecordSession, space: SpaceId) {
    if session
        .world
        .spaces
        .get(&space)
        .is_some_and(|s| !s.in_place.is_empty())
    {
        session.checkpoints.wait_until_read();
    }
    lose_snapshots(session, space);
}

/// A word of a task's memory, as the program sees it.
pub(crate) fn peek_word(world: &World, tid: Tid, addr: Addr) -> Answered<u64> {
    let range = AddrRange::sized(addr, WORD as u64);
    if !is_of_program(world, tid, range) {
        return Err(Errno::EIO.into());
    }
    let task = world.task(tid)?;
    let mut word = [0; WORD];
    // Protection does not matter to a tracer.
    let read = task.memory.read_shared(addr, &mut word);
    read.map_err(|_| Errno::EIO)?;
    if let Some(space) = world.spaces.get(&task.space) {
        space.library.sites.show_original(addr, &mut word);
    }
    Ok(u64::from_le_bytes(word))
}

/// `PTRACE_POKETEXT`, `PTRACE_POKEDATA`.
pub(crate) fn poke_word(session: &mut RecordSession, request: Request) -> Answered {
    let (tid, addr) = (request.of, Addr(request.addr));
    let range = AddrRange::sized(addr, WORD as u64);
    if !is_of_program(&session.world, tid, range) {
        return Err(Errno::EIO.into());
    }
    let space = session.world.task(tid)?.space;
    let model = session.world.spaces.get(&space).map(|s| &s.model);
    // Shared memory can be changed only where the tracee could do it.
    let is_fixed = |at: Addr| {
        model
            .and_then(|m| m.at(at))
            .is_none_or(|m| matches!(m.backing, Backing::Shared { .. }) && !m.prot.has(Prot::WRITE))
    };
    if is_fixed(addr) || is_fixed(addr + (WORD as u64 - 1)) {
        return Err(Errno::EIO.into());
    }
    finish_reading(session, space);
    let data = request.data.to_le_bytes().to_vec();
    let written = session.world.task(tid)?.memory.write(addr, &data);
    written.map_err(|_| Errno::EIO)?;
    let mut writes = vec![MemWrite { space, addr, data }];
    undo_overwritten(&mut session.world, tid, &mut writes)?;
    // The event of the tracer's call gets them.
    session.world.besides.writes.extend(writes);
    Ok(0)
}
