//! Finds out without a fault if the program's memory can be used.
//!
//! The library may read or write the program's memory only where that memory exists. A fault would be a
//! signal caused by rr. If the program blocks or ignores that signal, the kernel changes the program's
//! handler and mask, whatever the recorder does. So the library asks the kernel. That costs a system
//! call, unless the memory is in the current page of the stack.
//!
//! The library asks only while recording: in replay the same memory exists.

use crate::call::Call;
use crate::kernel::{call as sys, word};
use crate::layout::{CONTROL, Control};
use crate::message;
use crate::numbers::*;

const PAGE: u64 = 4096;
/// `<linux/mman.h>`, Linux 5.14. Older kernels do not know it: there, calls that need this check are
/// traced.
const MADV_POPULATE_WRITE: u64 = 23;

/// Returns whether the bytes lie in the page that the program's stack pointer points to. That page can
/// always be used.
fn on_stack(at: u64, len: u64) -> bool {
    let control = CONTROL as *const Control;
    // SAFETY: the page is there wherever this code is.
    let rsp = unsafe { (*control).rsp };
    at / PAGE == rsp / PAGE && len <= PAGE - at % PAGE
}

/// Returns whether these bytes can be read. They lie in two pages at most.
pub fn readable(at: u64, len: u64) -> bool {
    const NO_SUCH_WAY: u64 = 99;
    // SAFETY: reads eight bytes and changes nothing, because this way to change the mask does not
    // exist.
    let any = |at: u64| unsafe { sys(RT_SIGPROCMASK, [NO_SUCH_WAY, at & !7, 0, 8, 0, 0]) } != EFAULT;
    let Some(last) = at.checked_add(len.saturating_sub(1)) else {
        return false;
    };
    len == 0 || on_stack(at, len) || any(at) && (at / PAGE == last / PAGE || any(last))
}

/// Returns whether these bytes can be written. Their contents do not change.
pub fn writable(at: u64, len: u64) -> bool {
    if len == 0 || on_stack(at, len) {
        return true;
    }
    let Some(end) = at.checked_add(len) else {
        return false;
    };
    let start = at & !(PAGE - 1);
    // SAFETY: lets the kernel map pages that exist already or would exist at the first touch.
    unsafe { sys(MADVISE, [start, end - start, MADV_POPULATE_WRITE, 0, 0, 0]) == 0 }
}

/// Returns whether the vector of `count` buffers can be read. (The library reads no vectors longer than
/// a page.)
fn vector(at: u64, count: u64) -> bool {
    count > PAGE / 16 || readable(at, count * 16)
}

/// Returns whether the library can read the memory that describes the call.
pub fn can_be_looked_at(call: &Call) -> bool {
    let a = &call.args;
    let optional = |at: u64, len: u64| at == 0 || readable(at, len);
    match call.number {
        READV | WRITEV => vector(a[1], a[2]),
        RECVFROM => a[4] == 0 || readable(a[5], 4),
        ACCEPT | ACCEPT4 | GETSOCKNAME | GETPEERNAME => a[1] == 0 || readable(a[2], 4),
        GETSOCKOPT => readable(a[4], 4),
        SENDMSG | RECVMSG => {
            readable(a[1], message::BYTES) && {
                // SAFETY: the message has just been checked.
                let (at, count) = unsafe { (word(a[1] + message::VECTOR), word(a[1] + message::COUNT)) };
                vector(at, count)
            }
        }
        POLL => a[1] > PAGE / 8 || readable(a[0], a[1] * 8),
        PPOLL => a[1] > PAGE / 8 || readable(a[0], a[1] * 8) && optional(a[2], 16),
        SELECT => optional(a[4], 16),
        PSELECT6 => optional(a[4], 16) && optional(a[5], 16),
        _ => true,
    }
}
