//! `process_madvise(2)`: advice about several ranges, of this process or another.
//!
//! Advice about another process changes only speed: the kernel refuses the rest. About itself, a process
//! may give any (Linux 6.13), with the effects of `madvise(2)` ([`crate::memory::advice`]). The kernel stops at
//! the first range that it cannot advise; the result is the number of bytes before it.

use rr_trace::event::MemWrite;
use rr_tracee::memory::ReadMemory;
use rr_tracee::{Addr, AddrRange, Registers, SpaceOp, Stopped, Tid, madv};

use crate::error::Result;
use crate::memory::advice::{Advice, advice_taken, begin_advice};
use crate::session::RecordSession;
use crate::world::call::Call;
use crate::world::model::World;
use crate::world::next::Next;

/// Maximum number of ranges (`UIO_MAXIOV`).
const RANGES_MOST: u64 = 1024;

/// Size of `struct iovec`.
const IOVEC: u64 = 16;

/// Handles the entry of `process_madvise`.
pub(crate) fn begin_process_madvise(
    session: &mut RecordSession,
    tid: Tid,
    stopped: Stopped,
    call: Call,
) -> Result<Next> {
    let advice = Advice {
        number: call.entry.r10 as i32,
        ranges: advised_ranges(&session.world, tid, &call.entry)?,
        as_discard: Registers {
            r10: madv::DONTNEED as u64,
            ..call.entry
        },
    };
    begin_advice(session, tid, stopped, call, &advice)
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
