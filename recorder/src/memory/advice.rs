//! The effects of `madvise(2)`.
//!
//! * `MADV_FREE` lets the kernel drop pages at any time. So that replay need not guess, rr drops them
//!   at once: the call is made as `MADV_DONTNEED`, where both are allowed.
//! * `MADV_REMOVE` makes a hole in a shared mapping: the pages' new contents are part of the event.
//! * After each advice about children, the kernel is asked what a child gets: see
//!   [`madv::is_about_fork`].
//! * Guards are refused, with a warning, as by a kernel that does not know them.

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{
    Addr, AddrRange, Backing, ForkPolicy, Registers, SpaceOp, Stopped, Tid, madv, procfs, rr_area,
};

use crate::call::answer::refuse_call;
use crate::call::enter::perform_call;
use crate::error::Result;
use crate::memory::objects::hole_in_object;
use crate::memory::unfinished::pages_thrown_away;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::Next;

/// The pages that an advice names.
pub(crate) fn pages(entry: &Registers) -> AddrRange {
    AddrRange::sized(Addr(entry.rdi), entry.rsi).to_pages()
}

/// An advice about memory, as a call gives it.
pub(crate) struct Advice {
    /// Its number (`MADV_…`).
    pub number: i32,
    /// The ranges that it is about.
    pub ranges: Vec<AddrRange>,
    /// The registers of the same call with `MADV_DONTNEED`.
    pub as_discard: Registers,
}

/// Handles the entry of `madvise`.
pub(crate) fn begin_madvise(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let advice = Advice {
        number: call.entry.rdx as i32,
        ranges: vec![pages(&call.entry)],
        as_discard: Registers {
            rdx: madv::DONTNEED as u64,
            ..call.entry
        },
    };
    begin_advice(session, tid, stopped, call, &advice)
}

/// Handles the entry of a call that gives an advice.
pub(crate) fn begin_advice(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: Call,
    advice: &Advice,
) -> Result<Next> {
    let is_rrs = |range: &AddrRange| range.to_pages().intersect(rr_area::area()).is_some();
    let space = session.world.task(tid)?.space;
    let model = &session.world.space_mut(space).model;
    let is_anonymous = |range: &AddrRange| {
        let parts = model.within(range.to_pages());
        parts.iter().all(|m| m.backing == Backing::Anonymous)
    };
    let einval =
        |session, stopped, is_quiet| refuse_call(session, tid, stopped, &call.entry, libc::EINVAL, is_quiet);
    match advice.number {
        // The program may not change rr's own pages.
        _ if advice.ranges.iter().any(is_rrs) => return einval(session, stopped, true),
        madv::GUARD_INSTALL | madv::GUARD_REMOVE => return einval(session, stopped, false),
        madv::FREE if !advice.ranges.iter().all(is_anonymous) => return einval(session, stopped, true),
        madv::FREE => stopped.set_regs(&advice.as_discard)?,
        _ => {}
    }
    perform_call(&mut session.world, tid, stopped, call)
}

/// The changes made by an advice.
pub(crate) fn advice_taken(
    world: &mut World,
    tid: Tid,
    range: AddrRange,
    advice: i32,
    result: i64,
) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
    // The kernel skips holes and then returns ENOMEM.
    let passed = result == 0 || result == -i64::from(libc::ENOMEM);
    match advice {
        madv::FREE if passed => Ok((vec![SpaceOp::Discard(range)], vec![])),
        madv::REMOVE => hole_made(world, tid, range),
        _ if madv::is_about_fork(advice) => Ok((fork_ops(world, tid, range)?, vec![])),
        _ if passed => Ok((madv::advised(range, advice).into_iter().collect(), vec![])),
        // The advice stopped at a page that it does not apply to (mlock(2)). The pages before it
        // are discarded.
        madv::DONTNEED | madv::DONTNEED_LOCKED | madv::FREE => {
            Ok((pages_thrown_away(world, tid, range)?, vec![]))
        }
        _ => Ok((vec![], vec![])),
    }
}

/// The differences between the kernel's fork policies of these pages and the model's.
fn fork_ops(world: &World, tid: Tid, range: AddrRange) -> Result<Vec<SpaceOp>> {
    let mut ops = Vec::new();
    let Some(space) = world.spaces.get(&world.task(tid)?.space) else {
        return Ok(ops);
    };
    let known = space.model.within(range);
    for (there, policy) in procfs::fork_policies(tid)? {
        for mapping in known.iter().filter(|m| m.fork != policy) {
            let Some(part) = mapping.range.intersect(there) else {
                continue;
            };
            if mapping.fork == ForkPolicy::Omit {
                // First revert that the child does not have the pages.
                ops.push(SpaceOp::SetFork(part, ForkPolicy::Copy));
            }
            if policy != ForkPolicy::Copy || mapping.fork == ForkPolicy::Wipe {
                ops.push(SpaceOp::SetFork(part, policy));
            }
        }
    }
    Ok(ops)
}

/// The contents of the shared pages of this range, after a hole was made there, perhaps only in
/// parts.
fn hole_made(world: &mut World, tid: Tid, range: AddrRange) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
    let (mut ops, mut writes) = (Vec::new(), Vec::new());
    let space = world.task(tid)?.space;
    let parts = world.spaces.get(&space).map(|s| s.model.within(range));
    for part in parts.unwrap_or_default() {
        let Backing::Shared { object, offset } = part.backing else {
            continue;
        };
        let (more, shown) = hole_in_object(world, object, offset, part.range.len())?;
        ops.extend(more);
        writes.extend(shown);
        if world.mapped.file(object).is_none() {
            let addr = part.range.start;
            let memory = &world.task(tid)?.memory;
            let data = memory.read_vec(addr, part.range.len() as usize)?;
            writes.push(MemWrite { space, addr, data });
        }
    }
    Ok((ops, writes))
}
