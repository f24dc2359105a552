//! Whether the program's memory can be used, found out without a fault.
//!
//! What the library itself reads or writes there for a call must be there. A fault would be a signal of ours; and where the
//! program has that signal blocked or ignores it, the kernel changes the program's handler and mask, whatever the recorder makes
//! of it. So the kernel is asked, which costs a system call where the memory is not in the page of the stack that is in use.
//!
//! It is asked while recording only: in replay the same memory is there.

use crate::Call;
use crate::kernel::{call as sys, word};
use crate::layout::{CONTROL, Control};
use crate::numbers::*;
use crate::sockets::message;

const PAGE: u64 = 4096;
/// `<linux/mman.h>`, Linux 5.14. Older kernels do not know it: there, calls that want to know are traced ones.
const MADV_POPULATE_WRITE: u64 = 23;

/// Whether it lies in the page that the program's stack pointer points to: that it can be used goes without saying.
fn on_stack(at: u64, len: u64) -> bool {
    let control = CONTROL as *const Control;
    // SAFETY: the page is there wherever this code is.
    let rsp = unsafe { (*control).rsp };
    at / PAGE == rsp / PAGE && len <= PAGE - at % PAGE
}

/// Whether these bytes can be read. They lie in two pages at most.
pub fn readable(at: u64, len: u64) -> bool {
    const NO_SUCH_WAY: u64 = 99;
    // SAFETY: reads eight bytes and changes nothing, for there is no such way to change the mask.
    let any = |at: u64| unsafe { sys(RT_SIGPROCMASK, [NO_SUCH_WAY, at & !7, 0, 8, 0, 0]) } != EFAULT;
    let Some(last) = at.checked_add(len.saturating_sub(1)) else {
        return false;
    };
    len == 0 || on_stack(at, len) || any(at) && (at / PAGE == last / PAGE || any(last))
}

/// Whether these bytes can be written. They hold what they held.
pub fn writable(at: u64, len: u64) -> bool {
    if len == 0 || on_stack(at, len) {
        return true;
    }
    let Some(end) = at.checked_add(len) else {
        return false;
    };
    let start = at & !(PAGE - 1);
    // SAFETY: lets the kernel map what is there already, or would be at the first touch.
    unsafe { sys(MADVISE, [start, end - start, MADV_POPULATE_WRITE, 0, 0, 0]) == 0 }
}

/// Whether the vector of `count` buffers can be read. So long ones that nobody reads them are no concern.
fn vector(at: u64, count: u64) -> bool {
    count > PAGE / 16 || readable(at, count * 16)
}

/// Whether what the library reads to find out about the call can be read.
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
                // SAFETY: as asked.
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
