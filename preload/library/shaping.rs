//! Calls that change the address space without files.
//!
//! Their records describe the change in three words, for two readers. The recorder has to know it.
//! Replay has to repeat it: the library passes these words to the replayer by a call that is not
//! performed (`rr_tracee::shaping` reads them). Only successful calls are handled here. A call that
//! fails has no effect, or has the same effect when it is made again.

use crate::call::Call;
use crate::kernel::call as sys;
use crate::layout::{AREA_END, CODE, CONTROL, Control};
use crate::numbers::*;

const PAGE: u64 = 4096;

const PROT_ALL: u64 = 7;
const MAP_PRIVATE_ANONYMOUS: u64 = 0x22;
/// `MAP_FIXED`, `MAP_NORESERVE`, `MAP_POPULATE`, `MAP_STACK`, `MAP_FIXED_NOREPLACE`
const MAP_ALLOWED: u64 = 0x10 | 0x4000 | 0x8000 | 0x2_0000 | 0x10_0000;

/// Returns whether the call may change the address space.
pub fn is_shaping(call: &Call) -> bool {
    match call.number {
        MMAP | MPROTECT | MUNMAP | BRK => true,
        // `MADV_DONTNEED`, `MADV_DONTNEED_LOCKED`
        MADVISE => matches!(call.args[2], 4 | 24),
        _ => false,
    }
}

/// Returns whether the range consists of whole pages of the program, away from rr's area, rewritten
/// code and stubs.
fn is_free(start: u64, len: u64) -> bool {
    let end = start.saturating_add(len);
    let apart = |from: u64, to: u64| end <= from || start >= to;
    let control = CONTROL as *const Control;
    // SAFETY: the page is there wherever this code is.
    let guarded = unsafe { &(*control).guarded };
    start % PAGE == 0
        && len > 0
        && end < 1 << 63
        && apart(CODE, AREA_END)
        && guarded.iter().all(|[from, to]| apart(*from, *to))
}

fn whole(len: u64) -> u64 {
    len.saturating_add(PAGE - 1) & !(PAGE - 1)
}

/// Makes the call. Returns its result and the change.
pub fn perform(call: &Call) -> Option<(i64, [u64; 3])> {
    let [start, len, third, flags, ..] = call.args;
    let len = whole(len);
    // SAFETY: the program asked for this call, and it concerns no page of ours.
    let make = || unsafe { sys(call.number, call.args) };
    match call.number {
        BRK => {
            // SAFETY: only asks for the current end of the heap.
            let old = unsafe { sys(BRK, [0; 6]) } as u64;
            let now = make();
            Some((now, [whole(old), whole(now as u64), 0]))
        }
        MMAP => {
            let plain = flags & !MAP_ALLOWED == MAP_PRIVATE_ANONYMOUS && third & !PROT_ALL == 0;
            if !plain || len == 0 || start != 0 && !is_free(start, len) {
                return None;
            }
            let at = make();
            (at > 0).then_some((at, [at as u64, len, third]))
        }
        _ if !is_free(start, len) => None,
        MPROTECT if third & !PROT_ALL != 0 => None,
        _ => (make() == 0).then_some((0, [start, len, third])),
    }
}
