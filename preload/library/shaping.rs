//! Calls that change the address space: those without files.
//!
//! Their records say what they have changed, in three words, because the recorder has to know it, and because replay has to
//! do it: it asks the replayer, by a call with these words that is not performed (`rr_tracee::shaping` reads them).
//! Only what has succeeded is handled here. What fails had no effect, or one that it has again.

use crate::Call;
use crate::kernel::call as sys;
use crate::layout::{AREA_END, CODE, CONTROL, Control};
use crate::numbers::*;

const PAGE: u64 = 4096;

const PROT_ALL: u64 = 7;
const MAP_PRIVATE_ANONYMOUS: u64 = 0x22;
/// `MAP_FIXED`, `MAP_NORESERVE`, `MAP_POPULATE`, `MAP_STACK`, `MAP_FIXED_NOREPLACE`
const MAP_ALLOWED: u64 = 0x10 | 0x4000 | 0x8000 | 0x2_0000 | 0x10_0000;

/// Whether it is such a call.
pub fn is_shaping(call: &Call) -> bool {
    match call.number {
        MMAP | MPROTECT | MUNMAP | BRK => true,
        // `MADV_DONTNEED`, `MADV_DONTNEED_LOCKED`
        MADVISE => matches!(call.args[2], 4 | 24),
        _ => false,
    }
}

/// Whether these are pages, and none of rr's, and neither rewritten code nor stubs are near.
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

/// Makes the call; its result, and what it has changed.
pub fn perform(call: &Call) -> Option<(i64, [u64; 3])> {
    let [start, len, third, flags, ..] = call.args;
    let len = whole(len);
    // SAFETY: it is what the program asked for, and concerns no page of ours.
    let make = || unsafe { sys(call.number, call.args) };
    match call.number {
        BRK => {
            // SAFETY: asks where it is.
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
