//! `process_madvise(2)`: advice about several ranges, of this process or another.
//!
//! Advice about another process changes only speed: the kernel refuses the rest. About itself, a process
//! may give any (Linux 6.13), with the effects of `madvise(2)` ([`crate::memory::advice`]). The kernel stops at
//! the first range that it cannot advise; the result is the number of bytes before it.

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Backing, Registers, SpaceOp, Stopped, Tid, madv, rr_area};

use crate::call::answer::refuse_call;
use crate::call::enter::perform_call;
use crate::error::Result;
use crate::memory::advice::advice_taken;
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;

/// Maximum number of ranges (`UIO_MAXIOV`).
const RANGES_MOST: u64 = 1024;

/// Size of `struct iovec`.
const IOVEC: u64 = 16;

/// Handles the entry of `process_madvise`.
pub(crate) fn begin_process_madvise(
    session: &mut RecordSession,
    tid: Tid,
    mut stopped: Stopped,
    call: Call,
) -> Result<()> {
    let entry = call.entry;
    let ranges = advised_ranges(&session.world, tid, &entry)?;
    let is_rrs = |range: &AddrRange| range.to_pages().intersect(rr_area::area()).is_some();
    let space = session.world.task(tid)?.space;
    let model = &session.world.space_mut(space).model;
    let is_anonymous = |range: &AddrRange| {
        let parts = model.within(range.to_pages());
        parts.iter().all(|m| m.backing == Backing::Anonymous)
    };
    match entry.r10 as i32 {
        _ if ranges.iter().any(is_rrs) => refuse_call(session, tid, stopped, &entry, libc::EINVAL, true),
        madv::GUARD_INSTALL | madv::GUARD_REMOVE => {
            refuse_call(session, tid, stopped, &entry, libc::EINVAL, false)
        }
        madv::FREE if !ranges.iter().all(is_anonymous) => {
            refuse_call(session, tid, stopped, &entry, libc::EINVAL, true)
        }
        madv::FREE => {
            let r10 = madv::DONTNEED as u64;
            stopped.set_regs(&Registers { r10, ..entry })?;
            perform_call(&mut session.world, tid, stopped, call)
        }
        _ => perform_call(&mut session.world, tid, stopped, call),
    }
}

/// The changes made by the advices of a `process_madvise`.
pub(crate) fn advices_taken(
    world: &mut World,
    tid: Tid,
    entry: &Registers,
    result: i64,
) -> Result<(Vec<SpaceOp>, Vec<MemWrite>)> {
    let advice = entry.r10 as i32;
    let (mut ops, mut writes) = (Vec::new(), Vec::new());
    let is_harmless = matches!(
        advice,
        libc::MADV_WILLNEED | libc::MADV_COLD | libc::MADV_PAGEOUT | libc::MADV_COLLAPSE
    );
    if is_harmless {
        return Ok((ops, writes));
    }
    let mut left = u64::try_from(result).unwrap_or(0);
    for range in advised_ranges(world, tid, entry)? {
        let is_done = range.len() <= left;
        left = left.saturating_sub(range.len());
        let result = if is_done { 0 } else { -i64::from(libc::EINVAL) };
        let (changed, shown) = advice_taken(world, tid, range.to_pages(), advice, result)?;
        ops.extend(changed);
        writes.extend(shown);
        if !is_done {
            break;
        }
    }
    Ok((ops, writes))
}

/// The ranges that a `process_madvise` names. None if the kernel cannot read them.
fn advised_ranges(world: &World, tid: Tid, entry: &Registers) -> Result<Vec<AddrRange>> {
    let len = entry.rdx.min(RANGES_MOST) * IOVEC;
    let bytes = world.task(tid)?.memory.read_vec(Addr(entry.rsi), len as usize);
    let words = bytes.unwrap_or_default();
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let range = |iovec: &[u8]| AddrRange::sized(Addr(word(iovec)), word(&iovec[8..]));
    Ok(words
        .chunks_exact(IOVEC as usize)
        .map(range)
        .filter(|r| !r.is_empty())
        .collect())
}
